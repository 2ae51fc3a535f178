//! Listing a tree below a root, in a fixed order, with limits.

use rustix::fs::{AtFlags, Dir, FileType, statat};

use super::Place;
use crate::host::HostError;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder; its entries follow.
    Folder,
    /// A symbolic link; never followed.
    Link,
    /// FIFO, socket or device; never opened.
    Special,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalkEntry {
    /// Where it is.
    pub place: Place,
    /// Below the place the walk began at, `/`-separated.
    pub relative: String,
    /// What it is.
    pub kind: Kind,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last modification, seconds since 1970.
    pub modified_s: i64,
    /// Inode number.
    pub inode: u64,
}

/// Bounds of one walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalkLimits {
    /// Most entries.
    pub entries: u64,
    /// Deepest folder.
    pub depth: u32,
}

impl Default for WalkLimits {
    /// The limits of B-8 for archives, so that what is walked can be packed and unpacked again.
    fn default() -> Self {
        Self { entries: 100_000, depth: 64 }
    }
}

impl Place {
    /// Visits everything below, a folder before its entries, names in byte order. What vanishes meanwhile is left out.
    ///
    /// # Errors
    /// `TooMany` above the limits, `InvalidPath` for a name that is not UTF-8, whatever `visit` returns.
    pub fn walk(
        &self,
        limits: WalkLimits,
        visit: &mut dyn FnMut(&WalkEntry) -> Result<(), HostError>,
    ) -> Result<(), HostError> {
        let mut left = limits.entries;
        let mut stack: Vec<(WalkEntry, u32)> = Vec::new();
        push_entries(self, "", 0, &mut stack, &mut left, limits)?;
        while let Some((entry, depth)) = stack.pop() {
            visit(&entry)?;
            if entry.kind != Kind::Folder {
                continue;
            }
            if depth >= limits.depth {
                return Err(HostError::TooMany { what: "levels of folders", limit: u64::from(limits.depth) });
            }
            match push_entries(&entry.place, &entry.relative, depth, &mut stack, &mut left, limits) {
                Err(HostError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(())
    }
}

fn push_entries(
    at: &Place,
    relative: &str,
    depth: u32,
    stack: &mut Vec<(WalkEntry, u32)>,
    left: &mut u64,
    limits: WalkLimits,
) -> Result<(), HostError> {
    let folder = at.open_folder()?;
    let dir = Dir::read_from(&folder).map_err(|e| at.refused("list", e))?;
    let mut entries = Vec::new();
    for item in dir {
        let item = item.map_err(|e| at.refused("list", e))?;
        let name = item.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        *left = left.checked_sub(1).ok_or(HostError::TooMany { what: "entries", limit: limits.entries })?;
        let Ok(text) = name.to_str() else {
            return Err(HostError::InvalidPath { path: at.path(), why: "a name in it is not UTF-8" });
        };
        // Described, not followed; the place is resolved again by whoever opens it.
        let stat = match statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(rustix::io::Errno::NOENT) => continue,
            Err(e) => return Err(at.refused("look into", e)),
        };
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Folder,
            FileType::Symlink => Kind::Link,
            _ => Kind::Special,
        };
        let relative = if relative.is_empty() { text.to_owned() } else { format!("{relative}/{text}") };
        entries.push(WalkEntry {
            place: at.join(text)?,
            relative,
            kind,
            size_bytes: u64::try_from(stat.st_size).unwrap_or(0),
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            modified_s: stat.st_mtime,
            inode: stat.st_ino,
        });
    }
    // The stack gives the last first.
    entries.sort_by(|a, b| b.relative.as_bytes().cmp(a.relative.as_bytes()));
    stack.extend(entries.into_iter().map(|e| (e, depth.saturating_add(1))));
    Ok(())
}
