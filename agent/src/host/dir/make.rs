//! Making and removing folders and links below a folder that is held by descriptor.

use std::ffi::OsStr;
use std::io;

use rustix::fs::{AtFlags, Gid, Mode, Uid};
use rustix::io::Errno;

use super::{Folder, Kind, single};

/// Deepest folder that is removed: far below what anything of ours makes, far above what recursion can bear.
const DEPTH_MAX: usize = 96;
/// Most names of one folder that is removed.
const NAMES_MAX: usize = 200_000;

impl Folder {
    /// Opens a folder in this one, and makes it when it is missing. Whatever the umask is, a new one has this mode.
    ///
    /// # Errors
    /// As `mkdirat` and `openat`; a link or a file of that name is refused.
    pub fn make_folder(&self, name: &OsStr, mode: u32) -> io::Result<Self> {
        match self.create_folder(name, mode) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => self.folder(name),
            done => done,
        }
    }

    /// Makes a folder that did not exist, with this mode.
    ///
    /// # Errors
    /// As `mkdirat` and `openat`; `AlreadyExists` for anything of that name, a link included.
    pub fn create_folder(&self, name: &OsStr, mode: u32) -> io::Result<Self> {
        rustix::fs::mkdirat(&self.fd, single(name)?, Mode::from_raw_mode(0o700))?;
        let made = self.folder(name)?;
        made.set_mode(mode)?;
        Ok(made)
    }

    /// Gives the folder itself its mode, without setuid, setgid and sticky.
    ///
    /// # Errors
    /// As `fchmod`.
    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        Ok(rustix::fs::fchmod(&self.fd, Mode::from_raw_mode(mode & 0o777))?)
    }

    /// Gives the folder itself its owner, then its mode, with setgid and sticky where it has them.
    ///
    /// # Errors
    /// As `fchown`, `fchmod`. Without the right to change the owner to what it is already, nothing fails.
    pub fn set_look(&self, uid: u32, gid: u32, mode: u32) -> io::Result<()> {
        let now = self.seen()?;
        if (now.uid, now.gid) != (uid, gid) {
            rustix::fs::fchown(&self.fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        }
        Ok(rustix::fs::fchmod(&self.fd, Mode::from_raw_mode(mode & 0o7777))?)
    }

    /// Makes a symbolic link that did not exist. Where it points is the caller's business: nothing here follows it.
    ///
    /// # Errors
    /// As `symlinkat`.
    pub fn link(&self, name: &OsStr, target: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::symlinkat(target, &self.fd, single(name)?)?)
    }

    /// Moves a name into another folder of the same file system; an existing one there is replaced.
    ///
    /// # Errors
    /// As `renameat`.
    pub fn move_into(&self, from: &OsStr, into: &Self, to: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.fd, single(from)?, &into.fd, single(to)?)?)
    }

    /// Makes everything that was written to its file system survive a power cut, in one step for thousands of files.
    ///
    /// # Errors
    /// As `syncfs`.
    pub fn sync_file_system(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&self.fd)?)
    }

    /// Removes a name and everything beneath it, links themselves and never what they point at; nothing there is no error.
    ///
    /// # Errors
    /// As `unlinkat`; `InvalidData` when it is deeper or fuller than anything of ours.
    pub fn remove_tree(&self, name: &OsStr) -> io::Result<()> {
        self.remove_below(name, DEPTH_MAX)
    }

    fn remove_below(&self, name: &OsStr, depth: usize) -> io::Result<()> {
        match self.look(name)?.map(|seen| seen.kind) {
            None => return Ok(()),
            Some(Kind::File | Kind::Link | Kind::Special(_)) => return self.remove(name),
            Some(Kind::Folder) => {}
        }
        let left = depth
            .checked_sub(1)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it is too deep to be removed"))?;
        let folder = self.folder(name)?;
        for inner in folder.names(NAMES_MAX)? {
            folder.remove_below(&inner, left)?;
        }
        match rustix::fs::unlinkat(&self.fd, single(name)?, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_tree_is_removed_and_what_its_links_point_at_stays() {
        let dir = tempfile::tempdir().unwrap();
        let root = Folder::open_root(dir.path()).unwrap();
        let tree = root.make_folder(OsStr::new("tree"), 0o755).unwrap();
        let deep = tree.make_folder(OsStr::new("deep"), 0o700).unwrap();
        std::fs::write(dir.path().join("kept"), b"x").unwrap();
        deep.link(OsStr::new("out"), b"../../kept").unwrap();
        tree.link(OsStr::new("up"), b"..").unwrap();
        let mode = std::fs::metadata(dir.path().join("tree")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o755, "whatever the umask");
        assert!(root.create_folder(OsStr::new("tree"), 0o755).is_err(), "there is one already");
        assert!(tree.make_folder(OsStr::new("up"), 0o755).is_err(), "a link is no folder");
        root.remove_tree(OsStr::new("tree")).unwrap();
        root.remove_tree(OsStr::new("tree")).unwrap();
        assert!(!dir.path().join("tree").exists() && dir.path().join("kept").exists());
    }
}
