//! Backups and log rotation: what to copy, what to keep, what was stored.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::id::HookName;
use crate::time::DurationMs;

words! {
    /// The life of a backup.
    pub enum BackupState {
        /// Asked for.
        Pending = "PENDING",
        /// Being written.
        Running = "RUNNING",
        /// Written, synced and renamed into place.
        Written = "WRITTEN",
        /// Read again in full; every file's sha256 matches the manifest.
        Verified = "VERIFIED",
        /// Restored into a scratch place and probed.
        Drilled = "DRILLED",
        /// Nothing usable was stored.
        Failed = "FAILED",
        /// Some nodes of the set failed.
        PartiallyFailed = "PARTIALLY_FAILED",
        /// Past its retention.
        Expired = "EXPIRED",
        /// Removed from disk.
        Deleted = "DELETED",
    }
}

/// What a backup of one instance copies, and how it is made consistent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupPolicy {
    /// Absolute paths, files or folders; `${…}` variables allowed. The host's policy has the last word.
    pub paths: Vec<String>,
    /// Globs, relative to each path, that are left out.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Hook, declared on the host, run before: for example one that pauses writes.
    #[serde(default)]
    pub pause: Option<HookName>,
    /// Hook that undoes `pause`. Owed as an obligation before `pause` runs.
    #[serde(default)]
    pub resume: Option<HookName>,
    /// Longest time between pause and resume: the agent resumes by itself when it is over.
    pub pause_limit: DurationMs,
    /// zstd level, 1 to 19.
    pub level: u32,
}

/// How logs are rotated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRotation {
    /// Globs of absolute paths; `${…}` variables allowed.
    pub paths: Vec<String>,
    /// Rotate at this size in bytes; 0 for no size rule.
    #[serde(default)]
    pub size_bytes: u64,
    /// Rotate at this age of the newest rotated file; 0 for no age rule. With neither rule it always rotates.
    #[serde(default)]
    pub age: DurationMs,
    /// Rotated files to keep.
    pub keep: u32,
    /// Compress rotated files with gzip.
    #[serde(default)]
    pub compress: bool,
    /// Leave the newest rotated file uncompressed until the next rotation.
    #[serde(default)]
    pub delay_compress: bool,
    /// Copy and truncate instead of renaming, for writers that never reopen. Bytes written between the two are kept by
    /// truncating only what was copied; see the action.
    #[serde(default)]
    pub copy_truncate: bool,
    /// Rotate files of size 0 too.
    #[serde(default)]
    pub rotate_empty: bool,
    /// A missing file is no error.
    #[serde(default)]
    pub missing_ok: bool,
    /// Mode of the new file, for example 0o644; 0 keeps the old one's.
    #[serde(default)]
    pub create_mode: u32,
    /// Owner of the new file, `user:group`; empty keeps the old one's.
    #[serde(default)]
    pub create_owner: String,
    /// Reload the service afterwards.
    #[serde(default)]
    pub reload: bool,
}

/// What a finished `backup.create` stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupReceipt {
    /// Absolute path of the archive on its node.
    pub path: String,
    /// Size of the archive in bytes.
    pub size_bytes: u64,
    /// sha256 of the archive, lower-case hex.
    pub sha256: String,
    /// sha256 of the manifest, lower-case hex.
    pub manifest_sha256: String,
    /// Regular files inside.
    pub files: u64,
    /// Bytes of those files.
    pub content_bytes: u64,
    /// How long writes were paused.
    pub paused: DurationMs,
    /// How long all of it took.
    pub took: DurationMs,
}
