//! What members say to each other, apart from how: gRPC in production, a function call in tests and simulations.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;

/// Who calls whom (R5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The cluster of the sender.
    pub cluster_id: [u8; 16],
    /// The member that sends.
    pub sender_id: u64,
    /// The member that is meant to receive.
    pub target_id: u64,
}

/// A request of one member to another. Raft payloads are MessagePack.
#[derive(Debug, Clone)]
pub enum PeerRequest {
    /// Heartbeat, or entries: `entries` says which, for the choice of the connection.
    Append {
        /// An openraft append request.
        payload: Bytes,
        /// Whether it carries entries.
        entries: bool,
    },
    /// An openraft vote request.
    Vote(Bytes),
    /// One chunk of a snapshot.
    Snapshot {
        /// An openraft snapshot request without its data.
        payload: Bytes,
        /// The data.
        data: Bytes,
        /// CRC32C of the data.
        crc: u32,
    },
    /// An encoded command for the leader.
    Propose(Bytes),
    /// From which index on is a read linearizable?
    ReadIndex,
    /// What the sender's agent sessions observed.
    Observations(Bytes),
    /// Renewals of leases that came over the sender's agent sessions.
    Leases(Bytes),
    /// How does the target see itself?
    Status,
    /// What is the target's state right now?
    Digest,
    /// The leader of this term has stopped writing: stand for election now.
    Stand {
        /// The term of the sender, who leads in it.
        term: u64,
    },
}

/// An answer to a [`PeerRequest`].
#[derive(Debug, Clone)]
pub enum PeerReply {
    /// An encoded openraft result.
    Raft(Bytes),
    /// The command was applied.
    Applied {
        /// Its log index.
        index: u64,
        /// The encoded answer.
        answer: Bytes,
    },
    /// The target does not lead; nothing was written.
    NotLeader(Option<(u64, String)>),
    /// The write may or may not take effect.
    Unknown(String),
    /// No room for more; nothing was written.
    Overloaded(String),
    /// A read at this index or later is linearizable.
    ReadIndex(u64),
    /// The leader's answer to observations.
    Observations(Bytes),
    /// What became of renewals.
    Leases(Bytes),
    /// How the target sees itself.
    Status(PeerStatus),
    /// The target's state now, then the digests that all members take.
    Digests {
        /// Now first.
        digests: Vec<super::StateDigest>,
        /// Release of the target's program.
        version: String,
    },
    /// The target stands for election.
    Standing,
}

/// How a member sees itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// Its id.
    pub member_id: u64,
    /// Its role.
    pub role: super::MemberRole,
    /// Its term.
    pub term: u64,
    /// The leader it knows.
    pub leader: Option<u64>,
    /// Its last log index.
    pub last_log: u64,
    /// Its last applied index.
    pub applied: u64,
    /// Last index of its newest snapshot.
    pub snapshot: u64,
    /// Release of its program.
    pub version: String,
    /// The last digests of its state, oldest first.
    pub digests: Vec<super::StateDigest>,
}

/// A request was not even looked at, or could not be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Wrong cluster, target, sender or role.
    #[error("permission denied: {0}")]
    Denied(String),
    /// Malformed, or impossible in the protocol.
    #[error("invalid request: {0}")]
    Invalid(String),
    /// The receiver cannot answer now.
    #[error("unavailable: {0}")]
    Unavailable(String),
}

/// A call did not bring a reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// There is no connection: the request was not sent.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// It was sent, and no reply came in time or at all.
    #[error("no reply: {0}")]
    NoReply(String),
    /// The receiver refused it.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// A call under way.
pub type Call<'a> = Pin<Box<dyn Future<Output = Result<PeerReply, PeerError>> + Send + 'a>>;

/// How requests get to other members. Every call ends by its deadline.
pub trait Transport: Send + Sync + 'static {
    /// Sends `request` to the member at `address`.
    fn call<'a>(
        &'a self,
        header: Header,
        address: &'a str,
        request: PeerRequest,
        deadline: Duration,
    ) -> Call<'a>;
}
