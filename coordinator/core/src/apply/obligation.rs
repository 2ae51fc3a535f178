//! placeholder, growing
use quorate_model::{Reason, Refusal};

use super::{Context, Effect};
use crate::command::ObligationCommand;
use crate::state::State;

pub(super) fn apply(_: &mut State, _: &Context<'_>, _: &ObligationCommand) -> Result<Effect, Refusal> {
    Err(Refusal::new(Reason::Internal, "not built yet"))
}
