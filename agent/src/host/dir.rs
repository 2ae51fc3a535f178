//! Folders held by descriptor: every name is looked up in a folder that was opened before, so nothing that is swapped
//! between a check and its use leads anywhere else (reliability.md I-29, B-7).
//!
//! A path that a caller names is opened with `openat2` beneath a root that the host itself declares, without following a
//! symbolic link at any component. Single names are then opened, renamed and removed relative to their folder.

mod make;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    Advice, AtFlags, CWD, FallocateFlags, FileType, FlockOperation, Gid, Mode, OFlags, RenameFlags,
    ResolveFlags, Statx, StatxFlags, Uid,
};
use rustix::io::Errno;

/// Longest path of a caller: the kernel's `PATH_MAX`.
pub const PATH_MAX_BYTES: usize = 4096;
/// Longest name of one component: `NAME_MAX` of every file system in use.
pub const NAME_MAX_BYTES: usize = 255;

/// What a directory entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A socket, FIFO or device, by name.
    Special(&'static str),
}

/// What was seen of one file. Times are nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What it is.
    pub kind: Kind,
    /// Bytes.
    pub size: u64,
    /// Bytes on disk; fewer than `size` when it is sparse.
    pub allocated: u64,
    /// Permission bits with setuid, setgid and sticky: 12 bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Names it has.
    pub links: u32,
    /// Device of its file system.
    pub device: u64,
    /// Number on that device.
    pub inode: u64,
    /// Last change of its content.
    pub mtime_ns: i128,
    /// Last change of its content or attributes.
    pub ctime_ns: i128,
    /// When it came to be, if the file system keeps it.
    pub born_ns: Option<i128>,
    /// Preferred block size of the file system.
    pub block_bytes: u64,
}

impl Seen {
    fn new(s: &Statx) -> Self {
        let ns = |sec: i64, nsec: u32| i128::from(sec) * 1_000_000_000 + i128::from(nsec);
        let kind = match FileType::from_raw_mode(u32::from(s.stx_mode)) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Folder,
            FileType::Symlink => Kind::Link,
            FileType::Fifo => Kind::Special("fifo"),
            FileType::Socket => Kind::Special("socket"),
            FileType::CharacterDevice => Kind::Special("character device"),
            FileType::BlockDevice => Kind::Special("block device"),
            FileType::Unknown => Kind::Special("unknown"),
        };
        let born =
            (s.stx_mask & StatxFlags::BTIME.bits() != 0).then(|| ns(s.stx_btime.tv_sec, s.stx_btime.tv_nsec));
        Self {
            kind,
            size: s.stx_size,
            allocated: s.stx_blocks.saturating_mul(512),
            mode: u32::from(s.stx_mode) & 0o7777,
            uid: s.stx_uid,
            gid: s.stx_gid,
            links: s.stx_nlink,
            device: u64::from(s.stx_dev_major) << 32 | u64::from(s.stx_dev_minor),
            inode: s.stx_ino,
            mtime_ns: ns(s.stx_mtime.tv_sec, s.stx_mtime.tv_nsec),
            ctime_ns: ns(s.stx_ctime.tv_sec, s.stx_ctime.tv_nsec),
            born_ns: born,
            block_bytes: u64::from(s.stx_blksize),
        }
    }

    /// Which file it is, whatever it is called.
    #[must_use]
    pub const fn identity(&self) -> (u64, u64) {
        (self.device, self.inode)
    }
}

/// An open folder.
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
    /// Its path, for messages alone: nothing is ever opened by it.
    path: PathBuf,
}

const READ_FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

fn no_single_name() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a single file name")
}

/// A name without a slash, so that it can not lead out of its folder.
fn single(name: &OsStr) -> io::Result<&OsStr> {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes == b".." || bytes.contains(&b'/') || bytes.contains(&0) {
        return Err(no_single_name());
    }
    Ok(name)
}

impl Folder {
    /// Opens a folder that the host's own configuration names; links on the way are the administrator's choice.
    ///
    /// # Errors
    /// As `openat2`.
    pub fn open_root(path: &Path) -> io::Result<Self> {
        let fd = rustix::fs::openat2(CWD, path, READ_FOLDER, Mode::empty(), ResolveFlags::NO_MAGICLINKS)?;
        Ok(Self { fd, path: path.to_path_buf() })
    }

