//! Configured roots, and places below them.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, fstatvfs, openat2};
use rustix::io::Errno;

use crate::host::HostError;

/// Longest path the kernel takes.
const PATH_MAX_BYTES: usize = 4096;
/// Longest single name on Linux file systems.
const NAME_MAX_BYTES: usize = 255;
/// Most roots in a configuration; each look-up compares with all of them.
pub const ROOTS_MAX: usize = 64;
/// How often an `openat2` that raced with a rename elsewhere is tried again; the kernel asks for it with EAGAIN.
const RACES_MAX: u32 = 128;

const BELOW: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// Space of a file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Size in bytes.
    pub size_bytes: u64,
    /// Bytes free for unprivileged use.
    pub available_bytes: u64,
    /// Inodes in all.
    pub inodes: u64,
    /// Inodes free.
    pub inodes_free: u64,
}

/// The roots below which actions may touch files.
#[derive(Clone, Debug, Default)]
pub struct Roots {
    roots: Vec<PathBuf>,
}

/// A path below a root. Holding one proves only that it is well-formed; the kernel decides when it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub(super) root: PathBuf,
    /// Below the root; empty for the root itself.
    pub(super) below: PathBuf,
}

/// Checks a caller's path as text: absolute, no `.`, `..` or empty component, lengths, UTF-8, no NUL.
///
/// # Errors
/// `InvalidPath` or, for `..`, `PathOutsideRoot`.
pub fn check_path(path: &Path) -> Result<&str, HostError> {
    let invalid = |why| Err(HostError::InvalidPath { path: path.to_path_buf(), why });
    let Some(text) = path.to_str() else { return invalid("it is not UTF-8") };
    if text.len() > PATH_MAX_BYTES {
        return Err(HostError::InvalidPath {
            path: text.chars().take(64).collect::<String>().into(),
            why: "it is longer than 4096 bytes",
        });
    }
    if text.contains('\0') {
        return invalid("it holds a NUL");
    }
    let Some(rest) = text.strip_prefix('/') else { return invalid("it is not absolute") };
    for name in rest.split('/') {
        match name {
            "" if rest.is_empty() => {}
            "" => return invalid("it has an empty component or ends with '/'"),
            "." => return invalid("it has a '.' component"),
            ".." => {
                return Err(HostError::PathOutsideRoot {
                    path: path.to_path_buf(),
                    why: "it has a '..' component".into(),
                });
            }
            name if name.len() > NAME_MAX_BYTES => return invalid("a component is longer than 255 bytes"),
            _ => {}
        }
    }
    Ok(text)
}

impl Roots {
    /// Takes the host's own list. A root may be a link itself, or not exist yet: it is resolved here, once.
    ///
    /// # Errors
    /// `InvalidPath` for one that is not absolute, `TooMany` above [`ROOTS_MAX`].
    pub fn new(paths: &[PathBuf]) -> Result<Self, HostError> {
        if paths.len() > ROOTS_MAX {
            return Err(HostError::TooMany { what: "roots", limit: ROOTS_MAX as u64 });
        }
        let mut roots = Vec::with_capacity(paths.len());
        for path in paths {
            check_path(path)?;
            roots.push(path.canonicalize().unwrap_or_else(|_| path.clone()));
        }
        // The longest match wins, so that a root inside another one has its own mount.
        roots.sort_by_key(|r| std::cmp::Reverse(r.as_os_str().len()));
        Ok(Self { roots })
    }

    /// The place that a path names, if it is below a root.
    ///
    /// # Errors
    /// `InvalidPath` or `PathOutsideRoot`.
    pub fn locate(&self, path: &Path) -> Result<Place, HostError> {
        check_path(path)?;
        self.roots
            .iter()
            .find_map(|root| {
                let below = path.strip_prefix(root).ok()?;
                Some(Place { root: root.clone(), below: below.to_path_buf() })
            })
            .ok_or_else(|| HostError::PathOutsideRoot {
                path: path.to_path_buf(),
                why: "it is below no configured root".into(),
            })
    }
}

