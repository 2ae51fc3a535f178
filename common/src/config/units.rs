//! Durations and sizes as people write them: `"10s"`, `"1h30m"`, `"64MiB"`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text that is no duration or size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {kind}: write for example {example}")]
pub struct UnitError {
    text: String,
    kind: &'static str,
    example: &'static str,
}

/// A span of time: whole numbers with `ms`, `s`, `m`, `h`, `d`, from large to small as in `1h30m`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A number of bytes: a whole number with `B`, `KiB`, `MiB`, `GiB`, `TiB` (or `KB` … `TB`, powers of 1000).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Span {
    /// From whole seconds.
    #[must_use]
    pub const fn secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }
}

impl Size {
    /// The number of bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        span.0
    }
}

/// Splits `12ab34c` into (12, "ab"), (34, "c"); `None` when it is not of that form or a number does not fit.
fn parts(text: &str) -> Option<Vec<(u64, &str)>> {
    let mut rest = text;
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        parts.push((number.parse().ok()?, unit));
        rest = tail;
    }
    (!parts.is_empty()).then_some(parts)
}

fn span_ms(text: &str) -> Option<u64> {
    let mut total = 0_u64;
    let mut last = u64::MAX;
    for (number, unit) in parts(text)? {
        let scale = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        if scale >= last {
            return None;
        }
        last = scale;
        total = total.checked_add(number.checked_mul(scale)?)?;
    }
    Some(total)
}

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        span_ms(text).map(|ms| Self(Duration::from_millis(ms))).ok_or_else(|| UnitError {
            text: text.chars().take(64).collect(),
            kind: "duration",
            example: "\"10s\", \"250ms\" or \"1h30m\"",
        })
    }
}

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let bytes = parts(text).and_then(|parts| match parts.as_slice() {
            [(number, unit)] => {
                let scale = match *unit {
                    "B" => 1,
                    "KiB" => 1 << 10,
                    "MiB" => 1 << 20,
                    "GiB" => 1 << 30,
                    "TiB" => 1 << 40,
                    "KB" => 1_000,
                    "MB" => 1_000_000,
                    "GB" => 1_000_000_000,
                    "TB" => 1_000_000_000_000,
                    _ => return None,
                };
                number.checked_mul(scale)
            }
            _ => None,
        });
        bytes.map(Self).ok_or_else(|| UnitError {
            text: text.chars().take(64).collect(),
            kind: "size",
            example: "\"64MiB\" or \"512KiB\"",
        })
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ms = self.0.as_millis();
        if ms == 0 {
            return f.write_str("0s");
        }
        for (unit, scale) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
            if ms >= scale {
                write!(f, "{}{unit}", ms / scale)?;
                ms %= scale;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, shift) in [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)] {
            let scale = 1_u64 << shift;
            if self.0 >= scale && self.0.is_multiple_of(scale) {
                return write!(f, "{}{unit}", self.0 / scale);
            }
        }
        write!(f, "{}B", self.0)
    }
}

struct TextVisitor<T>(&'static str, std::marker::PhantomData<T>);

impl<T: FromStr<Err = UnitError>> Visitor<'_> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_str(TextVisitor("a duration in quotes such as \"10s\"", std::marker::PhantomData))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_str(TextVisitor("a size in quotes such as \"64MiB\"", std::marker::PhantomData))
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_people_write_is_read_and_the_rest_refused() {
        assert_eq!("1h30m".parse(), Ok(Span::secs(5_400)));
        assert_eq!("250ms".parse(), Ok(Span(Duration::from_millis(250))));
        assert_eq!("0s".parse(), Ok(Span::secs(0)));
        for bad in [
            "",
            "10",
            "s",
            "-1s",
            "1.5s",
            "1m1h",
            "1s1s",
            "10 s",
            "99999999999999999999s",
            "18446744073709551615d",
            "1y",
            "1s\n",
        ] {
            assert!(bad.parse::<Span>().is_err(), "{bad:?}");
        }
        assert_eq!("64MiB".parse(), Ok(Size(64 << 20)));
        assert_eq!("5KB".parse(), Ok(Size(5_000)));
        for bad in ["", "64", "MiB", "1.5MiB", "64mib", "1MiB1KiB", "18446744073709551615KiB", "-1B"] {
            assert!(bad.parse::<Size>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn printing_and_reading_agree(ms in 0_u64..u64::MAX / 2, bytes in any::<u64>()) {
            let span = Span(Duration::from_millis(ms));
            prop_assert_eq!(span.to_string().parse(), Ok(span));
            prop_assert_eq!(Size(bytes).to_string().parse(), Ok(Size(bytes)));
        }

        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = text.parse::<Span>();
            let _ = text.parse::<Size>();
        }
    }
}
