//! Executions: what agents say about their work. The first final state stands.

use alloc::format;
use alloc::vec::Vec;

use quorate_model::action::OUTPUT_TAIL_MAX_BYTES;
use quorate_model::{ActionOutcome, ActionSpec, ExecutionId, ExecutionState, InstanceState, Reason, Refusal};

use super::{Context, Effect, backup, migration, release, step, validate};
use crate::command::{ExecutionCommand, Report};
use crate::state::{Execution, State};

/// Findings and rotated files kept of one outcome; the rest stays on the node.
const LIST_MAX: usize = 64;

pub(super) fn apply(
    state: &mut State,
    context: &Context<'_>,
    command: &ExecutionCommand,
) -> Result<Effect, Refusal> {
    match command {
        ExecutionCommand::Report(report) => take_report(state, context, report),
        ExecutionCommand::MarkUnknown { execution, reason } => {
            let found = open(state, execution)?;
            if found.state == ExecutionState::Unknown {
                return Ok(Effect::unchanged(context.done()));
            }
            found.state = ExecutionState::Unknown;
            found.reason = Some(*reason);
            found.updated_at = context.now;
            Ok(told(context, found, "its outcome is not known"))
        }
        ExecutionCommand::Cancel { execution } => {
            let found = open(state, execution)?;
            if found.cancel {
                return Ok(Effect::unchanged(context.done()));
            }
            found.cancel = true;
            Ok(told(context, found, "asked to stop"))
        }
        ExecutionCommand::Resolve { execution, note } => {
            validate::text("note", note)?;
            let found = open(state, execution)?;
            if found.state != ExecutionState::Unknown {
                return Err(Refusal::new(Reason::WrongState, format!("{execution} is {}", found.state)));
            }
            let effect = told(context, found, note);
            conclude(state, context, execution, ExecutionState::Lost, Some(Reason::ExecutionUnknown), None);
            Ok(effect)
        }
    }
}

fn told(context: &Context<'_>, execution: &Execution, details: &str) -> Effect {
    Effect::changed(context.done(), format!("executions/{}", execution.id), details).of(&execution.operation)
}

/// An execution that is not final.
fn open<'a>(state: &'a mut State, id: &ExecutionId) -> Result<&'a mut Execution, Refusal> {
    match state.executions.get_mut(id) {
        None => Err(Refusal::new(Reason::NotFound, format!("there is no execution {id}"))),
        Some(found) if found.state.is_final() => {
            Err(Refusal::new(Reason::WrongState, format!("{id} is {}", found.state)))
        }
        Some(found) => Ok(found),
    }
}

fn take_report(state: &mut State, context: &Context<'_>, report: &Report) -> Result<Effect, Refusal> {
    let Report { execution: id, node, epoch, state: said, reason, outcome } = report;
    let found = state
        .executions
        .get_mut(id)
        .ok_or_else(|| Refusal::new(Reason::NotFound, format!("there is no execution {id}")))?;
    if found.node != *node {
        return Err(Refusal::new(Reason::NotAllowed, format!("{id} does not run on {node}")));
    }
    if found.epoch != *epoch {
        return Err(Refusal::new(Reason::EpochStale, format!("{id} has epoch {}, not {epoch}", found.epoch)));
    }
    if found.state.is_final() {
        if found.state == *said || !said.is_final() {
            return Ok(Effect::unchanged(context.done()));
        }
        let text = format!("said {said} after {}; the first stands", found.state);
        return Ok(told(context, found, &text));
    }
    match said {
        ExecutionState::Accepted | ExecutionState::Running => {
            let known = found.state == ExecutionState::Running || found.state == *said;
            if known {
                return Ok(Effect::unchanged(context.done()));
            }
            found.state = *said;
            found.updated_at = context.now;
            Ok(told(context, found, said.as_str()))
        }
        ExecutionState::Unknown => {
            if found.state == ExecutionState::Unknown && !step::is_waiting(state, id) {
                return Ok(Effect::unchanged(context.done()));
            }
            let found = open(state, id)?;
            // The agent itself cannot tell, and it never will: the step is over, the instance counts as out until resolved.
            found.state = ExecutionState::Unknown;
            found.reason = Some(reason.unwrap_or(Reason::ExecutionUnknown));
            found.updated_at = context.now;
            let effect = told(context, found, "its agent cannot tell its outcome");
            step::lost_track(state, context, id);
            Ok(effect)
        }
        ExecutionState::Succeeded
        | ExecutionState::Failed
        | ExecutionState::TimedOut
        | ExecutionState::Canceled
        | ExecutionState::Rejected => {
            let effect = told(context, found, said.as_str());
            conclude(state, context, id, *said, *reason, outcome.as_ref());
            Ok(effect)
        }
        ExecutionState::Pending | ExecutionState::Dispatched | ExecutionState::Lost => {
            Err(validate::bad(format!("state: an agent does not report {said}")))
        }
    }
}

