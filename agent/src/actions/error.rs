//! What an action can fail with: typed, so that the runner gives the coordinator a stable reason and nobody parses text.

use std::io;
use std::path::{Path, PathBuf};

use quorate_common::with_causes;
use quorate_model::action::Finding;
use quorate_model::{ActionKind, ActionOutcome, ExecutionState, HookName, Reason, ServiceName};

/// Why a port (driver, hook runner, obligation keeper, facts) could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct PortError {
    /// The code that fits best.
    pub reason: Reason,
    /// One sentence.
    pub message: String,
}

impl PortError {
    /// An error with a code.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// Why an action did not succeed. Whatever it is, nothing is left half done that the action could undo itself.
#[derive(Debug, thiserror::Error)]
pub enum ActionError {
    /// The service was not sent with the assignment, or has no instance here.
    #[error("service {0} has no instance on this node")]
    UnknownService(ServiceName),
    /// The agent does not carry this action.
    #[error("this agent does not have the action {0}")]
    Unsupported(ActionKind),
    /// A field of the request makes no sense.
    #[error("invalid {field}: {why}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// What the request rests on does not hold; nothing was touched.
    #[error("{why}")]
    Refused {
        /// The code that fits best.
        reason: Reason,
        /// One sentence.
        why: String,
    },
    /// The host is not ready for what comes next; nothing was touched.
    #[error("{message}")]
    NotReady {
        /// What was not passed.
        message: String,
        /// Every check.
        findings: Vec<Finding>,
    },
    /// The host's policy has the last word.
    #[error("{} is not under a folder that this host's [policy] allows", .0.display())]
    PathNotAllowed(PathBuf),
    /// The disk has too little free space.
    #[error("{} has {free_bytes} bytes free, {needed_bytes} are needed", .path.display())]
    LowSpace {
        /// On which file system.
        path: PathBuf,
        /// Bytes needed, the worst case.
        needed_bytes: u64,
        /// Bytes free.
        free_bytes: u64,
    },
    /// A file changed while it was read, also the second time (X9).
    #[error("{} changed while it was read ({why}): exclude it, or declare a pause hook", .path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// What was seen.
        why: &'static str,
    },
    /// The archive does not hold what it should (X10).
    #[error("the archive {} is damaged: {why}", .path.display())]
    Damaged {
        /// The archive.
        path: PathBuf,
        /// What does not fit.
        why: String,
    },
    /// There is no such thing on this node.
    #[error("{} does not exist", .0.display())]
    NotFound(PathBuf),
    /// Something with this name is in the way and is not ours to replace.
    #[error("{} exists already and is something else: {why}", .path.display())]
    Occupied {
        /// What is in the way.
        path: PathBuf,
        /// Why it was not taken as our own.
        why: String,
    },
    /// The host's own keys do not vouch for an artifact.
    #[error("the artifact is not trusted: {why}")]
    Untrusted {
        /// What is missing.
        why: String,
    },
    /// An artifact is not what it was declared to be.
    #[error("the artifact is refused: {why}")]
    BadArtifact {
        /// What does not fit.
        why: String,
    },
    /// An artifact's bytes did not come within the deadline.
    #[error("the artifact did not come: {why}")]
    Unavailable {
        /// What the network half met.
        why: String,
    },
    /// A release is to be used that is not here, or not as it was staged.
    #[error("release {release} is not staged here, or was changed since")]
    NotStaged {
        /// Its name.
        release: String,
    },
    /// A release can not be left.
    #[error("there is no way back: {why}")]
    NoWayBack {
        /// What is missing.
        why: String,
    },
    /// A package can not be installed alone.
    #[error("the package can not be installed: {why}")]
    Blocked {
        /// What is in the way.
        why: String,
    },
    /// This host's own memory of releases can not be read.
    #[error("the record {} can not be read: {why}", .path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A hook ended badly.
    #[error("hook {hook} failed: {why}")]
    Hook {
        /// Which.
        hook: HookName,
        /// How.
        why: String,
        /// The end of what it printed.
        output_tail: String,
    },
    /// The service's own check refused a candidate.
    #[error("the check {hook} refused it: {why}")]
    CheckRefused {
        /// Which.
        hook: HookName,
        /// How it ended.
        why: String,
        /// The end of what it printed.
        output_tail: String,
    },
    /// Writes could not be resumed; the obligation stays open and its keeper goes on trying.
    #[error("{message}; the obligation stays open")]
    StillPaused {
        /// What happened.
        message: String,
    },
    /// The service's driver, the keeper of obligations or the facts refused.
    #[error("{doing} failed")]
    Port {
        /// What was being done.
        doing: String,
        /// Why it failed.
        #[source]
        source: PortError,
    },
    /// The machine refused.
    #[error("{doing} {} failed", .path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Canceled, and everything temporary was undone.
    #[error("canceled while {0}")]
    Canceled(&'static str),
    /// Its deadline passed, and everything temporary was undone.
    #[error("the deadline passed while {0}")]
    DeadlineExceeded(&'static str),
    /// A hook was ended before it was through; the outcome tells what it printed until then.
    #[error("{message}")]
    CutOff {
        /// By request, not at its deadline.
        canceled: bool,
        /// One sentence.
        message: String,
        /// What was seen until then.
        outcome: Box<ActionOutcome>,
    },
    /// It ran and ended badly; the outcome tells how far it came.
    #[error("{message}")]
    Failed {
        /// One sentence.
        message: String,
        /// What was done and seen until then.
        outcome: Box<ActionOutcome>,
    },
}

impl ActionError {
    /// The stable code.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::UnknownService(_) | Self::NotFound(_) => Reason::NotFound,
            Self::Unsupported(_) => Reason::ActionUnsupported,
            Self::Invalid { .. } => Reason::InvalidArgument,
            Self::PathNotAllowed(_) => Reason::PolicyDenied,
            Self::LowSpace { .. } => Reason::LowSpace,
            Self::NotReady { .. } => Reason::PreflightFailed,
            Self::Occupied { .. } => Reason::AlreadyExists,
            Self::DeadlineExceeded(_) | Self::CutOff { canceled: false, .. } => Reason::DeadlineExceeded,
            Self::Untrusted { .. } => Reason::SignatureInvalid,
            Self::BadArtifact { .. } => Reason::ArtifactInvalid,
            Self::Unavailable { .. } => Reason::ArtifactUnavailable,
            Self::NotStaged { .. } | Self::NoWayBack { .. } => Reason::WrongState,
            Self::Blocked { .. } => Reason::PackageBlocked,
            Self::CheckRefused { .. } => Reason::ConfigRejected,
            Self::Port { source, .. } => source.reason,
            Self::Refused { reason, .. } => *reason,
            Self::Changed { .. }
            | Self::Damaged { .. }
            | Self::Hook { .. }
            | Self::StillPaused { .. }
            | Self::Record { .. }
            | Self::Io { .. }
            | Self::Canceled(_)
            | Self::CutOff { canceled: true, .. }
            | Self::Failed { .. } => Reason::ActionFailed,
        }
    }

