//! The receiving side of the peer protocol: checks who speaks (R5) and what is impossible, then hands over to openraft.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::future::BoxFuture;
use openraft::error::{InstallSnapshotError, RaftError, SnapshotMismatch};
use openraft::raft::{AppendEntriesRequest, InstallSnapshotRequest, InstallSnapshotResponse, VoteRequest};
use openraft::{RaftLogId, SnapshotSegmentId};

use crate::store::{Identity, MAX_SNAPSHOT_BYTES};

use super::codec;
use super::error::{ProposeError, ReadError};
use super::network::Chunk;
use super::proposer::Proposer;
use super::reader::Reader;
use super::replicas::{Digests, StateDigest};
use super::status::RaftStatus;
use super::transfer::Gate;
use super::transport::{Header, PeerReply, PeerRequest, Refusal};
use super::types::{Raft, Types, Vote};

/// A term this far ahead is not an election gone wrong but a broken or hostile member; following it would use up the
/// term space.
const MAX_TERM_JUMP: u64 = 1_000_000;

/// Entries of one append request; ours carry at most 256.
const MAX_ENTRIES: usize = 1024;

/// Bytes of one snapshot chunk; ours carry 512 KiB.
const MAX_CHUNK: usize = 1 << 20;

/// What the rest of the coordinator has to say about requests of other members.
pub trait Hooks<C>: Send + Sync + 'static {
    /// Whether a command forwarded by `sender` may be proposed. The leader decides anew, by the command's own principal.
    ///
    /// # Errors
    /// The reason for the refusal.
    fn admit(&self, sender: u64, command: &C) -> Result<(), String>;

    /// Takes what the sessions of `sender` observed; returns the leader's answer.
    ///
    /// # Errors
    /// [`Refusal`], for instance when this member does not lead.
    fn observations(&self, sender: u64, payload: Bytes) -> Result<Bytes, Refusal>;

    /// Takes renewals of leases that came over the sessions of `sender`; returns what became of them.
    fn leases(&self, sender: u64, payload: Bytes) -> BoxFuture<'static, Result<Bytes, Refusal>>;
}

/// Admits everything and takes no observations.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHooks;

impl<C> Hooks<C> for NoHooks {
    fn admit(&self, _sender: u64, _command: &C) -> Result<(), String> {
        Ok(())
    }

    fn observations(&self, _sender: u64, _payload: Bytes) -> Result<Bytes, Refusal> {
        Err(Refusal::Unavailable("observations are not taken here".to_owned()))
    }

    fn leases(&self, _sender: u64, _payload: Bytes) -> BoxFuture<'static, Result<Bytes, Refusal>> {
        Box::pin(async { Err(Refusal::Unavailable("leases are not renewed here".to_owned())) })
    }
}

pub(crate) type Admit = Arc<dyn Fn(u64, &Bytes) -> Result<(), Refusal> + Send + Sync>;
pub(crate) type Renew = Arc<dyn Fn(u64, Bytes) -> BoxFuture<'static, Result<Bytes, Refusal>> + Send + Sync>;
pub(crate) type Observe = Arc<dyn Fn(u64, Bytes) -> Result<Bytes, Refusal> + Send + Sync>;

/// Hashes the state as it is.
pub(crate) type Digest = Arc<dyn Fn() -> BoxFuture<'static, Result<StateDigest, String>> + Send + Sync>;

/// Where a snapshot transfer of one sender stands: its id, and the offset that comes next.
type Transfers = Mutex<BTreeMap<u64, (String, u64)>>;

/// Answers requests of other members. Cheap to clone.
#[derive(Clone)]
pub struct PeerHandler {
    pub(crate) identity: Identity,
    pub(crate) raft: Raft,
    pub(crate) proposer: Proposer,
    pub(crate) reader: Reader,
    pub(crate) admit: Admit,
    pub(crate) observe: Observe,
    pub(crate) renew: Renew,
    pub(crate) transfers: Arc<Transfers>,
    pub(crate) digests: Digests,
    pub(crate) digest: Digest,
    pub(crate) gate: Gate,
}

impl std::fmt::Debug for PeerHandler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerHandler").field("identity", &self.identity).finish_non_exhaustive()
    }
}

fn invalid(error: impl std::fmt::Display) -> Refusal {
    Refusal::Invalid(error.to_string())
}

fn reply<T: serde::Serialize>(outcome: &T) -> Result<PeerReply, Refusal> {
    let bytes =
        codec::encode("peer reply", outcome).map_err(|error| Refusal::Unavailable(error.to_string()))?;
    Ok(PeerReply::Raft(Bytes::from(bytes)))
}

