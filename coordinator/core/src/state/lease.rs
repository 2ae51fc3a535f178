//! The lease under which the primary of a group leads.

use alloc::string::String;

use quorate_model::{DurationMs, Epoch, LeaseState, NodeName, OperationId, Timestamp};
use serde::{Deserialize, Serialize};

/// The last lease of a group's primary role: at most one at a time is not over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrimaryLease {
    /// Who holds it.
    pub node: NodeName,
    /// Its fencing number.
    pub epoch: Epoch,
    /// How long a renewal is good for. That of the declaration when it was handed out: a changed one counts from the next.
    pub ttl: DurationMs,
    /// How it stands.
    pub state: LeaseState,
    /// Since when so.
    pub since: Timestamp,
    /// When it was handed out.
    pub granted_at: Timestamp,
    /// Its holder led already when it was handed out: until its host keeps to it nothing makes it stop.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub adopted: bool,
    /// The operation that wants it back; its host stops what leads as soon as it learns of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recalled: Option<OperationId>,
    /// How it ended, one line.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}
