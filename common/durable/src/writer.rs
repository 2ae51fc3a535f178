//! The one writer: takes what waits, applies it batch by batch, pays one barrier for all, answers all.

use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::batch::Batch;
use crate::counters::Counters;
use crate::engine::{Engine, EngineError, SyncError};
use crate::error::StoreError;
use crate::highwater::{self, HighWater, MARKS};
use crate::read;
use crate::record::Totals;

/// Batches that may wait. Each caller waits for its own, so this bounds callers, not work; beyond it they queue in
/// the channel's own waiting list.
pub(crate) const QUEUE: usize = 1024;

/// Batches that share one barrier: bounds how long the first of them waits for the last.
const GROUP_BATCHES: usize = 256;

/// Bytes that share one barrier, for the same reason.
const GROUP_BYTES: usize = 4 << 20;

/// Where the sequence of a batch goes.
pub(crate) enum Done {
    Task(oneshot::Sender<Result<u64, StoreError>>),
    Thread(std::sync::mpsc::SyncSender<Result<u64, StoreError>>),
}

impl Done {
    /// A caller that gave up waiting is no error: its write happened all the same.
    fn send(self, outcome: Result<u64, StoreError>) {
        match self {
            Self::Task(sender) => drop(sender.send(outcome)),
            Self::Thread(sender) => drop(sender.try_send(outcome)),
        }
    }
}

/// A batch and where its sequence goes.
pub(crate) struct Request {
    pub(crate) batch: Batch,
    pub(crate) done: Done,
}

/// What readers see of the writer.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Last durable commit.
    pub(crate) sequence: AtomicU64,
    pub(crate) marks: [AtomicU64; MARKS],
    pub(crate) counters: Counters,
}

impl Shared {
    pub(crate) fn high_water(&self) -> HighWater {
        HighWater {
            sequence: self.sequence.load(Ordering::Acquire),
            marks: std::array::from_fn(|n| self.marks[n].load(Ordering::Acquire)),
        }
    }
}

/// Commits groups of batches; owned by the writer thread, or by a mutex in inline mode.
pub(crate) struct Committer {
    engine: Arc<dyn Engine>,
    shared: Arc<Shared>,
    /// What the store adds up to after the last batch applied.
    totals: Totals,
    /// Sequence in the high-water file.
    marked: u64,
    poisoned: Option<StoreError>,
    name: String,
}

impl Committer {
    pub(crate) fn new(
        engine: Arc<dyn Engine>,
        shared: Arc<Shared>,
        totals: Totals,
        marked: u64,
        name: String,
    ) -> Self {
        Self { engine, shared, totals, marked, poisoned: None, name }
    }

    /// Commits one group.
    pub(crate) fn commit(&mut self, group: Vec<Request>) {
        let waiting = self.apply_group(group);
        self.sync_group(waiting);
    }

    /// The first half of a commit: everything is in the engine and nothing is durable yet.
    fn apply_group(&mut self, group: Vec<Request>) -> Vec<(Done, u64)> {
        let mut waiting = Vec::with_capacity(group.len());
        for Request { batch, done } in group {
            match self.apply(batch) {
                Ok(sequence) => waiting.push((done, sequence)),
                Err(error) => done.send(Err(error)),
            }
        }
        waiting
    }

    /// The second half: one barrier for the group, then everybody is answered.
    fn sync_group(&mut self, waiting: Vec<(Done, u64)>) {
        if waiting.is_empty() {
            return;
        }
        let outcome = self.sync();
        if outcome.is_ok() {
            Counters::add(&self.shared.counters.commits, waiting.len() as u64);
            self.shared.sequence.store(self.totals.sequence, Ordering::Release);
            if self.totals.sequence.saturating_sub(self.marked) >= highwater::EVERY {
                self.mark();
            }
        }
        for (done, sequence) in waiting {
            done.send(outcome.clone().map(|()| sequence));
        }
    }

