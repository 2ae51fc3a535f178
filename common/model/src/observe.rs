//! Observations: what agents saw and when. They live in memory; a decision carries the readings it rests on.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::group::{InstanceRole, Sync};
use crate::id::{InstanceId, NodeName, ProbeName};
use crate::number::Millionths;
use crate::service::InstanceState;
use crate::time::Timestamp;

/// Most members that a membership probe tells; of a larger group it tells none.
pub const LISTED_MAX: usize = 128;
/// Longest key of a member that is told, in bytes.
pub const LISTED_KEY_MAX_BYTES: usize = 128;

/// A member that an instance lists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// What names it there.
    pub key: String,
    /// Its role there.
    pub role: InstanceRole,
}

/// One reading of one probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeReading {
    /// Which instance was looked at.
    pub instance: InstanceId,
    /// Which node looked.
    pub from: NodeName,
    /// Which probe.
    pub probe: ProbeName,
    /// Whether it passed.
    pub ok: bool,
    /// Consecutive passes up to this reading.
    pub passes: u32,
    /// Consecutive failures up to this reading.
    pub failures: u32,
    /// One line, sanitised.
    pub detail: String,
    /// Role seen, by a membership probe.
    pub role: InstanceRole,
    /// Lag seen, by a membership probe.
    pub lag: Option<u64>,
    /// What was measured, by a metric probe.
    // Left out when there is none, as in the entries that were written before it was there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Millionths>,
    /// Whom the instance lists as members, by a membership probe; empty when nothing is told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listed: Vec<Listed>,
    /// Position in the application's own log, by a membership probe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// When, on the coordinator's clock: stamped on arrival minus the age the agent gave.
    pub at: Timestamp,
}

/// What is known of one instance, folded from the readings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceReading {
    /// Which instance.
    pub instance: InstanceId,
    /// Folded state.
    pub observed: InstanceState,
    /// Role as the application sees it.
    pub role: InstanceRole,
    /// Caught up or not.
    pub sync: Sync,
    /// When the current run of the unit began; zero when it does not run.
    pub up_since: Timestamp,
    /// The oldest reading it rests on.
    pub at: Timestamp,
    /// The probes behind it.
    #[serde(default)]
    pub probes: Vec<ProbeReading>,
    /// The unit is active, and a probe of its service (HTTP, TCP, program) has failed as often in a row, on its own node, as
    /// it would have to pass: it is known not to serve. False where nobody can tell.
    // Left out when false, as in the entries that were written before it was there.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub failing: bool,
}
