//! Walks what a backup reads, in one fixed order and without following anything.

use std::collections::hash_map::DefaultHasher;
use std::ffi::{OsStr, OsString};
use std::hash::{Hash, Hasher};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use globset::GlobSet;

use super::plan::{self, DEPTH_MAX, ENTRIES_MAX, FOLDER_MAX};
use crate::actions::ActionError;
use crate::actions::job::Job;
use crate::host::dir::{self, Folder, Kind, Seen, Unfit};

/// One of the request's paths, opened.
struct Start {
    folder: Folder,
    name: OsString,
    member: Vec<u8>,
}

/// Everything a backup reads.
pub(super) struct Tree {
    starts: Vec<Start>,
    exclude: GlobSet,
    /// The folder of the backups, which never goes into one.
    store: (u64, u64),
}

/// One entry of the walk.
pub(super) struct Entry<'a> {
    pub(super) folder: &'a Folder,
    pub(super) name: &'a OsStr,
    pub(super) member: &'a [u8],
    pub(super) seen: Seen,
    /// It is the folder of the backups.
    pub(super) is_store: bool,
}

impl Entry<'_> {
    /// Its path, for messages.
    pub(super) fn path(&self) -> PathBuf {
        path_of(self.member)
    }

    /// What must not change while the tree is read. Access times may: reading itself moves them.
    pub(super) fn stamp(&self) -> u64 {
        // SipHash with fixed keys: nobody gains by a collision that they would have to find in their own data's inode times.
        let mut hash = DefaultHasher::new();
        let s = &self.seen;
        self.member.hash(&mut hash);
        (s.size, s.mode, s.uid, s.gid, s.device, s.inode, s.mtime_ns, s.ctime_ns).hash(&mut hash);
        hash.finish()
    }
}

/// The path of a member, for messages.
pub(super) fn path_of(member: &[u8]) -> PathBuf {
    let mut bytes = vec![b'/'];
    bytes.extend_from_slice(member);
    PathBuf::from(OsString::from_vec(bytes))
}

/// Opens a caller's path beneath an allowed root.
fn start(roots: &[PathBuf], path: &Path) -> Result<Start, ActionError> {
    let (root, rest) = dir::allowed(roots, path).map_err(|unfit| match unfit {
        Unfit::Malformed(why) => ActionError::invalid("paths", format!("{}: {why}", path.display())),
        Unfit::Outside => ActionError::PathNotAllowed(path.to_path_buf()),
    })?;
    let failed = |e: io::Error| match e.kind() {
        io::ErrorKind::NotFound => ActionError::NotFound(path.to_path_buf()),
        _ => ActionError::io("opening", path, e),
    };
    let member = plan::member_name(path).to_vec();
    let root = Folder::open_root(root).map_err(failed)?;
    match (rest.parent(), rest.file_name()) {
        (Some(parent), Some(name)) => {
            let folder = root.beneath(parent).map_err(failed)?;
            Ok(Start { folder, name: name.to_os_string(), member })
        }
        _ => Ok(Start { folder: root, name: OsString::from("."), member }),
    }
}

impl Tree {
    pub(super) fn open(
        roots: &[PathBuf],
        paths: &[PathBuf],
        exclude: GlobSet,
        store: (u64, u64),
    ) -> Result<Self, ActionError> {
        let starts = paths.iter().map(|path| start(roots, path)).collect::<Result<_, _>>()?;
        Ok(Self { starts, exclude, store })
    }

    /// Visits every entry, parents before children, names in the order of their bytes.
    pub(super) fn walk(
        &self,
        job: &mut Job,
        visit: &mut dyn FnMut(&mut Job, &Entry<'_>) -> Result<(), ActionError>,
    ) -> Result<(), ActionError> {
        let mut walk = Walk { tree: self, entries: 0 };
        for s in &self.starts {
            if s.folder
                .look(&s.name)
                .map_err(|e| ActionError::io("looking at", path_of(&s.member), e))?
                .is_none()
            {
                return Err(ActionError::NotFound(path_of(&s.member)));
            }
            walk.entry(job, visit, &s.folder, &s.name, &s.member, Path::new(""), 0)?;
        }
        Ok(())
    }
}

struct Walk<'t> {
    tree: &'t Tree,
    entries: usize,
}

impl Walk<'_> {
    #[expect(
        clippy::too_many_arguments,
        reason = "one level of a recursion; a struct would only rename them"
    )]
    fn entry(
        &mut self,
        job: &mut Job,
        visit: &mut dyn FnMut(&mut Job, &Entry<'_>) -> Result<(), ActionError>,
        folder: &Folder,
        name: &OsStr,
        member: &[u8],
        relative: &Path,
        depth: usize,
    ) -> Result<(), ActionError> {
        job.check()?;
        self.entries += 1;
        if self.entries > ENTRIES_MAX || depth > DEPTH_MAX {
            let why = format!(
                "{}: more than {ENTRIES_MAX} entries or {DEPTH_MAX} levels",
                path_of(member).display()
            );
            return Err(ActionError::invalid("paths", why));
        }
        let seen = folder.look(name).map_err(|e| ActionError::io("looking at", path_of(member), e))?;
        let seen = seen.ok_or_else(|| changed(member, "it vanished"))?;
        let is_store = seen.identity() == self.tree.store;
        visit(job, &Entry { folder, name, member, seen, is_store })?;
        if seen.kind != Kind::Folder || is_store {
            return Ok(());
        }
        let inner = folder.folder(name).map_err(|e| opened(e, member))?;
        let names = inner.names(FOLDER_MAX).map_err(|e| ActionError::io("listing", path_of(member), e))?;
        for child in names {
            let relative = relative.join(&child);
            if self.tree.exclude.is_match(&relative) {
                continue;
            }
            let mut member = member.to_vec();
            member.push(b'/');
            member.extend_from_slice(child.as_bytes());
            self.entry(job, visit, &inner, &child, &member, &relative, depth + 1)?;
        }
        Ok(())
    }
}

/// A change that was seen.
pub(super) fn changed(member: &[u8], why: &'static str) -> ActionError {
    ActionError::Changed { path: path_of(member), why }
}

/// An entry that could not be opened as what it was a moment ago.
pub(super) fn opened(error: io::Error, member: &[u8]) -> ActionError {
    match error.kind() {
        io::ErrorKind::NotFound => changed(member, "it vanished"),
        _ if dir::is_other_kind(&error) => changed(member, "it was replaced"),
        _ => ActionError::io("opening", path_of(member), error),
    }
}
