//! The API's backend over a Raft member.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use quorate_core::{Answer, Entry, Observations, State};
use quorate_model::{DurationMs, MemberId, MemberName, NodeName, Timestamp};
use tokio::sync::watch;

use super::ground::Clock;
use crate::api::backend::{
    Backend, Encoded, Health, MemberView, MembershipError, MetricValue, NodeDetail, ProposeError, RaftRole,
    ReadError, SnapshotError, StateDigest, TransferError, Transferred,
};
use crate::observe::Table;
use crate::raft::{self, MemberRole, RaftNode};
use crate::sessions::Registry;

/// How long a fellow member may take to say how it stands.
const ASK: Duration = Duration::from_secs(1);
/// How long a member may take to hash its whole state.
const DIGEST: Duration = Duration::from_secs(5);
/// How long a snapshot may take to be built.
const SNAPSHOT: Duration = Duration::from_secs(60);

/// This member.
pub(super) struct MemberBackend {
    pub(super) node: RaftNode<State>,
    pub(super) table: Arc<Table>,
    pub(super) sessions: Registry,
    pub(super) name: MemberName,
    /// The time of the fleet.
    pub(super) clock: Arc<dyn Clock>,
    /// This host's own.
    pub(super) wall: Arc<dyn Clock>,
}

impl Backend for MemberBackend {
    fn read(&self, look: &mut dyn FnMut(&State)) {
        self.node.state().read(|state, _| look(state));
    }

    fn revisions(&self) -> watch::Receiver<u64> {
        self.node.revisions()
    }

