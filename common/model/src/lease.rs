//! The primary role as a lease: who holds it, how long a word of a coordinator is good for, and how it is moved.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::id::{Epoch, GroupName, HookName, ServiceName};
use crate::time::DurationMs;

/// Where nothing is said. Long enough for an election of the coordinators and some lost packets.
pub const LEASE_TTL: DurationMs = DurationMs::from_secs(15);
/// The shortest: below it a slow disk looks like a dead host.
pub const LEASE_TTL_MIN: DurationMs = DurationMs::from_secs(3);
/// The longest: so long nobody leads once a host is gone.
pub const LEASE_TTL_MAX: DurationMs = DurationMs::from_secs(300);
/// Longest time that a hook of a failover may be given.
pub const FAILOVER_TIMEOUT_MAX: DurationMs = DurationMs::from_secs(3_600);
/// After a failover nobody moves the role again by himself for so long, where nothing is said.
pub const HOLD_DOWN: DurationMs = DurationMs::from_secs(600);
/// Longest hold-down.
pub const HOLD_DOWN_MAX: DurationMs = DurationMs::from_secs(7 * 24 * 3_600);

words! {
    /// How the lease of a primary stands.
    pub enum LeaseState {
        /// Handed out; its host has not said yet that it keeps to it.
        Requested = "REQUESTED",
        /// Its host keeps to it.
        Held = "HELD",
        /// Its host says that nothing leads there under it any more.
        Released = "RELEASED",
        /// Nobody renewed it for so long that its host has stopped by itself what led.
        Expired = "EXPIRED",
    }
}

impl LeaseState {
    /// Whether nothing leads under it any more: only then somebody else may.
    #[must_use]
    pub const fn is_over(self) -> bool {
        match self {
            Self::Requested | Self::Held => false,
            Self::Released | Self::Expired => true,
        }
    }
}

words! {
    /// What a host says of a lease.
    pub enum LeaseHold {
        /// It keeps to it, and asks for more time.
        Held = "HELD",
        /// Nothing leads under it there, and nothing ever will again.
        Released = "RELEASED",
    }
}

words! {
    /// How a failover stands: that of a primary that is lost, and a planned one.
    pub enum FailoverState {
        /// Somebody misses the primary; others must agree.
        Suspected = "SUSPECTED",
        /// The role is to be moved.
        Confirmed = "CONFIRMED",
        /// Its holder is to stop, or its lease to run out.
        Fencing = "FENCING",
        /// Nobody leads, and nobody can.
        Fenced = "FENCED",
        /// Its heir becomes the primary.
        Promoting = "PROMOTING",
        /// Clients are led to the new primary.
        TrafficSwitching = "TRAFFIC_SWITCHING",
        /// The new primary is looked at.
        Verifying = "VERIFYING",
        /// The new primary leads and serves.
        Completed = "COMPLETED",
        /// It ended before that.
        Aborted = "ABORTED",
        /// Nobody moves the role by himself so soon after the last time.
        HoldDown = "HOLD_DOWN",
    }
}

/// How the primary role of a group is held and moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailoverSpec {
    /// How long a renewal is good for, from when its host sent it.
    pub ttl: DurationMs,
    /// The hook that makes an instance the primary, on its own host; told again it changes nothing. Of a former primary that is
    /// stopped it starts it: the role goes back there when nobody else is fit.
    pub promote: HookName,
    /// The hook that leads the clients to the new primary, on its host; none where they find it by themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switch: Option<HookName>,
    /// The hook that makes a former primary a standby of the new one, on its own host, before it is started again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejoin: Option<HookName>,
    /// Longest time of a hook, and of each wait until it is seen.
    pub timeout: DurationMs,
    /// The role is moved without being asked when the primary is lost.
    pub automatic: bool,
    /// How far a standby may be behind the last that is known of the primary, in the unit of its probe.
    pub max_lag: u64,
    /// After a failover nobody moves the role by himself for so long, unless somebody acknowledges it.
    pub hold_down: DurationMs,
}

/// The spans that follow from a lease's time to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTimes {
    /// The whole.
    pub ttl: DurationMs,
    /// Between two renewals: four of them may be lost.
    pub renew_every: DurationMs,
    /// From when the last answered renewal was sent until its host begins to stop what leads.
    pub demote_after: DurationMs,
    /// From then until it is killed.
    pub kill_after: DurationMs,
    /// What the coordinators wait on top of the whole: their clock and the host's may run 10% off, either way, which is the
    /// most that adjtimex(2) lets a clock be slewed by: 1.1 / 0.9 - 1 is less than a quarter.
    pub margin: DurationMs,
}

impl LeaseTimes {
    /// Of a time to live.
    #[must_use]
    pub const fn of(ttl: DurationMs) -> Self {
        let third = ttl.0 / 3;
        let kill = ttl.0 / 12;
        Self {
            ttl,
            renew_every: DurationMs(ttl.0 / 5),
            demote_after: DurationMs(ttl.0 - third),
            kill_after: DurationMs(ttl.0 - kill),
            margin: DurationMs(ttl.0.div_ceil(4)),
        }
    }

    /// Silence after which nothing can lead under it any more, whatever its host does.
    #[must_use]
    pub const fn silence(&self) -> DurationMs {
        self.ttl.plus(self.margin)
    }
}

/// A lease that a node holds, as its host is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldLease {
    /// Whose primary it is.
    pub group: GroupName,
    /// The service whose instance leads.
    pub service: ServiceName,
    /// Its fencing number.
    pub epoch: Epoch,
    /// How long a renewal is good for.
    pub ttl: DurationMs,
    /// It is to be given back: what leads is stopped now.
    pub recalled: bool,
}

/// A host asks for more time, or says that it needs no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRenewal {
    /// Which group.
    pub group: GroupName,
    /// Under which epoch.
    pub epoch: Epoch,
    /// Names this question; the answer carries it.
    pub nonce: u64,
    /// What is said.
    pub hold: LeaseHold,
    /// Its host has the answer to an earlier one on disk: from then on it stops by itself what leads.
    pub answered: bool,
    /// How it was released, one line.
    pub message: String,
}

/// What becomes of a renewal. One that nobody answers extends nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseAnswer {
    /// Which group.
    pub group: GroupName,
    /// Under which epoch.
    pub epoch: Epoch,
    /// Of the question.
    pub nonce: u64,
    /// It is good for its time to live from when the question was sent; otherwise it is another's, or nobody's.
    pub granted: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the two clocks do within 10%, a host has killed what leads before the coordinators take the lease for over.
    #[test]
    fn a_host_has_stopped_before_its_lease_is_taken_for_over() {
        for ttl in [LEASE_TTL_MIN, LEASE_TTL, LEASE_TTL_MAX, DurationMs(3_001), DurationMs(59_999)] {
            let times = LeaseTimes::of(ttl);
            // The slowest clock on the host, the fastest at the coordinators, in real time.
            let killed = u128::from(times.kill_after.0) * 1000 / 900;
            let over = u128::from(times.silence().0) * 1000 / 1100;
            assert!(killed < over, "{ttl}: killed after {killed} ms, over after {over} ms");
            let end = u128::from(times.ttl.0) * 1000 / 900;
            assert!(end <= over, "{ttl}: ends after {end} ms, over after {over} ms");
            assert!(times.renew_every.0 * 3 < times.demote_after.0 && times.demote_after < times.kill_after);
        }
    }
}
