//! The first opinion: the log index gives the serial order, so it only has to be checked.
//!
//! - Index order respects real time: whoever asks after an answer was given gets a later index (a read: not an earlier one).
//! - Every read equals the replay of all writes up to its index. An acknowledged write stands until another takes its place.
//! - A write with unknown outcome stands at one index or at none, never before it was asked for.
//!
//! Writes that came in one log entry share its index; nobody but the reads knows which of them came last.

use std::collections::{BTreeMap, BTreeSet};

use super::{Call, Op, Outcome, Violation};

/// What a check looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// Answers whose index was compared with real time.
    pub answers: usize,
    /// Acknowledged writes.
    pub written: usize,
    /// Reads compared with the replay.
    pub reads: usize,
    /// Writes with unknown outcome.
    pub unknown: usize,
    /// Those of them that somebody has seen.
    pub unknown_seen: usize,
}

/// Checks a whole history.
///
/// # Errors
/// The first violation.
pub fn check(ops: &[Op]) -> Result<Judged, Violation> {
    let floors = floors(ops);
    let mut judged = Judged { answers: real_time(&floors)?, ..Judged::default() };
    let unknown = floors.iter().filter(|(op, _)| is_unknown(op));
    let unknown: BTreeMap<&str, u64> = unknown
        .filter_map(|(op, floor)| match (&op.call, floor.and_then(Op::index)) {
            (Call::Write(value), Some(floor)) => Some((value.as_str(), floor)),
            _ => None,
        })
        .collect();
    let mut keys: BTreeMap<&str, Vec<&Op>> = BTreeMap::new();
    for op in ops {
        keys.entry(op.key.as_str()).or_default().push(op);
    }
    for ops in keys.values() {
        let key = Key::new(ops, &unknown)?;
        key.replay()?;
        judged.written += key.written.len();
        judged.reads += key.reads.len();
        judged.unknown += ops.iter().filter(|op| is_unknown(op)).count();
        judged.unknown_seen += key.seen_unknown();
    }
    Ok(judged)
}

fn is_unknown(op: &Op) -> bool {
    op.outcome == Outcome::Unknown && matches!(op.call, Call::Write(_))
}

/// The highest index of any answer given before each call, walked through in time.
fn floors(ops: &[Op]) -> Vec<(&Op, Option<&Op>)> {
    let mut by_return: Vec<&Op> = ops.iter().filter(|op| op.index().is_some()).collect();
    by_return.sort_by_key(|op| op.returned_us);
    let mut by_call: Vec<&Op> = ops.iter().collect();
    by_call.sort_by_key(|op| op.invoked_us);
    let (mut given, mut highest) = (by_return.into_iter().peekable(), None::<&Op>);
    let mut out = Vec::with_capacity(ops.len());
    for op in by_call {
        while let Some(earlier) = given.next_if(|earlier| earlier.returned_us < op.invoked_us) {
            if highest.is_none_or(|highest| highest.index() < earlier.index()) {
                highest = Some(earlier);
            }
        }
        out.push((op, highest));
    }
    out
}

fn real_time(floors: &[(&Op, Option<&Op>)]) -> Result<usize, Violation> {
    let mut answers = 0;
    for (op, floor) in floors {
        let (Some(index), Some(floor)) = (op.index(), *floor) else { continue };
        answers += 1;
        let at_least = floor.index().unwrap_or(0);
        let late_enough = match op.call {
            Call::Read => index >= at_least,
            Call::Write(_) => index > at_least,
        };
        if !late_enough {
            return Err(Violation::of("index order does not respect real time", &[floor, op]));
        }
    }
    Ok(answers)
}

/// All calls on one key.
struct Key<'a> {
    by_value: BTreeMap<&'a str, &'a Op>,
    /// Acknowledged writes by index; those of one index came in one entry.
    written: BTreeMap<u64, Vec<&'a Op>>,
    reads: Vec<(&'a Op, u64, Option<&'a str>)>,
    /// Highest index that was given before a write of unknown outcome was asked for.
    floors: &'a BTreeMap<&'a str, u64>,
}

