//! The session between an agent and a coordinator: `report.rs` what the agent says, `work.rs` what it is told, `action.rs` what it
//! is asked to do, `lease.rs` what both say of leases.
//!
//! Both sides use these functions, so a field is checked the same way whoever reads it.

mod action;
mod lease;
mod report;
mod work;

#[cfg(test)]
mod tests;

pub use action::{read_action, write_action};
pub use lease::{read_answer, read_held, read_renewal, write_answer, write_held, write_renewal};
pub use report::{
    FromAgent, Metric, read_execution, read_from_agent, read_hello, read_instance, read_metric,
    read_obligation, read_reading, write_execution, write_from_agent, write_hello, write_instance,
    write_metric, write_obligation, write_reading,
};
pub use work::{
    ToAgent, read_assignment, read_node_instance, read_node_probe, read_to_agent, read_welcome, read_work,
    write_assignment, write_node_instance, write_node_probe, write_to_agent, write_welcome, write_work,
};

/// Most metrics of one report (proto).
pub const METRICS_MAX: usize = 2_000;
/// Most instances of one node: as many as the process driver supervises.
pub const INSTANCES_MAX: usize = 256;
/// Most probes one node runs: 16 of each instance, its own and as a peer.
pub const NODE_PROBES_MAX: usize = 4_096;
/// Most leases of one node: one for each of its instances.
pub const LEASES_MAX: usize = INSTANCES_MAX;
/// Most executions, cancels, discharges or confirmations in one message; the runner's queue is far shorter.
pub const EXECUTIONS_MAX: usize = 1_024;
/// Most actions an agent can advertise; the vocabulary has about 40.
pub const CAPABILITIES_MAX: usize = 256;
/// Most coordinators of a cluster: 3 or 5, some under two addresses.
pub const COORDINATORS_MAX: usize = 32;
/// Most label pairs of one metric.
pub const METRIC_LABELS_MAX: usize = 16;
/// Longest short text of the session (a name, a version, a boot id), in bytes.
pub const WORD_MAX_BYTES: usize = 256;
/// Longest one-line text, in bytes.
pub const LINE_MAX_BYTES: usize = 1_024;
