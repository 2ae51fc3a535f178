//! What the coordinators remember, one file per resource.
//!
//! Job: hold the data and answer look-ups. Must never: change itself by its own rules; `apply` does, so that every change
//! has one door. Everything here goes to disk in snapshots: fields are never renamed.

pub mod approval;
pub mod artifact;
pub mod audit;
pub mod backup;
pub mod calendar;
pub mod cluster;
pub mod declared;
pub mod dedupe;
pub mod execution;
pub mod identity;
pub mod instance;
pub mod lease;
pub mod node;
pub mod operation;
pub mod plan;
pub mod release;
pub mod schedule;
pub mod settings;
pub mod traffic;

use alloc::collections::{BTreeMap, BTreeSet};

use quorate_model::{
    BackupId, Digest, Epoch, ExecutionId, FreezeName, GroupName, NodeName, ObligationId, OperationId, PlanId,
    PolicyName, Revision, ScheduleName, Serial, ServiceName, Timestamp, TokenId, UserName, WindowName,
};
use serde::{Deserialize, Serialize};

use crate::hash::Hash;

pub use approval::{Approval, Policy};
pub use artifact::Artifact;
pub use audit::{Audit, AuditRecord};
pub use backup::Backup;
pub use calendar::{Freeze, Window};
pub use cluster::{Cluster, Member, Members};
pub use declared::{Group, RaisedAlarm, Service};
pub use dedupe::Dedupe;
pub use execution::{Execution, Grant, Obligation};
pub use identity::{Identity, Token, TokenPurpose, User};
pub use instance::{Instance, Instances};
pub use lease::{FailoverRecord, PrimaryLease};
pub use node::{Cordon, Cordoned, Node, Nodes};
pub use operation::{Condition, Operation, Step, Wave};
pub use plan::{Plan, PlanRequest};
pub use release::{InstanceRelease, ReleaseRequest, ServiceRelease};
pub use schedule::Schedule;
pub use settings::Settings;

/// The replicated state: the same on every replica after the same log index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Who we are.
    pub cluster: Cluster,
    /// The largest `Entry.at` seen; never goes back.
    pub clock: Timestamp,
    /// Log index of the last entry applied.
    pub revision: Revision,
    /// Numbers that an operator may change.
    pub settings: Settings,
    /// Hosts.
    pub nodes: Nodes,
    /// Raft members.
    pub members: Members,
    /// Certificates that are accepted, by serial number; what is not here is refused.
    pub identities: BTreeMap<Serial, Identity>,
    /// People and automations.
    pub users: BTreeMap<UserName, User>,
    /// Enrolment tokens; only hashes of their secrets.
    pub tokens: BTreeMap<TokenId, Token>,
    /// Declared services.
    pub services: BTreeMap<ServiceName, Service>,
    /// Declared groups.
    pub groups: BTreeMap<GroupName, Group>,
    /// Declared freezes, those that have ended too; at most [`calendar::FREEZES_MAX`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub freezes: BTreeMap<FreezeName, Freeze>,
    /// Declared windows; at most [`calendar::WINDOWS_MAX`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub windows: BTreeMap<WindowName, Window>,
    /// Declared policies; at most [`approval::POLICIES_MAX`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub policies: BTreeMap<PolicyName, Policy>,
    /// Declared schedules; at most [`schedule::SCHEDULES_MAX`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub schedules: BTreeMap<ScheduleName, Schedule>,
    /// Stored plans, newest [`plan::PLANS_MAX`].
    pub plans: BTreeMap<PlanId, Plan>,
    /// Operations; of the terminal ones the newest [`operation::TERMINAL_MAX`].
    pub operations: BTreeMap<OperationId, Operation>,
    /// Executions; those of operations that are kept.
    pub executions: BTreeMap<ExecutionId, Execution>,
    /// Those that are not final: most look-ups want only these, and history is long.
    pub open: BTreeSet<ExecutionId>,
    /// Disruption grants that are held; a released one lives on in its step.
    pub grants: BTreeMap<Epoch, Grant>,
    /// Undos that are owed, and the newest discharged ones.
    pub obligations: BTreeMap<ObligationId, Obligation>,
    /// The catalogue of backups.
    pub backups: BTreeMap<BackupId, Backup>,
    /// The catalogue of artifacts; their bytes lie on the members' disks.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub artifacts: BTreeMap<Digest, Artifact>,
    /// What was last decided about each instance.
    pub instances: Instances,
    /// Answers kept for repeated request ids.
    pub dedupe: Dedupe,
    /// The hash-chained log.
    pub audit: Audit,
    /// The last fencing number handed out.
    pub epoch: Epoch,
}

impl State {
    /// sha256 over a canonical encoding of everything: equal states have equal digests (tests compare replicas with it; members compare what they encode, I-7).
    #[must_use]
    pub fn digest(&self) -> Hash {
        crate::hash::canonical(self)
    }

    /// The groups in which the service's instance on this node votes or learns.
    pub fn groups_of<'a>(
        &'a self,
        service: &'a ServiceName,
        node: &'a NodeName,
    ) -> impl Iterator<Item = &'a Group> {
        self.groups.values().filter(move |group| {
            group.spec.service == *service
                && (group.spec.voters.contains(node) || group.spec.learners.contains(node))
        })
    }

    /// The executions that may still have an effect.
    pub fn all_open_executions(&self) -> impl Iterator<Item = &Execution> {
        self.open.iter().filter_map(|id| self.executions.get(id))
    }

    /// The executions on a node that may still have an effect.
    pub fn open_executions<'a>(&'a self, node: &'a NodeName) -> impl Iterator<Item = &'a Execution> {
        self.all_open_executions().filter(move |e| e.node == *node)
    }
}
