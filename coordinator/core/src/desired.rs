//! The full work set of one node: what a session compares with what its agent says it has.

use alloc::vec::Vec;

use quorate_model::service::DesiredState;
use quorate_model::{
    ActionSpec, DurationMs, Epoch, ExecutionId, HeldLease, InstanceId, NodeName, NodeStatus, ObligationId,
    ObligationState, OperationId, ProbeSpec, ServiceSpec, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::expand;
use crate::state::traffic::{self, Due};
use crate::state::{Execution, Group, Node, Obligation, State};

/// Everything one node should do and know. Level-triggered: sending it twice changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// Which node.
    pub node: NodeName,
    /// Digest of all other fields: differs exactly when something differs. It does not grow; compare for equality only.
    pub generation: u64,
    /// The highest fencing number handed out to this node among the executions that are kept.
    pub epoch: Epoch,
    /// Executions that are not final.
    pub executions: Vec<DesiredExecution>,
    /// Services on it.
    pub services: Vec<DesiredService>,
    /// Probes it runs, for itself and as the peer of another node.
    pub probes: Vec<DesiredProbe>,
    /// Undos to do now: what they belong to has ended.
    pub discharge: Vec<ObligationId>,
    /// Undos to close without doing them: what they keep out is not fit to come back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<ObligationId>,
    /// Undos to wait longer for, each until when: their operation lives.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extended: Vec<(ObligationId, Timestamp)>,
    /// Leases that its instances hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leases: Vec<HeldLease>,
}

/// One execution to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredExecution {
    /// Its id.
    pub id: ExecutionId,
    /// Whose.
    pub operation: OperationId,
    /// Fencing number; an older one than the agent has seen is refused.
    pub epoch: Epoch,
    /// What, with `${…}` filled in.
    pub action: ActionSpec,
    /// The service it works on, with `${…}` filled in.
    pub service: Option<ServiceSpec>,
    /// It disturbs, and its grant lets it begin before this; for others it is the time to begin, too.
    pub begin_before: Timestamp,
    /// Whether a disruption grant stands behind it.
    pub granted: bool,
    /// Longest time once begun, measured by the agent.
    pub deadline: DurationMs,
    /// Stop it, or do not begin it.
    pub cancel: bool,
}

/// One service on the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredService {
    /// Its declaration, with `${…}` filled in for this node.
    pub spec: ServiceSpec,
    /// What its owner wants.
    pub desired: DesiredState,
}

/// One probe to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredProbe {
    /// Which instance is looked at: the node's own, or another's.
    pub instance: InstanceId,
    /// What to run, with `${…}` filled in for that instance's node.
    pub probe: ProbeSpec,
}

/// The full work set of a node. Pure: every coordinator computes the same from the same state.
#[must_use]
pub fn desired(state: &State, node: &NodeName) -> Desired {
    let mut work = Desired {
        node: node.clone(),
        generation: 0,
        epoch: Epoch(0),
        executions: Vec::new(),
        services: Vec::new(),
        probes: Vec::new(),
        discharge: Vec::new(),
        left_out: Vec::new(),
        extended: Vec::new(),
        leases: Vec::new(),
    };
    // A removed node has no work at all.
    if state.nodes.present(node).is_some() {
        work.executions = state.open_executions(node).map(|e| execution(state, e)).collect();
        // By epoch: an agent refuses one older than it has seen.
        work.executions.sort_by_key(|e| e.epoch);
        work.epoch =
            state.executions.values().filter(|e| e.node == *node).map(|e| e.epoch).max().unwrap_or_default();
        for service in state.services.values() {
            services(state, &service.spec, node, &mut work);
        }
        work.discharge = owed(state, node, Due::Undo);
        work.left_out = owed(state, node, Due::LeaveOut);
        work.extended = extended(state, node);
        work.leases = leases(state, node);
    }
    work.generation = crate::hash::canonical(&work).short();
    work
}

