//! The host's clocks, read in this one place.

use std::io;

use quorate_model::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// The wall clock in milliseconds; a clock before 1970 reads as a negative number, not as a panic.
#[must_use]
pub fn now() -> Timestamp {
    let t = clock_gettime(ClockId::Realtime);
    Timestamp(t.tv_sec.saturating_mul(1_000).saturating_add(t.tv_nsec / 1_000_000))
}

/// `CLOCK_MONOTONIC` in microseconds, the clock of systemd's `…TimestampMonotonic` properties.
#[must_use]
pub fn monotonic_us() -> u64 {
    let t = clock_gettime(ClockId::Monotonic);
    let us = t.tv_sec.saturating_mul(1_000_000).saturating_add(t.tv_nsec / 1_000);
    u64::try_from(us).unwrap_or(0)
}

/// Time since boot in milliseconds, suspended time included.
#[must_use]
pub fn uptime_ms() -> u64 {
    let t = clock_gettime(ClockId::Boottime);
    let ms = t.tv_sec.saturating_mul(1_000).saturating_add(t.tv_nsec / 1_000_000);
    u64::try_from(ms).unwrap_or(0)
}

/// The kernel's boot id.
///
/// # Errors
/// When `/proc` is not readable: without it evidence of a former run means nothing.
pub fn boot_id() -> io::Result<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(text.trim().to_owned())
}
