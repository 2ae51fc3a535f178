//! Changes of the calendar.

use quorate_model::{FreezeName, FreezeSpec, Revision};
use serde::{Deserialize, Serialize};

/// Changes of the calendar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CalendarCommand {
    /// Declares a freeze.
    ApplyFreeze {
        /// As declared.
        spec: FreezeSpec,
        /// Refused with `STALE_PLAN` unless its revision is this; 0 for "must not exist".
        expect: Option<Revision>,
    },
    /// Forgets a freeze; what it held goes on.
    DeleteFreeze {
        /// Which.
        name: FreezeName,
        /// Refused with `STALE_PLAN` unless its revision is this.
        expect: Option<Revision>,
    },
}
