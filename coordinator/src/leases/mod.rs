//! Renewals of leases of the primary role: answered by the leader alone, and only while it is proved to lead.
//!
//! Job: `lead.rs` decides what is taken in and what is over (pure), `book.rs` keeps it on the monotonic clock, `renewals.rs` answers those that agents
//! send. Must never: answer a renewal before it is written down here and the lead is proved again after that; measure by a
//! wall clock; or let a lease be taken for over that it may still answer a renewal of.
//!
//! **Architecture Invariant:** a renewal that was answered was taken in by the member whose number stands in the state, after
//! that number was committed. Whoever leads later draws a number of its own first: what this one has measured counts no more.

mod book;
mod lead;
mod renewals;

#[cfg(test)]
mod tests;

pub use book::Book;
pub use lead::Lead;
pub use renewals::{Renewals, Verdict};
