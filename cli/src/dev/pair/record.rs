//! One line of the log: `epoch sequence key value at`.
//!
//! Pure. An epoch and a sequence number name a line for ever: in one epoch only one instance writes.

use std::fmt;

/// Longest key, in bytes.
const MAX_KEY_BYTES: usize = 128;
/// Longest value, in bytes.
const MAX_VALUE_BYTES: usize = 1024;

/// One accepted write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// Of the primary that accepted it.
    pub(super) epoch: u64,
    /// Its place in the log, from 1, without a gap.
    pub(super) sequence: u64,
    pub(super) key: String,
    pub(super) value: String,
    /// When it was accepted, in microseconds of CLOCK_BOOTTIME.
    pub(super) at: u64,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { epoch, sequence, key, value, at } = self;
        write!(f, "{epoch} {sequence} {key} {value} {at}")
    }
}

impl Record {
    /// Reads a line without its end. `None`: it is none.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let record = Self {
            epoch: words.next()?.parse().ok()?,
            sequence: words.next()?.parse().ok()?,
            key: words.next()?.to_owned(),
            value: words.next()?.to_owned(),
            at: words.next()?.parse().ok()?,
        };
        let whole = words.next().is_none() && check(&record.key, &record.value).is_ok();
        whole.then_some(record)
    }
}

/// Reads whole lines. The error is the first that is none.
pub(super) fn parse_all(text: &str) -> Result<Vec<Record>, String> {
    text.lines().map(|line| Record::parse(line).ok_or_else(|| line.to_owned())).collect()
}

/// A key and a value are words: they stand in a line.
pub(super) fn check(key: &str, value: &str) -> Result<(), String> {
    for (what, text, limit) in [("key", key, MAX_KEY_BYTES), ("value", value, MAX_VALUE_BYTES)] {
        if text.is_empty() || text.len() > limit {
            return Err(format!("a {what} has 1 to {limit} bytes, this one has {}", text.len()));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!("a {what} is one word of printable ASCII"));
        }
    }
    Ok(())
}

/// Where an epoch begins in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Run {
    pub(super) epoch: u64,
    /// Its first sequence number.
    pub(super) from: u64,
}

/// What a log looks like: its epochs, and its last sequence number.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Outline {
    pub(super) runs: Vec<Run>,
    pub(super) last: u64,
}

impl Outline {
    pub(super) fn of(records: &[Record]) -> Self {
        let mut outline = Self::default();
        for record in records {
            if outline.runs.last().is_none_or(|run| run.epoch != record.epoch) {
                outline.runs.push(Run { epoch: record.epoch, from: record.sequence });
            }
            outline.last = record.sequence;
        }
        outline
    }

    /// The epoch of a line; `None` where there is no such line.
    pub(super) fn epoch_at(&self, sequence: u64) -> Option<u64> {
        let run = self.runs.iter().rev().find(|run| run.from <= sequence)?;
        (sequence <= self.last).then_some(run.epoch)
    }

    /// The last line that both logs have; 0 when they begin differently.
    pub(super) fn common(&self, other: &Self) -> u64 {
        let both = self.last.min(other.last);
        // A line that both have was written by one primary, after the same lines before.
        (1..=both).rev().find(|sequence| self.epoch_at(*sequence) == other.epoch_at(*sequence)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(epoch: u64, sequence: u64) -> Record {
        Record { epoch, sequence, key: "k".into(), value: "v".into(), at: 7 }
    }

    #[test]
    fn a_line_comes_back_and_half_a_line_does_not() {
        let line = record(3, 9).to_string();
        assert_eq!(line, "3 9 k v 7");
        assert_eq!(Record::parse(&line), Some(record(3, 9)));
        for bad in ["3 9 k v", "3 9 k v 7 8", "3 x k v 7", "3 9  v 7", ""] {
            assert_eq!(Record::parse(bad), None, "{bad:?}");
        }
        assert!(check("k", "two words").is_err() && check("", "v").is_err());
        assert!(check("k", &"v".repeat(1025)).is_err());
    }

    #[test]
    fn the_last_common_line_is_the_last_of_the_same_epoch() {
        let log = |epochs: &[u64]| {
            let records: Vec<Record> = epochs.iter().zip(1..).map(|(e, s)| record(*e, s)).collect();
            Outline::of(&records)
        };
        assert_eq!(log(&[1, 1, 1, 1]).common(&log(&[1, 1, 2, 2, 2])), 2);
        assert_eq!(log(&[1, 1]).common(&log(&[1, 1, 2])), 2);
        assert_eq!(log(&[1, 1, 2]).common(&log(&[1, 1])), 2);
        assert_eq!(log(&[1, 2]).common(&log(&[3, 3])), 0);
        assert_eq!(log(&[]).common(&log(&[1])), 0);
        assert_eq!((log(&[1, 2]).epoch_at(2), log(&[1, 2]).epoch_at(3)), (Some(2), None));
    }
}
