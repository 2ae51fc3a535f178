//! Windows: whether something that disturbs may start on what they cover, and be over before they close.
//!
//! What no window covers may be disturbed at any time. Where several cover the same, each of them will do. An opening that is
//! not known does not count: closed is safe. As with freezes, what has begun is brought to its end, and an undo never waits.

use alloc::format;
use alloc::string::String;

use quorate_model::{
    DurationMs, InstanceId, NodeName, Occurrence, OperationId, Reason, Refusal, ServiceName, StepKind,
    Timestamp, WindowState,
};

use super::cover;
use crate::state::{State, Window};

/// Whether a step takes something back, or brings back what is down: no window holds it.
#[must_use]
pub const fn is_undo(kind: StepKind) -> bool {
    match kind {
        StepKind::Start
        | StepKind::Revert
        | StepKind::Restore
        | StepKind::ExitMaintenance
        | StepKind::Confirm => true,
        StepKind::Status
        | StepKind::Stop
        | StepKind::Restart
        | StepKind::Reload
        | StepKind::Backup
        | StepKind::Verify
        | StepKind::Rotate
        | StepKind::Facts
        | StepKind::Diagnose
        | StepKind::Stage
        | StepKind::Activate
        | StepKind::Drain
        | StepKind::Retire
        | StepKind::RunOnce
        | StepKind::Hook
        | StepKind::EnterMaintenance
        | StepKind::Preflight
        | StepKind::Handover
        | StepKind::Join
        | StepKind::Leave
        | StepKind::Promote
        | StepKind::Switch
        | StepKind::Rejoin
        | StepKind::Quarantine
        | StepKind::Gate => false,
    }
}

/// Whether a window is open now.
#[must_use]
pub fn is_open(window: &Window, now: Timestamp) -> bool {
    match window.state(now) {
        WindowState::Open | WindowState::Closing => true,
        WindowState::Upcoming | WindowState::Closed => false,
    }
}

/// The windows that cover a service on a node; without a service, the node as a whole: whatever runs there.
pub fn covering<'a>(
    state: &'a State,
    node: &'a NodeName,
    service: Option<&'a ServiceName>,
) -> impl Iterator<Item = &'a Window> {
    state.windows.values().filter(move |window| {
        cover::node(state, window.spec.selector.as_ref(), node)
            && cover::service(state, &window.spec.services, node, service)
    })
}

/// When something that takes `needs` could begin under a window: the opening, and the moment.
#[must_use]
pub fn chance(window: &Window, needs: DurationMs, now: Timestamp) -> Option<(Occurrence, Timestamp)> {
    let begins = |opening: &Occurrence| (*opening, opening.start.max(now));
    window.known(now).map(begins).find(|(opening, at)| opening.end.since(*at) >= needs)
}

/// Something that takes `needs` may start on a service now, or on whatever a node carries: one of the windows that cover it is
/// open for long enough, or none covers it.
#[must_use]
pub fn within(
    state: &State,
    node: &NodeName,
    service: Option<&ServiceName>,
    needs: DurationMs,
    now: Timestamp,
) -> Option<Refusal> {
    if service.is_some() {
        return one(state, node, service, needs, now);
    }
    // All of it is disturbed: each service within its own windows.
    let mut services = cover::services_on(state, node).peekable();
    if services.peek().is_none() {
        return one(state, node, None, needs, now);
    }
    services.find_map(|service| one(state, node, Some(service), needs, now))
}

fn one(
    state: &State,
    node: &NodeName,
    service: Option<&ServiceName>,
    needs: DurationMs,
    now: Timestamp,
) -> Option<Refusal> {
    let mut first: Option<(Option<Timestamp>, &Window)> = None;
    for window in covering(state, node, service) {
        let at = chance(window, needs, now).map(|(_, at)| at);
        if at == Some(now) {
            return None;
        }
        // The one to wait for is the one that gives the first chance.
        if first.is_none_or(|(best, _)| at.is_some_and(|at| best.is_none_or(|best| at < best))) {
            first = Some((at, window));
        }
    }
    let (at, window) = first?;
    let subject = service.map_or_else(|| format!("{node}"), |service| format!("{service} on {node}"));
    let name = &window.spec.name;
    let mut refusal = Refusal::new(Reason::WindowClosed, closed(window, at, needs, now))
        .with_detail("covered", subject)
        .with_detail("window", format!("{name}: {}", window.spec.reason));
    if !window.spec.owner.is_empty() {
        refusal = refusal.with_detail("owner", window.spec.owner.clone());
    }
    Some(refusal.with_hint(format!("quorate window show {name}")))
}

/// One line that stays the same while nothing changes: moments, never what is left of them.
fn closed(window: &Window, at: Option<Timestamp>, needs: DurationMs, now: Timestamp) -> String {
    let name = &window.spec.name;
    let next = at.map_or_else(|| "no opening is known".into(), |at| format!("opens {}", at.utc()));
    match window.open(now) {
        None => format!("window {name} is closed ({next})"),
        Some(opening) => {
            let next = next.replacen("opens", "opens again", 1);
            format!("window {name} closes {}, before {needs} have passed ({next})", opening.end.utc())
        }
    }
}

/// As [`within`], of an instance that an operation may hold a grant on: what it has begun there it may end.
#[must_use]
pub fn begins(
    state: &State,
    instance: &InstanceId,
    operation: Option<&OperationId>,
    needs: DurationMs,
    now: Timestamp,
) -> Option<Refusal> {
    if cover::has_begun(state, instance, operation) {
        return None;
    }
    within(state, &instance.node, Some(&instance.service), needs, now)
}
