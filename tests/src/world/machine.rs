//! A host that outlives its agent: units in memory, and what was really done to them, whatever anybody believes (I-11).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quorate_agent::host::fake::{FakeHost, FakeUnit};
use quorate_agent::host::{
    BoxFuture, Effect, ExecOutcome, ExecSpec, Host, HostError, ServiceDriver, UnitReading, Verb,
};
use quorate_model::Timestamp;
use quorate_model::service::Driver;

use super::evidence::Act;
use super::member::SimClock;
use super::trace::{self, Trace};

/// The one service of the simulated fleet.
pub const SERVICE: &str = "ledger";

/// The machine. Clones are the same one.
#[derive(Clone)]
pub struct Machine {
    name: String,
    fake: FakeHost,
    acts: Arc<Mutex<Vec<Act>>>,
    trace: Trace,
}

/// A verb under way; it ends when it is dropped, by its end or with its agent.
struct Under {
    machine: Machine,
    place: usize,
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
    pub fn new(name: String, trace: Trace) -> Self {
        let unit = FakeUnit {
            start_takes: Duration::from_millis(300),
            stop_takes: Duration::from_millis(200),
            ..FakeUnit::default()
        };
        let clock = || u64::try_from(trace::now().as_millis()).unwrap_or(u64::MAX);
        let fake = FakeHost::with_clock([(SERVICE.to_owned(), unit)].into(), Arc::new(clock));
        Self { name, fake, acts: Arc::default(), trace }
    }

    fn acts(&self) -> MutexGuard<'_, Vec<Act>> {
        self.acts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Verbs that were begun here, oldest first.
    #[must_use]
    pub fn begun(&self) -> Vec<Act> {
        self.acts().clone()
    }

    /// What really changed, oldest first: simulated microseconds, and whether the unit ran afterwards.
    #[must_use]
    pub fn changes(&self) -> Vec<(u64, bool)> {
        let done = self.fake.truth();
        done.into_iter().map(|done| (done.at_ms * 1_000, done.verb != Verb::Stop)).collect()
    }

    fn begin(&self, verb: &str) -> Under {
        let now = micros();
        self.trace.say(&self.name, format!("{verb} begins"));
        let mut acts = self.acts();
        acts.push(Act { node: self.name.clone(), verb: verb.to_owned(), from: now, to: u64::MAX });
        Under { machine: self.clone(), place: acts.len() - 1 }
    }
}

impl ServiceDriver for Machine {
    fn start<'a>(&'a self, unit: &'a str, deadline: Duration) -> BoxFuture<'a, Result<Effect, HostError>> {
        Box::pin(async move {
            let _under = self.begin("start");
            self.fake.start(unit, deadline).await
        })
    }

    fn stop<'a>(&'a self, unit: &'a str, graceful: Duration) -> BoxFuture<'a, Result<Effect, HostError>> {
        Box::pin(async move {
            let _under = self.begin("stop");
            self.fake.stop(unit, graceful).await
        })
    }

    fn restart<'a>(
        &'a self,
        unit: &'a str,
        graceful: Duration,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<Effect, HostError>> {
        Box::pin(async move {
            let _under = self.begin("restart");
            self.fake.restart(unit, graceful, deadline).await
        })
    }

    fn reload<'a>(&'a self, unit: &'a str, deadline: Duration) -> BoxFuture<'a, Result<Effect, HostError>> {
        Box::pin(async move {
            let _under = self.begin("reload");
            self.fake.reload(unit, deadline).await
        })
    }

    fn status<'a>(&'a self, unit: &'a str) -> BoxFuture<'a, Result<UnitReading, HostError>> {
        ServiceDriver::status(&self.fake, unit)
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
