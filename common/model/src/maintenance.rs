//! Maintenance: what an instance is told while it is worked on.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::time::DurationMs;

/// Shortest lease: a gate needs a moment.
pub const LEASE_MIN: DurationMs = DurationMs::from_secs(1);
/// Longest lease: a week.
pub const LEASE_MAX: DurationMs = DurationMs::from_secs(604_800);
/// Longest path of the file, in bytes, before and after filling in.
pub const MAINTENANCE_PATH_MAX_BYTES: usize = 1_024;

/// How an application learns that it is being worked on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaintenanceSpec {
    /// Absolute path of a file that is there as long as the work lasts; `${…}` variables allowed. Its folder is one that the
    /// host's own policy lists, and it holds JSON: `since`, `until`, `operation`, `reason`.
    pub file: String,
    /// Its host takes it away alone after this time, whatever else happens; none when it follows from the deadlines of the work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<DurationMs>,
}
