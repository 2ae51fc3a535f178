//! Nodes and instances.

use quorate_common::wire::enums::{
    write_drain, write_instance_role, write_instance_state, write_node_status, write_scheduling, write_sync,
};
use quorate_common::wire::number::write_number;
use quorate_common::wire::outcome::write_facts;
use quorate_common::wire::time::write_timestamp;
use quorate_core::state::{Instance, Node, Service};
use quorate_core::{Observations, State};
use quorate_model::node::NodeCondition;
use quorate_model::service::DesiredState;
use quorate_model::{InstanceId, InstanceReading, NodeName, Principal, ProbeReading, ServiceName, Timestamp};
use quorate_proto::v1;

use crate::api::backend::{MetricValue, NodeDetail};

/// Whether facts and metrics are shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    List,
    Whole,
}

/// A node with its instances.
pub(crate) fn node(
    state: &State,
    obs: &Observations,
    detail: Option<&NodeDetail>,
    node: &Node,
    depth: Depth,
    now: Timestamp,
) -> v1::Node {
    let seen = obs.nodes.get(&node.name);
    let (owner, reason) = state.cordoned(node).map_or_else(Default::default, |c| (c.owner, c.reason));
    let whole = detail.filter(|_| depth == Depth::Whole);
    v1::Node {
        name: node.name.as_str().to_owned(),
        status: write_node_status(node.status) as i32,
        scheduling: write_scheduling(state.scheduling(node)) as i32,
        drain: write_drain(node.drain) as i32,
        labels: node.labels.clone(),
        node_id: node.id.0,
        status_since: write_timestamp(node.status_since),
        cordon_owner: owner,
        cordon_reason: reason,
        agent_version: seen.map(|s| s.agent_version.clone()).unwrap_or_default(),
        last_heard: seen.and_then(|s| write_timestamp(s.heard)),
        clock_offset_ms: detail.map_or(0, |d| d.clock_offset_ms),
        conditions: detail.map(conditions).unwrap_or_default(),
        facts: whole.and_then(|d| d.facts.as_ref()).map(write_facts),
        instances: instances_on(state, &node.name).map(|id| instance(state, obs, &id, now)).collect(),
        metrics: whole.map(|d| d.metrics.iter().map(metric).collect()).unwrap_or_default(),
        coordinator: detail.map(|d| d.coordinator.clone()).unwrap_or_default(),
        certificate_expires: certificate_end(state, &node.name).and_then(write_timestamp),
    }
}

fn conditions(detail: &NodeDetail) -> Vec<v1::Condition> {
    let show = |(kind, (message, since)): (&NodeCondition, &(String, Timestamp))| v1::Condition {
        r#type: kind.as_str().to_owned(),
        reason: kind.as_str().to_owned(),
        message: message.clone(),
        since: write_timestamp(*since),
    };
    detail.conditions.iter().map(show).collect()
}

fn metric(metric: &MetricValue) -> v1::Metric {
    v1::Metric { name: metric.name.clone(), labels: metric.labels.clone(), value: metric.value }
}

/// The end of the newest certificate that is not revoked.
fn certificate_end(state: &State, node: &NodeName) -> Option<Timestamp> {
    let principal = Principal::Agent { node: node.clone() };
    let mine = state.identities.values().filter(|i| i.principal == principal && i.revoked_at.is_none());
    mine.map(|i| i.not_after).max()
}

/// Services that belong on a node by their declaration.
fn instances_on<'a>(state: &'a State, node: &'a NodeName) -> impl Iterator<Item = InstanceId> + 'a {
    let labels = state.nodes.present(node).map(|n| &n.labels);
    state
        .services
        .values()
        .filter(move |s| labels.is_some_and(|labels| s.spec.nodes.matches(node.as_str(), labels)))
        .map(|s| InstanceId { node: node.clone(), service: s.spec.name.clone() })
}

/// A service's instances, in the order of nodes.
pub(crate) fn instances_of(state: &State, service: &Service) -> Vec<InstanceId> {
    let name: &ServiceName = &service.spec.name;
    let fits = |node: &&Node| service.spec.nodes.matches(node.name.as_str(), &node.labels);
    let id = |node: &Node| InstanceId { node: node.name.clone(), service: name.clone() };
    state.nodes.all_present().filter(fits).map(id).collect()
}

/// One instance: what is read of it, or what was last decided.
pub(crate) fn instance(state: &State, obs: &Observations, id: &InstanceId, now: Timestamp) -> v1::Instance {
    let decided = state.instances.get(id);
    let reading = obs.instances.get(id);
    let default = Instance::default();
    let last = decided.unwrap_or(&default);
    let (observed, role, sync) =
        reading.map_or((last.observed, last.role, last.sync), |r| (r.observed, r.role, r.sync));
    let desired = decided.map_or(DesiredState::Running, |i| i.desired);
    v1::Instance {
        node: id.node.as_str().to_owned(),
        service: id.service.as_str().to_owned(),
        desired: desired.as_str().to_owned(),
        observed: write_instance_state(observed) as i32,
        role: write_instance_role(role) as i32,
        sync: write_sync(sync) as i32,
        up_since: reading.and_then(|r| write_timestamp(r.up_since)),
        reading_age_ms: reading.map_or(0, |r| now.since(r.at).0),
        probes: reading.map(probes).unwrap_or_default(),
    }
}

fn probes(reading: &InstanceReading) -> Vec<v1::ProbeReading> {
    reading.probes.iter().map(probe).collect()
}

fn probe(reading: &ProbeReading) -> v1::ProbeReading {
    let ProbeReading {
        instance: _,
        from,
        probe,
        ok,
        passes,
        failures,
        detail,
        role,
        lag,
        value,
        listed: _,
        position,
        at,
    } = reading;
    v1::ProbeReading {
        probe: probe.as_str().to_owned(),
        from: from.as_str().to_owned(),
        ok: *ok,
        passes: *passes,
        failures: *failures,
        detail: detail.clone(),
        lag: *lag,
        at: write_timestamp(*at),
        role: write_instance_role(*role) as i32,
        value: value.map(write_number),
        position: *position,
    }
}
