//! sled 0.34.7 with a real barrier.

use std::fs::{self, File};
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::engine::{Change, Engine, EngineError, Pair, SyncError};
use crate::failures;
use crate::files;
use crate::highwater;

/// How long sled's own lock may linger after an earlier handle of this process, or a probe, was dropped: sled closes
/// its file from a background thread. Our own lock has kept other processes out by then.
const LOCK_LINGERS: Duration = Duration::from_secs(5);

/// sled's handle. Dropping it syncs once more and panics when that fails; every commit had its own barrier before, so that
/// panic must not become the end of a process that is closing in order.
struct Handle(Option<sled::Db>);

impl Handle {
    fn db(&self) -> Result<&sled::Db, EngineError> {
        self.0.as_ref().ok_or_else(|| EngineError::Other("sled is closed".to_owned()))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let db = self.0.take();
        let closed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(db)));
        if let Err(panic) = closed {
            tracing::warn!(why = crate::read::panic_text(&*panic), "sled did not close in order");
        }
    }
}

/// sled in one directory, one tree.
pub(crate) struct SledEngine {
    db: Handle,
    /// Kept open: the barrier is `fdatasync` of the file that sled writes.
    data: File,
    high_water: PathBuf,
    ballast: PathBuf,
    dir: PathBuf,
}

impl From<sled::Error> for EngineError {
    fn from(error: sled::Error) -> Self {
        match error {
            sled::Error::Io(error) if error.kind() == io::ErrorKind::StorageFull => Self::NoSpace,
            sled::Error::Io(error) if is_lock_conflict(&error) => Self::Locked,
            sled::Error::Io(error) if is_refusal(&error) => Self::Other(error.to_string()),
            // sled's own: for instance a file that ends before its contents do.
            sled::Error::Io(error) => Self::Damage(error.to_string()),
            sled::Error::Corruption { .. } => Self::Damage(error.to_string()),
            sled::Error::CollectionNotFound(_)
            | sled::Error::Unsupported(_)
            | sled::Error::ReportableBug(_) => Self::Damage(error.to_string().chars().take(400).collect()),
        }
    }
}

/// sled wraps the refused lock into an error of another kind; its text is the only mark (config.rs, `try_lock`).
fn is_lock_conflict(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || error.to_string().contains("could not acquire lock")
}

/// The kernel said no (EIO, EMFILE, EACCES …): that says nothing about what the files hold. But EINVAL: sled then asked
/// for an impossible place, which it had read from a file.
fn is_refusal(error: &io::Error) -> bool {
    /// EINVAL.
    const INVALID: i32 = 22;
    error.raw_os_error().is_some_and(|code| code != INVALID)
}

fn io_error(error: io::Error) -> EngineError {
    if error.kind() == io::ErrorKind::StorageFull {
        EngineError::NoSpace
    } else {
        EngineError::Other(error.to_string())
    }
}

impl SledEngine {
    /// Opens or creates; may panic or abort on damaged files, see [`crate::probe`].
    pub(crate) fn open(dir: &Path, cache_bytes: u64, clean_every: Duration) -> Result<Self, EngineError> {
        let config = sled::Config::new()
            .path(dir)
            .cache_capacity(cache_bytes)
            .flush_every_ms(u64::try_from(clean_every.as_millis()).ok())
            .use_compression(false)
            .mode(sled::Mode::HighThroughput);
        let deadline = Instant::now() + LOCK_LINGERS;
        let db = loop {
            match config.open().map_err(EngineError::from) {
                Ok(db) => break db,
                Err(EngineError::Locked) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(error) => return Err(error),
            }
        };
        let data = fs::OpenOptions::new().read(true).write(true).open(dir.join("db")).map_err(io_error)?;
        Ok(Self {
            db: Handle(Some(db)),
            data,
            high_water: files::beside(dir, ".hw"),
            ballast: files::beside(dir, ".ballast"),
            dir: dir.to_owned(),
        })
    }

    /// Makes the files and their names durable; sled does not.
    pub(crate) fn settle(&self, dir: &Path) -> io::Result<()> {
        let conf = dir.join("conf");
        if conf.exists() {
            File::open(conf)?.sync_all()?;
        }
        self.data.sync_all()?;
        files::fsync_dir(dir)?;
        files::fsync_dir(files::parent(dir))
    }
}

impl Engine for SledEngine {
    fn apply(&self, changes: Vec<Change>) -> Result<(), EngineError> {
        let mut batch = sled::Batch::default();
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        self.db.db()?.apply_batch(batch).map_err(EngineError::from)
    }

    fn sync(&self) -> Result<(), SyncError> {
        let flushed = self.db.db().and_then(|db| db.flush().map_err(EngineError::from));
        flushed.map_err(SyncError::Flush)?;
        rustix::fs::fdatasync(&self.data).map_err(|error| SyncError::Barrier(error.to_string()))
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(self.db.db()?.get(key)?.map(|value| value.to_vec()))
    }

    fn scan(&self, range: RangeInclusive<Vec<u8>>, limit: usize) -> Result<Vec<Pair>, EngineError> {
        let mut out = Vec::new();
        for pair in self.db.db()?.range(range).take(limit) {
            let (key, value) = pair?;
            out.push((key.to_vec(), value.to_vec()));
        }
        Ok(out)
    }

    fn last(&self, range: RangeInclusive<Vec<u8>>) -> Result<Option<Pair>, EngineError> {
        let pair = self.db.db()?.range(range).next_back().transpose()?;
        Ok(pair.map(|(key, value)| (key.to_vec(), value.to_vec())))
    }

    fn read_high_water(&self) -> Result<Option<Vec<u8>>, EngineError> {
        files::read_limited(&self.high_water, highwater::BYTES as u64).map_err(io_error)
    }

    fn write_high_water(&self, bytes: &[u8]) -> Result<(), EngineError> {
        files::write_atomic(&self.high_water, bytes).map_err(io_error)
    }

    fn drop_ballast(&self) {
        if let Err(error) = crate::space::remove_if_there(&self.ballast) {
            tracing::warn!(%error, path = %self.ballast.display(), "cannot give back the ballast");
        }
    }

    fn record_failure(&self, why: &str) {
        failures::record(&self.dir, why);
    }

    fn size_on_disk(&self) -> u64 {
        self.db.db().map_or(0, |db| db.size_on_disk().unwrap_or(0))
    }
}
