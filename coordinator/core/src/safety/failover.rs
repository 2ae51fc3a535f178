//! Whether the primary role of a group may be moved, to whom, and whether it has to be.
//!
//! Nobody is promoted while a lease may be good: that is asked of the state, and no reading stands in for it. Who takes over is
//! seen to be well by fresh readings, and its position is held against the last that is known of the old primary's, however old
//! that is. A freeze holds a switchover; a primary that is lost is not left so because of one.

use alloc::format;
use alloc::string::String;

use quorate_model::{
    ExecutionState, FailoverSpec, GroupName, InstanceId, InstanceReading, InstanceRole, InstanceState,
    LeaseState, NodeName, OperationId, OperationState, OutReason, Reason, Refusal, StepKind, StepState,
    Timestamp,
};

use super::availability::{Evidence, is_current, member};
use super::{fence, freeze, lease, window};
use crate::state::operation::{Operation, Step};
use crate::state::plan::{Goal, LeaseGate, LeaseWants};
use crate::state::{FailoverRecord, Group, State};

mod position;
pub mod rejoin;
mod suspicion;

pub use position::{behind, fresh_position, last_position, not_caught_up, too_far};
pub use suspicion::{Suspicion, held_down_until, lost, suspicion};

/// What is asked of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move<'a> {
    /// Who is to lead, if the caller says so.
    pub to: Option<&'a NodeName>,
    /// The primary is well, and nothing may be lost.
    pub planned: bool,
}

impl Move<'_> {
    /// Whether somebody has named who takes over from a primary that is lost: what nobody knows of it is accepted then.
    const fn accepts_unknown(&self) -> bool {
        self.to.is_some() && !self.planned
    }
}

/// The move that an operation is for, and of which group.
#[must_use]
pub fn of(operation: &Operation) -> Option<(&GroupName, Move<'_>)> {
    match &operation.request.goal {
        Goal::Failover { group, to, planned } => Some((group, Move { to: to.as_ref(), planned: *planned })),
        Goal::Rollout { .. }
        | Goal::Run { .. }
        | Goal::Backup { .. }
        | Goal::Rotate { .. }
        | Goal::Membership { .. }
        | Goal::Rejoin { .. }
        | Goal::Rebuild { .. }
        | Goal::Verify { .. }
        | Goal::Host { .. } => None,
    }
}

/// The group whose primary role an operation is about: it moves it, or brings a former primary back.
#[must_use]
pub fn group_of(operation: &Operation) -> Option<&GroupName> {
    of(operation).map(|(group, _)| group).or_else(|| rejoin::of(operation).map(|(group, _)| group))
}

/// Whether a step belongs to the move of a primary role, and to nothing else.
#[must_use]
pub const fn is_moving(kind: StepKind) -> bool {
    matches!(kind, StepKind::Promote | StepKind::Switch | StepKind::Rejoin)
}

/// The operation that moves the role of a group, if one does. One that has touched nothing and waits for somebody keeps nobody
/// from it.
#[must_use]
pub fn at_work<'a>(state: &'a State, name: &GroupName) -> Option<&'a Operation> {
    let moves = |o: &&Operation| !o.state.is_terminal() && of(o).is_some_and(|(group, _)| group == name);
    state.operations.values().filter(moves).find(|operation| !waits_untouched(state, name, operation))
}

fn waits_untouched(state: &State, name: &GroupName, operation: &Operation) -> bool {
    let waits = matches!(operation.state, OperationState::AwaitingApproval | OperationState::Paused);
    let touched = state.groups.get(name).and_then(|group| record(group, &operation.id));
    waits && touched.is_none_or(|record| record.fencing_at.is_none())
}

/// Why nothing else may change a group: its role is moved.
#[must_use]
pub fn moving(state: &State, name: &GroupName) -> Option<Refusal> {
    let id = &at_work(state, name)?.id;
    let what = format!("{id} moves the primary role of group {name}");
    Some(Refusal::new(Reason::Conflict, what).with_hint(format!("quorate operation show {id}")))
}

/// What is remembered of an operation.
#[must_use]
pub fn record<'a>(group: &'a Group, id: &OperationId) -> Option<&'a FailoverRecord> {
    group.failovers.iter().rev().find(|record| record.operation == *id)
}

