//! Hosts.

use alloc::collections::BTreeMap;
use alloc::string::String;

use quorate_model::{Drain, NodeId, NodeName, NodeStatus, Principal, Revision, Scheduling, Timestamp};
use serde::{Deserialize, Serialize};

/// Most nodes, removed ones included: about 1 KiB each.
pub const NODES_MAX: usize = 10_000;
/// Most labels of one thing.
pub const LABELS_MAX: usize = 64;
/// Longest label key or value in bytes.
pub const LABEL_MAX_BYTES: usize = 128;

/// Nodes by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nodes {
    /// The newest node of every name; a removed one stays until its name is enrolled again.
    pub by_name: BTreeMap<NodeName, Node>,
    /// The last number handed out.
    pub last: NodeId,
}

impl Nodes {
    /// A node that is not removed.
    #[must_use]
    pub fn present(&self, name: &NodeName) -> Option<&Node> {
        self.by_name.get(name).filter(|node| node.status != NodeStatus::Removed)
    }

    /// All nodes that are not removed.
    pub fn all_present(&self) -> impl Iterator<Item = &Node> {
        self.by_name.values().filter(|node| node.status != NodeStatus::Removed)
    }
}

/// Who took a node out of scheduling, why, since when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cordon {
    /// Who.
    pub owner: Principal,
    /// Why, one line.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// Made by a drain, and lifted with it.
    pub by_drain: bool,
}

/// One host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its number, never used twice.
    pub id: NodeId,
    /// Its name.
    pub name: NodeName,
    /// Labels for selectors.
    pub labels: BTreeMap<String, String>,
    /// `host` or `host:port` it was enrolled from, for people.
    pub address: String,
    /// Connection axis.
    pub status: NodeStatus,
    /// Since when it has this status.
    pub status_since: Timestamp,
    /// Set while it is cordoned.
    pub cordon: Option<Cordon>,
    /// Drain axis.
    pub drain: Drain,
    /// Since when it has this drain state.
    pub drain_since: Timestamp,
    /// When it was enrolled.
    pub enrolled_at: Timestamp,
    /// Last change.
    pub revision: Revision,
}

impl Node {
    /// Scheduling axis.
    #[must_use]
    pub const fn scheduling(&self) -> Scheduling {
        if self.cordon.is_some() { Scheduling::Cordoned } else { Scheduling::Eligible }
    }
}
