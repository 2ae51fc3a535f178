//! What can go wrong at the door, typed.

use std::io;
use std::path::PathBuf;

use quorate_common::with_causes;
use quorate_model::Reason;
use thiserror::Error;

/// A request to the machine that was not carried out, or not in full.
#[derive(Debug, Error)]
pub enum HostError {
    /// The unit name is malformed (I-30).
    #[error("{unit:?} is no valid unit name: {why}")]
    InvalidUnit {
        /// What was asked for.
        unit: String,
        /// Which rule it breaks.
        why: &'static str,
    },
    /// The unit is one that is never touched: our own, or the bus.
    #[error("unit {unit} may not be managed: {why}")]
    UnitNotAllowed {
        /// What was asked for.
        unit: String,
        /// Why.
        why: &'static str,
    },
    /// There is no such unit or declared process.
    #[error("unit {unit} is not known on this host")]
    NotFound {
        /// What was asked for.
        unit: String,
    },
    /// The unit is masked; systemd refuses to start it.
    #[error("unit {unit} is masked")]
    Masked {
        /// What was asked for.
        unit: String,
    },
    /// It was started and is not up.
    #[error("{unit} did not stay up: {detail}")]
    NotStarted {
        /// Which.
        unit: String,
        /// How it ended, with the end of its log.
        detail: String,
    },
    /// A systemd job ended with another result than `done`.
    #[error("{verb} of {unit} ended as {result:?}")]
    Job {
        /// What was asked.
        verb: &'static str,
        /// Which unit.
        unit: String,
        /// systemd's word: `failed`, `canceled`, `dependency`, `skipped`, …
        result: String,
    },
    /// It can not reload without being replaced.
    #[error("{unit} can not reload: {why}")]
    NotReloadable {
        /// Which.
        unit: String,
        /// Why.
        why: &'static str,
    },
    /// The deadline passed; what was asked may still happen.
    #[error("{what} took longer than {after_ms} ms")]
    Timeout {
        /// What was awaited.
        what: String,
        /// The deadline, in milliseconds.
        after_ms: u64,
    },
    /// systemd does not answer on D-Bus, or there is none.
    #[error("systemd can not be reached over D-Bus")]
    Bus(#[source] zbus::Error),
    /// systemd refused the call.
    #[error("systemd refused {call} of {unit}: {error}")]
    Refused {
        /// The method.
        call: &'static str,
        /// Which unit.
        unit: String,
        /// The D-Bus error name and text.
        error: String,
    },
    /// This host has no such driver.
    #[error("{what} is not available on this host")]
    Unavailable {
        /// What is missing.
        what: &'static str,
    },
    /// A path that leaves its root, or goes over a link, a mount or a special file.
    #[error("path {} is outside of its root: {why}", path.display())]
    PathOutsideRoot {
        /// The path as given.
        path: PathBuf,
        /// Which rule it breaks.
        why: String,
    },
    /// A path that can not be one: empty, too long, not UTF-8, with a NUL.
    #[error("path {} is not valid: {why}", path.display())]
    InvalidPath {
        /// The path as given.
        path: PathBuf,
        /// Which rule it breaks.
        why: &'static str,
    },
    /// More than the limit of something.
    #[error("more than {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The operating system refused something.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl HostError {
    /// Wraps an operating system error with what was tried.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// The stable reason code.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::InvalidUnit { .. } | Self::InvalidPath { .. } | Self::TooMany { .. } => {
                Reason::InvalidArgument
            }
            Self::UnitNotAllowed { .. } | Self::PathOutsideRoot { .. } => Reason::PolicyDenied,
            Self::NotFound { .. } => Reason::NotFound,
            Self::Timeout { .. } => Reason::DeadlineExceeded,
            Self::Job { result, .. } if result == "timeout" => Reason::DeadlineExceeded,
            Self::Unavailable { .. } => Reason::ActionUnsupported,
            Self::Io { source, .. }
                if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) =>
            {
                Reason::LowSpace
            }
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => Reason::NotFound,
            Self::Masked { .. }
            | Self::NotStarted { .. }
            | Self::Job { .. }
            | Self::NotReloadable { .. }
            | Self::Bus(_)
            | Self::Refused { .. }
            | Self::Io { .. } => Reason::ActionFailed,
        }
    }

    /// Whether the effect may have happened, wholly or in part, although this is an error.
    #[must_use]
    pub fn may_have_acted(&self) -> bool {
        match self {
            Self::NotStarted { .. }
            | Self::Job { .. }
            | Self::Timeout { .. }
            | Self::Bus(_)
            | Self::Io { .. } => true,
            Self::InvalidUnit { .. }
            | Self::UnitNotAllowed { .. }
            | Self::NotFound { .. }
            | Self::Masked { .. }
            | Self::NotReloadable { .. }
            | Self::Refused { .. }
            | Self::Unavailable { .. }
            | Self::PathOutsideRoot { .. }
            | Self::InvalidPath { .. }
            | Self::TooMany { .. } => false,
        }
    }

    /// The text with every cause behind it, in one line.
    #[must_use]
    pub fn full_text(&self) -> String {
        with_causes(self)
    }
}
