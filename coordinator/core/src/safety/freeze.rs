//! Freezes: whether anything disruptive may start on a node now.
//!
//! A freeze holds what would begin. What has begun is brought to its end: gates, undos, starts, and the later steps of a
//! node whose member is disturbed already, because to stop there would leave it down for as long as the freeze lasts.

use alloc::format;
use alloc::string::{String, ToString};

use quorate_model::{
    FreezeSpec, FreezeState, InstanceId, NodeName, OperationId, Reason, Refusal, ServiceName, Timestamp,
    WorkloadName,
};

use crate::state::{Freeze, State};

/// The first freeze by name that covers a service on a node now; without a service, the node as a whole: whatever runs there.
#[must_use]
pub fn covering<'a>(
    state: &'a State,
    node: &NodeName,
    service: Option<&ServiceName>,
    now: Timestamp,
) -> Option<&'a Freeze> {
    state.freezes.values().find(|freeze| {
        is_on(freeze, now)
            && covers_node(state, &freeze.spec, node)
            && covers_service(state, &freeze.spec, node, service)
    })
}

/// Whether a freeze holds anything now.
#[must_use]
pub fn is_on(freeze: &Freeze, now: Timestamp) -> bool {
    match freeze.spec.state(now) {
        FreezeState::Active => true,
        FreezeState::Upcoming | FreezeState::Ended => false,
    }
}

/// A node of which nothing is known counts as covered.
fn covers_node(state: &State, spec: &FreezeSpec, node: &NodeName) -> bool {
    let Some(selector) = &spec.selector else { return true };
    state.nodes.present(node).is_none_or(|found| selector.matches(found.name.as_str(), &found.labels))
}

fn covers_service(state: &State, spec: &FreezeSpec, node: &NodeName, service: Option<&ServiceName>) -> bool {
    if spec.services.is_empty() {
        return true;
    }
    let named = |service: &ServiceName| spec.services.iter().any(|name| is_of(state, name, node, service));
    match service {
        Some(service) => named(service),
        None => state.services.values().any(|found| {
            let labels = state.nodes.present(node).map(|n| &n.labels);
            labels.is_none_or(|labels| found.spec.nodes.matches(node.as_str(), labels))
                && named(&found.spec.name)
        }),
    }
}

/// A name stands for the service of that name, and for the members of the group of that name.
fn is_of(state: &State, name: &WorkloadName, node: &NodeName, service: &ServiceName) -> bool {
    name.as_str() == service.as_str()
        || state.groups_of(service, node).any(|group| group.spec.name.as_str() == name.as_str())
}

/// Until when, as the text of a refusal says it: never an age, which would be another text every second.
#[must_use]
pub fn until(freeze: &Freeze) -> String {
    freeze.spec.ends.map_or_else(|| "it is deleted".to_string(), Timestamp::utc)
}

/// Nothing disruptive may start where a freeze is on.
#[must_use]
pub fn unfrozen(
    state: &State,
    node: &NodeName,
    service: Option<&ServiceName>,
    now: Timestamp,
) -> Option<Refusal> {
    let freeze = covering(state, node, service, now)?;
    let FreezeSpec { name, reason, .. } = &freeze.spec;
    let subject = service.map_or_else(|| node.to_string(), |service| format!("{service} on {node}"));
    Some(
        Refusal::new(Reason::Freeze, format!("freeze {name}: {reason} (until {})", until(freeze)))
            .with_detail("frozen", subject)
            .with_detail("by", format!("{} since {}", freeze.applied_by, freeze.since().utc()))
            .with_hint(format!("quorate freeze show {name}")),
    )
}

/// As [`unfrozen`], of an instance that an operation may hold a grant on: what it has begun there it may end.
#[must_use]
pub fn begins(
    state: &State,
    instance: &InstanceId,
    operation: Option<&OperationId>,
    now: Timestamp,
) -> Option<Refusal> {
    let begun = state.grants.values().any(|g| g.instance == *instance && operation == Some(&g.operation));
    if begun { None } else { unfrozen(state, &instance.node, Some(&instance.service), now) }
}
