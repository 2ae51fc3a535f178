//! What is remembered beside executions: undos that are owed, and leases. Each field that a later release adds has a default.

use quorate_model::{
    ConfigSpec, Driver, DurationMs, ExecutionId, HookName, InstanceId, ObligationState, OperationId,
    ServiceName, SilenceSpec, Timestamp, TrafficSpec,
};
use serde::{Deserialize, Serialize};

use crate::runner::leases::Machine;

/// An undo that is owed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owed {
    /// The execution that owes it.
    pub execution: ExecutionId,
    /// The hook that undoes; none when something else does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook: Option<HookName>,
    /// The pool that the instance belongs into; none when it was never taken out of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<OwedTraffic>,
    /// The configuration file that nobody has confirmed yet; none when something else is owed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Box<OwedConfig>>,
    /// The file that tells the instance that it is worked on; none when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<OwedMaintenance>,
    /// It outlasts its execution: it waits for its deadline or for the coordinators' word.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
    /// For whom.
    pub instance: InstanceId,
    /// Its state.
    pub state: ObligationState,
    /// The kernel's boot id when it was taken on.
    pub boot_id: String,
    /// When the helper does it by itself, time since boot.
    pub due_uptime: DurationMs,
    /// The same on the wall clock, for people.
    pub due_at: Timestamp,
    /// What happened last, one line.
    #[serde(default)]
    pub message: String,
}

/// What must be known to put an instance back into its load balancer's pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwedTraffic {
    /// Where it belongs.
    pub traffic: TrafficSpec,
    /// What runs it: it must run.
    pub driver: Driver,
}

/// What must be known to put the configuration file from before back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwedConfig {
    /// What uses it.
    pub driver: Driver,
    /// How long a stop may take.
    pub stop_timeout: DurationMs,
    /// How long a start or a reload may take.
    pub start_timeout: DurationMs,
    /// The file.
    pub config: ConfigSpec,
    /// What was put in place: anything else is left.
    pub digest: quorate_model::Digest,
}

/// What must be known to remove a file that tells an instance that it is worked on, and to end the silence of its alerts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwedMaintenance {
    /// Where; empty for none.
    pub file: String,
    /// The operation that it names: one that names another, or none, is not ours.
    pub operation: OperationId,
    /// The silence; none when nobody was to be silenced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silence: Option<OwedSilence>,
}

/// A silence that may be there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwedSilence {
    /// Which, and where.
    pub silence: SilenceSpec,
    /// It ends by itself at the latest then. Written down before Alertmanager is asked for it, so that it is never too early.
    pub until: Timestamp,
    /// It was renewed until then, or set so.
    pub renewed: Timestamp,
    /// The work has ended, and Alertmanager could not be told: nobody renews it, and its host goes on ending it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub over: bool,
}

/// A lease that was taken up here; the newest of its group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leased {
    /// The service whose instance leads.
    pub service: ServiceName,
    /// What runs it.
    pub driver: Driver,
    /// The kernel's boot id when this record was written: its times are of that boot.
    pub boot_id: String,
    /// Where it stands.
    pub lease: Machine,
    /// When this record was last written, wall clock.
    pub at: Timestamp,
}
