//! Gates: opened, passed on readings, or failed by an instance that turned bad while it was looked at.

use alloc::format;
use alloc::vec::Vec;

use quorate_model::{InstanceReading, OperationId, ProbeReading, Reason, Refusal, StepState, Timestamp};

use super::{begins, check_order, end, find, tidy, wrong};
use crate::apply::{Context, Effect, failover as moves, membership, validate};
use crate::safety::{Evidence, failover, gate, handover};
use crate::state::State;
use crate::state::operation::Failure;

/// Readings kept with a gate.
const READINGS_KEPT: usize = 16;

pub(super) fn open_gate(
    state: &mut State,
    context: &Context<'_>,
    (id, index): (&OperationId, u32),
    evidence: &[InstanceReading],
) -> Result<Effect, Refusal> {
    let (operation, step) = find(state, id, index)?;
    if step.gate.is_none() || step.state != StepState::Pending {
        return Err(wrong(format!("step {index} of {id} is {} or no gate", step.state)));
    }
    begins(operation, step)?;
    check_order(operation, index)?;
    let evidence = Evidence::from_readings(evidence);
    let lease = step.gate.as_ref().and_then(|gate| gate.lease.clone());
    if let Some(gate) = &lease {
        failover::recall_refuses(state, operation, gate, &evidence, context.now).map_or(Ok(()), Err)?;
    }
    let node = step.node.clone();
    let Some(operation) = state.operations.get_mut(id) else { return Err(wrong("gone")) };
    if let Some(step) = operation.step_mut(index) {
        step.state = StepState::Running;
        step.started_at = Some(context.now);
        step.attempts = step.attempts.saturating_add(1);
    }
    tidy(operation, context);
    let details = format!("gate {index} on {node} looks on");
    if let Some(gate) = lease {
        moves::fencing(state, context, id, &gate, &evidence);
        moves::follow(state, context, id);
    }
    Ok(Effect::changed(context.done(), format!("operations/{id}"), details).of(id))
}

/// Readings within their limits.
pub(super) fn kept(readings: &[ProbeReading]) -> Vec<ProbeReading> {
    let mut kept: Vec<ProbeReading> = readings.iter().take(READINGS_KEPT).cloned().collect();
    for reading in &mut kept {
        validate::cut(&mut reading.detail, 256);
        reading.listed.clear();
    }
    kept
}

pub(super) fn pass_gate(
    state: &mut State,
    context: &Context<'_>,
    (id, index): (&OperationId, u32),
    readings: &[ProbeReading],
    evidence: &[InstanceReading],
) -> Result<Effect, Refusal> {
    let (operation, step) = find(state, id, index)?;
    if handover::awaited(state, step).is_some() {
        return handed_over(state, context, (id, index), evidence);
    }
    let Some(spec) = step.gate.as_ref().filter(|_| step.state == StepState::Running) else {
        return Err(wrong(format!("step {index} of {id} is {} or no gate", step.state)));
    };
    let since = gate::counts_from(operation, index);
    let opened = step.started_at.unwrap_or(context.now);
    let before = gate::before(operation, index);
    let evidence = Evidence::from_readings(evidence);
    let missing = gate::probes_missing(spec, before, readings, since)
        .or_else(|| gate::margin_missing(state, operation, index, spec, &evidence, context.now))
        .or_else(|| gate::unlisted(state, spec, since, &evidence, context.now))
        .or_else(|| gate::unleased(state, operation, spec, since, &evidence, context.now))
        .or_else(|| gate::held(spec, opened, context.now));
    if let Some(missing) = missing {
        return Err(wrong(format!("gate {index} of {id} has not passed: {missing}")));
    }
    let node = step.node.clone();
    let judged = kept(&gate::verdicts(spec, before, readings));
    let (seen, lease) = (spec.membership.clone(), spec.lease.clone());
    if let Some(step) = state.operations.get_mut(id).and_then(|o| o.step_mut(index)) {
        step.readings = judged;
    }
    if let Some(gate) = lease {
        moves::told(state, id, &gate, &evidence);
    }
    end(state, context, id, index, StepState::Succeeded, None);
    let mut details = format!("gate {index} on {node} passed");
    if let Some(gate) = seen.filter(|gate| gate.moves) {
        membership::moved(state, context, &gate);
        let word = if gate.listed { "votes now" } else { "votes no longer" };
        details = format!("{details}: {} {word} in {}", gate.node, gate.group);
    }
    Ok(Effect::changed(context.done(), format!("operations/{id}"), details).of(id))
}

/// A hand-over is done: its instance leads no longer, and another member does.
fn handed_over(
    state: &mut State,
    context: &Context<'_>,
    (id, index): (&OperationId, u32),
    evidence: &[InstanceReading],
) -> Result<Effect, Refusal> {
    let (_, step) = find(state, id, index)?;
    let evidence = Evidence::from_readings(evidence);
    if let Some(missing) = handover::missing(state, step, &evidence, context.now) {
        return Err(wrong(format!("step {index} of {id} is not handed over: {missing}")));
    }
    let node = step.node.clone();
    end(state, context, id, index, StepState::Succeeded, None);
    let details = format!("step {index}: {node} has handed over");
    Ok(Effect::changed(context.done(), format!("operations/{id}"), details).of(id))
}

/// An instance that is looked at after its wave has turned bad. Only such a gate fails before its deadline, and only on a
/// reading that is newer than itself.
pub(super) fn fail_gate(
    state: &mut State,
    context: &Context<'_>,
    id: &OperationId,
    index: u32,
    reading: &InstanceReading,
) -> Result<Effect, Refusal> {
    let (_, step) = find(state, id, index)?;
    let Some(spec) = step.gate.as_ref().filter(|_| step.state == StepState::Running) else {
        return Err(wrong(format!("step {index} of {id} is {} or no gate", step.state)));
    };
    let opened = step.started_at.unwrap_or(Timestamp::ZERO);
    let Some(message) = gate::turned(spec, reading, opened) else {
        return Err(wrong(format!("gate {index} of {id} has not failed")));
    };
    let node = step.node.clone();
    if let Some(step) = state.operations.get_mut(id).and_then(|o| o.step_mut(index)) {
        step.readings = kept(&reading.probes);
    }
    let details = format!("gate {index} on {node}: {message}");
    let failure = Failure { reason: Reason::GateFailed, message };
    end(state, context, id, index, StepState::Failed, Some(failure));
    Ok(Effect::changed(context.done(), format!("operations/{id}"), details).of(id))
}
