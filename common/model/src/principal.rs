//! Who asks: the identity behind every call, every log entry and every audit record.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{MemberId, NodeName, ScheduleName, UserName};

words! {
    /// The role inside a certificate (`spiffe://<cluster>/<role>/<name>`).
    pub enum Role {
        /// A Raft member.
        Coordinator = "coordinator",
        /// A host's agent.
        Agent = "agent",
        /// A person or automation.
        User = "user",
    }
}

words! {
    /// What a user may do; each includes the ones before it.
    pub enum AccessRole {
        /// Reads.
        Viewer = "VIEWER",
        /// Reads, and operates services, rollouts, backups, nodes.
        Operator = "OPERATOR",
        /// Everything, with members, tokens and users.
        Admin = "ADMIN",
    }
}

/// A human, automation, agent or coordinator identity.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Principal {
    /// The control plane acting by itself: the ticker, remediation.
    System,
    /// A Raft member.
    Coordinator {
        /// Its number.
        member: MemberId,
    },
    /// A host's agent; may speak for its own node only.
    Agent {
        /// Its node.
        node: NodeName,
    },
    /// A person or automation.
    User {
        /// The name in the certificate.
        name: UserName,
    },
    /// A schedule, for operations that it started; it never calls and has no certificate.
    Schedule {
        /// Its name.
        name: ScheduleName,
    },
}

impl Principal {
    /// The certificate role, or `None` for the control plane itself and what it does by schedule.
    #[must_use]
    pub const fn role(&self) -> Option<Role> {
        match self {
            Self::System | Self::Schedule { .. } => None,
            Self::Coordinator { .. } => Some(Role::Coordinator),
            Self::Agent { .. } => Some(Role::Agent),
            Self::User { .. } => Some(Role::User),
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("system"),
            Self::Coordinator { member } => write!(f, "coordinator:{member}"),
            Self::Agent { node } => write!(f, "agent:{node}"),
            Self::User { name } => write!(f, "user:{name}"),
            Self::Schedule { name } => write!(f, "schedule:{name}"),
        }
    }
}
