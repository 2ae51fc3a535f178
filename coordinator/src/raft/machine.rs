//! The state machine: state, last applied index and membership under one lock, snapshots from a shared copy.

use std::io::Cursor;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use openraft::storage::{RaftStateMachine, Snapshot};
use openraft::{
    AnyError, BasicNode, Entry, EntryPayload, ErrorSubject, ErrorVerb, OptionalSend, RaftSnapshotBuilder,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::store::{Blocking, MAX_SNAPSHOT_BYTES, Shelf, decode_snapshot, encode_snapshot};

use super::codec;
use super::replicas::Sampler;
use super::types::{Answers, LogId, Membership, SnapshotMeta, StorageError, StorageIOError, Types};

/// What is replicated. `apply` must be deterministic: same state, index and command give the same state and answer on
/// every member of every release that can be mixed.
pub trait Machine: Default + Clone + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// What is proposed.
    type Command: Serialize + DeserializeOwned + Send + Sync + 'static;
    /// What the proposer gets back.
    type Answer: Serialize + DeserializeOwned + Send + 'static;

    /// Applies one command. `index` is its log index; commands proposed together share one.
    fn apply(&mut self, index: u64, command: &Self::Command) -> Self::Answer;
}

/// State with where it stands in the log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Applied<M> {
    pub(crate) last: Option<LogId>,
    pub(crate) membership: Membership,
    pub(crate) state: M,
}

/// Read access to the replicated state of this member.
pub struct StateHandle<M> {
    shared: Arc<RwLock<Arc<Applied<M>>>>,
    applied: watch::Receiver<u64>,
}

impl<M> Clone for StateHandle<M> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), applied: self.applied.clone() }
    }
}

impl<M> std::fmt::Debug for StateHandle<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StateHandle").field("applied", &*self.applied.borrow()).finish_non_exhaustive()
    }
}

impl<M: Machine> StateHandle<M> {
    /// Runs `read` on the state and the log index it stands at. Applying waits meanwhile: for look-ups and short lists.
    pub fn read<T>(&self, read: impl FnOnce(&M, u64) -> T) -> T {
        let shared = self.shared.read().unwrap_or_else(PoisonError::into_inner);
        read(&shared.state, shared.last.map_or(0, |last| last.index))
    }

    /// The same, unless that would wait: also for whoever reads already.
    pub fn try_read<T>(&self, read: impl FnOnce(&M) -> T) -> Option<T> {
        self.shared.try_read().ok().map(|shared| read(&shared.state))
    }

    /// The state as it stands, for long reads. Nothing waits, but the next command applied while it is held copies the
    /// whole state once.
    #[must_use]
    pub fn share(&self) -> SharedState<M> {
        SharedState { applied: Arc::clone(&self.shared.read().unwrap_or_else(PoisonError::into_inner)) }
    }

    /// A copy of the state, with term, leader and index of the entry it stands at.
    pub(super) fn standing(&self) -> ((u64, u64, u64), M) {
        let applied = Arc::clone(&self.shared.read().unwrap_or_else(PoisonError::into_inner));
        let last = applied.last.map_or((0, 0, 0), |id| (id.leader_id.term, id.leader_id.node_id, id.index));
        (last, applied.state.clone())
    }

    /// Breaks the state of this member, as a bug or bad memory would.
    #[cfg(test)]
    pub(super) fn tamper(&self, change: impl FnOnce(&mut M)) {
        let mut shared = self.shared.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut Arc::make_mut(&mut shared).state);
    }

    /// The log index applied last; changes with each applied entry.
    #[must_use]
    pub fn revisions(&self) -> watch::Receiver<u64> {
        self.applied.clone()
    }
}

/// A state that does not change any more.
#[derive(Debug)]
pub struct SharedState<M> {
    applied: Arc<Applied<M>>,
}

impl<M> SharedState<M> {
    /// The log index it stands at.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.applied.last.map_or(0, |last| last.index)
    }
}

impl<M> std::ops::Deref for SharedState<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.applied.state
    }
}

