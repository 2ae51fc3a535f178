//! What happened, one line per event, with the simulated time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The trace. Clones write to the same one.
#[derive(Clone, Default)]
pub struct Trace {
    lines: Arc<Mutex<Vec<String>>>,
    shown: bool,
}

impl Trace {
    /// An empty trace; `shown` prints each line at once.
    #[must_use]
    pub fn new(shown: bool) -> Self {
        Self { lines: Arc::default(), shown }
    }

    /// Adds a line.
    pub fn say(&self, who: &str, what: impl AsRef<str>) {
        let line = format!("{:>10.3} {who:<8} {}", now().as_secs_f64(), what.as_ref());
        if self.shown {
            println!("{line}");
        }
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    /// Number of lines.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether nothing was said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A short name for the whole trace: equal traces have equal ones.
    #[must_use]
    pub fn digest(&self) -> String {
        use sha2::Digest as _;
        let mut hash = sha2::Sha256::new();
        for line in self.lines.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            hash.update(line.as_bytes());
            hash.update(b"\n");
        }
        hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

std::thread_local! {
    static OUTSIDE: std::cell::Cell<Duration> = const { std::cell::Cell::new(Duration::ZERO) };
}

/// Told by the driver, whose own code runs between two steps of the simulation.
pub fn set_now(now: Duration) {
    OUTSIDE.set(now);
}

/// Simulated time since the start.
#[must_use]
pub fn now() -> Duration {
    turmoil::sim_elapsed().unwrap_or_else(|| OUTSIDE.get())
}
