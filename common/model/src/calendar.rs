//! The calendar of the fleet: freezes, which say that nothing disruptive may start. Windows, which say when it may, stand beside
//! it in `window.rs`.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{FreezeName, WorkloadName};
use crate::reason::Reason;
use crate::selector::Selector;
use crate::time::Timestamp;

/// Longest reason of a freeze in bytes: it stands in one line of a condition, beside the name and the end.
pub const FREEZE_REASON_MAX_BYTES: usize = 256;
/// Most services and groups named by one freeze; whoever means more of them means nodes, or the whole fleet.
pub const FREEZE_SERVICES_MAX: usize = 100;

words! {
    /// Where a freeze stands.
    pub enum FreezeState {
        /// It has not begun.
        Upcoming = "UPCOMING",
        /// Nothing that it covers may start.
        Active = "ACTIVE",
        /// Its time is over; it holds nothing.
        Ended = "ENDED",
    }
}

/// A freeze as its owner declares it: nothing disruptive may start on what it covers, until it ends or is deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreezeSpec {
    /// Its name.
    pub name: FreezeName,
    /// The nodes that it covers; none for the whole fleet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<Selector>,
    /// The services that it covers, or groups for the services of their members; empty for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<WorkloadName>,
    /// Why, one line.
    pub reason: String,
    /// From when; none for at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts: Option<Timestamp>,
    /// Until when, that moment excluded; none until it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<Timestamp>,
}

/// Why a freeze cannot be declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidFreeze {
    /// A selector that says nothing chooses nothing, and never the whole fleet.
    EmptySelector,
    /// More services and groups than a freeze may name.
    TooManyServices {
        /// How many.
        count: usize,
    },
    /// A service or group that is named twice.
    NamedTwice {
        /// Which.
        name: WorkloadName,
    },
    /// Nobody is held up without being told why.
    NoReason,
    /// The reason is longer than its limit.
    LongReason {
        /// How long.
        bytes: usize,
    },
    /// The reason holds a control character.
    UnprintableReason,
    /// It would end before it begins, or at that very moment.
    EndsBeforeStart,
}

impl InvalidFreeze {
    /// The field that is wrong.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        match self {
            Self::EmptySelector => "selector",
            Self::TooManyServices { .. } | Self::NamedTwice { .. } => "services",
            Self::NoReason | Self::LongReason { .. } | Self::UnprintableReason => "reason",
            Self::EndsBeforeStart => "ends",
        }
    }

    /// Its stable code.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::EmptySelector => Reason::EmptySelector,
            Self::TooManyServices { .. }
            | Self::NamedTwice { .. }
            | Self::NoReason
            | Self::LongReason { .. }
            | Self::UnprintableReason
            | Self::EndsBeforeStart => Reason::InvalidArgument,
        }
    }
}

impl fmt::Display for InvalidFreeze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptySelector => f.write_str("it says nothing; leave it out to freeze the whole fleet"),
            Self::TooManyServices { count } => {
                write!(f, "{count} entries, {FREEZE_SERVICES_MAX} is the limit")
            }
            Self::NamedTwice { name } => write!(f, "{name} is named twice"),
            Self::NoReason => f.write_str("it is missing; whoever is held up must be told why"),
            Self::LongReason { bytes } => write!(f, "{bytes} bytes, {FREEZE_REASON_MAX_BYTES} is the limit"),
            Self::UnprintableReason => f.write_str("it holds a control character"),
            Self::EndsBeforeStart => f.write_str("it must be later than starts"),
        }
    }
}

impl core::error::Error for InvalidFreeze {}

impl FreezeSpec {
    /// Whether it may be declared.
    ///
    /// # Errors
    /// [`InvalidFreeze`] of the first field that is wrong.
    pub fn check(&self) -> Result<(), InvalidFreeze> {
        if self.selector.as_ref().is_some_and(Selector::is_empty) {
            return Err(InvalidFreeze::EmptySelector);
        }
        if self.services.len() > FREEZE_SERVICES_MAX {
            return Err(InvalidFreeze::TooManyServices { count: self.services.len() });
        }
        let mut seen = BTreeSet::new();
        if let Some(name) = self.services.iter().find(|name| !seen.insert(*name)) {
            return Err(InvalidFreeze::NamedTwice { name: name.clone() });
        }
        if self.reason.trim().is_empty() {
            return Err(InvalidFreeze::NoReason);
        }
        if self.reason.len() > FREEZE_REASON_MAX_BYTES {
            return Err(InvalidFreeze::LongReason { bytes: self.reason.len() });
        }
        if self.reason.chars().any(char::is_control) {
            return Err(InvalidFreeze::UnprintableReason);
        }
        if let (Some(starts), Some(ends)) = (self.starts, self.ends)
            && ends <= starts
        {
            return Err(InvalidFreeze::EndsBeforeStart);
        }
        Ok(())
    }

    /// Where it stands at a moment.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> FreezeState {
        if self.ends.is_some_and(|ends| now >= ends) {
            FreezeState::Ended
        } else if self.starts.is_some_and(|starts| now < starts) {
            FreezeState::Upcoming
        } else {
            FreezeState::Active
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    fn spec() -> FreezeSpec {
        FreezeSpec {
            name: FreezeName::new("year-end").unwrap(),
            selector: None,
            services: Vec::new(),
            reason: "the books are closed".into(),
            starts: Some(Timestamp(1_000)),
            ends: Some(Timestamp(2_000)),
        }
    }

    #[test]
    fn a_freeze_begins_with_its_start_and_is_over_at_its_end() {
        for (at, state) in [
            (999, FreezeState::Upcoming),
            (1_000, FreezeState::Active),
            (1_999, FreezeState::Active),
            (2_000, FreezeState::Ended),
        ] {
            assert_eq!(spec().state(Timestamp(at)), state, "at {at}");
        }
        let for_ever = FreezeSpec { starts: None, ends: None, ..spec() };
        for at in [i64::MIN, 0, i64::MAX] {
            assert_eq!(for_ever.state(Timestamp(at)), FreezeState::Active, "at {at}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_its_field() {
        assert_eq!(spec().check(), Ok(()));
        let name = |text: &str| WorkloadName::new(text).unwrap();
        let many = (0..=FREEZE_SERVICES_MAX).map(|n| name(&n.to_string())).collect();
        let long = "é".repeat(FREEZE_REASON_MAX_BYTES / 2 + 1);
        for (field, bad) in [
            ("selector", FreezeSpec { selector: Some(Selector::default()), ..spec() }),
            ("services", FreezeSpec { services: many, ..spec() }),
            ("services", FreezeSpec { services: alloc::vec![name("ledger"), name("ledger")], ..spec() }),
            ("reason", FreezeSpec { reason: String::new(), ..spec() }),
            ("reason", FreezeSpec { reason: "  ".into(), ..spec() }),
            ("reason", FreezeSpec { reason: long, ..spec() }),
            ("reason", FreezeSpec { reason: "two\nlines".into(), ..spec() }),
            ("ends", FreezeSpec { ends: Some(Timestamp(1_000)), ..spec() }),
            ("ends", FreezeSpec { ends: Some(Timestamp(1)), ..spec() }),
        ] {
            assert_eq!(bad.check().unwrap_err().field(), field, "{bad:?}");
        }
        // The longest reason there may be, and an end without a start.
        let reason = "x".repeat(FREEZE_REASON_MAX_BYTES);
        assert_eq!(FreezeSpec { reason, starts: None, ..spec() }.check(), Ok(()));
    }
}
