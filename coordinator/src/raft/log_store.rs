//! openraft's log storage on our log bytes.

use std::fmt::Debug;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use openraft::storage::{LogFlushed, LogState, RaftLogStorage};
use openraft::{AnyError, Entry, OptionalSend, RaftLogId, RaftLogReader};

use crate::store::{Blocking, CommittedIndex, LogBytes, LogMarks, Slot, SnapshotShelf};

use super::codec;
use super::machine::meta_of;
use super::types::{LogId, StorageError, StorageIOError, Types, Vote};

/// Bytes of entries in one append request, if it holds more than one: the peer listener decodes at most 4 MiB, and one
/// entry has at most 1 MiB.
const APPEND_BYTES: usize = 2 << 20;

/// The log store of this member; clones are readers.
#[derive(Debug, Clone)]
pub(crate) struct LogStore {
    log: LogBytes,
    committed: Slot,
    blocking: Blocking,
    /// What the slot file holds; written only when it changes.
    saved: Option<LogId>,
    /// Last entry, once known: the store is asked once, not per append. Readers do not use it.
    last: Option<LogId>,
}

fn any(error: impl std::error::Error) -> AnyError {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    AnyError::error(text)
}

fn log_id(committed: CommittedIndex) -> LogId {
    LogId::new(openraft::CommittedLeaderId::new(committed.term, committed.leader), committed.index)
}

fn committed_index(id: LogId) -> CommittedIndex {
    CommittedIndex { term: id.leader_id.term, leader: id.leader_id.node_id, index: id.index }
}

/// Reads what R4 needs to know, before anything uses the log.
pub(crate) fn marks(log: &LogBytes, snapshots: &dyn SnapshotShelf) -> Result<LogMarks, String> {
    /// Entries per step; bounds memory.
    const STEP: usize = 512;
    let text = |error: &dyn std::error::Error| error.to_string();
    let vote: Option<Vote> = log
        .vote()
        .map_err(|e| text(&e))?
        .map(|b| codec::decode("vote", &b))
        .transpose()
        .map_err(|e| text(&e))?;
    let purged: Option<LogId> = log
        .purged()
        .map_err(|e| text(&e))?
        .map(|b| codec::decode("purge mark", &b))
        .transpose()
        .map_err(|e| text(&e))?;
    let snapshot = snapshots.newest().map_err(|e| text(&e))?.map(|bytes| meta_of(&bytes)).transpose()?;
    let mut last = None;
    let mut next = purged.map(|id| id.index + 1);
    let mut contiguous = true;
    loop {
        let entries = log.entries(next.unwrap_or(0), u64::MAX, STEP).map_err(|e| text(&e))?;
        let full = entries.len() == STEP;
        for (index, bytes) in entries {
            contiguous &= next.is_none_or(|next| next == index);
            next = Some(index + 1);
            last = Some((index, bytes));
        }
        if !full {
            break;
        }
    }
    let last = match last {
        Some((index, bytes)) => {
            let entry: Entry<Types> = codec::decode("log entry", &bytes).map_err(|e| text(&e))?;
            Some((entry.log_id.leader_id.term, index))
        }
        None => None,
    };
    Ok(LogMarks {
        vote_term: vote.map(|vote| vote.leader_id().term),
        last,
        purged: purged.map(|id| id.index),
        snapshot: snapshot.and_then(|meta| meta.last_log_id).map(|id| id.index),
        contiguous,
    })
}

impl LogStore {
    pub(crate) fn new(
        log: LogBytes,
        committed: Slot,
        blocking: Blocking,
        saved: Option<CommittedIndex>,
    ) -> Self {
        Self { log, committed, blocking, saved: saved.map(log_id), last: None }
    }

    fn purged(&self) -> Result<Option<LogId>, StorageError> {
        let bytes = self.log.purged().map_err(|error| StorageIOError::read_logs(any(error)))?;
        let id = bytes.map(|bytes| codec::decode("purge mark", &bytes)).transpose();
        id.map_err(|error| StorageIOError::read_logs(any(error)).into())
    }

    fn last(&self) -> Result<Option<LogId>, StorageError> {
        let last = self.log.last().map_err(|error| StorageIOError::read_logs(any(error)))?;
        match last {
            None => Ok(None),
            Some((index, bytes)) => Ok(Some(decode(index, &bytes)?.log_id)),
        }
    }

