//! What a backup request comes to, before anything is touched. Pure.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use quorate_model::backup::BackupPolicy;
use quorate_model::{DurationMs, HookName};

/// The manifest's name inside the archive, its last member.
pub(super) const MANIFEST_MEMBER: &str = "quorate-manifest.json";
/// Most paths of one backup: a service with more keeps them in fewer folders.
const PATHS_MAX: usize = 64;
/// Most exclusion globs: each is tried on every name.
const EXCLUDES_MAX: usize = 64;
/// Content up to this size is read into memory before it is written, so that a change is met by reading that file again.
pub(super) const SMALL_BYTES: u64 = 1024 * 1024;
/// Most entries. Eight bytes of memory each, for the comparison after reading; sixteen while verifying: 64 MiB in all.
pub(super) const ENTRIES_MAX: usize = 2_000_000;
/// Most names in one folder: they are sorted in memory, about 100 bytes each.
pub(super) const FOLDER_MAX: usize = 400_000;
/// Deepest tree: one open folder per level.
pub(super) const DEPTH_MAX: usize = 128;

/// A pause and its undo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pause {
    pub(super) pause: HookName,
    pub(super) resume: HookName,
    pub(super) limit: DurationMs,
}

/// A request that makes sense.
#[derive(Clone, Debug)]
pub(super) struct Checked {
    pub(super) paths: Vec<PathBuf>,
    pub(super) exclude: GlobSet,
    pub(super) pause: Option<Pause>,
    pub(super) level: i32,
}

/// Checks a request; the error names the field.
pub(super) fn check(policy: &BackupPolicy) -> Result<Checked, (&'static str, String)> {
    if !(1..=19).contains(&policy.level) {
        return Err(("level", format!("{} is not between 1 and 19", policy.level)));
    }
    let level = i32::try_from(policy.level).unwrap_or(19);
    Ok(Checked { paths: paths(policy)?, exclude: excludes(policy)?, pause: pause(policy)?, level })
}

fn paths(policy: &BackupPolicy) -> Result<Vec<PathBuf>, (&'static str, String)> {
    if policy.paths.is_empty() || policy.paths.len() > PATHS_MAX {
        return Err(("paths", format!("{} paths; 1 to {PATHS_MAX} are possible", policy.paths.len())));
    }
    let mut paths: Vec<PathBuf> = policy.paths.iter().map(PathBuf::from).collect();
    paths.sort();
    for path in &paths {
        if path.as_os_str().as_bytes().windows(2).any(|pair| pair == b"${") {
            return Err(("paths", format!("{} holds a variable that nobody filled in", path.display())));
        }
        if path == Path::new("/") || member_name(path) == MANIFEST_MEMBER.as_bytes() {
            return Err(("paths", format!("{} can not be backed up", path.display())));
        }
    }
    for (index, path) in paths.iter().enumerate() {
        if let Some(inner) = paths.iter().skip(index + 1).find(|other| other.starts_with(path)) {
            let text = format!("{} lies in {}: it would be stored twice", inner.display(), path.display());
            return Err(("paths", text));
        }
    }
    Ok(paths)
}

fn excludes(policy: &BackupPolicy) -> Result<GlobSet, (&'static str, String)> {
    if policy.exclude.len() > EXCLUDES_MAX {
        return Err(("exclude", format!("more than {EXCLUDES_MAX} globs")));
    }
    let mut set = GlobSetBuilder::new();
    for text in &policy.exclude {
        let glob = GlobBuilder::new(text).literal_separator(true).build();
        set.add(glob.map_err(|e| ("exclude", e.to_string()))?);
    }
    set.build().map_err(|e| ("exclude", e.to_string()))
}

fn pause(policy: &BackupPolicy) -> Result<Option<Pause>, (&'static str, String)> {
    match (&policy.pause, &policy.resume) {
        (None, None) => Ok(None),
        (Some(_), None) => Err(("resume", "a pause needs the hook that undoes it".to_owned())),
        (None, Some(_)) => Err(("pause", "there is a resume without a pause".to_owned())),
        (Some(_), Some(_)) if policy.pause_limit == DurationMs::ZERO => {
            Err(("pause_limit", "a pause without a limit could last for ever".to_owned()))
        }
        (Some(pause), Some(resume)) => {
            Ok(Some(Pause { pause: pause.clone(), resume: resume.clone(), limit: policy.pause_limit }))
        }
    }
}

/// A path's name inside the archive: without its leading slash, as every `tar` writes it.
pub(super) fn member_name(path: &Path) -> &[u8] {
    let bytes = path.as_os_str().as_bytes();
    bytes.strip_prefix(b"/").unwrap_or(bytes)
}

/// Worst-case size of an archive of content that does not compress, with headers and manifest.
pub(super) fn needed_bytes(content_bytes: u64, entries: u64) -> u64 {
    // zstd adds at most 1/256 to what it cannot compress. Each entry costs a header block, up to one block of padding (both
    // compress, this is the ceiling), and about 400 bytes of manifest twice: as a member and beside the archive.
    let stored = content_bytes.saturating_add(content_bytes / 256);
    stored.saturating_add(entries.saturating_mul(512 + 512 + 800)).saturating_add(64 * 1024)
}

/// How zstd is set up: what a level costs in memory is bounded here (64 MiB for the whole action).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Effort {
    pub(super) level: i32,
    /// Compressing threads; 0 compresses in the reading thread.
    pub(super) workers: u32,
    /// log2 of the window; 22 (4 MiB) is what level 12 uses by itself.
    pub(super) window_log: Option<u32>,
    /// log2 of the two big tables: 4 bytes per entry, 16 MiB and 8 MiB. Level 19 alone would take 80 MiB.
    pub(super) chain_log: Option<u32>,
    pub(super) hash_log: Option<u32>,
    /// Bytes per job of a thread.
    pub(super) job_bytes: u32,
}

/// Chooses the set-up of a level.
pub(super) fn effort(level: i32, workers: u32) -> Effort {
    // Above level 9 each thread would need 20 MiB and more of tables of its own.
    let workers = if level <= 9 { workers.min(2) } else { 0 };
    let (window_log, chain_log, hash_log) =
        if level <= 12 { (None, None, None) } else { (Some(22), Some(22), Some(21)) };
    Effort { level, workers, window_log, chain_log, hash_log, job_bytes: 2 * 1024 * 1024 }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
