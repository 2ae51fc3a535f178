//! The seam below the wrapper: what any engine must do, so that a simulator can supply one that loses unsynced writes.

use std::ops::RangeInclusive;

/// One change of a batch: the new stored bytes, or none to delete.
pub type Change = (Vec<u8>, Option<Vec<u8>>);

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// An engine call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// No space left on the device.
    #[error("no space left on device")]
    NoSpace,
    /// The engine says that its own files are damaged.
    #[error("engine reports damage: {0}")]
    Damage(String),
    /// The directory is locked.
    #[error("directory is locked")]
    Locked,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// Making writes durable failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SyncError {
    /// Handing the writes to the kernel failed; the process may end in order.
    #[error("flush failed")]
    Flush(#[source] EngineError),
    /// The barrier itself failed: nothing can be known about any write since the last one. The process must end.
    #[error("fdatasync failed: {0}")]
    Barrier(String),
}

/// Ordered bytes under ordered keys, with atomic batches and an explicit barrier.
///
/// All calls come from one writer thread, but for the reads. Reads may see batches that are not yet durable.
pub trait Engine: Send + Sync + 'static {
    /// Applies all changes or none. Not durable before [`Engine::sync`].
    ///
    /// # Errors
    /// [`EngineError`]; the caller then stops writing.
    fn apply(&self, changes: Vec<Change>) -> Result<(), EngineError>;

    /// Returns after everything applied before this call would survive a power cut.
    ///
    /// # Errors
    /// [`SyncError`]; after `Barrier` the caller ends the process.
    fn sync(&self) -> Result<(), SyncError>;

    /// The stored bytes of one key.
    ///
    /// # Errors
    /// [`EngineError`].
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError>;

    /// Up to `limit` pairs of a key range in ascending order.
    ///
    /// # Errors
    /// [`EngineError`].
    fn scan(&self, range: RangeInclusive<Vec<u8>>, limit: usize) -> Result<Vec<Pair>, EngineError>;

    /// The last pair of a key range.
    ///
    /// # Errors
    /// [`EngineError`].
    fn last(&self, range: RangeInclusive<Vec<u8>>) -> Result<Option<Pair>, EngineError>;

    /// The last high-water record stored, if any.
    ///
    /// # Errors
    /// [`EngineError`].
    fn read_high_water(&self) -> Result<Option<Vec<u8>>, EngineError>;

    /// Replaces the high-water record, durably.
    ///
    /// # Errors
    /// [`EngineError`].
    fn write_high_water(&self, bytes: &[u8]) -> Result<(), EngineError>;

    /// Gives back space kept for the day the disk is full.
    fn drop_ballast(&self) {}

    /// Writes down, as far as it can, why the process ends now.
    fn record_failure(&self, _why: &str) {}

    /// Bytes on disk; 0 when it has none.
    fn size_on_disk(&self) -> u64 {
        0
    }
}
