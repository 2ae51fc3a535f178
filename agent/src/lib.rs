//! The agent on every host.

pub mod actions;
