//! Opening: lock, clean up, try in a child, open, compare with the high-water mark, or move aside.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::batch;
use crate::engine::{Engine, EngineError};
use crate::error::{OpenError, StoreError};
use crate::files;
use crate::highwater::HighWater;
use crate::lock::Lock;
use crate::options::{Options, Probe};
use crate::probe::{self, Verdict};
use crate::read;
use crate::record::Totals;
use crate::sled_engine::SledEngine;
use crate::space;

type Opened = (Arc<dyn Engine>, Lock, HighWater, Totals);

/// The high-water file of a store.
#[must_use]
pub fn high_water_path(dir: &Path) -> PathBuf {
    files::beside(dir, ".hw")
}

pub(crate) fn open(options: &Options) -> Result<Opened, OpenError> {
    let dir = options.dir.as_path();
    let parent = files::parent(dir);
    files::create_dir(parent).map_err(OpenError::io("create", parent))?;
    let lock = Lock::take(dir)?;
    let existed = dir.try_exists().map_err(OpenError::io("look at", dir))?;
    if existed {
        inspect(options)?;
    } else {
        refuse_if_known(options)?;
        create(options)?;
    }
    let engine = open_sled(dir, options)?;
    let admitted = engine
        .settle(dir)
        .map_err(OpenError::io("sync", dir))
        .and_then(|()| admit(&engine, dir, options.must_exist));
    let (mark, totals) = match admitted {
        Ok(admitted) => admitted,
        Err(error) => {
            drop(engine);
            return Err(move_aside(dir, error));
        }
    };
    let ballast = files::beside(dir, ".ballast");
    space::keep_ballast(&ballast, &options.space).map_err(OpenError::io("keep", &ballast))?;
    Ok((Arc::new(engine), lock, mark, totals))
}

/// Whether a process has the store open.
///
/// # Errors
/// [`OpenError`] when the file system refuses.
pub fn in_use(dir: &Path) -> Result<bool, OpenError> {
    if !files::beside(dir, ".lock").exists() {
        return Ok(false);
    }
    match Lock::take(dir) {
        Ok(_free) => Ok(false),
        Err(OpenError::InUse { .. }) => Ok(true),
        Err(other) => Err(other),
    }
}

/// Gives the loss of a store up for good: removes its high-water mark, so that a new, empty one may be created in its
/// place. Only for an explicit operator command, which must also give the holder a new identity.
///
/// # Errors
/// [`OpenError`] when the store is in use, or still there.
pub fn forget(dir: &Path) -> Result<(), OpenError> {
    let _lock = Lock::take(dir)?;
    if dir.exists() {
        let source = io::Error::new(io::ErrorKind::AlreadyExists, "the store is still there");
        return Err(OpenError::io("forget", dir)(source));
    }
    let path = high_water_path(dir);
    space::remove_if_there(&path).map_err(OpenError::io("remove", &path))
}

fn refuse_if_known(options: &Options) -> Result<(), OpenError> {
    let path = high_water_path(&options.dir);
    let known = if path.try_exists().map_err(OpenError::io("look at", &path))? {
        format!("high-water file {}", path.display())
    } else if options.must_exist {
        "it was opened as an existing one".to_owned()
    } else {
        return Ok(());
    };
    Err(OpenError::Missing { dir: options.dir.clone(), known })
}

/// Makes an empty store under another name and renames it when it is durable: a creation cut short must not look like
/// damage. sled's own `conf` is written in several steps.
fn create(options: &Options) -> Result<(), OpenError> {
    let dir = options.dir.as_path();
    let fresh = files::beside(dir, ".new");
    if fresh.exists() {
        // Nothing was ever acknowledged from it.
        fs::remove_dir_all(&fresh).map_err(OpenError::io("remove", &fresh))?;
    }
    files::create_dir(&fresh).map_err(OpenError::io("create", &fresh))?;
    let engine = open_sled(&fresh, options)?;
    let settled = engine.settle(&fresh);
    drop(engine);
    settled.map_err(OpenError::io("sync", &fresh))?;
    fs::rename(&fresh, dir).map_err(OpenError::io("rename", &fresh))?;
    files::fsync_dir(files::parent(dir)).map_err(OpenError::io("sync", files::parent(dir)))
}

