//! Named points at which a test ends the helper as a crash would: SIGKILL, nothing flushed, nobody told.
//!
//! Compiled in only with the feature `failpoints`, which tests turn on and releases do not have.

/// Dies here when the environment says so: `QUORATE_FAILPOINT=name` or `name@N` for the N-th time.
#[cfg(feature = "failpoints")]
pub(crate) fn hit(name: &str) {
    use std::sync::atomic::{AtomicU32, Ordering};
    static SEEN: AtomicU32 = AtomicU32::new(0);
    let Ok(wanted) = std::env::var("QUORATE_FAILPOINT") else { return };
    let (point, nth) = wanted.split_once('@').unwrap_or((&wanted, "1"));
    if point != name {
        return;
    }
    let seen = SEEN.fetch_add(1, Ordering::Relaxed) + 1;
    if nth.parse() == Ok(seen) {
        // The signal is delivered before the call returns to user space.
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

/// Nothing.
#[cfg(not(feature = "failpoints"))]
pub(crate) const fn hit(_name: &str) {}
