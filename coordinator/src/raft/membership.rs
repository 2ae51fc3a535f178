//! Changing who belongs to the cluster (R6): learner first, then healthy and caught up, then voter; one at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::error::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{BasicNode, ChangeMembers};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::config::RaftConfig;
use super::error::MembershipError;
use super::network::Network;
use super::status::{MemberRole, RaftStatus};
use super::transport::{Header, PeerReply, PeerRequest};
use super::types::Raft;

/// A member that does not answer a status call within this is not reachable.
const STATUS_DEADLINE: Duration = Duration::from_secs(2);

/// Longest time between two looks at a learner.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A learner this many entries behind counts as caught up: the log moves on while we look.
pub(super) const CAUGHT_UP: u64 = 64;

/// Makes the changes; clones share the one-at-a-time lock.
#[derive(Clone)]
pub(crate) struct Changer {
    pub(crate) raft: Raft,
    pub(crate) network: Network,
    pub(crate) config: RaftConfig,
    pub(crate) one: Arc<Mutex<()>>,
}

impl Changer {
    pub(super) fn status(&self) -> RaftStatus {
        RaftStatus::new(&self.raft.metrics().borrow())
    }

    fn leading(&self) -> Result<RaftStatus, MembershipError> {
        let status = self.status();
        if !status.is_leader() {
            return Err(MembershipError::NotLeader { leader: status.leader });
        }
        Ok(status)
    }

    /// Adds a member without a vote; it starts to receive the log.
    pub(crate) async fn add_learner(&self, id: u64, address: String) -> Result<(), MembershipError> {
        let _one = self.one.try_lock().map_err(|_| MembershipError::InProgress)?;
        self.leading()?;
        // Not blocking: openraft would wait without end for a member that never comes; `promote` waits with a limit.
        let nodes = BTreeMap::from([(id, BasicNode { addr: address })]);
        self.change(ChangeMembers::AddNodes(nodes)).await
    }

    /// Gives a learner a vote, after it caught up and stayed healthy for `promote_after`.
    pub(crate) async fn promote(&self, id: u64) -> Result<(), MembershipError> {
        let _one = self.one.try_lock().map_err(|_| MembershipError::InProgress)?;
        let status = self.leading()?;
        if !status.members.iter().any(|member| member.id == id && !member.voter) {
            return Err(MembershipError::NotLearner(id));
        }
        self.wait_caught_up(id).await?;
        let mut voters: BTreeSet<u64> = self.leading()?.voters().collect();
        voters.insert(id);
        self.require_majority(&voters).await?;
        self.change(ChangeMembers::AddVoterIds(BTreeSet::from([id]))).await
    }

    /// Takes a member out, voter or learner.
    pub(crate) async fn remove(&self, id: u64) -> Result<(), MembershipError> {
        let _one = self.one.try_lock().map_err(|_| MembershipError::InProgress)?;
        let status = self.leading()?;
        let Some(member) = status.members.iter().find(|member| member.id == id) else {
            return Err(MembershipError::NotMember(id));
        };
        let ids = BTreeSet::from([id]);
        if !member.voter {
            return self.change(ChangeMembers::RemoveNodes(ids)).await;
        }
        let voters: BTreeSet<u64> = status.voters().filter(|voter| *voter != id).collect();
        if voters.is_empty() {
            return Err(MembershipError::LastVoter);
        }
        self.require_majority(&voters).await?;
        // Without `retain` the member leaves altogether; its id is never used again.
        self.change(ChangeMembers::RemoveVoters(ids)).await
    }

    async fn change(&self, change: ChangeMembers<u64, BasicNode>) -> Result<(), MembershipError> {
        let timeout = self.config.propose_timeout;
        match tokio::time::timeout(timeout, self.raft.change_membership(change, false)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => {
                Err(MembershipError::Unknown("leadership was lost".to_owned()))
            }
            Ok(Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(error)))) => {
                Err(match error {
                    ChangeMembershipError::InProgress(_) => MembershipError::InProgress,
                    ChangeMembershipError::EmptyMembership(_) => MembershipError::LastVoter,
                    ChangeMembershipError::LearnerNotFound(error) => {
                        MembershipError::NotLearner(error.node_id)
                    }
                })
            }
            Ok(Err(RaftError::Fatal(error))) => Err(MembershipError::Unknown(error.to_string())),
            Err(_) => Err(MembershipError::Unknown(format!("not committed within {timeout:?}"))),
        }
    }

    async fn wait_caught_up(&self, id: u64) -> Result<(), MembershipError> {
        let deadline = Instant::now() + self.config.promote_timeout;
        let mut since: Option<Instant> = None;
        loop {
            let status = self.leading()?;
            let matched =
                status.members.iter().find(|member| member.id == id).and_then(|member| member.matched);
            let close = matched.is_some_and(|matched| matched.saturating_add(CAUGHT_UP) >= status.last_log);
            let healthy = close && self.answers(id).await;
            since = if healthy { since.or_else(|| Some(Instant::now())) } else { None };
            if since.is_some_and(|since| since.elapsed() >= self.config.promote_after) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let reason = format!("at {matched:?} of {}, answering: {healthy}", status.last_log);
                return Err(MembershipError::NotCaughtUp { id, reason });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Refuses a change after which no majority would answer.
    async fn require_majority(&self, voters: &BTreeSet<u64>) -> Result<(), MembershipError> {
        let calls = voters.iter().map(|id| self.answers(*id));
        let reachable = futures::future::join_all(calls).await.into_iter().filter(|answers| *answers).count();
        let needed = voters.len() / 2 + 1;
        if reachable < needed {
            return Err(MembershipError::NoMajority { voters: voters.len(), reachable, needed });
        }
        Ok(())
    }

    pub(super) async fn answers(&self, id: u64) -> bool {
        let status = self.status();
        if id == status.member_id {
            return true;
        }
        let Some(member) = status.members.iter().find(|member| member.id == id) else {
            return false;
        };
        let header =
            Header { cluster_id: self.network.cluster_id, sender_id: status.member_id, target_id: id };
        let call = self.network.transport.call(header, &member.address, PeerRequest::Status, STATUS_DEADLINE);
        match tokio::time::timeout(STATUS_DEADLINE, call).await {
            Ok(Ok(PeerReply::Status(peer))) => peer.role != MemberRole::Failed,
            Ok(Ok(_) | Err(_)) | Err(_) => false,
        }
    }
}
