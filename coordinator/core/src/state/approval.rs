//! Policies as declared, and what an operation that they cover waits for.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use quorate_model::{
    AccessRole, ApprovalState, Approvers, PolicyName, PolicySpec, Principal, Revision, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::hash::Hash;

/// Most policies: each operation is compared with every one of them when it is made.
pub const POLICIES_MAX: usize = 100;

/// A declared policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// As declared.
    pub spec: PolicySpec,
    /// Who declared it as it is now.
    pub applied_by: Principal,
    /// When it was first declared.
    pub created_at: Timestamp,
    /// Last change.
    pub revision: Revision,
}

/// What one policy asks of one operation, as the policy was when the operation was made: whoever changes or deletes it later
/// does not let go what waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    /// Which policy.
    pub policy: PolicyName,
    /// How many must approve.
    pub approvals: u32,
    /// Who may.
    pub approvers: Approvers,
    /// The policy's reason.
    pub reason: String,
}

/// What somebody has decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Who.
    pub by: Principal,
    /// What they were allowed then; none when it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<AccessRole>,
    /// Yes or no.
    pub approved: bool,
    /// The hash of the plan that they looked at.
    pub plan: Hash,
    /// Why, one line.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

/// The approval that an operation waits for, or was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Where it stands.
    pub state: ApprovalState,
    /// What the policies that cover it ask for; each of them must be satisfied.
    pub wants: Vec<Want>,
    /// What was decided, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decisions: Vec<Decision>,
    /// Until when the approvals must have been given.
    pub expires_at: Timestamp,
    /// For whom a schedule asks; that person's own approval counts for nothing either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf: Option<Principal>,
}

impl Want {
    /// Whether a decision counts for it.
    #[must_use]
    pub fn counts(&self, by: &Principal, access: Option<AccessRole>) -> bool {
        let Principal::User { name } = by else { return false };
        match &self.approvers {
            Approvers::Operators => true,
            Approvers::Role(role) => access.is_some_and(|has| has >= *role),
            Approvers::Users(users) => users.contains(name),
        }
    }

    /// Who has approved a plan as far as it is concerned, each once.
    #[must_use]
    pub fn given<'a>(&self, decisions: &'a [Decision], plan: &Hash) -> BTreeSet<&'a Principal> {
        let counts = |d: &&Decision| d.approved && d.plan == *plan && self.counts(&d.by, d.access);
        decisions.iter().filter(counts).map(|d| &d.by).collect()
    }

    /// How many approvals of a plan it still misses.
    #[must_use]
    pub fn missing(&self, decisions: &[Decision], plan: &Hash) -> u32 {
        let given = u32::try_from(self.given(decisions, plan).len()).unwrap_or(u32::MAX);
        self.approvals.saturating_sub(given)
    }
}
