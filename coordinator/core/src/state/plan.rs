//! Plans: what was asked, the computed steps, and what they rest on. Data only; `crate::plan` computes them.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use quorate_model::probe::Baseline;
use quorate_model::{
    ActionSpec, BackupId, ConfigName, DurationMs, GroupName, HookName, InstanceId, MembershipVerb,
    MigrationChoice, NodeName, OnFailure, OperationKind, PlanId, Principal, ProbeName, Revision, SecretName,
    Selector, ServiceName, StepKind, Timestamp, WavePolicy,
};
use serde::{Deserialize, Serialize};

use super::release::ReleaseRequest;
use crate::hash::Hash;

pub use super::lease::{LeaseGate, LeaseWants};

/// Plans kept; the oldest goes first.
pub const PLANS_MAX: usize = 100;
/// Most steps of one plan: an action and a gate on each of 5,000 nodes.
pub const STEPS_MAX: usize = 10_000;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// Change every member of a group, one wave after the other: learners, then voters, the leader last.
    Rollout {
        /// Which group.
        group: GroupName,
        /// What to do to each.
        change: Change,
    },
    /// One action on the selected instances of a service.
    Run {
        /// Which service.
        service: ServiceName,
        /// Which nodes.
        nodes: Selector,
        /// What.
        verb: Verb,
    },
    /// A backup of each selected instance.
    Backup {
        /// Which service.
        service: ServiceName,
        /// Which nodes.
        nodes: Selector,
    },
    /// Log rotation of each selected instance.
    Rotate {
        /// Which service.
        service: ServiceName,
        /// Which nodes.
        nodes: Selector,
    },
    /// Stored copies are read again in full, each on its node.
    Verify {
        /// Which.
        backups: Vec<BackupId>,
    },
    /// A member joins a group, or leaves it.
    Membership {
        /// Which group.
        group: GroupName,
        /// Which node.
        node: NodeName,
        /// How.
        change: MembershipVerb,
        /// Voters that may fail once a member has left; none for one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        spare: Option<u32>,
    },
    /// The primary role of a group is moved.
    Failover {
        /// Which group.
        group: GroupName,
        /// Who is to lead; none for the standby that is furthest.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<NodeName>,
        /// The primary is well, and nothing may be lost.
        planned: bool,
    },
    /// A former primary becomes a standby of the one that leads now.
    Rejoin {
        /// Which group.
        group: GroupName,
        /// Who led before.
        node: NodeName,
    },
    /// A member's data is put aside and copied anew from the others.
    Rebuild {
        /// Which group.
        group: GroupName,
        /// Which node.
        node: NodeName,
    },
    /// A reading action of the host itself.
    Host {
        /// Which nodes.
        nodes: Selector,
        /// What.
        verb: HostVerb,
    },
}

/// How a rollout changes an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Stop and start.
    Restart,
    /// Read the configuration again.
    Reload,
    /// Bring a release onto every host, then put it to use, one wave after the other.
    Release(Box<ReleaseRequest>),
    /// The same with the release that was in use before, as it is recorded.
    Undo,
    /// Bring a configuration file onto every host and have it checked there, then put it to use, one wave after the other.
    Config {
        /// Which file of the service.
        config: ConfigName,
        /// Its content.
        release: Box<ReleaseRequest>,
    },
    /// The same with the content that was in use before, as it is recorded.
    ConfigUndo {
        /// Which file of the service.
        config: ConfigName,
    },
    /// Bring a configuration file onto every host and have it checked and compared there; nothing is put to use.
    ConfigDiff {
        /// Which file of the service.
        config: ConfigName,
        /// Its content.
        release: Box<ReleaseRequest>,
    },
    /// Rotate a secret in two phases: the new one everywhere, and confirmed, before the one before is removed anywhere.
    Secret {
        /// Which secret of the service.
        secret: SecretName,
    },
    /// Run a hook that the hosts declare: upkeep, one member after the other, with the gates of any rollout.
    Run {
        /// Which.
        hook: HookName,
    },
}

impl Change {
    /// Whether it puts a release or a secret to use: only that can be rolled back.
    #[must_use]
    pub const fn installs(&self) -> bool {
        match self {
            Self::Release(_)
            | Self::Undo
            | Self::Config { .. }
            | Self::ConfigUndo { .. }
            | Self::Secret { .. } => true,
            Self::Restart | Self::Reload | Self::ConfigDiff { .. } | Self::Run { .. } => false,
        }
    }

