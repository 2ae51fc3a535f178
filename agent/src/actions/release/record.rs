//! What this host remembers of the releases of one place (a folder, or a package): what is staged, what was in use before
//! each, and the last switch. In the helper's own folder, where nobody who may write beside the releases can change it.
//!
//! Must never: be guessed when it can not be read. A lost way back is told, not invented.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::actions::ActionError;
use crate::host::dir::Folder;
use crate::host::exec::hex;
use crate::host::fs;

/// Grows when an older helper could misread it.
const FORMAT: u32 = 1;
/// Largest file: some dozens of releases, a few hundred bytes each.
const FILE_MAX_BYTES: u64 = 1 << 20;
/// Most releases remembered; far more than are kept.
const REMEMBERED_MAX: usize = 256;

/// A release that lies on this host, verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Staged {
    pub(super) version: String,
    /// sha256 of the artifact.
    pub(super) artifact: String,
    /// Name of the key that signed it, empty for none.
    pub(super) signed_by: String,
    /// That key.
    pub(super) key: String,
    /// Fingerprint of what was laid out.
    pub(super) content: String,
    /// When, milliseconds since 1970: the oldest goes first.
    pub(super) at_ms: i64,
}

/// What was in use when a release was activated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Before {
    /// Text of the link, or the package's version; none when there was none.
    pub(super) used: Option<String>,
    /// Whether the service ran.
    pub(super) running: bool,
}

/// A switch: written before the service is disturbed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Switch {
    /// By which execution.
    pub(super) execution: String,
    /// The release it is about.
    pub(super) release: String,
    /// What is to be in use afterwards.
    pub(super) to: Option<String>,
    /// The run of the service before; a later one is of what was switched to.
    pub(super) run: String,
    /// The service was seen running afterwards.
    pub(super) finished: bool,
}

/// The file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    format: u32,
    /// The folder or package, for people.
    place: String,
    #[serde(default)]
    pub(super) staged: BTreeMap<String, Staged>,
    #[serde(default)]
    pub(super) previous: BTreeMap<String, Before>,
    #[serde(default)]
    pub(super) last: Option<Switch>,
}

impl Record {
    fn file(store: &Path, place: &str) -> PathBuf {
        let digest = Sha256::digest(place.as_bytes());
        store.join(format!("{}.json", hex(digest.get(..16).unwrap_or_default())))
    }

    /// Reads it; a place without a file has nothing.
    pub(super) fn load(store: &Path, place: &str) -> Result<Self, ActionError> {
        let path = Self::file(store, place);
        let bytes = match fs::read_limited(&path, FILE_MAX_BYTES) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Ok(Self {
                    format: FORMAT,
                    place: place.to_owned(),
                    staged: BTreeMap::new(),
                    previous: BTreeMap::new(),
                    last: None,
                });
            }
            Err(e) => return Err(ActionError::io("reading", path, e)),
        };
        let damaged = |why: String| ActionError::Record { path: path.clone(), why };
        let record: Self = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        if record.format != FORMAT || record.place != place {
            return Err(damaged(format!("format {} of {}", record.format, record.place)));
        }
        Ok(record)
    }

    /// Writes it durably.
    pub(super) fn store(&mut self, store: &Path) -> Result<(), ActionError> {
        while self.previous.len() > REMEMBERED_MAX {
            let Some(oldest) = self.previous.keys().find(|name| !self.staged.contains_key(*name)).cloned()
            else {
                break;
            };
            self.previous.remove(&oldest);
        }
        let path = Self::file(store, &self.place);
        Folder::make_root(store).map_err(|e| ActionError::io("making", store, e))?;
        let bytes = serde_json::to_vec_pretty(self)
            .map_err(|e| ActionError::io("writing", &path, io::Error::other(e)))?;
        fs::write_atomic(&path, &bytes, 0o600).map_err(|e| ActionError::io("writing", path, e))
    }

    /// The newest first.
    pub(super) fn newest(&self) -> Vec<String> {
        let mut names: Vec<_> = self.staged.iter().map(|(name, staged)| (staged.at_ms, name)).collect();
        names.sort_unstable_by(|a, b| b.cmp(a));
        names.into_iter().map(|(_, name)| name.clone()).collect()
    }
}
