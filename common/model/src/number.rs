//! Numbers with a fraction, without floats: replicas must agree to the last digit.

use core::fmt;

use serde::{Deserialize, Serialize};

/// Millionths of one.
const ONE: i64 = 1_000_000;

/// A number in millionths: from about -9.2e12 to 9.2e12, exact. What does not fit is refused, never cut down to the limit: a
/// value that only looks like the largest one must not be compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millionths(pub i64);

impl Millionths {
    /// Zero.
    pub const ZERO: Self = Self(0);

    /// A whole number; `None` when it does not fit.
    #[must_use]
    pub const fn whole(number: i64) -> Option<Self> {
        match number.checked_mul(ONE) {
            Some(millionths) => Some(Self(millionths)),
            None => None,
        }
    }

    /// How far it is from another one; `None` when that does not fit.
    #[must_use]
    pub const fn minus(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(millionths) => Some(Self(millionths)),
            None => None,
        }
    }
}

/// Decimal, without zeros at the end: `0.8`, `-12`, `0.000001`.
impl fmt::Display for Millionths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.0.unsigned_abs();
        let (units, mut part) = (size / ONE.unsigned_abs(), size % ONE.unsigned_abs());
        let sign = if self.0 < 0 { "-" } else { "" };
        if part == 0 {
            return write!(f, "{sign}{units}");
        }
        let mut digits = 6;
        while part.is_multiple_of(10) {
            part /= 10;
            digits -= 1;
        }
        write!(f, "{sign}{units}.{part:0digits$}")
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn numbers_read_as_people_write_them() {
        for (millionths, text) in [
            (0, "0"),
            (1, "0.000001"),
            (800_000, "0.8"),
            (-12_000_000, "-12"),
            (-50, "-0.00005"),
            (12_340_000, "12.34"),
            (i64::MIN, "-9223372036854.775808"),
        ] {
            assert_eq!(Millionths(millionths).to_string(), text);
        }
    }

    #[test]
    fn what_does_not_fit_is_nothing() {
        assert_eq!(Millionths::whole(5), Some(Millionths(5_000_000)));
        assert_eq!(Millionths::whole(i64::MAX), None);
        assert_eq!(Millionths(i64::MIN).minus(Millionths(1)), None);
    }
}
