//! placeholder, growing
use quorate_model::{Reason, Refusal};

use super::{Context, Effect};
use crate::command::IdentityCommand;
use crate::state::State;

pub(super) fn apply(_: &mut State, _: &Context<'_>, _: &IdentityCommand) -> Result<Effect, Refusal> {
    Err(Refusal::new(Reason::Internal, "not built yet"))
}
