//! The log store: keys, batches, and the checks of R4.
//!
//! Keys: `L` + index (u64, BE) for entries, `V` the vote, `P` the purge mark, `I` the owner.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quorate_durable::{Batch, Durable, LimitError, StoreError, files};

use super::committed::{CommittedFile, CommittedIndex};
use super::disk::{Shelf, Slot, SnapshotShelf};
use super::error::StoreRefused;
use super::identity::{self, Identity, StoreDirs, StoreOptions};
use super::snapshots::Snapshots;

/// Most keys of one truncation or purge batch (reliability.md §4.3 rule 10).
pub const MAX_KEYS_PER_BATCH: usize = 1024;

const VOTE: &[u8] = b"V";
const PURGED: &[u8] = b"P";
const OWNER: &[u8] = b"I";

/// Slots of the high-water file.
const MARK_TERM: usize = 0;
const MARK_COMMITTED: usize = 1;

fn entry_key(index: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(9);
    key.push(b'L');
    key.extend_from_slice(&index.to_be_bytes());
    key
}

fn index_of(key: &[u8]) -> Option<u64> {
    key.strip_prefix(b"L").and_then(|rest| rest.try_into().ok()).map(u64::from_be_bytes)
}

/// What the log's content says about itself; the adapter decodes it, because the bytes are openraft's types.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogMarks {
    /// Term of the stored vote; `None` when there is no vote.
    pub vote_term: Option<u64>,
    /// Term and index of the last entry.
    pub last: Option<(u64, u64)>,
    /// Index up to which the log was purged.
    pub purged: Option<u64>,
    /// Last index of the newest valid snapshot.
    pub snapshot: Option<u64>,
    /// Entries present that purging should have removed are not counted; whether the rest has no hole.
    pub contiguous: bool,
}

/// A log store, an entry being bytes under an index.
#[derive(Debug, Clone)]
pub struct LogBytes {
    store: Durable,
    /// Bytes appended since the last snapshot, for the snapshot rule.
    appended: Arc<AtomicU64>,
}

/// Everything a member keeps on disk, opened and found to belong together.
#[derive(Debug)]
pub struct Opened {
    /// The log.
    pub log: LogBytes,
    /// The committed index.
    pub committed: Slot,
    /// Its value.
    pub committed_index: Option<CommittedIndex>,
    /// The snapshots.
    pub snapshots: Shelf,
}

pub(super) fn mark_owner(store: &Durable, path: &Path, identity: Identity) -> Result<(), StoreRefused> {
    check_owner(store, path, identity, false)?;
    let mut batch = Batch::new();
    put(&mut batch, OWNER, &identity.encode())?;
    store.commit_blocking(batch)?;
    Ok(())
}

fn check_owner(store: &Durable, path: &Path, identity: Identity, required: bool) -> Result<(), StoreRefused> {
    let wrong = |detail: String| Err(StoreRefused::WrongIdentity { path: path.to_owned(), detail });
    match store.get(OWNER)?.map(|bytes| Identity::decode(&bytes)) {
        None if required => wrong("the log names no owner".to_owned()),
        None if store.first(vec![]..=vec![0xFD])?.is_some() => wrong("the log is not empty".to_owned()),
        None => Ok(()),
        Some(Some(found)) if found == identity => Ok(()),
        Some(found) => wrong(format!("found {found:?}, expected {identity:?}")),
    }
}

fn put(batch: &mut Batch, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
    batch.put_large(key, value).map(drop).map_err(|error| too_large(&error))
}

/// A limit reached here is a defect of the caller: proposals are bounded far below.
fn too_large(error: &LimitError) -> StoreError {
    StoreError::Engine(quorate_durable::EngineError::Other(error.to_string()))
}

