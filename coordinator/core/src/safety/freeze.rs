//! Freezes: whether anything disruptive may start on a node now.
//!
//! A freeze holds what would begin. What has begun is brought to its end: gates, undos, starts, and the later steps of a
//! node whose member is disturbed already, because to stop there would leave it down for as long as the freeze lasts.

use alloc::format;
use alloc::string::{String, ToString};

use quorate_model::{
    FreezeSpec, FreezeState, InstanceId, NodeName, OperationId, Reason, Refusal, ServiceName, Timestamp,
};

use super::cover;
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
            && cover::node(state, freeze.spec.selector.as_ref(), node)
            && cover::service(state, &freeze.spec.services, node, service)
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
    if cover::has_begun(state, instance, operation) {
        return None;
    }
    unfrozen(state, &instance.node, Some(&instance.service), now)
}
