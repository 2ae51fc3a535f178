//! How steps end, and what ends with them: lanes, waves, grants, clocks.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use quorate_model::{
    ExecutionId, ExecutionState, NodeName, OperationId, OperationState, Reason, Refusal, StepKind, StepState,
    WaveState,
};

use super::{ATTEMPTS_MAX, failing};
use crate::apply::{Context, Effect, failover, migration, release};
use crate::state::operation::{Failure, Operation, is_over};
use crate::state::{Execution, State, traffic};

/// A member that is stopped is brought back: the others are not enough to take its data away.
pub(super) fn given_up(
    state: &mut State,
    context: &Context<'_>,
    (id, index): (&OperationId, u32),
    refusal: &Refusal,
) -> Effect {
    let message = refusal.what();
    let details = format!("step {index} is given up: {message}");
    let failure = Failure { reason: refusal.reason(), message };
    end(state, context, id, index, StepState::Failed, Some(failure));
    Effect::changed(context.done(), format!("operations/{id}"), details).of(id)
}

/// Ends a step. After a failure the rest of its lane is skipped; what that leads to beyond the failure budget is weighed apart.
pub(in crate::apply) fn end(
    state: &mut State,
    context: &Context<'_>,
    id: &OperationId,
    index: u32,
    reached: StepState,
    failure: Option<Failure>,
) {
    let nothing_left = failing::is_gone_back(state, id, index);
    let (reached, failure) = if nothing_left { (StepState::Skipped, None) } else { (reached, failure) };
    let tells_nothing = failure.is_some() && failing::tells_nothing(state, id, index);
    let Some(operation) = state.operations.get_mut(id) else { return };
    let failure = failure.map(|failure| with_pool(operation, index, failure));
    let Some(step) = operation.step_mut(index) else { return };
    step.state = reached;
    step.ended_at = Some(context.now);
    step.failure.clone_from(&failure);
    let (wave, node, kind) = (step.wave, step.node.clone(), step.kind);
    let mut once = kind == StepKind::RunOnce;
    if reached != StepState::Succeeded {
        once |= skip_lane(operation, context, wave, &node, kind);
    }
    if let Some(failure) = failure {
        let message = format!("step {index} on {node}: {}", failure.message);
        let failure = Failure { reason: failure.reason, message };
        failing::weigh(operation, context, failure, tells_nothing, once);
    }
    tidy(operation, context);
    release_lanes(state, id);
    failover::follow(state, context, id);
}

/// A failure that leaves its instance out of a load balancer's pool says so.
fn with_pool(operation: &Operation, index: u32, failure: Failure) -> Failure {
    let left_out = operation.step(index).and_then(|s| traffic::left_out(operation, s.wave, &s.node));
    match left_out {
        Some(text) => Failure { message: format!("{}; {text}", failure.message), ..failure },
        None => failure,
    }
}

/// What is left of a lane does not happen. A host without the artifact has no later lane either. Says whether something that was
/// to be run once is among it.
fn skip_lane(
    operation: &mut Operation,
    context: &Context<'_>,
    wave: u32,
    node: &NodeName,
    kind: StepKind,
) -> bool {
    let every_wave = kind == StepKind::Stage;
    let mut once = false;
    for step in operation.steps.iter_mut().filter(|s| (every_wave || s.wave == wave) && s.node == *node) {
        if !is_over(step.state) {
            once |= step.kind == StepKind::RunOnce;
            step.state = StepState::Skipped;
            step.ended_at = Some(context.now);
        }
    }
    once
}

/// Gives back the grants of every lane that disturbs no more.
pub(in crate::apply) fn release_lanes(state: &mut State, id: &OperationId) {
    let Some(operation) = state.operations.get(id) else { return };
    let open =
        |index: u32| operation.step(index).is_some_and(|step| operation.lane_disturbs(step.wave, &step.node));
    state.grants.retain(|_, grant| grant.operation != *id || open(grant.step));
}