    /// The configuration file that it is about; none when it is about the service's program.
    #[must_use]
    pub const fn config(&self) -> Option<&ConfigName> {
        match self {
            Self::Config { config, .. } | Self::ConfigUndo { config } | Self::ConfigDiff { config, .. } => {
                Some(config)
            }
            Self::Restart
            | Self::Reload
            | Self::Release(_)
            | Self::Undo
            | Self::Secret { .. }
            | Self::Run { .. } => None,
        }
    }
}

/// An action on a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// `service.status`.
    Status,
    /// `service.start`.
    Start,
    /// `service.stop`.
    Stop,
    /// `service.restart`.
    Restart,
    /// `service.reload`.
    Reload,
}

/// An action on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostVerb {
    /// `host.facts`.
    Facts,
    /// `host.diagnose`.
    Diagnose,
}

/// What a caller asks to be planned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanRequest {
    /// What is to be done.
    pub goal: Goal,
    /// Most instances worked on at once, 0 for the default: one where it disturbs, ten where it does not.
    #[serde(default)]
    pub max_unavailable: u32,
    /// Failed steps that are tolerated before it stops safely.
    #[serde(default)]
    pub max_failures: u32,
    /// Longest time of one action, none for the default of its kind.
    #[serde(default)]
    pub step_deadline: Option<DurationMs>,
    /// Longest time of one gate, none for the setting.
    #[serde(default)]
    pub gate_deadline: Option<DurationMs>,
    /// Longest active time of the whole, paused and blocked time not counted; none for no limit.
    #[serde(default)]
    pub deadline: Option<DurationMs>,
    /// How the targets are cut into waves, and what lies between two of them; only for rollouts.
    #[serde(default, skip_serializing_if = "WavePolicy::is_default")]
    pub waves: WavePolicy,
    /// What happens when more has failed than is tolerated; only for rollouts.
    #[serde(default = "abort", skip_serializing_if = "OnFailure::is_default")]
    pub on_failure: OnFailure,
    /// What becomes of the run-once hook of the service; only for a release.
    #[serde(default = "auto", skip_serializing_if = "MigrationChoice::is_default")]
    pub migration: MigrationChoice,
    /// A copy of each instance is stored before it is disturbed; only for rollouts.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub backup_first: bool,
    /// Who asks.
    pub principal: Principal,
    /// Why, one line.
    #[serde(default)]
    pub reason: String,
}

const fn abort() -> OnFailure {
    OnFailure::Abort
}

const fn auto() -> MigrationChoice {
    MigrationChoice::Auto
}

impl PlanRequest {
    /// A request with defaults.
    #[must_use]
    pub fn new(goal: Goal, principal: Principal) -> Self {
        Self {
            goal,
            max_unavailable: 0,
            max_failures: 0,
            step_deadline: None,
            gate_deadline: None,
            deadline: None,
            waves: WavePolicy::default(),
            on_failure: OnFailure::Abort,
            migration: MigrationChoice::Auto,
            backup_first: false,
            principal,
            reason: String::new(),
        }
    }
}

/// A thing a plan rests on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// A group's declaration.
    Group(GroupName),
    /// A service's declaration.
    Service(ServiceName),
    /// A node: labels, cordon, drain, removal. Its connection status is not meant: that is checked when a step starts.
    Node(NodeName),
}

/// A thing a plan rests on, and its revision then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touch {
    /// Which.
    pub resource: Resource,
    /// Its last change when the plan was made.
    pub revision: Revision,
}

/// What one step does to one group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuorumLine {
    /// Which group.
    pub group: GroupName,
    /// Declared voters.
    pub voters: u32,
    /// Needed.
    pub required: u32,
    /// Available before.
    pub up_before: u32,
    /// Available during.
    pub up_during: u32,
    /// `up_during` minus `required`; 0 means that one more failure stops writes.
    pub spare: u32,
}

