//! How the node sees itself and its cluster, for status, metrics and the dashboard.

use openraft::{BasicNode, RaftMetrics, ServerState};
use tokio::sync::watch;

use super::replicas::StateDigest;
use super::transport::PeerStatus;

/// Role of a member now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberRole {
    /// Receives the log, has no vote.
    Learner,
    /// Follows a leader.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
    /// Stopped after a storage error, or shut down.
    Failed,
}

/// A member as the leader, or this member, knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its id.
    pub id: u64,
    /// Its peer address.
    pub address: String,
    /// Whether it has a vote.
    pub voter: bool,
    /// Last log index known to be on it; only the leader knows.
    pub matched: Option<u64>,
}

/// The cluster as this member sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RaftStatus {
    /// This member.
    pub member_id: u64,
    /// Its role.
    pub role: MemberRole,
    /// Its term.
    pub term: u64,
    /// The leader it knows, with its address when it is a known member.
    pub leader: Option<(u64, String)>,
    /// Last log index.
    pub last_log: u64,
    /// Last applied index.
    pub applied: u64,
    /// Last index of the newest snapshot.
    pub snapshot: u64,
    /// Last index purged from the log.
    pub purged: u64,
    /// Milliseconds since a majority last confirmed this leader; only on the leader.
    pub quorum_ack_ms: Option<u64>,
    /// All members, by id.
    pub members: Vec<MemberStatus>,
    /// Why the node stopped.
    pub failure: Option<String>,
}

/// What durability costs, since the node started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// The log store.
    pub store: quorate_durable::CounterValues,
    /// Synchronous writes of the committed index (`RWF_DSYNC`, beside the `fdatasync`s of the store).
    pub committed_writes: u64,
    /// Raft entries proposed here.
    pub batches: u64,
    /// Commands in them.
    pub commands: u64,
    /// Confirmations of leadership for linearizable reads.
    pub read_rounds: u64,
    /// Reads they served.
    pub reads: u64,
}

impl RaftStatus {
    pub(crate) fn new(metrics: &RaftMetrics<u64, BasicNode>) -> Self {
        let membership = metrics.membership_config.membership();
        let voters: std::collections::BTreeSet<u64> = membership.voter_ids().collect();
        let matched = |id: &u64| {
            metrics.replication.as_ref().and_then(|all| all.get(id).copied().flatten()).map(|id| id.index)
        };
        let members: Vec<_> = membership
            .nodes()
            .map(|(id, node)| MemberStatus {
                id: *id,
                address: node.addr.clone(),
                voter: voters.contains(id),
                matched: matched(id),
            })
            .collect();
        let failure = metrics.running_state.as_ref().err().map(ToString::to_string);
        let role = match metrics.state {
            _ if failure.is_some() => MemberRole::Failed,
            ServerState::Learner => MemberRole::Learner,
            ServerState::Follower => MemberRole::Follower,
            ServerState::Candidate => MemberRole::Candidate,
            ServerState::Leader => MemberRole::Leader,
            ServerState::Shutdown => MemberRole::Failed,
        };
        let leader = metrics.current_leader.map(|id| {
            let address = members.iter().find(|m| m.id == id).map(|m| m.address.clone()).unwrap_or_default();
            (id, address)
        });
        Self {
            member_id: metrics.id,
            role,
            term: metrics.current_term,
            leader,
            last_log: metrics.last_log_index.unwrap_or(0),
            applied: metrics.last_applied.map_or(0, |id| id.index),
            snapshot: metrics.snapshot.map_or(0, |id| id.index),
            purged: metrics.purged.map_or(0, |id| id.index),
            quorum_ack_ms: metrics.millis_since_quorum_ack,
            members,
            failure,
        }
    }

    /// Whether this member leads.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.role == MemberRole::Leader
    }

    /// Ids of the voters.
    pub fn voters(&self) -> impl Iterator<Item = u64> + '_ {
        self.members.iter().filter(|member| member.voter).map(|member| member.id)
    }

    pub(crate) fn peer(&self, digests: Vec<StateDigest>) -> PeerStatus {
        PeerStatus {
            member_id: self.member_id,
            role: self.role,
            term: self.term,
            leader: self.leader.as_ref().map(|(id, _)| *id),
            last_log: self.last_log,
            applied: self.applied,
            snapshot: self.snapshot,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            digests,
        }
    }
}

/// Waits for changes of a node's status.
#[derive(Debug)]
pub struct StatusWatch {
    pub(super) metrics: watch::Receiver<RaftMetrics<u64, BasicNode>>,
}

impl StatusWatch {
    /// The status now; marks it as seen.
    #[must_use]
    pub fn current(&mut self) -> RaftStatus {
        RaftStatus::new(&self.metrics.borrow_and_update())
    }

    /// The next status that differs from what was seen; `None` when the node is gone.
    pub async fn changed(&mut self) -> Option<RaftStatus> {
        self.metrics.changed().await.ok()?;
        Some(self.current())
    }
}
