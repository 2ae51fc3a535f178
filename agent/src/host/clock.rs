//! The host's clocks, read in this one place.

use std::io;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use quorate_model::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// A simulator's clock: the wall clock, and the time since boot.
pub type Simulated = fn() -> (Timestamp, Duration);

static SIMULATED: OnceLock<Simulated> = OnceLock::new();

/// Replaces every clock of this process, once and for all. For a simulator, before anything has read one.
///
/// # Errors
/// The clock back, when one was set before.
pub fn simulate(clock: Simulated) -> Result<(), Simulated> {
    SIMULATED.set(clock)
}

/// Whether a simulator's clock is set: its time stands still while a thread works, so nothing may wait for one.
#[must_use]
pub fn is_simulated() -> bool {
    SIMULATED.get().is_some()
}

/// The wall clock in milliseconds; a clock before 1970 reads as a negative number, not as a panic. It is read as TLS reads
/// it (the standard library's): both hold the end of certificates against it and must see the same time.
#[must_use]
pub fn now() -> Timestamp {
    if let Some(clock) = SIMULATED.get() {
        return clock().0;
    }
    let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => Timestamp(millis(since)),
        Err(before) => Timestamp(millis(before.duration()).saturating_neg()),
    }
}

/// `CLOCK_MONOTONIC` in microseconds, the clock of systemd's `…TimestampMonotonic` properties.
#[must_use]
pub fn monotonic_us() -> u64 {
    if let Some(clock) = SIMULATED.get() {
        return u64::try_from(clock().1.as_micros()).unwrap_or(u64::MAX);
    }
    let t = clock_gettime(ClockId::Monotonic);
    let us = t.tv_sec.saturating_mul(1_000_000).saturating_add(t.tv_nsec / 1_000);
    u64::try_from(us).unwrap_or(0)
}

/// Time since boot in milliseconds, suspended time included.
#[must_use]
pub fn uptime_ms() -> u64 {
    if let Some(clock) = SIMULATED.get() {
        return u64::try_from(clock().1.as_millis()).unwrap_or(u64::MAX);
    }
    let t = clock_gettime(ClockId::Boottime);
    let ms = t.tv_sec.saturating_mul(1_000).saturating_add(t.tv_nsec / 1_000_000);
    u64::try_from(ms).unwrap_or(0)
}

/// The kernel's boot id.
///
/// # Errors
/// When `/proc` is not readable: without it evidence of a former run means nothing.
pub fn boot_id() -> io::Result<String> {
    const PLACE: &str = "/proc/sys/kernel/random/boot_id";
    let text = std::fs::read_to_string(PLACE)
        .map_err(|error| io::Error::new(error.kind(), format!("{PLACE}: {error}")))?;
    Ok(text.trim().to_owned())
}
