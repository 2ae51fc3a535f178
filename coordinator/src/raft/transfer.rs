//! Handing leadership over to a voter that is known to have everything.
//!
//! openraft 0.9 has no transfer of its own, and a voter refuses to vote while the lease of a leader runs that it hears. So
//! the leader first lets nothing more into the log and waits until the successor has all of it; then it asks the successor
//! to stand. Its own vote and the successor's are a majority of up to three voters at once: the gap is one election, some
//! milliseconds. With more voters the leader falls silent first and waits until the lease is over with all of them; the
//! successor stands before anybody else would (`succession`), and the gap is a lease long.
//!
//! Must never let a write in between the look at the successor's log and its election, leave the gate closed or the
//! heartbeats off when it failed, or say that somebody leads who has not shown it by a commit.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::RwLock;
use tokio::time::Instant;

use super::error::TransferError;
use super::machine::Machine;
use super::membership::{CAUGHT_UP, Changer};
use super::node::RaftNode;
use super::status::RaftStatus;
use super::transport::{Header, PeerError, PeerReply, PeerRequest};
use super::types::Raft;

/// What writes and confirmations of reads pass through; held closed while leadership moves.
pub(crate) type Gate = Arc<RwLock<()>>;

/// How long the last write under way, and the successor's copy of it, may take.
const SETTLE: Duration = Duration::from_secs(5);

/// A voter's answer to the request to stand.
const STAND: Duration = Duration::from_secs(2);

/// Between two looks at a number that changes without a word.
const LOOK: Duration = Duration::from_millis(5);

/// Leadership as it is after a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transferred {
    /// Who leads.
    pub leader: u64,
    /// Its term.
    pub term: u64,
    /// From the last moment a write could be taken to the first one it could be taken again.
    pub without_leader: Duration,
}

impl<M: Machine> RaftNode<M> {
    /// Checks whether leadership could be handed over now, and to whom: the voter named, or the one that has most.
    ///
    /// # Errors
    /// [`TransferError`]; nothing was done.
    pub async fn successor(&self, to: Option<u64>) -> Result<u64, TransferError> {
        let changer = self.changer();
        let status = leading(changer)?;
        let me = status.member_id;
        let voters: Vec<_> = status.members.iter().filter(|member| member.voter).collect();
        let others: Vec<_> = voters.iter().filter(|member| member.id != me).collect();
        if let Some(to) = to
            && others.iter().all(|member| member.id != to)
        {
            return Err(TransferError::NotVoter(to));
        }
        if others.is_empty() {
            return Err(TransferError::Alone);
        }
        let asked = others.iter().map(|member| async { (**member, changer.answers(member.id).await) });
        let asked = futures::future::join_all(asked).await;
        let mut up: Vec<_> = asked.into_iter().filter(|(_, up)| *up).map(|(member, _)| member).collect();
        if let Some(to) = to
            && up.iter().all(|member| member.id != to)
        {
            return Err(TransferError::Down(to));
        }
        let (voters, up_now, needed) = (voters.len(), up.len() + 1, voters.len() / 2 + 1);
        if up_now < needed {
            return Err(TransferError::NoMajority { voters, up: up_now, needed });
        }
        // Who has most, and of those the one with the smallest number.
        up.sort_by_key(|member| (std::cmp::Reverse(member.matched), member.id));
        let chosen = match to {
            Some(to) => up.iter().find(|member| member.id == to),
            None => up.first(),
        };
        let chosen = chosen.ok_or(TransferError::Alone)?;
        let matched = chosen.matched.unwrap_or(0);
        // The rest is sent while writes wait; beyond the entries that are kept it might take a snapshot.
        if matched.saturating_add(changer.config.keep_entries) < status.last_log {
            return Err(TransferError::Behind { id: chosen.id, matched, last: status.last_log });
        }
        Ok(chosen.id)
    }

    /// Whether a learner answers and is as close behind as one that is given a vote.
    ///
    /// # Errors
    /// [`TransferError`].
    pub async fn caught_up(&self, id: u64) -> Result<(), TransferError> {
        let changer = self.changer();
        let status = leading(changer)?;
        let member = status.members.iter().find(|member| member.id == id);
        let member = member.ok_or(TransferError::Down(id))?;
        if !changer.answers(id).await {
            return Err(TransferError::Down(id));
        }
        let matched = member.matched.unwrap_or(0);
        if !member.voter && matched.saturating_add(CAUGHT_UP) < status.last_log {
            return Err(TransferError::Behind { id, matched, last: status.last_log });
        }
        Ok(())
    }

