//! A batch: all of it is stored, or none.

use std::collections::BTreeMap;

use crate::engine::{Change, Engine};
use crate::error::{LimitError, StoreError};
use crate::read;
use crate::record::{self, HEADER, Kind, MAX_STORED, Manifest, Totals};

/// Largest key in bytes (reliability.md §4.3 rule 3).
pub const MAX_KEY: usize = 512;

/// Largest value of [`Batch::put`] in bytes: a stored value with its frame stays within 4 KiB.
pub const MAX_VALUE: usize = MAX_STORED - HEADER;

/// Largest value kept in one record. The feature exists only for the crash suite, which shows what this rule prevents.
const MAX_WHOLE: usize = if cfg!(feature = "without-4k-rule") { MAX_LARGE } else { MAX_VALUE };

/// Largest value of [`Batch::put_large`] in bytes: one Raft message (4 MiB) and some room.
pub const MAX_LARGE: usize = 8 << 20;

/// Most keys of one batch: 1,024 entries of a truncation or purge, and as many again for what goes with them.
pub const MAX_BATCH_OPS: usize = 2048;

/// Most bytes of one batch: two of the largest values.
pub const MAX_BATCH_BYTES: usize = 16 << 20;

/// Changes that belong together. The last change of a key wins.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    bytes: usize,
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Stores `value` under `key`.
    ///
    /// # Errors
    /// [`LimitError`] when the key, the value (over [`MAX_VALUE`]) or the batch is too large.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<&mut Self, LimitError> {
        self.change(key, Some(value), MAX_VALUE)
    }

    /// Stores `value` under `key`, in chunks when it needs them. Reads are the same for both.
    ///
    /// # Errors
    /// [`LimitError`] when the key, the value (over [`MAX_LARGE`]) or the batch is too large.
    pub fn put_large(&mut self, key: &[u8], value: &[u8]) -> Result<&mut Self, LimitError> {
        self.change(key, Some(value), MAX_LARGE)
    }

    /// Deletes `key`; no error when it is not there.
    ///
    /// # Errors
    /// [`LimitError`] when the key or the batch is too large.
    pub fn delete(&mut self, key: &[u8]) -> Result<&mut Self, LimitError> {
        self.change(key, None, 0)
    }

    /// Number of keys changed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether nothing is changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Bytes of keys and values given so far.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn change(&mut self, key: &[u8], value: Option<&[u8]>, max: usize) -> Result<&mut Self, LimitError> {
        if key.is_empty() || key.len() > MAX_KEY {
            return Err(LimitError::Key { bytes: key.len(), max: MAX_KEY });
        }
        if let Some(&first) = key.first().filter(|first| **first >= record::CHUNK_PREFIX) {
            return Err(LimitError::ReservedKey { first });
        }
        let size = value.map_or(0, <[u8]>::len);
        if size > max {
            return Err(LimitError::Value { bytes: size, max });
        }
        let ops = self.changes.len() + 1;
        let bytes = self.bytes + key.len() + size;
        if ops > MAX_BATCH_OPS || bytes > MAX_BATCH_BYTES {
            return Err(LimitError::Batch { ops, bytes, max_ops: MAX_BATCH_OPS, max_bytes: MAX_BATCH_BYTES });
        }
        self.changes.insert(key.to_vec(), value.map(<[u8]>::to_vec));
        self.bytes = bytes;
        Ok(self)
    }

    /// Turns the batch into engine changes: frames, chunks, removal of the chunks it replaces, and the totals.
    pub(crate) fn lower(self, engine: &dyn Engine, totals: &mut Totals) -> Result<Vec<Change>, StoreError> {
        totals.sequence += 1;
        let sequence = totals.sequence;
        let mut out = Vec::with_capacity(self.changes.len() + 1);
        let mut next_chunk: u32 = 0;
        for (key, value) in self.changes {
            for (old_key, old) in read::stored_records(engine, &key)? {
                totals.remove(&old_key, &old);
                if old_key != key {
                    out.push((old_key, None));
                }
            }
            let stored = match value {
                None => None,
                Some(value) if value.len() <= MAX_WHOLE => Some(record::encode(&key, Kind::Whole, &value)),
                Some(value) => {
                    let manifest = chunks(&value, sequence, next_chunk, &mut out);
                    next_chunk += manifest.count;
                    Some(record::encode(&key, Kind::Manifest, &manifest.encode()))
                }
            };
            out.push((key, stored));
        }
        for (key, stored) in &out {
            if let Some(stored) = stored {
                totals.add(key, stored);
            }
        }
        out.push(totals_change(totals));
        Ok(out)
    }
}

fn chunks(value: &[u8], sequence: u64, first: u32, out: &mut Vec<Change>) -> Manifest {
    let mut count = 0;
    for chunk in value.chunks(MAX_VALUE) {
        let key = record::chunk_key(sequence, first + count);
        let stored = record::encode(&key, Kind::Chunk, chunk);
        out.push((key, Some(stored)));
        count += 1;
    }
    Manifest { sequence, first, count, bytes: value.len() as u64, crc: crc32c::crc32c(value) }
}

pub(crate) fn totals_change(totals: &Totals) -> Change {
    let key = record::TOTALS_KEY;
    (key.to_vec(), Some(record::encode(key, Kind::Meta, &totals.encode())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_refused_and_named() {
        let mut batch = Batch::new();
        assert_eq!(batch.put(b"", b"").unwrap_err(), LimitError::Key { bytes: 0, max: MAX_KEY });
        assert_eq!(batch.put(&[1; 513], b"").unwrap_err(), LimitError::Key { bytes: 513, max: MAX_KEY });
        assert_eq!(batch.put(&[0xFE], b"").unwrap_err(), LimitError::ReservedKey { first: 0xFE });
        assert_eq!(batch.delete(&[0xFF, 1]).unwrap_err(), LimitError::ReservedKey { first: 0xFF });
        let error = batch.put(b"k", &[0; MAX_VALUE + 1]).unwrap_err();
        assert_eq!(error, LimitError::Value { bytes: MAX_VALUE + 1, max: MAX_VALUE });
        let error = batch.put_large(b"k", &vec![0; MAX_LARGE + 1]).unwrap_err();
        assert_eq!(error, LimitError::Value { bytes: MAX_LARGE + 1, max: MAX_LARGE });
        assert!(batch.is_empty());
        for n in 0..u32::try_from(MAX_BATCH_OPS).unwrap() {
            batch.put(&n.to_be_bytes(), b"").unwrap();
        }
        assert!(matches!(batch.put(b"one more", b""), Err(LimitError::Batch { .. })));
        assert_eq!(batch.len(), MAX_BATCH_OPS);
    }
}