/// Looks at files that are already there, before this process trusts them.
fn inspect(options: &Options) -> Result<(), OpenError> {
    let dir = options.dir.as_path();
    if !dir.is_dir() {
        return Err(damaged(dir, "it is not a directory".to_owned()));
    }
    remove_generating(dir)?;
    let blobs = dir.join("blobs");
    let has_blobs = match fs::read_dir(&blobs) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(OpenError::io("read", &blobs)(error)),
    };
    if has_blobs && !cfg!(feature = "without-4k-rule") {
        return Err(damaged(
            dir,
            "blobs/ is not empty: a value over 4 KiB was written around the wrapper".to_owned(),
        ));
    }
    let verdict = match options.probe {
        Probe::SelfExe => probe::in_child(dir, options.cache_bytes).map_err(OpenError::io("probe", dir))?,
        Probe::InProcess => probe::here(dir, options.cache_bytes),
    };
    match verdict {
        Verdict::Readable => Ok(()),
        Verdict::Damaged(reason) => Err(damaged(dir, reason)),
        Verdict::Refused(source) => Err(OpenError::Engine { dir: dir.to_owned(), source }),
    }
}

/// A snapshot that sled was writing when it died; it blocks opening until it is gone (sled #1527).
fn remove_generating(dir: &Path) -> Result<(), OpenError> {
    for entry in fs::read_dir(dir).map_err(OpenError::io("read", dir))? {
        let path = entry.map_err(OpenError::io("read", dir))?.path();
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(&path).map_err(OpenError::io("remove", &path))?;
        }
    }
    Ok(())
}

fn open_sled(dir: &Path, options: &Options) -> Result<SledEngine, OpenError> {
    match read::guarded(|| SledEngine::open(dir, options.cache_bytes, options.clean_every)) {
        Ok(engine) => Ok(engine),
        Err(StoreError::Engine(EngineError::Damage(reason))) => Err(damaged(dir, reason)),
        Err(StoreError::Engine(source)) => Err(OpenError::Engine { dir: dir.to_owned(), source }),
        Err(other) => Err(damaged(dir, other.to_string())),
    }
}

/// Compares a store with its high-water mark; starts both when there is neither.
pub(crate) fn admit(
    engine: &dyn Engine,
    dir: &Path,
    must_exist: bool,
) -> Result<(HighWater, Totals), OpenError> {
    let damaged = |error: StoreError| OpenError::Damaged {
        dir: dir.to_owned(),
        quarantine: dir.to_owned(),
        reason: error.to_string(),
    };
    let failed = |source: EngineError| OpenError::Engine { dir: dir.to_owned(), source };
    let untrusted = |reason: String| OpenError::HighWater { path: high_water_path(dir), reason };
    let mark = match engine.read_high_water().map_err(failed)? {
        Some(bytes) => Some(HighWater::decode(&bytes).map_err(|error| untrusted(error.to_string()))?),
        None => None,
    };
    let totals = read::totals(engine).map_err(damaged)?;
    match (totals.map(|totals| totals.sequence), mark) {
        (None, None) if must_exist => Err(OpenError::Missing {
            dir: dir.to_owned(),
            known: "it was opened as an existing one".to_owned(),
        }),
        // A new store, or one whose creation was cut short before anything could be acknowledged.
        (None | Some(1), None) => {
            let mark = HighWater { sequence: 1, ..HighWater::default() };
            let totals = Totals { sequence: 1, ..Totals::default() };
            engine.apply(vec![batch::totals_change(&totals)]).map_err(failed)?;
            engine.sync().map_err(|error| failed(EngineError::Other(error.to_string())))?;
            engine.write_high_water(&mark.encode()).map_err(failed)?;
            Ok((mark, totals))
        }
        (Some(found), None) => {
            Err(untrusted(format!("it is missing although the store is at commit {found}")))
        }
        (found, Some(mark)) => {
            let found = found.unwrap_or(0);
            if found < mark.sequence {
                let dir = dir.to_owned();
                return Err(OpenError::Behind {
                    quarantine: dir.clone(),
                    dir,
                    found,
                    expected: mark.sequence,
                });
            }
            Ok((mark, totals.unwrap_or_default()))
        }
    }
}

fn damaged(dir: &Path, reason: String) -> OpenError {
    move_aside(dir, OpenError::Damaged { dir: dir.to_owned(), quarantine: dir.to_owned(), reason })
}

/// Quarantines the directory when the error means damage or loss. The high-water file stays: without it the next
/// start would take the empty place for a new store.
fn move_aside(dir: &Path, error: OpenError) -> OpenError {
    let mut error = error;
    if let OpenError::Damaged { quarantine, .. } | OpenError::Behind { quarantine, .. } = &mut error {
        match files::quarantine(dir) {
            Ok(place) => *quarantine = place,
            Err(source) => return OpenError::io("quarantine", dir)(source),
        }
    }
    error
}