/// What is seen of the steps of one wave.
#[derive(Clone)]
struct Tally {
    acting: bool,
    gating: bool,
    begun: bool,
    failed: bool,
    all_skipped: bool,
    all_over: bool,
}

/// The states of waves, in one pass over the steps.
fn waves(operation: &mut Operation) {
    let none = Tally {
        acting: false,
        gating: false,
        begun: false,
        failed: false,
        all_skipped: true,
        all_over: true,
    };
    let mut tallies = alloc::vec![none; operation.waves.len()];
    for step in &operation.steps {
        let Some(tally) = usize::try_from(step.wave).ok().and_then(|wave| tallies.get_mut(wave)) else {
            continue;
        };
        let running = step.state == StepState::Running;
        tally.acting |= running && step.kind != StepKind::Gate;
        tally.gating |= running && step.kind == StepKind::Gate;
        tally.begun |= step.started_at.is_some();
        tally.failed |= step.state == StepState::Failed;
        tally.all_skipped &= step.state == StepState::Skipped;
        tally.all_over &= is_over(step.state);
    }
    let promotable = operation.promotable();
    for (index, (wave, tally)) in (0_u32..).zip(operation.waves.iter_mut().zip(tallies)) {
        wave.state = match tally {
            Tally { .. } if promotable == Some(index) => WaveState::Promotable,
            Tally { acting: true, .. } => WaveState::Running,
            Tally { gating: true, .. } => WaveState::Soaking,
            Tally { all_skipped: true, .. } => WaveState::Skipped,
            Tally { all_over: true, failed: true, .. } => WaveState::Failed,
            Tally { all_over: true, .. } => WaveState::Succeeded,
            Tally { begun: true, .. } => WaveState::Running,
            Tally { .. } => WaveState::Pending,
        };
    }
}

/// What follows from the steps: the states of waves, and whether time counts.
pub(in crate::apply) fn tidy(operation: &mut Operation, context: &Context<'_>) {
    waves(operation);
    operation.revision = context.revision;
    let at_work = match operation.state {
        OperationState::Queued | OperationState::Running | OperationState::RollingBack => {
            operation.conditions.is_empty() || operation.has_running_step()
        }
        OperationState::Pausing | OperationState::Canceling => operation.has_running_step(),
        OperationState::Pending
        | OperationState::Planned
        | OperationState::AwaitingApproval
        | OperationState::Paused
        | OperationState::Succeeded
        | OperationState::Failed
        | OperationState::Canceled
        | OperationState::RolledBack => false,
    };
    if at_work {
        operation.active.run(context.now);
    } else {
        operation.active.hold(context.now);
    }
}

/// An execution is final: its step ends with it, if it is still waiting for it.
pub(in crate::apply) fn execution_ended(state: &mut State, context: &Context<'_>, done: &Execution) {
    end_of(state, context, done);
    failover::ended(state, done);
}

fn end_of(state: &mut State, context: &Context<'_>, done: &Execution) {
    let Some((attempts, canceling)) = waiting(state, &done.operation, done.step, &done.id) else { return };
    let ended = match done.state {
        // Its word is not enough: it ends when another member is seen to lead.
        ExecutionState::Succeeded if hands_over(state, done) => return,
        ExecutionState::Succeeded => (StepState::Succeeded, None),
        ExecutionState::Canceled if canceling => (StepState::Skipped, None),
        ExecutionState::Rejected if canceling => (StepState::Skipped, None),
        ExecutionState::Rejected if may_retry(done.reason) && attempts < ATTEMPTS_MAX => {
            again(state, context, done);
            return;
        }
        ExecutionState::Lost => (StepState::Failed, Some(Reason::ExecutionUnknown)),
        ExecutionState::TimedOut => (StepState::Failed, Some(Reason::DeadlineExceeded)),
        ExecutionState::Pending
        | ExecutionState::Dispatched
        | ExecutionState::Accepted
        | ExecutionState::Running
        | ExecutionState::Unknown => return,
        ExecutionState::Failed | ExecutionState::Canceled | ExecutionState::Rejected => {
            (StepState::Failed, Some(done.reason.unwrap_or(Reason::ActionFailed)))
        }
    };
    let said = done.outcome.as_ref().map(|o| o.message.as_str()).filter(|m| !m.is_empty());
    let failure = ended.1.map(|reason| Failure {
        reason,
        message: format!(
            "{} {}{}",
            done.action.kind(),
            done.state,
            said.map(|m| format!(": {m}")).unwrap_or_default()
        ),
    });
    end(state, context, &done.operation, done.step, ended.0, failure);
}

