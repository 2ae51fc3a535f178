//! What is run once for a release: the record of it, kept with its service.
//!
//! The record is written with the entry that hands the hook to its node, so that no leader and no later rollout hands it out a
//! second time. Only the hook's own word says that it is done or that it failed; whatever else ends it leaves it unknown.

use alloc::format;
use alloc::string::String;

use quorate_model::{ActionOutcome, ActionSpec, ExecutionState, Refusal, ServiceName, StepKind, Version};

use super::{Context, validate};
use crate::state::plan::{Change, Goal, Plan};
use crate::state::release::{MIGRATIONS_MAX, Migrated, Migration};
use crate::state::{Execution, State};

/// The guards of a plan that runs hooks: what is run once is run for its release, in one step.
pub(super) fn check(plan: &Plan) -> Result<(), Refusal> {
    let brings = matches!(&plan.request.goal, Goal::Rollout { change: Change::Release(_), .. });
    let mut once = 0_usize;
    for (_, step) in plan.steps() {
        let fits = match (step.kind, step.action.as_ref()) {
            (StepKind::RunOnce, Some(ActionSpec::ExecRun { once, release, targets, .. })) => {
                *once && release.is_some() && targets.is_empty() && brings
            }
            (StepKind::Hook, Some(ActionSpec::ExecRun { once, targets, .. })) => !once && targets.is_empty(),
            (StepKind::Handover, Some(ActionSpec::ExecRun { once, release, targets, .. })) => {
                !once && release.is_none() && targets.is_empty()
            }
            // Whom they are about is looked at apart.
            (
                StepKind::Join | StepKind::Leave | StepKind::Switch | StepKind::Rejoin,
                Some(ActionSpec::ExecRun { once, release, .. }),
            ) => !once && release.is_none(),
            (
                StepKind::RunOnce
                | StepKind::Hook
                | StepKind::Handover
                | StepKind::Join
                | StepKind::Leave
                | StepKind::Switch
                | StepKind::Rejoin,
                _,
            )
            | (_, Some(ActionSpec::ExecRun { .. })) => false,
            _ => true,
        };
        if !fits {
            return Err(validate::bad("waves: a step does not fit the hook that it runs"));
        }
        once = once.saturating_add(usize::from(step.kind == StepKind::RunOnce));
    }
    if once > 1 {
        return Err(validate::bad("waves: more than one step is run once"));
    }
    Ok(())
}

/// What an execution runs for a release, if it does: its service, the version, and which kind of step it is.
fn of(state: &State, execution: &Execution) -> Option<(ServiceName, Version, StepKind)> {
    let ActionSpec::ExecRun { service, once: true, release: Some(version), .. } = &execution.action else {
        return None;
    };
    let step = state.operations.get(&execution.operation)?.step(execution.step)?;
    Some((service.clone(), version.clone(), step.kind))
}

/// A step is handed to its node.
pub(super) fn begun(state: &mut State, context: &Context<'_>, made: &Execution) {
    let Some((service, version, StepKind::RunOnce)) = of(state, made) else { return };
    let Some(service) = state.services.get_mut(&service) else { return };
    service.migrations.retain(|known| known.version != version);
    if service.migrations.len() >= MIGRATIONS_MAX {
        // What nobody can tell is kept as long as there is anything else to forget.
        let plain = |known: &Migration| matches!(known.state, Migrated::Done | Migrated::Failed);
        let oldest = service.migrations.iter().position(plain).unwrap_or(0);
        service.migrations.remove(oldest);
    }
    service.migrations.push(Migration {
        version,
        state: Migrated::Begun,
        node: made.node.clone(),
        execution: made.id.clone(),
        operation: made.operation.clone(),
        at: context.now,
    });
}

/// An execution has ended, or nobody can tell how.
pub(super) fn ended(
    state: &mut State,
    context: &Context<'_>,
    done: &Execution,
    reached: ExecutionState,
    outcome: Option<&ActionOutcome>,
) {
    let Some((service, version, kind)) = of(state, done) else { return };
    let Some(service) = state.services.get_mut(&service) else { return };
    if kind != StepKind::RunOnce {
        // What a rollback has taken back is to be run when the release comes again.
        if reached == ExecutionState::Succeeded {
            service.migrations.retain(|m| m.version != version || m.operation != done.operation);
        }
        return;
    }
    let said = outcome.is_some_and(|outcome| outcome.exit_code.is_some());
    let now = match reached {
        ExecutionState::Succeeded => Migrated::Done,
        // Refused by its agent before anything was done.
        ExecutionState::Rejected => {
            service.migrations.retain(|known| known.execution != done.id);
            return;
        }
        ExecutionState::Failed if said => Migrated::Failed,
        ExecutionState::Failed
        | ExecutionState::TimedOut
        | ExecutionState::Canceled
        | ExecutionState::Unknown
        | ExecutionState::Lost => Migrated::Unknown,
        ExecutionState::Pending
        | ExecutionState::Dispatched
        | ExecutionState::Accepted
        | ExecutionState::Running => return,
    };
    if let Some(known) = service.migrations.iter_mut().find(|known| known.execution == done.id) {
        known.state = now;
        known.at = context.now;
    }
}

/// What to look at when the outcome of something that is run once is lost.
pub(super) fn lost(found: &Execution) -> Option<String> {
    let ActionSpec::ExecRun { hook, once: true, .. } = &found.action else { return None };
    Some(format!(
        "the outcome of {hook} is not known, and it is not run again by itself: look at {} and at what it did on {}, \
         then start again with --migrate skip or again",
        found.id, found.node
    ))
}
