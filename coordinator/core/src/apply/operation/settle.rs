//! The end of an operation, or of its pausing. A terminal operation has no running step, grant, or open undo: enforced here.

use alloc::format;

use quorate_model::{ExecutionState, OperationId, OperationState, Reason, Refusal, StepState};

use super::{changed, open, owes, skip};
use crate::apply::{Context, Effect, step};
use crate::state::State;
use crate::state::operation::{Operation, is_over};

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
    let operation = open(state, id)?;
    operation.state = reached;
    operation.conditions.clear();
    if reached.is_terminal() {
        operation.ended_at = Some(context.now);
        for step in &mut operation.steps {
            skip(step, context);
        }
    }
    step::tidy(operation, context);
    step::release_lanes(state, id);
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
        OperationState::Queued | OperationState::Running | OperationState::Pausing => {
            if operation.steps.iter().all(|s| is_over(s.state)) {
                ended(operation)
            } else if operation.has_open_lane() {
                return None;
            } else if operation.failure.is_some() {
                OperationState::Failed
            } else if operation.state == OperationState::Pausing {
                return Some(OperationState::Paused);
            } else {
                return None;
            }
        }
        // A deadline can pass, or a node be removed, while nothing is at work.
        OperationState::Paused if operation.failure.is_some() => OperationState::Failed,
        OperationState::Paused
        | OperationState::Pending
        | OperationState::Planned
        | OperationState::AwaitingApproval
        | OperationState::RollingBack
        | OperationState::Succeeded
        | OperationState::Failed
        | OperationState::Canceled
        | OperationState::RolledBack => return None,
    };
    let at_work =
        state.all_open_executions().any(|e| e.operation == *id && e.state != ExecutionState::Unknown);
    (!at_work && !owes(state, id)).then_some(reached)
}

/// All steps are over: well, unless more failed than was tolerated or nothing succeeded.
fn ended(operation: &Operation) -> OperationState {
    let any = operation.steps.iter().any(|s| s.state == StepState::Succeeded);
    if operation.failure.is_some() || !any { OperationState::Failed } else { OperationState::Succeeded }
}
