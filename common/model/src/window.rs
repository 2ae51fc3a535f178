//! Windows: when disruptive work may start on what they cover. What no window covers may be disturbed at any time.
//!
//! Job: hold what the owner declares, and the moments that it comes to. Must never: work out those moments; that takes the rules
//! of a time zone, which change with every release of the zone data, so one coordinator does it and all others are told.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{LocalTime, WindowName, WorkloadName, ZoneName};
use crate::reason::Reason;
use crate::selector::Selector;
use crate::time::{DurationMs, Timestamp};

/// Longest reason and longest owner of a window in bytes: each stands in one line.
pub const WINDOW_TEXT_MAX_BYTES: usize = 256;
/// Most services and groups named by one window, as of a freeze.
pub const WINDOW_SERVICES_MAX: usize = 100;
/// Shortest window: nothing that disturbs is over sooner.
pub const WINDOW_SHORTEST: DurationMs = DurationMs::from_secs(60);
/// Longest window.
pub const WINDOW_LONGEST: DurationMs = DurationMs::from_secs(7 * 86_400);
/// Longest cron expression in bytes.
pub const CRON_MAX_BYTES: usize = 128;
/// Most announcements of one opening.
pub const ANNOUNCE_MAX: usize = 8;
/// Earliest announcement: openings are always known for longer than this.
pub const ANNOUNCE_EARLIEST: DurationMs = DurationMs::from_secs(28 * 86_400);
/// When an opening is announced, when its owner says nothing else: two weeks, a week, a day and an hour before.
pub const ANNOUNCE_DEFAULT: [DurationMs; 4] = [
    DurationMs::from_secs(14 * 86_400),
    DurationMs::from_secs(7 * 86_400),
    DurationMs::from_secs(86_400),
    DurationMs::from_secs(3_600),
];
/// A window with less than this left is shown as closing.
pub const CLOSING: DurationMs = DurationMs::from_secs(600);

words! {
    /// Where a window stands.
    pub enum WindowState {
        /// It will open; until then nothing that it covers may start.
        Upcoming = "UPCOMING",
        /// What it covers may start, if it fits in what is left.
        Open = "OPEN",
        /// Open, and little is left.
        Closing = "CLOSING",
        /// Not open, and no opening of it is known.
        Closed = "CLOSED",
    }
}

/// When a window opens or a schedule is due, by the clocks of its zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recurrence {
    /// Once.
    Once {
        /// When.
        start: LocalTime,
    },
    /// Again and again.
    Cron {
        /// Minute, hour, day of the month, month, day of the week. The minute of a window is one number: it opens once an hour
        /// at most.
        expr: String,
    },
}

/// One opening of a window: from its start until its end, that moment excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Occurrence {
    /// When it opens.
    pub start: Timestamp,
    /// When it closes.
    pub end: Timestamp,
}

impl Occurrence {
    /// Whether it is open at a moment.
    #[must_use]
    pub fn holds(&self, now: Timestamp) -> bool {
        self.start <= now && now < self.end
    }

    /// How long it is open.
    #[must_use]
    pub fn length(&self) -> DurationMs {
        self.end.since(self.start)
    }
}

/// A window as its owner declares it: on what it covers, disruptive work starts only while it is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSpec {
    /// Its name.
    pub name: WindowName,
    /// The nodes that it covers; none for the whole fleet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<Selector>,
    /// The services that it covers, or groups for the services of their members; empty for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<WorkloadName>,
    /// Whose clocks it goes by.
    pub zone: ZoneName,
    /// When it opens.
    pub when: Recurrence,
    /// For how long, in elapsed time.
    pub duration: DurationMs,
    /// Whom to ask, one line; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub owner: String,
    /// How long before an opening it is announced; empty for never.
    pub announce: Vec<DurationMs>,
    /// Why, one line.
    pub reason: String,
}

/// Why a window cannot be declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidWindow {
    /// A selector that says nothing chooses nothing, and never the whole fleet.
    EmptySelector,
    /// More services and groups than a window may name.
    TooManyServices {
        /// How many.
        count: usize,
    },
    /// A service or group that is named twice.
    NamedTwice {
        /// Which.
        name: WorkloadName,
    },
    /// Shorter or longer than a window may be.
    Duration,
    /// Not five fields.
    CronFields,
    /// The cron expression is longer than its limit, or has a character that none has.
    CronText,
    /// It would open more often than once an hour.
    CronMinute,
    /// More announcements than an opening may have.
    TooManyAnnouncements {
        /// How many.
        count: usize,
    },
    /// Announced too long before, or at the opening itself.
    Announcement,
    /// The same announcement twice.
    AnnouncedTwice,
    /// Nobody is held up without being told why.
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

