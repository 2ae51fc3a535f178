//! A cluster that begins again with one member: what a stopped member holds, and a new store that goes on from there.
//!
//! Job: read back, off line, everything that a member's log holds, acknowledged or not; and lay down a store whose only
//! voter is one member, behind that point and in a later term. Must never: write to the store it reads, leave out an entry
//! that may have been acknowledged, or begin over a store that is there.

use std::collections::{BTreeMap, BTreeSet};

use openraft::BasicNode;
use openraft::storage::{RaftLogStorage, RaftStateMachine};

use crate::store::{self, Blocking, Identity, StoreDirs, StoreOptions, encode_snapshot};

use super::codec;
use super::error::StartError;
use super::log_store::{LogStore, marks};
use super::machine::{Machine, StateMachine};
use super::node::RaftNode;
use super::replicas::Sampler;
use super::types::{LogId, Membership, SnapshotMeta, Vote};

/// Entries read at a time.
const STEP: u64 = 256;

/// Where a member stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The term it last voted in.
    pub vote_term: u64,
    /// Term, leader and index of the last entry of its log: whoever has the greatest term, then index, knows most.
    pub last: Option<(u64, u64, u64)>,
    /// The index up to which it knows the log to be committed.
    pub committed: u64,
    /// Last index of its newest snapshot.
    pub snapshot: u64,
    /// Members as its log has them: number, address, vote.
    pub members: Vec<(u64, String, bool)>,
}

/// A state with the log entry it stands at.
#[derive(Debug, Clone)]
pub struct Standing<M> {
    /// Term, leader and index of that entry.
    pub last: (u64, u64, u64),
    /// No vote was given in a later term.
    pub vote_term: u64,
    /// The state.
    pub state: M,
}

fn state_error(error: impl std::fmt::Display) -> StartError {
    StartError::State(error.to_string())
}

/// What a stopped member holds: where it stands, and its state after every entry of its log. With the majority lost nobody
/// can say which of the last entries were acknowledged; all of them count.
///
/// # Errors
/// [`StartError`], in particular when the member runs.
pub async fn read_back<M: Machine>(
    identity: Identity,
    dirs: &StoreDirs,
    options: &StoreOptions,
) -> Result<(Position, Standing<M>), StartError> {
    let opened = store::open(dirs, identity, options, marks).map_err(StartError::Store)?;
    // Nothing is compared here.
    let (sampler, _unused) = Sampler::new(0);
    let mut machine =
        StateMachine::<M>::open(opened.snapshots, Blocking::Pool, sampler).map_err(StartError::State)?;
    let committed = opened.committed_index;
    let mut log = LogStore::new(opened.log.clone(), opened.committed, Blocking::Pool, committed);
    let snapshot = machine.applied_state().await.map_err(state_error)?.0;
    let last = log.get_log_state().await.map_err(state_error)?.last_log_id.max(snapshot);
    let vote = log.read_vote().await.map_err(state_error)?;
    let mut next = snapshot.map_or(0, |id| id.index + 1);
    let end = last.map_or(0, |id| id.index);
    while next <= end {
        use openraft::RaftLogReader as _;
        let entries = log.try_get_log_entries(next..=end.min(next + STEP - 1)).await.map_err(state_error)?;
        if entries.is_empty() {
            return Err(StartError::State(format!("log index {next} is missing")));
        }
        next += entries.len() as u64;
        machine.apply(entries).await.map_err(state_error)?;
    }
    let (_, membership) = machine.applied_state().await.map_err(state_error)?;
    let voters: BTreeSet<u64> = membership.membership().voter_ids().collect();
    let members = membership.membership().nodes();
    let position = Position {
        vote_term: vote.map_or(0, |vote| vote.leader_id().term),
        last: last.map(|id| (id.leader_id.term, id.leader_id.node_id, id.index)),
        committed: committed.map_or(0, |c| c.index),
        snapshot: snapshot.map_or(0, |id| id.index),
        members: members.map(|(id, node)| (*id, node.addr.clone(), voters.contains(id))).collect(),
    };
    let standing = Standing {
        last: position.last.unwrap_or_default(),
        vote_term: position.vote_term,
        state: machine.handle().share().clone(),
    };
    let store = opened.log.durable().clone();
    Blocking::Pool.run(move || store.close()).await.map_err(state_error)?;
    Ok((position, standing))
}

/// Formats a store that goes on from `standing` with one voter.
///
/// # Errors
/// [`StartError`]; never when there was a store.
pub async fn lay_down<M: Machine>(
    identity: Identity,
    dirs: &StoreDirs,
    options: &StoreOptions,
    standing: &Standing<M>,
    address: &str,
) -> Result<(), StartError> {
    store::format(dirs, identity, options).map_err(StartError::Store)?;
    let opened = store::open(dirs, identity, options, marks).map_err(StartError::Store)?;
    let (term, leader, index) = standing.last;
    let last = LogId::new(openraft::CommittedLeaderId::new(term, leader), index);
    let me = identity.member_id;
    let nodes = BTreeMap::from([(me, BasicNode { addr: address.to_owned() })]);
    let alone = openraft::Membership::new(vec![BTreeSet::from([me])], nodes);
    let state = codec::encode("snapshot state", &standing.state).map_err(state_error)?;
    let meta = SnapshotMeta {
        last_log_id: Some(last),
        last_membership: Membership::new(Some(last), alone),
        snapshot_id: format!("{last}-{:08x}", crc32c::crc32c(&state)),
    };
    let meta = codec::encode("snapshot meta", &meta).map_err(state_error)?;
    opened.snapshots.store(index, &encode_snapshot(&meta, &state)).map_err(state_error)?;
    let mut log = LogStore::new(opened.log.clone(), opened.committed, Blocking::Pool, None);
    // Not committed: it elects itself in the term behind, in which nobody else has a vote.
    let vote = Vote::new(standing.vote_term.max(term), me);
    log.save_vote(&vote).await.map_err(state_error)?;
    log.purge(last).await.map_err(state_error)?;
    log.save_committed(Some(last)).await.map_err(state_error)?;
    let store = opened.log.durable().clone();
    Blocking::Pool.run(move || store.close()).await.map_err(state_error)?;
    Ok(())
}

/// Term, leader and index of a log entry, the state it gave, and that state's bytes.
pub(super) type Saved<M> = ((u64, u64, u64), M, Vec<u8>);

impl<M: Machine> RaftNode<M> {
    /// The state of this member as it is now, and its bytes.
    ///
    /// # Errors
    /// One sentence, when it does not encode.
    pub async fn encoded(&self) -> Result<Saved<M>, String> {
        let state = self.state().clone();
        let work = move || {
            let (last, state) = state.standing();
            let bytes = codec::encode("saved state", &state).map_err(|error| error.to_string())?;
            Ok((last, state, bytes))
        };
        Blocking::Pool.run(work).await.map_err(|error| error.to_string())?
    }
}

/// The state of a saved file.
///
/// # Errors
/// [`StartError::State`] when they are no state of this release.
pub fn decode_state<M: Machine>(bytes: &[u8]) -> Result<M, StartError> {
    codec::decode("saved state", bytes).map_err(state_error)
}
