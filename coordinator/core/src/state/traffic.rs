//! What becomes of an instance that a lane has taken out of its load balancer's pool, or has told that it is worked on.

use alloc::format;
use alloc::string::String;

use quorate_model::{
    ActionSpec, DurationMs, ExecutionState, NodeName, ObligationState, OperationState, StepKind, StepState,
};

use super::operation::{Operation, Step, is_over};
use super::plan::Goal;
use super::{Execution, Obligation, State};

/// What is to be done about an undo that is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing yet: who owes it is at work.
    Later,
    /// It is done now.
    Undo,
    /// It is closed and not done: what it keeps out is not fit to come back.
    LeaveOut,
}

/// What is due of an undo: as long as its execution is at work nothing, and for a drain as long as its lane is.
///
/// A lane that failed has shown that its instance cannot serve, and one that stopped it meant it to be out: nobody puts it
/// back but a start, which proves it first. A lane that was canceled has shown nothing; its host puts the instance back once
/// it is healthy.
#[must_use]
pub fn due(state: &State, obligation: &Obligation) -> Due {
    let Some(execution) = state.executions.get(&obligation.execution) else { return Due::Undo };
    let operation = state.operations.get(&execution.operation);
    let held = matches!(execution.action, ActionSpec::TrafficDrain { .. })
        && execution.state == ExecutionState::Succeeded;
    match operation {
        Some(operation) if is_mended_later(execution) => mended_due(state, operation, execution),
        Some(operation) if held => lane_due(operation, execution),
        Some(operation) if !execution.state.is_final() && !operation.state.is_terminal() => Due::Later,
        Some(_) | None => Due::Undo,
    }
}

/// Whether somebody may still mend what an execution has done, before its undo is due: an instance that is told that it is worked
/// on, or one with a configuration file that nobody has confirmed yet.
fn is_mended_later(execution: &Execution) -> bool {
    let unconfirmed = matches!(&execution.action, ActionSpec::ArtifactActivate { release, .. } if release.config().is_some());
    let told = matches!(execution.action, ActionSpec::MaintenanceEnter { .. });
    (unconfirmed || told) && execution.state == ExecutionState::Succeeded
}

/// How much longer an undo is waited for each time, as long as its operation stands for it: an instance that is out of its pool,
/// or is told that it is worked on, for as long as its lane takes. What a host undoes at its own time whatever anybody says, a
/// pause or a file that nobody has confirmed, is never waited for longer.
#[must_use]
pub fn lease(state: &State, obligation: &Obligation) -> Option<DurationMs> {
    let execution = state.executions.get(&obligation.execution)?;
    let lease = match &execution.action {
        ActionSpec::TrafficDrain { restore_within, .. } => *restore_within,
        ActionSpec::MaintenanceEnter { exit_within, .. } => *exit_within,
        ActionSpec::ServiceStatus { .. }
        | ActionSpec::ServiceStart { .. }
        | ActionSpec::ServiceStop { .. }
        | ActionSpec::ServiceRestart { .. }
        | ActionSpec::ServiceReload { .. }
        | ActionSpec::BackupCreate { .. }
        | ActionSpec::BackupVerify { .. }
        | ActionSpec::LogRotate { .. }
        | ActionSpec::ArtifactStage { .. }
        | ActionSpec::ArtifactActivate { .. }
        | ActionSpec::ArtifactRevert { .. }
        | ActionSpec::ConfigConfirm { .. }
        | ActionSpec::Secret { .. }
        | ActionSpec::Data { .. }
        | ActionSpec::TrafficRestore { .. }
        | ActionSpec::ExecRun { .. }
        | ActionSpec::RolePromote { .. }
        | ActionSpec::MaintenanceExit { .. }
        | ActionSpec::HostPreflight { .. }
        | ActionSpec::HostFacts
        | ActionSpec::HostDiagnose => return None,
    };
    let open = matches!(obligation.state, ObligationState::Open | ObligationState::Failed);
    let stands = execution.state == ExecutionState::Succeeded && due(state, obligation) == Due::Later;
    (open && stands).then_some(lease)
}

/// Whether an undo is not due as long as its operation may still mend the instance: neither a rollback nor a pause waits for its
/// end, which only comes after them.
#[must_use]
pub fn outlasts(state: &State, obligation: &Obligation) -> bool {
    let mended = state.executions.get(&obligation.execution).is_some_and(is_mended_later);
    mended && due(state, obligation) == Due::Later
}

