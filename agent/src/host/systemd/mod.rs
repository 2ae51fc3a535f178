//! The systemd driver: talks to PID 1 over D-Bus, never through a program.
//!
//! Job: start, stop, restart, reload and look at units; follow each job to its end; record when a stop needed SIGKILL.
//! Must never: pass a name to PID 1 that I-30 refuses, touch our own units or the bus, or wait without a deadline (a bus
//! that hangs is an error after [`CALL_LIMIT`], reliability.md B-19).
//!
//! A restart is one job of systemd's own (`RestartUnit`): if the helper dies in the middle, systemd finishes it.

mod bus;
mod name;
mod words;

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use zbus::Connection;

pub use self::name::check as check_unit_name;

use self::bus::{Bus, Job};
use super::{BoxFuture, Effect, HostError, KILL_GRACE, ServiceDriver, UnitReading, clock};

/// Longest wait for one D-Bus answer. PID 1 answers in milliseconds; a loaded one in well under a second.
pub const CALL_LIMIT: Duration = Duration::from_secs(5);

/// The driver. Connects on first use and again after the bus went away.
pub struct SystemdDriver {
    bus: Bus,
}

impl SystemdDriver {
    /// A driver on the system bus. Connects lazily: a host without D-Bus gives errors, not a failed start.
    ///
    /// # Errors
    /// When the boot id can not be read.
    pub fn system() -> Result<Self, HostError> {
        let boot_id = clock::boot_id().map_err(HostError::io("can not read the boot id"))?;
        Ok(Self { bus: Bus::new(None, boot_id, CALL_LIMIT) })
    }

    /// A driver on a connection that is there already; it is not made again once it breaks.
    #[must_use]
    pub fn on(connection: Connection, boot_id: String, call_limit: Duration) -> Self {
        Self { bus: Bus::new(Some(connection), boot_id, call_limit) }
    }

    /// Whether systemd answers at all: for the choice of drivers at start and for `host.diagnose`.
    ///
    /// # Errors
    /// `Bus` or `Timeout`.
    pub async fn ping(&self) -> Result<(), HostError> {
        self.bus.connection().await.map(drop)
    }

    async fn known(&self, unit: &str) -> Result<UnitReading, HostError> {
        name::check(unit)?;
        let reading = self.bus.reading(unit).await?;
        match reading.status.load.as_str() {
            "not-found" => Err(HostError::NotFound { unit: unit.to_owned() }),
            _ => Ok(reading),
        }
    }

    /// After a job that should leave the unit up.
    async fn up(&self, unit: &str, began: Instant, escalated: bool) -> Result<Effect, HostError> {
        let reading = self.bus.reading(unit).await?;
        if !reading.is_running() {
            let s = &reading.status;
            let detail =
                format!("{} ({}), result {}, exit status {}", s.active, s.sub, s.result, s.exit_status);
            return Err(HostError::NotStarted { unit: unit.to_owned(), detail });
        }
        Ok(Effect { unit: reading, escalated, took_ms: millis(began.elapsed()), ..Effect::default() })
    }

    async fn start_unit(&self, unit: &str, deadline: Duration) -> Result<Effect, HostError> {
        let began = Instant::now();
        let before = self.known(unit).await?;
        if before.status.load == "masked" {
            return Err(HostError::Masked { unit: unit.to_owned() });
        }
        if before.status.active == "active" {
            return Ok(Effect { unit: before, already: true, ..Effect::default() });
        }
        let mut job = self.bus.job("StartUnit", "start", unit).await?;
        match job.done_within(deadline).await? {
            true => self.up(unit, began, false).await,
            false => Err(late("start", unit, deadline)),
        }
    }

    async fn stop_unit(&self, unit: &str, graceful: Duration) -> Result<Effect, HostError> {
        let began = Instant::now();
        let before = self.known(unit).await?;
        if matches!(before.status.active.as_str(), "inactive" | "failed") {
            return Ok(Effect { unit: before, already: true, ..Effect::default() });
        }
        let mut job = self.bus.job("StopUnit", "stop", unit).await?;
        let mut escalated = false;
        if !job.done_within(graceful).await? {
            escalated = self.kill(unit, &mut job).await?;
            if !job.done_within(KILL_GRACE).await? {
                return Err(late("SIGKILL", unit, KILL_GRACE));
            }
        }
        let unit = self.bus.reading(unit).await?;
        // systemd's own TimeoutStopSec may be shorter than our deadline: then the SIGKILL was its.
        let escalated = escalated || unit.status.result == "timeout";
        Ok(Effect { unit, escalated, took_ms: millis(began.elapsed()), ..Effect::default() })
    }