impl PeerHandler {
    /// Answers one request. `certified` is the member id in the sender's certificate.
    ///
    /// # Errors
    /// [`Refusal`], before anything was done.
    pub async fn handle(
        &self,
        certified: u64,
        header: Header,
        request: PeerRequest,
    ) -> Result<PeerReply, Refusal> {
        self.check(certified, header)?;
        match request {
            PeerRequest::Append { payload, .. } => self.append(header.sender_id, &payload).await,
            PeerRequest::Vote(payload) => self.vote(header.sender_id, &payload).await,
            PeerRequest::Snapshot { payload, data, crc } => {
                self.snapshot(header.sender_id, &payload, data, crc).await
            }
            PeerRequest::Propose(command) => self.propose(header.sender_id, command).await,
            PeerRequest::ReadIndex => self.read_index().await,
            PeerRequest::Observations(payload) => {
                (self.observe)(header.sender_id, payload).map(PeerReply::Observations)
            }
            PeerRequest::Leases(payload) => {
                (self.renew)(header.sender_id, payload).await.map(PeerReply::Leases)
            }
            PeerRequest::Status => {
                let status = RaftStatus::new(&self.raft.metrics().borrow());
                Ok(PeerReply::Status(status.peer(self.digests.list())))
            }
            PeerRequest::Digest => {
                let now = (self.digest)().await.map_err(Refusal::Unavailable)?;
                let digests = std::iter::once(now).chain(self.digests.list()).collect();
                Ok(PeerReply::Digests { digests, version: env!("CARGO_PKG_VERSION").to_owned() })
            }
            PeerRequest::Stand { term } => self.stand(header.sender_id, term).await,
        }
    }

    pub(crate) fn check(&self, certified: u64, header: Header) -> Result<(), Refusal> {
        let denied = |text: String| {
            tracing::warn!(sender = header.sender_id, certified, "refused a peer request: {text}");
            Err(Refusal::Denied(text))
        };
        if header.cluster_id != self.identity.cluster_id {
            return denied("this member belongs to another cluster".to_owned());
        }
        if header.target_id != self.identity.member_id {
            return denied(format!(
                "meant for member {}, this is {}",
                header.target_id, self.identity.member_id
            ));
        }
        if header.sender_id != certified || certified == self.identity.member_id {
            return denied(format!("sent as member {}, certificate of member {certified}", header.sender_id));
        }
        Ok(())
    }

    /// A vote in a request must be the sender's own, and of a believable term.
    fn check_vote(&self, sender: u64, vote: &Vote) -> Result<(), Refusal> {
        let id = vote.leader_id();
        if id.node_id != sender {
            return Err(Refusal::Invalid(format!(
                "member {sender} speaks with the vote of member {}",
                id.node_id
            )));
        }
        let current = self.raft.metrics().borrow().current_term;
        if id.term > current.saturating_add(MAX_TERM_JUMP) {
            tracing::error!(sender, term = id.term, current, "refused a jump of the term");
            return Err(Refusal::Invalid(format!("term {} is too far beyond {current}", id.term)));
        }
        Ok(())
    }

    async fn append(&self, sender: u64, payload: &[u8]) -> Result<PeerReply, Refusal> {
        let request: AppendEntriesRequest<Types> =
            codec::decode("append request", payload).map_err(invalid)?;
        self.check_vote(sender, &request.vote)?;
        if request.entries.len() > MAX_ENTRIES {
            return Err(Refusal::Invalid(format!(
                "{} entries: at most {MAX_ENTRIES}",
                request.entries.len()
            )));
        }
        let mut next = request.prev_log_id.map_or(0, |id| id.index.saturating_add(1));
        for entry in &request.entries {
            if entry.get_log_id().index != next {
                let found = entry.get_log_id().index;
                return Err(Refusal::Invalid(format!("entry {found} where {next} should follow")));
            }
            next = next.saturating_add(1);
        }
        reply(&self.raft.append_entries(request).await)
    }

