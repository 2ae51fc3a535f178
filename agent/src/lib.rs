//! The agent on every host: a network part without privileges and a root helper without network.
//!
//! **Architecture Invariant:** an agent never sees `quorate-core`: it carries out, reports and refuses; it never decides.

pub mod actions;
pub mod config;
pub mod facts;
pub mod helper;
pub mod host;
mod notify;
pub mod options;
pub mod policy;
pub mod probes;
pub mod runner;
pub mod session;
