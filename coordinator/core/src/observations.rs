//! What the leader knows from its agents. It lives in memory only; the shell fills it, `plan` and `next` read it.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;

use alloc::vec::Vec;

use quorate_model::{
    ActionKind, DurationMs, Epoch, GroupName, InstanceId, InstanceReading, InstanceRole, InstanceState,
    NodeName, NodeStatus, ProbeReading, Sync, Timestamp,
};

use crate::state::{Group, State};

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
    /// The newest reading with a position of each instance's own membership probe, however old: of a primary that is gone it is
    /// the last that is known.
    pub positions: BTreeMap<InstanceId, ProbeReading>,
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
    /// What the move of a primary role rests on: how each voter of its group is seen, with the position that its own probe told
    /// last, however long ago that is.
    #[must_use]
    pub fn of_voters(&self, group: &Group) -> Vec<InstanceReading> {
        let short =
            |r: &ProbeReading| ProbeReading { detail: String::new(), listed: Vec::new(), ..r.clone() };
        let of = |node: &NodeName| {
            let instance = InstanceId { node: node.clone(), service: group.spec.service.clone() };
            let own = |r: &&ProbeReading| r.from == *node && r.position.is_some();
            let found = self.instances.get(&instance);
            let mut probes: Vec<ProbeReading> =
                found.into_iter().flat_map(|f| &f.probes).filter(own).map(short).collect();
            if probes.is_empty() {
                probes.extend(self.positions.get(&instance).map(short));
            }
            match found {
                Some(found) => Some(InstanceReading { probes, ..found.clone() }),
                // Nothing else is known of it, and that is old.
                None => probes.first().map(|told| told.at).map(|at| InstanceReading {
                    instance,
                    observed: InstanceState::Unknown,
                    role: InstanceRole::Unknown,
                    sync: Sync::Unknown,
                    up_since: Timestamp::ZERO,
                    at,
                    probes,
                    failing: false,
                }),
            }
        };
        group.spec.voters.iter().filter_map(of).collect()
    }

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