impl<'a> Key<'a> {
    fn new(ops: &[&'a Op], floors: &'a BTreeMap<&'a str, u64>) -> Result<Self, Violation> {
        let (by_value, written, reads) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        let mut key = Self { by_value, written, reads, floors };
        for op in ops {
            if let Call::Write(value) = &op.call
                && let Some(twin) = key.by_value.insert(value, op)
            {
                return Err(Violation::of("the test wrote one value twice", &[twin, op]));
            }
            match &op.outcome {
                Outcome::Written { index } => key.written.entry(*index).or_default().push(op),
                Outcome::Found { index, value } => key.reads.push((op, *index, value.as_deref())),
                Outcome::Unknown | Outcome::Refused => {}
            }
        }
        key.reads.sort_by_key(|(op, index, _)| (*index, op.invoked_us));
        Ok(key)
    }

    fn seen_unknown(&self) -> usize {
        let seen: BTreeSet<&str> = self.reads.iter().filter_map(|(_, _, value)| *value).collect();
        seen.iter().filter(|value| self.by_value.get(*value).is_some_and(|op| is_unknown(op))).count()
    }

    /// Walks through the reads in index order. Between two acknowledged writes the value may change only to one of a write
    /// with unknown outcome, and no value comes back.
    fn replay(&self) -> Result<(), Violation> {
        let mut gone: BTreeSet<&str> = BTreeSet::new();
        let mut current: Option<(&Op, u64, Option<&str>, Option<u64>)> = None;
        for (read, index, value) in &self.reads {
            let last = self.written.range(..=*index).next_back();
            let segment = last.map(|(index, _)| *index);
            if let Some((before, at, seen, of)) = current {
                if seen == *value && of == segment {
                    continue;
                }
                if at == *index {
                    return Err(Violation::of("two reads at one index differ", &[before, read]));
                }
                gone.extend(seen);
                if value.is_some_and(|value| gone.contains(value)) {
                    return Err(Violation::of("a value came back: lost, or done twice", &[before, read]));
                }
                // Within a segment only an unknown write may take the place of what was there.
                if of == segment && !value.is_some_and(|value| self.is_unknown(value)) {
                    return Err(Violation::of("a value that was read is lost", &[before, read]));
                }
            }
            self.explain(read, *value, last)?;
            current = Some((*read, *index, *value, segment));
        }
        Ok(())
    }

    fn is_unknown(&self, value: &str) -> bool {
        self.by_value.get(value).is_some_and(|op| is_unknown(op))
    }

    /// Whether a read may show this value, the acknowledged writes being what they are.
    fn explain(
        &self,
        read: &Op,
        value: Option<&str>,
        last: Option<(&u64, &Vec<&Op>)>,
    ) -> Result<(), Violation> {
        let Some(value) = value else {
            return match last {
                None => Ok(()),
                Some((_, lost)) => Err(Violation::of("an acknowledged write is lost", &[lost[0], read])),
            };
        };
        let Some(source) = self.by_value.get(value) else {
            return Err(Violation::of("a value that nobody wrote", &[read]));
        };
        if source.invoked_us > read.returned_us {
            return Err(Violation::of("a value from the future", &[source, read]));
        }
        match &source.outcome {
            Outcome::Refused => Err(Violation::of("a refused write took effect", &[source, read])),
            Outcome::Unknown if self.floors.get(value).is_some_and(|floor| read.index() <= Some(*floor)) => {
                Err(Violation::of("a value from before it was asked for", &[source, read]))
            }
            Outcome::Unknown => Ok(()),
            Outcome::Found { .. } => Err(Violation::of("a read that wrote", &[source, read])),
            Outcome::Written { index } => match last {
                Some((at, _)) if at == index => Ok(()),
                Some((_, newer)) => {
                    Err(Violation::of("a read is not the replay at its index", &[source, newer[0], read]))
                }
                None => Err(Violation::of("a value from before it was written", &[source, read])),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::{read, refused, unknown, write};
    use super::*;

    fn rule(ops: &[Op]) -> &'static str {
        check(ops).expect_err("a bad history").rule
    }

    #[test]
    fn a_good_history_passes_and_is_counted() {
        let ops = [
            read("", (0, 1), 4),
            write("a", (2, 6), 5),
            unknown("u", (3, 9)),
            read("a", (7, 8), 5),
            read("u", (10, 11), 8),
            write("b", (12, 13), 9),
            write("c", (12, 14), 9),
            read("c", (15, 16), 9),
            read("c", (17, 18), 12),
            refused("r", (19, 20)),
            unknown("never", (21, 22)),
        ];
        let judged = check(&ops).expect("good");
        assert_eq!((judged.written, judged.reads, judged.unknown, judged.unknown_seen), (2, 5, 2, 1));
        assert_eq!(judged.answers, 7);
    }

    #[test]
    fn an_index_that_goes_back_in_time_is_found() {
        assert_eq!(
            rule(&[write("a", (0, 1), 5), read("", (2, 3), 4)]),
            "index order does not respect real time"
        );
        let other = Op { key: "other".into(), ..write("b", (2, 3), 5) };
        assert_eq!(rule(&[read("", (0, 1), 5), other]), "index order does not respect real time");
    }

    #[test]
    fn stale_lost_and_invented_values_are_found() {
        let (a, b) = (write("a", (0, 1), 5), write("b", (2, 3), 7));
        let read = |value, index| read(value, (4, 5), index);
        assert_eq!(rule(&[a.clone(), b.clone(), read("a", 7)]), "a read is not the replay at its index");
        assert_eq!(rule(&[a.clone(), b.clone(), read("", 7)]), "an acknowledged write is lost");
        assert_eq!(rule(&[a.clone(), b.clone(), read("x", 7)]), "a value that nobody wrote");
        let late = write("late", (6, 9), 20);
        assert_eq!(rule(&[a.clone(), late, read("late", 8)]), "a value from the future");
        assert_eq!(rule(&[a.clone(), refused("r", (0, 1)), read("r", 7)]), "a refused write took effect");
        assert_eq!(rule(&[a.clone(), a]), "the test wrote one value twice");
    }

    #[test]
    fn a_read_that_runs_ahead_of_its_index_is_found() {
        let ahead = [write("a", (0, 1), 5), write("b", (2, 9), 8), read("b", (3, 4), 7)];
        assert_eq!(rule(&ahead), "a read is not the replay at its index");
    }

    #[test]
    fn an_unknown_write_takes_effect_once_and_stays() {
        let base = [write("a", (0, 1), 5), unknown("u", (2, 3))];
        let with = |more: &[Op]| [base.as_slice(), more].concat();
        assert!(check(&with(&[read("a", (4, 5), 6), read("u", (6, 7), 9)])).is_ok());
        let back = with(&[read("u", (4, 5), 6), read("a", (6, 7), 7)]);
        assert_eq!(rule(&back), "a value that was read is lost");
        let twice = with(&[
            read("u", (4, 5), 6),
            write("b", (6, 7), 7),
            read("b", (8, 9), 7),
            read("u", (10, 11), 9),
        ]);
        assert_eq!(rule(&twice), "a value came back: lost, or done twice");
        // Also when nobody looked between the second write and the second time.
        let unseen = with(&[read("u", (4, 5), 6), write("b", (6, 7), 7), read("u", (10, 11), 9)]);
        assert_eq!(rule(&unseen), "a value came back: lost, or done twice");
    }

    #[test]
    fn an_unknown_write_is_later_than_what_was_answered_before_it_was_asked_for() {
        let other = Op { key: "other".into(), ..write("b", (0, 1), 9) };
        let ops = [other, unknown("u", (2, 3)), read("u", (0, 4), 9)];
        assert_eq!(rule(&ops), "a value from before it was asked for");
    }

    #[test]
    fn two_reads_of_one_index_agree() {
        let batch = [write("a", (0, 3), 5), write("b", (0, 3), 5)];
        let both = |one, other| [batch.as_slice(), &[read(one, (4, 5), 5), read(other, (6, 7), 5)]].concat();
        assert!(check(&both("b", "b")).is_ok());
        assert_eq!(rule(&both("a", "b")), "two reads at one index differ");
    }
}
