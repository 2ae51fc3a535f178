//! The automation API: gRPC services over the replicated state, and the gate in front of them.
//!
//! Job: let callers in, take their messages apart, read or propose, show what came of it. Must never: change anything but
//! through [`backend::Backend::propose`] (the bytes of an upload are nothing until that lists them), decide what safety decides, or serve a request that did not come through
//! [`gate::Gate`].
//!
//! **Architecture Invariant:** a service sees only an authenticated, authorised [`caller::Caller`]; without one it answers
//! UNAUTHENTICATED. Who may call what stands in one table, [`authz::RULES`]; what an error becomes stands in one map,
//! [`status`].

pub mod authz;
pub mod backend;
pub mod caller;
pub mod gate;
pub mod ledger;
pub mod signer;
pub mod status;
pub mod watch;

mod action;
mod admin;
mod artifact;
mod audit;
mod backup;
mod context;
mod drain;
mod dryrun;
mod enroll;
mod failover;
mod fleet;
mod group;
mod health;
mod members;
mod named_artifact;
mod operation;
mod page;
mod planning;
mod policy;
mod rate;
mod replica;
mod routes;
mod schedule;
mod scheduled;
mod tokens;
pub(crate) mod view;
mod window;
mod work;

#[cfg(test)]
pub(crate) mod tests;

pub use context::{Api, ApiOptions};
pub use routes::{DECODE_LIMIT_BYTES, enrolment_routes, routes};
