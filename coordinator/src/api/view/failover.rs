//! The primary role of a group, its lease, and what happened to it before.

use quorate_common::wire::enums::{write_failover_state, write_instance_role, write_lease_state};
use quorate_common::wire::time::{write_duration, write_timestamp};
use quorate_core::safety::Evidence;
use quorate_core::safety::availability::member;
use quorate_core::safety::failover::{Suspicion, held_down_until, lost};
use quorate_core::state::{FailoverRecord, Group, PrimaryLease};
use quorate_core::{Observations, State};
use quorate_model::{InstanceId, NodeName, Timestamp};
use quorate_proto::v1;

/// The role as it stands now.
pub(crate) fn failover(state: &State, obs: &Observations, group: &Group, now: Timestamp) -> v1::Failover {
    let evidence = Evidence::from_observations(obs);
    let spec = &group.spec;
    let one = |node: &NodeName| {
        let id = InstanceId { node: node.clone(), service: spec.service.clone() };
        let status = member(state, &id, &evidence, now);
        let position = position(obs, &id);
        v1::FailoverMember {
            node: node.as_str().to_owned(),
            role: write_instance_role(status.role) as i32,
            available: status.is_available(),
            out_reason: status.out.as_ref().map(|out| out.why.as_str().to_owned()).unwrap_or_default(),
            position: position.map(|(position, _)| position),
            position_age: position.map(|(_, at)| write_duration(now.since(at))),
        }
    };
    let (word, why) = match lost(state, obs, group, now) {
        Suspicion::None => (v1::FailoverSuspicion::None, String::new()),
        Suspicion::Suspected { why } => (v1::FailoverSuspicion::Suspected, why),
        Suspicion::Confirmed { why } => (v1::FailoverSuspicion::Confirmed, why),
    };
    v1::Failover {
        group: spec.name.as_str().to_owned(),
        service: spec.service.as_str().to_owned(),
        lease: group.primary.as_ref().map(lease),
        suspicion: word as i32,
        why,
        automatic: spec.failover.as_ref().is_some_and(|declared| declared.automatic),
        hold_down_until: held_down_until(state, group).filter(|until| now < *until).and_then(write_timestamp),
        members: spec.voters.iter().map(one).collect(),
        history: group.failovers.iter().rev().map(record).collect(),
    }
}

/// The newest position that an instance told of itself, and when.
fn position(obs: &Observations, id: &InstanceId) -> Option<(u64, Timestamp)> {
    let own = obs.instances.get(id)?.probes.iter().filter(|reading| reading.from == id.node);
    own.filter_map(|reading| Some((reading.position?, reading.at))).max_by_key(|(_, at)| *at)
}

fn lease(lease: &PrimaryLease) -> v1::PrimaryLease {
    let PrimaryLease { node, epoch, ttl, state, since, granted_at, adopted, recalled, message } = lease;
    v1::PrimaryLease {
        node: node.as_str().to_owned(),
        epoch: epoch.0,
        state: write_lease_state(*state) as i32,
        since: write_timestamp(*since),
        granted_at: write_timestamp(*granted_at),
        ttl: Some(write_duration(*ttl)),
        recalled: recalled.as_ref().map(|id| id.as_str().to_owned()).unwrap_or_default(),
        adopted: *adopted,
        message: message.clone(),
    }
}

fn record(record: &FailoverRecord) -> v1::FailoverRecord {
    let stamp = |at: Option<Timestamp>| at.and_then(write_timestamp);
    v1::FailoverRecord {
        operation: record.operation.as_str().to_owned(),
        from: record.from.as_str().to_owned(),
        to: record.to.as_str().to_owned(),
        epoch: record.epoch.map_or(0, |epoch| epoch.0),
        planned: record.planned,
        why: record.why.clone(),
        state: write_failover_state(record.state) as i32,
        started_at: write_timestamp(record.started_at),
        fenced_at: stamp(record.fenced_at),
        promoted_at: stamp(record.promoted_at),
        ended_at: stamp(record.ended_at),
        lag: record.lag,
    }
}