    async fn vote(&self, sender: u64, payload: &[u8]) -> Result<PeerReply, Refusal> {
        let request: VoteRequest<u64> = codec::decode("vote request", payload).map_err(invalid)?;
        self.check_vote(sender, &request.vote)?;
        let known = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow();
            let membership = metrics.membership_config.membership();
            membership.nodes().next().is_none() || membership.get_node(&sender).is_some()
        };
        if !known {
            // A removed member that comes back would raise the term of the others for nothing.
            return Err(Refusal::Denied(format!("member {sender} is not in the cluster")));
        }
        reply(&self.raft.vote(request).await)
    }

    async fn snapshot(
        &self,
        sender: u64,
        payload: &[u8],
        data: Bytes,
        crc: u32,
    ) -> Result<PeerReply, Refusal> {
        let chunk: Chunk = codec::decode("snapshot request", payload).map_err(invalid)?;
        self.check_vote(sender, &chunk.vote)?;
        if crc32c::crc32c(&data) != crc {
            return Err(Refusal::Invalid("wrong checksum of a snapshot chunk".to_owned()));
        }
        let end = chunk.offset.saturating_add(data.len() as u64);
        if data.len() > MAX_CHUNK || end > MAX_SNAPSHOT_BYTES {
            return Err(Refusal::Invalid(format!(
                "snapshot chunk of {} bytes at {}",
                data.len(),
                chunk.offset
            )));
        }
        if let Err(expected) = self.follow(sender, &chunk, data.len() as u64) {
            let id = &chunk.meta.snapshot_id;
            let mismatch = SnapshotMismatch {
                expect: SnapshotSegmentId { id: id.clone(), offset: expected },
                got: SnapshotSegmentId { id: id.clone(), offset: chunk.offset },
            };
            type Outcome = Result<InstallSnapshotResponse<u64>, RaftError<u64, InstallSnapshotError>>;
            let outcome: Outcome = Err(RaftError::APIError(InstallSnapshotError::SnapshotMismatch(mismatch)));
            return reply(&outcome);
        }
        let request = InstallSnapshotRequest {
            vote: chunk.vote,
            meta: chunk.meta,
            offset: chunk.offset,
            data: data.to_vec(),
            done: chunk.done,
        };
        reply(&self.raft.install_snapshot(request).await)
    }

    /// Takes only the chunk that comes next, the one before again (its reply was lost), or a fresh start.
    fn follow(&self, sender: u64, chunk: &Chunk, bytes: u64) -> Result<(), u64> {
        let mut transfers = self.transfers.lock().unwrap_or_else(PoisonError::into_inner);
        let end = chunk.offset + bytes;
        let expected = match transfers.get(&sender) {
            Some((id, next)) if *id == chunk.meta.snapshot_id => *next,
            _ => 0,
        };
        if chunk.offset != 0 && chunk.offset != expected && end != expected {
            return Err(expected);
        }
        if chunk.done {
            transfers.remove(&sender);
        } else {
            transfers.insert(sender, (chunk.meta.snapshot_id.clone(), end));
        }
        Ok(())
    }

    async fn propose(&self, sender: u64, command: Bytes) -> Result<PeerReply, Refusal> {
        (self.admit)(sender, &command)?;
        match self.proposer.submit(command).await {
            Ok((index, answer)) => Ok(PeerReply::Applied { index, answer }),
            Err(ProposeError::NotLeader { leader }) => Ok(PeerReply::NotLeader(leader)),
            Err(ProposeError::Overloaded(reason)) => Ok(PeerReply::Overloaded(reason)),
            Err(ProposeError::Unknown(reason)) => Ok(PeerReply::Unknown(reason)),
            Err(ProposeError::Refused(reason)) => Err(Refusal::Denied(reason)),
            Err(error @ (ProposeError::TooLarge { .. } | ProposeError::Malformed(_))) => {
                Err(Refusal::Invalid(error.to_string()))
            }
            Err(ProposeError::Stopped) => Err(Refusal::Unavailable("this member has stopped".to_owned())),
        }
    }

    /// Only whoever leads may ask for an election, and only in its own term: a request that comes late finds another leader.
    async fn stand(&self, sender: u64, term: u64) -> Result<PeerReply, Refusal> {
        let status = RaftStatus::new(&self.raft.metrics().borrow());
        let leads = status.leader.as_ref().is_some_and(|(id, _)| *id == sender);
        if !leads || status.term != term {
            let text =
                format!("member {sender} does not lead in term {term}; here it is term {}", status.term);
            return Err(Refusal::Unavailable(text));
        }
        if !status.voters().any(|id| id == status.member_id) {
            return Err(Refusal::Unavailable("this member has no vote".to_owned()));
        }
        tracing::info!(leader = sender, term, "standing for election, as the leader asks");
        let stands = self.raft.trigger().elect().await;
        stands.map_err(|_| Refusal::Unavailable("this member has stopped".to_owned()))?;
        Ok(PeerReply::Standing)
    }

    async fn read_index(&self) -> Result<PeerReply, Refusal> {
        match self.reader.index().await {
            Ok(index) => Ok(PeerReply::ReadIndex(index)),
            Err(ReadError::NotLeader { leader }) => Ok(PeerReply::NotLeader(leader)),
            Err(error @ (ReadError::Unavailable(_) | ReadError::Stopped)) => {
                Err(Refusal::Unavailable(error.to_string()))
            }
        }
    }
}
