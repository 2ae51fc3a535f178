//! The end of an operation, or of its pausing. A terminal operation has no running step, grant, or open undo: enforced here.

use alloc::format;

use quorate_model::{
    ConditionReason, ExecutionState, OperationId, OperationState, Reason, Refusal, StepState,
};

use super::{changed, open, owed, owes, rollback, skip};
use crate::apply::{Context, Effect, failover, membership, release, step};
use crate::state::operation::{Condition, Operation, is_over};
use crate::state::{State, traffic};

pub(super) fn apply(
    state: &mut State,
    context: &Context<'_>,
    id: &OperationId,
    reached: OperationState,
) -> Result<Effect, Refusal> {
    open(state, id)?;
    let due = due(state, id);
    if due != Some(reached) {
        return Err(Refusal::new(Reason::WrongState, format!("{id} cannot be {reached} yet")));
    }
    if reached == OperationState::RollingBack {
        // What was not begun does not happen; after a failure it is skipped already, after a deadline it is not.
        let operation = open(state, id)?;
        operation.steps.iter_mut().for_each(|step| skip(step, context));
        rollback::begin(state, id);
    }
    let operation = open(state, id)?;
    operation.state = reached;
    operation.conditions.clear();
    if let (OperationState::Paused, Some(halted)) = (reached, &operation.halted) {
        let (reason, message) = (ConditionReason::Failure, halted.message.clone());
        operation.conditions.push(Condition { reason, message, since: context.now });
    }
    if reached.is_terminal() {
        operation.ended_at = Some(context.now);
        for step in &mut operation.steps {
            skip(step, context);
        }
    }
    step::tidy(operation, context);
    step::release_lanes(state, id);
    if reached.is_terminal() {
        failover::follow(state, context, id);
        membership::settled(state, id);
    }
    if reached == OperationState::Succeeded {
        release::settled(state, context, id);
    }
    Ok(changed(context, id, reached.as_str()))
}

/// The state that an operation can settle in now, if any.
pub(crate) fn due(state: &State, id: &OperationId) -> Option<OperationState> {
    let operation = state.operations.get(id)?;
    if operation.state.is_terminal() || operation.has_running_step() {
        return None;
    }
    let reached = match operation.state {
        OperationState::Canceling => OperationState::Canceled,
        OperationState::Queued | OperationState::Running => at_rest(state, operation)?,
        OperationState::Pausing => {
            // Work that waits for a person to go on, or a failure that one has to look at, is not settled over their head.
            let decides = operation.halted.is_some() || operation.wants_rollback();
            match at_rest(state, operation) {
                Some(reached) if reached.is_terminal() && !decides => reached,
                _ if operation.has_open_lane() => return None,
                Some(_) | None => return Some(OperationState::Paused),
            }
        }
        OperationState::RollingBack => back(operation)?,
        // A deadline can pass, or a node be removed, while nothing is at work.
        OperationState::Paused
            if operation.failure.is_some()
                && operation.rollback_from.is_none()
                && !operation.wants_rollback() =>
        {
            OperationState::Failed
        }
        OperationState::Paused
        | OperationState::Pending
        | OperationState::Planned
        | OperationState::AwaitingApproval
        | OperationState::Succeeded
        | OperationState::Failed
        | OperationState::Canceled
        | OperationState::RolledBack => return None,
    };
    let at_work =
        state.all_open_executions().any(|e| e.operation == *id && e.state != ExecutionState::Unknown);
    let waits = if reached.is_terminal() { owes(state, id) } else { waits_for_undo(state, id) };
    (!at_work && !waits).then_some(reached)
}

/// Whether an undo comes before a rollback or a pause: all do but those that the rollback, or a person, ends.
fn waits_for_undo(state: &State, id: &OperationId) -> bool {
    owed(state, id).any(|obligation| !traffic::outlasts(state, obligation))
}

/// Where an operation goes when no step runs: nowhere while it has work that may begin.
fn at_rest(state: &State, operation: &Operation) -> Option<OperationState> {
    if operation.rollback_from.is_some() {
        return back(operation);
    }
    if operation.wants_rollback() && !rollback::owed(state, operation).is_empty() {
        return Some(OperationState::RollingBack);
    }
    if operation.steps.iter().all(|s| is_over(s.state)) {
        return Some(ended(operation));
    }
    (!operation.has_open_lane() && operation.failure.is_some()).then_some(OperationState::Failed)
}

/// The end of a rollback: all taken back, or stopped where one step of it failed.
fn back(operation: &Operation) -> Option<OperationState> {
    let from = operation.rollback_from?;
    let mut steps = operation.steps.iter().filter(|s| s.wave >= from);
    if !steps.clone().all(|s| is_over(s.state)) {
        return None;
    }
    let stuck = steps.any(|s| s.state == StepState::Failed);
    Some(if stuck { OperationState::Failed } else { OperationState::RolledBack })
}

/// All steps are over: well, unless more failed than was tolerated or nothing succeeded.
fn ended(operation: &Operation) -> OperationState {
    let any = operation.steps.iter().any(|s| s.state == StepState::Succeeded);
    if operation.failure.is_some() || !any { OperationState::Failed } else { OperationState::Succeeded }
}
