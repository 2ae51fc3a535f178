//! The API through its gate, in process: tonic's clients and servers with a plain `State` behind them.

mod access;
mod approvals;
mod artifacts;
mod enrolment;
mod fleet;
mod groups;
mod index;
mod operations;
mod records;
mod schedule;
mod scheduled;
mod window;
pub(crate) mod world;

pub(crate) use world::World;
