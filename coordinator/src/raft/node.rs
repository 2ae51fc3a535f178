//! One member: proposing, reading, changing membership, stopping.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use openraft::BasicNode;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::store::{Blocking, Identity, LogBytes, Slot};

use super::codec;
use super::config::RaftConfig;
use super::error::{Failure, MembershipError, ProposeError, ReadError, StartError};
use super::handler::PeerHandler;
use super::machine::{Machine, StateHandle};
use super::membership::Changer;
use super::network::Network;
use super::proposer::MAX_COMMAND;
use super::status::{Counters, RaftStatus, StatusWatch};
use super::transfer::Gate;
use super::transport::{Header, PeerError, PeerReply, PeerRequest, Refusal};
use super::types::Raft;

mod start;

/// Longest pause before asking again who leads, when the metrics do not change by themselves.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// A running member. Clones are the same member.
pub struct RaftNode<M: Machine> {
    inner: Arc<Inner<M>>,
}

struct Inner<M: Machine> {
    identity: Identity,
    raft: Raft,
    state: StateHandle<M>,
    log: LogBytes,
    committed: Slot,
    blocking: Blocking,
    handler: PeerHandler,
    changer: Changer,
    network: Network,
    config: RaftConfig,
    stop: CancellationToken,
    /// Why this member must not go on, as found by comparing it with the others.
    alone: watch::Receiver<Option<String>>,
}

impl<M: Machine> Clone for RaftNode<M> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<M: Machine> std::fmt::Debug for RaftNode<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RaftNode").field("identity", &self.inner.identity).finish_non_exhaustive()
    }
}

impl<M: Machine> RaftNode<M> {
    /// Makes this member the first and only voter of a new cluster. Once, by explicit command.
    ///
    /// # Errors
    /// [`StartError::AlreadyInitialized`].
    pub async fn bootstrap(&self, address: &str) -> Result<(), StartError> {
        let nodes = std::collections::BTreeMap::from([(self.id(), BasicNode { addr: address.to_owned() })]);
        match self.inner.raft.initialize(nodes).await {
            Ok(()) => Ok(()),
            Err(openraft::error::RaftError::APIError(_)) => Err(StartError::AlreadyInitialized),
            Err(openraft::error::RaftError::Fatal(error)) => Err(StartError::Raft(error.to_string())),
        }
    }

