//! What clients of the API saw, and whether one register per key could have answered so.
//!
//! Job: record calls with their real times, and judge them twice: [`index`] in near-linear time by the log index that every
//! answer carries, [`wgl`] without looking at any index. Must never: ask the product anything, or call a history good that
//! it did not look at: what was judged is counted and told.
//!
//! Every written value is used once, so a value that is read names the write it came from.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde::Serialize;

pub mod index;
pub mod wgl;

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Call {
    /// Set the key to a value that nobody else writes.
    Write(String),
    /// What is it?
    Read,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Outcome {
    /// Written at this log index.
    Written {
        /// `quorate-index` of the answer.
        index: u64,
    },
    /// Read at this log index.
    Found {
        /// `quorate-index` of the answer.
        index: u64,
        /// The value; `None` before the first write.
        value: Option<String>,
    },
    /// No answer that tells: it may have happened, once, then or later.
    Unknown,
    /// Refused before it was written: it never happens.
    Refused,
}

/// One call on one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Op {
    /// Which client.
    pub client: u32,
    /// Which register.
    pub key: String,
    /// What it asked.
    pub call: Call,
    /// When it asked first, microseconds since the history began.
    pub invoked_us: u64,
    /// When it had its answer, or gave up.
    pub returned_us: u64,
    /// What it was told.
    pub outcome: Outcome,
}

impl Op {
    /// The log index of its answer.
    #[must_use]
    pub const fn index(&self) -> Option<u64> {
        match &self.outcome {
            Outcome::Written { index } | Outcome::Found { index, .. } => Some(*index),
            Outcome::Unknown | Outcome::Refused => None,
        }
    }
}

/// Why a history is not that of registers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{rule}: {detail}")]
pub struct Violation {
    /// Which rule was broken, in words.
    pub rule: &'static str,
    /// The calls that show it.
    pub detail: String,
}

impl Violation {
    fn of(rule: &'static str, ops: &[&Op]) -> Self {
        let shown: Vec<String> = ops.iter().map(|op| format!("{op:?}")).collect();
        Self { rule, detail: shown.join("; ") }
    }
}

/// Calls of many clients, as they end.
#[derive(Debug)]
pub struct Recorder {
    began: Instant,
    ops: Mutex<Vec<Op>>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self { began: Instant::now(), ops: Mutex::default() }
    }
}

impl Recorder {
    /// Microseconds since it began.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Adds a call that has ended.
    pub fn add(&self, op: Op) {
        self.ops.lock().unwrap_or_else(PoisonError::into_inner).push(op);
    }

    /// All of them so far.
    #[must_use]
    pub fn ops(&self) -> Vec<Op> {
        self.ops.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
pub(crate) mod sample {
    use super::{Call, Op, Outcome};

    fn op(call: Call, at: (u64, u64), outcome: Outcome) -> Op {
        Op { client: 1, key: "k".into(), call, invoked_us: at.0, returned_us: at.1, outcome }
    }

    pub(crate) fn write(value: &str, at: (u64, u64), index: u64) -> Op {
        op(Call::Write(value.into()), at, Outcome::Written { index })
    }

    pub(crate) fn unknown(value: &str, at: (u64, u64)) -> Op {
        op(Call::Write(value.into()), at, Outcome::Unknown)
    }

    pub(crate) fn refused(value: &str, at: (u64, u64)) -> Op {
        op(Call::Write(value.into()), at, Outcome::Refused)
    }

    pub(crate) fn read(value: &str, at: (u64, u64), index: u64) -> Op {
        let value = (!value.is_empty()).then(|| value.to_owned());
        op(Call::Read, at, Outcome::Found { index, value })
    }
}
