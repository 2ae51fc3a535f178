//! The folder of the backups: names, leftovers, and what makes a copy a published one.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use quorate_model::BackupId;

use crate::actions::ActionError;
use crate::host::dir::{self, Folder, Kind};

/// Most names in the folder of backups; retention keeps far fewer.
const NAMES_MAX: usize = 100_000;

/// The files of one backup.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) archive: OsString,
    pub(super) part: OsString,
    pub(super) manifest: OsString,
    pub(super) manifest_part: OsString,
}

impl Names {
    pub(super) fn new(id: &BackupId) -> Self {
        let name = |ending: &str| OsString::from(format!("{id}{ending}"));
        Self {
            archive: name(".tar.zst"),
            part: name(".tar.zst.part"),
            manifest: name(".manifest.json"),
            manifest_part: name(".manifest.json.part"),
        }
    }
}

/// The folder, open.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) folder: Folder,
}

impl Store {
    pub(super) fn open(path: &Path) -> Result<Self, ActionError> {
        let folder =
            Folder::make_root(path).map_err(|e| ActionError::io("opening the folder of backups", path, e))?;
        Ok(Self { folder })
    }

    pub(super) fn path(&self, name: &OsString) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Which folder it is, so that it never goes into a backup itself.
    pub(super) fn identity(&self) -> Result<(u64, u64), ActionError> {
        let seen = self.folder.seen().map_err(|e| self.failed("looking at", e))?;
        Ok(seen.identity())
    }

    fn failed(&self, doing: &'static str, e: std::io::Error) -> ActionError {
        ActionError::io(doing, self.folder.path(), e)
    }

    /// Removes what a crash left behind. A part that is being written is locked, and stays.
    pub(super) fn clean(&self) -> Result<(), ActionError> {
        let names = self.folder.names(NAMES_MAX).map_err(|e| self.failed("listing", e))?;
        for name in names {
            let bytes = name.as_bytes();
            if !bytes.ends_with(b".tar.zst.part") && !bytes.ends_with(b".manifest.json.part") {
                continue;
            }
            let is_file = self.folder.look(&name).map_err(|e| self.failed("looking into", e))?;
            if is_file.is_none_or(|seen| seen.kind != Kind::File) {
                continue;
            }
            let file = self
                .folder
                .open_change(&name)
                .map_err(|e| ActionError::io("opening", self.path(&name), e))?;
            if dir::try_lock(&file).map_err(|e| ActionError::io("locking", self.path(&name), e))? {
                self.folder.remove(&name).map_err(|e| ActionError::io("removing", self.path(&name), e))?;
            }
        }
        Ok(())
    }

    /// Refuses when the worst case would not fit and leave the reserve.
    pub(super) fn room_for(&self, bytes: u64, reserve: u64) -> Result<(), ActionError> {
        let free_bytes = self.folder.free_bytes().map_err(|e| self.failed("asking for free space of", e))?;
        let needed_bytes = bytes.saturating_add(reserve);
        if free_bytes < needed_bytes {
            let path = self.folder.path().to_path_buf();
            return Err(ActionError::LowSpace { path, needed_bytes, free_bytes });
        }
        Ok(())
    }
}
