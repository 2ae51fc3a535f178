//! The control plane itself: its id, its trust, its members.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use quorate_model::{ClusterId, MemberId, MemberName, Timestamp};
use serde::{Deserialize, Serialize};

/// Most members, removed ones not counted: more voters make every write slower, and nobody runs more than seven.
pub const MEMBERS_MAX: usize = 9;

/// Who we are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Minted at `init`; none before.
    pub id: Option<ClusterId>,
    /// A name for people.
    pub name: String,
    /// CA certificates trusted now, PEM; two during a rotation.
    pub ca_pems: Vec<String>,
    /// When it was initialised.
    pub created_at: Timestamp,
    /// Drawn by the member that answers renewals of leases, when it begins to: what another one measured before counts no
    /// more. Zero before the first.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lease_lead: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Raft members by number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    /// Every member that ever was, removed ones too: their numbers are never handed out again.
    pub by_id: BTreeMap<MemberId, Member>,
    /// The last number handed out; the first member of a cluster is number 1.
    pub last: MemberId,
}

impl Members {
    /// The members that are not removed.
    pub fn present(&self) -> impl Iterator<Item = &Member> {
        self.by_id.values().filter(|member| member.removed_at.is_none())
    }

    /// The number of a member with which a cluster begins again at this time. Lost members may have handed out numbers that nobody
    /// here knows of, one for each join; no cluster has as many joins as seconds have passed since 1970, and a second beginning
    /// comes later than the first.
    #[must_use]
    pub fn refounded(&self, now: Timestamp) -> MemberId {
        let seconds = u64::try_from(now.0 / 1_000).unwrap_or(0);
        MemberId(self.last.next().0.max(seconds))
    }

    /// A member that is not removed, by name.
    #[must_use]
    pub fn named(&self, name: &MemberName) -> Option<&Member> {
        self.present().find(|member| member.name == *name)
    }
}

/// One coordinator process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its number.
    pub id: MemberId,
    /// Its name.
    pub name: MemberName,
    /// `host:port` of its gRPC port.
    pub grpc: String,
    /// `host:port` of its HTTP port.
    pub http: String,
    /// When it was admitted.
    pub joined_at: Timestamp,
    /// When it was removed.
    pub removed_at: Option<Timestamp>,
    /// It has no vote and gets none until somebody promotes it.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub standby: bool,
}
