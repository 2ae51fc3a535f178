//! The host as the network half sees it: units as the helper last told, programs run by the helper.
//!
//! Probes are written against [`Host`]; here every verb is refused, because this process may not change anything.

use std::sync::Arc;
use std::time::Duration;

use quorate_model::service::Driver;
use quorate_model::{DurationMs, Timestamp};

use super::hub::Hub;
use crate::helper::Way;
use crate::helper::protocol::{Answer, ProbeEnd, Request};
use crate::host::exec::{Capture, ExecEnd};
use crate::host::{
    BoxFuture, Effect, ExecOutcome, ExecSpec, Host, HostError, ServiceDriver, UnitReading, clock,
};

/// Added to a program's own time for the way to the helper and back.
const WAY: Duration = Duration::from_secs(6);

/// The host behind the helper.
pub(super) struct RemoteHost {
    way: Way,
    boot_id: String,
    units: RemoteUnits,
}

impl RemoteHost {
    pub(super) fn new(hub: Arc<Hub>, way: Way) -> std::io::Result<Self> {
        Ok(Self { way, boot_id: clock::boot_id()?, units: RemoteUnits { hub } })
    }

    async fn ask(&self, spec: &ExecSpec) -> Result<ExecOutcome, HostError> {
        let deadline = DurationMs(u64::try_from(spec.deadline.as_millis()).unwrap_or(u64::MAX));
        let request = Request::RunProbe { argv: spec.argv.clone(), timeout: deadline };
        let failed = |text: String| HostError::Io {
            what: "the helper did not run the program".to_owned(),
            source: std::io::Error::other(text),
        };
        let mut client = self.way.connect().await.map_err(|e| failed(e.to_string()))?;
        let answer = client.ask_within(&request, spec.deadline + WAY).await;
        match answer.map_err(|e| failed(e.to_string()))? {
            Answer::Probe(ProbeEnd { end, output }) => {
                let total_bytes = u64::try_from(output.len()).unwrap_or(u64::MAX);
                let stdout = Capture { head: output.into_bytes(), total_bytes, ..Capture::default() };
                Ok(ExecOutcome { end: end.into(), stdout, ..ExecOutcome::default() })
            }
            Answer::Refused { message, .. } => Err(failed(message)),
            other @ (Answer::Status(_)
            | Answer::Done
            | Answer::Notice(_)
            | Answer::CaughtUp
            | Answer::Lease(_)
            | Answer::Leases(_)) => Err(failed(format!("{other:?} is no answer to this"))),
        }
    }
}

impl Host for RemoteHost {
    fn service<'a>(&'a self, driver: &'a Driver) -> Result<(&'a dyn ServiceDriver, &'a str), HostError> {
        match driver {
            Driver::Systemd { unit } => Ok((&self.units, unit)),
            Driver::Process { name } => Ok((&self.units, name)),
        }
    }

    fn exec<'a>(&'a self, spec: &'a ExecSpec) -> BoxFuture<'a, Result<ExecOutcome, HostError>> {
        Box::pin(self.ask(spec))
    }

    fn now(&self) -> Timestamp {
        clock::now()
    }

    fn monotonic_us(&self) -> u64 {
        clock::monotonic_us()
    }

    fn boot_id(&self) -> &str {
        &self.boot_id
    }
}

struct RemoteUnits {
    hub: Arc<Hub>,
}

impl RemoteUnits {
    fn reading(&self, unit: &str) -> Result<UnitReading, HostError> {
        let not_known = || HostError::NotFound { unit: unit.to_owned() };
        let work = self.hub.current();
        let named = |driver: &Driver| match driver {
            Driver::Systemd { unit: name } | Driver::Process { name } => name == unit,
        };
        let instance = work.instances.iter().find(|i| named(&i.driver)).ok_or_else(not_known)?;
        let seen = self.hub.seen();
        let report = seen.reports.get(&instance.service).ok_or_else(not_known)?;
        let Some(status) = report.unit.clone() else {
            let source = std::io::Error::other(report.error.clone());
            return Err(HostError::Io { what: format!("the helper can not look at {unit}"), source });
        };
        let mut reading = UnitReading { status, ..UnitReading::default() };
        let age = DurationMs(clock::uptime_ms()).minus(seen.at);
        let up_us = report.up.plus(age).0.saturating_mul(1_000);
        reading.evidence.invocation_id.clone_from(&reading.status.invocation_id);
        reading.evidence.main_pid = reading.status.main_pid;
        reading.evidence.running = reading.is_running();
        if reading.evidence.running {
            reading.evidence.active_enter_us = clock::monotonic_us().saturating_sub(up_us);
        }
        Ok(reading)
    }
}

fn refused<'a>() -> BoxFuture<'a, Result<Effect, HostError>> {
    Box::pin(async { Err(HostError::Unavailable { what: "changing a unit from the network half" }) })
}

impl ServiceDriver for RemoteUnits {
    fn start<'a>(&'a self, _: &'a str, _: Duration) -> BoxFuture<'a, Result<Effect, HostError>> {
        refused()
    }

    fn stop<'a>(&'a self, _: &'a str, _: Duration) -> BoxFuture<'a, Result<Effect, HostError>> {
        refused()
    }

    fn restart<'a>(
        &'a self,
        _: &'a str,
        _: Duration,
        _: Duration,
    ) -> BoxFuture<'a, Result<Effect, HostError>> {
        refused()
    }

    fn reload<'a>(&'a self, _: &'a str, _: Duration) -> BoxFuture<'a, Result<Effect, HostError>> {
        refused()
    }

    fn status<'a>(&'a self, unit: &'a str) -> BoxFuture<'a, Result<UnitReading, HostError>> {
        Box::pin(async move { self.reading(unit) })
    }
}

impl From<crate::helper::protocol::ProgramEnd> for ExecEnd {
    fn from(end: crate::helper::protocol::ProgramEnd) -> Self {
        use crate::helper::protocol::ProgramEnd;
        match end {
            ProgramEnd::Code(code) => Self::Code(code),
            ProgramEnd::Signal(signal) => Self::Signal(signal),
            ProgramEnd::TimedOut => Self::TimedOut,
        }
    }
}
