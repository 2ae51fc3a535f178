//! A host that outlives its agent: units in memory, and what was really done to them, whatever anybody believes (I-11).

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quorate_agent::host::fake::{FakeHost, FakeUnit};
use quorate_agent::host::{
    BoxFuture, Effect, ExecOutcome, ExecSpec, Host, HostError, ServiceDriver, UnitReading,
};
use quorate_agent::runner::Runner;
use quorate_model::Timestamp;
use quorate_model::service::Driver;

use super::evidence::Act;
use super::member::{SimClock, Slowness};
use super::trace::{self, Trace};

/// The one service of the simulated fleet.
pub const SERVICE: &str = "ledger";
/// In the version of a release that does not start.
pub const CRASHES: &str = "crash";

/// The machine. Clones are the same one.
#[derive(Clone)]
pub struct Machine {
    name: String,
    fake: FakeHost,
    acts: Arc<Mutex<Vec<Act>>>,
    sights: Arc<Mutex<Vec<(u64, bool)>>>,
    falls: Arc<Mutex<Vec<(u64, bool)>>>,
    runner: Arc<Mutex<Option<Runner>>>,
    slowness: Slowness,
    trace: Trace,
    app: Option<PathBuf>,
}

/// Time between two looks of a paused agent at whether it goes on.
const PAUSE_LOOK: Duration = Duration::from_millis(20);

/// A verb under way; it ends when it is dropped, by its end or with its agent.
struct Under {
    machine: Machine,
    place: usize,
}

impl Under {
    /// The verb came to its end, not only its agent.
    fn ended<T>(self, result: Result<T, HostError>) -> Result<T, HostError> {
        if result.is_ok()
            && let Some(act) = self.machine.acts().get_mut(self.place)
        {
            act.done = true;
        }
        result
    }
}

impl Drop for Under {
    fn drop(&mut self) {
        let now = micros();
        if let Some(act) = self.machine.acts().get_mut(self.place) {
            act.to = now;
        }
    }
}

fn micros() -> u64 {
    u64::try_from(trace::now().as_micros()).unwrap_or(u64::MAX)
}

impl Machine {
    /// A machine on which the service runs.
    #[must_use]
    pub fn new(name: String, slowness: Slowness, trace: Trace) -> Self {
        let unit = FakeUnit {
            start_takes: Duration::from_millis(300),
            stop_takes: Duration::from_millis(200),
            ..FakeUnit::default()
        };
        let clock = || u64::try_from(trace::now().as_millis()).unwrap_or(u64::MAX);
        let fake = FakeHost::with_clock([(SERVICE.to_owned(), unit)].into(), Arc::new(clock));
        let (acts, sights, falls, runner) = <_>::default();
        Self { name, fake, acts, sights, falls, runner, slowness, trace, app: None }
    }

    /// The same machine, with the folder in which its service's releases lie.
    #[must_use]
    pub fn with_releases(self, app: Option<PathBuf>) -> Self {
        Self { app, ..self }
    }

    /// The release in use, as the link names it.
    #[must_use]
    pub fn release(&self) -> Option<String> {
        let link = std::fs::read_link(self.app.as_ref()?.join("current")).ok()?;
        Some(link.file_name()?.to_string_lossy().into_owned())
    }

    /// What is started is the release in use, good or bad.
    fn obey_release(&self) {
        let crashes = self.release().is_some_and(|name| name.contains(CRASHES));
        self.fake.change(SERVICE, |unit| unit.fails_to_start = crashes);
    }

    /// Whether the unit runs now, and since when in simulated milliseconds.
    #[must_use]
    pub fn runs_since(&self) -> Option<u64> {
        let mut since = None;
        self.fake.change(SERVICE, |unit| {
            since = unit.running.then(|| u64::try_from(unit.since.0).unwrap_or(0));
        });
        since
    }

    /// Who can tell for which execution a verb is begun.
    pub fn asks(&self, runner: Runner) {
        *self.runner.lock().unwrap_or_else(PoisonError::into_inner) = Some(runner);
    }

