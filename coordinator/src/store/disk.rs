//! What a member keeps its promises on: files in production, a simulator's own disk otherwise. The one seam of the store.

use std::fmt;
use std::io;
use std::sync::Arc;

use quorate_durable::LowSpace;
use tokio::task::JoinError;

use super::committed::{CommittedFile, CommittedIndex};
use super::error::StoreRefused;
use super::identity::{Identity, StoreDirs, StoreOptions};
use super::log::{LogBytes, LogMarks, Opened};
use super::snapshots::Snapshots;

/// Reads what the log's content says about itself.
pub type Marks = fn(&LogBytes, &dyn SnapshotShelf) -> Result<LogMarks, String>;

/// A member's disk.
pub trait Disk: Send + Sync + 'static {
    /// Opens everything and refuses what cannot be what this member promised from. May block.
    ///
    /// # Errors
    /// [`StoreRefused`].
    fn open(&self, expected: Identity, marks: Marks) -> Result<Opened, StoreRefused>;

    /// Where its calls run.
    fn blocking(&self) -> Blocking {
        Blocking::Pool
    }
}

/// Where the committed index lies.
pub trait CommittedSlot: fmt::Debug + Send + Sync + 'static {
    /// Makes it durable before it returns. May block.
    ///
    /// # Errors
    /// What the disk says.
    fn save(&self, committed: Option<CommittedIndex>) -> io::Result<()>;

    /// Synchronous writes so far.
    fn sync_writes(&self) -> u64;
}

/// Where whole snapshots lie.
pub trait SnapshotShelf: fmt::Debug + Send + Sync + 'static {
    /// The newest one that reads back whole. May block.
    ///
    /// # Errors
    /// What the disk says.
    fn newest(&self) -> io::Result<Option<Vec<u8>>>;

    /// Keeps a whole, checked snapshot, durable before it returns. May block.
    ///
    /// # Errors
    /// What the disk says; those before still stand.
    fn store(&self, index: u64, bytes: &[u8]) -> io::Result<()>;

    /// Whether one more fits. Asked before one is made: a snapshot that fails ends the member (R8), the log goes on.
    ///
    /// # Errors
    /// [`LowSpace`]; also when the disk does not tell.
    fn room(&self) -> Result<(), LowSpace>;
}

impl CommittedSlot for CommittedFile {
    fn save(&self, committed: Option<CommittedIndex>) -> io::Result<()> {
        Self::save(self, committed)
    }

    fn sync_writes(&self) -> u64 {
        Self::sync_writes(self)
    }
}

impl SnapshotShelf for Snapshots {
    fn newest(&self) -> io::Result<Option<Vec<u8>>> {
        Self::newest(self)
    }

    fn store(&self, index: u64, bytes: &[u8]) -> io::Result<()> {
        Self::store(self, index, bytes)
    }

    fn room(&self) -> Result<(), LowSpace> {
        Self::room(self)
    }
}

/// Where calls run that wait for a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocking {
    /// On tokio's threads for them.
    Pool,
    /// Here and now: the disk is memory, and no thread runs that a deterministic simulator does not see.
    Here,
}

impl Blocking {
    /// Runs `work` and waits for it.
    ///
    /// # Errors
    /// When `work` panicked, or the runtime is stopping.
    pub async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        match self {
            Self::Pool => tokio::task::spawn_blocking(work).await,
            Self::Here => Ok(work()),
        }
    }
}

/// The files of a member whose store [`super::format`] made.
#[derive(Debug, Clone)]
pub struct Files {
    dirs: StoreDirs,
    options: StoreOptions,
}

impl Files {
    /// The files under these directories.
    #[must_use]
    pub fn new(dirs: StoreDirs, options: StoreOptions) -> Self {
        Self { dirs, options }
    }
}

impl Disk for Files {
    fn open(&self, expected: Identity, marks: Marks) -> Result<Opened, StoreRefused> {
        super::log::open(&self.dirs, expected, &self.options, marks)
    }
}

/// Shared handles of what [`Disk::open`] found.
pub(crate) type Slot = Arc<dyn CommittedSlot>;
/// As [`Slot`].
pub(crate) type Shelf = Arc<dyn SnapshotShelf>;