impl InvalidWindow {
    /// The field that is wrong.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        match self {
            Self::EmptySelector => "selector",
            Self::TooManyServices { .. } | Self::NamedTwice { .. } => "services",
            Self::Duration => "duration",
            Self::CronFields | Self::CronText | Self::CronMinute => "cron",
            Self::TooManyAnnouncements { .. } | Self::Announcement | Self::AnnouncedTwice => "announce",
            Self::NoReason => "reason",
            Self::LongText { field, .. } | Self::UnprintableText { field } => field,
        }
    }

    /// Its stable code.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::EmptySelector => Reason::EmptySelector,
            Self::TooManyServices { .. }
            | Self::NamedTwice { .. }
            | Self::Duration
            | Self::CronFields
            | Self::CronText
            | Self::CronMinute
            | Self::TooManyAnnouncements { .. }
            | Self::Announcement
            | Self::AnnouncedTwice
            | Self::NoReason
            | Self::LongText { .. }
            | Self::UnprintableText { .. } => Reason::InvalidArgument,
        }
    }
}

impl fmt::Display for InvalidWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptySelector => f.write_str("it says nothing; leave it out to cover the whole fleet"),
            Self::TooManyServices { count } => {
                write!(f, "{count} entries, {WINDOW_SERVICES_MAX} is the limit")
            }
            Self::NamedTwice { name } => write!(f, "{name} is named twice"),
            Self::Duration => write!(f, "it must be {WINDOW_SHORTEST} to {WINDOW_LONGEST}"),
            Self::CronFields => {
                f.write_str("it needs five fields: minute, hour, day of the month, month, day of the week")
            }
            Self::CronText => write!(f, "at most {CRON_MAX_BYTES} letters, digits, spaces and any of * , - / # L W"),
            Self::CronMinute => f.write_str(
                "its first field, the minute, must be one number from 0 to 59: a window opens once an hour at most",
            ),
            Self::TooManyAnnouncements { count } => write!(f, "{count} entries, {ANNOUNCE_MAX} is the limit"),
            Self::Announcement => {
                write!(f, "each must be at least 1m and at most {ANNOUNCE_EARLIEST} before the opening")
            }
            Self::AnnouncedTwice => f.write_str("one stands there twice"),
            Self::NoReason => f.write_str("it is missing; whoever is held up must be told why"),
            Self::LongText { bytes, .. } => write!(f, "{bytes} bytes, {WINDOW_TEXT_MAX_BYTES} is the limit"),
            Self::UnprintableText { .. } => f.write_str("it holds a control character"),
        }
    }
}

impl core::error::Error for InvalidWindow {}

/// What is wrong with the shape of a cron expression.
pub(crate) enum CronFlaw {
    /// Too long, or a character that none has.
    Text,
    /// Not five fields.
    Fields,
}

/// The shape of a cron expression: gives its minutes. Whether it is one is known to whoever can read them.
pub(crate) fn cron_minutes(expr: &str) -> Result<&str, CronFlaw> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b' ' | b'*' | b',' | b'-' | b'/' | b'#');
    if expr.len() > CRON_MAX_BYTES || !expr.bytes().all(fits) {
        return Err(CronFlaw::Text);
    }
    let mut fields = expr.split_ascii_whitespace();
    let minutes = fields.next().unwrap_or_default();
    if fields.count() == 4 { Ok(minutes) } else { Err(CronFlaw::Fields) }
}

/// A window opens once an hour at most.
fn check_cron(expr: &str) -> Result<(), InvalidWindow> {
    let minute = cron_minutes(expr).map_err(|flaw| match flaw {
        CronFlaw::Text => InvalidWindow::CronText,
        CronFlaw::Fields => InvalidWindow::CronFields,
    })?;
    let digits = minute.bytes().all(|b| b.is_ascii_digit());
    if !digits || minute.parse::<u8>().is_ok_and(|n| n > 59) || minute.len() > 2 {
        return Err(InvalidWindow::CronMinute);
    }
    Ok(())
}

impl WindowSpec {
    /// Whether it may be declared, as far as that can be told without the rules of its zone.
    ///
    /// # Errors
    /// [`InvalidWindow`] of the first field that is wrong.
    pub fn check(&self) -> Result<(), InvalidWindow> {
        if self.selector.as_ref().is_some_and(Selector::is_empty) {
            return Err(InvalidWindow::EmptySelector);
        }
        if self.services.len() > WINDOW_SERVICES_MAX {
            return Err(InvalidWindow::TooManyServices { count: self.services.len() });
        }
        let mut seen = BTreeSet::new();
        if let Some(name) = self.services.iter().find(|name| !seen.insert(*name)) {
            return Err(InvalidWindow::NamedTwice { name: name.clone() });
        }
        if !(WINDOW_SHORTEST..=WINDOW_LONGEST).contains(&self.duration) {
            return Err(InvalidWindow::Duration);
        }
        match &self.when {
            Recurrence::Once { start: _ } => {}
            Recurrence::Cron { expr } => check_cron(expr)?,
        }
        self.check_announcements()?;
        if self.reason.trim().is_empty() {
            return Err(InvalidWindow::NoReason);
        }
        for (field, text) in [("reason", &self.reason), ("owner", &self.owner)] {
            if text.len() > WINDOW_TEXT_MAX_BYTES {
                return Err(InvalidWindow::LongText { field, bytes: text.len() });
            }
            if text.chars().any(char::is_control) {
                return Err(InvalidWindow::UnprintableText { field });
            }
        }
        Ok(())
    }

