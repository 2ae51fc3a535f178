//! What agents were seen to do, in memory: liveness, units, probe readings, facts, metrics.
//!
//! Job: keep the newest of everything, hand followers' observations to the leader, fold readings into one verdict per
//! instance. Must never: enter the Raft log, or survive a restart: a new leader starts every liveness clock afresh.
//!
//! **Architecture Invariant:** time here is this coordinator's own clock; an agent and another coordinator give ages, so
//! that no clock but the leader's decides how old a reading is.

mod fold;
mod report;
mod table;

#[cfg(test)]
mod tests;

pub use fold::fold;
pub use report::{NodeReport, Report, ReportedReading};
pub use table::Table;
