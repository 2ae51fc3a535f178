//! A disk in memory that loses unsynced writes when told to crash. For simulations and tests.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::engine::{Change, Engine, EngineError, Pair, SyncError};

/// A disk that outlives the stores on it. Clones are the same disk; a crash invalidates the handles taken before.
#[derive(Debug, Clone, Default)]
pub struct MemoryDisk {
    disk: Arc<Mutex<Disk>>,
}

#[derive(Debug, Default)]
struct Disk {
    durable: BTreeMap<Vec<u8>, Vec<u8>>,
    live: BTreeMap<Vec<u8>, Vec<u8>>,
    unsynced: Vec<Vec<Change>>,
    high_water: Option<Vec<u8>>,
    /// Grows with each crash: the handles of a dead process must not write.
    generation: u64,
    syncs: u64,
    fail: Option<EngineError>,
}

/// One process's handle on a [`MemoryDisk`].
struct Handle {
    disk: Arc<Mutex<Disk>>,
    generation: u64,
}

impl MemoryDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The engine for [`crate::Durable::open_engine`].
    #[must_use]
    pub fn engine(&self) -> Arc<dyn Engine> {
        Arc::new(Handle { disk: Arc::clone(&self.disk), generation: self.lock().generation })
    }

    /// A power cut: every batch after the last barrier is gone.
    pub fn crash(&self) {
        self.crash_keeping(0);
    }

    /// A power cut in which the first `batches` unsynced ones had reached the disk by luck.
    pub fn crash_keeping(&self, batches: usize) {
        let mut disk = self.lock();
        let unsynced = std::mem::take(&mut disk.unsynced);
        for batch in unsynced.into_iter().take(batches) {
            write(&mut disk.durable, batch);
        }
        disk.live = disk.durable.clone();
        disk.generation += 1;
        disk.fail = None;
    }

    /// Batches that a crash would lose now.
    #[must_use]
    pub fn unsynced(&self) -> usize {
        self.lock().unsynced.len()
    }

    /// Barriers so far.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// Makes every write fail until the next crash.
    pub fn fail_writes(&self, error: EngineError) {
        self.lock().fail = Some(error);
    }

    /// Flips one bit of the stored bytes of `key`; whether there was such a key.
    pub fn damage(&self, key: &[u8]) -> bool {
        let mut disk = self.lock();
        let mut hit = false;
        if let Some(byte) = disk.live.get_mut(key).and_then(|value| value.last_mut()) {
            *byte ^= 1;
            hit = true;
        }
        if let Some(byte) = disk.durable.get_mut(key).and_then(|value| value.last_mut()) {
            *byte ^= 1;
            hit = true;
        }
        hit
    }

    /// Forgets one key for good, as a lost write would; whether there was such a key.
    pub fn lose(&self, key: &[u8]) -> bool {
        let mut disk = self.lock();
        disk.durable.remove(key);
        disk.live.remove(key).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write(map: &mut BTreeMap<Vec<u8>, Vec<u8>>, changes: Vec<Change>) {
    for (key, value) in changes {
        match value {
            Some(value) => map.insert(key, value),
            None => map.remove(&key),
        };
    }
}

impl Handle {
    fn lock(&self) -> Result<MutexGuard<'_, Disk>, EngineError> {
        let disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        if disk.generation != self.generation {
            return Err(EngineError::Other("the process of this handle crashed".to_owned()));
        }
        Ok(disk)
    }
}

impl Engine for Handle {
    fn apply(&self, changes: Vec<Change>) -> Result<(), EngineError> {
        let mut disk = self.lock()?;
        if let Some(error) = &disk.fail {
            return Err(error.clone());
        }
        write(&mut disk.live, changes.clone());
        disk.unsynced.push(changes);
        Ok(())
    }

    fn sync(&self) -> Result<(), SyncError> {
        let mut disk = self.lock().map_err(SyncError::Flush)?;
        if let Some(error) = &disk.fail {
            return Err(SyncError::Flush(error.clone()));
        }
        for batch in std::mem::take(&mut disk.unsynced) {
            write(&mut disk.durable, batch);
        }
        disk.syncs += 1;
        Ok(())
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(self.lock()?.live.get(key).cloned())
    }

    fn scan(&self, range: RangeInclusive<Vec<u8>>, limit: usize) -> Result<Vec<Pair>, EngineError> {
        Ok(self.lock()?.live.range(range).take(limit).map(|(k, v)| (k.clone(), v.clone())).collect())
    }

    fn last(&self, range: RangeInclusive<Vec<u8>>) -> Result<Option<Pair>, EngineError> {
        Ok(self.lock()?.live.range(range).next_back().map(|(k, v)| (k.clone(), v.clone())))
    }

    fn read_high_water(&self) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(self.lock()?.high_water.clone())
    }

    fn write_high_water(&self, bytes: &[u8]) -> Result<(), EngineError> {
        self.lock()?.high_water = Some(bytes.to_vec());
        Ok(())
    }
}