    /// As [`Folder::open_root`], and makes it, readable by its owner alone, when it is missing.
    ///
    /// # Errors
    /// As `mkdir` and `openat2`.
    pub fn make_root(path: &Path) -> io::Result<Self> {
        match Self::open_root(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                std::os::unix::fs::DirBuilderExt::mode(std::fs::DirBuilder::new().recursive(true), 0o700)
                    .create(path)?;
                if let Some(parent) = path.parent() {
                    Self::open_root(parent)?.sync()?;
                }
                Self::open_root(path)
            }
            done => done,
        }
    }

    /// Opens a folder beneath this one; no component may be a symbolic link.
    ///
    /// # Errors
    /// As `openat2`: `ELOOP` for a link, `EXDEV` for a way out.
    pub fn beneath(&self, relative: &Path) -> io::Result<Self> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let is_self = relative.as_os_str().is_empty();
        let name = if is_self { Path::new(".") } else { relative };
        let fd = rustix::fs::openat2(&self.fd, name, READ_FOLDER, Mode::empty(), resolve)?;
        let path = if is_self { self.path.clone() } else { self.path.join(relative) };
        Ok(Self { fd, path })
    }

    /// Opens a folder in this one.
    ///
    /// # Errors
    /// As `openat`; a symbolic link is refused.
    pub fn folder(&self, name: &OsStr) -> io::Result<Self> {
        let flags = READ_FOLDER | OFlags::NOFOLLOW;
        let fd = rustix::fs::openat(&self.fd, single(name)?, flags, Mode::empty())?;
        Ok(Self { fd, path: self.path.join(name) })
    }

    /// Its path, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the folder itself looks like.
    ///
    /// # Errors
    /// As `statx`.
    pub fn seen(&self) -> io::Result<Seen> {
        let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        Ok(Seen::new(&rustix::fs::statx(&self.fd, c"", AtFlags::EMPTY_PATH, mask)?))
    }

    /// What a name is, never following it; `None` when there is nothing.
    ///
    /// # Errors
    /// As `statx`.
    pub fn look(&self, name: &OsStr) -> io::Result<Option<Seen>> {
        let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        match rustix::fs::statx(&self.fd, single(name)?, flags, mask) {
            Ok(s) => Ok(Some(Seen::new(&s))),
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Every name, sorted by bytes.
    ///
    /// # Errors
    /// As `getdents`; `InvalidData` when there are more than `max`.
    pub fn names(&self, max: usize) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            if names.len() == max {
                return Err(io::Error::new(io::ErrorKind::InvalidData, format!("more than {max} names")));
            }
            names.push(OsString::from_vec(name.to_vec()));
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Where a symbolic link points, as it stands there.
    ///
    /// # Errors
    /// As `readlinkat`.
    pub fn link_target(&self, name: &OsStr) -> io::Result<Vec<u8>> {
        Ok(rustix::fs::readlinkat(&self.fd, single(name)?, Vec::new())?.into_bytes())
    }

    fn open(&self, name: &OsStr, flags: OFlags, mode: u32) -> io::Result<File> {
        // NONBLOCK: opening a FIFO that took a file's place must not hang; it means nothing for a regular file.
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = rustix::fs::openat(&self.fd, single(name)?, flags, Mode::from_raw_mode(mode))?;
        Ok(File::from(fd))
    }

    /// Opens a file to read. The caller checks with [`seen`] that it is what it was.
    ///
    /// # Errors
    /// As `openat`; a symbolic link is refused.
    pub fn open_read(&self, name: &OsStr) -> io::Result<File> {
        self.open(name, OFlags::RDONLY, 0)
    }

    /// Opens a file to read and change.
    ///
    /// # Errors
    /// As `openat`; a symbolic link is refused.
    pub fn open_change(&self, name: &OsStr) -> io::Result<File> {
        self.open(name, OFlags::RDWR, 0)
    }

    /// Makes a file that did not exist.
    ///
    /// # Errors
    /// As `openat`; `AlreadyExists` for anything of that name, a link included.
    pub fn create_new(&self, name: &OsStr, mode: u32) -> io::Result<File> {
        self.open(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL, mode)
    }

    /// Renames within the folder; an existing `to` is replaced.
    ///
    /// # Errors
    /// As `renameat`.
    pub fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.fd, single(from)?, &self.fd, single(to)?)?)
    }

    /// Renames within the folder; never replaces.
    ///
    /// # Errors
    /// As `renameat2`; `AlreadyExists` when `to` is there.
    pub fn rename_new(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        let (from, to) = (single(from)?, single(to)?);
        match rustix::fs::renameat_with(&self.fd, from, &self.fd, to, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS) => {
                // Network file systems lack the flag; a link does not replace anything either.
                rustix::fs::linkat(&self.fd, from, &self.fd, to, AtFlags::empty())?;
                self.remove(from)
            }
            done => Ok(done?),
        }
    }

    /// Swaps two names in one step; `false` when the file system can not.
    ///
    /// # Errors
    /// As `renameat2`.
    pub fn exchange(&self, one: &OsStr, other: &OsStr) -> io::Result<bool> {
        let (one, other) = (single(one)?, single(other)?);
        match rustix::fs::renameat_with(&self.fd, one, &self.fd, other, RenameFlags::EXCHANGE) {
            Ok(()) => Ok(true),
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// Removes a name that is no folder; nothing there is no error.
    ///
    /// # Errors
    /// As `unlinkat`.
    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.fd, single(name)?, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// Makes names that were created, renamed or removed here survive a power cut.
    ///
    /// # Errors
    /// As `fsync`.
    pub fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.fd)?)
    }

    /// Bytes, bytes free for unprivileged use, inodes and free inodes of its file system.
    ///
    /// # Errors
    /// As `fstatvfs`.
    pub fn room(&self) -> io::Result<(u64, u64, u64, u64)> {
        let s = rustix::fs::fstatvfs(&self.fd)?;
        let bytes = |blocks: u64| blocks.saturating_mul(s.f_frsize);
        Ok((bytes(s.f_blocks), bytes(s.f_bavail), s.f_files, s.f_favail))
    }

    /// Bytes free for unprivileged use on its file system.
    ///
    /// # Errors
    /// As `fstatvfs`.
    pub fn free_bytes(&self) -> io::Result<u64> {
        let s = rustix::fs::fstatvfs(&self.fd)?;
        Ok(s.f_bavail.saturating_mul(s.f_frsize))
    }
}

