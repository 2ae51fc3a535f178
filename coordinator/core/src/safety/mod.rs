//! What says no: quorum, budget, freshness, fences, freezes, windows, hand-overs, runs of schedules. Each guard returns `Option<Refusal>`; missing data is unsafe.
//!
//! Job: decide whether something may be disturbed now. Must never: plan, change the state, or look at anything but the state
//! and the evidence handed in; `apply` calls it on every replica.
//!
//! **Architecture Invariant:** the floor rests on declared voters, never on the members seen now. A voter of whom nothing is
//! known counts as out. Work on a voter that is known to be out costs nothing; one of whom nothing is known may serve all the
//! same, so it is not free to take.

pub mod alarm;
pub mod approval;
pub mod availability;
pub mod budget;
mod cover;
pub mod failover;
pub mod fence;
pub mod freeze;
pub mod gate;
pub mod handover;
pub mod lease;
pub mod members;
pub mod membership;
pub mod once;
pub mod quorum;
pub mod rebuild;
pub mod rotation;
pub mod schedule;
pub mod window;

pub use alarm::{QuorumAlarm, alarm};
pub use availability::{Availability, Evidence, VoterStatus, availability};
pub use budget::{Ask, DownCheck, check_down, disturb, disturb_all};
