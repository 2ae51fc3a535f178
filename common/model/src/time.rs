//! Stamped time and durations as integers. Nobody here asks a clock.

use alloc::format;
use alloc::string::String;

use serde::{Deserialize, Serialize};

/// A point in time: milliseconds since 1970-01-01T00:00:00Z, stamped by whoever proposes or observes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The epoch itself; stands for "never" where a field says so.
    pub const ZERO: Self = Self(0);

    /// Milliseconds from `earlier` to `self`; zero when `earlier` is later (clocks disagree).
    #[must_use]
    pub fn since(self, earlier: Self) -> DurationMs {
        DurationMs(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// `self` plus a duration, saturating.
    #[must_use]
    pub fn plus(self, span: DurationMs) -> Self {
        Self(self.0.saturating_add(i64::try_from(span.0).unwrap_or(i64::MAX)))
    }

    /// `self` minus a duration, saturating.
    #[must_use]
    pub fn minus(self, span: DurationMs) -> Self {
        Self(self.0.saturating_sub(i64::try_from(span.0).unwrap_or(i64::MAX)))
    }

    /// `2026-12-24T18:00:00Z`: for a text that must not change while time passes. Parts of a second are left out.
    #[must_use]
    pub fn utc(self) -> String {
        /// Days from 0000-03-01, where the years of this count begin, to 1970-01-01.
        const TO_1970: i64 = 719_468;
        /// Days of 400 years, after which the calendar repeats.
        const ERA: i64 = 146_097;
        let secs = self.0.div_euclid(1_000);
        let (days, second) = (secs.div_euclid(86_400) + TO_1970, secs.rem_euclid(86_400));
        let (era, day) = (days.div_euclid(ERA), days.rem_euclid(ERA));
        let of_era = (day - day / 1_460 + day / 36_524 - day / (ERA - 1)) / 365;
        let day = day - (365 * of_era + of_era / 4 - of_era / 100);
        // Months from March: a leap day is the last day of its year, and every fifth month begins anew.
        let from_march = (5 * day + 2) / 153;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        let year = of_era + era * 400 + i64::from(month <= 2);
        let day = day - (153 * from_march + 2) / 5 + 1;
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

/// A span of time in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DurationMs(pub u64);

impl DurationMs {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// From whole seconds, saturating.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000))
    }

    /// Whether it is no time at all; such fields are left out of what is written.
    #[must_use]
    pub const fn is_zero(&self) -> bool {
        self.0 == 0
    }

    /// The sum, saturating.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, zero at least.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl core::fmt::Display for DurationMs {
    /// `350ms`, `8s`, `4m12s`, `3h5m`, `2d4h`: two units at most, as an operator reads them.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let secs = self.0 / 1_000;
        let (m, h, d) = (secs / 60, secs / 3_600, secs / 86_400);
        match (d, h, m, secs) {
            (0, 0, 0, 0) => write!(f, "{}ms", self.0),
            (0, 0, 0, s) => write!(f, "{s}s"),
            (0, 0, m, s) if s % 60 == 0 => write!(f, "{m}m"),
            (0, 0, m, s) => write!(f, "{m}m{}s", s % 60),
            (0, h, m, _) if m % 60 == 0 => write!(f, "{h}h"),
            (0, h, m, _) => write!(f, "{h}h{}m", m % 60),
            (d, h, _, _) if h % 24 == 0 => write!(f, "{d}d"),
            (d, h, _, _) => write!(f, "{d}d{}h", h % 24),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn durations_read_as_operators_write_them() {
        for (ms, text) in [
            (350, "350ms"),
            (8_000, "8s"),
            (252_000, "4m12s"),
            (60_000, "1m"),
            (11_100_000, "3h5m"),
            (187_200_000, "2d4h"),
        ] {
            assert_eq!(DurationMs(ms).to_string(), text);
        }
    }

    #[test]
    fn moments_read_as_the_calendar_has_them() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59Z"),
            (1_709_251_200_000, "2024-03-01T00:00:00Z"),
            (1_798_135_200_000, "2026-12-24T18:00:00Z"),
            (4_107_542_399_000, "2100-02-28T23:59:59Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00Z"),
            (253_402_300_799_000, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(Timestamp(ms).utc(), text);
        }
        // No moment panics.
        assert!(Timestamp(i64::MAX).utc().ends_with('Z') && Timestamp(i64::MIN).utc().ends_with('Z'));
    }

    #[test]
    fn a_clock_that_went_back_gives_no_negative_span() {
        assert_eq!(Timestamp(5).since(Timestamp(9)), DurationMs::ZERO);
        assert_eq!(Timestamp(i64::MAX).plus(DurationMs(u64::MAX)), Timestamp(i64::MAX));
    }
}