/// Opens everything, and refuses what cannot be what this member promised from. `marks` decodes the content; it runs
/// before anything else may use the log.
///
/// # Errors
/// [`StoreRefused`]; a log that lost something has then been moved aside.
pub fn open(
    dirs: &StoreDirs,
    expected: Identity,
    options: &StoreOptions,
    marks: impl FnOnce(&LogBytes, &dyn SnapshotShelf) -> Result<LogMarks, String>,
) -> Result<Opened, StoreRefused> {
    let found = identity::read(dirs)?;
    if found != expected {
        let detail = format!("found {found:?}, expected {expected:?}");
        return Err(StoreRefused::WrongIdentity { path: dirs.identity(), detail });
    }
    let store = Durable::open(options.durable(dirs, true)).map_err(StoreRefused::Log)?;
    let path = dirs.committed();
    let committed = CommittedFile::open(&path).map_err(StoreRefused::io("read", &path))?;
    let committed = committed.map(|(file, index)| (Arc::new(file) as Slot, index));
    let path = dirs.snapshots();
    let snapshots = Snapshots::open(&path).map_err(StoreRefused::io("read", &path))?;
    let quarantine = || files::quarantine(&dirs.log()).ok();
    admit(store, &dirs.log(), expected, committed, Arc::new(snapshots), marks, quarantine)
}

/// Puts together what was opened, and refuses what cannot be what this member promised from. `quarantine` moves the log
/// aside.
pub(super) fn admit(
    store: Durable,
    path: &Path,
    expected: Identity,
    committed: Option<(Slot, Option<CommittedIndex>)>,
    snapshots: Shelf,
    marks: impl FnOnce(&LogBytes, &dyn SnapshotShelf) -> Result<LogMarks, String>,
    quarantine: impl FnOnce() -> Option<PathBuf>,
) -> Result<Opened, StoreRefused> {
    check_owner(&store, path, expected, true)?;
    let log = LogBytes::new(store)?;
    let outcome = marks(&log, &*snapshots).and_then(|marks| {
        let committed = committed.ok_or("the committed index is missing or damaged")?;
        check(&log.store, &marks, committed.1)?;
        Ok(committed)
    });
    match outcome {
        Ok((committed, committed_index)) => Ok(Opened { log, committed, committed_index, snapshots }),
        Err(reason) => {
            drop(log);
            Err(StoreRefused::Lost { member_id: expected.member_id, reason, quarantine: quarantine() })
        }
    }
}

/// R4: every promise on record must be covered by what is there.
fn check(store: &Durable, marks: &LogMarks, committed: Option<CommittedIndex>) -> Result<(), String> {
    let high = store.high_water();
    let term = marks.vote_term.unwrap_or(0);
    let reaches =
        [marks.last.map(|(_, index)| index), marks.purged, marks.snapshot].into_iter().flatten().max();
    if !marks.contiguous {
        return Err("the log has a hole".to_owned());
    }
    // `initialize` writes entry 0 of term 0 before the first vote; a crash in between promised nothing.
    let promises =
        marks.last.is_some_and(|last| last != (0, 0)) || marks.purged.is_some() || marks.snapshot.is_some();
    if marks.vote_term.is_none() && promises {
        return Err("there is a log but no vote".to_owned());
    }
    if let Some((last_term, _)) = marks.last.filter(|(last_term, _)| *last_term > term) {
        return Err(format!("the vote is of term {term}, the log of term {last_term}"));
    }
    if term < high.marks[MARK_TERM] {
        return Err(format!(
            "the vote is of term {term}, the high-water mark of term {}",
            high.marks[MARK_TERM]
        ));
    }
    if let Some(committed) = committed.filter(|c| reaches.is_none_or(|reaches| reaches < c.index)) {
        return Err(format!("index {} was committed, the log reaches {reaches:?}", committed.index));
    }
    let promised = high.marks[MARK_COMMITTED];
    if promised > 0 && committed.is_none_or(|c| c.index < promised) {
        return Err(format!("index {promised} was committed, the committed index on disk is {committed:?}"));
    }
    if marks.purged.is_some_and(|purged| marks.snapshot.is_none_or(|snapshot| snapshot < purged)) {
        return Err(format!(
            "the log was purged to {:?}, the newest snapshot is {:?}",
            marks.purged, marks.snapshot
        ));
    }
    Ok(())
}

impl LogBytes {
    /// The log in a store that was opened elsewhere, for instance on a disk in memory that a simulator makes lose
    /// unsynced writes. Members on disk come from [`open`].
    ///
    /// # Errors
    /// [`StoreError`] when an interrupted purge cannot be finished.
    pub fn new(store: Durable) -> Result<Self, StoreError> {
        let log = Self { store, appended: Arc::new(AtomicU64::new(0)) };
        log.finish_purge()?;
        Ok(log)
    }

