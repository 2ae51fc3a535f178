//! Commands: everything that can change the state, one family per file, and the log entry that carries one.
//!
//! Job: name each change and carry all it needs. Must never: hold behaviour; `apply` does. They go to disk in the log: a
//! released variant or field is never renamed.

mod alarm;
mod artifact;
mod calendar;
mod cluster;
mod declared;
mod intent;
mod lease;
mod node;
mod operation;
mod policy;
mod schedule;
mod work;

use alloc::boxed::Box;
use alloc::string::String;

use quorate_model::{Principal, RequestId, Timestamp};
use serde::{Deserialize, Serialize};

pub use alarm::AlarmCommand;
pub use artifact::ArtifactCommand;
pub use calendar::CalendarCommand;
pub use cluster::{ClusterCommand, IdentityCommand, Join, NewCertificate, TokenCommand};
pub use declared::{DeclaredCommand, InstanceChange, InstanceCommand};
pub use lease::LeaseCommand;
pub use node::NodeCommand;
pub use operation::{OperationCommand, StepCommand};
pub use policy::PolicyCommand;
pub use schedule::{Attempt, ScheduleCommand};
pub use work::{AuditCommand, BackupCommand, ExecutionCommand, ObligationCommand, Report};

/// Where a call came from, for the audit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Address of the caller; empty when it is the control plane itself.
    #[serde(default)]
    pub client_ip: String,
    /// The caller's `--reason`.
    #[serde(default)]
    pub reason: String,
}

/// One entry of the replicated log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The proposer's clock; `apply` uses the larger of this and the state's clock.
    pub at: Timestamp,
    /// Who asks, as authenticated where the call came in.
    pub principal: Principal,
    /// The caller's id of the request; same id, same answer for 24 hours.
    #[serde(default)]
    pub request_id: Option<RequestId>,
    /// What is to change.
    pub command: Command,
    /// Where the call came from.
    #[serde(default)]
    pub origin: Origin,
}

impl Entry {
    /// An entry of the control plane itself.
    #[must_use]
    pub fn system(at: Timestamp, command: Command) -> Self {
        Self::new(at, Principal::System, None, command)
    }

    /// An entry without origin.
    #[must_use]
    pub fn new(at: Timestamp, principal: Principal, request_id: Option<RequestId>, command: Command) -> Self {
        Self { at, principal, request_id, command, origin: Origin::default() }
    }

    /// Adds where the call came from.
    #[must_use]
    pub fn with_origin(mut self, origin: Origin) -> Self {
        self.origin = origin;
        self
    }
}

/// A change, by family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// The control plane itself.
    Cluster(ClusterCommand),
    /// Enrolment tokens.
    Token(TokenCommand),
    /// Certificates and users.
    Identity(IdentityCommand),
    /// Hosts.
    Node(NodeCommand),
    /// Services and groups.
    Declared(Box<DeclaredCommand>),
    /// Freezes and windows.
    Calendar(Box<CalendarCommand>),
    /// Policies.
    Policy(Box<PolicyCommand>),
    /// Schedules and their runs.
    Schedule(Box<ScheduleCommand>),
    /// Instances.
    Instance(InstanceCommand),
    /// Plans and operations.
    Operation(Box<OperationCommand>),
    /// Steps of operations.
    Step(StepCommand),
    /// Executions on nodes.
    Execution(Box<ExecutionCommand>),
    /// Undos that are owed.
    Obligation(ObligationCommand),
    /// The catalogue of backups.
    Backup(BackupCommand),
    /// The catalogue of artifacts.
    Artifact(ArtifactCommand),
    /// The hash-chained log.
    Audit(AuditCommand),
    /// Alarms of groups.
    Alarm(AlarmCommand),
    /// Leases of the primary role.
    Lease(LeaseCommand),
}
