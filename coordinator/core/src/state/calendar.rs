//! The calendar: freezes and windows.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use quorate_model::window::CLOSING;
use quorate_model::{
    DurationMs, FreezeSpec, Occurrence, Principal, Revision, Timestamp, WindowSpec, WindowState,
};
use serde::{Deserialize, Serialize};

/// Most freezes, those that have ended included: every guard looks at each of them.
pub const FREEZES_MAX: usize = 100;
/// Most windows: every guard looks at each of them.
pub const WINDOWS_MAX: usize = 100;
/// Most openings known of one window.
pub const OPENINGS_MAX: usize = 256;

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

/// A declared window, with the openings that the leader has worked out for it.
///
/// **Architecture Invariant:** what is not known is closed. No opening is known before the leader has told them for this very
/// declaration, and none from `until` on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// As declared.
    pub spec: WindowSpec,
    /// Who declared it as it is now.
    pub applied_by: Principal,
    /// When it was first declared.
    pub created_at: Timestamp,
    /// Last change of the declaration; openings belong to one revision.
    pub revision: Revision,
    /// Until when every opening is known; none while none are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Openings in order, apart from each other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub openings: Vec<Occurrence>,
    /// The latest announcement made of each opening to come, by its start: how long before.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub announced: BTreeMap<Timestamp, DurationMs>,
}

impl Window {
    /// The opening that holds now.
    #[must_use]
    pub fn open(&self, now: Timestamp) -> Option<&Occurrence> {
        self.known(now).find(|opening| opening.holds(now))
    }

    /// Openings to come, the one that holds now not among them.
    pub fn upcoming(&self, now: Timestamp) -> impl Iterator<Item = &Occurrence> {
        self.known(now).filter(move |opening| opening.start > now)
    }

    /// Openings that are not over.
    pub fn known(&self, now: Timestamp) -> impl Iterator<Item = &Occurrence> {
        let is_known = self.until.is_some_and(|until| now < until);
        self.openings.iter().filter(move |opening| is_known && now < opening.end)
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> WindowState {
        match self.open(now) {
            Some(opening) if opening.end.since(now) < CLOSING => WindowState::Closing,
            Some(_) => WindowState::Open,
            None if self.upcoming(now).next().is_some() => WindowState::Upcoming,
            None => WindowState::Closed,
        }
    }
}
