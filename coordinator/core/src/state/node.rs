//! Hosts.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};

use quorate_model::{Drain, NodeId, NodeName, NodeStatus, Principal, Revision, Scheduling, Timestamp};
use serde::{Deserialize, Serialize};

use super::State;

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

/// Who keeps new disruptive work from a node, as it is shown: a person's cordon, or the operation that has it in hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cordoned {
    /// A principal, or an operation's id.
    pub owner: String,
    /// Why, one line.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

impl State {
    /// Scheduling axis.
    #[must_use]
    pub fn scheduling(&self, node: &Node) -> Scheduling {
        if self.cordoned(node).is_some() { Scheduling::Cordoned } else { Scheduling::Eligible }
    }

    /// Who keeps new disruptive work from a node. A person's cordon stays a person's: no operation takes or lifts it, and it is the
    /// one that is shown.
    ///
    /// **Invariant: an operation's cordon is nowhere written down.** It follows from the grants that the operation holds there,
    /// from the first disturbance of a lane to the end of the last, which is just as long as `fence::free` keeps others out. So
    /// nothing can be left behind: an operation that has ended holds no grant.
    #[must_use]
    pub fn cordoned(&self, node: &Node) -> Option<Cordoned> {
        if let Some(Cordon { owner, reason, since, by_drain: _ }) = &node.cordon {
            return Some(Cordoned { owner: owner.to_string(), reason: reason.clone(), since: *since });
        }
        let grant = self.grants.values().find(|grant| grant.instance.node == node.name)?;
        let operation = self.operations.get(&grant.operation);
        let why = operation.map(|o| if o.request.reason.is_empty() { &o.title } else { &o.request.reason });
        let reason = why.cloned().unwrap_or_default();
        Some(Cordoned { owner: grant.operation.to_string(), reason, since: grant.issued_at })
    }
}
