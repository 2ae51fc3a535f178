//! Quorum seen from outside, with faults of a test's own making accounted for apart.
//!
//! The promise is "never below quorum by our own hand": a test that kills members takes the group below quorum itself, and
//! that proves nothing. What is judged is each moment at which a member that the test did not touch stops serving: then
//! enough of the others must serve, or have been taken by the test so shortly before that nobody could know.

/// One look at all members: bit `i` is set when member `i` says that it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Microseconds since the history began.
    pub at_us: u64,
    /// Who serves.
    pub serving: u32,
}

/// A member that the test itself took away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Which.
    pub member: usize,
    /// When.
    pub at_us: u64,
}

/// What was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Looks judged.
    pub looks: usize,
    /// Fewest members that served, whoever took the others.
    pub fewest: Option<u32>,
    /// Fewest that served or were taken by the test.
    pub fewest_by_us: Option<u32>,
    /// Members stopped by the product.
    pub steps: usize,
    /// Members taken by the test.
    pub taken: usize,
    /// Moments at which the product stopped a member while too few of the others served.
    pub broken: Vec<String>,
}

/// How a group is judged.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Members.
    pub members: usize,
    /// How many must serve.
    pub required: u32,
    /// How old the evidence of a step may be, in microseconds.
    pub freshness_us: u64,
    /// Longest time between two looks, in microseconds.
    pub blur_us: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    NotYetSeen,
    Serving { last_us: u64 },
    Taken { at_us: u64 },
    Stopped,
}

impl Rule {
    /// Judges a run.
    #[must_use]
    pub fn judge(&self, looks: &[Look], taken: &[Taken]) -> Seen {
        let mut seen = Seen { looks: looks.len(), ..Seen::default() };
        let mut states = vec![State::NotYetSeen; self.members];
        for look in looks {
            let mut stopped = Vec::new();
            for (member, state) in states.iter_mut().enumerate() {
                if look.serving & (1 << member) != 0 {
                    *state = State::Serving { last_us: look.at_us };
                } else if let State::Serving { last_us } = *state {
                    let from = last_us.saturating_sub(self.blur_us);
                    let fault =
                        taken.iter().find(|t| t.member == member && (from..=look.at_us).contains(&t.at_us));
                    if let Some(fault) = fault {
                        *state = State::Taken { at_us: fault.at_us };
                        seen.taken += 1;
                    } else {
                        *state = State::Stopped;
                        seen.steps += 1;
                        stopped.push(member);
                    }
                }
            }
            for member in stopped {
                if let Some(why) = self.refuses(&states, member, look.at_us) {
                    seen.broken.push(why);
                }
            }
            let serving = look.serving.count_ones();
            let taken_now = states.iter().filter(|state| matches!(state, State::Taken { .. })).count();
            let ours = serving + u32::try_from(taken_now).unwrap_or(u32::MAX);
            seen.fewest = Some(seen.fewest.map_or(serving, |few| few.min(serving)));
            seen.fewest_by_us = Some(seen.fewest_by_us.map_or(ours, |few| few.min(ours)));
        }
        seen
    }

    /// Why this member should not have been stopped now.
    fn refuses(&self, states: &[State], member: usize, at_us: u64) -> Option<String> {
        let rest = states.iter().enumerate().filter(|(other, _)| *other != member);
        let counted = rest.filter(|(_, state)| match state {
            State::Serving { .. } | State::NotYetSeen => true,
            // Nobody could know yet.
            State::Taken { at_us: since } => at_us.saturating_sub(*since) <= self.freshness_us,
            State::Stopped => false,
        });
        let left = u32::try_from(counted.count()).unwrap_or(u32::MAX);
        (left < self.required).then(|| {
            format!(
                "at {at_us} us member {member} was stopped, and {left} of the others served; {} are needed",
                self.required
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule { members: 3, required: 2, freshness_us: 6_000_000, blur_us: 200_000 };

    fn looks(masks: &[u32]) -> Vec<Look> {
        masks.iter().zip(0..).map(|(serving, n)| Look { at_us: n * 100_000, serving: *serving }).collect()
    }

    #[test]
    fn one_after_the_other_is_good() {
        let seen = RULE.judge(&looks(&[7, 6, 6, 7, 5, 7, 3, 7]), &[]);
        assert_eq!((seen.steps, seen.fewest, seen.fewest_by_us), (3, Some(2), Some(2)));
        assert!(seen.broken.is_empty(), "{seen:?}");
    }

    #[test]
    fn two_at_once_and_one_too_many_are_found() {
        assert_eq!(RULE.judge(&looks(&[7, 6, 4]), &[]).broken.len(), 1);
        assert_eq!(RULE.judge(&looks(&[7, 1]), &[]).broken.len(), 2, "in one look");
        // The test took member 0 long ago, and the product stops member 1 all the same.
        let mut masks = vec![7];
        masks.extend([6; 70]);
        masks.push(4);
        let seen = RULE.judge(&looks(&masks), &[Taken { member: 0, at_us: 50_000 }]);
        assert_eq!((seen.broken.len(), seen.taken, seen.steps), (1, 1, 1), "{seen:?}");
    }

    #[test]
    fn what_the_test_took_is_not_held_against_the_product() {
        let taken = [Taken { member: 0, at_us: 150_000 }, Taken { member: 1, at_us: 350_000 }];
        let seen = RULE.judge(&looks(&[7, 7, 6, 6, 4, 4]), &taken);
        assert!(seen.broken.is_empty(), "{seen:?}");
        assert_eq!((seen.taken, seen.fewest, seen.fewest_by_us), (2, Some(1), Some(3)));
        // Stopped so shortly after that nobody could know.
        let seen = RULE.judge(&looks(&[7, 7, 6, 4, 4]), &taken[..1]);
        assert!(seen.broken.is_empty(), "{seen:?}");
    }
}
