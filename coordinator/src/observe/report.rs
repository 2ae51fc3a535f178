//! What a follower tells the leader of the sessions it holds. Ages instead of times.

use std::collections::BTreeMap;

use quorate_model::node::{Facts, NodeCondition};
use quorate_model::session::InstanceReport;
use quorate_model::{ActionKind, DurationMs, NodeName, ProbeReading};
use serde::{Deserialize, Serialize};

/// Every session of one member.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Name of the member.
    pub member: String,
    /// By node.
    pub nodes: Vec<NodeReport>,
}

/// One session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeReport {
    /// The node.
    pub node: NodeName,
    /// Since its last heartbeat.
    pub heard: DurationMs,
    /// Version of its agent.
    pub agent_version: String,
    /// Actions it has.
    pub capabilities: Vec<ActionKind>,
    /// Node clock minus coordinator clock.
    pub clock_offset_ms: i64,
    /// Conditions that hold.
    pub conditions: BTreeMap<NodeCondition, String>,
    /// Units, with ages as of this report.
    pub instances: Vec<InstanceReport>,
    /// Readings it took.
    pub readings: Vec<ReportedReading>,
    /// Facts; only when they changed since the last report to this leader.
    #[serde(default)]
    pub facts: Option<Box<Facts>>,
    /// Metrics; only when there are newer ones.
    #[serde(default)]
    pub metrics: Option<Vec<super::table::Metric>>,
}

/// One reading with its age.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReportedReading {
    /// The reading; its `at` says nothing here.
    pub reading: ProbeReading,
    /// How old it is.
    pub age: DurationMs,
}