fn execution(state: &State, execution: &Execution) -> DesiredExecution {
    let service = execution.instance.as_ref().and_then(|i| state.services.get(&i.service));
    let action = match service {
        Some(service) => expand::action(&execution.action, &service.spec, &execution.node),
        None => execution.action.clone(),
    };
    // One whose operation has ended must not begin any more; what it did is still asked for.
    let over = state.operations.get(&execution.operation).is_none_or(|o| o.state.is_terminal());
    DesiredExecution {
        id: execution.id.clone(),
        operation: execution.operation.clone(),
        epoch: execution.epoch,
        action,
        service: service.map(|service| expand::service(&service.spec, &execution.node)),
        begin_before: execution.begin_before,
        granted: execution.disruptive,
        deadline: execution.deadline,
        cancel: execution.cancel || over,
    }
}

/// The nodes that carry an instance, READY ones only, in order.
fn carriers<'a>(state: &'a State, spec: &'a ServiceSpec) -> impl Iterator<Item = &'a Node> {
    state.nodes.all_present().filter(|n| spec.nodes.matches(n.name.as_str(), &n.labels))
}

/// Who looks at an instance from outside: the next READY node in order, any node of the fleet, so that even a service with
/// one instance has a peer. None when there is no other.
#[must_use]
pub fn peer_of<'a>(state: &'a State, node: &NodeName) -> Option<&'a NodeName> {
    let ready = || state.nodes.all_present().filter(|n| n.status == NodeStatus::Ready && n.name != *node);
    ready().find(|n| n.name > *node).or_else(|| ready().next()).map(|n| &n.name)
}

fn services(state: &State, spec: &ServiceSpec, node: &NodeName, work: &mut Desired) {
    let from_peers: Vec<&ProbeSpec> = spec.probes.iter().filter(|probe| probe.from_peer).collect();
    for carrier in carriers(state, spec) {
        let instance = InstanceId { node: carrier.name.clone(), service: spec.name.clone() };
        let filled = |probe: &ProbeSpec| DesiredProbe {
            instance: instance.clone(),
            probe: expand::probe(probe, spec, &carrier.name),
        };
        if carrier.name == *node {
            let desired = state.instances.get(&instance).map_or(DesiredState::Running, |i| i.desired);
            work.services.push(DesiredService { spec: expand::service(spec, node), desired });
            work.probes.extend(spec.probes.iter().map(filled));
        } else if !from_peers.is_empty() && peer_of(state, &carrier.name) == Some(node) {
            work.probes.extend(from_peers.iter().map(|probe| filled(probe)));
        }
    }
}

/// Undos that were extended and still may be waited for. The first time is the agent's own.
fn extended(state: &State, node: &NodeName) -> Vec<(ObligationId, Timestamp)> {
    let later = |o: &Obligation| {
        let lease = traffic::lease(state, o).filter(|_| o.updated_at > o.opened_at)?;
        Some((o.id.clone(), o.updated_at.plus(lease)))
    };
    state.obligations.values().filter(|o| o.node == *node).filter_map(later).collect()
}

/// Leases that are not over.
fn leases(state: &State, node: &NodeName) -> Vec<HeldLease> {
    let held = |group: &Group| {
        let lease = group.primary.as_ref().filter(|l| l.node == *node && !l.state.is_over())?;
        Some(HeldLease {
            group: group.spec.name.clone(),
            service: group.spec.service.clone(),
            epoch: lease.epoch,
            ttl: lease.ttl,
            recalled: lease.recalled.is_some(),
        })
    };
    state.groups.values().filter_map(held).collect()
}

/// Undos of which this is due.
fn owed(state: &State, node: &NodeName, wanted: Due) -> Vec<ObligationId> {
    let open = |o: &&Obligation| matches!(o.state, ObligationState::Open | ObligationState::Failed);
    state
        .obligations
        .values()
        .filter(|o| o.node == *node)
        .filter(open)
        .filter(|o| traffic::due(state, o) == wanted)
        .map(|o| o.id.clone())
        .collect()
}
