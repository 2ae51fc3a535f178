//! What an agent and a coordinator tell each other in a session, once the messages are taken apart.
//!
//! The same things travel between the two halves of an agent, and an assignment is what the journal keeps.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::action::{ActionKind, ActionOutcome, ActionSpec};
use crate::group::InstanceRole;
use crate::id::{
    ClusterId, Epoch, ExecutionId, InstanceId, NodeName, ObligationId, OperationId, ProbeName, ServiceName,
};
use crate::lease::HeldLease;
use crate::node::NodeCondition;
use crate::number::Millionths;
use crate::observe::Listed;
use crate::operation::{ExecutionState, ObligationState};
use crate::probe::ProbeSpec;
use crate::reason::Reason;
use crate::service::{Driver, UnitStatus};
use crate::time::{DurationMs, Timestamp};

/// An action that an agent has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Capability {
    /// Its name.
    pub action: ActionKind,
    /// Version of its contract.
    pub version: u32,
}

/// First words of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The node; must be the certificate's.
    pub node: NodeName,
    /// Agent version.
    pub agent_version: String,
    /// The kernel's boot id.
    pub boot_id: String,
    /// Changes with every start of the helper; the part before the dot changes when its journal was begun anew.
    pub incarnation: String,
    /// Actions it has.
    pub capabilities: Vec<Capability>,
    /// Highest epoch its journal has seen.
    pub highest_epoch: Epoch,
    /// Executions in its journal whose end was not confirmed yet.
    pub unconfirmed: Vec<ExecutionId>,
    /// Generation of the work it has.
    pub generation: u64,
    /// A random number of this host's installation, to find clones of one identity.
    pub installation: String,
}

/// Alive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The agent's clock when it was sent.
    pub sent: Timestamp,
    /// Node clock minus coordinator clock by the last exchange, in milliseconds.
    pub clock_offset_ms: i64,
    /// Round trip of the last exchange, in microseconds; 0 before the first.
    pub round_trip_us: u64,
    /// Conditions that hold, each with one line.
    pub conditions: BTreeMap<NodeCondition, String>,
    /// Generation of the work it has.
    pub generation: u64,
}

/// One reading of a probe, as the agent that looked tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// Which instance was looked at.
    pub instance: InstanceId,
    /// Which probe.
    pub probe: ProbeName,
    /// Whether it passed.
    pub ok: bool,
    /// Consecutive passes up to this reading.
    pub passes: u32,
    /// Consecutive failures up to this reading.
    pub failures: u32,
    /// One line.
    pub detail: String,
    /// Role seen, by a membership probe.
    pub role: InstanceRole,
    /// Lag seen, by a membership probe.
    pub lag: Option<u64>,
    /// What was measured, by a metric probe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Millionths>,
    /// Whom the instance lists as members, by a membership probe; empty when nothing is told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listed: Vec<Listed>,
    /// Position in the application's own log, by a membership probe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// How long ago, on the agent's monotonic clock.
    pub age: DurationMs,
}

/// The state of one instance on its own node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceReport {
    /// Which service.
    pub service: ServiceName,
    /// Its unit; `None` when nobody could look.
    pub unit: Option<UnitStatus>,
    /// Why nobody could look, one line; empty otherwise.
    pub error: String,
    /// How long ago it was looked at.
    pub age: DurationMs,
    /// How long the current run is up; zero when it does not run.
    pub up: DurationMs,
}

/// Where an execution stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutionReport {
    /// Which.
    pub execution: ExecutionId,
    /// Its state: `ACCEPTED`, `RUNNING`, `UNKNOWN` or final.
    pub state: ExecutionState,
    /// Why, when it is not good.
    pub reason: Option<Reason>,
    /// What it gave back, when it ended.
    pub outcome: Option<ActionOutcome>,
    /// When the journal wrote it, on the agent's clock.
    pub at: Timestamp,
    /// The epoch it ran under.
    pub epoch: Epoch,
}

/// Where an obligation stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObligationReport {
    /// Which.
    pub obligation: ObligationId,
    /// The execution that owes it.
    pub execution: ExecutionId,
    /// Its state.
    pub state: ObligationState,
    /// What it undoes, one line.
    pub description: String,
    /// When the agent does it by itself, on its own clock.
    pub deadline: Timestamp,
    /// What happened, one line.
    pub message: String,
}

/// Answer to [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// Name of the coordinator.
    pub coordinator: String,
    /// Time between heartbeats.
    pub heartbeat_interval: DurationMs,
    /// Silence after which either side gives the session up.
    pub silence_limit: DurationMs,
    /// Time between pushes of metrics.
    pub metrics_interval: DurationMs,
    /// gRPC addresses of all coordinators.
    pub coordinators: Vec<String>,
    /// The cluster.
    pub cluster: ClusterId,
}

/// One execution to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Its id, the key of the journal.
    pub execution: ExecutionId,
    /// The operation it belongs to.
    pub operation: OperationId,
    /// Fencing number: an older one than the highest seen is refused.
    pub epoch: Epoch,
    /// The grant's remaining life when this was sent; zero when it needs none.
    pub grant_remaining: DurationMs,
    /// How long it may take once begun.
    pub deadline: DurationMs,
    /// What to do.
    pub action: ActionSpec,
    /// A grant is needed and held.
    pub disruptive: bool,
}

/// An instance on the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInstance {
    /// The service.
    pub service: ServiceName,
    /// What runs it.
    pub driver: Driver,
    /// Wanted to run. Informs; only executions start and stop.
    pub running: bool,
    /// Deadline of a graceful stop.
    pub stop_timeout: DurationMs,
    /// Deadline of a start.
    pub start_timeout: DurationMs,
}

/// A probe to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeProbe {
    /// Which instance is looked at.
    pub instance: InstanceId,
    /// What to do; variables are filled in.
    pub probe: ProbeSpec,
}

/// The whole work of one node, level-triggered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeWork {
    /// Differs exactly when the content differs.
    pub generation: u64,
    /// Executions that are not final, by epoch.
    pub assignments: Vec<Assignment>,
    /// Instances on the node.
    pub instances: Vec<NodeInstance>,
    /// Probes to run, of its own instances and as a peer.
    pub probes: Vec<NodeProbe>,
    /// Executions to cancel.
    pub cancels: Vec<ExecutionId>,
    /// Obligations to discharge now.
    pub discharges: Vec<ObligationId>,
    /// Obligations to close without doing what they owe: what they keep out is not fit to come back.
    pub left_out: Vec<ObligationId>,
    /// Obligations to wait longer for, and how long from when this was sent.
    pub extended: Vec<(ObligationId, DurationMs)>,
    /// Executions whose end is durable: their journal entries may be compacted.
    pub confirmed: Vec<ExecutionId>,
    /// Leases that instances on the node hold.
    pub leases: Vec<HeldLease>,
}
