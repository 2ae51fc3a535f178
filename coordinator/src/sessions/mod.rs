//! Agents' sessions: one bidirectional stream per agent, held by any coordinator.
//!
//! Job: say hello, push the node's whole work whenever it changes, take reports, propose what must be durable and
//! acknowledge it only then. Must never: queue work (the work is level-triggered), let an agent speak for another node,
//! or block one session on another.

mod leases;
mod outbound;
mod registry;
mod reports;
mod service;

pub use registry::Registry;
pub use service::{AgentSessions, SessionOptions};
