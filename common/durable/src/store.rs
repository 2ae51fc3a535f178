//! The handle that callers hold.

use std::ops::RangeInclusive;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use crate::batch::Batch;
use crate::counters::CounterValues;
use crate::engine::{Engine, Pair};
use crate::error::{OpenError, StoreError};
use crate::highwater::{HighWater, MARKS};
use crate::lock::Lock;
use crate::open;
use crate::options::{Options, SpaceFloor};
use crate::read;
use crate::record::Totals;
use crate::space::{LowSpace, space_use};
use crate::writer::{self, Committer, Done, Pace, Request, Shared};

/// An open store. Clones share it; the last one to go waits for the writer, writes the high-water mark and closes.
#[derive(Clone)]
pub struct Durable {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Option<Arc<dyn Engine>>,
    shared: Arc<Shared>,
    writer: Mutex<Writer>,
    place: Option<Place>,
}

/// Where a store on disk lies.
struct Place {
    options: Options,
    _lock: Lock,
}

/// How the writer runs.
enum Mode {
    Thread,
    Inline,
    Paced(Pace),
}

enum Writer {
    Thread {
        requests: mpsc::Sender<Request>,
        thread: JoinHandle<()>,
    },
    Inline(Committer),
    /// A task; threads that can not wait for it commit at once.
    Paced {
        requests: mpsc::Sender<Request>,
        committer: Arc<Mutex<Committer>>,
    },
    Closed,
}

impl std::fmt::Debug for Durable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Durable").field("sequence", &self.sequence()).finish_non_exhaustive()
    }
}

impl Durable {
    /// Opens or creates the store. Blocks (it may run a child process); call it before the runtime is busy or on a
    /// blocking thread.
    ///
    /// # Errors
    /// [`OpenError`]; the daemon prints it as its one sentence and exits with [`OpenError::exit_code`].
    pub fn open(options: Options) -> Result<Self, OpenError> {
        let (engine, lock, mark, totals) = open::open(&options)?;
        let name = options.dir.display().to_string();
        let place = Some(Place { options, _lock: lock });
        Ok(Self::start(engine, mark, totals, name, place, Mode::Thread))
    }

    /// Opens a store on an engine of the caller, for instance [`crate::MemoryDisk::engine`]. With `inline`, commits
    /// run in the calling thread: one barrier each, and no thread that a deterministic simulator cannot see.
    ///
    /// # Errors
    /// [`OpenError`] as for [`Durable::open`]; nothing is moved aside.
    pub fn open_engine(engine: Arc<dyn Engine>, must_exist: bool, inline: bool) -> Result<Self, OpenError> {
        Self::open_in(engine, must_exist, if inline { Mode::Inline } else { Mode::Thread })
    }

    /// As [`Durable::open_engine`], with the writer as a task of the caller's runtime: each group's barrier takes as long
    /// as `pace` says, and the group is not durable before. For simulators; call it inside a runtime.
    ///
    /// # Errors
    /// [`OpenError`] as for [`Durable::open_engine`].
    pub fn open_engine_paced(
        engine: Arc<dyn Engine>,
        must_exist: bool,
        pace: Pace,
    ) -> Result<Self, OpenError> {
        Self::open_in(engine, must_exist, Mode::Paced(pace))
    }

