//! placeholder, growing
use quorate_model::{Reason, Refusal};

use super::{Context, Effect};
use crate::command::DeclaredCommand;
use crate::state::State;

pub(super) fn apply(_: &mut State, _: &Context<'_>, _: &DeclaredCommand) -> Result<Effect, Refusal> {
    Err(Refusal::new(Reason::Internal, "not built yet"))
}
