//! A host in memory, for tests and the simulator. It keeps the ground truth: what was really done, whatever anybody
//! believes or reports (I-11). Time is tokio's, so a paused or simulated clock drives it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quorate_model::Timestamp;
use quorate_model::service::Driver;

use super::{
    BoxFuture, Effect, ExecOutcome, ExecSpec, Host, HostError, RunEvidence, ServiceDriver, UnitReading, Verb,
};
use crate::host::exec::ExecEnd;

/// How one unit behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FakeUnit {
    /// Runs now.
    pub running: bool,
    /// Starts so far.
    pub starts: u64,
    /// Ends at once when started.
    pub fails_to_start: bool,
    /// Ends only by SIGKILL.
    pub ignores_stop: bool,
    /// How long a start takes.
    pub start_takes: Duration,
    /// How long a graceful stop takes.
    pub stop_takes: Duration,
    /// Since when it is in this state.
    pub since: Timestamp,
}

impl Default for FakeUnit {
    fn default() -> Self {
        Self {
            running: true,
            starts: 1,
            fails_to_start: false,
            ignores_stop: false,
            start_takes: Duration::ZERO,
            stop_takes: Duration::ZERO,
            since: Timestamp::ZERO,
        }
    }
}

/// One thing that was really done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// When it took effect, in milliseconds since the fake was made.
    pub at_ms: u64,
    /// What.
    pub verb: Verb,
    /// To which unit.
    pub unit: String,
    /// By SIGKILL.
    pub escalated: bool,
    /// Whether the unit ran afterwards.
    pub running: bool,
}

#[derive(Debug, Default)]
struct State {
    units: BTreeMap<String, FakeUnit>,
    truth: Vec<Done>,
    runs: Vec<ExecSpec>,
    exec_end: Option<ExecEnd>,
    boot: u64,
}

/// The fake. Clones share one machine, so a crashed agent finds it as it left it.
#[derive(Clone)]
pub struct FakeHost {
    state: Arc<Mutex<State>>,
    /// Milliseconds since the fake was made.
    clock: Arc<dyn Fn() -> u64 + Send + Sync>,
    boot_id: String,
}

impl FakeHost {
    /// A machine with these units. Call it inside a runtime.
    #[must_use]
    pub fn new(units: BTreeMap<String, FakeUnit>) -> Self {
        let began = tokio::time::Instant::now();
        Self::with_clock(
            units,
            Arc::new(move || u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)),
        )
    }

    /// As [`FakeHost::new`], with a clock that outlives runtimes: milliseconds since the machine was made.
    #[must_use]
    pub fn with_clock(units: BTreeMap<String, FakeUnit>, clock: Arc<dyn Fn() -> u64 + Send + Sync>) -> Self {
        let state = State { units, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)), clock, boot_id: "fake-boot-0".to_owned() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that was really done, oldest first.
    #[must_use]
    pub fn truth(&self) -> Vec<Done> {
        self.state().truth.clone()
    }

    /// Programs that were run, oldest first.
    #[must_use]
    pub fn runs(&self) -> Vec<ExecSpec> {
        self.state().runs.clone()
    }

    /// How programs end from now on; exit code 0 unless told.
    pub fn exec_ends(&self, end: ExecEnd) {
        self.state().exec_end = Some(end);
    }

    /// Changes how a unit behaves, or makes it crash (`running = false`).
    pub fn change(&self, unit: &str, change: impl FnOnce(&mut FakeUnit)) {
        if let Some(unit) = self.state().units.get_mut(unit) {
            change(unit);
        }
    }

    /// Reboots: everything stopped, a new boot id. Handles made before keep the old one, as a crashed agent would.
    #[must_use]
    pub fn rebooted(&self) -> Self {
        let mut state = self.state();
        state.boot = state.boot.saturating_add(1);
        state.units.values_mut().for_each(|u| u.running = false);
        let boot_id = format!("fake-boot-{}", state.boot);
        drop(state);
        Self { state: Arc::clone(&self.state), clock: Arc::clone(&self.clock), boot_id }
    }

    fn clock_ms(&self) -> u64 {
        (self.clock)()
    }

    fn unit(&self, name: &str) -> Result<FakeUnit, HostError> {
        self.state().units.get(name).cloned().ok_or_else(|| HostError::NotFound { unit: name.to_owned() })
    }

    fn set(&self, name: &str, verb: Verb, running: bool, escalated: bool) {
        let (at_ms, now) = (self.clock_ms(), self.now());
        let mut state = self.state();
        if let Some(unit) = state.units.get_mut(name) {
            (unit.running, unit.since) = (running, now);
            unit.starts = unit.starts.saturating_add(u64::from(verb == Verb::Start));
        }
        state.truth.push(Done { at_ms, verb, unit: name.to_owned(), escalated, running });
    }

    fn reading(&self, name: &str) -> UnitReading {
        let mut reading = UnitReading::default();
        let Ok(unit) = self.unit(name) else {
            reading.status.load = "not-found".into();
            reading.status.active = "inactive".into();
            return reading;
        };
        let (active, sub) = if unit.running { ("active", "running") } else { ("inactive", "dead") };
        let s = &mut reading.status;
        (s.load, s.active, s.sub, s.result) = ("loaded".into(), active.into(), sub.into(), "success".into());
        s.invocation_id = format!("{name}-{}", unit.starts);
        s.main_pid = u32::from(unit.running) * 1_000;
        s.since = unit.since;
        reading.evidence = RunEvidence {
            boot_id: self.boot_id.clone(),
            invocation_id: s.invocation_id.clone(),
            active_enter_us: u64::try_from(unit.since.0).unwrap_or(0).saturating_mul(1_000),
            main_pid: s.main_pid,
            start_ticks: unit.starts,
            starts: unit.starts,
            running: unit.running,
        };
        reading
    }

    async fn start_now(&self, name: &str, deadline: Duration) -> Result<(), HostError> {
        let unit = self.unit(name)?;
        tokio::time::sleep(unit.start_takes.min(deadline)).await;
        if unit.start_takes > deadline {
            let after_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
            return Err(HostError::Timeout { what: format!("start of {name}"), after_ms });
        }
        self.set(name, Verb::Start, !unit.fails_to_start, false);
        if unit.fails_to_start {
            return Err(HostError::NotStarted { unit: name.to_owned(), detail: "exit code 1".into() });
        }
        Ok(())
    }

    async fn stop_now(&self, name: &str, graceful: Duration) -> Result<bool, HostError> {
        let unit = self.unit(name)?;
        let escalated = unit.ignores_stop || unit.stop_takes > graceful;
        tokio::time::sleep(if escalated { graceful } else { unit.stop_takes }).await;
        self.set(name, Verb::Stop, false, escalated);
        Ok(escalated)
    }
}

