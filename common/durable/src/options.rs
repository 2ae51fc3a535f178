//! How a store is opened.

use std::path::PathBuf;
use std::time::Duration;

/// How the store's files are tried before this process depends on them: sled can panic or abort while opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// In a child: this executable with [`crate::PROBE_ARGUMENT`]; `main` hands over to [`crate::probe_main`] first
    /// thing. For daemons.
    SelfExe,
    /// In this process, behind `catch_unwind`. For tests and tools.
    InProcess,
}

/// Free space below which no new work is to be taken on, and the reserve for the day the disk is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpaceFloor {
    /// Bytes that must stay free.
    pub min_free_bytes: u64,
    /// Percent of the file system that must stay free.
    pub min_free_percent: u8,
    /// Bytes of the ballast file; 0 for none.
    pub ballast_bytes: u64,
}

impl Default for SpaceFloor {
    /// reliability.md §4.3 rule 8: 512 MiB, 10 %, 64 MiB.
    fn default() -> Self {
        Self { min_free_bytes: 512 << 20, min_free_percent: 10, ballast_bytes: 64 << 20 }
    }
}

impl SpaceFloor {
    /// For many daemons on one disk: 16 MiB, no percentage, no ballast.
    #[must_use]
    pub fn small() -> Self {
        Self { min_free_bytes: 16 << 20, min_free_percent: 0, ballast_bytes: 0 }
    }
}

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// sled's directory; its neighbors `.lock`, `.hw` and `.ballast` lie beside it.
    pub dir: PathBuf,
    /// sled's page cache in bytes. sled's own default is 1 GiB.
    pub cache_bytes: u64,
    /// Refuse to create: the caller knows that this store has existed.
    pub must_exist: bool,
    /// Where the files are tried first.
    pub probe: Probe,
    /// Free space wanted.
    pub space: SpaceFloor,
    /// How often sled's own thread writes out and looks for segments to clean (its `flush_every_ms`). No commit waits for
    /// it: the barrier makes those durable. Each round ends with an `fsync`, also when nothing was written.
    pub clean_every: Duration,
}

impl Options {
    /// reliability.md §4.3 rule 1.
    const CLEAN_EVERY: Duration = Duration::from_millis(200);
    /// An agent is on every host and mostly idle: with 200 ms its journal was seen to cost 4.3 `fsync`s a second, ten times
    /// what its writes do, for ever and on every disk of the fleet. Between two rounds garbage grows by what is written
    /// meanwhile.
    const CLEAN_EVERY_IDLE: Duration = Duration::from_secs(5);

    /// An agent's journal: 32 MiB of cache (reliability.md §4.3 rule 1), cleaned seldom.
    #[must_use]
    pub fn agent(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            cache_bytes: 32 << 20,
            must_exist: false,
            probe: Probe::SelfExe,
            space: SpaceFloor::default(),
            clean_every: Self::CLEAN_EVERY_IDLE,
        }
    }

    /// A coordinator's log: 128 MiB of cache (reliability.md §4.3 rule 1).
    #[must_use]
    pub fn coordinator(dir: impl Into<PathBuf>) -> Self {
        Self { cache_bytes: 128 << 20, clean_every: Self::CLEAN_EVERY, ..Self::agent(dir) }
    }
}