/// An instance of a group.
#[must_use]
pub fn instance(group: &Group, node: &NodeName) -> InstanceId {
    InstanceId { node: node.clone(), service: group.spec.service.clone() }
}

/// Whether a voter had the role last: it holds, or held, the last lease, or whoever got that one was never seen to be promoted.
fn led_last(group: &Group, node: &NodeName) -> bool {
    let Some(lease) = &group.primary else { return false };
    let in_vain = |last: &&FailoverRecord| {
        last.from == *node && last.to == lease.node && last.promoted_at.is_none() && lease.state.is_over()
    };
    lease.node == *node || group.failovers.last().filter(in_vain).is_some()
}

/// Why a voter may not take the role over now, apart from how far it has come: it must be seen to be well as a standby. Who held
/// the role last, and was stopped for it, may have it again.
#[must_use]
pub fn unfit(
    state: &State,
    group: &Group,
    node: &NodeName,
    operation: Option<&OperationId>,
    evidence: &Evidence<'_>,
    now: Timestamp,
) -> Option<Refusal> {
    let name = &group.spec.name;
    if !group.spec.voters.contains(node) {
        return Some(Refusal::new(Reason::NotFound, format!("{node} is no voter of {name}")));
    }
    if let Some(refusal) = fence::reachable(state, node).or_else(|| fence::free(state, node, operation)) {
        return Some(refusal);
    }
    let wrong = |what: String| Some(Refusal::new(Reason::WrongState, what));
    let id = instance(group, node);
    let Some(reading) = evidence.get(&id).filter(|reading| is_current(state, reading, now)) else {
        return Some(Refusal::new(Reason::EvidenceStale, format!("how {id} stands is not known")));
    };
    if led_last(group, node) {
        // It has failed, its host has stopped it, or has just come back: it is started again, under the new lease.
        return match reading.observed {
            InstanceState::Stopped | InstanceState::Failed => None,
            InstanceState::Healthy
                if reading.role == InstanceRole::Standby && lease::live(group).is_none() =>
            {
                None
            }
            InstanceState::Healthy
            | InstanceState::Unknown
            | InstanceState::Starting
            | InstanceState::Running
            | InstanceState::Soaking
            | InstanceState::Unhealthy
            | InstanceState::Stopping => wrong(format!("{id} led last, and is {}", reading.observed)),
        };
    }
    if reading.role != InstanceRole::Standby {
        return wrong(format!("{id} is {}, no standby", reading.role));
    }
    match member(state, &id, evidence, now).out {
        // How far it has come is held against its position.
        None => None,
        Some(out) if out.why == OutReason::Lagging => None,
        Some(out) => wrong(format!("{id} is {}", out.why)),
    }
}

/// Who takes over by an operation.
#[must_use]
pub fn heir(operation: &Operation) -> Option<&NodeName> {
    operation.steps.iter().find(|step| step.kind == StepKind::Promote).map(|step| &step.node)
}

/// Everything that the guards of a move rest on.
struct Scene<'a> {
    group: &'a Group,
    spec: &'a FailoverSpec,
    record: &'a FailoverRecord,
    asked: Move<'a>,
}

fn scene<'a>(state: &'a State, operation: &'a Operation) -> Result<Scene<'a>, Refusal> {
    let internal = || Refusal::new(Reason::Internal, "a move of a primary role without a record");
    let (name, asked) = of(operation).ok_or_else(internal)?;
    let group = state
        .groups
        .get(name)
        .ok_or_else(|| Refusal::new(Reason::NotFound, format!("there is no group {name}")))?;
    let record = record(group, &operation.id).ok_or_else(internal)?;
    let spec = group.spec.failover.as_ref().ok_or_else(|| {
        Refusal::new(Reason::WrongState, format!("group {name} declares no failover any more"))
    })?;
    Ok(Scene { group, spec, record, asked })
}

/// The last that is known of the old primary's position: kept, or told since.
fn last_known(scene: &Scene<'_>, evidence: &Evidence<'_>) -> Option<u64> {
    scene.record.position.max(last_position(evidence, &instance(scene.group, &scene.record.from)))
}

