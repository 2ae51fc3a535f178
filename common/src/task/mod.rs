//! The kit every long-lived part is built from: a shutdown token tree, supervised tasks, jittered backoff, signals.
//!
//! Job: start things under a name, notice when one ends or panics, stop all of them within a deadline.
//! Must never: swallow the end of a task. A part that is silently gone is worse than a process that stops.
//!
//! **Architecture Invariant:** [`Backoff`] takes its randomness from the caller, so the same code runs in simulation.

mod backoff;
mod set;
mod shutdown;
mod signals;

pub use backoff::{Backoff, BackoffPolicy, Entropy, os_seed};
pub use set::{BoxError, Exit, Service, StopReport, TaskEnd, TaskSet};
pub use shutdown::Shutdown;
pub use signals::{Hangups, stop_on_signals};
