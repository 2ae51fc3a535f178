//! Notices that it is time: what the leader's ticker should propose now.
//!
//! Job: compare state, observations and time, and name the commands that are due. Must never: be called by `apply`, or rely
//! on a command of the last round having been applied: everything it returns may be proposed twice, or be lost.

mod alarm;
mod calendar;
mod executions;
mod failover;
mod instances;
mod lease;
mod nodes;
mod obligations;
mod operations;

use alloc::vec::Vec;

use quorate_model::Timestamp;

use crate::command::Command;
use crate::observations::Observations;
use crate::state::State;

/// Most commands of one round; what is left is still due in the next one.
pub const COMMANDS_MAX: usize = 256;

/// Commands worth proposing now, in order. `mint` gives 64 random bits per call.
#[must_use]
pub fn next(
    state: &State,
    obs: &Observations,
    now: Timestamp,
    mint: &mut dyn FnMut() -> u64,
) -> Vec<Command> {
    let mut due = Vec::new();
    nodes::next(state, obs, now, &mut due);
    instances::next(state, obs, now, &mut due);
    alarm::next(state, obs, now, &mut due);
    lease::next(state, obs, now, &mut due);
    executions::next(state, now, &mut due);
    obligations::next(state, now, &mut due);
    operations::next(state, obs, now, mint, &mut due);
    calendar::next(state, now, &mut due);
    due.truncate(COMMANDS_MAX);
    due
}