    fn linearize(&self) -> BoxFuture<'_, Result<u64, ReadError>> {
        Box::pin(async {
            self.node.read_index().await.map_err(|error| match error {
                raft::ReadError::NotLeader { .. } => ReadError::NoLeader,
                raft::ReadError::Unavailable(_) => ReadError::Timeout,
                raft::ReadError::Stopped => ReadError::Stopped("its Raft member has stopped".to_owned()),
            })
        })
    }

    fn propose(&self, entry: Entry) -> BoxFuture<'_, Result<(u64, Answer), ProposeError>> {
        Box::pin(async move {
            // What ends work that is under way needs little room, and without it things stay half done.
            if entry.command.takes_on_work()
                && let Err(low) = self.node.check_space()
            {
                return Err(ProposeError::LowSpace(low.to_string()));
            }
            self.node.propose(&entry).await.map_err(|error| match error {
                raft::ProposeError::NotLeader { .. } => ProposeError::NoLeader,
                raft::ProposeError::Unknown(why) => ProposeError::Unknown(why),
                raft::ProposeError::Overloaded(why) => ProposeError::Overloaded(why),
                raft::ProposeError::Refused(why) => ProposeError::Refused(why),
                raft::ProposeError::TooLarge { bytes, max } => {
                    ProposeError::TooLarge(format!("{bytes} bytes, {max} is the limit"))
                }
                raft::ProposeError::Malformed(why) => ProposeError::Unknown(why),
                raft::ProposeError::Stopped => {
                    ProposeError::Stopped("its Raft member has stopped".to_owned())
                }
            })
        })
    }

    fn observe(&self, look: &mut dyn FnMut(&Observations)) {
        let now = self.now();
        let observations = self.node.state().read(|state, _| self.table.observations(state, now));
        look(&observations);
    }

    fn detail(&self, node: &NodeName, look: &mut dyn FnMut(&NodeDetail)) {
        let Some(seen) = self.table.node(node) else { return };
        let metrics =
            seen.metrics.into_iter().map(|(name, labels, value)| MetricValue { name, labels, value });
        look(&NodeDetail {
            coordinator: seen.coordinator,
            clock_offset_ms: seen.clock_offset_ms,
            conditions: seen.conditions,
            facts: seen.facts.map(|facts| *facts),
            metrics: metrics.collect(),
        });
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn wall(&self) -> Timestamp {
        self.wall.now()
    }

    fn mint(&self) -> u64 {
        // The upper and lower halves of a version 4 UUID hold 122 random bits; the low 64 lose two to the variant.
        let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
        high.rotate_left(32) ^ low
    }

    fn health(&self) -> Health {
        let status = self.node.status();
        let counters = self.node.counters();
        let quorum_age = status.quorum_ack_ms.unwrap_or(u64::MAX);
        let leads = status.is_leader();
        Health {
            id: MemberId(self.node.id()),
            name: self.name.clone(),
            role: role(status.role),
            term: status.term,
            leader: status.leader.as_ref().map(|(id, _)| MemberId(*id)),
            applied: status.applied,
            last_log: status.last_log,
            // A leader that no majority answered for twice the longest election timeout has been deposed.
            has_quorum: if leads { quorum_age < 4_000 } else { status.leader.is_some() },
            sessions: u32::try_from(self.sessions.len()).unwrap_or(u32::MAX),
            entries: counters.batches,
            fdatasyncs: counters.store.fdatasyncs,
            committed_writes: counters.committed_writes,
            log_bytes: self.node.log_bytes_on_disk(),
            low_space: self.node.check_space().err().map(|low| low.to_string()),
        }
    }

    fn members(&self) -> BoxFuture<'_, Vec<MemberView>> {
        Box::pin(async {
            let status = self.node.status();
            join_all(status.members.iter().map(|member| self.view(member.id, &member.address, member.voter)))
                .await
        })
    }

    fn admit_member(&self, _member: MemberId, _grpc: String) -> BoxFuture<'_, Result<(), MembershipError>> {
        // The leader's reconciler compares the Raft group with the state twice a second; listing a member is enough.
        Box::pin(async { Ok(()) })
    }

    fn retire_member(&self, member: MemberId) -> BoxFuture<'_, Result<(), MembershipError>> {
        Box::pin(async move {
            self.node.remove(member.0).await.map_err(|error| match error {
                raft::MembershipError::NotLeader { .. } => MembershipError::NoLeader,
                raft::MembershipError::Unknown(why) => MembershipError::Unknown(why),
                unsafe_now @ raft::MembershipError::NoMajority { .. } => {
                    MembershipError::Unsafe(unsafe_now.to_string())
                }
                other => MembershipError::Busy(other.to_string()),
            })
        })
    }

    fn successor(&self, to: Option<MemberId>) -> BoxFuture<'_, Result<MemberId, TransferError>> {
        Box::pin(async move {
            let found = self.node.successor(to.map(|to| to.0)).await;
            found.map(MemberId).map_err(|error| self.not_transferred(&error))
        })
    }

    fn transfer_leader(&self, to: Option<MemberId>) -> BoxFuture<'_, Result<Transferred, TransferError>> {
        Box::pin(async move {
            let done = self.node.transfer_leader(to.map(|to| to.0)).await;
            let raft::Transferred { leader, term, without_leader } =
                done.map_err(|error| self.not_transferred(&error))?;
            let without_leader = DurationMs(u64::try_from(without_leader.as_millis()).unwrap_or(u64::MAX));
            Ok(Transferred { leader: MemberId(leader), term, without_leader })
        })
    }

    fn caught_up(&self, member: MemberId) -> BoxFuture<'_, Result<(), TransferError>> {
        Box::pin(async move {
            let checked = self.node.caught_up(member.0).await;
            checked.map_err(|error| self.not_transferred(&error))
        })
    }

    fn encoded(&self) -> BoxFuture<'_, Result<Encoded, SnapshotError>> {
        Box::pin(async {
            let made = self.node.encoded().await.map_err(SnapshotError)?;
            let ((term, leader, index), state, bytes) = made;
            Ok(Encoded { term, leader, index, state: Arc::new(state), bytes })
        })
    }

    fn digests(&self) -> BoxFuture<'_, BTreeMap<MemberId, Option<Vec<StateDigest>>>> {
        Box::pin(async {
            let members = self.node.status().members;
            let asked = members.iter().map(|member| async {
                let answer = self.node.digests_of(member.id, &member.address, DIGEST).await;
                let ours = answer.ok().filter(|(_, version)| version == env!("CARGO_PKG_VERSION"));
                (MemberId(member.id), ours.map(|(digests, _)| digests))
            });
            join_all(asked).await.into_iter().collect()
        })
    }

    fn snapshot(&self) -> BoxFuture<'_, Result<u64, SnapshotError>> {
        Box::pin(async {
            let wanted = self.node.status().applied;
            self.node.snapshot().await.map_err(|e| SnapshotError(e.to_string()))?;
            let mut status = self.node.watch();
            let built = async {
                loop {
                    let now = status.current();
                    if now.snapshot >= wanted {
                        return Ok(now.snapshot);
                    }
                    if status.changed().await.is_none() {
                        return Err(SnapshotError("the Raft member has stopped".to_owned()));
                    }
                }
            };
            let late = || SnapshotError("it was not built within a minute".to_owned());
            tokio::time::timeout(SNAPSHOT, built).await.map_err(|_| late())?
        })
    }
}

