//! Numbers that an operator may change, replicated because `apply` rests on some of them.

use quorate_model::DurationMs;
use serde::{Deserialize, Serialize};

/// Replicated settings with their defaults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Behaviour level: a change in what `apply` or `safety` does takes effect only at or above its level.
    pub level: u32,
    /// No heartbeat for this long makes a node DISCONNECTED. Three heartbeats of one second.
    pub disconnected_after: DurationMs,
    /// No heartbeat for this long makes a node DOWN.
    pub down_after: DurationMs,
    /// Interval assumed for services without probes.
    pub default_interval: DurationMs,
    /// Added to two probe intervals to get the largest age of a reading that a decision may rest on (I-12).
    pub freshness_slack: DurationMs,
    /// How long after its grant an action may begin.
    pub grant_life: DurationMs,
    /// Added to an execution's deadline before it counts as unknown.
    pub execution_slack: DurationMs,
    /// Default deadline of a gate.
    pub gate_deadline: DurationMs,
    /// How long an execution's node may be disconnected before its outcome counts as unknown.
    pub unknown_after: DurationMs,
    /// How long answers are kept for repeated request ids.
    pub dedupe_life: DurationMs,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            level: 1,
            disconnected_after: DurationMs::from_secs(3),
            down_after: DurationMs::from_secs(10),
            default_interval: DurationMs::from_secs(5),
            freshness_slack: DurationMs::from_secs(5),
            grant_life: DurationMs::from_secs(30),
            execution_slack: DurationMs::from_secs(30),
            gate_deadline: DurationMs::from_secs(120),
            unknown_after: DurationMs::from_secs(60),
            dedupe_life: DurationMs::from_secs(24 * 3_600),
        }
    }
}
