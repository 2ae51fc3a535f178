//! The lease under which the primary of a group leads.

use alloc::string::String;

use quorate_model::{
    DurationMs, Epoch, FailoverState, GroupName, LeaseState, NodeName, OperationId, Timestamp,
};
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

/// Failovers that are remembered of each group; the oldest goes first.
pub const FAILOVERS_MAX: usize = 20;

/// One time that the primary role was moved, or was to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailoverRecord {
    /// By which operation.
    pub operation: OperationId,
    /// Who led.
    pub from: NodeName,
    /// Who was to lead.
    pub to: NodeName,
    /// The lease that was handed out for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
    /// The primary was well.
    pub planned: bool,
    /// Why, one line.
    pub why: String,
    /// How far it came.
    pub state: FailoverState,
    /// When it began.
    pub started_at: Timestamp,
    /// When the role was wanted back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fencing_at: Option<Timestamp>,
    /// When nobody led any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fenced_at: Option<Timestamp>,
    /// When the new one was made the primary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promoted_at: Option<Timestamp>,
    /// When the new one was seen to lead, or it was given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// The last that is known of the old primary's position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// How far the new one was behind that when it got the lease: what may be lost. None when nobody can tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<u64>,
    /// Somebody has looked at it: the role may be moved again at once.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub acknowledged: bool,
}

/// What a gate asks of the lease of a group's primary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseGate {
    /// Whose primary.
    pub group: GroupName,
    /// What must be.
    pub wants: LeaseWants,
}

/// What must be of a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseWants {
    /// It is over: nobody leads, and nobody can. Opening the gate wants it back.
    Over {
        /// Who holds it, or held it last.
        holder: NodeName,
        /// The last that was known of its position when it was planned.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        position: Option<u64>,
    },
    /// It is over, and a standby has all that is known of who held it last.
    Reached {
        /// Which standby.
        node: NodeName,
    },
    /// It is held, and the gate's instance is what it has to be: the primary there, a standby elsewhere.
    Held {
        /// By whom.
        node: NodeName,
    },
}