impl MemberBackend {
    fn not_transferred(&self, error: &raft::TransferError) -> TransferError {
        let name = |id: &u64| {
            let named = |state: &State| state.members.by_id.get(&MemberId(*id)).map(|m| m.name.to_string());
            self.node.state().read(|state, _| named(state)).unwrap_or_else(|| format!("member {id}"))
        };
        match error {
            raft::TransferError::NotLeader => TransferError::NoLeader,
            raft::TransferError::InProgress => TransferError::Busy(error.to_string()),
            raft::TransferError::Alone | raft::TransferError::NoMajority { .. } => {
                TransferError::Unfit(error.to_string())
            }
            raft::TransferError::NotVoter(id) => TransferError::Unfit(format!("{} has no vote", name(id))),
            raft::TransferError::Down(id) => TransferError::Unfit(format!("{} does not answer", name(id))),
            raft::TransferError::Behind { id, matched, last } => {
                TransferError::Unfit(format!("{} is behind: log index {matched} of {last}", name(id)))
            }
            raft::TransferError::Unwilling { id, why } => {
                TransferError::Unfit(format!("{} does not stand for election: {why}", name(id)))
            }
            raft::TransferError::NotElected { id, leader, limit } => {
                let leads = leader
                    .as_ref()
                    .map_or_else(|| "nobody leads".to_owned(), |id| format!("{} leads", name(id)));
                TransferError::Unfit(format!("{} was not elected within {limit:?}; {leads}", name(id)))
            }
            raft::TransferError::Unknown(why) => TransferError::Unknown(why.clone()),
        }
    }

    async fn view(&self, id: u64, address: &str, voter: bool) -> MemberView {
        let mut view = MemberView {
            id: MemberId(id),
            role: RaftRole::Down,
            voter,
            term: 0,
            applied: 0,
            last_log: 0,
            snapshot: 0,
            version: String::new(),
            sessions: 0,
        };
        if id == self.node.id() {
            let status = self.node.status();
            view.role = role(status.role);
            (view.term, view.applied, view.last_log) = (status.term, status.applied, status.last_log);
            view.snapshot = status.snapshot;
            env!("CARGO_PKG_VERSION").clone_into(&mut view.version);
        } else if let Ok(peer) = self.node.peer_status(id, address, ASK).await {
            view.role = role(peer.role);
            (view.term, view.applied, view.last_log) = (peer.term, peer.applied, peer.last_log);
            view.snapshot = peer.snapshot;
            view.version = peer.version;
        }
        view.sessions = self.sessions_of(id);
        view
    }

    /// Sessions by what is observed here: exact on the leader.
    fn sessions_of(&self, id: u64) -> u32 {
        let name = self.node.state().read(|state, _| {
            state.members.by_id.get(&MemberId(id)).map(|member| member.name.to_string()).unwrap_or_default()
        });
        u32::try_from(self.table.held_by(&name)).unwrap_or(u32::MAX)
    }
}

const fn role(role: MemberRole) -> RaftRole {
    match role {
        MemberRole::Leader => RaftRole::Leader,
        MemberRole::Follower => RaftRole::Follower,
        MemberRole::Candidate => RaftRole::Candidate,
        MemberRole::Learner => RaftRole::Learner,
        MemberRole::Failed => RaftRole::Down,
    }
}
