//! Moves of a primary role: one at a time in a group, and remembered with it.
//!
//! The lease is handed out by the entry that begins the promotion, and by no other. A move that fails stops where it is: what
//! holds the role then is in the lease, and nothing is taken back behind it.

use alloc::format;

use quorate_model::{
    ActionSpec, ExecutionState, FailoverState, GroupName, OperationId, OperationState, Reason, Refusal,
    StepKind, StepState, Timestamp,
};

use super::{Context, Effect, lease, validate};
use crate::safety::Evidence;
use crate::safety::failover::{heir, is_moving, last_position, loss, moving, of};
use crate::state::lease::FAILOVERS_MAX;
use crate::state::operation::{Operation, Step};
use crate::state::plan::{Goal, LeaseGate, LeaseWants, Plan, PlanStep};
use crate::state::{Execution, FailoverRecord, State};

/// The guards of a plan that moves a role: the lease is over before anybody is promoted, exactly one is, and it is seen to lead
/// before anything comes after it.
pub(super) fn check(plan: &Plan) -> Result<(), Refusal> {
    let odd = || Err(validate::bad("waves: a step does not belong to the move of a primary role"));
    let Goal::Failover { group, to, planned } = &plan.request.goal else {
        let any = |s: &PlanStep| {
            let promotes = matches!(s.action, Some(ActionSpec::RolePromote { .. }));
            is_moving(s.kind) || promotes || s.gate.as_ref().is_some_and(|gate| gate.lease.is_some())
        };
        return if plan.steps().any(|(_, s)| any(s)) { odd() } else { Ok(()) };
    };
    let promoted = plan.steps().find(|(_, s)| s.kind == StepKind::Promote);
    let Some((_, PlanStep { node: heir, .. })) = promoted else { return odd() };
    if to.as_ref().is_some_and(|to| to != heir) || plan.request.on_failure != quorate_model::OnFailure::Abort
    {
        return odd();
    }
    let mut stage = Stage { fence: None, reached: false, promoted: None, held: None, rejoined: false };
    for (wave, step) in plan.steps() {
        if !stage.takes(wave, step, group, heir) {
            return odd();
        }
    }
    let whole = stage.held.is_some() && (stage.reached || !planned);
    if whole { Ok(()) } else { odd() }
}

/// How far the steps of a plan have come.
struct Stage {
    fence: Option<usize>,
    reached: bool,
    promoted: Option<usize>,
    held: Option<usize>,
    rejoined: bool,
}

impl Stage {
    /// Whether a step may come next; `wave` is its own. Those of one wave run side by side, but for those of one node.
    fn takes(
        &mut self,
        wave: usize,
        step: &PlanStep,
        group: &GroupName,
        heir: &quorate_model::NodeName,
    ) -> bool {
        let after = |earlier: Option<usize>| earlier.is_some_and(|earlier| earlier < wave);
        if let Some(gate) = &step.gate {
            let Some(LeaseGate { group: named, wants }) = &gate.lease else { return false };
            if named != group {
                return false;
            }
            return match wants {
                LeaseWants::Over { .. } => self.fence.replace(wave).is_none() && self.promoted.is_none(),
                LeaseWants::Reached { node } => {
                    self.reached = after(self.fence) && node == heir && step.node == *heir;
                    self.reached && self.promoted.is_none()
                }
                LeaseWants::Held { node } => {
                    let first = gate.instance.node == *heir && step.node == *heir;
                    let fits = node == heir && (after(self.promoted) && first || after(self.held));
                    self.held = self.held.or(first.then_some(wave));
                    fits
                }
            };
        }
        match (step.kind, &step.action) {
            (StepKind::Promote, Some(ActionSpec::RolePromote { group: named, .. })) => {
                named == group && after(self.fence) && self.promoted.replace(wave).is_none()
            }
            (StepKind::Switch, Some(ActionSpec::ExecRun { .. })) => {
                step.node == *heir && after(self.promoted)
            }
            (StepKind::Rejoin, Some(ActionSpec::ExecRun { .. })) => {
                self.rejoined = step.node != *heir && after(self.held);
                self.rejoined
            }
            (StepKind::Start, Some(ActionSpec::ServiceStart { .. })) => self.rejoined && step.node != *heir,
            _ => false,
        }
    }
}

/// Refuses what would change a group while its role is moved.
pub(super) fn unmoving(state: &State, name: &GroupName) -> Result<(), Refusal> {
    moving(state, name).map_or(Ok(()), Err)
}

