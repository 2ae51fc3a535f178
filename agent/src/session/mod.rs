//! The network half: `quorate-agent`. One outbound stream to any coordinator; no privileges.
//!
//! Job: enrol, keep one session, pass work to the helper, and tell the coordinators what the helper and the probes see,
//! again until it is acknowledged. Must never: decide, touch a unit or a file of the host, listen beyond loopback, or
//! keep work that the helper has not: the journal is the helper's.
//!
//! **Architecture Invariant:** what has no acknowledgement is sent again; losing every coordinator changes nothing on
//! the host (I-21), because work comes only from a session and only the helper does it.
//!
//! `dial.rs` chooses whom to call and when, `stream.rs` is one session, `tell.rs` what it says, `hub.rs` what outlives a session, `link.rs` the
//! way to the helper, `outbox.rs` what waits for an acknowledgement (pure), `conditions.rs` what is wrong here (pure),
//! `leases.rs` renews the leases of what leads here, `artifacts.rs` fetches what the helper is to install into the `spool.rs`, `reach.rs` looks at what a pre-flight asks of the network, `enroll.rs` and `renew.rs` the identity, `remote.rs` the host as probes see it, `words.rs` what is said of calls that fail.

mod artifacts;
mod conditions;
mod daemon;
mod dial;
mod enroll;
mod hub;
mod leases;
mod link;
mod outbox;
mod reach;
mod remote;
mod renew;
mod spool;
mod stream;
mod tell;
mod words;

#[cfg(test)]
mod tests;

pub use daemon::{Fatal, Ground, run, run_on};
pub use stream::Calling;

/// Time since boot.
fn now() -> quorate_model::DurationMs {
    quorate_model::DurationMs(crate::host::clock::uptime_ms())
}
