//! Facts and metrics of the host: named collectors that read `/proc` and a few files.
//!
//! Job: tell what this machine is and how it fares, cheaply enough to ask every few seconds, with no other exporter
//! installed. Must never: block on a network file system, start a program, decide anything, or fail as a whole because one
//! source is unreadable: each collector's error is data of its own (`quorate_agent_collector_up`).
//!
//! Counters stay counters and integers stay integers; rates are the reader's work.

mod collector;
mod disks;
mod host;
mod http;
pub mod metrics;
mod reader;
mod sample;
mod system;
mod units;

#[cfg(test)]
mod tests;

pub use collector::{Collection, Collector};
pub use host::collect as host_facts;
pub use http::{DEFAULT_PORT, MetricsPage, serve};
pub use metrics::{Metric, MetricKind};
pub use sample::{Sample, Value, render};
pub use units::WatchedUnit;