    fn read(&self, from: u64, to: u64, limit: usize) -> Result<Vec<(Entry<Types>, usize)>, StorageError> {
        let pairs = self
            .log
            .entries(from, to, limit)
            .map_err(|error| StorageIOError::read_log_at_index(from, any(error)))?;
        pairs.into_iter().map(|(index, bytes)| Ok((decode(index, &bytes)?, bytes.len()))).collect()
    }
}

fn decode(index: u64, bytes: &[u8]) -> Result<Entry<Types>, StorageError> {
    codec::decode("log entry", bytes)
        .map_err(|error| StorageIOError::read_log_at_index(index, any(error)).into())
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry<Types>>, StorageError> {
        let from = match range.start_bound() {
            Bound::Included(n) => *n,
            Bound::Excluded(n) => n.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(n) => *n,
            Bound::Excluded(0) => return Ok(Vec::new()),
            Bound::Excluded(n) => n - 1,
            Bound::Unbounded => u64::MAX,
        };
        // openraft asks for at most 256 at a time (`max_payload_entries`), and 64 while starting.
        Ok(self.read(from, to, usize::MAX)?.into_iter().map(|(entry, _)| entry).collect())
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry<Types>>, StorageError> {
        /// Entries per step: most requests are for one, and a step may hold 1 MiB each.
        const STEP: u64 = 4;
        let mut out: Vec<Entry<Types>> = Vec::new();
        let mut bytes = 0;
        let mut next = start;
        while next < end {
            let to = end.min(next.saturating_add(STEP)) - 1;
            let step = self.read(next, to, usize::MAX)?;
            if step.is_empty() {
                break;
            }
            for (entry, size) in step {
                if !out.is_empty() && bytes + size > APPEND_BYTES {
                    return Ok(out);
                }
                bytes += size;
                next = entry.log_id.index + 1;
                out.push(entry);
            }
        }
        Ok(out)
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError> {
        let purged = self.purged()?;
        let last = self.last()?.or(purged);
        self.last = last;
        Ok(LogState { last_purged_log_id: purged, last_log_id: last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let bytes = codec::encode("vote", vote).map_err(|error| StorageIOError::write_vote(any(error)))?;
        let saved = self.log.save_vote(vote.leader_id().term, &bytes).await;
        saved.map_err(|error| StorageIOError::write_vote(any(error)).into())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        let bytes = self.log.vote().map_err(|error| StorageIOError::read_vote(any(error)))?;
        let vote = bytes.map(|bytes| codec::decode("vote", &bytes)).transpose();
        vote.map_err(|error| StorageIOError::read_vote(any(error)).into())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        if committed == self.saved {
            return Ok(());
        }
        let file = Arc::clone(&self.committed);
        let slot = committed.map(committed_index);
        let saved = self.blocking.run(move || file.save(slot)).await;
        match saved {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(StorageIOError::write_logs(any(error)).into()),
            Err(error) => return Err(StorageIOError::write_logs(any(error)).into()),
        }
        if let Some(id) = committed {
            self.log.note_committed(id.index);
        }
        self.saved = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        Ok(self.saved)
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut batch = Vec::new();
        let mut last = self.last;
        for entry in entries {
            let id = *entry.get_log_id();
            if last.is_some_and(|last| id.index != last.index + 1) {
                let error = AnyError::error(format!("append of {id} after {last:?} would leave a hole"));
                return Err(StorageIOError::write_logs(error).into());
            }
            let bytes = codec::encode("log entry", &entry)
                .map_err(|e| StorageIOError::write_log_entry(id, any(e)))?;
            batch.push((id.index, bytes));
            last = Some(id);
        }
        match self.log.append(batch).await {
            Ok(()) => {
                self.last = last;
                callback.log_io_completed(Ok(()));
                Ok(())
            }
            Err(error) => {
                let error = any(error);
                callback.log_io_completed(Err(std::io::Error::other(error.to_string())));
                Err(StorageIOError::write_logs(error).into())
            }
        }
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let removed = self.log.truncate(log_id.index).await;
        removed.map_err(|error| StorageIOError::write_logs(any(error)))?;
        self.last = self.last()?.or(self.purged()?);
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let mark =
            codec::encode("purge mark", &log_id).map_err(|error| StorageIOError::write_logs(any(error)))?;
        let purged = self.log.purge(log_id.index, &mark).await;
        purged.map_err(|error| StorageIOError::write_logs(any(error)))?;
        if self.last.is_some_and(|last| last.index < log_id.index) {
            self.last = Some(log_id);
        }
        Ok(())
    }
}
