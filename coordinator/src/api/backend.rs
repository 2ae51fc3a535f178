//! What the API needs from the rest of the coordinator: a handful of traits, so that it runs the same over a Raft node and
//! over a plain `State` in a test.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use quorate_core::{Answer, Entry, Observations, State};
use quorate_model::node::{Facts, NodeCondition};
use quorate_model::{DurationMs, MemberId, MemberName, NodeName, Principal, Serial, Timestamp};
use tokio::sync::watch;

pub use crate::raft::StateDigest;

/// The coordinator behind the API.
pub trait Backend: Send + Sync + 'static {
    /// Runs `look` exactly once on the state as far as this member has applied the log. Applying waits meanwhile.
    fn read(&self, look: &mut dyn FnMut(&State));

    /// Changes with each applied entry; the value is its log index.
    fn revisions(&self) -> watch::Receiver<u64>;

    /// Confirms with a quorum from which index on a read is linearizable, and waits until this member has applied it.
    fn linearize(&self) -> BoxFuture<'_, Result<u64, ReadError>>;

    /// Proposes an entry here or through the leader; gives its log index and answer.
    fn propose(&self, entry: Entry) -> BoxFuture<'_, Result<(u64, Answer), ProposeError>>;

    /// Runs `look` exactly once on what the leader's memory holds; on a follower on what it holds itself.
    fn observe(&self, look: &mut dyn FnMut(&Observations));

    /// Runs `look` at most once on what is known of a node beyond [`Observations`].
    fn detail(&self, node: &NodeName, look: &mut dyn FnMut(&NodeDetail));

    /// The time of the fleet: never behind what stands in the log.
    fn now(&self) -> Timestamp;

    /// This host's own clock, for what others read by theirs: certificates.
    fn wall(&self) -> Timestamp {
        self.now()
    }

    /// 64 random bits, for ids.
    fn mint(&self) -> u64;

    /// This member, and how it stands.
    fn health(&self) -> Health;

    /// Every member, asked for its own view within a second; who does not answer is `Down`.
    fn members(&self) -> BoxFuture<'_, Vec<MemberView>>;

    /// Makes a member that the state already lists part of the Raft group: a learner at once, a voter when it has caught
    /// up, in the background. Asking twice changes nothing.
    fn admit_member(&self, member: MemberId, grpc: String) -> BoxFuture<'_, Result<(), MembershipError>>;

    /// Takes a member out of the Raft group; refused when the rest would have no reachable majority.
    fn retire_member(&self, member: MemberId) -> BoxFuture<'_, Result<(), MembershipError>>;

    /// Which member leadership would go to now: the one named, or the voter that has most. On the leader.
    fn successor(&self, to: Option<MemberId>) -> BoxFuture<'_, Result<MemberId, TransferError>>;

    /// Hands leadership over and waits until the new leader has committed something. On the leader.
    fn transfer_leader(&self, to: Option<MemberId>) -> BoxFuture<'_, Result<Transferred, TransferError>>;

    /// Whether a learner answers and has what it needs to be given a vote. On the leader.
    fn caught_up(&self, member: MemberId) -> BoxFuture<'_, Result<(), TransferError>>;

    /// The state as this member has it, encoded, and where it stands.
    fn encoded(&self) -> BoxFuture<'_, Result<Encoded, SnapshotError>>;

    /// The digests of every member: that of its state now first, then those that all members take. None for one that does
    /// not answer or is of another release.
    fn digests(&self) -> BoxFuture<'_, BTreeMap<MemberId, Option<Vec<StateDigest>>>>;

    /// Builds a snapshot on this member now; gives the index it stands for.
    fn snapshot(&self) -> BoxFuture<'_, Result<u64, SnapshotError>>;
}

/// Sends a whole call to the leader and brings its answer back, unary or streaming. `http::Request` already carries the
/// metadata that names the caller; the transport is mutual TLS with this member's certificate.
pub trait LeaderForward: Send + Sync + 'static {
    /// Sends it.
    fn forward(
        &self,
        request: http::Request<tonic::body::Body>,
    ) -> BoxFuture<'_, Result<http::Response<tonic::body::Body>, ForwardError>>;
}

/// Signs certificates.
pub trait Signer: Send + Sync + 'static {
    /// Signs the key of a request for a principal. `hosts` are the names a coordinator is dialled under.
    ///
    /// # Errors
    /// [`SignError::Request`] when the request is at fault.
    fn sign(
        &self,
        csr_der: &[u8],
        principal: &Principal,
        hosts: &[String],
        now: Timestamp,
    ) -> Result<Signed, SignError>;

    /// The CA's private key, PEM, for a joining coordinator.
    fn ca_key_pem(&self) -> zeroize::Zeroizing<String>;

    /// sha256 of the CA's certificate: what tokens pin.
    fn ca_sha256(&self) -> [u8; 32];
}

/// A certificate just signed.
#[derive(Clone, Debug)]
pub struct Signed {
    /// PEM.
    pub pem: String,
    /// Its serial number.
    pub serial: Serial,
    /// Its end.
    pub not_after: Timestamp,
}

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The request is malformed, too large, or not signed by its own key.
    #[error("the certificate request is not usable: {0}")]
    Request(String),
    /// The CA is not available.
    #[error("the CA cannot sign: {0}")]
    Authority(String),
}

/// Why a read could not be confirmed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Nobody leads.
    #[error("the coordinators have no leader")]
    NoLeader,
    /// It took too long.
    #[error("no quorum confirmed the read in time")]
    Timeout,
    /// This member is stopping or broken.
    #[error("this coordinator cannot serve: {0}")]
    Stopped(String),
}

