//! What this host remembers of one configuration file: which contents were checked and compared with what, what was put in
//! place of what, and the contents themselves. In the helper's own folder.
//!
//! Must never: be guessed when it can not be read, or hand out a content that is not what its name says.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use quorate_model::config::CONFIG_MAX_BYTES;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::actions::ActionError;
use crate::host::dir::{Folder, Kind};
use crate::host::exec::hex;
use crate::host::fs;

/// Grows when an older helper could misread it.
const FORMAT: u32 = 1;
/// Largest record: some dozens of contents, a few hundred bytes each.
const FILE_MAX_BYTES: u64 = 1 << 20;
/// Contents remembered of one file; the newest are kept.
const STAGED_MAX: usize = 16;
/// Most names in the folder of one file's contents; far more than are kept.
const NAMES_MAX: usize = 1_024;

/// A content that was checked and compared on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Staged {
    pub(super) version: String,
    /// Name of the key that signed it, empty for none.
    pub(super) signed_by: String,
    /// That key.
    pub(super) key: String,
    /// Digest of the file in place that it was compared with; none when there was no file.
    pub(super) against: Option<String>,
    /// When, milliseconds since 1970: the oldest goes first.
    pub(super) at_ms: i64,
}

/// The file that was in place before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Previous {
    pub(super) digest: String,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// How far a change has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    /// The way back is known; nothing was written yet.
    Owed,
    /// It may have been written.
    Written,
    /// The service uses it.
    Used,
    /// It stays.
    Confirmed,
    /// The one before may have been written.
    Returning,
    /// The service uses the one before again.
    Returned,
}

/// The last change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Applied {
    /// By which execution; what is owed is named by it.
    pub(super) execution: String,
    /// What was put in place.
    pub(super) digest: String,
    /// What was there; none when there was no file.
    pub(super) previous: Option<Previous>,
    /// Whether the service ran.
    pub(super) running: bool,
    pub(super) phase: Phase,
}

/// The record of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    format: u32,
    /// The file.
    path: String,
    #[serde(default)]
    pub(super) staged: BTreeMap<String, Staged>,
    #[serde(default)]
    pub(super) applied: Option<Applied>,
}

impl Record {
    /// Of a file of which nothing is known.
    pub(super) fn empty(path: &str) -> Self {
        Self { format: FORMAT, path: path.to_owned(), staged: BTreeMap::new(), applied: None }
    }

    /// The version that a content was staged as; empty when it was none of ours.
    pub(super) fn version(&self, digest: Option<&str>) -> String {
        digest
            .and_then(|digest| self.staged.get(digest))
            .map(|staged| staged.version.clone())
            .unwrap_or_default()
    }
}

/// Where the record and the contents of one file are kept.
pub(super) struct Store {
    dir: PathBuf,
    path: String,
    file: OsString,
}

impl Store {
    /// Of one file; nothing is touched.
    pub(super) fn new(releases_dir: &Path, path: &Path) -> Self {
        let text = path.display().to_string();
        let digest = Sha256::digest(path.as_os_str().as_encoded_bytes());
        let name = format!("config-{}", hex(digest.get(..16).unwrap_or_default()));
        let file = path.file_name().unwrap_or(OsStr::new("config")).to_owned();
        Self { dir: releases_dir.join(name), path: text, file }
    }

    fn record_path(&self) -> PathBuf {
        self.dir.join("record.json")
    }

    /// Reads the record; a file without one is not known.
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

    /// Writes the record durably, and forgets contents that nobody needs.
    pub(super) fn store(&self, record: &mut Record) -> Result<(), ActionError> {
        let needed = |record: &Record, digest: &str| {
            record.applied.as_ref().is_some_and(|applied| {
                applied.digest == digest || applied.previous.as_ref().is_some_and(|p| p.digest == digest)
            })
        };
        while record.staged.len() > STAGED_MAX {
            let old = record.staged.iter().filter(|(digest, _)| !needed(record, digest));
            let Some(oldest) = old.min_by_key(|(_, staged)| staged.at_ms).map(|(digest, _)| digest.clone())
            else {
                break;
            };
            record.staged.remove(&oldest);
        }
        let path = self.record_path();
        let folder = Folder::make_root(&self.dir).map_err(|e| ActionError::io("making", &self.dir, e))?;
        let bytes = serde_json::to_vec_pretty(record)
            .map_err(|e| ActionError::io("writing", &path, io::Error::other(e)))?;
        fs::write_atomic(&path, &bytes, 0o600).map_err(|e| ActionError::io("writing", path, e))?;
        // After the record: a content that is named is always there.
        let failed = |e| ActionError::io("cleaning", &self.dir, e);
        for name in folder.names(NAMES_MAX).map_err(failed)? {
            let Some(digest) = name.to_str().filter(|name| name.len() == 64) else { continue };
            if !record.staged.contains_key(digest) && !needed(record, digest) {
                folder.remove_tree(&name).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Keeps a content durably, under its digest and the file's own name, and tells where: a check may look at the name.
    pub(super) fn keep(&self, digest: &str, bytes: &[u8]) -> Result<PathBuf, ActionError> {
        let path = self.dir.join(digest).join(&self.file);
        if self.content(digest)?.is_some() {
            return Ok(path);
        }
        let write = || -> io::Result<()> {
            let root = Folder::make_root(&self.dir)?;
            root.remove_tree(OsStr::new(digest))?;
            let folder = root.make_folder(OsStr::new(digest), 0o700)?;
            let mut file = folder.create_new(&self.file, 0o600)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            folder.sync()?;
            root.sync()
        };
        write().map_err(|e| ActionError::io("writing", &path, e))?;
        Ok(path)
    }

    /// A content that was kept; none when it is not there, or not what it was.
    pub(super) fn content(&self, digest: &str) -> Result<Option<Vec<u8>>, ActionError> {
        let path = self.dir.join(digest).join(&self.file);
        let read = || -> io::Result<Option<Vec<u8>>> {
            let folder = match Folder::open_root(&self.dir).and_then(|root| root.folder(OsStr::new(digest))) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
                opened => opened?,
            };
            if folder.look(&self.file)?.is_none_or(|seen| seen.kind != Kind::File) {
                return Ok(None);
            }
            let mut bytes = Vec::new();
            folder.open_read(&self.file)?.take(CONFIG_MAX_BYTES + 1).read_to_end(&mut bytes)?;
            Ok(Some(bytes))
        };
        let bytes = read().map_err(|e| ActionError::io("reading", &path, e))?;
        Ok(bytes.filter(|bytes| digest_of(bytes) == digest))
    }
}

/// sha256 as text.
pub(super) fn digest_of(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}
