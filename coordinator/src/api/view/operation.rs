//! Operations and their steps.

use quorate_common::wire::enums::{
    write_operation_kind, write_operation_state, write_step_kind, write_step_state, write_wave_state,
};
use quorate_common::wire::number::write_number;
use quorate_common::wire::outcome::write_outcome;
use quorate_common::wire::time::{write_duration, write_timestamp};
use quorate_core::State;
use quorate_core::safety::gate;
use quorate_core::state::operation::Before;
use quorate_core::state::plan::Goal;
use quorate_core::state::{Condition, Obligation, Operation, ReleaseRequest, ServiceRelease, Step, Wave};
use quorate_model::{ObligationState, OperationState, ProbeReading, StepState};
use quorate_proto::v1;

/// Prefix of an operation's resource name.
pub(crate) const COLLECTION: &str = "operations/";

/// Up to this many steps every outcome and reading is shown; beyond it only those of steps that did not go well, so that an
/// operation of 10,000 steps still fits an answer.
const WHOLE_STEPS_MAX: usize = 200;

/// An operation; its steps when `with_steps`.
pub(crate) fn operation(state: &State, operation: &Operation, with_steps: bool) -> v1::Operation {
    let id = &operation.id;
    let mine = |o: &&Obligation| o.operation.as_ref() == Some(id);
    let owed = |o: &&Obligation| matches!(o.state, ObligationState::Open | ObligationState::Failed);
    let obligations = state.obligations.values().filter(mine).filter(owed).count();
    let grants = state.grants.values().filter(|g| g.operation == *id).count();
    let brief = operation.steps.len() > WHOLE_STEPS_MAX;
    let before = |index| gate::before(operation, index);
    let steps =
        || operation.indexed().map(|(index, s)| step(state, index, s, before(index), brief)).collect();
    v1::Operation {
        name: format!("{COLLECTION}{id}"),
        kind: write_operation_kind(operation.kind) as i32,
        state: write_operation_state(operation.state) as i32,
        conditions: operation.conditions.iter().map(condition).collect(),
        steps: if with_steps { steps() } else { Vec::new() },
        open_obligations: count(obligations),
        title: operation.title.clone(),
        plan_id: operation.plan.as_str().to_owned(),
        created: write_timestamp(operation.created_at),
        ended: operation.ended_at.and_then(write_timestamp),
        created_by: operation.created_by.to_string(),
        reason: operation.request.reason.clone(),
        message: message(operation),
        group: match &operation.request.goal {
            Goal::Rollout { group, .. }
            | Goal::Membership { group, .. }
            | Goal::Failover { group, .. }
            | Goal::Rejoin { group, .. }
            | Goal::Rebuild { group, .. } => group.as_str().to_owned(),
            Goal::Run { .. }
            | Goal::Backup { .. }
            | Goal::Rotate { .. }
            | Goal::Verify { .. }
            | Goal::Host { .. } => String::new(),
        },
        waves: count(operation.waves.len()),
        current_wave: current_wave(operation),
        revision: operation.revision.0,
        open_grants: count(grants),
        wave_states: if with_steps { wave_states(operation) } else { Vec::new() },
        failed_steps: operation.failures.saturating_add(operation.unreachable),
        unreachable_steps: operation.unreachable,
        approval: super::policy::approval(operation),
    }
}

/// A release that a rollout brought.
pub(crate) fn release(release: &ServiceRelease) -> v1::ServiceRelease {
    let ServiceRelease { release, at, operation } = release;
    let ReleaseRequest { version, artifact, size, signature: _ } = release;
    v1::ServiceRelease {
        version: version.as_str().to_owned(),
        artifact: artifact.as_str().to_owned(),
        size_bytes: *size,
        at: write_timestamp(*at),
        operation: format!("{COLLECTION}{operation}"),
    }
}

