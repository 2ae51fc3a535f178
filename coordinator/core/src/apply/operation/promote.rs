//! Promotion: a person lets the next wave begin.

use alloc::format;
use alloc::string::String;

use quorate_model::{ConditionReason, OperationId, OperationState, Reason, Refusal};

use super::{changed, open};
use crate::apply::{Context, Effect, step};
use crate::state::State;

/// Promotes the wave that waits; with `all`, every one that is still to be promoted. What does not wait is refused: a promote
/// that came too early would let a wave pass that nobody has looked at.
pub(super) fn apply(
    state: &mut State,
    context: &Context<'_>,
    id: &OperationId,
    all: bool,
) -> Result<Effect, Refusal> {
    let operation = open(state, id)?;
    let waits = operation.promotable();
    let may = operation.failure.is_none()
        && operation.rollback_from.is_none()
        && operation.state != OperationState::Canceling;
    let to_come = all && may && operation.waves.iter().any(|w| w.promote && w.promoted_at.is_none());
    if waits.is_none() && !to_come {
        let what = format!("no wave of {id} waits to be promoted");
        return Err(Refusal::new(Reason::WrongState, what).with_hint(format!("quorate operation show {id}")));
    }
    for (index, wave) in (0_u32..).zip(&mut operation.waves) {
        if wave.promote && wave.promoted_at.is_none() && (all || waits == Some(index)) {
            wave.promoted_at = Some(context.now);
        }
    }
    operation.conditions.retain(|held| held.reason != ConditionReason::Promotion);
    step::tidy(operation, context);
    let details = match waits {
        _ if all => String::from("all waves promoted"),
        Some(index) => format!("wave {} promoted", index.saturating_add(1)),
        None => String::from("promoted"),
    };
    Ok(changed(context, id, details))
}
