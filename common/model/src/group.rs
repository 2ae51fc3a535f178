//! Groups: which instances form one cluster, and how many of them must be available.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::id::{GroupName, HookName, NodeName, ServiceName};
use crate::lease::FailoverSpec;
use crate::refusal::OutReason;
use crate::time::{DurationMs, Timestamp};

/// Longest time that a change of members may be given.
pub const MEMBERSHIP_TIMEOUT_MAX: DurationMs = DurationMs::from_secs(3_600);

words! {
    /// The role as the application sees it.
    pub enum InstanceRole {
        /// Not known.
        Unknown = "UNKNOWN",
        /// Leads the application's own consensus.
        Leader = "LEADER",
        /// Votes.
        Voter = "VOTER",
        /// Follows without a vote.
        Learner = "LEARNER",
        /// Holds the primary role of a pair.
        Primary = "PRIMARY",
        /// Stands by for the primary.
        Standby = "STANDBY",
        /// Neither votes nor stands by.
        Observer = "OBSERVER",
    }
}

words! {
    /// Whether an instance has caught up with its peers.
    pub enum Sync {
        /// Not known, counts as not caught up.
        Unknown = "UNKNOWN",
        /// Within the lag limit.
        CaughtUp = "CAUGHT_UP",
        /// Behind.
        Lagging = "LAGGING",
    }
}

words! {
    /// How a group stands.
    pub enum GroupState {
        /// Nothing is known of any voter yet.
        Unknown = "UNKNOWN",
        /// Margin at or above the spare wanted.
        Healthy = "HEALTHY",
        /// Quorum holds, no spare.
        AtRisk = "AT_RISK",
        /// Fewer available than required.
        QuorumLost = "QUORUM_LOST",
        /// Declared maintenance.
        Maintenance = "MAINTENANCE",
    }
}

words! {
    /// How urgent it is that a group's voters come back. In order of urgency.
    pub enum AlarmLevel {
        /// Quorum holds, and its spare.
        None = "NONE",
        /// Quorum holds and the spare is gone: one more failure, and it is lost.
        Warning = "WARNING",
        /// Quorum is lost, or no voter is known to be up.
        Critical = "CRITICAL",
    }
}

/// A declared voter that does not count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingVoter {
    /// Where.
    pub node: NodeName,
    /// Why it does not count.
    pub why: OutReason,
    /// Since when that is so, where it is recorded; never a guess.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
}

impl MissingVoter {
    /// Whether nobody can tell if it serves: its node is not heard, or nothing fresh is known of it.
    #[must_use]
    pub const fn is_unknown(&self) -> bool {
        match self.why {
            OutReason::Unreachable | OutReason::Unknown | OutReason::Stale => true,
            OutReason::Stopped
            | OutReason::Unhealthy
            | OutReason::Lagging
            | OutReason::Granted
            | OutReason::Drained => false,
        }
    }
}

words! {
    /// Which BFT formula a chain uses.
    pub enum BftRounding {
        /// ceil(2N/3), as Besu's `BftHelpers`.
        CeilTwoThirds = "CEIL_TWO_THIRDS",
        /// floor(2N/3)+1.
        FloorTwoThirdsPlusOne = "FLOOR_TWO_THIRDS_PLUS_ONE",
    }
}

/// How many voters must be available.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuorumPolicy {
    /// floor(V/2)+1.
    Majority,
    /// Byzantine quorum.
    Bft {
        /// The formula.
        rounding: BftRounding,
    },
    /// A fixed number.
    MinAvailable {
        /// How many.
        count: u32,
    },
    /// A share of the declared voters, rounded up.
    MinAvailablePercent {
        /// 1 to 100.
        percent: u32,
    },
    /// One primary with a live lease and a standby; never both disturbed.
    PrimaryStandby,
    /// No quorum: only `max_unavailable` bounds the work.
    None,
}

impl QuorumPolicy {
    /// The word used in JSON and tables.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Majority => "MAJORITY",
            Self::Bft { .. } => "BFT",
            Self::MinAvailable { .. } | Self::MinAvailablePercent { .. } => "MIN_AVAILABLE",
            Self::PrimaryStandby => "PRIMARY_STANDBY",
            Self::None => "NONE",
        }
    }
}

/// How the application is told that a member joins or leaves. The hooks are run on another member, and told which node it is
/// about; each host that may run them declares and allows them itself. Told a second time they change nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembershipSpec {
    /// The hook that adds a member.
    pub add: HookName,
    /// The hook that removes one.
    pub remove: HookName,
    /// Longest time of a hook, and of each wait until it is seen.
    pub timeout: DurationMs,
}

words! {
    /// How a node's membership of a group is changed.
    pub enum MembershipVerb {
        /// It becomes a voter.
        Add = "ADD",
        /// It is a voter no longer.
        Remove = "REMOVE",
    }
}

impl MembershipVerb {
    /// What takes it back.
    #[must_use]
    pub const fn inverse(self) -> Self {
        match self {
            Self::Add => Self::Remove,
            Self::Remove => Self::Add,
        }
    }
}

/// A group as its owner declares it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupSpec {
    /// Its name.
    pub name: GroupName,
    /// The service whose instances are the members.
    pub service: ServiceName,
    /// Declared voters: the anchor of all arithmetic, never the members seen now.
    pub voters: Vec<NodeName>,
    /// Declared non-voting members.
    #[serde(default)]
    pub learners: Vec<NodeName>,
    /// How many voters must be available.
    pub policy: QuorumPolicy,
    /// Margin to keep on top of the quorum while we work.
    #[serde(default)]
    pub spare_wanted: u32,
    /// Labels, at most 64.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// How its members are changed; none where nothing but the declaration tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub membership: Option<MembershipSpec>,
    /// How its primary role is held and moved, for a primary and its standby; none where nobody but people move it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failover: Option<FailoverSpec>,
}