fn hands_over(state: &State, done: &Execution) -> bool {
    let step = state.operations.get(&done.operation).and_then(|operation| operation.step(done.step));
    step.is_some_and(|step| step.kind == StepKind::Handover)
}

/// Refused before anything was done, for a reason that a fresh grant cures.
const fn may_retry(reason: Option<Reason>) -> bool {
    matches!(reason, Some(Reason::GrantExpired | Reason::EpochStale))
}

/// Attempts of a step that runs and waits for this execution, and whether its operation is canceling.
fn waiting(state: &State, id: &OperationId, index: u32, execution: &ExecutionId) -> Option<(u32, bool)> {
    let operation = state.operations.get(id)?;
    let step = operation.step(index)?;
    let waits = step.state == StepState::Running && step.execution.as_ref() == Some(execution);
    waits.then_some((step.attempts, operation.state == OperationState::Canceling))
}

/// Whether a running step waits for this execution.
pub(in crate::apply) fn is_waiting(state: &State, id: &ExecutionId) -> bool {
    state.executions.get(id).is_some_and(|e| waiting(state, &e.operation, e.step, id).is_some())
}

/// Back to pending: nothing was done, a fresh grant is needed.
fn again(state: &mut State, context: &Context<'_>, done: &Execution) {
    let Some(operation) = state.operations.get_mut(&done.operation) else { return };
    if let Some(step) = operation.step_mut(done.step) {
        step.state = StepState::Pending;
        step.started_at = None;
        step.execution = None;
        step.grant = None;
    }
    tidy(operation, context);
    state.grants.remove(&done.epoch);
    release_lanes(state, &done.operation);
}

/// Nobody can tell how an execution ended: its step fails, and its instance counts as out until that is resolved.
pub(in crate::apply) fn lost_track(state: &mut State, context: &Context<'_>, id: &ExecutionId) {
    let Some(found) = state.executions.get(id).cloned() else { return };
    // Which release is in use is not known either, until its agent tells after all.
    release::ended(state, context, &found, ExecutionState::Unknown, None);
    migration::ended(state, context, &found, ExecutionState::Unknown, None);
    let message = migration::lost(&found)
        .unwrap_or_else(|| format!("the outcome of {} is not known", found.action.kind()));
    let (operation, index) = (found.operation, found.step);
    if waiting(state, &operation, index, id).is_some() {
        let failure = Failure { reason: Reason::ExecutionUnknown, message };
        end(state, context, &operation, index, StepState::Failed, Some(failure));
    }
}

/// A node is gone: what runs there has failed, what was to run there will not.
pub(in crate::apply) fn abandon_node(state: &mut State, context: &Context<'_>, node: &NodeName) {
    let touched: Vec<(OperationId, u32)> = state
        .operations
        .values()
        .filter(|o| !o.state.is_terminal())
        .flat_map(|o| o.indexed().map(move |(index, step)| (o.id.clone(), index, step)))
        .filter(|(_, _, step)| step.node == *node && !is_over(step.state))
        .map(|(id, index, _)| (id, index))
        .collect();
    for (id, index) in touched {
        let live = state.operations.get(&id).and_then(|o| o.step(index)).is_some_and(|s| !is_over(s.state));
        if live {
            let message: String = "its node was removed".to_string();
            let failure = Failure { reason: Reason::IdentityRevoked, message };
            end(state, context, &id, index, StepState::Failed, Some(failure));
        }
    }
}
