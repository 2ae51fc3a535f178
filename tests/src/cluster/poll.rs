//! The witness: asks every instance ten times a second whether it serves. It counts by itself what the fleet promises.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Instance, http};
use crate::wait::every;

const PERIOD: Duration = Duration::from_millis(100);
/// Longest one instance may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_millis(1_000);
/// A look that took longer is not a look at one moment (the machine was busy): it is counted, but not judged. Between the
/// restarts of two members lie more than two seconds, so that a look of this length cannot mix them up.
const ONE_MOMENT: Duration = Duration::from_millis(700);

/// One look at all instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// When, since the witness began.
    pub at: Duration,
    /// Members that say of themselves that they serve.
    pub serving: Vec<String>,
}

/// What was counted.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Looks at one moment.
    pub looks: usize,
    /// Looks that took too long to be judged.
    pub slow: usize,
    /// Fewest serving members of any judged look.
    pub fewest: Option<usize>,
    /// Looks below two.
    pub short: usize,
    /// The first of them.
    pub below: Vec<Look>,
}

impl Tally {
    /// The promise: never fewer than two of three, by enough looks to tell.
    ///
    /// # Panics
    /// When it was broken.
    #[track_caller]
    pub fn assert_quorum(&self) {
        assert!(self.below.is_empty(), "fewer than 2 of 3 served: {self:?}");
        assert!(self.looks >= 20 && self.slow < self.looks, "too few looks to tell: {self:?}");
        assert_eq!(self.fewest, Some(2), "nobody was ever away, so nothing was restarted: {self:?}");
    }

    /// More than that: all three at each look.
    ///
    /// # Panics
    /// When one was away.
    #[track_caller]
    pub fn assert_untouched(&self) {
        assert!(self.looks >= 20 && self.slow < self.looks, "too few looks to tell: {self:?}");
        assert_eq!(self.fewest, Some(3), "one of them was away: {self:?}");
    }
}

/// Runs in a thread until it is asked for its tally or dropped.
#[derive(Debug)]
pub struct Poll {
    stop: Arc<AtomicBool>,
    tally: Arc<Mutex<Tally>>,
    thread: Option<JoinHandle<()>>,
}

impl Poll {
    /// Begins.
    #[must_use]
    pub fn begin(instances: Vec<Instance>) -> Self {
        let (stop, tally) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Tally::default())));
        let (told, counted, began) = (Arc::clone(&stop), Arc::clone(&tally), Instant::now());
        let thread = std::thread::spawn(move || {
            every(PERIOD, || {
                let (at, begun) = (began.elapsed(), Instant::now());
                let serving = serving(&instances);
                let mut tally = counted.lock().unwrap_or_else(PoisonError::into_inner);
                if begun.elapsed() > ONE_MOMENT {
                    tally.slow += 1;
                } else {
                    tally.looks += 1;
                    tally.fewest = Some(tally.fewest.map_or(serving.len(), |few| few.min(serving.len())));
                    tally.short += usize::from(serving.len() < 2);
                    // A few are enough to see what happened.
                    if serving.len() < 2 && tally.below.len() < 10 {
                        tally.below.push(Look { at, serving });
                    }
                }
                !told.load(Ordering::Relaxed)
            });
        });
        Self { stop, tally, thread: Some(thread) }
    }

    /// Ends and gives what was counted.
    #[must_use]
    pub fn end(mut self) -> Tally {
        self.join();
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn join(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Poll {
    fn drop(&mut self) {
        self.join();
    }
}

/// Who serves now: each instance is asked for itself, all at the same time.
#[must_use]
pub fn serving(instances: &[Instance]) -> Vec<String> {
    std::thread::scope(|scope| {
        let asked: Vec<_> =
            instances.iter().map(|instance| scope.spawn(move || (instance, serves(instance)))).collect();
        asked
            .into_iter()
            .filter_map(|thread| thread.join().ok())
            .filter(|(_, serves)| *serves)
            .map(|(instance, _)| instance.node.clone())
            .collect()
    })
}

fn serves(instance: &Instance) -> bool {
    let Ok((200, body)) = http("GET", instance.at, "/cluster/nodes", "", ANSWER_LIMIT) else {
        return false;
    };
    let Ok(view) = serde_json::from_str::<Value>(&body) else { return false };
    let rows = view["nodes"].as_array().cloned().unwrap_or_default();
    rows.iter().any(|row| row["node"] == instance.node.as_str() && row["serving"] == true)
}