/// Whether opening failed because the name is now something else: a link, or no folder, or a socket.
#[must_use]
pub fn is_other_kind(error: &io::Error) -> bool {
    let others = [Errno::LOOP, Errno::NOTDIR, Errno::NXIO, Errno::INVAL];
    others.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// What an open file looks like now.
///
/// # Errors
/// As `statx`.
pub fn seen(file: &File) -> io::Result<Seen> {
    let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    Ok(Seen::new(&rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, mask)?))
}

/// Gives an open file its owner, then its mode (in this order: a change of owner clears setuid).
///
/// # Errors
/// As `fchown`, `fchmod`. Without the right to change the owner to what it is already, nothing fails.
pub fn set_owner_and_mode(file: &File, uid: u32, gid: u32, mode: u32) -> io::Result<()> {
    let now = seen(file)?;
    if (now.uid, now.gid) != (uid, gid) {
        rustix::fs::fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    Ok(rustix::fs::fchmod(file, Mode::from_raw_mode(mode & 0o7777))?)
}

/// Gives an open file the time of its last change.
///
/// # Errors
/// As `futimens`; a time before 1970 is kept as 1970.
pub fn set_modified(file: &File, ns: i128) -> io::Result<()> {
    let ns = u64::try_from(ns.max(0)).unwrap_or(u64::MAX);
    file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_nanos(ns))
}

/// Removes the first `bytes` of a file in one step, while others append to it; `false` when the file system can not, or
/// the length is no whole number of its blocks.
///
/// # Errors
/// As `fallocate`.
pub fn cut_front(file: &File, bytes: u64) -> io::Result<bool> {
    match rustix::fs::fallocate(file, FallocateFlags::COLLAPSE_RANGE, 0, bytes) {
        Ok(()) => Ok(true),
        Err(Errno::NOTSUP | Errno::INVAL | Errno::NOSYS) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Takes the lock of an open file; `false` when somebody else holds it. It ends with the file's last descriptor.
///
/// # Errors
/// As `flock`.
pub fn try_lock(file: &File) -> io::Result<bool> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Drops a synced file's pages from the cache, so that the next read comes from the disk and other data stays cached.
pub fn forget_cache(file: &File) {
    // Only a hint: where it does not work the read is served from memory.
    let _ = rustix::fs::fadvise(file, 0, None, Advice::DontNeed);
}

/// Gives this thread, and those it starts, a lower priority.
///
/// # Errors
/// As `setpriority`.
pub fn be_nice(nice: i32) -> io::Result<()> {
    Ok(rustix::process::setpriority_process(Some(rustix::thread::gettid()), nice.clamp(0, 19))?)
}

/// Why a caller's path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It is no absolute, plain path: the reason.
    Malformed(&'static str),
    /// It is under none of the allowed roots.
    Outside,
}

/// Splits a caller's absolute path into the allowed root it lies in (the deepest one) and the rest. Touches nothing.
///
/// # Errors
/// [`Unfit`].
pub fn allowed<'r>(roots: &'r [PathBuf], path: &Path) -> Result<(&'r Path, PathBuf), Unfit> {
    plain(path).map_err(Unfit::Malformed)?;
    let root = roots
        .iter()
        .filter(|root| plain(root).is_ok() && path.starts_with(root))
        .max_by_key(|root| root.components().count())
        .ok_or(Unfit::Outside)?;
    let rest = path.strip_prefix(root).map_err(|_| Unfit::Outside)?;
    Ok((root, rest.to_path_buf()))
}

/// Whether a path is absolute and holds no `.`, `..`, `//`, NUL or trailing slash.
fn plain(path: &Path) -> Result<(), &'static str> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() > PATH_MAX_BYTES {
        return Err("it is longer than 4096 bytes");
    }
    if bytes.contains(&0) {
        return Err("it holds a NUL byte");
    }
    if !path.is_absolute() {
        return Err("it is not absolute");
    }
    let mut rebuilt = PathBuf::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::Normal(_) => rebuilt.push(component),
            Component::ParentDir => return Err("it holds '..'"),
            Component::CurDir | Component::Prefix(_) => return Err("it holds '.'"),
        }
        if component.as_os_str().len() > NAME_MAX_BYTES {
            return Err("a component is longer than 255 bytes");
        }
    }
    if rebuilt.as_os_str() != path.as_os_str() {
        return Err("it holds '//', '/.' or ends in '/'");
    }
    Ok(())
}

#[cfg(test)]
#[path = "dir_tests.rs"]
mod tests;