impl Place {
    /// The full path, for messages.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        if self.below.as_os_str().is_empty() { self.root.clone() } else { self.root.join(&self.below) }
    }

    /// A place further down.
    ///
    /// # Errors
    /// As [`check_path`].
    pub fn join(&self, name: &str) -> Result<Self, HostError> {
        let below = self.below.join(name);
        check_path(&self.root.join(&below))?;
        if name.is_empty() || name.starts_with('/') {
            return Err(HostError::InvalidPath { path: name.into(), why: "it is not a relative name" });
        }
        Ok(Self { root: self.root.clone(), below })
    }

    /// The folder it is in, and its name there. The root itself has none.
    pub(super) fn parent(&self) -> Result<(Self, String), HostError> {
        let name = self.below.file_name().and_then(|n| n.to_str()).map(str::to_owned);
        let (Some(name), Some(parent)) = (name, self.below.parent()) else {
            return Err(HostError::PathOutsideRoot {
                path: self.path(),
                why: "the root itself is not replaced".into(),
            });
        };
        Ok((Self { root: self.root.clone(), below: parent.to_path_buf() }, name))
    }

    pub(super) fn refused(&self, what: &str, e: Errno) -> HostError {
        let outside = |why: &str| HostError::PathOutsideRoot { path: self.path(), why: why.to_owned() };
        match e {
            Errno::LOOP => outside("there is a symbolic link on the way"),
            Errno::XDEV => outside("it leads out of its root or over a mount"),
            e => {
                HostError::Io { what: format!("can not {what} {}", self.path().display()), source: e.into() }
            }
        }
    }

    /// A handle on whatever is there, without opening it (`O_PATH`).
    pub(super) fn handle(&self, more: OFlags) -> Result<OwnedFd, HostError> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // The root comes from the host's configuration and was resolved; a link put there since is refused too.
        let links = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let root = retried(|| openat2(CWD, &self.root, flags | OFlags::DIRECTORY, Mode::empty(), links))
            .map_err(|e| self.refused("open the root of", e))?;
        if self.below.as_os_str().is_empty() {
            return Ok(root);
        }
        retried(|| openat2(&root, &self.below, flags | more, Mode::empty(), BELOW))
            .map_err(|e| self.refused("open", e))
    }

    /// Attributes of whatever is there; a link is described, not followed.
    ///
    /// # Errors
    /// `PathOutsideRoot`, or `Io` when there is nothing.
    pub fn stat(&self) -> Result<Stat, HostError> {
        fstat(self.handle(OFlags::empty())?).map_err(|e| self.refused("look at", e))
    }

    /// Attributes of the folder that it is in: that nothing is there means something only where its folder is.
    ///
    /// # Errors
    /// As [`Place::stat`].
    pub fn stat_folder(&self) -> Result<Stat, HostError> {
        self.parent()?.0.stat()
    }

    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// `PathOutsideRoot` for links, FIFOs, devices, sockets and mounts on the way; `Io` otherwise.
    pub fn open_read(&self) -> Result<File, HostError> {
        self.open_regular(OFlags::RDONLY)
    }

    /// Opens an existing regular file for reading and writing, untruncated.
    ///
    /// # Errors
    /// As [`Place::open_read`].
    pub fn open_read_write(&self) -> Result<File, HostError> {
        self.open_regular(OFlags::RDWR)
    }

    fn open_regular(&self, flags: OFlags) -> Result<File, HostError> {
        let handle = self.handle(OFlags::empty())?;
        let stat = fstat(&handle).map_err(|e| self.refused("look at", e))?;
        let why = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => None,
            FileType::Symlink => Some("it is a symbolic link"),
            FileType::Directory => Some("it is a folder"),
            _ => Some("it is not a regular file"),
        };
        if let Some(why) = why {
            return Err(HostError::PathOutsideRoot { path: self.path(), why: why.to_owned() });
        }
        reopen(&handle, flags).map(File::from).map_err(|e| self.refused("open", e))
    }

    /// Opens a folder for listing and for making names in it.
    pub(super) fn open_folder(&self) -> Result<OwnedFd, HostError> {
        let handle = self.handle(OFlags::DIRECTORY)?;
        reopen(&handle, OFlags::RDONLY | OFlags::DIRECTORY).map_err(|e| self.refused("open the folder", e))
    }

    /// Space of the file system it is on.
    ///
    /// # Errors
    /// As [`Place::stat`].
    pub fn space(&self) -> Result<Space, HostError> {
        let v =
            fstatvfs(self.handle(OFlags::empty())?).map_err(|e| self.refused("ask for the space of", e))?;
        Ok(Space {
            size_bytes: v.f_blocks.saturating_mul(v.f_frsize),
            available_bytes: v.f_bavail.saturating_mul(v.f_frsize),
            inodes: v.f_files,
            inodes_free: v.f_favail,
        })
    }
}

/// Opens what a handle stands for: the same inode, whatever happened to its name.
fn reopen(handle: &OwnedFd, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", handle.as_fd().as_raw_fd());
    rustix::fs::open(path, flags | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty())
}

fn retried<T>(mut open: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    let mut last = Errno::AGAIN;
    for _ in 0..RACES_MAX {
        match open() {
            Err(e @ (Errno::AGAIN | Errno::INTR)) => last = e,
            other => return other,
        }
    }
    Err(last)
}

/// For callers that only have the operating system's error.
impl From<HostError> for io::Error {
    fn from(e: HostError) -> Self {
        match e {
            HostError::Io { source, .. } => source,
            other => Self::other(other),
        }
    }
}
