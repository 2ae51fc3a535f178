//! Changes of policies.

use quorate_model::{PolicyName, PolicySpec, Revision};
use serde::{Deserialize, Serialize};

/// Changes of policies. They hold what is started after them; what waits for its approval keeps what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyCommand {
    /// Declares a policy.
    Apply {
        /// As declared.
        spec: PolicySpec,
        /// Refused with `STALE_PLAN` unless its revision is this; 0 for "must not exist".
        expect: Option<Revision>,
    },
    /// Forgets a policy.
    Delete {
        /// Which.
        name: PolicyName,
        /// Refused with `STALE_PLAN` unless its revision is this.
        expect: Option<Revision>,
    },
}
