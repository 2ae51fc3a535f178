//! What can go wrong, and what the caller may conclude from it.

use std::path::PathBuf;

use crate::engine::EngineError;

/// A key or value the store does not take. Nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// Keys have 1 to 512 bytes.
    #[error("key of {bytes} bytes: keys have 1 to {max} bytes")]
    Key {
        /// What was given.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// Keys beginning with 0xFE or 0xFF belong to the store.
    #[error("key begins with the reserved byte {first:#04x}")]
    ReservedKey {
        /// The offending byte.
        first: u8,
    },
    /// The value is over the limit of the call used.
    #[error("value of {bytes} bytes: at most {max} bytes here")]
    Value {
        /// What was given.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The batch is full.
    #[error("batch would hold {ops} keys and {bytes} bytes: at most {max_ops} keys and {max_bytes} bytes")]
    Batch {
        /// Keys with the refused one.
        ops: usize,
        /// Bytes with the refused one.
        bytes: usize,
        /// The limit on keys.
        max_ops: usize,
        /// The limit on bytes.
        max_bytes: usize,
    },
}

/// A read or commit failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// A stored record is not what was written.
    #[error("stored record {key} is damaged: {reason}")]
    Corrupt {
        /// The key in hex.
        key: String,
        /// What did not match.
        reason: String,
    },
    /// The disk is full. The ballast was given back; the store accepts no more commits until it is opened again.
    #[error("no space left on the store's disk")]
    NoSpace,
    /// The engine failed. The store accepts no more commits until it is opened again.
    #[error("storage engine failed")]
    Engine(#[source] EngineError),
    /// An earlier commit failed; what it left is unknown until the store is opened again.
    #[error("store is closed to writes after an earlier failure: {0}")]
    Poisoned(String),
    /// The store was shut down.
    #[error("store is shut down")]
    Closed,
}

impl StoreError {
    pub(crate) fn corrupt(key: &[u8], reason: &str) -> Self {
        let key = key.iter().map(|b| format!("{b:02x}")).collect();
        Self::Corrupt { key, reason: reason.to_owned() }
    }
}

/// The store did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it. Nothing was touched.
    #[error("store {} is in use by another process", dir.display())]
    InUse {
        /// The store's directory.
        dir: PathBuf,
    },
    /// It was there once and is gone.
    #[error("store {} is missing although it held data before ({known})", dir.display())]
    Missing {
        /// The store's directory.
        dir: PathBuf,
        /// What says that it held data.
        known: String,
    },
    /// It is older than what this machine already had on disk: an old copy was put back.
    #[error("store {} is at commit {found}, behind its high-water mark {expected}; moved to {}",
        dir.display(), quarantine.display())]
    Behind {
        /// The store's directory.
        dir: PathBuf,
        /// Where it was moved.
        quarantine: PathBuf,
        /// Commit sequence found.
        found: u64,
        /// Commit sequence promised.
        expected: u64,
    },
    /// It cannot be opened or does not read back.
    #[error("store {} is damaged and was moved to {}: {reason}", dir.display(), quarantine.display())]
    Damaged {
        /// The store's directory.
        dir: PathBuf,
        /// Where it was moved.
        quarantine: PathBuf,
        /// One sentence.
        reason: String,
    },
    /// Its high-water file is missing or damaged; without it lost writes cannot be noticed. Nothing was moved.
    #[error("high-water file {} cannot be trusted: {reason}", path.display())]
    HighWater {
        /// The file.
        path: PathBuf,
        /// One sentence.
        reason: String,
    },
    /// The file system refused.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// A verb.
        what: &'static str,
        /// Its object.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The engine refused, and it is not damage (for example: no space).
    #[error("cannot open store {}", dir.display())]
    Engine {
        /// The store's directory.
        dir: PathBuf,
        /// Why.
        #[source]
        source: EngineError,
    },
}

impl OpenError {
    /// The exit code of a daemon that meets this at startup: 74 (`EX_IOERR`), with the message as its one sentence.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        74
    }

    /// Whether data that was acknowledged is gone: the holder must not go on under its old identity.
    #[must_use]
    pub fn is_loss(&self) -> bool {
        match self {
            Self::Missing { .. } | Self::Behind { .. } | Self::Damaged { .. } | Self::HighWater { .. } => {
                true
            }
            Self::InUse { .. } | Self::Io { .. } | Self::Engine { .. } => false,
        }
    }

    pub(crate) fn io(what: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}
