//! What this host remembers of the folders of one service that were put aside. In the helper's own folder.
//!
//! Must never: be guessed when it can not be read.

use std::io;
use std::path::{Path, PathBuf};

use quorate_model::{QuarantineId, ServiceName};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::plan::Identity;
use crate::actions::ActionError;
use crate::host::dir::Folder;
use crate::host::exec::hex;
use crate::host::fs;

/// Grows when an older helper could misread it.
const FORMAT: u32 = 1;
/// Largest record: some dozens of sets, a few KiB each.
const FILE_MAX_BYTES: u64 = 1 << 20;
/// Sets remembered of one service; the newest are kept. What was put aside stays there whoever remembers it.
const SETS_MAX: usize = 64;

/// One folder as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) path: String,
    device: u64,
    inode: u64,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Kept {
    pub(super) fn new(path: &Path, (device, inode): Identity, (mode, uid, gid): (u32, u32, u32)) -> Self {
        Self { path: path.display().to_string(), device, inode, mode, uid, gid }
    }

    pub(super) const fn identity(&self) -> Identity {
        (self.device, self.inode)
    }
}

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    /// Any of them may be aside.
    Begun,
    /// All of them are aside, with empty ones in their place.
    Aside,
    /// Any of them may be back.
    Returning,
    /// All of them are back.
    Returned,
}

/// Folders that are put aside together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Set {
    pub(super) quarantine: QuarantineId,
    /// The execution that works on it, or did last.
    pub(super) execution: String,
    pub(super) folders: Vec<Kept>,
    pub(super) phase: Phase,
}

/// The record of one service, oldest set first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    format: u32,
    service: ServiceName,
    sets: Vec<Set>,
    #[serde(skip)]
    file: PathBuf,
}

impl Record {
    /// Reads it; a service without one has nothing aside.
    pub(super) fn load(dir: &Path, service: &ServiceName) -> Result<Self, ActionError> {
        let digest = Sha256::digest(service.as_str().as_bytes());
        let file = dir.join(format!("data-{}.json", hex(digest.get(..16).unwrap_or_default())));
        let bytes = match fs::read_limited(&file, FILE_MAX_BYTES) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { format: FORMAT, service: service.clone(), sets: Vec::new(), file });
            }
            Err(e) => return Err(ActionError::io("reading", file, e)),
        };
        let damaged = |why: String| ActionError::Record { path: file.clone(), why };
        let record: Self = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        if record.format != FORMAT || record.service != *service {
            return Err(damaged(format!("format {} of {}", record.format, record.service)));
        }
        Ok(Self { file, ..record })
    }

    pub(super) fn get(&self, quarantine: &QuarantineId) -> Option<&Set> {
        self.sets.iter().find(|set| set.quarantine == *quarantine)
    }

    /// Takes over a set and writes the record durably.
    pub(super) fn put(&mut self, set: &Set) -> Result<(), ActionError> {
        self.sets.retain(|known| known.quarantine != set.quarantine);
        self.sets.push(set.clone());
        let over = self.sets.len().saturating_sub(SETS_MAX);
        self.sets.drain(..over);
        self.write()
    }

    /// Forgets a set of which nothing was done.
    pub(super) fn forget(&mut self, quarantine: &QuarantineId) -> Result<(), ActionError> {
        self.sets.retain(|known| known.quarantine != *quarantine);
        self.write()
    }

    fn write(&self) -> Result<(), ActionError> {
        let dir = self.file.parent().unwrap_or(Path::new("/"));
        Folder::make_root(dir).map_err(|e| ActionError::io("making", dir, e))?;
        let bytes = serde_json::to_vec_pretty(self)
            .map_err(|e| ActionError::io("writing", &self.file, io::Error::other(e)))?;
        fs::write_atomic(&self.file, &bytes, 0o600).map_err(|e| ActionError::io("writing", &self.file, e))
    }
}
