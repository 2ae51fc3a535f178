//! Why a member's store is not started.

use std::io;
use std::path::{Path, PathBuf};

use quorate_durable::{OpenError, StoreError};

/// The member must not start; the daemon prints this one sentence and exits with 74.
#[derive(Debug, thiserror::Error)]
pub enum StoreRefused {
    /// There is no identity: never formatted, or wiped.
    #[error("{} holds no member identity: join the cluster first (or again, with a new id)", root.display())]
    NotFormatted {
        /// The member's directory.
        root: PathBuf,
    },
    /// There is one already.
    #[error("{} already holds member {member_id}", root.display())]
    AlreadyFormatted {
        /// The member's directory.
        root: PathBuf,
        /// Its id.
        member_id: u64,
    },
    /// The directory belongs to another member or cluster.
    #[error("{} belongs to another member or cluster: {detail}", path.display())]
    WrongIdentity {
        /// The file that says so.
        path: PathBuf,
        /// Both sides.
        detail: String,
    },
    /// Its state was found to differ from that of the others (I-7).
    #[error("this member was stopped because of its state and does not start again: {why}")]
    Diverged {
        /// What was found.
        why: String,
    },
    /// It failed again and again (R8).
    #[error(
        "the store failed {count} times within {} minutes, last: {last}; this member stays down until that is over: mend \
         the disk, then remove {} to start at once",
        within.as_secs() / 60, path.display()
    )]
    StaysDown {
        /// How often.
        count: usize,
        /// The latest reason.
        last: String,
        /// Within which time.
        within: std::time::Duration,
        /// Where it is written down.
        path: PathBuf,
    },
    /// The log store did not open.
    #[error("the Raft log was refused")]
    Log(#[source] OpenError),
    /// The log store opened, but cannot be the one this member promised from.
    #[error("the Raft log of member {member_id} lost what it had promised ({reason}); {}", moved(quarantine.as_deref()))]
    Lost {
        /// The member.
        member_id: u64,
        /// What does not fit.
        reason: String,
        /// Where the log was moved.
        quarantine: Option<PathBuf>,
    },
    /// A read or write failed.
    #[error("the Raft log could not be read")]
    Store(#[from] StoreError),
    /// The file system refused.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// A verb.
        what: &'static str,
        /// Its object.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn moved(quarantine: Option<&Path>) -> String {
    quarantine.map_or_else(
        || "it stays where it is".to_owned(),
        |path| format!("it was moved to {}; rejoin with a new id", path.display()),
    )
}

impl StoreRefused {
    /// The exit code of the daemon: 74 (`EX_IOERR`).
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        74
    }

    /// Whether the member can only come back as a new one.
    #[must_use]
    pub fn needs_rejoin(&self) -> bool {
        match self {
            Self::NotFormatted { .. } | Self::Lost { .. } | Self::Diverged { .. } => true,
            Self::Log(error) => error.is_loss(),
            Self::AlreadyFormatted { .. }
            | Self::WrongIdentity { .. }
            | Self::StaysDown { .. }
            | Self::Store(_)
            | Self::Io { .. } => false,
        }
    }

    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}
