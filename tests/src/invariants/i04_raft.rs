//! I-4: Raft's inside, at every look: one leader per term, terms and applied indexes that do not go back,
//! `purged <= snapshot <= applied <= last log`, and one history: what was applied at a place is the same everywhere and
//! for ever (the audit's hash chain covers everything applied before it).

use std::collections::BTreeMap;

use quorate_core::hash::Hash;

use crate::world::board::Look;
use crate::world::evidence::Evidence;

/// Breaches.
#[must_use]
pub fn check(evidence: &Evidence) -> Vec<String> {
    let mut breaches = Vec::new();
    let mut leaders: BTreeMap<u64, u64> = BTreeMap::new();
    let mut heads: BTreeMap<u64, (Hash, u64)> = BTreeMap::new();
    let mut last: BTreeMap<u64, &Look> = BTreeMap::new();
    for (at, look) in &evidence.looks {
        let (id, status) = (look.member, &look.status);
        if status.is_leader() {
            let first = *leaders.entry(status.term).or_insert(id);
            if first != id {
                breaches.push(format!("{at} us: {first} and {id} both led in term {}", status.term));
            }
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
    fn two_leaders_of_a_term_are_found() {
        let leads = |member, term| look(member, term, MemberRole::Leader);
        assert_eq!(judge(&[leads(1, 1), leads(2, 2), leads(1, 3)]), Vec::<String>::new());
        assert_eq!(judge(&[leads(1, 2), leads(2, 2)]), ["0 us: 1 and 2 both led in term 2"]);
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
