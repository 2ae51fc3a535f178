//! Moves of a primary role: the gate that wants the lease back, and steps that wait for what may never be.

use alloc::format;
use alloc::vec::Vec;

use quorate_model::{InstanceReading, Refusal, StepKind, Timestamp};

use crate::command::{Command, StepCommand};
use crate::observations::Observations;
use crate::safety::Evidence;
use crate::safety::failover::{self, Suspicion};
use crate::state::State;
use crate::state::operation::{Operation, Step};

/// The command that opens a gate. One that wants a lease back rests on how its group stands.
pub(super) fn open(
    state: &State,
    obs: &Observations,
    operation: &Operation,
    (index, step): (u32, &Step),
    now: Timestamp,
) -> Result<Command, Refusal> {
    let id = operation.id.clone();
    let gate = step.gate.as_ref().and_then(|gate| gate.lease.as_ref());
    let group = gate.and_then(|gate| state.groups.get(&gate.group));
    let evidence = group.map_or_else(Vec::new, |group| obs.of_voters(group));
    if let Some(gate) = gate {
        let seen = Evidence::from_readings(&evidence);
        failover::recall_refuses(state, operation, gate, &seen, now).map_or(Ok(()), Err)?;
    }
    Ok(Command::Step(StepCommand::OpenGate { operation: id, step: index, evidence }))
}

/// What a promotion begins on; none for another step.
pub(super) fn evidence(
    state: &State,
    obs: &Observations,
    operation: &Operation,
    step: &Step,
) -> Option<Vec<InstanceReading>> {
    let (name, _) = failover::of(operation).filter(|_| step.kind == StepKind::Promote)?;
    state.groups.get(name).map(|group| obs.of_voters(group))
}

/// Gives up what has waited for its deadline, so that the role can be moved in another way; and at once a switchover that has
/// not begun while its primary is lost.
pub(super) fn given_up(
    state: &State,
    obs: &Observations,
    operation: &Operation,
    (index, step): (u32, &Step),
    refusal: &Refusal,
    now: Timestamp,
) -> Option<Command> {
    if !failover::may_be_given_up(operation, step) {
        return None;
    }
    let message = match &step.gate {
        Some(_) => {
            let (name, _) = failover::of(operation)?;
            match failover::lost(state, obs, state.groups.get(name)?, now) {
                Suspicion::Confirmed { why } => format!("the primary is lost: {why}"),
                Suspicion::None | Suspicion::Suspected { .. } => return None,
            }
        }
        None => {
            let due = operation.steps.iter().filter_map(|earlier| earlier.ended_at).max()?;
            let waited = now.since(due.max(obs.leading_since));
            (waited > step.deadline).then(|| format!("waited for {}: {}", step.deadline, refusal.what()))?
        }
    };
    Some(Command::Step(StepCommand::DeadlinePassed {
        operation: operation.id.clone(),
        step: index,
        readings: Vec::new(),
        message,
    }))
}
