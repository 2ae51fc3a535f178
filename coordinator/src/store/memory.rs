//! A member's disk in memory, which loses what had no barrier when the power goes. For simulations and tests.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_durable::{Durable, LowSpace, MemoryDisk, Pace};

use super::committed::CommittedIndex;
use super::disk::{Blocking, CommittedSlot, Disk, Marks, SnapshotShelf};
use super::error::StoreRefused;
use super::identity::Identity;
use super::log::{self, Opened};

/// Snapshots kept, as on disk.
const KEEP: usize = 2;

#[derive(Debug, Default)]
struct Kept {
    identity: Option<Identity>,
    committed: Option<CommittedIndex>,
    snapshots: BTreeMap<u64, Vec<u8>>,
    /// Grows with each crash: a dead process writes no more.
    generation: u64,
    /// No snapshot fits.
    full: bool,
}

/// A disk that outlives the member on it. Clones are the same disk.
#[derive(Clone)]
pub struct MemoryStore {
    log: MemoryDisk,
    kept: Arc<Mutex<Kept>>,
    pace: Pace,
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryStore").field("log", &self.log).finish_non_exhaustive()
    }
}

/// One process's view of the slot and the shelf.
#[derive(Debug)]
struct Handle {
    kept: Arc<Mutex<Kept>>,
    generation: u64,
    writes: AtomicU64,
}

impl MemoryStore {
    /// An empty disk whose barriers take as long as `pace` says.
    #[must_use]
    pub fn new(pace: Pace) -> Self {
        Self { log: MemoryDisk::new(), kept: Arc::default(), pace }
    }

    /// Makes it the store of a member whose id was just handed out.
    ///
    /// # Errors
    /// [`StoreRefused::AlreadyFormatted`].
    pub fn format(&self, identity: Identity) -> Result<(), StoreRefused> {
        if let Some(found) = self.kept().identity {
            let root = Path::new("memory").to_owned();
            return Err(StoreRefused::AlreadyFormatted { root, member_id: found.member_id });
        }
        let store = Durable::open_engine(self.log.engine(), false, true).map_err(StoreRefused::Log)?;
        log::mark_owner(&store, Path::new("memory"), identity)?;
        self.kept().identity = Some(identity);
        Ok(())
    }

    /// A power cut: of what had no barrier only the first `batches` are there afterwards. Call it before the member's
    /// tasks are dropped: what they still try to write is refused.
    pub fn crash_keeping(&self, batches: usize) {
        self.log.crash_keeping(batches);
        self.kept().generation += 1;
    }

    /// Batches that a crash would lose now.
    #[must_use]
    pub fn unsynced(&self) -> usize {
        self.log.unsynced()
    }

    /// Loses everything, as a replaced disk would.
    pub fn wipe(&mut self) {
        self.crash_keeping(0);
        self.log = MemoryDisk::new();
        let generation = self.kept().generation;
        *self.kept() = Kept { generation, ..Kept::default() };
    }

    /// From now on no snapshot fits, or again one does.
    pub fn fill(&self, full: bool) {
        self.kept().full = full;
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handle {
    fn kept(&self) -> io::Result<MutexGuard<'_, Kept>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.generation == self.generation {
            Ok(kept)
        } else {
            Err(io::Error::other("the process of this handle crashed"))
        }
    }
}

impl CommittedSlot for Handle {
    fn save(&self, committed: Option<CommittedIndex>) -> io::Result<()> {
        self.kept()?.committed = committed;
        self.writes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn sync_writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }
}

impl SnapshotShelf for Handle {
    fn newest(&self) -> io::Result<Option<Vec<u8>>> {
        Ok(self.kept()?.snapshots.last_key_value().map(|(_, bytes)| bytes.clone()))
    }

    fn store(&self, index: u64, bytes: &[u8]) -> io::Result<()> {
        let mut kept = self.kept()?;
        if kept.full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        kept.snapshots.insert(index, bytes.to_vec());
        while kept.snapshots.len() > KEEP {
            kept.snapshots.pop_first();
        }
        Ok(())
    }

    fn room(&self) -> Result<(), LowSpace> {
        let low = LowSpace { free: 0, total: 0, wanted: 1 };
        self.kept().ok().filter(|kept| !kept.full).map(drop).ok_or(low)
    }
}

impl Disk for MemoryStore {
    fn open(&self, expected: Identity, marks: Marks) -> Result<Opened, StoreRefused> {
        let root = Path::new("memory");
        let (found, committed, generation) = {
            let kept = self.kept();
            (kept.identity, kept.committed, kept.generation)
        };
        let found = found.ok_or_else(|| StoreRefused::NotFormatted { root: root.to_owned() })?;
        if found != expected {
            let detail = format!("found {found:?}, expected {expected:?}");
            return Err(StoreRefused::WrongIdentity { path: root.to_owned(), detail });
        }
        let engine = self.log.engine();
        let store = Durable::open_engine_paced(engine, true, self.pace.clone()).map_err(StoreRefused::Log)?;
        let handle = Arc::new(Handle { kept: Arc::clone(&self.kept), generation, writes: AtomicU64::new(0) });
        let slot = Some((Arc::clone(&handle) as Arc<dyn CommittedSlot>, committed));
        log::admit(store, root, expected, slot, handle, marks, || None)
    }

    fn blocking(&self) -> Blocking {
        Blocking::Here
    }
}