/// Why a write was not done, or is not known to be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Nobody leads; nothing was written.
    #[error("the coordinators have no leader")]
    NoLeader,
    /// It may or may not take effect.
    #[error("the outcome is not known: {0}")]
    Unknown(String),
    /// Too much work is waiting; nothing was written.
    #[error("too much work is waiting: {0}")]
    Overloaded(String),
    /// The disk has too little space; nothing was written.
    #[error("a coordinator's disk has too little space: {0}")]
    LowSpace(String),
    /// The entry is larger than a log entry may be; nothing was written.
    #[error("it is too large for the log: {0}")]
    TooLarge(String),
    /// The leader would not take it; nothing was written.
    #[error("the leader did not take it: {0}")]
    Refused(String),
    /// This member is stopping or broken; nothing was written.
    #[error("this coordinator cannot serve: {0}")]
    Stopped(String),
}

/// Why the Raft group was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// Another change is under way.
    #[error("{0}")]
    Busy(String),
    /// The members that are left would have no majority that answers.
    #[error("{0}")]
    Unsafe(String),
    /// Nobody leads.
    #[error("the coordinators have no leader")]
    NoLeader,
    /// It may or may not have happened.
    #[error("the outcome is not known: {0}")]
    Unknown(String),
}

/// Why leadership was not handed over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// That member cannot lead, or nobody else can.
    #[error("{0}")]
    Unfit(String),
    /// A membership change or another transfer is under way.
    #[error("{0}")]
    Busy(String),
    /// This member does not lead.
    #[error("the coordinators have no leader")]
    NoLeader,
    /// It was begun, and who leads now is not known.
    #[error("the outcome is not known: {0}")]
    Unknown(String),
}

/// Why no snapshot was built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no snapshot was built: {0}")]
pub struct SnapshotError(pub String);

/// Why a call did not reach the leader.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// Nobody leads.
    #[error("the coordinators have no leader")]
    NoLeader,
    /// The leader was not reached; nothing was done.
    #[error("the leader was not reached: {0}")]
    Unreachable(String),
    /// The call was sent and no answer came.
    #[error("the leader did not answer: {0}")]
    NoReply(String),
}

/// A whole state, as `cluster snapshot save` puts it into a file.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// The log entry it stands at: its term.
    pub term: u64,
    /// The leader that proposed it.
    pub leader: u64,
    /// Its log index.
    pub index: u64,
    /// The state itself, for counting.
    pub state: Arc<State>,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Leadership after a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transferred {
    /// Who leads.
    pub leader: MemberId,
    /// Its term.
    pub term: u64,
    /// How long no write could be taken.
    pub without_leader: DurationMs,
}

/// What is known of a node beyond what decisions rest on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeDetail {
    /// The coordinator that holds its session.
    pub coordinator: String,
    /// Node clock minus coordinator clock, milliseconds.
    pub clock_offset_ms: i64,
    /// Conditions with one line each and since when.
    pub conditions: BTreeMap<NodeCondition, (String, Timestamp)>,
    /// What its agent found out.
    pub facts: Option<Facts>,
    /// Newest metrics.
    pub metrics: Vec<MetricValue>,
}

/// One metric value of a node.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricValue {
    /// Name.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Value; finite.
    pub value: f64,
}

/// Role of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RaftRole {
    /// Leads.
    Leader,
    /// Follows with a vote.
    Follower,
    /// Stands for election.
    Candidate,
    /// Follows without a vote.
    Learner,
    /// Stopped, or does not answer.
    Down,
}

impl RaftRole {
    /// Every role.
    pub const ALL: [Self; 5] = [Self::Leader, Self::Follower, Self::Candidate, Self::Learner, Self::Down];

    /// The stable word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Leader => "LEADER",
            Self::Follower => "FOLLOWER",
            Self::Candidate => "CANDIDATE",
            Self::Learner => "LEARNER",
            Self::Down => "DOWN",
        }
    }
}

/// A member as seen from here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberView {
    /// Its number.
    pub id: MemberId,
    /// Where it stands.
    pub role: RaftRole,
    /// It votes.
    pub voter: bool,
    /// Its term.
    pub term: u64,
    /// Last applied index.
    pub applied: u64,
    /// Last index on its disk.
    pub last_log: u64,
    /// Index of its newest snapshot.
    pub snapshot: u64,
    /// Its version.
    pub version: String,
    /// Sessions it holds, when known.
    pub sessions: u32,
}

/// This member, and how it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Its number.
    pub id: MemberId,
    /// Its name.
    pub name: MemberName,
    /// Its role.
    pub role: RaftRole,
    /// Its term.
    pub term: u64,
    /// The leader it knows.
    pub leader: Option<MemberId>,
    /// Last applied index.
    pub applied: u64,
    /// Last index on its disk.
    pub last_log: u64,
    /// It has quorum: it leads with a majority's confirmation, or hears a leader.
    pub has_quorum: bool,
    /// Sessions it holds.
    pub sessions: u32,
    /// Log entries proposed here since the start; commands that come together share one.
    pub entries: u64,
    /// Durable writes (`fdatasync`) since the start.
    pub fdatasyncs: u64,
    /// Synchronous writes of the committed index (`RWF_DSYNC`) since the start.
    pub committed_writes: u64,
    /// Bytes of the log on disk.
    pub log_bytes: u64,
    /// Why its disk has no room for new work; none while it has.
    pub low_space: Option<String>,
}

impl Health {
    /// Whether this member leads.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.role == RaftRole::Leader
    }
}
