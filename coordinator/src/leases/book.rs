//! The leader's memory of renewals, on the monotonic clock of this process.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use quorate_core::State;
use quorate_core::observations::LeaseSilence;
use quorate_model::{DurationMs, Epoch, GroupName};
use tokio::time::Instant;

use super::Lead;

/// What this member remembers while it answers renewals; nothing while it does not.
#[derive(Debug)]
pub struct Book {
    started: Instant,
    inner: Mutex<Option<Lead>>,
}

impl Default for Book {
    fn default() -> Self {
        Self { started: Instant::now(), inner: Mutex::default() }
    }
}

impl Book {
    fn lock(&self) -> MutexGuard<'_, Option<Lead>> {
        // Every change under this lock is whole, so a panic elsewhere leaves nothing half changed.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> DurationMs {
        DurationMs(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// This member's number stands in the state: it answers renewals from now on.
    pub fn begin(&self, number: u64) {
        *self.lock() = Some(Lead::new(number, self.now()));
    }

    /// This member leads no more.
    pub fn end(&self) {
        *self.lock() = None;
    }

    /// The number under which it answers, if it does.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        self.lock().as_ref().map(|lead| lead.number)
    }

    /// Writes a renewal down before it is answered. Gives the number under which it may be; none when it may not be.
    #[must_use]
    pub fn take_in(&self, group: &GroupName, epoch: Epoch) -> Option<u64> {
        let mut inner = self.lock();
        let lead = inner.as_mut()?;
        lead.take_in(group, epoch, self.now()).then_some(lead.number)
    }

    /// How long nobody can have renewed each lease that is not over.
    #[must_use]
    pub fn silences(&self, state: &State) -> BTreeMap<GroupName, LeaseSilence> {
        let mut inner = self.lock();
        let Some(lead) = inner.as_mut().filter(|lead| lead.number == state.cluster.lease_lead) else {
            return BTreeMap::new();
        };
        let now = self.now();
        let held = state.groups.values().filter_map(|group| {
            let lease = group.primary.as_ref().filter(|lease| !lease.state.is_over())?;
            Some((group.spec.name.clone(), lead.silence(&group.spec.name, lease.epoch, now)))
        });
        held.collect()
    }

    /// Takes no renewal of this lease in any more, if none was for so long that it is over. Gives what was measured.
    #[must_use]
    pub fn close(&self, group: &GroupName, epoch: Epoch, ttl: DurationMs) -> Option<LeaseSilence> {
        self.lock().as_mut()?.close(group, epoch, ttl, self.now())
    }

    /// It was not taken for over after all.
    pub fn reopen(&self, group: &GroupName, epoch: Epoch) {
        if let Some(lead) = self.lock().as_mut() {
            lead.reopen(group, epoch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_taken_in_before_it_begins_or_once_it_ended() {
        let (book, group, ttl) = (Book::default(), GroupName::new("db").unwrap(), DurationMs::from_secs(4));
        assert_eq!(book.take_in(&group, Epoch(1)), None);
        book.begin(7);
        assert_eq!(book.take_in(&group, Epoch(1)), Some(7));
        book.end();
        assert_eq!((book.take_in(&group, Epoch(1)), book.number()), (None, None));
        assert_eq!(book.close(&group, Epoch(1), ttl), None, "who does not lead closes nothing");
        book.begin(8);
        assert_eq!(book.close(&group, Epoch(1), ttl), None, "who has just begun knows of no silence");
    }
}
