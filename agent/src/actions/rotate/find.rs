//! Finds the logs that a policy's globs mean, folder by folder, each opened beneath its parent and never through a link.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use globset::{Glob, GlobBuilder, GlobMatcher};

use super::log::ASIDE_ENDING;
use crate::actions::ActionError;
use crate::host::dir::{self, Folder, Kind, Unfit};

/// Most globs of one policy.
const GLOBS_MAX: usize = 64;
/// Most logs of one action: each costs a few system calls and a line of the outcome.
const LOGS_MAX: usize = 10_000;
/// Most names looked at in one folder.
const NAMES_MAX: usize = 100_000;

/// One log to look after.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) folder: Arc<Folder>,
    pub(super) name: OsString,
}

impl Found {
    /// Its path, for messages.
    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join(&self.name)
    }
}

/// What was found, and what could not be looked into.
#[derive(Debug, Default)]
pub(super) struct Logs {
    pub(super) found: Vec<Found>,
    pub(super) failed: Vec<(PathBuf, ActionError)>,
}

fn is_glob(text: &[u8]) -> bool {
    text.iter().any(|b| b"*?[{\\".contains(b))
}

fn matcher(pattern: &OsStr) -> Result<GlobMatcher, ActionError> {
    let bad = |why: String| ActionError::invalid("paths", why);
    let text = pattern.to_str().ok_or_else(|| bad("a glob must be UTF-8".to_owned()))?;
    if text.contains("**") {
        return Err(bad(format!("{text}: '**' is not possible, name the folders")));
    }
    let glob: Glob =
        GlobBuilder::new(text).literal_separator(true).build().map_err(|e| bad(e.to_string()))?;
    Ok(glob.compile_matcher())
}

/// Finds every log of the globs, each once, in the order of folder and name.
pub(super) fn find(roots: &[PathBuf], globs: &[String]) -> Result<Logs, ActionError> {
    if globs.is_empty() || globs.len() > GLOBS_MAX {
        return Err(ActionError::invalid(
            "paths",
            format!("{} globs; 1 to {GLOBS_MAX} are possible", globs.len()),
        ));
    }
    let mut logs = Logs::default();
    for glob in globs {
        if glob.contains("${") {
            return Err(ActionError::invalid(
                "paths",
                format!("{glob} holds a variable that nobody filled in"),
            ));
        }
        one_glob(roots, Path::new(glob), &mut logs)?;
    }
    logs.found.sort_by_key(Found::path);
    logs.found.dedup_by_key(|found| found.path());
    Ok(logs)
}

fn one_glob(roots: &[PathBuf], glob: &Path, logs: &mut Logs) -> Result<(), ActionError> {
    let (Some(parent), Some(last)) = (glob.parent(), glob.file_name()) else {
        return Err(ActionError::invalid("paths", format!("{} names no file", glob.display())));
    };
    let plain = parent.components().take_while(|c| !is_glob(c.as_os_str().as_bytes())).count();
    let base: PathBuf = parent.components().take(plain).collect();
    // Checked with the last name, so that a lone file may be an allowed root itself only as a folder.
    let (root, rest) = dir::allowed(roots, &base).map_err(|unfit| match unfit {
        Unfit::Malformed(why) => ActionError::invalid("paths", format!("{}: {why}", glob.display())),
        Unfit::Outside => ActionError::PathNotAllowed(glob.to_path_buf()),
    })?;
    let patterns: Vec<GlobMatcher> =
        parent.components().skip(plain).map(|c| matcher(c.as_os_str())).collect::<Result<_, _>>()?;
    let opened = Folder::open_root(root).and_then(|root| root.beneath(&rest));
    match opened {
        Ok(folder) => descend(Arc::new(folder), &patterns, last, logs),
        Err(e) => {
            logs.failed.push((base.clone(), ActionError::io("opening", base, e)));
            Ok(())
        }
    }
}

fn descend(
    folder: Arc<Folder>,
    patterns: &[GlobMatcher],
    last: &OsStr,
    logs: &mut Logs,
) -> Result<(), ActionError> {
    let failed = |e| ActionError::io("looking into", folder.path(), e);
    if let Some((pattern, deeper)) = patterns.split_first() {
        for name in folder.names(NAMES_MAX).map_err(failed)? {
            let seen = folder.look(&name).map_err(failed)?;
            if pattern.is_match(Path::new(&name)) && seen.is_some_and(|s| s.kind == Kind::Folder) {
                match folder.folder(&name) {
                    Ok(inner) => descend(Arc::new(inner), deeper, last, logs)?,
                    Err(e) => {
                        logs.failed.push((folder.path().join(&name), ActionError::io("opening", &name, e)))
                    }
                }
            }
        }
        return Ok(());
    }
    if let Err(error) = safe(&folder) {
        logs.failed.push((folder.path().to_path_buf(), error));
        return Ok(());
    }
    if !is_glob(last.as_bytes()) {
        return add(Found { folder, name: last.to_os_string() }, logs);
    }
    let pattern = matcher(last)?;
    for name in folder.names(NAMES_MAX).map_err(failed)? {
        // A crash on a file system that cannot swap names may leave a log under its temporary name alone.
        let name = interrupted(&name).unwrap_or(name);
        let hidden = name.as_bytes().starts_with(b".") && !last.as_bytes().starts_with(b".");
        if hidden || is_rotated(&name) || !pattern.is_match(Path::new(&name)) {
            continue;
        }
        let seen = folder.look(&name).map_err(failed)?;
        if seen.is_none_or(|s| s.kind != Kind::Folder) {
            add(Found { folder: Arc::clone(&folder), name }, logs)?;
        }
    }
    Ok(())
}

fn add(found: Found, logs: &mut Logs) -> Result<(), ActionError> {
    if logs.found.len() == LOGS_MAX {
        return Err(ActionError::invalid("paths", format!("more than {LOGS_MAX} logs")));
    }
    logs.found.push(found);
    Ok(())
}

/// The log of a temporary name.
fn interrupted(name: &OsStr) -> Option<OsString> {
    let inner = name.as_bytes().strip_prefix(b".")?.strip_suffix(ASIDE_ENDING.as_bytes())?;
    Some(OsString::from_vec(inner.to_vec()))
}

/// Whether a wildcard met a rotated file: `….7` or `….7.gz`.
fn is_rotated(name: &OsStr) -> bool {
    let bytes = name.as_bytes();
    let bytes = bytes.strip_suffix(b".gz").unwrap_or(bytes);
    let digits = bytes.iter().rev().take_while(|b| b.is_ascii_digit()).count();
    digits > 0 && bytes.len() > digits + 1 && bytes.get(bytes.len() - digits - 1) == Some(&b'.')
}

/// A folder in which anybody may swap names is no place to rename, own and delete files by name.
fn safe(folder: &Folder) -> Result<(), ActionError> {
    let seen = folder.seen().map_err(|e| ActionError::io("looking at", folder.path(), e))?;
    if seen.mode & 0o002 != 0 {
        let path = folder.path().to_path_buf();
        return Err(ActionError::Occupied { path, why: "everybody may write in this folder".to_owned() });
    }
    Ok(())
}