    fn open_in(engine: Arc<dyn Engine>, must_exist: bool, mode: Mode) -> Result<Self, OpenError> {
        let dir = std::path::Path::new("memory");
        let (mark, totals) = open::admit(&*engine, dir, must_exist)?;
        read::verify(&*engine).map_err(|error| OpenError::Damaged {
            dir: dir.to_owned(),
            quarantine: dir.to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Self::start(engine, mark, totals, "memory".to_owned(), None, mode))
    }

    fn start(
        engine: Arc<dyn Engine>,
        mark: HighWater,
        totals: Totals,
        name: String,
        place: Option<Place>,
        mode: Mode,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        shared.sequence.store(totals.sequence, Ordering::Release);
        for (slot, value) in shared.marks.iter().zip(mark.marks) {
            slot.store(value, Ordering::Release);
        }
        let committer = Committer::new(Arc::clone(&engine), Arc::clone(&shared), totals, mark.sequence, name);
        let writer = match mode {
            Mode::Inline => Writer::Inline(committer),
            Mode::Thread => {
                let (requests, receiver) = mpsc::channel(writer::QUEUE);
                let thread = std::thread::spawn(move || writer::run(committer, receiver));
                Writer::Thread { requests, thread }
            }
            Mode::Paced(pace) => {
                let (requests, receiver) = mpsc::channel(writer::QUEUE);
                let committer = Arc::new(Mutex::new(committer));
                tokio::spawn(writer::run_paced(Arc::clone(&committer), receiver, pace));
                Writer::Paced { requests, committer }
            }
        };
        Self { inner: Arc::new(Inner { engine: Some(engine), shared, writer: Mutex::new(writer), place }) }
    }

    /// Makes the batch durable; returns its sequence. Concurrent callers share barriers. When the caller stops
    /// waiting, the batch may still be written.
    ///
    /// # Errors
    /// [`StoreError`]. A failed barrier does not return: it ends the process.
    pub async fn commit(&self, batch: Batch) -> Result<u64, StoreError> {
        let (done, answer) = oneshot::channel();
        match self.submit(Request { batch, done: Done::Task(done) }, false)? {
            None => {}
            Some((requests, request)) => requests.send(request).await.map_err(|_| StoreError::Closed)?,
        }
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// [`Durable::commit`] for threads. Blocks the thread for a barrier: not for tasks of a busy runtime.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn commit_blocking(&self, batch: Batch) -> Result<u64, StoreError> {
        let (done, answer) = std::sync::mpsc::sync_channel(1);
        if let Some((requests, mut request)) =
            self.submit(Request { batch, done: Done::Thread(done) }, true)?
        {
            // tokio's own blocking send panics inside a runtime; a full queue is rare, so look again soon.
            while let Err(error) = requests.try_send(request) {
                match error {
                    mpsc::error::TrySendError::Full(back) => request = back,
                    mpsc::error::TrySendError::Closed(_) => return Err(StoreError::Closed),
                }
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            // Closing waits for every sender to go.
            drop(requests);
        }
        answer.recv().map_err(|_| StoreError::Closed)?
    }

    /// Commits at once in inline mode, and for threads beside a paced writer; else gives back where to send the request.
    fn submit(
        &self,
        request: Request,
        thread: bool,
    ) -> Result<Option<(mpsc::Sender<Request>, Request)>, StoreError> {
        let mut writer = self.inner.writer.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *writer {
            Writer::Inline(committer) => {
                committer.commit(vec![request]);
                Ok(None)
            }
            Writer::Paced { committer, .. } if thread => {
                writer::held(committer).commit(vec![request]);
                Ok(None)
            }
            Writer::Thread { requests, .. } | Writer::Paced { requests, .. } => {
                Ok(Some((requests.clone(), request)))
            }
            Writer::Closed => Err(StoreError::Closed),
        }
    }

    fn engine(&self) -> Result<&dyn Engine, StoreError> {
        self.inner.engine.as_deref().ok_or(StoreError::Closed)
    }

    /// The value of `key`, whole, whichever way it was put. It may belong to a batch that is not yet durable.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when it is not what was written; never `None` instead.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        read::get(self.engine()?, key)
    }

    /// Up to `limit` pairs of a key range, ascending.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn scan(&self, range: RangeInclusive<Vec<u8>>, limit: usize) -> Result<Vec<Pair>, StoreError> {
        read::scan(self.engine()?, range, limit)
    }

    /// The first pair of a key range.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn first(&self, range: RangeInclusive<Vec<u8>>) -> Result<Option<Pair>, StoreError> {
        Ok(self.scan(range, 1)?.pop())
    }

    /// The last pair of a key range.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn last(&self, range: RangeInclusive<Vec<u8>>) -> Result<Option<Pair>, StoreError> {
        read::last(self.engine()?, range)
    }

    /// Sequence of the last durable commit.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.inner.shared.sequence.load(Ordering::Acquire)
    }

    /// The marks that go into the next high-water file; right after opening, those found there.
    #[must_use]
    pub fn high_water(&self) -> HighWater {
        self.inner.shared.high_water()
    }

    /// Raises a mark; a lower value changes nothing. Written with the next high-water file.
    pub fn raise_mark(&self, mark: usize, value: u64) {
        debug_assert!(mark < MARKS, "there are {MARKS} marks");
        if let Some(slot) = self.inner.shared.marks.get(mark) {
            slot.fetch_max(value, Ordering::AcqRel);
        }
    }

    /// Counters since the store was opened.
    #[must_use]
    pub fn counters(&self) -> CounterValues {
        self.inner.shared.counters.values()
    }

    /// Bytes of the engine's files.
    #[must_use]
    pub fn size_on_disk(&self) -> u64 {
        self.inner.engine.as_deref().map_or(0, Engine::size_on_disk)
    }

    /// Whether there is room for new work; always, for a store that is not on disk. One `statvfs`.
    ///
    /// # Errors
    /// [`LowSpace`]: answer `RESOURCE_EXHAUSTED` to whoever asks for more.
    pub fn check_space(&self) -> Result<(), LowSpace> {
        let Some(place) = &self.inner.place else {
            return Ok(());
        };
        let floor: &SpaceFloor = &place.options.space;
        match space_use(files_parent(&place.options)) {
            Ok(space) => floor.check(space),
            Err(error) => {
                tracing::warn!(%error, "cannot read free space");
                // Missing data counts as unsafe.
                Err(LowSpace { free: 0, total: 0, wanted: floor.min_free_bytes })
            }
        }
    }

    /// Stops taking commits, waits for those under way, writes the high-water mark. Blocks for one barrier; dropping
    /// the last clone does the same. Reads go on until then.
    pub fn close(&self) {
        self.inner.close();
    }
}

fn files_parent(options: &Options) -> &std::path::Path {
    crate::files::parent(&options.dir)
}

impl Inner {
    fn close(&self) {
        let writer = {
            let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *writer, Writer::Closed)
        };
        match writer {
            Writer::Thread { requests, thread } => {
                drop(requests);
                if thread.join().is_err() {
                    tracing::error!("the writer thread of a store panicked");
                }
            }
            Writer::Inline(mut committer) => committer.finish(),
            // The task finishes what waits and writes the mark, if its runtime still lives.
            Writer::Paced { requests, committer: _ } => drop(requests),
            Writer::Closed => {}
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
        // The engine goes before the lock: the next owner must find its files closed.
        self.engine = None;
    }
}
