//! Who may come in: certificates, users, enrolment tokens. Default deny: what is not listed is refused.

use alloc::collections::BTreeMap;
use alloc::string::String;

use quorate_model::{AccessRole, NodeName, Principal, Revision, Serial, Timestamp, TokenId, UserName};
use serde::{Deserialize, Serialize};

use crate::hash::Hash;

/// Most certificates listed: three per node of the largest fleet.
pub const IDENTITIES_MAX: usize = 30_000;
/// Most users.
pub const USERS_MAX: usize = 10_000;
/// Most tokens.
pub const TOKENS_MAX: usize = 10_000;

/// A certificate that is accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its serial number.
    pub serial: Serial,
    /// Who it stands for.
    pub principal: Principal,
    /// What a user may do; none for agents and coordinators.
    pub access: Option<AccessRole>,
    /// Its end; the entry is pruned a day later.
    pub not_after: Timestamp,
    /// When it was listed.
    pub registered_at: Timestamp,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

impl Identity {
    /// Whether it is accepted at `now`.
    #[must_use]
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && now <= self.not_after
    }
}

/// A person or an automation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The name.
    pub name: UserName,
    /// What it may do.
    pub access: AccessRole,
    /// When it was made.
    pub created_at: Timestamp,
    /// Last change.
    pub revision: Revision,
}

/// What a token admits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenPurpose {
    /// One agent.
    Agent {
        /// Only under this name.
        node: Option<NodeName>,
        /// Labels the node gets.
        labels: BTreeMap<String, String>,
    },
    /// One coordinator.
    Coordinator,
    /// One user.
    User {
        /// The name.
        name: UserName,
        /// What it may do.
        access: AccessRole,
    },
}

/// A single-use, expiring right to join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Its public part.
    pub id: TokenId,
    /// sha256 of its secret; the secret itself is never stored.
    pub secret_sha256: Hash,
    /// What it admits.
    pub purpose: TokenPurpose,
    /// Who made it.
    pub created_by: Principal,
    /// When it was made.
    pub created_at: Timestamp,
    /// Its end.
    pub expires_at: Timestamp,
    /// Who used it and when.
    pub used_by: Option<TokenUse>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// The one use of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenUse {
    /// Who joined with it.
    pub principal: Principal,
    /// When.
    pub at: Timestamp,
}
