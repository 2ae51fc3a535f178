//! The key-value file: append, fsync, replay, compact.
//!
//! **Invariant:** a version is answered as written only after `sync_data`. A torn tail (the last record cut short by a
//! crash) is cut off at start; a damaged record with good data behind it is never cut, the instance refuses to start.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::record::{self, Decoded, Record, Version};

/// Most bytes the file may hold: the sample keeps every value in memory too.
pub(super) const MAX_STORE_BYTES: u64 = 64 * 1024 * 1024;

/// Why the store cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    #[error("cannot {what} {path}")]
    Io { what: &'static str, path: PathBuf, source: std::io::Error },
    #[error(
        "{path} is damaged at byte {offset} with data behind it; move it away and start again, the other members have the data"
    )]
    Damaged { path: PathBuf, offset: u64 },
    #[error("the store is full ({MAX_STORE_BYTES} bytes); compact it or delete keys")]
    Full,
    #[error("an earlier write to the file failed; restart the instance")]
    Broken,
}

#[derive(Debug, Clone)]
struct Entry {
    version: Version,
    /// `None`: deleted. Kept, so that a member which missed the deletion learns of it.
    value: Option<Vec<u8>>,
    /// Where the record stands in the file, for `/verify`.
    offset: u64,
    len: usize,
}

/// Keys, their newest values, and the file that holds them.
#[derive(Debug)]
pub(super) struct Store {
    path: PathBuf,
    file: File,
    bytes: u64,
    entries: BTreeMap<String, Entry>,
    head: Version,
    /// After a failed append or fsync nothing is known about the file's tail: refuse every later write.
    broken: bool,
}

impl Store {
    /// Opens or creates the file and replays it. Returns how many bytes of a torn tail were cut off.
    pub(super) fn open(path: &Path) -> Result<(Self, u64), StoreError> {
        let io = |what| move |source| StoreError::Io { what, path: path.to_owned(), source };
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .append(true)
            .open(path)
            .map_err(io("open"))?;
        let mut data = Vec::new();
        (&file).take(MAX_STORE_BYTES * 2).read_to_end(&mut data).map_err(io("read"))?;
        let mut store = Self {
            path: path.to_owned(),
            file,
            bytes: 0,
            entries: BTreeMap::new(),
            head: Version::default(),
            broken: false,
        };
        let good = store.replay(&data)?;
        let torn = data.len() as u64 - good;
        if torn > 0 {
            store.file.set_len(good).map_err(io("truncate"))?;
            store.file.sync_all().map_err(io("sync"))?;
        }
        store.bytes = good;
        Ok((store, torn))
    }

    fn replay(&mut self, data: &[u8]) -> Result<u64, StoreError> {
        let mut offset = 0;
        while offset < data.len() {
            match record::decode(&data[offset..]) {
                Decoded::Record(record, len) => {
                    self.remember(record, offset as u64, len);
                    offset += len;
                }
                Decoded::Short => break,
                Decoded::Bad { behind: false } => break,
                Decoded::Bad { behind: true } => {
                    return Err(StoreError::Damaged { path: self.path.clone(), offset: offset as u64 });
                }
            }
        }
        Ok(offset as u64)
    }

    fn remember(&mut self, record: Record, offset: u64, len: usize) {
        self.head = self.head.max(record.version);
        let newest = self.entries.get(&record.key).is_none_or(|old| old.version < record.version);
        if newest {
            self.entries
                .insert(record.key, Entry { version: record.version, value: record.value, offset, len });
        }
    }

    /// Appends one record and makes it durable.
    pub(super) fn append(&mut self, record: Record) -> Result<(), StoreError> {
        if self.broken {
            return Err(StoreError::Broken);
        }
        let frame = record::encode(&record);
        if self.bytes + frame.len() as u64 > MAX_STORE_BYTES {
            return Err(StoreError::Full);
        }
        let written = self.file.write_all(&frame).and_then(|()| self.file.sync_data());
        if let Err(source) = written {
            self.broken = true;
            return Err(StoreError::Io { what: "append to", path: self.path.clone(), source });
        }
        let offset = self.bytes;
        self.bytes += frame.len() as u64;
        self.remember(record, offset, frame.len());
        Ok(())
    }

    pub(super) fn get(&self, key: &str) -> Option<(&[u8], Version)> {
        let entry = self.entries.get(key)?;
        Some((entry.value.as_deref()?, entry.version))
    }

    /// Reads the key's record from the file again and checks it. `None`: no such key.
    pub(super) fn verify(&self, key: &str) -> Option<(Version, bool)> {
        let entry = self.entries.get(key)?;
        let value = entry.value.as_ref()?;
        let mut frame = vec![0; entry.len];
        let read = self.file.read_exact_at(&mut frame, entry.offset);
        let good = read.is_ok()
            && matches!(record::decode(&frame), Decoded::Record(on_disk, _)
                if on_disk.version == entry.version && on_disk.value.as_ref() == Some(value) && on_disk.key == key);
        Some((entry.version, good))
    }

    /// The newest record of every key changed after `after`, oldest first, as frames of at most `limit` bytes in all.
    pub(super) fn records_after(&self, after: Version, limit: usize) -> Vec<u8> {
        let mut newer: Vec<(&String, &Entry)> =
            self.entries.iter().filter(|(_, entry)| entry.version > after).collect();
        newer.sort_by_key(|(_, entry)| entry.version);
        let mut out = Vec::new();
        for (key, entry) in newer {
            let record = Record { version: entry.version, key: key.clone(), value: entry.value.clone() };
            let frame = record::encode(&record);
            if !out.is_empty() && out.len() + frame.len() > limit {
                break;
            }
            out.extend_from_slice(&frame);
        }
        out
    }

    /// Rewrites the file with the newest record of each key only: temporary file, fsync, rename, fsync of the directory.
    /// Returns the bytes before and after.
    pub(super) fn compact(&mut self) -> Result<(u64, u64), StoreError> {
        let before = self.bytes;
        let image = self.records_after(Version::default(), usize::MAX);
        let temporary = self.path.with_extension("tmp");
        let io = |what| {
            let path = temporary.clone();
            move |source| StoreError::Io { what, path, source }
        };
        let mut file = File::create(&temporary).map_err(io("create"))?;
        file.write_all(&image).and_then(|()| file.sync_all()).map_err(io("write"))?;
        std::fs::rename(&temporary, &self.path).map_err(io("rename"))?;
        if let Some(parent) = self.path.parent() {
            File::open(parent).and_then(|dir| dir.sync_all()).map_err(io("sync the directory of"))?;
        }
        // From here the open file is the old one, which has no name any more.
        self.broken = true;
        let (fresh, _) = Self::open(&self.path)?;
        *self = fresh;
        Ok((before, self.bytes))
    }

    /// The newest version seen.
    pub(super) fn head(&self) -> Version {
        self.head
    }

    /// Keys that have a value.
    pub(super) fn keys(&self) -> usize {
        self.entries.values().filter(|entry| entry.value.is_some()).count()
    }

    /// Bytes of the file.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests;
