//! `traffic.drain`, `traffic.restore`: take an instance out of its load balancer's pool, and put it back.
//!
//! Must never: put back what is not known to be healthy, take a pool below its minimum, call a drain done by the clock, or
//! reach a balancer that the host's own `agent.toml` does not declare.
//!
//! A drained HAProxy server stays in `drain` and is never put into `maint`: in `maint` HAProxy stops its checks, and nothing
//! would tell any more whether the server is fit to come back. The price is that a client with a persistence cookie still
//! reaches it; its sessions are counted, and a drain that does not come to zero fails. `maint` is left to people: what
//! somebody else put there is neither drained nor put back.

pub(super) mod exec;
mod haproxy;
mod nginx;
mod plan;
mod pool;
mod sockets;
mod undo;

#[cfg(test)]
mod tests;

pub use pool::Balancers;
pub(crate) use undo::undo;
