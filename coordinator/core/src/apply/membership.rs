//! Changes of members: one at a time in a group, and the declared voters moved only by a gate that has seen them so.
//!
//! From the entry that tells the application until that gate has passed the group carries what its voters are to become, and
//! everybody prices it with the larger requirement of the two. Must never: forget it while nobody has seen which set counts.

use alloc::format;

use quorate_model::{
    ActionSpec, ExecutionState, GroupName, MembershipVerb, OperationId, Reason, Refusal, StepKind, StepState,
};

use super::{Context, validate};
use crate::safety::membership::{is_told, of, voters_after};
use crate::state::declared::PendingVoters;
use crate::state::operation::{Operation, Step};
use crate::state::plan::{Goal, MembershipGate, Plan, PlanStep};
use crate::state::{Execution, State};

/// The guards of a plan that changes members: everything in it is about its one node, and exactly one gate moves the vote.
pub(super) fn check(plan: &Plan) -> Result<(), Refusal> {
    let odd = || Err(validate::bad("waves: a step does not belong to a change of members"));
    let Goal::Membership { group, node, change, .. } = &plan.request.goal else {
        let any =
            |s: &PlanStep| is_told(s.kind) || s.gate.as_ref().is_some_and(|gate| gate.membership.is_some());
        return if plan.steps().any(|(_, s)| any(s)) { odd() } else { Ok(()) };
    };
    let kind = match change {
        MembershipVerb::Add => StepKind::Join,
        MembershipVerb::Remove => StepKind::Leave,
    };
    let (mut told, mut moved) = (0_usize, 0_usize);
    for (_, step) in plan.steps() {
        let about = |action: Option<&ActionSpec>| {
            matches!(action, Some(ActionSpec::ExecRun { once: false, release: None, targets, .. })
                if *targets == [node.clone()])
        };
        if is_told(step.kind) {
            told = told.saturating_add(1);
            let fits = about(step.action.as_ref()) && about(step.undo.as_ref());
            if step.kind != kind || step.node == *node || !fits || moved > 0 {
                return odd();
            }
        }
        if let Some(gate) = step.gate.as_ref().and_then(|gate| gate.membership.as_ref()) {
            let listed = *change == MembershipVerb::Add;
            if gate.group != *group || gate.node != *node || gate.listed != listed || told == 0 {
                return odd();
            }
            moved = moved.saturating_add(usize::from(gate.moves));
        }
    }
    if told == 1 && moved == 1 { Ok(()) } else { odd() }
}

/// Refuses what would move the voters of a group while an operation does.
pub(super) fn unchanging(state: &State, name: &GroupName) -> Result<(), Refusal> {
    let busy = |o: &&Operation| !o.state.is_terminal() && of(o).is_some_and(|(group, _)| group == name);
    match state.operations.values().find(busy) {
        Some(operation) => Err(Refusal::new(
            Reason::Conflict,
            format!("{} changes the members of group {name}", operation.id),
        )
        .with_hint(format!("quorate operation show {}", operation.id))),
        None => Ok(()),
    }
}

/// The application is told: from now on it may count by either set.
pub(super) fn begun(state: &mut State, made: &Execution) {
    let Some(operation) = state.operations.get(&made.operation) else { return };
    let told = operation.step(made.step).is_some_and(|step| is_told(step.kind));
    let Some((name, change)) = of(operation).filter(|_| told && operation.rollback_from.is_none()) else {
        return;
    };
    let name = name.clone();
    let Some(voters) = state.groups.get(&name).map(|group| voters_after(group, &change)) else { return };
    if let Some(group) = state.groups.get_mut(&name) {
        group.pending = Some(PendingVoters { operation: made.operation.clone(), voters });
    }
}

/// A gate has seen it: the declared voters are what the application says they are.
pub(super) fn moved(state: &mut State, context: &Context<'_>, gate: &MembershipGate) {
    let Some(group) = state.groups.get_mut(&gate.group).filter(|_| gate.moves) else { return };
    group.spec.voters.retain(|node| *node != gate.node);
    if gate.listed {
        group.spec.learners.retain(|node| *node != gate.node);
        group.spec.voters.push(gate.node.clone());
    }
    group.pending = None;
    group.revision = context.revision;
}

/// An operation has ended: nothing of it is pending any more, unless the application was told and nobody has seen it taken back.
/// Then either set may count, until another change of its members is seen or its declaration is changed: the same declaration, told
/// again, shows nothing.
pub(super) fn settled(state: &mut State, id: &OperationId) {
    let Some(operation) = state.operations.get(id) else { return };
    if is_open(state, operation) {
        return;
    }
    for group in state.groups.values_mut() {
        if group.pending.as_ref().is_some_and(|pending| pending.operation == *id) {
            group.pending = None;
        }
    }
}

/// Whether the application may have made of a change what nobody has seen. One that its agent refused was never told to it.
fn is_open(state: &State, operation: &Operation) -> bool {
    let from = operation.rollback_from;
    let rejected = |step: &Step| {
        let execution = step.execution.as_ref().and_then(|id| state.executions.get(id));
        execution.is_some_and(|execution| execution.state == ExecutionState::Rejected)
    };
    let forward = |step: &&Step| from.is_none_or(|from| step.wave < from);
    let told = operation
        .steps
        .iter()
        .filter(forward)
        .any(|step| is_told(step.kind) && step.started_at.is_some() && !rejected(step));
    let back = operation.steps.iter().filter(|step| from.is_some_and(|from| step.wave >= from)).any(|step| {
        let asks = step.gate.as_ref().is_some_and(|gate| gate.membership.is_some());
        asks && step.state == StepState::Succeeded
    });
    told && !operation.has_moved() && !back
}
