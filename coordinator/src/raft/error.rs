//! What callers of the node get to see.

use crate::store::StoreRefused;

use super::codec::CodecError;

/// Why a node stopped by itself; the process must exit non-zero.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Its store failed, or its core ended (R8).
    #[error("Raft stopped: {0}")]
    Stopped(String),
    /// Its state is not that of the others (I-7): it must not come back under its number.
    #[error("{0}")]
    Diverged(String),
}

/// The node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store was refused (R4); exit with 74.
    #[error(transparent)]
    Store(#[from] StoreRefused),
    /// The snapshot or log could not be turned into state.
    #[error("the state could not be read back: {0}")]
    State(String),
    /// The Raft configuration is contradictory.
    #[error("Raft configuration is not usable")]
    Config(#[from] Box<openraft::ConfigError>),
    /// openraft stopped while starting.
    #[error("Raft did not start: {0}")]
    Raft(String),
    /// The cluster was initialized before, or this store was.
    #[error("this member already belongs to a cluster")]
    AlreadyInitialized,
}

/// A write did not return an answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProposeError {
    /// Nobody known leads, or the leader refused as it no longer leads. Nothing was written: retrying is safe.
    #[error("no leader{}", leader.as_ref().map(|(id, at)| format!(" here; member {id} at {at} may lead")).unwrap_or_default())]
    NotLeader {
        /// Where to ask instead.
        leader: Option<(u64, String)>,
    },
    /// Too much waits already. Nothing was written.
    #[error("too many proposals: {0}")]
    Overloaded(String),
    /// The command is larger than one log entry may be. Nothing was written.
    #[error("command of {bytes} bytes: at most {max} bytes")]
    TooLarge {
        /// What was given.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The leader does not allow it. Nothing was written.
    #[error("refused by the leader: {0}")]
    Refused(String),
    /// It may or may not take effect, now or later. Look at the request id before doing anything else (R10).
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// It does not encode, or the answer does not decode.
    #[error("malformed proposal or answer: {0}")]
    Malformed(String),
    /// The node stopped.
    #[error("this member has stopped")]
    Stopped,
}

impl ProposeError {
    /// Whether it is certain that nothing was written.
    #[must_use]
    pub fn nothing_written(&self) -> bool {
        match self {
            Self::NotLeader { .. } | Self::Overloaded(_) | Self::TooLarge { .. } | Self::Refused(_) => true,
            Self::Unknown(_) | Self::Malformed(_) | Self::Stopped => false,
        }
    }
}

impl From<CodecError> for ProposeError {
    fn from(error: CodecError) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// A linearizable read was not possible.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// Nobody known leads.
    #[error("no leader")]
    NotLeader {
        /// Where to ask instead.
        leader: Option<(u64, String)>,
    },
    /// The leader could not confirm in time that it still leads, or this member did not catch up.
    #[error("not confirmed in time: {0}")]
    Unavailable(String),
    /// The node stopped.
    #[error("this member has stopped")]
    Stopped,
}

/// A membership change was not made.
#[derive(Debug, Clone, thiserror::Error)]
pub enum MembershipError {
    /// Only the leader changes membership.
    #[error("this member does not lead")]
    NotLeader {
        /// Where to ask instead.
        leader: Option<(u64, String)>,
    },
    /// Another change is under way.
    #[error("another membership change is under way")]
    InProgress,
    /// The new set of voters would not have a reachable majority.
    #[error("refused: of the {voters} voters after the change only {reachable} answer, {needed} are needed")]
    NoMajority {
        /// Voters after the change.
        voters: usize,
        /// Of those, the ones that answer now.
        reachable: usize,
        /// A majority of them.
        needed: usize,
    },
    /// The member is unknown, or already what it should become.
    #[error("member {0} is not a learner")]
    NotLearner(u64),
    /// The member is unknown.
    #[error("member {0} is not in the cluster")]
    NotMember(u64),
    /// It would leave no voter.
    #[error("the last voter cannot be removed")]
    LastVoter,
    /// The learner did not catch up, or not for long enough.
    #[error("member {id} did not stay caught up: {reason}")]
    NotCaughtUp {
        /// The learner.
        id: u64,
        /// What was seen last.
        reason: String,
    },
    /// The change may or may not take effect.
    #[error("outcome unknown: {0}")]
    Unknown(String),
}

/// Leadership was not transferred.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// Only the leader hands over.
    #[error("this member does not lead")]
    NotLeader,
    /// A change of the membership, or another transfer, is under way.
    #[error("a membership change or another transfer is under way")]
    InProgress,
    /// There is nobody else with a vote.
    #[error("no other member has a vote")]
    Alone,
    /// The member has no vote, or is none.
    #[error("member {0} has no vote")]
    NotVoter(u64),
    /// The member does not answer.
    #[error("member {0} does not answer")]
    Down(u64),
    /// Too few voters answer: an election might find no majority.
    #[error("of {voters} voters {up} answer; {needed} are needed for an election")]
    NoMajority {
        /// Voters.
        voters: usize,
        /// Of those, the ones that answer.
        up: usize,
        /// A majority of them.
        needed: usize,
    },
    /// The member has not what the leader has.
    #[error("member {id} is at log index {matched} of {last}")]
    Behind {
        /// Which.
        id: u64,
        /// What is known to be on it.
        matched: u64,
        /// The leader's last index.
        last: u64,
    },
    /// The member would not stand, for instance because its release does not know how.
    #[error("member {id} does not stand for election: {why}")]
    Unwilling {
        /// Which.
        id: u64,
        /// In its words.
        why: String,
    },
    /// It was tried, and the member did not become leader.
    #[error("member {id} did not become leader within {limit:?}; member {leader:?} leads")]
    NotElected {
        /// Which.
        id: u64,
        /// Who leads now.
        leader: Option<u64>,
        /// How long it was waited for.
        limit: std::time::Duration,
    },
    /// What was begun could not be seen to its end.
    #[error("outcome unknown: {0}")]
    Unknown(String),
}