    /// The stored vote.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn vote(&self) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.get(VOTE)
    }

    /// The stored purge mark.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn purged(&self) -> Result<Option<Vec<u8>>, StoreError> {
        // The index in front is for this file; the adapter's bytes follow.
        Ok(self.store.get(PURGED)?.map(|mut bytes| bytes.split_off(bytes.len().min(8))))
    }

    fn purged_index(&self) -> Result<Option<u64>, StoreError> {
        let bytes = self.store.get(PURGED)?;
        Ok(bytes.as_deref().and_then(|b| b.get(..8)).and_then(|b| b.try_into().ok()).map(u64::from_be_bytes))
    }

    /// The last entry.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn last(&self) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        let pair = self.store.last(entry_key(0)..=entry_key(u64::MAX))?;
        Ok(pair.and_then(|(key, value)| index_of(&key).map(|index| (index, value))))
    }

    /// The first entry's index.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn first_index(&self) -> Result<Option<u64>, StoreError> {
        Ok(self.store.first(entry_key(0)..=entry_key(u64::MAX))?.and_then(|(key, _)| index_of(&key)))
    }

    /// Up to `limit` entries from `from` to `to`, both included.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn entries(&self, from: u64, to: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        if from > to {
            return Ok(Vec::new());
        }
        let pairs = self.store.scan(entry_key(from)..=entry_key(to), limit)?;
        Ok(pairs.into_iter().filter_map(|(key, value)| index_of(&key).map(|index| (index, value))).collect())
    }

    /// Stores the vote, durably.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn save_vote(&self, term: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        put(&mut batch, VOTE, bytes)?;
        self.store.commit(batch).await?;
        self.store.raise_mark(MARK_TERM, term);
        Ok(())
    }

    /// Notes a committed index for the next high-water file; the durable record is the [`CommittedFile`].
    pub fn note_committed(&self, index: u64) {
        self.store.raise_mark(MARK_COMMITTED, index);
    }

    /// Appends entries, durably, in ascending order; as one batch unless it would pass the store's limits.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn append(&self, entries: Vec<(u64, Vec<u8>)>) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        let mut bytes = 0;
        for (index, value) in entries {
            let full =
                batch.len() >= MAX_KEYS_PER_BATCH || batch.bytes() + value.len() > quorate_durable::MAX_LARGE;
            if full && !batch.is_empty() {
                self.store.commit(std::mem::take(&mut batch)).await?;
            }
            bytes += value.len() as u64;
            put(&mut batch, &entry_key(index), &value)?;
        }
        if !batch.is_empty() {
            self.store.commit(batch).await?;
        }
        self.appended.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Removes the entries from `from` on, newest first: a crash leaves a shorter log, never a hole.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn truncate(&self, from: u64) -> Result<(), StoreError> {
        while let Some((last, _)) = self.last()?.filter(|(last, _)| *last >= from) {
            let lowest = from.max(last.saturating_sub(MAX_KEYS_PER_BATCH as u64 - 1));
            self.remove(lowest, last).await?;
        }
        Ok(())
    }

    /// Removes the entries up to `upto`, oldest first, after marking them purged: what a crash leaves below the mark is
    /// removed at the next start.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn purge(&self, upto: u64, mark: &[u8]) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        put(&mut batch, PURGED, &[upto.to_be_bytes().as_slice(), mark].concat())?;
        self.store.commit(batch).await?;
        while let Some(first) = self.first_index()?.filter(|first| *first <= upto) {
            self.remove(first, upto.min(first.saturating_add(MAX_KEYS_PER_BATCH as u64 - 1))).await?;
        }
        Ok(())
    }

    async fn remove(&self, from: u64, to: u64) -> Result<(), StoreError> {
        self.store.commit(removal(from, to)?).await.map(drop)
    }

    fn finish_purge(&self) -> Result<(), StoreError> {
        let Some(upto) = self.purged_index()? else {
            return Ok(());
        };
        while let Some(first) = self.first_index()?.filter(|first| *first <= upto) {
            let to = upto.min(first.saturating_add(MAX_KEYS_PER_BATCH as u64 - 1));
            self.store.commit_blocking(removal(first, to)?)?;
        }
        Ok(())
    }

    /// Bytes appended since the last [`LogBytes::snapshot_taken`].
    #[must_use]
    pub fn appended_bytes(&self) -> u64 {
        self.appended.load(Ordering::Relaxed)
    }

    /// Starts counting appended bytes afresh.
    pub fn snapshot_taken(&self) {
        self.appended.store(0, Ordering::Relaxed);
    }

    /// The store below, for counters, free space and closing.
    #[must_use]
    pub fn durable(&self) -> &Durable {
        &self.store
    }
}