/// Why a gate may not be opened that wants a lease back: from then on its holder stops. A switchover looks once more whether
/// anybody can take over.
#[must_use]
pub fn recall_refuses(
    state: &State,
    operation: &Operation,
    gate: &LeaseGate,
    evidence: &Evidence<'_>,
    now: Timestamp,
) -> Option<Refusal> {
    let LeaseWants::Over { holder, .. } = &gate.wants else { return None };
    let scene = match scene(state, operation) {
        Ok(scene) => scene,
        Err(refusal) => return Some(refusal),
    };
    let Scene { group, spec: _, record, asked } = &scene;
    // While this one waited for somebody another one may have begun.
    if let Some(refusal) =
        at_work(state, &gate.group).filter(|o| o.id != operation.id).and_then(|_| moving(state, &gate.group))
    {
        return Some(refusal);
    }
    if let Some(lease) = lease::live(group).filter(|lease| lease.node != *holder) {
        return Some(lease::held(&gate.group, lease));
    }
    if !asked.planned {
        return None;
    }
    let (from, to) = (instance(group, holder), instance(group, &record.to));
    let needs = operation.steps.iter().fold(quorate_model::DurationMs::ZERO, |sum, s| sum.plus(s.deadline));
    let own = Some(&operation.id);
    let held = [&from, &to].into_iter().find_map(|id| {
        freeze::begins(state, id, own, now).or_else(|| window::begins(state, id, own, needs, now))
    });
    held.or_else(|| serves_not(state, group, evidence, now))
        .or_else(|| unfit(state, group, &record.to, own, evidence, now))
        .or_else(|| not_caught_up(state, group, (holder, &record.to), evidence, now))
}

/// Why a primary is not one that could hand its role over: it must hold it for certain, and be seen to serve.
#[must_use]
pub fn serves_not(state: &State, group: &Group, evidence: &Evidence<'_>, now: Timestamp) -> Option<Refusal> {
    lease::disturb_refuses(state, group, &[], "moving", evidence, now)
}

/// Whether the last lease of a group was handed out by this operation for a promotion that its host refused before anything ran:
/// nothing leads under it, and nothing ever will, because the same host gets a newer one.
fn was_refused(state: &State, operation: &Operation, scene: &Scene<'_>, step: &Step) -> bool {
    let Some(lease) = lease::live(scene.group).filter(|lease| lease.node == step.node) else { return false };
    state.executions.values().any(|execution| {
        execution.operation == operation.id
            && execution.epoch == lease.epoch
            && execution.state == ExecutionState::Rejected
    })
}

/// Whether a step of such an operation that was not begun may be given up: each of them waits for something that may never be.
#[must_use]
pub fn may_be_given_up(operation: &Operation, step: &Step) -> bool {
    let waits = matches!(step.state, StepState::Pending | StepState::Blocked);
    let recalls = step.gate.as_ref().is_some_and(|gate| gate.lease.is_some());
    waits && group_of(operation).is_some() && (is_moving(step.kind) || recalls)
}

/// Why a step of such an operation may not begin now.
#[must_use]
pub fn refuses(
    state: &State,
    operation: &Operation,
    step: &Step,
    evidence: &Evidence<'_>,
    now: Timestamp,
) -> Option<Refusal> {
    if let Some((name, node)) = rejoin::of(operation) {
        let none = || Refusal::new(Reason::NotFound, format!("there is no group {name}"));
        let Some(group) = state.groups.get(name) else { return Some(none()) };
        return fence::free(state, &step.node, Some(&operation.id))
            .or_else(|| rejoin::refuses(state, group, node, evidence, now));
    }
    if step.kind == StepKind::Promote {
        promote_refuses(state, operation, step, evidence, now)
    } else {
        follow_refuses(state, operation, step)
    }
}

/// Why nobody may be promoted now: the lease is over, and who takes over is as well as it was when it was chosen.
fn promote_refuses(
    state: &State,
    operation: &Operation,
    step: &Step,
    evidence: &Evidence<'_>,
    now: Timestamp,
) -> Option<Refusal> {
    let scene = match scene(state, operation) {
        Ok(scene) => scene,
        Err(refusal) => return Some(refusal),
    };
    let name = &scene.group.spec.name;
    if !was_refused(state, operation, &scene, step)
        && let Some(refusal) = lease::grant_refuses(state, name, &step.node)
    {
        return Some(refusal);
    }
    if let Some(refusal) = unfit(state, scene.group, &step.node, Some(&operation.id), evidence, now) {
        return Some(refusal);
    }
    // Nobody has more than who led last, whatever is known of it.
    if scene.record.to == scene.record.from {
        return None;
    }
    let last = last_known(&scene, evidence);
    let own = own_position(state, &scene, evidence, now);
    if scene.asked.planned && behind(last, own) != Some(0) {
        return too_far(
            &FailoverSpec { max_lag: 0, ..scene.spec.clone() },
            scene.asked,
            &step.node,
            last,
            own,
        );
    }
    too_far(scene.spec, scene.asked, &step.node, last, own)
}

