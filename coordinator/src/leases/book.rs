//! When each lease was renewed last, by the monotonic clock of this process.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quorate_core::State;
use quorate_core::observations::LeaseSilence;
use quorate_model::{DurationMs, Epoch, GroupName, LeaseTimes};
use tokio::time::Instant;

/// What this member remembers while it answers renewals; nothing while it does not.
#[derive(Debug, Default)]
pub struct Book {
    inner: Mutex<Option<Lead>>,
}

#[derive(Debug)]
struct Lead {
    number: u64,
    since: Instant,
    renewed: BTreeMap<GroupName, (Epoch, Instant)>,
    /// Leases that are about to be taken for over: no renewal of them is taken in any more.
    ending: BTreeMap<GroupName, Epoch>,
}

impl Book {
    fn lock(&self) -> MutexGuard<'_, Option<Lead>> {
        // Every change under this lock is whole, so a panic elsewhere leaves nothing half changed.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This member's number stands in the state: it answers renewals from now on.
    pub fn begin(&self, number: u64) {
        let lead = Lead { number, since: Instant::now(), renewed: BTreeMap::new(), ending: BTreeMap::new() };
        *self.lock() = Some(lead);
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
        if lead.ending.get(group) == Some(&epoch) {
            return None;
        }
        lead.renewed.insert(group.clone(), (epoch, Instant::now()));
        Some(lead.number)
    }

    /// How long nobody can have renewed each lease that is not over.
    #[must_use]
    pub fn silences(&self, state: &State) -> BTreeMap<GroupName, LeaseSilence> {
        let inner = self.lock();
        let Some(lead) = inner.as_ref().filter(|lead| lead.number == state.cluster.lease_lead) else {
            return BTreeMap::new();
        };
        let held = state.groups.values().filter_map(|group| {
            let lease = group.primary.as_ref().filter(|lease| !lease.state.is_over())?;
            Some((group.spec.name.clone(), lead.silence(&group.spec.name, lease.epoch)))
        });
        held.collect()
    }

    /// Takes no renewal of this lease in any more, if none was for so long that it is over. Gives what was measured.
    #[must_use]
    pub fn close(&self, group: &GroupName, epoch: Epoch, ttl: DurationMs) -> Option<LeaseSilence> {
        let mut inner = self.lock();
        let lead = inner.as_mut()?;
        let silence = lead.silence(group, epoch);
        if silence.silent_for.min(silence.leads_for) < LeaseTimes::of(ttl).silence() {
            return None;
        }
        lead.ending.insert(group.clone(), epoch);
        Some(silence)
    }

    /// It was not taken for over after all.
    pub fn reopen(&self, group: &GroupName, epoch: Epoch) {
        if let Some(lead) = self.lock().as_mut()
            && lead.ending.get(group) == Some(&epoch)
        {
            lead.ending.remove(group);
        }
    }
}

impl Lead {
    fn silence(&self, group: &GroupName, epoch: Epoch) -> LeaseSilence {
        let leads_for = ms(self.since.elapsed());
        let renewed = self.renewed.get(group).filter(|(of, _)| *of == epoch);
        let silent_for = renewed.map_or(leads_for, |(_, at)| ms(at.elapsed()));
        LeaseSilence { lead: self.number, epoch, silent_for, leads_for }
    }
}

fn ms(span: Duration) -> DurationMs {
    DurationMs(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group() -> GroupName {
        GroupName::new("db").unwrap()
    }

    const TTL: DurationMs = DurationMs::from_secs(4);

    #[tokio::test(start_paused = true)]
    async fn nothing_is_taken_in_before_it_begins_or_once_it_ended() {
        let book = Book::default();
        assert_eq!(book.take_in(&group(), Epoch(1)), None);
        book.begin(7);
        assert_eq!(book.take_in(&group(), Epoch(1)), Some(7));
        book.end();
        assert_eq!((book.take_in(&group(), Epoch(1)), book.number()), (None, None));
        assert_eq!(book.close(&group(), Epoch(1), TTL), None, "who does not lead closes nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_closed_only_after_its_whole_silence_and_then_not_renewed() {
        let book = Book::default();
        book.begin(7);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(book.take_in(&group(), Epoch(1)).is_some());
        tokio::time::advance(Duration::from_millis(4_999)).await;
        assert_eq!(book.close(&group(), Epoch(1), TTL), None);
        tokio::time::advance(Duration::from_millis(1)).await;
        let found = book.close(&group(), Epoch(1), TTL).unwrap();
        assert_eq!((found.silent_for, found.leads_for.0), (DurationMs(5_000), 65_000));
        assert_eq!(book.take_in(&group(), Epoch(1)), None, "it is about to be taken for over");
        assert!(book.take_in(&group(), Epoch(2)).is_some(), "another lease is another one");
        book.reopen(&group(), Epoch(1));
        assert!(book.take_in(&group(), Epoch(1)).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_just_begun_knows_of_no_silence_before() {
        let book = Book::default();
        book.begin(7);
        tokio::time::advance(Duration::from_millis(4_999)).await;
        assert_eq!(book.close(&group(), Epoch(1), TTL), None);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(book.close(&group(), Epoch(1), TTL).is_some());
    }
}
