//! What a failed step leads to: nothing while it is tolerated, then a safe stop, a pause or a rollback.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use quorate_model::{
    ActionSpec, ConditionReason, ExecutionState, OnFailure, OperationId, OperationState, StepKind, StepState,
};

use crate::apply::{Context, validate};
use crate::safety::{fence, gate, membership, rebuild};
use crate::state::State;
use crate::state::operation::{Condition, Failure, Operation, is_over};

/// Nodes named in one sentence.
const NAMED_MAX: usize = 10;

/// Whether the step was to take something back on a node that was removed: there is nothing left to take back.
pub(super) fn is_gone_back(state: &State, id: &OperationId, index: u32) -> bool {
    let Some(operation) = state.operations.get(id) else { return false };
    let Some(step) = operation.step(index) else { return false };
    operation.rollback_from.is_some_and(|from| step.wave >= from) && state.nodes.present(&step.node).is_none()
}

/// Whether a failed step tells nothing of the change itself: its agent refused it before doing anything, is not heard, or
/// cannot tell; or nothing newer than the step was seen of the instance. Where a failure leads to a safe stop anyway, as in
/// every release before, nothing is told apart.
pub(super) fn tells_nothing(state: &State, id: &OperationId, index: u32) -> bool {
    let Some(operation) = state.operations.get(id) else { return false };
    let Some(step) = operation.step(index) else { return false };
    // Work on one member never waits half done for a person: whatever failed of it, it is taken back.
    let on_one = membership::of(operation).is_some() || rebuild::of(operation).is_some();
    if operation.request.on_failure == OnFailure::Abort || on_one {
        return false;
    }
    if state.nodes.present(&step.node).is_none() || super::goes_ahead(step.kind) {
        return true;
    }
    if let Some(execution) = &step.execution {
        return state.executions.get(execution).is_none_or(|e| {
            matches!(e.state, ExecutionState::Rejected | ExecutionState::Unknown | ExecutionState::Lost)
        });
    }
    let since = gate::counts_from(operation, index);
    let probed = step.gate.as_ref().is_some_and(|gate| !gate.probes.is_empty());
    let unseen = probed && step.readings.iter().all(|reading| reading.at <= since);
    unseen || fence::reachable(state, &step.node).is_some()
}

/// Counts a failure, and decides what it leads to. `once`: what was to be run once did not end well.
pub(super) fn weigh(
    operation: &mut Operation,
    context: &Context<'_>,
    failure: Failure,
    tells_nothing: bool,
    once: bool,
) {
    // What is run once is the whole change's, not one instance's: however much is tolerated, it is more.
    let least = if once { operation.request.max_failures } else { 0 };
    let count = if tells_nothing { &mut operation.unreachable } else { &mut operation.failures };
    *count = (*count).max(least).saturating_add(1);
    if operation.rollback_from.is_some() {
        stuck(operation, context, &failure);
        return;
    }
    if operation.failure.is_some() {
        return;
    }
    let limit = operation.request.max_failures;
    let counted = operation.failures.saturating_add(operation.unreachable);
    let held_against = counted.saturating_sub(operation.forgiven);
    match operation.request.on_failure {
        OnFailure::Abort if operation.failures > limit => operation.failure = Some(failure),
        OnFailure::Rollback if operation.failures > limit => {
            operation.failure = Some(failure);
            // Actions in flight end by themselves; what they changed is taken back with the rest.
            stop(operation, context);
        }
        OnFailure::Pause | OnFailure::Rollback if held_against > limit => halt(operation, context, failure),
        OnFailure::Abort | OnFailure::Pause | OnFailure::Rollback => {}
    }
}

/// Everything but an action in flight does not happen.
fn stop(operation: &mut Operation, context: &Context<'_>) {
    for step in &mut operation.steps {
        let acts = step.action.is_some() && step.state == StepState::Running;
        if !acts && !is_over(step.state) {
            step.state = StepState::Skipped;
            step.ended_at = Some(context.now);
        }
    }
}

/// Lanes at work end, then a person decides.
fn halt(operation: &mut Operation, context: &Context<'_>, failure: Failure) {
    match operation.state {
        OperationState::Queued | OperationState::Running => operation.state = OperationState::Pausing,
        OperationState::Pausing | OperationState::Paused => {}
        OperationState::Pending
        | OperationState::Planned
        | OperationState::AwaitingApproval
        | OperationState::RollingBack
        | OperationState::Canceling
        | OperationState::Succeeded
        | OperationState::Failed
        | OperationState::Canceled
        | OperationState::RolledBack => return,
    }
    let halted = operation.halted.get_or_insert(failure);
    let (reason, message) = (ConditionReason::Failure, halted.message.clone());
    operation.conditions = Vec::from([Condition { reason, message, since: context.now }]);
}

/// A rollback that cannot go on: it stops where it is, and says what it leaves behind.
fn stuck(operation: &mut Operation, context: &Context<'_>, failure: &Failure) {
    stop(operation, context);
    let left = |s: &&crate::state::Step| s.kind == StepKind::Revert && s.state != StepState::Succeeded;
    let nodes: Vec<&str> = operation.steps.iter().filter(left).map(|s| s.node.as_str()).collect();
    let version = operation.steps.iter().find(left).and_then(|s| match s.action.as_ref()? {
        ActionSpec::ArtifactRevert { release, .. } => Some(release.version.clone()),
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
        | ActionSpec::ConfigConfirm { .. }
        | ActionSpec::Secret { .. }
        | ActionSpec::Data { .. }
        | ActionSpec::TrafficDrain { .. }
        | ActionSpec::TrafficRestore { .. }
        | ActionSpec::ExecRun { .. }
        | ActionSpec::RolePromote { .. }
        | ActionSpec::MaintenanceEnter { .. }
        | ActionSpec::MaintenanceExit { .. }
        | ActionSpec::HostPreflight { .. }
        | ActionSpec::HostFacts
        | ActionSpec::HostDiagnose => None,
    });
    let mut message = format!("rolling back stopped at {}", failure.message);
    if let Some(version) = version {
        let named = nodes.get(..NAMED_MAX.min(nodes.len())).unwrap_or_default().join(", ");
        let more = nodes.len().saturating_sub(NAMED_MAX);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        message = format!("{message}; left at {version}: {named}{more}");
    }
    if let Some(held) = &operation.failure {
        message = format!("{}; {message}", held.message);
    }
    validate::cut(&mut message, 1_024);
    if let Some(held) = &mut operation.failure {
        held.message = message;
    }
}
