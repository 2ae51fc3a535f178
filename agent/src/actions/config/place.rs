//! The file itself: read as it is, and replaced in one step.
//!
//! Must never: follow a symbolic link below the folder that the host allows, take anything but a plain file for a configuration
//! file, or leave half a file under its name.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use quorate_model::config::CONFIG_MAX_BYTES;

use super::record::digest_of;
use crate::actions::ActionError;
use crate::host::dir::{self, Folder, Kind, Seen, Unfit};
use crate::runner::failpoint;

/// Permission bits of a file that did not exist and whose declaration names none.
const MODE: u32 = 0o644;
/// End of the name of a file that is being written.
const UNFINISHED: &str = ".quorate-new";

/// A file below a folder that the host allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::actions) struct Place {
    root: PathBuf,
    below: PathBuf,
    name: OsString,
    path: PathBuf,
}

/// What is in place.
#[derive(Clone, Debug)]
pub(in crate::actions) struct Found {
    pub(in crate::actions) bytes: Vec<u8>,
    pub(super) digest: String,
    pub(in crate::actions) mode: u32,
    pub(in crate::actions) uid: u32,
    pub(in crate::actions) gid: u32,
}

impl Place {
    /// Finds the allowed folder it lies in. Touches nothing.
    pub(in crate::actions) fn new(roots: &[PathBuf], path: &str) -> Result<Self, ActionError> {
        let path = Path::new(path);
        let (root, rest) = dir::allowed(roots, path).map_err(|unfit| match unfit {
            Unfit::Malformed(why) => ActionError::invalid("config.path", why),
            Unfit::Outside => ActionError::PathNotAllowed(path.to_path_buf()),
        })?;
        let Some(name) = rest.file_name().map(ToOwned::to_owned) else {
            return Err(ActionError::invalid("config.path", "it names a folder"));
        };
        let below = rest.parent().unwrap_or(Path::new("")).to_path_buf();
        Ok(Self { root: root.to_path_buf(), below, name, path: path.to_path_buf() })
    }

    /// Its path.
    pub(in crate::actions) fn path(&self) -> &Path {
        &self.path
    }

    fn broken(&self, doing: &'static str, error: std::io::Error) -> ActionError {
        if dir::is_other_kind(&error) {
            return ActionError::PathNotAllowed(self.path.clone());
        }
        ActionError::io(doing, &self.path, error)
    }

    fn occupied(&self, why: &str) -> ActionError {
        ActionError::Occupied { path: self.path.clone(), why: why.to_owned() }
    }

    fn folder(&self) -> Result<Folder, ActionError> {
        let opened = Folder::open_root(&self.root).and_then(|root| root.beneath(&self.below));
        opened.map_err(|e| self.broken("opening the folder of", e))
    }

    fn plain(&self, seen: &Seen) -> Result<(), ActionError> {
        match seen.kind {
            Kind::Link => Err(self.occupied("it is a symbolic link")),
            Kind::Folder => Err(self.occupied("it is a folder")),
            Kind::Special(what) => Err(self.occupied(what)),
            Kind::File if seen.links > 1 => Err(self.occupied("it has another name beside this one")),
            Kind::File if seen.size > CONFIG_MAX_BYTES => {
                Err(self.occupied("it is larger than a configuration file may be"))
            }
            Kind::File => Ok(()),
        }
    }

    /// What is there; none when there is no file.
    pub(in crate::actions) fn read(&self) -> Result<Option<Found>, ActionError> {
        let folder = self.folder()?;
        let Some(seen) = folder.look(&self.name).map_err(|e| self.broken("looking at", e))? else {
            return Ok(None);
        };
        self.plain(&seen)?;
        let file = folder.open_read(&self.name).map_err(|e| self.broken("opening", e))?;
        let seen = dir::seen(&file).map_err(|e| self.broken("looking at", e))?;
        self.plain(&seen)?;
        let mut bytes = Vec::new();
        file.take(CONFIG_MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|e| self.broken("reading", e))?;
        if bytes.len() as u64 > CONFIG_MAX_BYTES {
            return Err(self.occupied("it is larger than a configuration file may be"));
        }
        let Seen { mode, uid, gid, .. } = seen;
        Ok(Some(Found { digest: digest_of(&bytes), bytes, mode, uid, gid }))
    }

    /// Permission bits and owner for a new content: those of the file in place, unless the declaration names others; a file that
    /// did not exist belongs to its folder's owner.
    pub(super) fn look_of(
        &self,
        declared: u32,
        found: Option<&Found>,
    ) -> Result<(u32, u32, u32), ActionError> {
        let (kept, uid, gid) = match found {
            Some(found) => (found.mode & 0o777, found.uid, found.gid),
            None => {
                let folder = self.folder()?.seen().map_err(|e| self.broken("looking at the folder of", e))?;
                (MODE, folder.uid, folder.gid)
            }
        };
        Ok((if declared == 0 { kept } else { declared }, uid, gid))
    }

    /// Puts a content in place in one step; durable when this returns.
    pub(in crate::actions) fn put(
        &self,
        bytes: &[u8],
        (mode, uid, gid): (u32, u32, u32),
    ) -> Result<(), ActionError> {
        let folder = self.folder()?;
        let mut unfinished = OsString::from(".");
        unfinished.push(&self.name);
        unfinished.push(UNFINISHED);
        let write = || {
            folder.remove(&unfinished)?;
            let mut file = folder.create_new(&unfinished, 0o600)?;
            file.write_all(bytes)?;
            dir::set_owner_and_mode(&file, uid, gid, mode)?;
            file.sync_all()?;
            failpoint::hit("config-unnamed");
            folder.rename(&unfinished, &self.name)?;
            folder.sync()
        };
        write().map_err(|e| {
            // What can not be removed now is replaced by the next content.
            let _ = folder.remove(&unfinished);
            self.broken("writing", e)
        })
    }

    /// Removes the file; durable when this returns.
    pub(in crate::actions) fn remove(&self) -> Result<(), ActionError> {
        let folder = self.folder()?;
        folder.remove(&self.name).and_then(|()| folder.sync()).map_err(|e| self.broken("removing", e))
    }
}
