//! Looks at every instance ten times a second, all through the run.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use quorate_tests::cluster::{Instance, serving};
use quorate_tests::history::Recorder;
use quorate_tests::outside::{Look, Rule, Seen, Taken};
use quorate_tests::wait::every;

const PERIOD: Duration = Duration::from_millis(100);
/// A look that took longer is not a look at one moment: counted, not judged.
const ONE_MOMENT: Duration = Duration::from_millis(700);

pub(crate) struct Witness {
    instances: Vec<Instance>,
    recorder: Arc<Recorder>,
    looks: Arc<Mutex<Vec<Look>>>,
    taken: Mutex<Vec<Taken>>,
    slow: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Witness {
    pub(crate) fn begin(instances: Vec<Instance>, recorder: Arc<Recorder>) -> Self {
        let looks: Arc<Mutex<Vec<Look>>> = Arc::default();
        let (slow, stop) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (seen, late, told) = (Arc::clone(&looks), Arc::clone(&slow), Arc::clone(&stop));
        let (watched, clock) = (instances.clone(), Arc::clone(&recorder));
        let thread = std::thread::spawn(move || {
            every(PERIOD, || {
                let (begun, at_us) = (Instant::now(), clock.now_us());
                let names = serving(&watched);
                if begun.elapsed() > ONE_MOMENT {
                    late.fetch_add(1, Ordering::Relaxed);
                } else {
                    let bits = watched.iter().zip(0..).filter(|(i, _)| names.contains(&i.node));
                    let serving = bits.fold(0, |all, (_, bit)| all | 1 << bit);
                    seen.lock().unwrap_or_else(PoisonError::into_inner).push(Look { at_us, serving });
                }
                !told.load(Ordering::Relaxed)
            });
        });
        Self { instances, recorder, looks, taken: Mutex::default(), slow, stop, thread: Some(thread) }
    }

    /// The test takes a member itself, now.
    pub(crate) fn taken(&self, node: &str) {
        let member = self.instances.iter().position(|instance| instance.node == node).unwrap_or(usize::MAX);
        let at_us = self.recorder.now_us();
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).push(Taken { member, at_us });
    }

    /// Ends and judges; with the looks that were too slow.
    pub(crate) fn end(mut self) -> (Seen, usize) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        // Two probe intervals of 300 ms and the slack of 5 s that the settings give; the blur is a look that was too slow.
        let rule =
            Rule { members: self.instances.len(), required: 2, freshness_us: 5_600_000, blur_us: 800_000 };
        let looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        (rule.judge(&looks, &taken), self.slow.load(Ordering::Relaxed))
    }
}