impl ServiceDriver for FakeHost {
    fn start<'a>(&'a self, unit: &'a str, deadline: Duration) -> BoxFuture<'a, Result<Effect, HostError>> {
        Box::pin(async move {
            let already = self.unit(unit)?.running;
            if !already {
                self.start_now(unit, deadline).await?;
            }
            Ok(Effect { unit: self.reading(unit), already, ..Effect::default() })
        })
    }

    fn stop<'a>(&'a self, unit: &'a str, graceful: Duration) -> BoxFuture<'a, Result<Effect, HostError>> {
        Box::pin(async move {
            let already = !self.unit(unit)?.running;
            let escalated = if already { false } else { self.stop_now(unit, graceful).await? };
            Ok(Effect { unit: self.reading(unit), already, escalated, ..Effect::default() })
        })
    }

    fn restart<'a>(
        &'a self,
        unit: &'a str,
        graceful: Duration,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<Effect, HostError>> {
        Box::pin(async move {
            let escalated =
                if self.unit(unit)?.running { self.stop_now(unit, graceful).await? } else { false };
            self.start_now(unit, deadline).await?;
            Ok(Effect { unit: self.reading(unit), escalated, ..Effect::default() })
        })
    }

    fn reload<'a>(&'a self, unit: &'a str, _deadline: Duration) -> BoxFuture<'a, Result<Effect, HostError>> {
        Box::pin(async move {
            if !self.unit(unit)?.running {
                return Err(HostError::NotReloadable { unit: unit.to_owned(), why: "it does not run" });
            }
            self.set(unit, Verb::Reload, true, false);
            Ok(Effect { unit: self.reading(unit), ..Effect::default() })
        })
    }

    fn status<'a>(&'a self, unit: &'a str) -> BoxFuture<'a, Result<UnitReading, HostError>> {
        Box::pin(async move { Ok(self.reading(unit)) })
    }
}

impl Host for FakeHost {
    fn service<'a>(&'a self, driver: &'a Driver) -> Result<(&'a dyn ServiceDriver, &'a str), HostError> {
        match driver {
            Driver::Systemd { unit } => Ok((self, unit)),
            Driver::Process { name } => Ok((self, name)),
        }
    }

    fn exec<'a>(&'a self, spec: &'a ExecSpec) -> BoxFuture<'a, Result<ExecOutcome, HostError>> {
        Box::pin(async move {
            let mut state = self.state();
            state.runs.push(spec.clone());
            let end = state.exec_end.unwrap_or(ExecEnd::Code(0));
            Ok(ExecOutcome { end, ..ExecOutcome::default() })
        })
    }

    fn now(&self) -> Timestamp {
        Timestamp(i64::try_from(self.clock_ms()).unwrap_or(i64::MAX))
    }

    fn monotonic_us(&self) -> u64 {
        self.clock_ms().saturating_mul(1_000)
    }

    fn boot_id(&self) -> &str {
        &self.boot_id
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{Recovered, judge};

    #[tokio::test]
    async fn it_remembers_what_was_really_done() {
        let units = BTreeMap::from([("ledger".to_owned(), FakeUnit::default())]);
        let host = FakeHost::new(units);
        host.change("ledger", |u| u.ignores_stop = true);
        let before = host.reading("ledger").evidence;
        let effect = host
            .restart("ledger", Duration::from_millis(30), Duration::from_secs(1))
            .await
            .expect("restarts");
        assert!(effect.escalated);
        assert_eq!(judge(Verb::Restart, &before, &effect.unit), Recovered::Done);
        let truth = host.truth();
        assert_eq!(truth.iter().map(|d| d.verb).collect::<Vec<_>>(), [Verb::Stop, Verb::Start]);
        assert!(truth[0].at_ms >= 30 && truth[0].escalated);
        let after = host.rebooted();
        assert_eq!(judge(Verb::Restart, &before, &after.reading("ledger")), Recovered::Unknown);
    }
}
