//! Whether a primary is lost: seen from its own host, from another one, and by its lease.
//!
//! Two of them must agree before the role is moved. What is only not heard is no proof: then the lease has to run out first. A
//! change of the coordinators' leader is no failure of a primary.

use alloc::format;
use alloc::string::String;

use quorate_model::{
    DurationMs, FailoverState, InstanceId, InstanceState, NodeStatus, OperationState, ProbeReading, Timestamp,
};

use super::super::availability::{Evidence, freshness_limit, is_current, is_ours, probe_limit};
use super::super::lease;
use super::{at_work, instance};
use crate::observations::Observations;
use crate::state::{Group, State};

/// How sure it is that a primary is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Suspicion {
    /// Nothing says so, or nobody may act on it now.
    None,
    /// Something says so: what agrees with it is waited for.
    Suspected {
        /// What, one line.
        why: String,
    },
    /// The role has to be moved.
    Confirmed {
        /// What, one line.
        why: String,
    },
}

/// Until when nobody moves the role of a group by himself, because it was moved just now, or that was given up.
#[must_use]
pub fn held_down_until(state: &State, group: &Group) -> Option<Timestamp> {
    let spec = group.spec.failover.as_ref()?;
    let last = group.failovers.last().filter(|last| !last.acknowledged)?;
    let canceled = state.operations.get(&last.operation).is_some_and(|o| o.state == OperationState::Canceled);
    let wait = match last.state {
        FailoverState::Completed => spec.hold_down,
        // A switchover that was given up before it touched anything has moved nothing.
        FailoverState::Aborted if last.planned && last.fencing_at.is_none() => return None,
        // What a person gave up is for a person to go on with.
        FailoverState::Aborted if canceled => spec.hold_down,
        // It is tried again, and not at once.
        FailoverState::Aborted => spec.timeout,
        FailoverState::Suspected
        | FailoverState::Confirmed
        | FailoverState::Fencing
        | FailoverState::Fenced
        | FailoverState::Promoting
        | FailoverState::TrafficSwitching
        | FailoverState::Verifying
        | FailoverState::HoldDown => return None,
    };
    Some(last.ended_at?.plus(wait))
}

/// Whether the primary of a group with automatic failover is lost, and nothing keeps anybody from moving the role.
#[must_use]
pub fn suspicion(state: &State, obs: &Observations, group: &Group, now: Timestamp) -> Suspicion {
    let automatic = group.spec.failover.as_ref().is_some_and(|spec| spec.automatic);
    let held_down = held_down_until(state, group).is_some_and(|until| now < until);
    if !automatic || held_down || at_work(state, &group.spec.name).is_some() {
        return Suspicion::None;
    }
    lost(state, obs, group, now)
}

/// Whether the primary of a group is lost.
#[must_use]
pub fn lost(state: &State, obs: &Observations, group: &Group, now: Timestamp) -> Suspicion {
    let Some(last) = &group.primary else { return Suspicion::None };
    let id = instance(group, &last.node);
    // What our own hand does to it is no failure of it.
    if is_ours(state, &id) {
        return Suspicion::None;
    }
    if lease::live(group).is_none() {
        let why = format!("the lease of {} is {}: {}", last.node, last.state, last.message);
        return Suspicion::Confirmed { why };
    }
    let patience = state.settings.down_after.max(freshness_limit(state, &id.service));
    let settled = now.since(obs.leading_since) > patience;
    seen(state, obs, &id, settled, now)
}

/// What is seen of the instance that leads.
fn seen(state: &State, obs: &Observations, id: &InstanceId, settled: bool, now: Timestamp) -> Suspicion {
    let suspected = |why: String| Suspicion::Suspected { why };
    let missing = |why: String| if settled { Suspicion::Suspected { why } } else { Suspicion::None };
    let status = state.nodes.present(&id.node).map(|node| node.status);
    if status != Some(NodeStatus::Ready) {
        return missing(format!("the agent of {} is not heard", id.node));
    }
    let evidence = Evidence::from_observations(obs);
    let Some(reading) = evidence.get(id).filter(|reading| is_current(state, reading, now)) else {
        return missing(format!("nothing fresh is known of {id}"));
    };
    if matches!(reading.observed, InstanceState::Stopped | InstanceState::Failed) {
        return Suspicion::Confirmed { why: format!("{id} is {}, says its own host", reading.observed) };
    }
    let own = failing(state, id, &reading.probes, true, now);
    let other = failing(state, id, &reading.probes, false, now);
    match (own, other) {
        (Some(own), Some(other)) => {
            let why =
                format!("{} fails from {} and {} from {}", own.probe, own.from, other.probe, other.from);
            Suspicion::Confirmed { why }
        }
        (Some(one), None) | (None, Some(one)) => {
            suspected(format!("{} fails from {} only", one.probe, one.from))
        }
        (None, None) => Suspicion::None,
    }
}

/// A probe of its health that fails, from its own host or from another one, as often in a row as it would have to pass.
fn failing<'a>(
    state: &State,
    id: &InstanceId,
    readings: &'a [ProbeReading],
    itself: bool,
    now: Timestamp,
) -> Option<&'a ProbeReading> {
    let spec = &state.services.get(&id.service)?.spec;
    let disturbed = state.instances.get(id).map_or(Timestamp::ZERO, |known| known.disturbed_at);
    readings.iter().filter(|r| r.instance == *id && (r.from == id.node) == itself && !r.ok).find(|reading| {
        let declared = spec.probes.iter().find(|p| p.name == reading.probe && p.kind.tells_health());
        declared.is_some_and(|probe| {
            let limit: DurationMs = probe_limit(state, &id.service, &probe.name, probe.interval);
            let first = reading.at.minus(DurationMs(
                probe.interval.0.saturating_mul(u64::from(probe.passes.saturating_sub(1))),
            ));
            reading.failures >= probe.passes && now.since(reading.at) <= limit && first > disturbed
        })
    })
}
