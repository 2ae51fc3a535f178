//! The folder of a service's releases: `releases/` beside the link `current`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::record::Staged;
use super::tree;
use crate::actions::ActionError;
use crate::actions::job::Job;
use crate::host::dir::{self, Folder, Kind, Unfit};

/// Where releases lie.
pub(super) const RELEASES: &str = "releases";
/// The link to the one in use.
const CURRENT: &str = "current";
/// The link before it has its name.
const NEXT: &str = ".current.new";
/// Everybody may read a release: the service's user is not known here.
const FOLDER_MODE: u32 = 0o755;

/// A folder below one that the host allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Laid {
    root: PathBuf,
    below: PathBuf,
    dir: PathBuf,
}

fn broken(doing: &'static str, path: &Path, error: std::io::Error) -> ActionError {
    if dir::is_other_kind(&error) {
        return ActionError::PathNotAllowed(path.to_path_buf());
    }
    ActionError::io(doing, path, error)
}

impl Laid {
    /// Finds the allowed folder it lies in. Touches nothing.
    pub(super) fn new(roots: &[PathBuf], dir: &str) -> Result<Self, ActionError> {
        let path = Path::new(dir);
        let (root, below) = dir::allowed(roots, path).map_err(|unfit| match unfit {
            Unfit::Malformed(why) => ActionError::invalid("install.dir", why),
            Unfit::Outside => ActionError::PathNotAllowed(path.to_path_buf()),
        })?;
        Ok(Self { root: root.to_path_buf(), below, dir: path.to_path_buf() })
    }

    /// Its path.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Text of the link to a release.
    pub(super) fn text(name: &str) -> String {
        format!("{RELEASES}/{name}")
    }

    /// The folder, made if need be; the allowed one itself must be there, since its owner is the administrator's choice.
    pub(super) fn make(&self) -> Result<Folder, ActionError> {
        let mut folder = Folder::open_root(&self.root).map_err(|e| broken("opening", &self.root, e))?;
        for name in &self.below {
            folder = folder.make_folder(name, FOLDER_MODE).map_err(|e| broken("opening", &self.dir, e))?;
        }
        Ok(folder)
    }

    /// The folder of the releases, made if need be.
    pub(super) fn releases(&self) -> Result<Folder, ActionError> {
        let folder = self.make()?;
        folder.make_folder(OsStr::new(RELEASES), FOLDER_MODE).map_err(|e| broken("opening", &self.dir, e))
    }

    fn open(&self) -> Result<Option<Folder>, ActionError> {
        let opened = Folder::open_root(&self.root).and_then(|root| root.beneath(&self.below));
        match opened {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(broken("opening", &self.dir, e)),
            Ok(folder) => Ok(Some(folder)),
        }
    }

    /// Text of the link; none when there is none.
    pub(super) fn used(&self) -> Result<Option<String>, ActionError> {
        let path = self.dir.join(CURRENT);
        let Some(folder) = self.open()? else { return Ok(None) };
        let name = OsStr::new(CURRENT);
        let occupied = |why: &str| ActionError::Occupied { path: path.clone(), why: why.to_owned() };
        match folder.look(name).map_err(|e| broken("looking at", &path, e))?.map(|seen| seen.kind) {
            None => Ok(None),
            Some(Kind::Link) => {
                let text = folder.link_target(name).map_err(|e| broken("reading", &path, e))?;
                String::from_utf8(text)
                    .map(Some)
                    .map_err(|_| occupied("it points at a name that is not UTF-8"))
            }
            Some(Kind::File | Kind::Folder | Kind::Special(_)) => Err(occupied("it is no symbolic link")),
        }
    }

    /// Points the link elsewhere in one step, or removes it; durable when this returns.
    pub(super) fn switch(&self, to: Option<&str>) -> Result<(), ActionError> {
        let path = self.dir.join(CURRENT);
        let failed = |e| broken("switching", &path, e);
        let folder = self.make()?;
        self.used()?;
        match to {
            Some(text) => {
                folder.remove(OsStr::new(NEXT)).map_err(failed)?;
                folder.link(OsStr::new(NEXT), text.as_bytes()).map_err(failed)?;
                folder.rename(OsStr::new(NEXT), OsStr::new(CURRENT)).map_err(failed)?;
            }
            None => folder.remove(OsStr::new(CURRENT)).map_err(failed)?,
        }
        folder.sync().map_err(failed)
    }

    /// Whether what a link's text names can be switched to. A text that is not ours was the administrator's, and is believed.
    pub(super) fn is_there(&self, text: &str) -> Result<bool, ActionError> {
        let Some(name) = text.strip_prefix("releases/").filter(|name| !name.contains('/')) else {
            return Ok(true);
        };
        let seen = self.releases()?.look(OsStr::new(name)).map_err(|e| broken("looking at", &self.dir, e))?;
        Ok(seen.is_some_and(|seen| seen.kind == Kind::Folder))
    }

    /// Whether a staged release is still what was laid out.
    pub(super) fn is_intact(&self, name: &str, staged: &Staged, job: &mut Job) -> Result<bool, ActionError> {
        let releases = self.releases()?;
        let kind = releases.look(OsStr::new(name)).map_err(|e| broken("looking at", &self.dir, e))?;
        if kind.is_none_or(|seen| seen.kind != Kind::Folder) {
            return Ok(false);
        }
        let folder = releases.folder(OsStr::new(name)).map_err(|e| broken("opening", &self.dir, e))?;
        Ok(tree::fingerprint(&folder, job)? == staged.content)
    }

    /// Removes a release that nobody uses.
    pub(super) fn remove(&self, name: &str) -> Result<(), ActionError> {
        let releases = self.releases()?;
        releases.remove_tree(OsStr::new(name)).map_err(|e| broken("removing", &self.dir.join(name), e))?;
        releases.sync().map_err(|e| broken("syncing", &self.dir, e))
    }
}
