//! `service.*`: one unit's state, start, stop, restart, reload.
//!
//! Job: reach the wanted state within the service's own deadlines and show what proves it: a restart is done when another
//! run exists, not when a command returned. Must never: leave a unit stopped because a restart was canceled half way.

pub(super) mod exec;
pub(super) mod plan;

#[cfg(test)]
mod tests;