    fn apply(&mut self, batch: Batch) -> Result<u64, StoreError> {
        if let Some(error) = &self.poisoned {
            return Err(StoreError::Poisoned(error.to_string()));
        }
        let engine = Arc::clone(&self.engine);
        // After a failure the totals are off, and so is the store: it takes no more batches.
        let outcome = batch.lower(&*engine, &mut self.totals).and_then(|changes| {
            let bytes = changes.iter().map(|(k, v)| k.len() + v.as_ref().map_or(0, Vec::len)).sum::<usize>();
            let records = changes.len() as u64;
            read::guarded(|| engine.apply(changes))?;
            Counters::add(&self.shared.counters.bytes, bytes as u64);
            Counters::add(&self.shared.counters.records, records);
            Ok(())
        });
        match outcome {
            Ok(()) => Ok(self.totals.sequence),
            Err(error) => Err(self.poison(error)),
        }
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        if let Some(error) = &self.poisoned {
            return Err(StoreError::Poisoned(error.to_string()));
        }
        let engine = Arc::clone(&self.engine);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| engine.sync()));
        match outcome {
            Ok(Ok(())) => {
                Counters::add(&self.shared.counters.fdatasyncs, 1);
                Ok(())
            }
            Ok(Err(SyncError::Flush(error))) => Err(self.poison(StoreError::Engine(error))),
            Ok(Err(SyncError::Barrier(reason))) => die(&self.name, &self.engine, &reason),
            Err(panic) => Err(self.poison(StoreError::Engine(read::of_panic(read::panic_text(&*panic))))),
        }
    }

    fn poison(&mut self, error: StoreError) -> StoreError {
        let error = match error {
            StoreError::Engine(EngineError::NoSpace) => {
                self.engine.drop_ballast();
                StoreError::NoSpace
            }
            other => other,
        };
        self.poisoned = Some(error.clone());
        error
    }

    /// Replaces the high-water file. A failure costs only the next detection of a rollback, not data: log and go on.
    fn mark(&mut self) {
        let mark = self.shared.high_water();
        match self.engine.write_high_water(&mark.encode()) {
            Ok(()) => {
                self.marked = mark.sequence;
                Counters::add(&self.shared.counters.high_water_writes, 1);
            }
            Err(error) => tracing::warn!(store = %self.name, %error, "cannot write the high-water mark"),
        }
    }

    /// Last act: the high-water mark.
    pub(crate) fn finish(&mut self) {
        if self.poisoned.is_none() {
            self.mark();
        }
    }
}

/// Longest a dying process writes down why.
const NOTE: Duration = Duration::from_millis(500);

/// Ends the process: after a failed barrier nothing is known about any write since the last good one.
fn die(name: &str, engine: &Arc<dyn Engine>, reason: &str) -> ! {
    tracing::error!(store = name, reason, "fdatasync failed, ending the process");
    // Not eprintln!, which panics when the log's disk is full, too: this process must end.
    let _ = writeln!(
        std::io::stderr(),
        "fdatasync of store {name} failed ({reason}): ending the process, because what is on disk is unknown"
    );
    // On the disk that has just failed: as long as it takes to note a reason, and no longer.
    let (done, noted) = std::sync::mpsc::sync_channel(1);
    let (engine, why) = (Arc::clone(engine), format!("fdatasync failed: {reason}"));
    std::thread::spawn(move || {
        engine.record_failure(&why);
        let _ = done.send(());
    });
    let _ = noted.recv_timeout(NOTE);
    std::process::abort()
}

/// What waits behind the first request and may share its barrier.
fn group(first: Request, requests: &mut mpsc::Receiver<Request>) -> Vec<Request> {
    let mut bytes = first.batch.bytes();
    let mut group = vec![first];
    while group.len() < GROUP_BATCHES && bytes < GROUP_BYTES {
        match requests.try_recv() {
            Ok(request) => {
                bytes += request.batch.bytes();
                group.push(request);
            }
            Err(mpsc::error::TryRecvError::Empty | mpsc::error::TryRecvError::Disconnected) => break,
        }
    }
    group
}

/// The writer thread: until every sender is gone.
pub(crate) fn run(mut committer: Committer, mut requests: mpsc::Receiver<Request>) {
    while let Some(first) = requests.blocking_recv() {
        committer.commit(group(first, &mut requests));
    }
    committer.finish();
}

/// How long the barrier of the next group takes, by a simulator's choice.
pub type Pace = Arc<dyn Fn() -> Duration + Send + Sync>;

/// The writer as a task: between a group's two halves it waits, so that a simulated power cut can come in between.
pub(crate) async fn run_paced(
    committer: Arc<Mutex<Committer>>,
    mut requests: mpsc::Receiver<Request>,
    pace: Pace,
) {
    while let Some(first) = requests.recv().await {
        let waiting = held(&committer).apply_group(group(first, &mut requests));
        tokio::time::sleep(pace()).await;
        held(&committer).sync_group(waiting);
    }
    held(&committer).finish();
}

/// A committer is poisoned by its own failures, not by a panic elsewhere.
pub(crate) fn held(committer: &Mutex<Committer>) -> MutexGuard<'_, Committer> {
    committer.lock().unwrap_or_else(PoisonError::into_inner)
}
