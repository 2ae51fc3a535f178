//! What the leader knows from its agents. It lives in memory only; the shell fills it, `plan` and `next` read it.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;

use quorate_model::{ActionKind, InstanceId, InstanceReading, NodeName, Timestamp};

/// Everything observed, on the leader's clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observations {
    /// Since when this process leads: every liveness clock begins no earlier (fresh grace).
    pub leading_since: Timestamp,
    /// Per node.
    pub nodes: BTreeMap<NodeName, NodeObservation>,
    /// Per instance, folded; `probes` holds the readings of the node itself and of its peer.
    pub instances: BTreeMap<InstanceId, InstanceReading>,
}

/// What is known of one agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeObservation {
    /// Last heartbeat.
    pub heard: Timestamp,
    /// Version of its agent.
    pub agent_version: String,
    /// Actions it has.
    pub capabilities: BTreeSet<ActionKind>,
}