fn wave_states(operation: &Operation) -> Vec<v1::WaveStatus> {
    let one = |(number, wave): (u32, &Wave)| {
        let Wave { label, state, hold, promote, promoted_at, parallel: _ } = wave;
        v1::WaveStatus {
            number,
            label: label.clone(),
            state: write_wave_state(*state) as i32,
            hold: (!hold.is_zero()).then(|| write_duration(*hold)),
            promote: *promote,
            promoted: promoted_at.and_then(write_timestamp),
        }
    };
    (1_u32..).zip(&operation.waves).map(one).collect()
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// The first wave with work left, from 1; the last one when nothing is left.
fn current_wave(operation: &Operation) -> u32 {
    let open = operation.steps.iter().find(|s| !quorate_core::state::operation::is_over(s.state));
    let last = count(operation.waves.len());
    open.map_or(last, |s| s.wave.saturating_add(1))
}

fn message(operation: &Operation) -> String {
    if let Some(failure) = &operation.failure {
        return failure.message.clone();
    }
    let done = operation.steps.iter().filter(|s| s.state == StepState::Succeeded).count();
    let failed = operation.failures.saturating_add(operation.unreachable);
    match operation.state {
        OperationState::Succeeded if failed > 0 => {
            format!("{done} of {} steps done, {failed} failed", operation.steps.len())
        }
        OperationState::Succeeded => format!("{done} of {} steps done", operation.steps.len()),
        OperationState::Canceled => format!("canceled after {done} of {} steps", operation.steps.len()),
        OperationState::RolledBack => "rolled back".to_owned(),
        OperationState::Pending
        | OperationState::Planned
        | OperationState::AwaitingApproval
        | OperationState::Queued
        | OperationState::Running
        | OperationState::Pausing
        | OperationState::Paused
        | OperationState::RollingBack
        | OperationState::Canceling
        | OperationState::Failed => String::new(),
    }
}

fn condition(condition: &Condition) -> v1::Condition {
    let Condition { reason, message, since } = condition;
    v1::Condition {
        r#type: "Blocked".to_owned(),
        reason: reason.as_str().to_owned(),
        message: message.clone(),
        since: write_timestamp(*since),
    }
}

fn step(state: &State, index: u32, step: &Step, before: &[Before], brief: bool) -> v1::Step {
    let execution = step.execution.as_ref().and_then(|id| state.executions.get(id));
    let outcome = execution.and_then(|e| e.outcome.as_ref());
    let message = step
        .failure
        .as_ref()
        .map(|failure| failure.message.clone())
        .or_else(|| outcome.map(|o| o.message.clone()))
        .unwrap_or_default();
    let whole = !brief || step.failure.is_some() || step.state == StepState::Failed;
    v1::Step {
        node: step.node.as_str().to_owned(),
        kind: write_step_kind(step.kind) as i32,
        state: write_step_state(step.state) as i32,
        attempts: step.attempts,
        wave: step.wave.saturating_add(1),
        index,
        message,
        started: step.started_at.and_then(write_timestamp),
        ended: step.ended_at.and_then(write_timestamp),
        execution: step.execution.as_ref().map(|id| id.as_str().to_owned()).unwrap_or_default(),
        outcome: outcome.filter(|_| whole).map(write_outcome),
        readings: if whole { step.readings.iter().map(|r| reading(before, r)).collect() } else { Vec::new() },
        deadline: Some(write_duration(step.deadline)),
        reason: step.failure.as_ref().map(|failure| failure.reason.as_str().to_owned()).unwrap_or_default(),
    }
}

fn reading(before: &[Before], reading: &ProbeReading) -> v1::GateReading {
    v1::GateReading {
        probe: reading.probe.as_str().to_owned(),
        from: reading.from.as_str().to_owned(),
        ok: reading.ok,
        passes: reading.passes,
        detail: reading.detail.clone(),
        at: write_timestamp(reading.at),
        value: reading.value.map(write_number),
        before: gate::value_before(before, reading).map(write_number),
    }
}
