//! The root half: `quorate-helper`. No network; the journal, the runner, the actions and the host's policy are here.
//!
//! Job: take typed requests from the network half over a local socket and carry them out within the host's own policy.
//! Must never: open a network connection but to loopback hooks, trust a peer that the kernel does not vouch for, or act
//! on a request that does not parse. Reason: whoever takes over the network half must gain nothing that the host does not
//! list.
//!
//! **Architecture Invariant:** nothing here depends on a coordinator being there: what is owed is paid, what is in hand is
//! finished.

mod client;
mod daemon;
mod inside;
pub mod protocol;
mod server;
mod units;

pub use client::{Client, Connecting, Listener, Way, Wire, may_lead};
pub use daemon::{Fatal, reset_journal, run};
pub use inside::Inside;
pub(crate) use quorate_common::telemetry::error_text;