/// Ends an execution: the state stands from now on, its step ends with it, and what rests on it follows.
pub(super) fn conclude(
    state: &mut State,
    context: &Context<'_>,
    id: &ExecutionId,
    reached: ExecutionState,
    reason: Option<Reason>,
    outcome: Option<&ActionOutcome>,
) {
    let Some(found) = state.executions.get_mut(id).filter(|e| !e.state.is_final()) else { return };
    found.state = reached;
    found.reason = reason;
    found.outcome = outcome.map(trimmed);
    found.updated_at = context.now;
    let done = found.clone();
    state.open.remove(id);
    if done.disruptive
        && reached != ExecutionState::Rejected
        && let Some(instance) = &done.instance
    {
        let entry = state.instances.entry(instance);
        entry.disturbed_at = context.now;
        if reached == ExecutionState::Succeeded && matches!(done.action, ActionSpec::ServiceStop { .. }) {
            // The agent's own word: no reading has to tell it once more before a refusal can name it.
            entry.observed = InstanceState::Stopped;
            entry.since = context.now;
        }
    }
    if reached == ExecutionState::Succeeded {
        supersede(state, context, &done);
    }
    backup::ended(state, context, &done.action, reached, done.outcome.as_ref());
    release::ended(state, context, &done, reached, done.outcome.as_ref());
    migration::ended(state, context, &done, reached, done.outcome.as_ref());
    step::execution_ended(state, context, &done);
}

/// An action that succeeded says more about its instance than an older one whose outcome nobody knows.
fn supersede(state: &mut State, context: &Context<'_>, done: &Execution) {
    if !done.disruptive {
        return;
    }
    let older: Vec<ExecutionId> = state
        .all_open_executions()
        .filter(|e| e.state == ExecutionState::Unknown && e.epoch < done.epoch && e.instance == done.instance)
        .filter(|e| state.operations.get(&e.operation).is_none_or(|o| o.state.is_terminal()))
        .map(|e| e.id.clone())
        .collect();
    for id in older {
        if let Some(found) = state.executions.get_mut(&id) {
            found.state = ExecutionState::Lost;
            found.updated_at = context.now;
            state.open.remove(&id);
        }
    }
}

/// An outcome within its limits: an agent must not be able to fill the state.
fn trimmed(outcome: &ActionOutcome) -> ActionOutcome {
    let mut kept = outcome.clone();
    validate::cut(&mut kept.message, 512);
    validate::cut(&mut kept.output_tail, OUTPUT_TAIL_MAX_BYTES);
    validate::cut(&mut kept.output_sha256, 64);
    kept.rotated.truncate(LIST_MAX);
    for text in &mut kept.rotated {
        validate::cut(text, 512);
    }
    kept.findings.truncate(LIST_MAX);
    for finding in &mut kept.findings {
        for text in [&mut finding.subject, &mut finding.level, &mut finding.message, &mut finding.evidence] {
            validate::cut(text, 512);
        }
    }
    // Facts live in the coordinators' memory, never in the log's state.
    kept.facts = None;
    kept
}