/// Refuses a second move of a role, and one of a role that somebody else holds by now.
pub(super) fn unmoved(state: &State, plan: &Plan) -> Result<(), Refusal> {
    let Goal::Failover { group, .. } = &plan.request.goal else { return Ok(()) };
    unmoving(state, group)?;
    let last = state.groups.get(group).and_then(|group| group.primary.as_ref());
    let as_planned = last.is_some_and(|last| over(plan).is_some_and(|(holder, _)| last.node == *holder));
    if as_planned {
        Ok(())
    } else {
        Err(Refusal::new(Reason::StalePlan, format!("the primary role of {group} was moved since the plan")))
    }
}

/// Whose lease a plan waits for, and the last position that is known of it.
fn over(plan: &Plan) -> Option<(&quorate_model::NodeName, Option<u64>)> {
    plan.steps().find_map(|(_, step)| match &step.gate.as_ref()?.lease.as_ref()?.wants {
        LeaseWants::Over { holder, position } => Some((holder, *position)),
        LeaseWants::Reached { .. } | LeaseWants::Held { .. } => None,
    })
}

/// Its operation is made: it is remembered with the group.
pub(super) fn created(state: &mut State, context: &Context<'_>, id: &OperationId, plan: &Plan) {
    let Goal::Failover { group, planned, .. } = &plan.request.goal else { return };
    let Some((from, position)) = over(plan) else { return };
    let Some(to) = state.operations.get(id).and_then(heir).cloned() else { return };
    let mut why = plan.request.reason.clone();
    validate::cut(&mut why, 512);
    let record = FailoverRecord {
        operation: id.clone(),
        from: from.clone(),
        to,
        epoch: None,
        planned: *planned,
        why,
        state: FailoverState::Confirmed,
        started_at: context.now,
        fencing_at: None,
        fenced_at: None,
        promoted_at: None,
        ended_at: None,
        position,
        lag: None,
        acknowledged: false,
    };
    let Some(group) = state.groups.get_mut(group) else { return };
    if group.failovers.len() >= FAILOVERS_MAX {
        group.failovers.remove(0);
    }
    group.failovers.push(record);
}

fn record_mut<'a>(state: &'a mut State, id: &OperationId) -> Option<&'a mut FailoverRecord> {
    let (name, _) = of(state.operations.get(id)?)?;
    let name = name.clone();
    state.groups.get_mut(&name)?.failovers.iter_mut().rev().find(|record| record.operation == *id)
}

/// A gate is opened that wants the lease back: its host learns of it with the rest of its work.
pub(super) fn fencing(
    state: &mut State,
    context: &Context<'_>,
    id: &OperationId,
    gate: &LeaseGate,
    evidence: &Evidence<'_>,
) {
    let LeaseWants::Over { .. } = &gate.wants else { return };
    lease::recall(state, &gate.group, id);
    told(state, id, gate, evidence);
    if let Some(record) = record_mut(state, id) {
        record.fencing_at = Some(context.now);
    }
}

/// What the readings tell of the old primary's position is kept: a coordinator that leads later may never hear it.
pub(super) fn told(state: &mut State, id: &OperationId, gate: &LeaseGate, evidence: &Evidence<'_>) {
    let LeaseWants::Over { holder, .. } = &gate.wants else { return };
    let Some(service) = state.groups.get(&gate.group).map(|group| group.spec.service.clone()) else { return };
    let last = last_position(evidence, &quorate_model::InstanceId { node: holder.clone(), service });
    if let Some(record) = record_mut(state, id) {
        record.position = record.position.max(last);
    }
}

/// A promotion begins: its node gets the lease, under the epoch of its execution.
pub(super) fn granted(state: &mut State, context: &Context<'_>, made: &Execution, evidence: &Evidence<'_>) {
    let ActionSpec::RolePromote { group, .. } = &made.action else { return };
    let Some(operation) = state.operations.get(&made.operation) else { return };
    let (lag, position) = loss(state, operation, evidence, context.now);
    lease::grant(state, context, group, &made.node, made.epoch, false);
    if let Some(record) = record_mut(state, &made.operation) {
        record.epoch = Some(made.epoch);
        record.lag = lag;
        record.position = record.position.max(position);
    }
}