    /// SIGKILL to every process of the unit. `false` when the job ended before that.
    async fn kill(&self, unit: &str, job: &mut Job) -> Result<bool, HostError> {
        match self.bus.kill(unit).await {
            Ok(()) => Ok(true),
            // Refused because nothing is left to kill: the job's own result decides.
            Err(HostError::Refused { .. }) if job.done_within(KILL_GRACE).await? => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Also what a unit that has ended left behind (`KillMode=process`), and what its supervisor is about to start again.
    async fn kill_unit(&self, unit: &str) -> Result<Effect, HostError> {
        name::check(unit)?;
        match self.bus.kill(unit).await {
            // Refused because it is not loaded, or nothing is left to kill: the reading tells.
            Ok(()) | Err(HostError::Refused { .. }) => {}
            Err(e) => return Err(e),
        }
        match self.stop_unit(unit, Duration::ZERO).await {
            Err(HostError::NotFound { .. }) => {
                Ok(Effect { unit: self.bus.reading(unit).await?, already: true, ..Effect::default() })
            }
            done => done,
        }
    }

    async fn restart_unit(
        &self,
        unit: &str,
        graceful: Duration,
        deadline: Duration,
    ) -> Result<Effect, HostError> {
        let began = Instant::now();
        if self.known(unit).await?.status.load == "masked" {
            return Err(HostError::Masked { unit: unit.to_owned() });
        }
        let mut job = self.bus.job("RestartUnit", "restart", unit).await?;
        if job.done_within(graceful).await? {
            return self.up(unit, began, false).await;
        }
        let mut escalated = false;
        let mut stopping = self.bus.reading(unit).await?;
        if stopping.status.active == "deactivating" {
            escalated = self.kill(unit, &mut job).await?;
        }
        let until = Instant::now() + deadline;
        if !job.done_within(deadline).await? {
            stopping = self.bus.reading(unit).await?;
            let state = stopping.status.active;
            return Err(late(if state == "deactivating" { "stop" } else { "restart" }, unit, until - began));
        }
        self.up(unit, began, escalated).await
    }

    async fn reload_unit(&self, unit: &str, deadline: Duration) -> Result<Effect, HostError> {
        let began = Instant::now();
        let before = self.known(unit).await?;
        let not = |why| HostError::NotReloadable { unit: unit.to_owned(), why };
        if before.status.active != "active" {
            return Err(not("it is not active"));
        }
        if !self.bus.can_reload(unit).await? {
            return Err(not("the unit has no ExecReload"));
        }
        let mut job = self.bus.job("ReloadUnit", "reload", unit).await?;
        match job.done_within(deadline).await? {
            true => self.up(unit, began, false).await,
            false => Err(late("reload", unit, deadline)),
        }
    }
}

fn late(what: &str, unit: &str, limit: Duration) -> HostError {
    HostError::Timeout { what: format!("{what} of {unit}"), after_ms: millis(limit) }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

impl ServiceDriver for SystemdDriver {
    fn start<'a>(&'a self, unit: &'a str, deadline: Duration) -> BoxFuture<'a, Result<Effect, HostError>> {
        Box::pin(self.start_unit(unit, deadline))
    }

    fn stop<'a>(&'a self, unit: &'a str, graceful: Duration) -> BoxFuture<'a, Result<Effect, HostError>> {
        Box::pin(self.stop_unit(unit, graceful))
    }

    fn kill<'a>(&'a self, unit: &'a str) -> BoxFuture<'a, Result<Effect, HostError>> {
        Box::pin(self.kill_unit(unit))
    }

    fn restart<'a>(
        &'a self,
        unit: &'a str,
        graceful: Duration,
        deadline: Duration,
    ) -> BoxFuture<'a, Result<Effect, HostError>> {
        Box::pin(self.restart_unit(unit, graceful, deadline))
    }

    fn reload<'a>(&'a self, unit: &'a str, deadline: Duration) -> BoxFuture<'a, Result<Effect, HostError>> {
        Box::pin(self.reload_unit(unit, deadline))
    }

    fn status<'a>(&'a self, unit: &'a str) -> BoxFuture<'a, Result<UnitReading, HostError>> {
        Box::pin(async move {
            name::check(unit)?;
            self.bus.reading(unit).await
        })
    }
}