    /// The final state of the execution that this error ends.
    #[must_use]
    pub fn state(&self) -> ExecutionState {
        match self {
            Self::Canceled(_) | Self::CutOff { canceled: true, .. } => ExecutionState::Canceled,
            Self::DeadlineExceeded(_) | Self::Unavailable { .. } | Self::CutOff { canceled: false, .. } => {
                ExecutionState::TimedOut
            }
            Self::PathNotAllowed(_)
            | Self::Unsupported(_)
            | Self::Invalid { .. }
            | Self::Refused { .. }
            | Self::NotReady { .. }
            | Self::Untrusted { .. } => ExecutionState::Rejected,
            Self::UnknownService(_)
            | Self::LowSpace { .. }
            | Self::Changed { .. }
            | Self::Damaged { .. }
            | Self::NotFound(_)
            | Self::Occupied { .. }
            | Self::BadArtifact { .. }
            | Self::NotStaged { .. }
            | Self::NoWayBack { .. }
            | Self::Blocked { .. }
            | Self::Record { .. }
            | Self::Hook { .. }
            | Self::CheckRefused { .. }
            | Self::StillPaused { .. }
            | Self::Port { .. }
            | Self::Io { .. }
            | Self::Failed { .. } => ExecutionState::Failed,
        }
    }

    /// The message with its causes, in one line.
    #[must_use]
    pub fn message(&self) -> String {
        with_causes(self)
    }

    /// What to report as the outcome beside the error: the action's own account, or the message alone.
    #[must_use]
    pub fn into_outcome(self) -> ActionOutcome {
        let message = self.message();
        match self {
            Self::Failed { outcome, .. } | Self::CutOff { outcome, .. } => {
                ActionOutcome { message, ..*outcome }
            }
            Self::NotReady { findings, .. } => {
                ActionOutcome { message, findings, ..ActionOutcome::default() }
            }
            Self::Hook { output_tail, .. } | Self::CheckRefused { output_tail, .. } => {
                ActionOutcome { message, output_tail, ..ActionOutcome::default() }
            }
            Self::UnknownService(_)
            | Self::Unsupported(_)
            | Self::Invalid { .. }
            | Self::Refused { .. }
            | Self::PathNotAllowed(_)
            | Self::LowSpace { .. }
            | Self::Changed { .. }
            | Self::Damaged { .. }
            | Self::NotFound(_)
            | Self::Occupied { .. }
            | Self::Untrusted { .. }
            | Self::BadArtifact { .. }
            | Self::Unavailable { .. }
            | Self::NotStaged { .. }
            | Self::NoWayBack { .. }
            | Self::Blocked { .. }
            | Self::Record { .. }
            | Self::StillPaused { .. }
            | Self::Port { .. }
            | Self::Io { .. }
            | Self::Canceled(_)
            | Self::DeadlineExceeded(_) => ActionOutcome { message, ..ActionOutcome::default() },
        }
    }

    /// An error of the machine. A full disk is told apart, because the caller can do something about it.
    #[must_use]
    pub fn io(doing: &'static str, path: impl AsRef<Path>, source: io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::LowSpace { path, needed_bytes: 1, free_bytes: 0 }
            }
            _ => Self::Io { doing, path, source },
        }
    }

    /// An error of a port.
    #[must_use]
    pub fn port(doing: impl Into<String>, source: PortError) -> Self {
        Self::Port { doing: doing.into(), source }
    }

    /// A field that makes no sense.
    #[must_use]
    pub fn invalid(field: &'static str, why: impl Into<String>) -> Self {
        Self::Invalid { field, why: why.into() }
    }
}