    /// Looks that an agent took at the unit: simulated microseconds, and whether it ran.
    #[must_use]
    pub fn sights(&self) -> Vec<(u64, bool)> {
        self.sights.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The unit ends by itself, whatever its agent does. Whether there was anything to end.
    pub fn fall(&self) -> bool {
        self.by_itself(false)
    }

    /// The machine starts again by itself what ended by itself, as `Restart=` has it, unless somebody is at it or has
    /// stopped or started it since.
    pub fn rise(&self) -> bool {
        let fell = self.falls().last().map(|(at, _)| *at);
        let untouched = self.changes().last().map(|(at, _)| *at) < fell;
        untouched && !self.acts().iter().any(|act| act.to == u64::MAX) && self.by_itself(true)
    }

    fn by_itself(&self, running: bool) -> bool {
        let now = self.fake.now();
        let mut changed = false;
        self.fake.change(SERVICE, |unit| {
            changed = unit.running != running;
            if changed {
                (unit.running, unit.since) = (running, now);
                unit.starts = unit.starts.saturating_add(u64::from(running));
            }
        });
        if changed {
            self.falls.lock().unwrap_or_else(PoisonError::into_inner).push((micros(), running));
        }
        changed
    }

    /// What the unit did by itself, oldest first: simulated microseconds, and whether it ran afterwards.
    #[must_use]
    pub fn falls(&self) -> Vec<(u64, bool)> {
        self.falls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A paused agent does nothing.
    async fn unpaused(&self) {
        while !self.slowness.stall().is_zero() {
            tokio::time::sleep(PAUSE_LOOK).await;
        }
    }

    /// The execution that changes something on this machine now.
    async fn execution(&self) -> Option<String> {
        let runner = self.runner.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        let status = runner.status().await.ok()?;
        status.in_hand.first().map(ToString::to_string)
    }

    fn acts(&self) -> MutexGuard<'_, Vec<Act>> {
        self.acts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Verbs that were begun here, oldest first.
    #[must_use]
    pub fn begun(&self) -> Vec<Act> {
        self.acts().clone()
    }

    /// Beginnings and ends of verbs so far.
    #[must_use]
    pub fn verbs(&self) -> u64 {
        self.acts().iter().map(|act| 1 + u64::from(act.to != u64::MAX)).sum()
    }

    /// What really changed, oldest first: simulated microseconds, and whether the unit ran afterwards.
    #[must_use]
    pub fn changes(&self) -> Vec<(u64, bool)> {
        let done = self.fake.truth();
        done.into_iter().map(|done| (done.at_ms * 1_000, done.running)).collect()
    }

    async fn begin(&self, verb: &str) -> Under {
        self.unpaused().await;
        let execution = self.execution().await;
        let now = micros();
        let of = execution.as_deref().unwrap_or("nothing");
        self.trace.say(&self.name, format!("{verb} of {of} begins"));
        let mut acts = self.acts();
        let (node, verb) = (self.name.clone(), verb.to_owned());
        acts.push(Act { node, verb, from: now, to: u64::MAX, done: false, execution });
        Under { machine: self.clone(), place: acts.len() - 1 }
    }
}

impl ServiceDriver for Machine {
    fn start<'a>(&'a self, unit: &'a str, deadline: Duration) -> BoxFuture<'a, Result<Effect, HostError>> {
        Box::pin(async move {
            let under = self.begin("start").await;
            self.obey_release();
            under.ended(self.fake.start(unit, deadline).await)
        })
    }

    fn stop<'a>(&'a self, unit: &'a str, graceful: Duration) -> BoxFuture<'a, Result<Effect, HostError>> {
        Box::pin(async move {
            let under = self.begin("stop").await;
            under.ended(self.fake.stop(unit, graceful).await)
        })
    }

    fn restart<'a>(
        &'a self,
        unit: &'a str,
        graceful: Duration,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<Effect, HostError>> {
        Box::pin(async move {
            let under = self.begin("restart").await;
            self.obey_release();
            under.ended(self.fake.restart(unit, graceful, deadline).await)
        })
    }

    fn reload<'a>(&'a self, unit: &'a str, deadline: Duration) -> BoxFuture<'a, Result<Effect, HostError>> {
        Box::pin(async move {
            let under = self.begin("reload").await;
            under.ended(self.fake.reload(unit, deadline).await)
        })
    }

    fn status<'a>(&'a self, unit: &'a str) -> BoxFuture<'a, Result<UnitReading, HostError>> {
        Box::pin(async move {
            self.unpaused().await;
            let reading = ServiceDriver::status(&self.fake, unit).await;
            if let Ok(seen) = &reading {
                let sight = (micros(), seen.status.active == "active");
                self.sights.lock().unwrap_or_else(PoisonError::into_inner).push(sight);
            }
            reading
        })
    }
}

impl Host for Machine {
    fn service<'a>(&'a self, driver: &'a Driver) -> Result<(&'a dyn ServiceDriver, &'a str), HostError> {
        match driver {
            Driver::Systemd { unit } => Ok((self, unit)),
            Driver::Process { name } => Ok((self, name)),
        }
    }

    fn exec<'a>(&'a self, spec: &'a ExecSpec) -> BoxFuture<'a, Result<ExecOutcome, HostError>> {
        self.fake.exec(spec)
    }

    fn now(&self) -> Timestamp {
        quorate_coordinator::member::Clock::now(&SimClock)
    }

    fn monotonic_us(&self) -> u64 {
        quorate_agent::host::clock::monotonic_us()
    }

    fn boot_id(&self) -> &str {
        self.fake.boot_id()
    }
}