/// A promotion has ended. One that its host refused before anything ran, and that is not begun again, gives its lease back the way
/// every lease is given back: its host says so.
pub(super) fn ended(state: &mut State, done: &Execution) {
    let ActionSpec::RolePromote { group, .. } = &done.action else { return };
    if done.state != ExecutionState::Rejected {
        return;
    }
    let step = state.operations.get(&done.operation).and_then(|operation| operation.step(done.step));
    let again = step.is_some_and(|step| step.state == StepState::Pending);
    let held = state.groups.get(group).and_then(|group| group.primary.as_ref());
    if !again && held.is_some_and(|lease| lease.epoch == done.epoch) {
        lease::recall(state, group, &done.operation);
    }
}

/// What is remembered follows from the steps of its operation.
pub(super) fn follow(state: &mut State, context: &Context<'_>, id: &OperationId) {
    let Some(operation) = state.operations.get(id).filter(|operation| of(operation).is_some()) else {
        return;
    };
    let fence = lease_gate(operation, |wants| matches!(wants, LeaseWants::Over { .. }));
    let held = lease_gate(operation, |wants| matches!(wants, LeaseWants::Held { .. }));
    let promote = operation.steps.iter().find(|step| step.kind == StepKind::Promote);
    let reached = stage(operation, fence, promote, held);
    let (fenced, promoted, led) = (done_at(fence), done_at(promote), done_at(held));
    let Some(record) = record_mut(state, id).filter(|record| record.ended_at.is_none()) else { return };
    record.state = reached;
    record.fenced_at = fenced;
    record.promoted_at = promoted;
    record.ended_at = match reached {
        FailoverState::Completed => led,
        FailoverState::Aborted => Some(context.now),
        FailoverState::Suspected
        | FailoverState::Confirmed
        | FailoverState::Fencing
        | FailoverState::Fenced
        | FailoverState::Promoting
        | FailoverState::TrafficSwitching
        | FailoverState::Verifying
        | FailoverState::HoldDown => None,
    };
}

fn lease_gate(operation: &Operation, wanted: impl Fn(&LeaseWants) -> bool) -> Option<&Step> {
    operation.steps.iter().find(|step| {
        let gate = step.gate.as_ref().and_then(|gate| gate.lease.as_ref());
        gate.is_some_and(|gate| wanted(&gate.wants))
    })
}

fn done_at(step: Option<&Step>) -> Option<Timestamp> {
    step.filter(|step| step.state == StepState::Succeeded)?.ended_at
}

fn stage(
    operation: &Operation,
    fence: Option<&Step>,
    promote: Option<&Step>,
    held: Option<&Step>,
) -> FailoverState {
    let runs = |step: Option<&Step>| step.is_some_and(|step| step.state == StepState::Running);
    let switch = operation.steps.iter().find(|step| step.kind == StepKind::Switch);
    let given_up = operation.state.is_terminal() || operation.state == OperationState::Canceling;
    if done_at(held).is_some() {
        FailoverState::Completed
    } else if given_up && !operation.has_running_step() {
        FailoverState::Aborted
    } else if runs(held) {
        FailoverState::Verifying
    } else if done_at(promote).is_some() && switch.is_some() {
        FailoverState::TrafficSwitching
    } else if done_at(promote).is_some() {
        FailoverState::Verifying
    } else if runs(promote) {
        FailoverState::Promoting
    } else if done_at(fence).is_some() {
        FailoverState::Fenced
    } else if runs(fence) {
        FailoverState::Fencing
    } else {
        FailoverState::Confirmed
    }
}

/// Somebody has looked at the last failover.
pub(super) fn acknowledge(
    state: &mut State,
    context: &Context<'_>,
    name: &GroupName,
) -> Result<Effect, Refusal> {
    let Some(group) = state.groups.get_mut(name) else {
        return Err(Refusal::new(Reason::NotFound, format!("there is no group {name}")));
    };
    let Some(last) = group.failovers.last_mut() else {
        return Err(Refusal::new(Reason::WrongState, format!("the role of {name} was never moved")));
    };
    if last.ended_at.is_none() {
        return Err(Refusal::new(Reason::WrongState, format!("{} is not over", last.operation)));
    }
    if last.acknowledged {
        return Ok(Effect::unchanged(context.done()));
    }
    last.acknowledged = true;
    let details = format!("{} is acknowledged", last.operation);
    Ok(Effect::changed(context.done(), format!("groups/{name}"), details))
}
