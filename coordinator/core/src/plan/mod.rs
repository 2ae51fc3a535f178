//! Invents steps: state and a request in, a plan out.
//!
//! Job: compute waves that can be carried out without losing quorum, and say what they do to it. Must never: be called by
//! `apply`. Heuristics here may differ between releases; what they propose is checked again where it is stored and started.

use quorate_model::{Reason, Refusal, Timestamp};

use crate::observations::Observations;
use crate::state::State;
pub use crate::state::plan::{
    Change, GateProbe, GateSpec, Goal, HostVerb, Plan, PlanRequest, PlanStep, PlanWave, QuorumLine, Resource,
    Touch, Verb,
};

/// Computes a plan. `mint` gives 64 random bits per call.
///
/// # Errors
/// Why it cannot be carried out now: nothing selected, an action an agent does not have, no quorum to spend, …
pub fn plan(
    state: &State,
    obs: &Observations,
    request: &PlanRequest,
    now: Timestamp,
    mint: &mut dyn FnMut() -> u64,
) -> Result<Plan, Refusal> {
    let _ = (state, obs, request, now, mint());
    Err(Refusal::new(Reason::Internal, "not built yet"))
}
