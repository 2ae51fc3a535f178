//! `exec.run`: one hook that the host declares, for its own sake: a migration, upkeep.
//!
//! Must never: run what the host does not declare, take a word of a caller into a command (it is told the node, the service,
//! a release's version and who may take over, as names), run a hook twice, or call one done that did not say so itself.

pub(super) mod exec;
mod plan;

pub(super) use plan::judge;

#[cfg(test)]
mod tests;
