//! Schedules: what starts operations by itself, at times, once per fleet.
//!
//! Job: hold what the owner declares about the times, and the words for what became of each. Must never: work out the times (that
//! takes the rules of a time zone; whoever leads does it), or know the work, which is the planner's.

use alloc::string::String;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{ScheduleName, ZoneName};
use crate::time::DurationMs;
use crate::window::{CRON_MAX_BYTES, CronFlaw, Recurrence, cron_minutes};

/// Longest reason and longest owner of a schedule in bytes: each stands in one line.
pub const SCHEDULE_TEXT_MAX_BYTES: usize = 256;
/// A run that begins later than this after it was due has been missed: long enough for the members to elect another leader.
pub const SCHEDULE_GRACE: DurationMs = DurationMs::from_secs(60);

words! {
    /// What happens when a run is due and an operation of the same schedule is not over.
    pub enum Overlap {
        /// The run is left out.
        Skip = "SKIP",
        /// One run waits until the operation is over; those that become due meanwhile are left out.
        BufferOne = "BUFFER_ONE",
        /// The operation is canceled at its next safe point; then the run begins.
        CancelOther = "CANCEL_OTHER",
        /// The run begins; operations that want one group take turns.
        AllowAll = "ALLOW_ALL",
    }
}

words! {
    /// What happens with a run that nobody was there for.
    pub enum MissedPolicy {
        /// It is left out.
        Skip = "SKIP",
        /// The newest of those that were missed is made up for.
        RunOnce = "RUN_ONCE",
    }
}

words! {
    /// What became of a run.
    pub enum RunResult {
        /// It made an operation.
        Started = "STARTED",
        /// It could not be planned or started.
        Refused = "REFUSED",
        /// Left out: an operation of the schedule was not over, or it was paused or changed while the run waited.
        Skipped = "SKIPPED",
        /// Left out: nobody was there when it was due.
        Missed = "MISSED",
    }
}

/// A schedule as its owner declares it, but for its work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleSpec {
    /// Its name.
    pub name: ScheduleName,
    /// Whose clocks it goes by.
    pub zone: ZoneName,
    /// When it is due.
    pub when: Recurrence,
    /// When an operation of it is not over.
    pub overlap: Overlap,
    /// When nobody was there.
    pub missed: MissedPolicy,
    /// It starts nothing; what becomes due meanwhile is never made up for.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub paused: bool,
    /// Whom to ask, one line; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub owner: String,
    /// Why, one line.
    pub reason: String,
}

/// Why a schedule cannot be declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidSchedule {
    /// Not five fields.
    CronFields,
    /// The cron expression is longer than its limit, or has a character that none has.
    CronText,
    /// Whoever finds its operations must be told why.
    NoReason,
    /// A text is longer than its limit.
    LongText {
        /// Of which field.
        field: &'static str,
        /// How long.
        bytes: usize,
    },
    /// A text holds a control character.
    UnprintableText {
        /// Of which field.
        field: &'static str,
    },
}

impl InvalidSchedule {
    /// The field that is wrong.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        match self {
            Self::CronFields | Self::CronText => "cron",
            Self::NoReason => "reason",
            Self::LongText { field, .. } | Self::UnprintableText { field } => field,
        }
    }
}

impl fmt::Display for InvalidSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CronFields => {
                f.write_str("it needs five fields: minute, hour, day of the month, month, day of the week")
            }
            Self::CronText => {
                write!(f, "at most {CRON_MAX_BYTES} letters, digits, spaces and any of * , - / # L W")
            }
            Self::NoReason => f.write_str("it is missing; whoever finds its operations must be told why"),
            Self::LongText { bytes, .. } => {
                write!(f, "{bytes} bytes, {SCHEDULE_TEXT_MAX_BYTES} is the limit")
            }
            Self::UnprintableText { .. } => f.write_str("it holds a control character"),
        }
    }
}

impl core::error::Error for InvalidSchedule {}

impl ScheduleSpec {
    /// Whether it may be declared, as far as that can be told without the rules of its zone.
    ///
    /// # Errors
    /// [`InvalidSchedule`] of the first field that is wrong.
    pub fn check(&self) -> Result<(), InvalidSchedule> {
        match &self.when {
            Recurrence::Once { start: _ } => {}
            Recurrence::Cron { expr } => match cron_minutes(expr) {
                Ok(_) => {}
                Err(CronFlaw::Text) => return Err(InvalidSchedule::CronText),
                Err(CronFlaw::Fields) => return Err(InvalidSchedule::CronFields),
            },
        }
        if self.reason.trim().is_empty() {
            return Err(InvalidSchedule::NoReason);
        }
        for (field, text) in [("reason", &self.reason), ("owner", &self.owner)] {
            if text.len() > SCHEDULE_TEXT_MAX_BYTES {
                return Err(InvalidSchedule::LongText { field, bytes: text.len() });
            }
            if text.chars().any(char::is_control) {
                return Err(InvalidSchedule::UnprintableText { field });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> ScheduleSpec {
        ScheduleSpec {
            name: ScheduleName::new("nightly").unwrap(),
            zone: ZoneName::new("Europe/Berlin").unwrap(),
            when: Recurrence::Cron { expr: "*/15 2-4 * * 1-5".into() },
            overlap: Overlap::Skip,
            missed: MissedPolicy::Skip,
            paused: false,
            owner: String::new(),
            reason: "the contract asks for it".into(),
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_its_field() {
        assert_eq!(spec().check(), Ok(()));
        let cron = |expr: &str| ScheduleSpec { when: Recurrence::Cron { expr: expr.into() }, ..spec() };
        for good in ["* * * * *", "0,30 22 * * 6", "59 0 1-7 */2 SAT"] {
            assert_eq!(cron(good).check(), Ok(()), "{good}");
        }
        for (field, bad) in [
            ("cron", cron("0 22 * *")),
            ("cron", cron("0 0 22 * * 6")),
            ("cron", cron("@daily")),
            ("cron", cron(&"0 ".repeat(65))),
            ("reason", ScheduleSpec { reason: " ".into(), ..spec() }),
            ("reason", ScheduleSpec { reason: "x".repeat(257), ..spec() }),
            ("owner", ScheduleSpec { owner: "a\u{7}".into(), ..spec() }),
        ] {
            assert_eq!(bad.check().unwrap_err().field(), field, "{bad:?}");
        }
    }
}