    fn check_announcements(&self) -> Result<(), InvalidWindow> {
        if self.announce.len() > ANNOUNCE_MAX {
            return Err(InvalidWindow::TooManyAnnouncements { count: self.announce.len() });
        }
        let may = DurationMs::from_secs(60)..=ANNOUNCE_EARLIEST;
        if self.announce.iter().any(|before| !may.contains(before)) {
            return Err(InvalidWindow::Announcement);
        }
        let mut seen = BTreeSet::new();
        if self.announce.iter().any(|before| !seen.insert(before)) {
            return Err(InvalidWindow::AnnouncedTwice);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec;

    use super::*;

    fn spec() -> WindowSpec {
        WindowSpec {
            name: WindowName::new("saturdays").unwrap(),
            selector: None,
            services: Vec::new(),
            zone: ZoneName::new("Europe/Berlin").unwrap(),
            when: cron("0 22 * * 6"),
            duration: DurationMs::from_secs(4 * 3_600),
            owner: String::new(),
            announce: ANNOUNCE_DEFAULT.to_vec(),
            reason: "agreed with the exchange".into(),
        }
    }

    fn cron(expr: &str) -> Recurrence {
        Recurrence::Cron { expr: expr.into() }
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_its_field() {
        assert_eq!(spec().check(), Ok(()));
        let name = |text: &str| WorkloadName::new(text).unwrap();
        let many = (0..=WINDOW_SERVICES_MAX).map(|n| name(&n.to_string())).collect();
        let secs = DurationMs::from_secs;
        for (field, bad) in [
            ("selector", WindowSpec { selector: Some(Selector::default()), ..spec() }),
            ("services", WindowSpec { services: many, ..spec() }),
            ("services", WindowSpec { services: vec![name("ledger"), name("ledger")], ..spec() }),
            ("duration", WindowSpec { duration: DurationMs(59_999), ..spec() }),
            ("duration", WindowSpec { duration: WINDOW_LONGEST.plus(DurationMs(1)), ..spec() }),
            ("announce", WindowSpec { announce: (1..=9).map(|n| secs(n * 60)).collect(), ..spec() }),
            ("announce", WindowSpec { announce: vec![DurationMs::ZERO], ..spec() }),
            ("announce", WindowSpec { announce: vec![ANNOUNCE_EARLIEST.plus(DurationMs(1))], ..spec() }),
            ("announce", WindowSpec { announce: vec![secs(60), secs(60)], ..spec() }),
            ("reason", WindowSpec { reason: " ".into(), ..spec() }),
            ("reason", WindowSpec { reason: "x".repeat(257), ..spec() }),
            ("reason", WindowSpec { reason: "two\nlines".into(), ..spec() }),
            ("owner", WindowSpec { owner: "x".repeat(257), ..spec() }),
            ("owner", WindowSpec { owner: "a\u{7}".into(), ..spec() }),
        ] {
            assert_eq!(bad.check().unwrap_err().field(), field, "{bad:?}");
        }
        let edges =
            WindowSpec { duration: WINDOW_SHORTEST, announce: vec![ANNOUNCE_EARLIEST, secs(60)], ..spec() };
        assert_eq!(edges.check(), Ok(()));
        assert_eq!(WindowSpec { duration: WINDOW_LONGEST, announce: vec![], ..spec() }.check(), Ok(()));
    }

    #[test]
    fn a_cron_expression_has_five_fields_and_one_minute() {
        for good in ["0 22 * * 6", "59 0 1-7 */2 SAT", "5  4 L * *", "0 2 * * 6#2", "30 1 15W jan,jul *"] {
            assert_eq!(check_cron(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("", InvalidWindow::CronFields),
            ("0 22 * *", InvalidWindow::CronFields),
            ("0 0 22 * * 6", InvalidWindow::CronFields),
            ("* 22 * * 6", InvalidWindow::CronMinute),
            ("0,30 22 * * 6", InvalidWindow::CronMinute),
            ("*/5 22 * * 6", InvalidWindow::CronMinute),
            ("60 22 * * 6", InvalidWindow::CronMinute),
            ("000 22 * * 6", InvalidWindow::CronMinute),
            ("@daily", InvalidWindow::CronText),
            ("0 22 * * 6;", InvalidWindow::CronText),
            ("0\t22 * * 6", InvalidWindow::CronText),
        ] {
            assert_eq!(check_cron(bad), Err(why), "{bad}");
        }
        assert_eq!(check_cron(&"0 ".repeat(65)), Err(InvalidWindow::CronText));
    }

    #[test]
    fn an_opening_excludes_its_end() {
        let opening = Occurrence { start: Timestamp(1_000), end: Timestamp(2_000) };
        for (at, holds) in [(999, false), (1_000, true), (1_999, true), (2_000, false)] {
            assert_eq!(opening.holds(Timestamp(at)), holds, "at {at}");
        }
    }
}