    /// Id of this member.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.inner.identity.member_id
    }

    /// Cluster and member.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.inner.identity
    }

    /// Read access to the replicated state of this member, as far as it has applied the log.
    #[must_use]
    pub fn state(&self) -> &StateHandle<M> {
        &self.inner.state
    }

    /// Changes with each applied log entry; the value is its index.
    #[must_use]
    pub fn revisions(&self) -> watch::Receiver<u64> {
        self.inner.state.revisions()
    }

    /// What the peer service hands its requests to.
    #[must_use]
    pub fn handler(&self) -> PeerHandler {
        self.inner.handler.clone()
    }

    /// The cluster as this member sees it now.
    #[must_use]
    pub fn status(&self) -> RaftStatus {
        RaftStatus::new(&self.inner.raft.metrics().borrow())
    }

    /// Waits for the next change of [`RaftNode::status`]; a stream of changes is a loop around it.
    #[must_use]
    pub fn watch(&self) -> StatusWatch {
        StatusWatch { metrics: self.inner.raft.metrics() }
    }

    /// What durability has cost so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let (proposed, reads) = (&self.inner.handler.proposer.counts, &self.inner.handler.reader.counts);
        Counters {
            store: self.inner.log.durable().counters(),
            committed_writes: self.inner.committed.sync_writes(),
            batches: proposed.batches.load(Ordering::Relaxed),
            commands: proposed.commands.load(Ordering::Relaxed),
            read_rounds: reads.rounds.load(Ordering::Relaxed),
            reads: reads.reads.load(Ordering::Relaxed),
        }
    }

    /// Whether the disk has room for new work.
    ///
    /// # Errors
    /// [`quorate_durable::LowSpace`]: answer `RESOURCE_EXHAUSTED` to new mutations.
    pub fn check_space(&self) -> Result<(), quorate_durable::LowSpace> {
        self.inner.log.durable().check_space()
    }

    /// Bytes of the log store's files.
    #[must_use]
    pub fn log_bytes_on_disk(&self) -> u64 {
        self.inner.log.durable().size_on_disk()
    }

    /// Proposes a command, on this member or through the leader, and returns its log index and answer. The command
    /// carries its original principal; the leader authorizes it again.
    ///
    /// # Errors
    /// [`ProposeError`]; only [`ProposeError::nothing_written`] ones may be retried blindly.
    pub async fn propose(&self, command: &M::Command) -> Result<(u64, M::Answer), ProposeError> {
        let bytes = Bytes::from(codec::encode("command", command)?);
        if bytes.len() > MAX_COMMAND {
            return Err(ProposeError::TooLarge { bytes: bytes.len(), max: MAX_COMMAND });
        }
        let deadline = Instant::now() + self.inner.config.propose_timeout;
        let mut metrics = self.inner.raft.metrics();
        loop {
            metrics.borrow_and_update();
            let status = self.status();
            let attempt = match status.leader.clone() {
                _ if status.failure.is_some() => return Err(ProposeError::Stopped),
                None => Err(ProposeError::NotLeader { leader: None }),
                Some((id, _)) if id == self.id() => self.inner.handler.proposer.submit(bytes.clone()).await,
                Some((id, address)) => self.forward(id, &address, bytes.clone(), deadline).await,
            };
            match attempt {
                Ok((index, answer)) => return Ok((index, codec::decode("answer", &answer)?)),
                Err(error @ ProposeError::NotLeader { .. }) if Instant::now() + ASK_AGAIN >= deadline => {
                    return Err(error);
                }
                Err(ProposeError::NotLeader { .. }) => {
                    // Nothing was written; wait until somebody else leads, or a moment.
                    drop(tokio::time::timeout(ASK_AGAIN, metrics.changed()).await);
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn forward(
        &self,
        leader: u64,
        address: &str,
        command: Bytes,
        deadline: Instant,
    ) -> Result<(u64, Bytes), ProposeError> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.call(leader, address, PeerRequest::Propose(command), left).await {
            Ok(PeerReply::Applied { index, answer }) => Ok((index, answer)),
            Ok(PeerReply::NotLeader(leader)) => Err(ProposeError::NotLeader { leader }),
            Ok(PeerReply::Unknown(reason)) => Err(ProposeError::Unknown(reason)),
            Ok(PeerReply::Overloaded(reason)) => Err(ProposeError::Overloaded(reason)),
            Ok(
                PeerReply::Raft(_)
                | PeerReply::ReadIndex(_)
                | PeerReply::Observations(_)
                | PeerReply::Leases(_)
                | PeerReply::Status(_)
                | PeerReply::Digests { .. }
                | PeerReply::Standing,
            ) => Err(ProposeError::Malformed("a reply of another kind".to_owned())),
            // Not sent, or not taken: somebody else may lead.
            Err(PeerError::Unreachable(_) | PeerError::Refused(Refusal::Unavailable(_))) => {
                Err(ProposeError::NotLeader { leader: None })
            }
            Err(PeerError::Refused(Refusal::Denied(reason) | Refusal::Invalid(reason))) => {
                Err(ProposeError::Refused(reason))
            }
            Err(PeerError::NoReply(reason)) => Err(ProposeError::Unknown(reason)),
        }
    }

    /// The log index from which on a read of [`RaftNode::state`] is linearizable; this member has applied it when the
    /// answer comes. Concurrent callers share the leader's confirmation.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn read_index(&self) -> Result<u64, ReadError> {
        let deadline = Instant::now() + self.inner.config.read_timeout;
        let mut metrics = self.inner.raft.metrics();
        let index = loop {
            metrics.borrow_and_update();
            let attempt = match self.status().leader {
                None => Err(ReadError::NotLeader { leader: None }),
                Some((id, _)) if id == self.id() => self.inner.handler.reader.index().await,
                Some((id, address)) => self.ask_index(id, &address, deadline).await,
            };
            match attempt {
                Ok(index) => break index,
                Err(error @ ReadError::NotLeader { .. }) if Instant::now() + ASK_AGAIN >= deadline => {
                    return Err(error);
                }
                Err(ReadError::NotLeader { .. }) => {
                    drop(tokio::time::timeout(ASK_AGAIN, metrics.changed()).await);
                }
                Err(error) => return Err(error),
            }
        };
        self.wait_applied(index, deadline.saturating_duration_since(Instant::now())).await?;
        Ok(index)
    }

    async fn ask_index(&self, leader: u64, address: &str, deadline: Instant) -> Result<u64, ReadError> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.call(leader, address, PeerRequest::ReadIndex, left).await {
            Ok(PeerReply::ReadIndex(index)) => Ok(index),
            Ok(PeerReply::NotLeader(leader)) => Err(ReadError::NotLeader { leader }),
            Ok(_) => Err(ReadError::Unavailable("a reply of another kind".to_owned())),
            Err(PeerError::Unreachable(_)) => Err(ReadError::NotLeader { leader: None }),
            Err(error) => Err(ReadError::Unavailable(error.to_string())),
        }
    }

    /// Waits until this member has applied `index`, for instance one that [`RaftNode::propose`] returned.
    ///
    /// # Errors
    /// [`ReadError::Unavailable`] when it has not within `timeout`.
    pub async fn wait_applied(&self, index: u64, timeout: Duration) -> Result<(), ReadError> {
        let mut applied = self.inner.state.revisions();
        let wait = applied.wait_for(|applied| *applied >= index);
        match tokio::time::timeout(timeout, wait).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(ReadError::Stopped),
            Err(_) => Err(ReadError::Unavailable(format!("index {index} not applied within {timeout:?}"))),
        }
    }

    /// Hands the leader what this member's sessions observed; returns its answer. Not for the leader itself.
    ///
    /// # Errors
    /// [`PeerError`]; observations are level, so the next report makes up for a lost one.
    pub async fn report_observations(&self, payload: Bytes, timeout: Duration) -> Result<Bytes, PeerError> {
        let Some((leader, address)) = self.status().leader.filter(|(id, _)| *id != self.id()) else {
            return Err(PeerError::Unreachable("no other member leads".to_owned()));
        };
        match self.call(leader, &address, PeerRequest::Observations(payload), timeout).await? {
            PeerReply::Observations(answer) => Ok(answer),
            _ => Err(PeerError::NoReply("a reply of another kind".to_owned())),
        }
    }

    /// Hands the leader renewals of leases; returns its answer. Not for the leader itself.
    ///
    /// # Errors
    /// [`PeerError`]; a renewal that nobody answers extends nothing, and its host asks again.
    pub async fn renew_leases(&self, payload: Bytes, timeout: Duration) -> Result<Bytes, PeerError> {
        let Some((leader, address)) = self.status().leader.filter(|(id, _)| *id != self.id()) else {
            return Err(PeerError::Unreachable("no other member leads".to_owned()));
        };
        match self.call(leader, &address, PeerRequest::Leases(payload), timeout).await? {
            PeerReply::Leases(answer) => Ok(answer),
            _ => Err(PeerError::NoReply("a reply of another kind".to_owned())),
        }
    }

    /// Proves that this member itself leads, at a moment after the call, and waits until it has applied all that was committed
    /// before. Unlike [`RaftNode::read_index`] it never asks another member.
    ///
    /// # Errors
    /// [`ReadError`]; then nothing is known.
    pub async fn prove_lead(&self) -> Result<u64, ReadError> {
        let deadline = Instant::now() + self.inner.config.read_timeout;
        let index = self.inner.handler.reader.index().await?;
        self.wait_applied(index, deadline.saturating_duration_since(Instant::now())).await?;
        Ok(index)
    }

    /// Asks a member how it sees itself.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn peer_status(
        &self,
        member: u64,
        address: &str,
        timeout: Duration,
    ) -> Result<super::transport::PeerStatus, PeerError> {
        match self.call(member, address, PeerRequest::Status, timeout).await? {
            PeerReply::Status(status) => Ok(status),
            _ => Err(PeerError::NoReply("a reply of another kind".to_owned())),
        }
    }

    pub(super) async fn call(
        &self,
        target_id: u64,
        address: &str,
        request: PeerRequest,
        timeout: Duration,
    ) -> Result<PeerReply, PeerError> {
        let header = Header { cluster_id: self.inner.identity.cluster_id, sender_id: self.id(), target_id };
        let call = self.inner.network.transport.call(header, address, request, timeout);
        match tokio::time::timeout(timeout, call).await {
            Ok(outcome) => outcome,
            Err(_) => Err(PeerError::NoReply(format!("none within {timeout:?}"))),
        }
    }

    /// Adds a member that receives the log but has no vote. On the leader; the id was handed out by the state machine.
    ///
    /// # Errors
    /// [`MembershipError`].
    pub async fn add_learner(&self, id: u64, address: &str) -> Result<(), MembershipError> {
        self.inner.changer.add_learner(id, address.to_owned()).await
    }

    /// Gives a learner a vote once it caught up and stayed healthy. On the leader.
    ///
    /// # Errors
    /// [`MembershipError`].
    pub async fn promote(&self, id: u64) -> Result<(), MembershipError> {
        self.inner.changer.promote(id).await
    }

    /// Takes a member out of the cluster. On the leader.
    ///
    /// # Errors
    /// [`MembershipError`].
    pub async fn remove(&self, id: u64) -> Result<(), MembershipError> {
        self.inner.changer.remove(id).await
    }

    pub(super) fn changer(&self) -> &Changer {
        &self.inner.changer
    }

    pub(super) fn gate(&self) -> &Gate {
        &self.inner.handler.gate
    }

    /// Makes a snapshot now, in the background.
    ///
    /// # Errors
    /// [`ReadError::Stopped`].
    pub async fn snapshot(&self) -> Result<(), ReadError> {
        self.inner.raft.trigger().snapshot().await.map_err(|_| ReadError::Stopped)
    }

    /// Resolves when the node has stopped by itself (R8, I-7), with the reason: the process must then exit non-zero.
    pub async fn failed(&self) -> Failure {
        let mut metrics = self.inner.raft.metrics();
        loop {
            if self.inner.stop.is_cancelled() {
                // An orderly shutdown is no failure: never resolve.
                return std::future::pending().await;
            }
            if let Some(why) = &*self.inner.alone.borrow() {
                return Failure::Diverged(why.clone());
            }
            if let Err(error) = &metrics.borrow_and_update().running_state {
                return Failure::Stopped(error.to_string());
            }
            if metrics.changed().await.is_err() {
                return Failure::Stopped("the Raft core is gone".to_owned());
            }
        }
    }

    /// Stops in order: no more requests, the log written and closed. Idempotent.
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        if let Err(error) = self.inner.raft.shutdown().await {
            tracing::error!(%error, "the Raft core did not stop in order");
        }
        let store = self.inner.log.durable().clone();
        if let Err(error) = self.inner.blocking.run(move || store.close()).await {
            tracing::error!(%error, "the log store did not close in order");
        }
    }
}
