//! Runs a set of probes, each in its own rhythm, and keeps the newest reading of each.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quorate_model::{NodeName, ProbeKind, ProbeName, ProbeSpec, ServiceName};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::Reading;
use super::exec::{ProbeTarget, Prober};
use super::measure::{self, Others};

/// Most probes of one agent: 64 services with 8 probes each, and as many again looked at on peers.
pub const PROBES_MAX: usize = 1_024;
/// Shortest interval, whatever the specification says: below it probing is a load of its own.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Names one probe of one instance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProbeKey {
    /// The node that carries the instance.
    pub node: NodeName,
    /// The service.
    pub service: ServiceName,
    /// The probe.
    pub probe: ProbeName,
}

/// One probe to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheduled {
    /// What it looks at.
    pub target: ProbeTarget,
    /// How.
    pub spec: ProbeSpec,
}

/// The newest reading of a probe, with its run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latest {
    /// The reading.
    pub reading: Reading,
    /// Consecutive passes up to it.
    pub passes: u32,
    /// Consecutive failures up to it.
    pub failures: u32,
    /// Passes needed to be stable.
    pub needed: u32,
    /// Readings taken in all.
    pub taken: u64,
}

impl Latest {
    /// Whether it passed often enough in a row.
    #[must_use]
    pub fn is_stable(&self) -> bool {
        self.passes > 0 && self.passes >= self.needed
    }

    /// The next state after one more reading. Pure.
    #[must_use]
    pub fn after(before: Option<&Self>, reading: Reading, needed: u32) -> Self {
        let (passes, failures, taken) = before.map_or((0, 0, 0), |b| (b.passes, b.failures, b.taken));
        let (passes, failures) = match (reading.ok, reading.blind) {
            (true, _) => (passes.saturating_add(1), 0),
            (false, false) => (0, failures.saturating_add(1)),
            (false, true) => (0, 0),
        };
        Self { reading, passes, failures, needed, taken: taken.saturating_add(1) }
    }
}

struct Running {
    scheduled: Scheduled,
    task: AbortHandle,
}

type Results = Arc<Mutex<BTreeMap<ProbeKey, Latest>>>;

/// The scheduler: one task per probe, hence at most one reading in flight of each. Dropped, it ends them all.
pub struct Scheduler {
    prober: Arc<Prober>,
    running: Mutex<BTreeMap<ProbeKey, Running>>,
    results: Results,
    changes: watch::Sender<u64>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Scheduler {
    /// A scheduler with nothing to run.
    #[must_use]
    pub fn new(prober: Arc<Prober>) -> Self {
        Self {
            prober,
            running: Mutex::new(BTreeMap::new()),
            results: Results::default(),
            changes: watch::Sender::new(0),
        }
    }

    /// Takes over the whole set of probes to run: new ones start, changed ones start anew, others end and their results
    /// are dropped. Returns how many were left out because there are more than [`PROBES_MAX`]. Call it inside a runtime.
    pub fn set(&self, wanted: Vec<Scheduled>) -> usize {
        let mut set: BTreeMap<ProbeKey, Scheduled> = BTreeMap::new();
        let mut left_out = 0;
        for scheduled in wanted {
            if set.len() >= PROBES_MAX && !set.contains_key(&scheduled.target.key) {
                left_out += 1;
            } else {
                set.insert(scheduled.target.key.clone(), scheduled);
            }
        }
        measure::keep_bodies(&mut set);
        let mut running = locked(&self.running);
        running.retain(|key, run| {
            let keep = set.get(key) == Some(&run.scheduled);
            if !keep {
                run.task.abort();
                self.prober.forget(key);
                locked(&self.results).remove(key);
            }
            keep
        });
        for (key, scheduled) in set {
            running.entry(key).or_insert_with(|| {
                let work = run(
                    Arc::clone(&self.prober),
                    scheduled.clone(),
                    Arc::clone(&self.results),
                    self.changes.clone(),
                );
                Running { task: tokio::spawn(work).abort_handle(), scheduled }
            });
        }
        left_out
    }

    /// The newest readings.
    #[must_use]
    pub fn latest(&self) -> BTreeMap<ProbeKey, Latest> {
        let running = locked(&self.running);
        // A task on another thread may have noted one last reading after its end was asked for.
        locked(&self.results)
            .iter()
            .filter(|(k, _)| running.contains_key(k))
            .map(|(k, l)| (k.clone(), l.clone()))
            .collect()
    }

    /// Counts readings: await a change instead of asking again and again.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        for run in locked(&self.running).values() {
            run.task.abort();
        }
    }
}

/// Where in its interval a probe begins, from its name: neither all at once, nor different after each restart.
fn offset(key: &ProbeKey, interval: Duration) -> Duration {
    let names = [key.node.as_str(), key.service.as_str(), key.probe.as_str()];
    // FNV-1a: spread, not secrecy.
    let hash = names
        .iter()
        .flat_map(|n| n.bytes())
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let part = u32::try_from((hash >> 32) % 1_000).unwrap_or(0);
    // The first reading comes soon: a gate may wait for it.
    (interval / 10).saturating_mul(part) / 1_000
}

async fn run(prober: Arc<Prober>, scheduled: Scheduled, results: Results, changes: watch::Sender<u64>) {
    let Scheduled { target, spec } = scheduled;
    let interval = Duration::from_millis(spec.interval.0).max(INTERVAL_MIN);
    tokio::time::sleep(offset(&target.key, interval)).await;
    let mut ticks = tokio::time::interval(interval);
    // A slow reading delays the next one; readings are never taken in a burst to catch up.
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let others = match spec.kind {
            ProbeKind::Expression { .. } => measure::others(&locked(&results), &target.key),
            ProbeKind::Http { .. }
            | ProbeKind::Tcp { .. }
            | ProbeKind::Exec { .. }
            | ProbeKind::UnitSoak { .. }
            | ProbeKind::Membership { .. }
            | ProbeKind::Certificate(_)
            | ProbeKind::Alerts(_)
            | ProbeKind::Metric(_) => Others::new(),
        };
        let reading = prober.read(&target, &spec, &others).await;
        {
            let mut results = locked(&results);
            let next = Latest::after(results.get(&target.key), reading, spec.passes);
            results.insert(target.key.clone(), next);
        }
        changes.send_modify(|n| *n = n.wrapping_add(1));
    }
}
