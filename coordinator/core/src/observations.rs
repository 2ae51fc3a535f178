//! What the leader knows from its agents. It lives in memory only; the shell fills it, `plan` and `next` read it.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;

use alloc::vec::Vec;

use quorate_model::{
    ActionKind, DurationMs, Epoch, GroupName, InstanceId, InstanceReading, NodeName, NodeStatus, Timestamp,
};

use crate::state::State;

/// Everything observed, on the leader's clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observations {
    /// Since when this process leads: every liveness clock begins no earlier (fresh grace).
    pub leading_since: Timestamp,
    /// Per node.
    pub nodes: BTreeMap<NodeName, NodeObservation>,
    /// Per instance, folded; `probes` holds the readings of the node itself and of its peer.
    pub instances: BTreeMap<InstanceId, InstanceReading>,
    /// How long this leader has answered no renewal of a group's lease, and is proved to lead; on its monotonic clock. None
    /// of a group that it does not know for long enough to tell.
    pub leases: BTreeMap<GroupName, LeaseSilence>,
}

/// How long nobody can have renewed a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseSilence {
    /// The number that this leader drew.
    pub lead: u64,
    /// Of which epoch.
    pub epoch: Epoch,
    /// Since this leader took the last renewal in.
    pub silent_for: DurationMs,
    /// Since this leader was first proved to lead.
    pub leads_for: DurationMs,
}

impl Observations {
    /// What the state itself recorded, as if it were seen now: for a coordinator that does not lead and shows what it knows.
    /// Never for a decision.
    #[must_use]
    pub fn recorded(state: &State, now: Timestamp) -> Self {
        let mut recorded = Self { leading_since: now, ..Self::default() };
        for node in state.nodes.all_present().filter(|node| node.status == NodeStatus::Ready) {
            recorded
                .nodes
                .insert(node.name.clone(), NodeObservation { heard: now, ..NodeObservation::default() });
        }
        for (node, services) in &state.instances.0 {
            for (service, known) in services {
                let instance = InstanceId { node: node.clone(), service: service.clone() };
                let reading = InstanceReading {
                    instance: instance.clone(),
                    observed: known.observed,
                    role: known.role,
                    sync: known.sync,
                    up_since: known.since,
                    at: now,
                    probes: Vec::new(),
                    failing: false,
                };
                recorded.instances.insert(instance, reading);
            }
        }
        recorded
    }
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
