//! Renewals of leases of the primary role: answered by the leader alone, and only while it is proved to lead.
//!
//! Job: `book.rs` remembers on the monotonic clock when each lease was last renewed, `renewals.rs` answers those that agents
//! send. Must never: answer a renewal before it is written down here and the lead is proved again after that; measure by a
//! wall clock; or let a lease be taken for over that it may still answer a renewal of.
//!
//! **Architecture Invariant:** a renewal that was answered was taken in by the member whose number stands in the state, after
//! that number was committed. Whoever leads later draws a number of its own first: what this one has measured counts no more.

mod book;
mod renewals;

pub use book::Book;
pub use renewals::{Renewals, Verdict};
