//! Whether the coordinators keep their own majority when one of them is taken out.
//!
//! Counted over the members that answer now, not over those that are declared: a majority that is only on paper commits
//! nothing. Who has not answered counts as down.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use quorate_model::{MemberName, QuorumPolicy, Reason, Refusal};

use super::quorum::required;

/// A coordinator with a vote, as it was seen a moment ago.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voter {
    /// Its name.
    pub name: MemberName,
    /// It answered.
    pub up: bool,
}

/// Why one of the voters may not be taken out now. One that has no vote costs no majority.
#[must_use]
pub fn removal(voters: &[Voter], leaving: &MemberName) -> Option<Refusal> {
    if voters.iter().all(|voter| voter.name != *leaving) {
        return None;
    }
    let rest: Vec<&Voter> = voters.iter().filter(|voter| voter.name != *leaving).collect();
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let (before, after) = (count(voters.len()), count(rest.len()));
    let up = count(voters.iter().filter(|voter| voter.up).count());
    let left = count(rest.iter().filter(|voter| voter.up).count());
    // The change itself needs today's majority, and everything after it the new one.
    let (now, then) = (required(&QuorumPolicy::Majority, before), required(&QuorumPolicy::Majority, after));
    if after > 0 && up >= now && left >= then {
        return None;
    }
    let what = format!("without {leaving} the coordinators would have no majority that answers");
    let mut refusal = Refusal::new(Reason::QuorumMargin, what)
        .with_detail("now", format!("{before} voters, {up} up, needs {now}"))
        .with_detail(format!("without {leaving}"), format!("{after} voters, {left} up, needs {then}"));
    let down: Vec<&str> = rest.iter().filter(|voter| !voter.up).map(|voter| voter.name.as_str()).collect();
    let hint = match down.first() {
        Some(first) => {
            refusal = refusal.with_detail("does not answer", down.join(", "));
            format!("bring {first} back first, or remove {first} instead")
        }
        None => String::from("let another coordinator join first"),
    };
    Some(refusal.with_hint(hint))
}

/// Why a cleanup of dead members stops: at least `min` are to be left.
#[must_use]
pub fn minimum(present: u32, leaving: &MemberName, min: u32) -> Option<Refusal> {
    let left = present.saturating_sub(1);
    (left < min).then(|| {
        let what = format!("without {leaving} there would be {left} coordinators, at least {min} are wanted");
        Refusal::new(Reason::QuorumMargin, what)
            .with_detail("coordinators", format!("{present} now, {left} without {leaving}"))
            .with_hint("let a new coordinator join first, or lower --min-members")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(n: usize) -> MemberName {
        MemberName::new(format!("coord{n}")).unwrap()
    }

    /// Every size that is run, every set of members that answer, and everybody as the one that leaves.
    #[test]
    fn never_below_a_majority_that_answers() {
        let mut allowed = 0;
        for size in 1..=7_usize {
            for mask in 0..1_u32 << size {
                let voters: Vec<Voter> =
                    (0..size).map(|n| Voter { name: name(n), up: mask >> n & 1 == 1 }).collect();
                for leaving in 0..size {
                    let up_now = mask.count_ones() as usize;
                    let up_then = (mask & !(1 << leaving)).count_ones() as usize;
                    // Said in another way than the guard does: more than half.
                    let safe = size > 1 && up_now * 2 > size && up_then * 2 > size - 1;
                    let refused = removal(&voters, &name(leaving));
                    assert_eq!(refused.is_none(), safe, "{size} voters, up {mask:b}, without {leaving}");
                    if let Some(refusal) = refused {
                        assert_eq!(refusal.reason(), Reason::QuorumMargin);
                        let numbers = format!("{} voters, {up_then} up", size - 1);
                        assert!(
                            refusal.why().iter().any(|(_, text)| text.starts_with(&numbers)),
                            "{refusal:?}"
                        );
                    } else {
                        allowed += 1;
                    }
                }
            }
        }
        assert!(allowed > 0, "nothing was ever allowed");
    }

    #[test]
    fn a_member_without_a_vote_costs_nothing() {
        let voters = [Voter { name: name(1), up: true }, Voter { name: name(2), up: false }];
        assert_eq!(removal(&voters, &name(3)), None);
    }

    #[test]
    fn a_minimum_counts_who_is_left() {
        assert_eq!(minimum(4, &name(1), 3), None);
        assert_eq!(minimum(3, &name(1), 3).map(|r| r.reason()), Some(Reason::QuorumMargin));
        assert!(minimum(0, &name(1), 1).is_some());
        assert_eq!(minimum(1, &name(1), 0), None);
    }
}