/// How far who takes over has come. Who led last lacks nothing of its own.
fn own_position(state: &State, scene: &Scene<'_>, evidence: &Evidence<'_>, now: Timestamp) -> Option<u64> {
    if scene.record.to == scene.record.from {
        return last_known(scene, evidence);
    }
    fresh_position(state, evidence, &instance(scene.group, &scene.record.to), now)
}

/// What may be lost by a promotion that begins now, and the last position that is known of the old primary.
#[must_use]
pub fn loss(
    state: &State,
    operation: &Operation,
    evidence: &Evidence<'_>,
    now: Timestamp,
) -> (Option<u64>, Option<u64>) {
    let Ok(scene) = scene(state, operation) else { return (None, None) };
    let last = last_known(&scene, evidence);
    (behind(last, own_position(state, &scene, evidence, now)), last)
}

/// Why a hook around the new primary may not run now: the lease that was handed out for it must be held.
fn follow_refuses(state: &State, operation: &Operation, step: &Step) -> Option<Refusal> {
    let scene = match scene(state, operation) {
        Ok(scene) => scene,
        Err(refusal) => return Some(refusal),
    };
    fence::free(state, &step.node, Some(&operation.id)).or_else(|| {
        let missing = held_missing(scene.group, &scene.record.to)?;
        Some(Refusal::new(Reason::PrimaryLease, missing))
    })
}

fn held_missing(group: &Group, node: &NodeName) -> Option<String> {
    let name = &group.spec.name;
    match lease::live(group) {
        None => Some(format!("nobody holds the primary role of {name}")),
        Some(lease) if lease.node != *node => {
            Some(format!("{} holds the primary role of {name}, not {node}", lease.node))
        }
        Some(lease) if lease.state != LeaseState::Held || lease.recalled.is_some() => {
            Some(format!("{node} does not hold the primary role of {name} for certain"))
        }
        Some(_) => None,
    }
}

/// What is still missing of what a gate asks of a lease; `since` is from when readings count.
#[must_use]
pub fn missing(
    state: &State,
    operation: &Operation,
    gate: &LeaseGate,
    (id, since): (&InstanceId, Timestamp),
    evidence: &Evidence<'_>,
    now: Timestamp,
) -> Option<String> {
    let Some(group) = state.groups.get(&gate.group) else { return Some(format!("{} is gone", gate.group)) };
    match &gate.wants {
        LeaseWants::Over { .. } => {
            lease::live(group).map(|lease| format!("the lease of {} is not over", lease.node))
        }
        LeaseWants::Reached { node } => {
            let scene = scene(state, operation).ok()?;
            let ended = group.primary.as_ref().filter(|lease| lease.node == scene.record.from);
            if scene.asked.planned && ended.is_none_or(|lease| lease.state != LeaseState::Released) {
                // Until it had stopped it may have acknowledged what no reading tells of.
                return Some(format!(
                    "{} did not end well: what it had last is not known",
                    scene.record.from
                ));
            }
            let (last, own) = (last_known(&scene, evidence), own_position(state, &scene, evidence, now));
            match (last, own) {
                (None, _) => Some(format!("the last position of {} is not known", scene.record.from)),
                (_, None) => Some(format!("the position of {node} is not known")),
                (Some(last), Some(own)) => (own < last).then(|| format!("{node} is at {own} of {last}")),
            }
        }
        LeaseWants::Held { node } => held_missing(group, node).or_else(|| {
            let current = |reading: &&InstanceReading| reading.at > since && is_current(state, reading, now);
            let Some(reading) = evidence.get(id).filter(current) else {
                return Some(format!("no reading of {id} since the step"));
            };
            let as_wanted = if id.node == *node {
                lease::is_lead(reading.role)
            } else {
                reading.role == InstanceRole::Standby
            };
            let serves = reading.observed == InstanceState::Healthy;
            (!as_wanted || !serves).then(|| format!("{id} is {} and {}", reading.role, reading.observed))
        }),
    }
}
