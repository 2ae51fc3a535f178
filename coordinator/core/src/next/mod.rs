//! Notices that it is time: what the leader's ticker should propose now.
//!
//! Job: compare state, observations and time, and name the commands that are due. Must never: be called by `apply`, or rely
//! on a command of the last round having been applied: everything it returns may be proposed twice, or be lost.

use alloc::vec::Vec;

use quorate_model::Timestamp;

use crate::command::Command;
use crate::observations::Observations;
use crate::state::State;

/// Commands worth proposing now, in order. `mint` gives 64 random bits per call.
#[must_use]
pub fn next(
    state: &State,
    obs: &Observations,
    now: Timestamp,
    mint: &mut dyn FnMut() -> u64,
) -> Vec<Command> {
    let _ = (state, obs, now, mint());
    Vec::new()
}
