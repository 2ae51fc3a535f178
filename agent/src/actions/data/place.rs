//! One folder of an instance: looked at, and renamed within the folder above it.
//!
//! Must never: follow a symbolic link below the folder that the host allows, replace anything, or remove anything.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use quorate_model::{QuarantineId, Reason};

use super::plan::{Identity, Names};
use super::record::Kept;
use crate::actions::{ActionContext, ActionError};
use crate::host::dir::{self, Folder, Kind, NAME_MAX_BYTES, Unfit};
use crate::runner::failpoint;

/// Most entries that are counted, and the deepest folder: what is larger is told as at least so much.
const COUNTED_MAX: usize = 100_000;
const DEPTH_MAX: usize = 64;

/// A folder below one that the host allows.
pub(super) struct Place {
    path: PathBuf,
    /// The folder above it, held open.
    above: Folder,
    name: OsString,
    aside: OsString,
    later: OsString,
}

/// Bytes on disk below a folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) bytes: u64,
    /// There is more than was counted.
    pub(super) more: bool,
}

impl Place {
    /// Finds it. Touches nothing.
    pub(super) fn new(
        context: &ActionContext,
        path: &str,
        quarantine: &QuarantineId,
    ) -> Result<Self, ActionError> {
        let path = Path::new(path);
        let (root, rest) = dir::allowed(&context.allowed_roots, path).map_err(|unfit| match unfit {
            Unfit::Malformed(why) => ActionError::invalid("paths", why),
            Unfit::Outside => ActionError::PathNotAllowed(path.to_path_buf()),
        })?;
        // A root itself is the administrator's.
        let Some(name) = rest.file_name().map(ToOwned::to_owned) else {
            return Err(ActionError::PathNotAllowed(path.to_path_buf()));
        };
        if let Some(own) = ours(context).find(|own| own.starts_with(path) || path.starts_with(own)) {
            let why = format!("{} and {} belong to this host's own work", path.display(), own.display());
            return Err(ActionError::Refused { reason: Reason::PolicyDenied, why });
        }
        let named = |end: &str| {
            let mut text = name.clone();
            text.push(format!(".quarantine-{quarantine}{end}"));
            text
        };
        let (aside, later) = (named(""), named("-later"));
        if later.len() > NAME_MAX_BYTES {
            return Err(ActionError::invalid("paths", "its name is too long to be put aside"));
        }
        let below = rest.parent().unwrap_or(Path::new(""));
        let opened = Folder::open_root(root).and_then(|root| root.beneath(below));
        let above = opened.map_err(|e| broken("opening the folder above", path, e))?;
        Ok(Self { path: path.to_path_buf(), above, name, aside, later })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where it lies while it is aside.
    pub(super) fn aside_path(&self) -> PathBuf {
        self.path.with_file_name(&self.aside)
    }

    /// Where what came in its place lies once it is back.
    pub(super) fn later_path(&self) -> PathBuf {
        self.path.with_file_name(&self.later)
    }

    fn look(&self, name: &OsStr) -> Result<Option<dir::Seen>, ActionError> {
        self.above.look(name).map_err(|e| broken("looking at", &self.path, e))
    }

    fn occupied(&self, why: &str) -> ActionError {
        ActionError::Refused {
            reason: Reason::WrongState,
            why: format!("{} is not put aside: {why}", self.path.display()),
        }
    }

    /// What it is now, when it can be put aside: a folder, on the file system of the one above it, and nothing of its other name.
    pub(super) fn fit(&self) -> Result<Kept, ActionError> {
        let Some(seen) = self.look(&self.name)? else {
            return Err(self.occupied("it does not exist"));
        };
        match seen.kind {
            Kind::Folder => {}
            Kind::Link => return Err(self.occupied("it is a symbolic link")),
            Kind::File => return Err(self.occupied("it is a file")),
            Kind::Special(what) => return Err(self.occupied(what)),
        }
        let above = self.above.seen().map_err(|e| broken("looking above", &self.path, e))?;
        if above.device != seen.device {
            return Err(self.occupied("it is a mount point, and is renamed on its own file system only"));
        }
        for name in [&self.aside, &self.later] {
            if self.look(name)?.is_some() {
                return Err(self.occupied(&format!("{} is there already", name.display())));
            }
        }
        Ok(Kept::new(&self.path, seen.identity(), (seen.mode, seen.uid, seen.gid)))
    }

    /// What its names hold.
    pub(super) fn names(&self) -> Result<Names, ActionError> {
        let identity = |name: &OsStr| -> Result<Option<Identity>, ActionError> {
            Ok(self.look(name)?.map(|seen| seen.identity()))
        };
        Ok(Names {
            here: identity(&self.name)?,
            aside: identity(&self.aside)?,
            later: identity(&self.later)?,
        })
    }

    fn rename(&self, from: &OsStr, to: &OsStr, doing: &'static str) -> Result<(), ActionError> {
        let renamed = self.above.rename_new(from, to).and_then(|()| self.above.sync());
        renamed.map_err(|e| match e.kind() {
            // A mount point below the same device, as a bind mount is.
            io::ErrorKind::ResourceBusy | io::ErrorKind::CrossesDevices => {
                self.occupied("it is a mount point, or lies on another file system")
            }
            _ => broken(doing, &self.path, e),
        })
    }

    /// Puts it aside; durable when this returns.
    pub(super) fn put_aside(&self) -> Result<(), ActionError> {
        self.rename(&self.name, &self.aside, "putting aside")
    }

    /// Puts it back where nothing is in its place; durable when this returns.
    pub(super) fn put_back(&self) -> Result<(), ActionError> {
        self.rename(&self.aside, &self.name, "putting back")
    }

    /// Puts what is in its place aside.
    pub(super) fn make_way(&self) -> Result<(), ActionError> {
        self.rename(&self.name, &self.later, "making way for")
    }

    /// Makes an empty one, or goes on where that was left, with the same owner and mode.
    pub(super) fn make(&self, like: &Kept) -> Result<(), ActionError> {
        let made = match self.above.create_folder(&self.name, 0o700) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => self.above.folder(&self.name),
            made => made,
        };
        failpoint::hit("data-bare");
        let looks = made.and_then(|made| made.set_look(like.uid, like.gid, like.mode));
        looks.and_then(|()| self.above.sync()).map_err(|e| broken("making", &self.path, e))
    }