/// As long as its lane is at work nothing, and after a failure as long as a rollback, the rest of the work or a person may still
/// mend the instance: until then it is not fit to be used, and its host undoes it at its time.
fn mended_due(state: &State, operation: &Operation, execution: &Execution) -> Due {
    let Some(enter) = operation.step(execution.step) else { return Due::Undo };
    if operation.state.is_terminal() {
        return Due::Undo;
    }
    let failed = lane(operation, enter.wave, &enter.node).any(|step| step.state == StepState::Failed);
    let at_work = operation.lane_is_open(enter.wave, &enter.node);
    if at_work || (failed && is_mended(state, operation, enter)) { Due::Later } else { Due::Undo }
}

/// Whether an instance whose lane failed is still somebody's work: nothing that ends the operation may wait for this.
fn is_mended(state: &State, operation: &Operation, enter: &Step) -> bool {
    let left = |step: &Step| !is_over(step.state);
    if operation.state == OperationState::Canceling {
        return false;
    }
    match (operation.rollback_from, &operation.failure) {
        (Some(from), _) => {
            operation.steps.iter().any(|step| step.wave >= from && step.node == enter.node && left(step))
        }
        // What its agent refused is not taken back, and nothing on a host that is gone.
        (None, Some(_)) => {
            let refused = |step: &Step| {
                let execution = step.execution.as_ref().and_then(|id| state.executions.get(id));
                execution.is_none_or(|execution| execution.state == ExecutionState::Rejected)
            };
            operation.wants_rollback()
                && state.nodes.present(&enter.node).is_some()
                && lane(operation, enter.wave, &enter.node)
                    .any(|step| step.undo.is_some() && step.started_at.is_some() && !refused(step))
        }
        (None, None) => operation.halted.is_some() || operation.steps.iter().any(left),
    }
}

fn lane_due(operation: &Operation, execution: &Execution) -> Due {
    let Some(drain) = operation.step(execution.step) else { return Due::Undo };
    if matches!(operation.request.goal, Goal::Membership { .. }) {
        return leaving_due(operation, drain);
    }
    if operation.lane_is_open(drain.wave, &drain.node) && !operation.state.is_terminal() {
        return Due::Later;
    }
    let failed = lane(operation, drain.wave, &drain.node).any(|step| step.state == StepState::Failed);
    let stopped = lane(operation, drain.wave, &drain.node)
        .any(|step| step.kind == StepKind::Stop && step.state == StepState::Succeeded);
    if failed || stopped { Due::LeaveOut } else { Due::Undo }
}

/// A member that leaves is kept out of its pool until it is stopped, in a later wave than the one that took it out. One that stays
/// after all comes back.
fn leaving_due(operation: &Operation, drain: &Step) -> Due {
    let here = || operation.steps.iter().filter(|step| step.node == drain.node);
    let goes_on = !operation.state.is_terminal()
        && operation.state != OperationState::Canceling
        && (operation.failure.is_none() || operation.lane_is_open(drain.wave, &drain.node))
        && here().any(|step| !is_over(step.state));
    let stopped = here().any(|step| step.kind == StepKind::Stop && step.state == StepState::Succeeded);
    match (goes_on, stopped || operation.has_moved()) {
        (true, _) => Due::Later,
        (false, true) => Due::LeaveOut,
        (false, false) => Due::Undo,
    }
}

fn lane<'a>(operation: &'a Operation, wave: u32, node: &'a NodeName) -> impl Iterator<Item = &'a Step> {
    operation.steps.iter().filter(move |step| step.wave == wave && step.node == *node)
}

/// What a failure in this lane means for the pool, if it was taken out and not put back.
#[must_use]
pub fn left_out(operation: &Operation, wave: u32, node: &NodeName) -> Option<String> {
    let done = |kind: StepKind| {
        lane(operation, wave, node).find(|step| step.kind == kind && step.state == StepState::Succeeded)
    };
    let drain = done(StepKind::Drain).filter(|_| done(StepKind::Restore).is_none())?;
    let Some(ActionSpec::TrafficDrain { traffic, .. }) = &drain.action else { return None };
    Some(format!("{node} is left out of the pool {}", traffic.backend))
}