/// A condition that must hold before the next step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateSpec {
    /// Whose health.
    pub instance: InstanceId,
    /// It must have been up this long without a restart.
    pub soak: DurationMs,
    /// Probes that must be stable again.
    pub probes: Vec<GateProbe>,
    /// It must have caught up, as its membership probe sees it.
    pub caught_up: bool,
    /// It must stay healthy for so long after this gate was opened, and fails at once when it does not: how a wave is looked
    /// at before the next one. The instance serves meanwhile, so its grant is given back before.
    #[serde(default, skip_serializing_if = "DurationMs::is_zero")]
    pub hold: DurationMs,
    /// Its groups must have again what they need and want to spare, with it.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub margin: bool,
    /// What the other members of a group must list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub membership: Option<MembershipGate>,
    /// What must be of the lease of a group's primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseGate>,
}

/// What a gate asks of the lists that the members of a group keep of each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembershipGate {
    /// Whose members.
    pub group: GroupName,
    /// Who is looked for.
    pub node: NodeName,
    /// It must be there, with a vote; or must not be there at all.
    pub listed: bool,
    /// The declared voters become so when it passes.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub moves: bool,
}

/// What a gate asks of a metric, compared with its value before the change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateBaseline {
    /// How far it may have moved.
    pub limits: Baseline,
    /// It is a rate, per second.
    pub rate: bool,
}

/// One probe of a gate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateProbe {
    /// Which.
    pub name: ProbeName,
    /// Consecutive passes, all newer than the step.
    pub passes: u32,
    /// Time between two readings.
    pub interval: DurationMs,
    /// Another node must agree.
    pub from_peer: bool,
    /// Its value is compared with the one before the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<GateBaseline>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanStep {
    /// Where.
    pub node: NodeName,
    /// What.
    pub kind: StepKind,
    /// The action, with `${…}` not yet filled in; none for a gate.
    pub action: Option<ActionSpec>,
    /// The gate; none for an action.
    pub gate: Option<GateSpec>,
    /// Takes a disruption grant.
    pub disruptive: bool,
    /// Longest time it may take.
    pub deadline: DurationMs,
    /// What it does to each group it touches.
    pub quorum: Vec<QuorumLine>,
    /// What takes it back, for a rollback; none when nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<ActionSpec>,
    /// For people: `1.0.0 -> 1.1.0`, or empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// Steps that run together: those of one node in order, different nodes side by side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanWave {
    /// For people: `stage`, `canary`, `leader`, or empty.
    pub label: String,
    /// In order.
    pub steps: Vec<PlanStep>,
    /// How long it is looked at before the next one; its gates carry it out.
    #[serde(default, skip_serializing_if = "DurationMs::is_zero")]
    pub hold: DurationMs,
    /// A person must promote it before the next one begins.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub promote: bool,
    /// Lanes at work at once, where they differ from those of the plan; only where nothing is disturbed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel: Option<u32>,
}

/// How long a plan will take, for people: nothing is decided by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Estimate {
    /// From how long such steps took before; none without a history of each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub typical: Option<DurationMs>,
    /// By the deadlines of its steps.
    pub at_most: DurationMs,
    /// What it rests on, one line.
    pub basis: String,
}

/// The computed steps of an operation before it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Its id.
    pub id: PlanId,
    /// sha256 over a canonical encoding of all other fields.
    pub hash: Hash,
    /// What kind of operation it makes.
    pub kind: OperationKind,
    /// What was asked.
    pub request: PlanRequest,
    /// When it was computed.
    pub created_at: Timestamp,
    /// State it was computed from.
    pub base: Revision,
    /// What it rests on; any change makes it stale.
    pub touches: Vec<Touch>,
    /// Waves in order.
    pub waves: Vec<PlanWave>,
    /// Lanes (nodes) at work at once.
    pub parallel: u32,
    /// The heading, one line.
    pub title: String,
    /// What must be known before: one sentence each.
    pub warnings: Vec<String>,
    /// The last, countable sentence.
    pub summary: String,
    /// How long it will take; none in plans of older releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimate: Option<Estimate>,
}

impl Plan {
    /// The hash its other fields give.
    #[must_use]
    pub fn computed_hash(&self) -> Hash {
        let mut bare = self.clone();
        bare.hash = Hash::default();
        crate::hash::canonical(&bare)
    }

    /// All steps in order, with the number of their wave.
    pub fn steps(&self) -> impl Iterator<Item = (usize, &PlanStep)> {
        self.waves.iter().enumerate().flat_map(|(number, wave)| wave.steps.iter().map(move |s| (number, s)))
    }
}