    /// What lies aside, counted.
    pub(super) fn size(&self) -> Size {
        let (mut size, mut left) = (Size::default(), COUNTED_MAX);
        if let Ok(folder) = self.above.folder(&self.aside) {
            count(&folder, DEPTH_MAX, &mut left, &mut size);
        }
        size
    }
}

/// What this host works with itself.
fn ours(context: &ActionContext) -> impl Iterator<Item = &Path> {
    let install = &context.install;
    let lists = install.dirs.iter().chain(&install.configs).chain(&install.secrets);
    let own = [&context.backup_dir, &context.data_dir, &context.releases_dir, &context.hold_file];
    lists.chain(own).map(PathBuf::as_path)
}

/// Only told: what can not be read is left out, and said to be more.
fn count(folder: &Folder, depth: usize, left: &mut usize, size: &mut Size) {
    let (Some(depth), Ok(names)) = (depth.checked_sub(1), folder.names(*left)) else {
        size.more = true;
        return;
    };
    *left = left.saturating_sub(names.len());
    for name in names {
        match folder.look(&name) {
            Ok(Some(seen)) => {
                size.bytes = size.bytes.saturating_add(seen.allocated);
                if seen.kind == Kind::Folder {
                    match folder.folder(&name) {
                        Ok(inner) => count(&inner, depth, left, size),
                        Err(_) => size.more = true,
                    }
                }
            }
            Ok(None) => {}
            Err(_) => size.more = true,
        }
    }
}

fn broken(doing: &'static str, path: &Path, error: io::Error) -> ActionError {
    if dir::is_other_kind(&error) {
        return ActionError::PathNotAllowed(path.to_path_buf());
    }
    ActionError::io(doing, path, error)
}
