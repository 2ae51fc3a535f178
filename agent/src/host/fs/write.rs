//! Writing below a root: always a new file, published by rename.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{
    AtFlags, Mode, OFlags, RenameFlags, fchmod, fchown, openat, renameat, renameat_with, unlinkat,
};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use super::Place;
use crate::host::HostError;

/// Mode and owner of a new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attrs {
    /// Permission bits; setuid, setgid and sticky are never set.
    pub mode: u32,
    /// Owner and group ids; ours when `None`.
    pub owner: Option<(u32, u32)>,
}

impl Default for Attrs {
    fn default() -> Self {
        Self { mode: 0o600, owner: None }
    }
}

/// A file that has no name that anybody looks for yet. Dropped without [`TempFile::publish`] it is removed.
pub struct TempFile {
    file: File,
    folder: OwnedFd,
    place: Place,
    temp: String,
    name: String,
    published: bool,
}

impl Place {
    /// Begins a new file that will appear here. `tag` (an execution id) names the temporary file, so that a run after a
    /// crash replaces what the crashed one left.
    ///
    /// # Errors
    /// As [`Place::open_read`]; `InvalidPath` for a tag that is no plain name.
    pub fn create(&self, tag: &str, attrs: Attrs) -> Result<TempFile, HostError> {
        if tag.is_empty()
            || tag.len() > 64
            || !tag.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        {
            return Err(HostError::InvalidPath {
                path: tag.into(),
                why: "a tag is letters, digits, '-' and '_', 64 bytes at most",
            });
        }
        let (parent, name) = self.parent()?;
        let folder = parent.open_folder()?;
        let temp = format!(".quorate-{tag}.tmp");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match openat(&folder, &temp, flags, Mode::from_raw_mode(0o600)) {
            Err(Errno::EXIST) => {
                unlinkat(&folder, &temp, AtFlags::empty())
                    .map_err(|e| self.refused("replace the rest of", e))?;
                openat(&folder, &temp, flags, Mode::from_raw_mode(0o600))
            }
            other => other,
        };
        let file = file.map_err(|e| self.refused("create", e))?;
        let place = self.clone();
        let made = TempFile { file: File::from(file), folder, place, temp, name, published: false };
        made.apply(attrs)?;
        Ok(made)
    }

    /// Writes a whole small file durably, replacing the old one at once.
    ///
    /// # Errors
    /// As [`Place::create`]; the old file is untouched then.
    pub fn write(&self, tag: &str, bytes: &[u8], attrs: Attrs) -> Result<(), HostError> {
        let mut temp = self.create(tag, attrs)?;
        let what = || format!("can not write {}", self.path().display());
        temp.write_all(bytes).map_err(HostError::io(what()))?;
        temp.publish().map(drop)
    }

    /// Renames within one root, durably; refuses to replace.
    ///
    /// # Errors
    /// `PathOutsideRoot` for another root, `Io` when the target exists.
    pub fn rename_to(&self, to: &Self) -> Result<(), HostError> {
        if self.root != to.root {
            return Err(HostError::PathOutsideRoot {
                path: to.path(),
                why: "it is below another root".into(),
            });
        }
        let ((from_parent, from), (to_parent, name)) = (self.parent()?, to.parent()?);
        let (from_folder, to_folder) = (from_parent.open_folder()?, to_parent.open_folder()?);
        renameat_with(&from_folder, &from, &to_folder, &name, RenameFlags::NOREPLACE)
            .map_err(|e| self.refused("rename", e))?;
        synced(self, from_folder)?;
        synced(to, to_folder)
    }

    /// Removes a file or a link itself, durably. A folder is refused.
    ///
    /// # Errors
    /// As [`Place::open_read`].
    pub fn remove(&self) -> Result<(), HostError> {
        let (parent, name) = self.parent()?;
        let folder = parent.open_folder()?;
        unlinkat(&folder, &name, AtFlags::empty()).map_err(|e| self.refused("remove", e))?;
        synced(self, folder)
    }
}

fn synced(place: &Place, folder: OwnedFd) -> Result<(), HostError> {
    File::from(folder)
        .sync_all()
        .map_err(HostError::io(format!("can not sync the folder of {}", place.path().display())))
}

impl TempFile {
    fn apply(&self, attrs: Attrs) -> Result<(), HostError> {
        if let Some((uid, gid)) = attrs.owner {
            fchown(&self.file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                .map_err(|e| self.place.refused("change the owner of", e))?;
        }
        // After the owner: changing it clears bits.
        fchmod(&self.file, Mode::from_raw_mode(attrs.mode & 0o777))
            .map_err(|e| self.place.refused("change the mode of", e))
    }

    /// The open file, for readers and for hashing what was written.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Makes it durable and gives it its name, replacing what was there. Returns the file.
    ///
    /// # Errors
    /// `Io`; then nothing was replaced.
    pub fn publish(mut self) -> Result<File, HostError> {
        let what = || format!("can not write {}", self.place.path().display());
        self.file.sync_all().map_err(HostError::io(what()))?;
        renameat(&self.folder, &self.temp, &self.folder, &self.name)
            .map_err(|e| self.place.refused("publish", e))?;
        self.published = true;
        let folder = self.folder.try_clone().map_err(HostError::io(what()))?;
        synced(&self.place, folder)?;
        self.file.try_clone().map_err(HostError::io(what()))
    }
}

impl Write for TempFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if !self.published {
            // What can not be removed now is replaced by the next run with the same tag.
            let _ = unlinkat(&self.folder, &self.temp, AtFlags::empty());
        }
    }
}
