//! What a member that answers renewals remembers of them. Pure: time is given, on the monotonic clock of its process.

use std::collections::BTreeMap;

use quorate_core::observations::LeaseSilence;
use quorate_model::{DurationMs, Epoch, GroupName, LeaseTimes};

/// From when a member's number stands in the state until it ceases to lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lead {
    /// The number that it drew.
    pub number: u64,
    since: DurationMs,
    renewed: BTreeMap<GroupName, (Epoch, DurationMs)>,
    /// Leases that are about to be taken for over: no renewal of them is taken in any more.
    ending: BTreeMap<GroupName, Epoch>,
}

impl Lead {
    /// Its number has been committed by now.
    #[must_use]
    pub const fn new(number: u64, now: DurationMs) -> Self {
        Self { number, since: now, renewed: BTreeMap::new(), ending: BTreeMap::new() }
    }

    /// Writes a renewal down before it is answered. False when it may not be answered: its lease is about to be over.
    #[must_use]
    pub fn take_in(&mut self, group: &GroupName, epoch: Epoch, now: DurationMs) -> bool {
        if self.ending.get(group) == Some(&epoch) {
            return false;
        }
        self.renewed.insert(group.clone(), (epoch, now));
        true
    }

    /// How long nobody can have renewed a lease.
    #[must_use]
    pub fn silence(&self, group: &GroupName, epoch: Epoch, now: DurationMs) -> LeaseSilence {
        let leads_for = now.minus(self.since);
        let renewed = self.renewed.get(group).filter(|(of, _)| *of == epoch);
        let silent_for = renewed.map_or(leads_for, |(_, at)| now.minus(*at));
        LeaseSilence { lead: self.number, epoch, silent_for, leads_for }
    }

    /// Takes no renewal of this lease in any more, if none was for so long that it is over. Gives what was measured.
    #[must_use]
    pub fn close(
        &mut self,
        group: &GroupName,
        epoch: Epoch,
        ttl: DurationMs,
        now: DurationMs,
    ) -> Option<LeaseSilence> {
        let silence = self.silence(group, epoch, now);
        if silence.silent_for.min(silence.leads_for) < LeaseTimes::of(ttl).silence() {
            return None;
        }
        self.ending.insert(group.clone(), epoch);
        Some(silence)
    }

    /// It was not taken for over after all.
    pub fn reopen(&mut self, group: &GroupName, epoch: Epoch) {
        if self.ending.get(group) == Some(&epoch) {
            self.ending.remove(group);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: DurationMs = DurationMs::from_secs(4);

    fn group() -> GroupName {
        GroupName::new("db").unwrap()
    }

    #[test]
    fn a_lease_is_closed_only_after_its_whole_silence_and_then_not_renewed() {
        let mut lead = Lead::new(7, DurationMs(1_000));
        assert!(lead.take_in(&group(), Epoch(1), DurationMs(61_000)));
        assert_eq!(lead.close(&group(), Epoch(1), TTL, DurationMs(65_999)), None);
        let found = lead.close(&group(), Epoch(1), TTL, DurationMs(66_000)).unwrap();
        assert_eq!((found.silent_for, found.leads_for), (DurationMs(5_000), DurationMs(65_000)));
        assert!(!lead.take_in(&group(), Epoch(1), DurationMs(66_001)), "it is about to be taken for over");
        assert!(lead.take_in(&group(), Epoch(2), DurationMs(66_001)), "another lease is another one");
        lead.reopen(&group(), Epoch(1));
        assert!(lead.take_in(&group(), Epoch(1), DurationMs(66_002)));
    }

    #[test]
    fn who_has_just_begun_knows_of_no_silence_before() {
        let mut lead = Lead::new(7, DurationMs(90_000));
        assert_eq!(lead.close(&group(), Epoch(1), TTL, DurationMs(94_999)), None);
        assert!(lead.close(&group(), Epoch(1), TTL, DurationMs(95_000)).is_some());
    }
}
