//! The only map from what went wrong to a gRPC status.
//!
//! Codes are chosen so that a caller can act without reading text: FAILED_PRECONDITION means refused and nothing changed,
//! UNAVAILABLE means try another coordinator, UNKNOWN means ask again with the same request id.

use quorate_common::wire::{Invalid, Problem};
use quorate_model::{Reason, Refusal};
use tonic::Code;

use super::backend::{
    ForwardError, MembershipError, ProposeError, ReadError, SignError, SnapshotError, TransferError,
};

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A field cannot be accepted.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// Refused; nothing was changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Refused by the state as it stood at a log index; nothing was changed.
    #[error("{refusal}")]
    RefusedAt {
        /// Why.
        refusal: Refusal,
        /// The index the answer was served at.
        index: u64,
    },
    /// The read could not be confirmed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The write was not done, or is not known to be done.
    #[error(transparent)]
    Propose(#[from] ProposeError),
    /// The Raft group was not changed.
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// Leadership was not handed over.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// No snapshot was built.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The call did not reach the leader.
    #[error(transparent)]
    Forward(#[from] ForwardError),
    /// No certificate was signed.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// An invariant of ours does not hold.
    #[error("{0}")]
    Internal(&'static str),
}

impl Failure {
    /// There is no such thing at this log index. `name` was checked before: it is safe to show.
    #[must_use]
    pub fn not_found(what: &str, name: &str, index: u64) -> Self {
        let refusal = Refusal::new(Reason::NotFound, format!("there is no {what} {name}"));
        Self::RefusedAt { refusal, index }
    }

    /// The log index it was served at. What never came as far as the state (a malformed field, no leader) has none.
    #[must_use]
    pub fn index(&self) -> Option<u64> {
        match self {
            Self::RefusedAt { index, .. } => Some(*index),
            Self::Invalid(_)
            | Self::Refused(_)
            | Self::Read(_)
            | Self::Propose(_)
            | Self::Membership(_)
            | Self::Transfer(_)
            | Self::Snapshot(_)
            | Self::Forward(_)
            | Self::Sign(_)
            | Self::Internal(_) => None,
        }
    }

    /// Its stable code.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Invalid(invalid) => invalid.reason,
            Self::Refused(refusal) | Self::RefusedAt { refusal, .. } => refusal.reason(),
            Self::Read(ReadError::NoLeader | ReadError::Stopped(_))
            | Self::Propose(ProposeError::NoLeader | ProposeError::Stopped(_) | ProposeError::Refused(_))
            | Self::Membership(MembershipError::NoLeader)
            | Self::Transfer(TransferError::NoLeader)
            | Self::Forward(ForwardError::NoLeader | ForwardError::Unreachable(_)) => Reason::NoLeader,
            Self::Read(ReadError::Timeout) => Reason::DeadlineExceeded,
            Self::Propose(ProposeError::Unknown(_))
            | Self::Membership(MembershipError::Unknown(_))
            | Self::Transfer(TransferError::Unknown(_))
            | Self::Forward(ForwardError::NoReply(_)) => Reason::OutcomeUnknown,
            Self::Propose(ProposeError::Overloaded(_)) => Reason::RateLimited,
            Self::Propose(ProposeError::LowSpace(_)) => Reason::LowSpace,
            Self::Propose(ProposeError::TooLarge(_)) => Reason::MessageTooLarge,
            Self::Membership(MembershipError::Busy(_)) | Self::Transfer(TransferError::Busy(_)) => {
                Reason::MembershipBusy
            }
            Self::Membership(MembershipError::Unsafe(_)) => Reason::QuorumMargin,
            Self::Transfer(TransferError::Unfit(_)) => Reason::MemberUnfit,
            Self::Sign(SignError::Request(_)) => Reason::InvalidArgument,
            Self::Snapshot(_) | Self::Sign(SignError::Authority(_)) | Self::Internal(_) => Reason::Internal,
        }
    }

    /// As callers see it.
    #[must_use]
    pub fn problem(&self) -> Problem {
        match self {
            Self::Refused(refusal) | Self::RefusedAt { refusal, .. } => {
                Problem::refused(code(refusal.reason()), refusal)
            }
            Self::Invalid(invalid) => {
                let mut problem = problem(self.reason(), self.to_string());
                problem.why = invalid.caret().into_iter().map(|line| (String::new(), line)).collect();
                problem
            }
            Self::Read(_)
            | Self::Propose(_)
            | Self::Membership(_)
            | Self::Transfer(_)
            | Self::Snapshot(_)
            | Self::Forward(_)
            | Self::Sign(_)
            | Self::Internal(_) => problem(self.reason(), self.to_string()),
        }
    }
}

