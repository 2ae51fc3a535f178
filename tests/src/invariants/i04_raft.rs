//! I-4: Raft's inside, at every look: nobody leads a term that it has lost, terms and applied indexes do not go back,
//! `purged <= snapshot <= applied <= last log`, and there is one history: what was applied at a place is the same
//! everywhere and for ever (the audit's hash chain covers everything applied before it).
//!
//! Two members may lead one term: openraft's leaders are ordered by term and then by number (its `LeaderId`; entries carry
//! both), and a voter may pass from the lower number to the higher one within a term as it passes from term to term. What
//! the lower one began and did not commit is replaced then, which the one history shows. A vote never passes back, so a
//! member that stopped leading a term leads a later one next.

use std::collections::BTreeMap;

use quorate_core::hash::Hash;

use crate::world::board::Look;
use crate::world::evidence::Evidence;

/// Breaches.
#[must_use]
pub fn check(evidence: &Evidence) -> Vec<String> {
    let mut breaches = Vec::new();
    let mut lost: BTreeMap<u64, u64> = BTreeMap::new();
    let mut heads: BTreeMap<u64, (Hash, u64)> = BTreeMap::new();
    let mut last: BTreeMap<u64, &Look> = BTreeMap::new();
    for (at, look) in &evidence.looks {
        let (id, status) = (look.member, &look.status);
        if status.is_leader() && lost.get(&id).is_some_and(|term| *term >= status.term) {
            breaches.push(format!("{at} us: {id} leads term {} again, which it had lost", status.term));
        }
        let bounds = [status.purged, status.snapshot, status.applied, status.last_log];
        if !bounds.is_sorted() {
            breaches.push(format!("{at} us: member {id} has purged, snapshot, applied, last {bounds:?}"));
        }
        let (seq, hash) = look.head;
        let (known, by) = *heads.entry(seq).or_insert((hash, id));
        if known != hash {
            breaches.push(format!("{at} us: members {by} and {id} differ at place {seq} of the audit"));
        }
        if let Some(before) = last.get(&id) {
            // One that starts again goes on with the term that it led: nobody was told of another.
            if before.status.is_leader() && !status.is_leader() && before.start == look.start {
                lost.insert(id, before.status.term);
            }
            if status.term < before.status.term {
                let (from, to) = (before.status.term, status.term);
                breaches.push(format!("{at} us: the term of member {id} went from {from} back to {to}"));
            }
            if before.start == look.start && look.revision < before.revision {
                breaches.push(format!(
                    "{at} us: member {id} went from {} back to {}",
                    before.revision, look.revision
                ));
            }
        }
        last.insert(id, look);
    }
    breaches
}

#[cfg(test)]
mod tests {
    use quorate_coordinator::raft::{MemberRole, RaftStatus};

    use super::*;

    fn look(member: u64, term: u64, role: MemberRole) -> Look {
        let status = RaftStatus {
            member_id: member,
            role,
            term,
            leader: None,
            last_log: 9,
            applied: 8,
            snapshot: 5,
            purged: 3,
            quorum_ack_ms: None,
            members: Vec::new(),
            failure: None,
        };
        Look { member, start: 1, status, revision: 8, head: (4, Hash::of(b"4")) }
    }

    fn judge(looks: &[Look]) -> Vec<String> {
        let looks = looks.iter().cloned().map(|look| (0, look)).collect();
        check(&Evidence { looks, ..Evidence::default() })
    }

    #[test]
    fn who_leads_a_lost_term_again_is_found() {
        let leads = |member, term| look(member, term, MemberRole::Leader);
        let follows = |member, term| look(member, term, MemberRole::Follower);
        assert_eq!(judge(&[leads(1, 1), leads(2, 2), leads(1, 3)]), Vec::<String>::new());
        let passed = [leads(1, 2), leads(2, 2), follows(1, 2), leads(1, 3)];
        assert_eq!(judge(&passed), Vec::<String>::new(), "within a term it passes to a higher number");
        let back = [leads(1, 2), leads(2, 2), follows(1, 2), leads(1, 2)];
        assert_eq!(judge(&back), ["0 us: 1 leads term 2 again, which it had lost"]);
    }

    #[test]
    fn going_back_and_impossible_bounds_are_found() {
        let at = |term| look(1, term, MemberRole::Follower);
        assert!(judge(&[at(5), at(4)])[0].contains("back to 4"));
        let mut behind = at(5);
        behind.revision = 7;
        assert!(judge(&[at(5), behind.clone()])[0].contains("from 8 back to 7"));
        behind.start = 2;
        assert_eq!(judge(&[at(5), behind]), Vec::<String>::new(), "a restart replays");
        let mut odd = at(5);
        odd.status.purged = 6;
        assert!(judge(&[odd])[0].contains("purged, snapshot"));
    }

    #[test]
    fn a_fork_is_found() {
        let mut other = look(2, 1, MemberRole::Follower);
        other.head.1 = Hash::of(b"other");
        assert!(judge(&[look(1, 1, MemberRole::Follower), other])[0].contains("differ at place 4"));
    }
}
