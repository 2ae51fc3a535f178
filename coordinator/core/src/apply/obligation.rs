//! Undos that agents owe: told to us, done by them.

use alloc::format;

use quorate_model::{ObligationId, ObligationState, Reason, Refusal};

use super::{Context, Effect, release, validate};
use crate::command::ObligationCommand;
use crate::state::execution::{OBLIGATIONS_OPEN_MAX, OBLIGATIONS_PER_NODE_MAX};
use crate::state::{Obligation, State, traffic};

pub(super) fn apply(
    state: &mut State,
    context: &Context<'_>,
    command: &ObligationCommand,
) -> Result<Effect, Refusal> {
    match command {
        ObligationCommand::Open { id, .. } => open(state, context, id, command),
        ObligationCommand::Extend { id } => extend(state, context, id),
        ObligationCommand::Close { id, node, state: reached } => {
            let found = state
                .obligations
                .get_mut(id)
                .filter(|o| o.node == *node)
                .ok_or_else(|| Refusal::new(Reason::NotFound, format!("{node} owes no {id}")))?;
            match (found.state, *reached) {
                (_, ObligationState::Open) => return Err(validate::bad("state: OPEN closes nothing")),
                (ObligationState::Discharged | ObligationState::ExpiredDischarged, _) => {
                    return Ok(Effect::unchanged(context.done()));
                }
                (was, new) if was == new => return Ok(Effect::unchanged(context.done())),
                (_, new) => found.state = new,
            }
            found.updated_at = context.now;
            let (execution, operation) = (found.execution.clone(), found.operation.clone());
            if *reached == ObligationState::ExpiredDischarged {
                release::put_back_alone(state, &execution);
            }
            let effect = Effect::changed(context.done(), format!("obligations/{id}"), reached.as_str());
            Ok(match &operation {
                Some(operation) => effect.of(operation),
                None => effect,
            })
        }
    }
}

/// Only what an operation that lives still stands for is waited for longer; whoever asks.
fn extend(state: &mut State, context: &Context<'_>, id: &ObligationId) -> Result<Effect, Refusal> {
    let found = state.obligations.get(id);
    let Some(lease) = found.and_then(|found| traffic::lease(state, found)) else {
        return Err(Refusal::new(Reason::WrongState, format!("nobody stands for {id} any longer")));
    };
    let Some(found) = state.obligations.get_mut(id) else {
        return Err(Refusal::new(Reason::NotFound, format!("nobody owes {id}")));
    };
    if context.now.since(found.updated_at).0.saturating_mul(2) < lease.0 {
        return Ok(Effect::unchanged(context.done()));
    }
    (found.due_at, found.updated_at) = (context.now.plus(lease), context.now);
    let details = format!("due {}", found.due_at.utc());
    let operation = found.operation.clone();
    let effect = Effect::changed(context.done(), format!("obligations/{id}"), details);
    Ok(match &operation {
        Some(operation) => effect.of(operation),
        None => effect,
    })
}

fn open(
    state: &mut State,
    context: &Context<'_>,
    id: &ObligationId,
    command: &ObligationCommand,
) -> Result<Effect, Refusal> {
    let ObligationCommand::Open { node, execution, what, due_at, .. } = command else {
        return Err(Refusal::new(Reason::Internal, "not an opening"));
    };
    validate::text("what", what)?;
    if let Some(known) = state.obligations.get(id) {
        return if known.node == *node && known.execution == *execution {
            Ok(Effect::unchanged(context.done()))
        } else {
            Err(Refusal::new(Reason::AlreadyExists, format!("obligation {id} belongs to another")))
        };
    }
    if state.nodes.present(node).is_none() {
        return Err(Refusal::new(Reason::NotFound, format!("there is no node {node}")));
    }
    let found = state.executions.get(execution);
    if found.is_some_and(|e| e.node != *node) {
        return Err(Refusal::new(Reason::NotAllowed, format!("{execution} does not run on {node}")));
    }
    let owed = || state.obligations.values().filter(|o| o.state == ObligationState::Open);
    if owed().count() >= OBLIGATIONS_OPEN_MAX
        || owed().filter(|o| o.node == *node).count() >= OBLIGATIONS_PER_NODE_MAX
    {
        return Err(Refusal::new(Reason::LimitReached, "too many open obligations"));
    }
    // One that is told after its operation has ended is owed by the node alone: a terminal operation owes nothing.
    let operation = found
        .map(|e| e.operation.clone())
        .filter(|o| state.operations.get(o).is_some_and(|o| !o.state.is_terminal()));
    let obligation = Obligation {
        id: id.clone(),
        node: node.clone(),
        execution: execution.clone(),
        operation: operation.clone(),
        what: what.clone(),
        due_at: *due_at,
        state: ObligationState::Open,
        opened_at: context.now,
        updated_at: context.now,
    };
    state.obligations.insert(id.clone(), obligation);
    let effect = Effect::changed(context.done(), format!("obligations/{id}"), what.clone());
    Ok(match &operation {
        Some(operation) => effect.of(operation),
        None => effect,
    })
}