/// openraft's view of it.
pub(crate) struct StateMachine<M> {
    shared: Arc<RwLock<Arc<Applied<M>>>>,
    applied: watch::Sender<u64>,
    snapshots: Shelf,
    blocking: Blocking,
    sampler: Sampler<M>,
}

/// Builds one snapshot from a state that no longer changes.
pub(crate) struct Builder<M> {
    applied: Arc<Applied<M>>,
    snapshots: Shelf,
    blocking: Blocking,
}

fn storage(verb: ErrorVerb, error: impl std::fmt::Display) -> StorageError {
    StorageIOError::new(ErrorSubject::Snapshot(None), verb, AnyError::error(error.to_string())).into()
}

impl<M: Machine> StateMachine<M> {
    /// The state of the newest valid snapshot; the log is applied on top by openraft, up to the committed index.
    pub(crate) fn open(snapshots: Shelf, blocking: Blocking, sampler: Sampler<M>) -> Result<Self, String> {
        let applied = match snapshots.newest().map_err(|error| error.to_string())? {
            Some(bytes) => restore(&bytes)?.1,
            None => Applied::default(),
        };
        let index = applied.last.map_or(0, |last| last.index);
        Ok(Self {
            shared: Arc::new(RwLock::new(Arc::new(applied))),
            applied: watch::Sender::new(index),
            snapshots,
            blocking,
            sampler,
        })
    }

    pub(crate) fn handle(&self) -> StateHandle<M> {
        StateHandle { shared: Arc::clone(&self.shared), applied: self.applied.subscribe() }
    }

