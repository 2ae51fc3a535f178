//! Times and durations. Milliseconds inside, google.protobuf outside.

use prost_types::{Duration, Timestamp as ProtoTimestamp};
use quorate_model::{DurationMs, Timestamp};

use super::Invalid;
use super::limits::DURATION_MAX_MS;

/// 9999-12-31T23:59:59Z, the last second that RFC 3339 can write.
const LAST_SECOND: i64 = 253_402_300_799;
const MILLION: i32 = 1_000_000;

/// A duration, or none when the field is absent. A part of a millisecond counts as a whole one.
///
/// # Errors
/// [`Invalid`] when it is negative, malformed, or longer than a year.
pub fn read_duration(field: &str, span: Option<Duration>) -> Result<Option<DurationMs>, Invalid> {
    let Some(Duration { seconds, nanos }) = span else { return Ok(None) };
    if seconds < 0 || nanos < 0 {
        return Err(Invalid::new(field, "it is negative"));
    }
    if nanos >= 1_000 * MILLION {
        return Err(Invalid::new(field, "its nanoseconds are not below one second"));
    }
    let parts = u64::try_from(nanos).unwrap_or(0).div_ceil(1_000_000);
    let ms = u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000).saturating_add(parts);
    if ms > DURATION_MAX_MS {
        return Err(Invalid::new(field, "it is longer than a year"));
    }
    Ok(Some(DurationMs(ms)))
}

/// A duration whose absence and zero mean a default.
///
/// # Errors
/// As [`read_duration`].
pub fn read_duration_or(
    field: &str,
    span: Option<Duration>,
    default: DurationMs,
) -> Result<DurationMs, Invalid> {
    Ok(read_duration(field, span)?.filter(|span| *span != DurationMs::ZERO).unwrap_or(default))
}

/// A duration as a message.
#[must_use]
pub fn write_duration(span: DurationMs) -> Duration {
    let nanos = i32::try_from(span.0 % 1_000).unwrap_or(0) * MILLION;
    Duration { seconds: i64::try_from(span.0 / 1_000).unwrap_or(i64::MAX), nanos }
}

/// A point in time; absent means [`Timestamp::ZERO`], "never". Parts of a millisecond are cut.
///
/// # Errors
/// [`Invalid`] when it is before 1970, after 9999, or malformed.
pub fn read_timestamp(field: &str, time: Option<ProtoTimestamp>) -> Result<Timestamp, Invalid> {
    let Some(ProtoTimestamp { seconds, nanos }) = time else { return Ok(Timestamp::ZERO) };
    if !(0..=LAST_SECOND).contains(&seconds) {
        return Err(Invalid::new(field, "it is before 1970 or after 9999"));
    }
    if !(0..1_000 * MILLION).contains(&nanos) {
        return Err(Invalid::new(field, "its nanoseconds are not below one second"));
    }
    Ok(Timestamp(seconds * 1_000 + i64::from(nanos / MILLION)))
}

/// A point in time as a message; "never" is absent.
#[must_use]
pub fn write_timestamp(time: Timestamp) -> Option<ProtoTimestamp> {
    if time == Timestamp::ZERO {
        return None;
    }
    let nanos = i32::try_from(time.0.rem_euclid(1_000)).unwrap_or(0) * MILLION;
    Some(ProtoTimestamp { seconds: time.0.div_euclid(1_000), nanos })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absurd_durations_are_refused_by_name() {
        for (seconds, nanos) in [(-1, 0), (0, -1), (0, 1_000_000_000), (i64::MAX, 0), (i64::MIN, i32::MIN)] {
            let invalid = read_duration("ttl", Some(Duration { seconds, nanos })).unwrap_err();
            assert_eq!(invalid.field, "ttl");
        }
    }

    #[test]
    fn durations_and_times_come_back() {
        for ms in [0, 1, 999, 1_000, 86_400_123] {
            assert_eq!(read_duration("x", Some(write_duration(DurationMs(ms)))), Ok(Some(DurationMs(ms))));
        }
        for ms in [0, 1, 1_763_700_000_123] {
            assert_eq!(read_timestamp("x", write_timestamp(Timestamp(ms))), Ok(Timestamp(ms)));
        }
        assert_eq!(
            read_duration("x", Some(Duration { seconds: 0, nanos: 1 })),
            Ok(Some(DurationMs(1))),
            "a wish for a nanosecond must not become a wish for none"
        );
    }

    #[test]
    fn times_outside_the_calendar_are_refused() {
        for (seconds, nanos) in [(-1, 0), (LAST_SECOND + 1, 0), (0, -1), (i64::MAX, 0)] {
            assert!(read_timestamp("at", Some(ProtoTimestamp { seconds, nanos })).is_err());
        }
    }
}
