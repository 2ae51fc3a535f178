//! The calendar: freezes.

use quorate_model::{FreezeSpec, Principal, Revision, Timestamp};
use serde::{Deserialize, Serialize};

/// Most freezes, those that have ended included: every guard looks at each of them.
pub const FREEZES_MAX: usize = 100;

/// A declared freeze.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    /// As declared.
    pub spec: FreezeSpec,
    /// Who declared it as it is now.
    pub applied_by: Principal,
    /// When it was first declared.
    pub created_at: Timestamp,
    /// Last change.
    pub revision: Revision,
}

impl Freeze {
    /// Since when it holds, or will: its own start, but never before it was declared.
    #[must_use]
    pub fn since(&self) -> Timestamp {
        self.spec.starts.map_or(self.created_at, |starts| starts.max(self.created_at))
    }
}
