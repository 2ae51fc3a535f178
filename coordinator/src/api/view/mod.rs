//! What is shown: replicated state and observations as messages, in the shapes of contract.md.
//!
//! Must never: decide. A group's numbers come from `quorate_core::safety`, the same code that says no.

pub(crate) mod artifact;
pub(crate) mod audit;
pub(crate) mod backup;
pub(crate) mod calendar;
pub(crate) mod failover;
pub(crate) mod group;
pub(crate) mod member;
pub(crate) mod node;
pub(crate) mod operation;
pub(crate) mod plan;
pub(crate) mod policy;
pub(crate) mod schedule;
pub(crate) mod token;
pub(crate) mod window;
