//! What this host remembers of one secret: how far which rotation has come, and the content that was staged for it. In the
//! helper's own folder, for its eyes alone.
//!
//! Must never: be guessed when it can not be read, or keep a content longer than its rotation.

use std::ffi::OsStr;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use quorate_model::secret::SECRET_MAX_BYTES;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::actions::ActionError;
use crate::host::dir::{Folder, Kind};
use crate::host::exec::hex;
use crate::host::fs;

/// Grows when an older helper could misread it.
const FORMAT: u32 = 1;
/// Largest record: a few hundred bytes.
const FILE_MAX_BYTES: u64 = 64 * 1024;
/// The staged content.
const NEXT: &str = "next";

/// How far a rotation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    /// The next one is here; nothing was put to use.
    Staged,
    /// The files may have been written.
    Installing,
    /// The service has read them.
    Used,
    /// It was seen to work with the new one.
    Confirmed,
    /// The one before may be in place again.
    Returning,
    /// The service has read that.
    Returned,
    /// The one before may be gone.
    Retiring,
    /// It is, and the service has read that.
    Retired,
}

/// The record of one secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    format: u32,
    /// The secret's file.
    path: String,
    /// The last rotation; empty when there was none.
    pub(super) rotation: String,
    pub(super) phase: Phase,
    /// The rotation before it has left two secrets here that may be in use, and this one has not put its own in place.
    #[serde(default)]
    pub(super) inherited: bool,
    /// The rotation that has put the next one in use here and was finished here, before this one began: nothing is put in
    /// place, and nothing taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) since: Option<String>,
    /// Whether the service ran when the files were about to be written.
    #[serde(default)]
    pub(super) running: bool,
}

impl Record {
    fn empty(path: &str) -> Self {
        Self {
            format: FORMAT,
            path: path.to_owned(),
            rotation: String::new(),
            phase: Phase::Retired,
            inherited: false,
            since: None,
            running: false,
        }
    }

    /// Whether two secrets lie here of which somebody may use either.
    pub(super) fn open(&self) -> bool {
        match self.phase {
            Phase::Staged => self.inherited,
            Phase::Used | Phase::Confirmed => self.since.is_none(),
            Phase::Installing | Phase::Returning | Phase::Retiring => true,
            Phase::Returned | Phase::Retired => false,
        }
    }

    /// The next rotation has its content here.
    pub(super) fn staged(&mut self, rotation: &str) {
        self.inherited = self.open();
        self.since = None;
        rotation.clone_into(&mut self.rotation);
        self.phase = Phase::Staged;
    }

    /// Whether this host has come to the end of a rotation that stopped elsewhere, itself or as one that had it before.
    pub(super) fn finished(&self, stopped: &str) -> bool {
        match &self.since {
            Some(since) => since == stopped || self.rotation == stopped,
            None => self.rotation == stopped && self.phase == Phase::Retired,
        }
    }

    /// The next rotation finds its content in use.
    pub(super) fn in_use(&mut self, rotation: &str) {
        let before = core::mem::replace(&mut self.rotation, rotation.to_owned());
        self.since.get_or_insert(before);
        self.inherited = false;
        self.phase = Phase::Used;
    }
}

/// Where the record and the staged content of one secret are kept.
pub(super) struct Store {
    dir: PathBuf,
    path: String,
}

impl Store {
    /// Of one secret; nothing is touched.
    pub(super) fn new(releases_dir: &Path, path: &Path) -> Self {
        let digest = Sha256::digest(path.as_os_str().as_encoded_bytes());
        let name = format!("secret-{}", hex(digest.get(..16).unwrap_or_default()));
        Self { dir: releases_dir.join(name), path: path.display().to_string() }
    }

    fn record_path(&self) -> PathBuf {
        self.dir.join("record.json")
    }

    /// Where the staged content lies: the file that a hook writes which makes one.
    pub(super) fn next_path(&self) -> PathBuf {
        self.dir.join(NEXT)
    }

    /// Reads the record; a secret without one is not known.
    pub(super) fn load(&self) -> Result<Record, ActionError> {
        let path = self.record_path();
        let bytes = match fs::read_limited(&path, FILE_MAX_BYTES) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Record::empty(&self.path)),
            Err(e) => return Err(ActionError::io("reading", path, e)),
        };
        let damaged = |why: String| ActionError::Record { path: path.clone(), why };
        let record: Record = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        if record.format != FORMAT || record.path != self.path {
            return Err(damaged(format!("format {} of {}", record.format, record.path)));
        }
        Ok(record)
    }

    /// Writes the record durably.
    pub(super) fn store(&self, record: &Record) -> Result<(), ActionError> {
        let path = self.record_path();
        Folder::make_root(&self.dir).map_err(|e| ActionError::io("making", &self.dir, e))?;
        let bytes = serde_json::to_vec_pretty(record)
            .map_err(|e| ActionError::io("writing", &path, io::Error::other(e)))?;
        fs::write_atomic(&path, &bytes, 0o600).map_err(|e| ActionError::io("writing", path, e))
    }

    /// Keeps the staged content durably, in place of any other. `None` leaves an empty file for a hook to write.
    pub(super) fn keep(&self, next: Option<&[u8]>) -> Result<(), ActionError> {
        let write = || -> io::Result<()> {
            let root = Folder::make_root(&self.dir)?;
            root.remove(OsStr::new(NEXT))?;
            let mut file = root.create_new(OsStr::new(NEXT), 0o600)?;
            file.write_all(next.unwrap_or_default())?;
            file.sync_all()?;
            root.sync()
        };
        write().map_err(|e| ActionError::io("writing", self.next_path(), e))
    }

    /// The staged content; none when there is none.
    pub(super) fn next(&self) -> Result<Option<Zeroizing<Vec<u8>>>, ActionError> {
        let read = || -> io::Result<Option<Zeroizing<Vec<u8>>>> {
            let folder = match Folder::open_root(&self.dir) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
                opened => opened?,
            };
            if folder.look(OsStr::new(NEXT))?.is_none_or(|seen| seen.kind != Kind::File) {
                return Ok(None);
            }
            let mut bytes = Zeroizing::new(Vec::new());
            folder.open_read(OsStr::new(NEXT))?.take(SECRET_MAX_BYTES + 1).read_to_end(&mut bytes)?;
            Ok(Some(bytes))
        };
        read().map_err(|e| ActionError::io("reading", self.next_path(), e))
    }

    /// Forgets the staged content.
    pub(super) fn forget(&self) -> Result<(), ActionError> {
        let remove = || -> io::Result<()> {
            let root = Folder::make_root(&self.dir)?;
            root.remove(OsStr::new(NEXT))?;
            root.sync()
        };
        remove().map_err(|e| ActionError::io("removing", self.next_path(), e))
    }
}