/// A problem with the code that goes with its reason.
#[must_use]
pub fn problem(reason: Reason, what: impl Into<String>) -> Problem {
    Problem::new(code(reason), reason, what)
}

/// The gRPC code of a reason.
#[must_use]
pub const fn code(reason: Reason) -> Code {
    match reason {
        Reason::QuorumMargin
        | Reason::MaxUnavailable
        | Reason::EvidenceStale
        | Reason::NodeLease
        | Reason::NodeCordoned
        | Reason::AgentDisconnected
        | Reason::PrimaryLease
        | Reason::StandbyBehind
        | Reason::WindowClosed
        | Reason::ApprovalRequired
        | Reason::NothingToChange
        | Reason::ApprovalRejected
        | Reason::ApprovalExpired
        | Reason::Freeze
        | Reason::StalePlan
        | Reason::EpochStale
        | Reason::GrantExpired
        | Reason::PolicyDenied
        | Reason::ActionUnsupported
        | Reason::JournalLost
        | Reason::SignatureInvalid
        | Reason::ArtifactInvalid
        | Reason::PackageBlocked
        | Reason::ExecutionUnknown
        | Reason::GateFailed
        | Reason::ActionFailed
        | Reason::Conflict
        | Reason::WrongState
        | Reason::DigestMismatch
        | Reason::PoolMinimum
        | Reason::BalancerUnreadable
        | Reason::NotDrained
        | Reason::NotFit
        | Reason::ConfigRejected
        | Reason::ConfigDrifted
        | Reason::PreflightFailed
        | Reason::MemberUnfit
        | Reason::MembershipBusy => Code::FailedPrecondition,
        Reason::LowSpace | Reason::LimitReached | Reason::RateLimited => Code::ResourceExhausted,
        Reason::InvalidArgument | Reason::EmptySelector | Reason::MalformedMessage => Code::InvalidArgument,
        Reason::MessageTooLarge | Reason::OffsetMismatch => Code::OutOfRange,
        Reason::NotFound => Code::NotFound,
        Reason::AlreadyExists | Reason::RequestIdConflict => Code::AlreadyExists,
        Reason::Unauthenticated | Reason::IdentityRevoked => Code::Unauthenticated,
        Reason::NotAllowed | Reason::ApproverRefused => Code::PermissionDenied,
        Reason::NoLeader | Reason::ArtifactUnavailable => Code::Unavailable,
        Reason::OutcomeUnknown => Code::Unknown,
        Reason::DeadlineExceeded => Code::DeadlineExceeded,
        Reason::Internal => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_of_every_reason_map_to_a_contract_exit_code() {
        for reason in Reason::ALL {
            let exit = problem(*reason, "x").exit_code();
            assert!((1..=7).contains(&exit), "{reason} exits {exit}");
        }
    }

    #[test]
    fn nothing_written_and_not_known_are_told_apart() {
        let unknown = Failure::from(ProposeError::Unknown("the leader is gone".into())).problem();
        assert_eq!((unknown.code, unknown.exit_code()), (Code::Unknown, 4));
        let none = Failure::from(ProposeError::NoLeader).problem();
        assert_eq!((none.code, none.exit_code()), (Code::Unavailable, 4));
        let invalid = Failure::from(Invalid::missing("name")).problem();
        assert_eq!(
            (invalid.code, invalid.what.as_str()),
            (Code::InvalidArgument, "bad_field:name: it is missing")
        );
    }
}
