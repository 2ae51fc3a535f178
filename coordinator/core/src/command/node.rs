//! Changes of hosts.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use quorate_model::{InstanceReading, NodeName, NodeStatus};
use serde::{Deserialize, Serialize};

/// Changes of hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeCommand {
    /// A transition of the connection axis, by the leader's ticker. The same again changes nothing.
    SetStatus {
        /// Which.
        node: NodeName,
        /// READY, DISCONNECTED or DOWN.
        status: NodeStatus,
    },
    /// No new disruptive work; the caller is the owner.
    Cordon {
        /// Which.
        node: NodeName,
        /// Why, one line.
        reason: String,
    },
    /// Lifts a cordon.
    Uncordon {
        /// Which.
        node: NodeName,
    },
    /// Cordons, and takes its voters out of every count: refused when a group would lose its quorum.
    Drain {
        /// Which.
        node: NodeName,
        /// Why, one line.
        reason: String,
        /// Readings of all declared voters of the groups on it.
        evidence: Vec<InstanceReading>,
    },
    /// The last work on a draining node has ended; by the ticker.
    Drained {
        /// Which.
        node: NodeName,
    },
    /// Ends a drain; lifts the cordon it made.
    Undrain {
        /// Which.
        node: NodeName,
    },
    /// Replaces the labels.
    SetLabels {
        /// Which.
        node: NodeName,
        /// All of them.
        labels: BTreeMap<String, String>,
    },
    /// Changes some labels and leaves the others as they are when the entry is applied.
    UpdateLabels {
        /// Which.
        node: NodeName,
        /// To be set, over what is there.
        set: BTreeMap<String, String>,
        /// Keys to be taken off first.
        remove: Vec<String>,
    },
    /// Removes a host: its certificates are revoked, its executions are LOST, its number is never used again.
    Remove {
        /// Which.
        node: NodeName,
    },
}