    /// Hands leadership over to the voter named, or to the best one, and comes back when that one has committed something.
    ///
    /// # Errors
    /// [`TransferError`]. Whatever it says, no write that was acknowledged is lost, and this member leads on if nobody
    /// else does.
    pub async fn transfer_leader(&self, to: Option<u64>) -> Result<Transferred, TransferError> {
        let changer = self.changer();
        let _one = changer.one.try_lock().map_err(|_| TransferError::InProgress)?;
        let to = self.successor(to).await?;
        let voters = changer.status().voters().count();
        let lease = changer.config.election_max;
        // Its own lease, from its own election on: nothing waits yet.
        self.wait_lease(lease).await?;
        let closed = tokio::time::timeout(SETTLE, Arc::clone(self.gate()).write_owned()).await;
        let closed = closed.map_err(|_| TransferError::Unknown("a write takes too long".to_owned()))?;
        let begun = Instant::now();
        let outcome = self.elect(to, voters, lease).await;
        drop(closed);
        let (leader, term) = outcome?;
        // A commit of the new leader is the proof, and the moment from which on writes are taken again.
        let proved = self.read_index().await;
        proved.map_err(|error| TransferError::Unknown(error.to_string()))?;
        let done = Transferred { leader, term, without_leader: begun.elapsed() };
        tracing::info!(leader, term, gap = ?done.without_leader, "leadership was handed over");
        Ok(done)
    }

    /// The election itself, while the gate is closed.
    async fn elect(&self, to: u64, voters: usize, lease: Duration) -> Result<(u64, u64), TransferError> {
        let changer = self.changer();
        let status = self.settled(to).await?;
        // This member's vote and the successor's: a majority of two and of three.
        let silence = (voters / 2 + 1 > 2).then(|| Silence::begin(&changer.raft));
        if silence.is_some() {
            // One beat may have been sent just now; a quarter of the next one is before anybody stands by himself.
            tokio::time::sleep(lease + changer.config.heartbeat / 4).await;
        }
        let address = status.members.iter().find(|member| member.id == to).map(|m| m.address.clone());
        let header =
            Header { cluster_id: changer.network.cluster_id, sender_id: status.member_id, target_id: to };
        let request = PeerRequest::Stand { term: status.term };
        let call = changer.network.transport.call(header, address.as_deref().unwrap_or(""), request, STAND);
        match call.await {
            // A reply that was lost says nothing: look who leads.
            Ok(PeerReply::Standing) | Err(PeerError::NoReply(_)) => {}
            Ok(_) => return Err(unwilling(to, "a reply of another kind")),
            Err(error @ (PeerError::Refused(_) | PeerError::Unreachable(_))) => {
                return Err(unwilling(to, &error.to_string()));
            }
        }
        let limit = lease + changer.config.election_max;
        let mut watch = self.watch();
        let elected = async {
            loop {
                let now = watch.current();
                if let Some((leader, _)) = &now.leader
                    && now.term > status.term
                {
                    return Ok((*leader, now.term));
                }
                if watch.changed().await.is_none() {
                    return Err(TransferError::Unknown("this member has stopped".to_owned()));
                }
            }
        };
        let leader = |status: &RaftStatus| status.leader.as_ref().map(|(id, _)| *id);
        match tokio::time::timeout(limit, elected).await {
            Ok(Ok((id, term))) if id == to => Ok((id, term)),
            Ok(Ok((other, _))) => Err(TransferError::NotElected { id: to, leader: Some(other), limit }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(TransferError::NotElected { id: to, leader: leader(&self.status()), limit }),
        }
    }

    /// Waits until the successor has the whole log, which no longer grows.
    async fn settled(&self, to: u64) -> Result<RaftStatus, TransferError> {
        let deadline = Instant::now() + SETTLE;
        loop {
            let status = leading(self.changer())?;
            let matched = status.members.iter().find(|m| m.id == to).and_then(|m| m.matched).unwrap_or(0);
            if matched >= status.last_log && status.applied >= status.last_log {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                return Err(TransferError::Behind { id: to, matched, last: status.last_log });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// A leader votes for another one only when the lease from its own election on is over.
    async fn wait_lease(&self, lease: Duration) -> Result<(), TransferError> {
        let stopped = || TransferError::Unknown("this member has stopped".to_owned());
        let elected = self.changer().raft.with_raft_state(|state| state.vote_last_modified()).await;
        if let Some(elected) = elected.map_err(|_| stopped())? {
            tokio::time::sleep_until(elected + lease + LOOK).await;
        }
        leading(self.changer()).map(drop)
    }
}

/// No heartbeats while it lives: also when whoever waits for the transfer gives up in the middle.
struct Silence<'a>(&'a Raft);

impl<'a> Silence<'a> {
    fn begin(raft: &'a Raft) -> Self {
        raft.runtime_config().heartbeat(false);
        Self(raft)
    }
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        self.0.runtime_config().heartbeat(true);
    }
}

fn leading(changer: &Changer) -> Result<RaftStatus, TransferError> {
    let status = changer.status();
    if status.is_leader() { Ok(status) } else { Err(TransferError::NotLeader) }
}

fn unwilling(id: u64, why: &str) -> TransferError {
    TransferError::Unwilling { id, why: why.to_owned() }
}
