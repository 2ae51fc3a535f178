//! Leases of the primary role.

use alloc::string::String;

use quorate_model::{DurationMs, Epoch, GroupName, NodeName};
use serde::{Deserialize, Serialize};

/// What becomes of the lease of a group's primary. It is handed out by an operation that moves the role, too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseCommand {
    /// A leader begins to answer renewals: only it does from now on, until another one begins.
    Lead {
        /// Drawn by it; not zero.
        lead: u64,
    },
    /// The one that is seen to lead gets the first lease of its group, by the ticker.
    Adopt {
        /// Which group.
        group: GroupName,
        /// Who leads.
        node: NodeName,
    },
    /// Its host keeps to it: the first renewal, before that is answered.
    Confirm {
        /// Which group.
        group: GroupName,
        /// Under which epoch.
        epoch: Epoch,
    },
    /// Its host says that nothing leads under it any more.
    Release {
        /// Which group.
        group: GroupName,
        /// Under which epoch.
        epoch: Epoch,
        /// How it ended, one line.
        message: String,
    },
    /// Nobody has renewed it for so long that its host has stopped by itself what led, by the ticker.
    Expire {
        /// Which group.
        group: GroupName,
        /// Under which epoch.
        epoch: Epoch,
        /// The proposer's own number. Its measures count only while nobody else has answered renewals since.
        lead: u64,
        /// How long the proposer has answered no renewal of it, by its monotonic clock.
        silent_for: DurationMs,
        /// How long ago the proposer began to answer renewals, by its monotonic clock.
        leads_for: DurationMs,
    },
    /// Somebody has looked at the last failover of a group: the role may be moved again at once.
    Acknowledge {
        /// Which group.
        group: GroupName,
    },
}