    fn current(&self) -> Arc<Applied<M>> {
        Arc::clone(&self.shared.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn apply_all(&self, entries: impl Iterator<Item = Entry<Types>>) -> Result<Vec<Answers>, StorageError> {
        let mut shared = self.shared.write().unwrap_or_else(PoisonError::into_inner);
        let mut out = Vec::new();
        for entry in entries {
            // Copies the state only while somebody still holds an older one.
            out.push(apply_one(Arc::make_mut(&mut shared), entry)?);
            self.sampler.look(&shared);
        }
        let index = shared.last.map_or(0, |last| last.index);
        drop(shared);
        self.applied.send_replace(index);
        Ok(out)
    }
}

fn apply_one<M: Machine>(applied: &mut Applied<M>, entry: Entry<Types>) -> Result<Answers, StorageError> {
    let log_id = entry.log_id;
    let failed = |error: codec::CodecError| {
        // Never skipped: a member that cannot read an entry is too old for this cluster and must stop.
        let text = match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        StorageError::from(StorageIOError::apply(log_id, AnyError::error(text)))
    };
    let mut answers = Vec::new();
    match entry.payload {
        EntryPayload::Blank => {}
        EntryPayload::Normal(proposals) => {
            // Decode all before applying any: an entry takes effect whole or not at all.
            let commands: Vec<M::Command> = proposals
                .commands
                .iter()
                .map(|bytes| codec::decode("command", bytes))
                .collect::<Result<_, _>>()
                .map_err(failed)?;
            for command in &commands {
                let answer = applied.state.apply(log_id.index, command);
                answers.push(Bytes::from(codec::encode("answer", &answer).map_err(failed)?));
            }
        }
        EntryPayload::Membership(membership) => {
            applied.membership = Membership::new(Some(log_id), membership)
        }
    }
    applied.last = Some(log_id);
    Ok(Answers { answers })
}

/// Checks a snapshot whole and decodes it.
fn restore<M: Machine>(bytes: &[u8]) -> Result<(SnapshotMeta, Applied<M>), String> {
    let (meta, state) = decode_snapshot(bytes)?;
    let meta: SnapshotMeta = codec::decode("snapshot meta", meta).map_err(|error| error.to_string())?;
    let state = codec::decode("snapshot state", state).map_err(|error| error.to_string())?;
    let applied = Applied { last: meta.last_log_id, membership: meta.last_membership.clone(), state };
    Ok((meta, applied))
}

/// The meta of a stored snapshot.
pub(crate) fn meta_of(bytes: &[u8]) -> Result<SnapshotMeta, String> {
    let (meta, _) = decode_snapshot(bytes)?;
    codec::decode("snapshot meta", meta).map_err(|error| error.to_string())
}

impl<M: Machine> RaftSnapshotBuilder<Types> for Builder<M> {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, StorageError> {
        let applied = Arc::clone(&self.applied);
        let snapshots = self.snapshots.clone();
        let build = move || -> Result<(SnapshotMeta, Vec<u8>), String> {
            let state = codec::encode("snapshot state", &applied.state).map_err(|error| error.to_string())?;
            let last = applied.last.map_or_else(|| "0".to_owned(), |last| last.to_string());
            let meta = SnapshotMeta {
                last_log_id: applied.last,
                last_membership: applied.membership.clone(),
                // Same id, same bytes: a transfer may go on after a retry or with another leader.
                snapshot_id: format!("{last}-{:08x}", crc32c::crc32c(&state)),
            };
            let encoded = codec::encode("snapshot meta", &meta).map_err(|error| error.to_string())?;
            let bytes = encode_snapshot(&encoded, &state);
            if bytes.len() as u64 > MAX_SNAPSHOT_BYTES {
                return Err(format!("snapshot of {} bytes: at most {MAX_SNAPSHOT_BYTES}", bytes.len()));
            }
            snapshots
                .store(applied.last.map_or(0, |last| last.index), &bytes)
                .map_err(|error| error.to_string())?;
            Ok((meta, bytes))
        };
        let built = self.blocking.run(build).await.map_err(|error| storage(ErrorVerb::Write, error))?;
        let (meta, bytes) = built.map_err(|error| storage(ErrorVerb::Write, error))?;
        Ok(Snapshot { meta, snapshot: Box::new(Cursor::new(bytes)) })
    }
}

impl<M: Machine> RaftStateMachine<Types> for StateMachine<M> {
    type SnapshotBuilder = Builder<M>;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), StorageError> {
        let applied = self.current();
        Ok((applied.last, applied.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Answers>, StorageError>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.apply_all(entries.into_iter())
    }

    async fn get_snapshot_builder(&mut self) -> Builder<M> {
        Builder { applied: self.current(), snapshots: self.snapshots.clone(), blocking: self.blocking }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError> {
        Ok(Box::new(Cursor::new(Vec::new())))
    }

    async fn install_snapshot(
        &mut self,
        meta: &openraft::SnapshotMeta<u64, BasicNode>,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError> {
        let snapshots = self.snapshots.clone();
        let expected = meta.clone();
        let install = move || -> Result<Applied<M>, String> {
            let bytes = snapshot.into_inner();
            let (found, applied) = restore::<M>(&bytes)?;
            if found.last_log_id != expected.last_log_id {
                return Err(format!(
                    "snapshot of {:?} where {:?} was announced",
                    found.last_log_id, expected.last_log_id
                ));
            }
            snapshots
                .store(found.last_log_id.map_or(0, |last| last.index), &bytes)
                .map_err(|error| error.to_string())?;
            Ok(applied)
        };
        let applied = self.blocking.run(install).await.map_err(|error| storage(ErrorVerb::Write, error))?;
        let applied = applied.map_err(|error| storage(ErrorVerb::Write, error))?;
        let index = applied.last.map_or(0, |last| last.index);
        *self.shared.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(applied);
        self.applied.send_replace(index);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, StorageError> {
        let snapshots = self.snapshots.clone();
        let bytes = self
            .blocking
            .run(move || snapshots.newest())
            .await
            .map_err(|error| storage(ErrorVerb::Read, error))?
            .map_err(|error| storage(ErrorVerb::Read, error))?;
        let Some(bytes) = bytes else {
            return Ok(None);
        };
        let meta = meta_of(&bytes).map_err(|error| storage(ErrorVerb::Read, error))?;
        Ok(Some(Snapshot { meta, snapshot: Box::new(Cursor::new(bytes)) }))
    }
}
