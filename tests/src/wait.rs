//! Level, not edge: a test waits for a predicate with a deadline. This is the only place under `tests/` that sleeps.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// Time between two looks.
const STEP: Duration = Duration::from_millis(25);

/// Polls until `look` gives a value.
///
/// # Panics
/// When the deadline passes, with what was waited for and what was seen last.
pub fn wait_for<T, E: Display>(what: &str, deadline: Duration, mut look: impl FnMut() -> Result<T, E>) -> T {
    let end = Instant::now() + deadline;
    loop {
        match look() {
            Ok(value) => return value,
            Err(seen) => assert!(Instant::now() < end, "waited {deadline:?} for {what}; seen last: {seen}"),
        }
        std::thread::sleep(STEP);
    }
}

/// Polls until `look` is true.
///
/// # Panics
/// When the deadline passes.
pub fn wait_until(what: &str, deadline: Duration, mut look: impl FnMut() -> bool) {
    wait_for(what, deadline, || if look() { Ok(()) } else { Err("not yet") });
}

/// Calls `each` every `period` until it says stop; for measuring loops, never for waiting.
pub fn every(period: Duration, mut each: impl FnMut() -> bool) {
    let mut next = Instant::now();
    while each() {
        next += period;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}