fn removal(from: u64, to: u64) -> Result<Batch, StoreError> {
    let mut batch = Batch::new();
    for index in from..=to {
        batch.delete(&entry_key(index)).map_err(|error| too_large(&error))?;
    }
    Ok(batch)
}

#[cfg(test)]
mod tests {
    use quorate_durable::MemoryDisk;

    use super::*;

    fn open(disk: &MemoryDisk) -> LogBytes {
        LogBytes::new(Durable::open_engine(disk.engine(), false, true).unwrap()).unwrap()
    }

    fn indexes(log: &LogBytes) -> Vec<u64> {
        log.entries(0, u64::MAX, usize::MAX).unwrap().into_iter().map(|(index, _)| index).collect()
    }

    #[tokio::test]
    async fn a_crash_after_any_change_keeps_it_and_leaves_no_hole() {
        let disk = MemoryDisk::new();
        let log = open(&disk);
        log.save_vote(4, b"vote").await.unwrap();
        log.append((0..3000u64).map(|n| (n, n.to_be_bytes().to_vec())).collect()).await.unwrap();
        disk.crash();
        let log = open(&disk);
        assert_eq!(log.vote().unwrap().unwrap(), b"vote");
        assert_eq!(indexes(&log), (0..3000).collect::<Vec<_>>());

        let before = log.durable().counters();
        log.truncate(1800).await.unwrap();
        let after = log.durable().counters();
        // 1,200 keys in batches of at most 1,024, each with the store's own record.
        assert_eq!((after.commits - before.commits, after.records - before.records), (2, 1200 + 2));
        disk.crash();
        let log = open(&disk);
        assert_eq!(indexes(&log), (0..1800).collect::<Vec<_>>());

        log.purge(1499, b"mark").await.unwrap();
        disk.crash();
        let log = open(&disk);
        assert_eq!(log.purged().unwrap().unwrap(), b"mark");
        assert_eq!((log.first_index().unwrap(), log.last().unwrap().unwrap().0), (Some(1500), 1799));
        // Beyond the end, as after a snapshot was installed.
        log.purge(5000, b"far").await.unwrap();
        assert_eq!((log.first_index().unwrap(), log.last().unwrap()), (None, None));
    }

    #[tokio::test]
    async fn a_purge_cut_short_is_finished_at_the_next_start() {
        let disk = MemoryDisk::new();
        let log = open(&disk);
        log.append((0..100).map(|n| (n, vec![1])).collect()).await.unwrap();
        // What a crash leaves between the mark and the removals.
        let mut batch = Batch::new();
        put(&mut batch, PURGED, &[60u64.to_be_bytes().as_slice(), b"mark"].concat()).unwrap();
        log.durable().commit(batch).await.unwrap();
        disk.crash();
        assert_eq!(open(&disk).first_index().unwrap(), Some(61));
    }

    #[tokio::test]
    async fn an_entry_larger_than_a_record_comes_back_whole() {
        let disk = MemoryDisk::new();
        let log = open(&disk);
        let large: Vec<u8> = (0..1_048_576u32).map(|n| n.to_le_bytes()[0]).collect();
        log.append(vec![(0, large.clone()), (1, vec![2])]).await.unwrap();
        disk.crash();
        let log = open(&disk);
        assert_eq!(log.entries(0, 9, 9).unwrap(), vec![(0, large), (1, vec![2])]);
        assert!(log.appended_bytes() == 0);
        log.truncate(0).await.unwrap();
        assert_eq!(
            disk.engine().scan(vec![0xFE]..=vec![0xFE; 20], 10).unwrap(),
            Vec::new(),
            "chunks were left"
        );
    }
}
