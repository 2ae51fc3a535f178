//! Maintenance: what an instance, and those who are told of its alerts, are told while it is worked on.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::alert::AlertMatcher;
use crate::time::DurationMs;

/// Shortest lease: a gate needs a moment.
pub const LEASE_MIN: DurationMs = DurationMs::from_secs(1);
/// Longest lease: a week.
pub const LEASE_MAX: DurationMs = DurationMs::from_secs(604_800);
/// Longest path of the file, in bytes, before and after filling in.
pub const MAINTENANCE_PATH_MAX_BYTES: usize = 1_024;

/// Who has set a silence of ours, as Alertmanager shows it: by this it is told from what a person has silenced.
pub const SILENCED_BY: &str = "quorate";

/// Which alerts nobody is told of while an instance is worked on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SilenceSpec {
    /// The Alertmanager that is told: `http://host:port`, and a path if it is served below one; `${…}` variables allowed. One that
    /// the host's own policy lists.
    pub url: String,
    /// Which alerts: all of these must hold of one. At least one that a missing label does not meet.
    pub matchers: Vec<AlertMatcher>,
    /// Nothing is disturbed unless the silence is there. Without it, work goes on and says why nobody was silenced.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub required: bool,
}

/// How an application, and those who watch it, learn that it is being worked on: by a file, a silence, or both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaintenanceSpec {
    /// Absolute path of a file that is there as long as the work lasts; `${…}` variables allowed. Its folder is one that the
    /// host's own policy lists, and it holds JSON: `since`, `until`, `operation`, `reason`. Empty for none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub file: String,
    /// Alerts of which nobody is told meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silence: Option<SilenceSpec>,
    /// Its host takes it away alone after this time, whatever else happens; none when it follows from the deadlines of the work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<DurationMs>,
}
