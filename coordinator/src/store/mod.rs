//! What a member keeps on disk, as bytes: identity, log, committed index, snapshots.
//!
//! **Job.** Give the Raft adapters durable bytes, and refuse at startup whatever does not fit together.
//!
//! **Layout** of a member's directory: `identity` (who this is), `log/` (sled: log entries, vote, purge mark; with its
//! neighbors `log.hw`, `log.lock`, `log.failures`), `committed` (two alternating slots), `snapshots/` (whole
//! files), and `diverged` when its state was found to differ.
//!
//! **Invariants.**
//! - The state itself lives in memory; the newest valid snapshot plus the log up to the committed index gives it back.
//! - A member that has been formatted once never starts from an empty, older or damaged store under its old id (R4): an
//!   erased vote given a second time loses acknowledged writes.
//! - The committed index is durable before anything is applied, and does not cost a journal commit (`committed.rs`).
//!
//! **Must never** know commands or answers, and never repair: refusing costs a rejoin, repairing costs trust.

mod committed;
mod disk;
mod error;
mod failures;
mod identity;
mod log;
mod memory;
mod snapshots;

pub use committed::{CommittedFile, CommittedIndex};
pub use disk::{Blocking, CommittedSlot, Disk, Files, Marks, SnapshotShelf};
pub use error::StoreRefused;
pub use failures::{check_failures, record_divergence, record_failure};
pub use identity::{Identity, StoreDirs, StoreOptions, format, in_use, is_formatted, set_aside};
pub use log::{LogBytes, LogMarks, MAX_KEYS_PER_BATCH, Opened, open};
pub use memory::MemoryStore;
pub use snapshots::{
    MAX_SNAPSHOT_BYTES, SnapshotFile, Snapshots, decode as decode_snapshot, encode as encode_snapshot,
};

pub(crate) use disk::{Shelf, Slot};
