//! What the listeners counted; `http` turns it into metrics.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Counters of one listener. Words come from fixed sets, so the map is small.
#[derive(Debug, Default)]
pub struct ListenStats(Mutex<ListenStatsSnapshot>);

/// The counters at one instant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenStatsSnapshot {
    /// Connections accepted by the kernel.
    pub accepted: u64,
    /// Failed accepts.
    pub accept_errors: u64,
    /// Connections that got as far as HTTP.
    pub served: u64,
    /// Connections refused before that, or closed for what they did, by reason word.
    pub refused: BTreeMap<&'static str, u64>,
    /// Requests refused before dispatch, by reason word.
    pub requests_refused: BTreeMap<&'static str, u64>,
}

impl ListenStats {
    /// The counters now.
    #[must_use]
    pub fn snapshot(&self) -> ListenStatsSnapshot {
        self.lock().clone()
    }

    pub(super) fn accepted(&self) {
        self.lock().accepted += 1;
    }

    pub(super) fn accept_error(&self) {
        self.lock().accept_errors += 1;
    }

    pub(super) fn served(&self) {
        self.lock().served += 1;
    }

    pub(super) fn refused(&self, reason: &'static str) {
        *self.lock().refused.entry(reason).or_default() += 1;
    }

    pub(super) fn request_refused(&self, reason: &'static str) {
        *self.lock().requests_refused.entry(reason).or_default() += 1;
    }

    /// Counters stay true even when a holder panicked: each change is one addition.
    fn lock(&self) -> MutexGuard<'_, ListenStatsSnapshot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
