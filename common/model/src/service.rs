//! Services: a managed workload definition, and what is seen of one instance.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::backup::{BackupPolicy, LogRotation};
use crate::config::ConfigSpec;
use crate::data::DataSpec;
use crate::id::{HookName, NodeName, ServiceName};
use crate::maintenance::MaintenanceSpec;
use crate::preflight::PreflightSpec;
use crate::probe::ProbeSpec;
use crate::release::Install;
use crate::secret::SecretSpec;
use crate::selector::Selector;
use crate::time::{DurationMs, Timestamp};
use crate::traffic::TrafficSpec;

words! {
    /// What is seen of an instance.
    pub enum InstanceState {
        /// Nothing is known; counts as out.
        Unknown = "UNKNOWN",
        /// Being started.
        Starting = "STARTING",
        /// The process runs; its probes have not passed yet.
        Running = "RUNNING",
        /// Probes pass, the soak is not over.
        Soaking = "SOAKING",
        /// Every probe is stable.
        Healthy = "HEALTHY",
        /// It runs and a probe fails.
        Unhealthy = "UNHEALTHY",
        /// Being stopped.
        Stopping = "STOPPING",
        /// Stopped on purpose or never started.
        Stopped = "STOPPED",
        /// Ended by itself, or would not start.
        Failed = "FAILED",
    }
}

words! {
    /// What its owner wants of an instance.
    pub enum DesiredState {
        /// It should run.
        Running = "RUNNING",
        /// It should be stopped.
        Stopped = "STOPPED",
    }
}

/// What keeps the instance running on its host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Driver {
    /// A systemd unit.
    Systemd {
        /// For example `scribe-node.service`.
        unit: String,
    },
    /// A process that the agent supervises itself; what it runs is declared in the host's own `agent.toml`.
    Process {
        /// The name under `[process.NAME]`.
        name: String,
    },
}

words! {
    /// When the run-once hook of a release is run.
    pub enum MigrateWhen {
        /// Before the first instance gets the release.
        Before = "BEFORE",
        /// When every instance has it and serves.
        After = "AFTER",
    }
}

/// What is run exactly once for each release: a migration of what all instances share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrateSpec {
    /// The hook; each host that may run it declares and allows it itself.
    pub hook: HookName,
    /// Longest time it may take; the host's own limit holds too.
    pub timeout: DurationMs,
    /// When.
    pub when: MigrateWhen,
    /// The hook that a rollback takes it back with; none when it stays as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<HookName>,
}

/// Longest time that a hand-over may take: an hour.
pub const HANDOVER_TIMEOUT_MAX: DurationMs = DurationMs::from_secs(3_600);

/// Most members that are named to a hand-over's hook.
pub const HANDOVER_TARGETS_MAX: usize = 100;

/// How an instance that leads hands over before it is disturbed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandoverSpec {
    /// The hook, run on the node of the instance that leads; each host that may run it declares and allows it itself.
    pub hook: HookName,
    /// Longest time until another member is seen to lead, the hook's own time included.
    pub timeout: DurationMs,
}

/// A service as its owner declares it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// Its name.
    pub name: ServiceName,
    /// What runs it.
    pub driver: Driver,
    /// The nodes that carry an instance.
    pub nodes: Selector,
    /// Probes of each instance; a service without any is judged by its unit alone.
    #[serde(default)]
    pub probes: Vec<ProbeSpec>,
    /// How long a graceful stop may take before the recorded escalation to SIGKILL.
    pub stop_timeout: DurationMs,
    /// How long a start may take until the unit is active; a reload as long.
    pub start_timeout: DurationMs,
    /// How to back an instance up.
    #[serde(default)]
    pub backup: Option<BackupPolicy>,
    /// How to rotate its logs.
    #[serde(default)]
    pub log_rotation: Option<LogRotation>,
    /// How its program is installed; none when releases of it come by other ways.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub install: Option<Install>,
    /// How an instance is taken out of its load balancer while it is worked on; none when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<TrafficSpec>,
    /// Its configuration files, at most [`crate::config::CONFIGS_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub configs: Vec<ConfigSpec>,
    /// Its secrets, at most [`crate::secret::SECRETS_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretSpec>,
    /// What is run exactly once for each release that a rollout brings; none when nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migrate: Option<MigrateSpec>,
    /// What is looked at on a host before its instance is restarted, reloaded or changed; none when nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preflight: Option<PreflightSpec>,
    /// How an instance is told that it is worked on; none when it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<MaintenanceSpec>,
    /// How an instance that leads hands over before it is disturbed; none when leadership moves by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handover: Option<HandoverSpec>,
    /// Where an instance keeps what the other members can give it again; none when nobody may put it aside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<DataSpec>,
    /// Variables per node for `${…}` in probes, for example its port.
    #[serde(default)]
    pub vars: BTreeMap<NodeName, BTreeMap<String, String>>,
    /// Labels, at most 64.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// The state of a unit or supervised process, as the host tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitStatus {
    /// `loaded`, `not-found`, `masked`, `error`.
    pub load: String,
    /// `active`, `activating`, `deactivating`, `inactive`, `failed`, `reloading`.
    pub active: String,
    /// `running`, `dead`, `exited`, …
    pub sub: String,
    /// Main process, 0 when there is none.
    pub main_pid: u32,
    /// Restarts by the supervisor since it was last started by hand.
    pub restarts: u32,
    /// Identifies this run of the unit; changes with every start.
    pub invocation_id: String,
    /// Since when it is in this active state.
    pub since: Timestamp,
    /// How the last run ended: `success`, `exit-code`, `signal`, `timeout`, … ; empty when unknown.
    pub result: String,
    /// Exit code or signal number of the last run.
    pub exit_status: i32,
    /// Whether it is started at boot.
    pub enabled: bool,
}
