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
    /// Of each group the newest epoch that was met, and when it was renewed last, or met.
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

    /// When a lease was renewed last, or met; none when a newer one of its group was met.
    fn last(&mut self, group: &GroupName, epoch: Epoch, now: DurationMs) -> Option<&mut DurationMs> {
        let known = self.renewed.entry(group.clone()).or_insert((epoch, now));
        if known.0 < epoch {
            *known = (epoch, now);
        }
        // A renewal that comes late must not stand in for those of the lease that came after its own.
        (known.0 == epoch).then_some(&mut known.1)
    }

    /// Writes a renewal down before it is answered. False when it may not be answered: its lease is about to be over, or is not
    /// the newest. It is one that the state has: the epoch of whoever asks would do for all that come after.
    #[must_use]
    pub fn take_in(&mut self, group: &GroupName, epoch: Epoch, now: DurationMs) -> bool {
        if self.ending.get(group) == Some(&epoch) {
            return false;
        }
        match self.last(group, epoch, now) {
            Some(last) => {
                *last = now;
                true
            }
            None => false,
        }
    }

    /// How long nobody can have renewed a lease that the state has. One that is new is met now.
    #[must_use]
    pub fn silence(&mut self, group: &GroupName, epoch: Epoch, now: DurationMs) -> LeaseSilence {
        let leads_for = now.minus(self.since);
        let silent_for = self.last(group, epoch, now).map_or(DurationMs::ZERO, |last| now.minus(*last));
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
        lead.reopen(&group(), Epoch(1));
        assert!(lead.take_in(&group(), Epoch(1), DurationMs(66_002)));
        assert!(lead.take_in(&group(), Epoch(2), DurationMs(66_003)), "another lease is another one");
    }

    #[test]
    fn a_lease_is_silent_from_when_it_is_met_at_the_earliest() {
        let mut lead = Lead::new(7, DurationMs(90_000));
        assert_eq!(lead.close(&group(), Epoch(1), TTL, DurationMs(90_000)), None);
        assert_eq!(lead.close(&group(), Epoch(1), TTL, DurationMs(94_999)), None);
        assert!(lead.close(&group(), Epoch(1), TTL, DurationMs(95_000)).is_some());
        assert_eq!(
            lead.close(&group(), Epoch(2), TTL, DurationMs(95_001)),
            None,
            "it was handed out just now"
        );
    }

    #[test]
    fn a_late_renewal_of_an_older_lease_stands_for_nothing() {
        let mut lead = Lead::new(7, DurationMs::ZERO);
        assert!(lead.take_in(&group(), Epoch(2), DurationMs(9_000)));
        assert!(!lead.take_in(&group(), Epoch(1), DurationMs(9_001)));
        assert_eq!(lead.close(&group(), Epoch(2), TTL, DurationMs(13_999)), None);
    }
}
