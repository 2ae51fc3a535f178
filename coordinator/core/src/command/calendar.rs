//! Changes of the calendar.

use alloc::vec::Vec;

use quorate_model::{
    DurationMs, FreezeName, FreezeSpec, Occurrence, Revision, Timestamp, WindowName, WindowSpec,
};
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
    /// Declares a window. It is closed until its openings are told.
    ApplyWindow {
        /// As declared.
        spec: WindowSpec,
        /// Refused with `STALE_PLAN` unless its revision is this; 0 for "must not exist".
        expect: Option<Revision>,
    },
    /// Forgets a window; what it held goes on.
    DeleteWindow {
        /// Which.
        name: WindowName,
        /// Refused with `STALE_PLAN` unless its revision is this.
        expect: Option<Revision>,
    },
    /// Tells the openings of a window. The leader works them out: the core has no time zones.
    SetOpenings {
        /// Which window.
        name: WindowName,
        /// Revision of the declaration that they belong to.
        revision: Revision,
        /// Until when every opening is among them.
        until: Timestamp,
        /// In order, apart from each other.
        openings: Vec<Occurrence>,
    },
    /// Announces an opening.
    Announce {
        /// Of which window.
        window: WindowName,
        /// When it opens.
        start: Timestamp,
        /// Which of the window's announcements it is: how long before.
        before: DurationMs,
    },
}
