//! What the store did, for metrics and for the promise of one barrier per write.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters since the store was opened.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) commits: AtomicU64,
    pub(crate) fdatasyncs: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) records: AtomicU64,
    pub(crate) high_water_writes: AtomicU64,
}

/// A reading of the counters since the store was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CounterValues {
    /// Batches made durable.
    pub commits: u64,
    /// Barriers paid for them; fewer than `commits` when callers were concurrent.
    pub fdatasyncs: u64,
    /// Bytes of keys and stored values written.
    pub bytes: u64,
    /// Keys written or deleted.
    pub records: u64,
    /// Replacements of the high-water file (two more syncs each: file and directory).
    pub high_water_writes: u64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn values(&self) -> CounterValues {
        CounterValues {
            commits: self.commits.load(Ordering::Relaxed),
            fdatasyncs: self.fdatasyncs.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            records: self.records.load(Ordering::Relaxed),
            high_water_writes: self.high_water_writes.load(Ordering::Relaxed),
        }
    }
}
