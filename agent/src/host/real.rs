//! This very host.

use std::sync::Arc;

use quorate_model::Timestamp;
use quorate_model::service::Driver;

use super::{BoxFuture, ExecOutcome, ExecSpec, Host, HostError, ServiceDriver, clock, exec};

/// The real door: the drivers this host has, and the kernel.
pub struct RealHost {
    systemd: Option<Arc<dyn ServiceDriver>>,
    process: Option<Arc<dyn ServiceDriver>>,
    boot_id: String,
}

impl RealHost {
    /// Puts the drivers behind one door; `None` where the host has or wants no such driver.
    ///
    /// # Errors
    /// When the boot id can not be read.
    pub fn new(
        systemd: Option<Arc<dyn ServiceDriver>>,
        process: Option<Arc<dyn ServiceDriver>>,
    ) -> Result<Self, HostError> {
        let boot_id = clock::boot_id().map_err(HostError::io("can not read the boot id"))?;
        Ok(Self { systemd, process, boot_id })
    }
}

impl Host for RealHost {
    fn service<'a>(&'a self, driver: &'a Driver) -> Result<(&'a dyn ServiceDriver, &'a str), HostError> {
        let (driver, name, what) = match driver {
            Driver::Systemd { unit } => (&self.systemd, unit, "systemd"),
            Driver::Process { name } => (&self.process, name, "the process driver"),
        };
        Ok((driver.as_deref().ok_or(HostError::Unavailable { what })?, name))
    }

    fn exec<'a>(&'a self, spec: &'a ExecSpec) -> BoxFuture<'a, Result<ExecOutcome, HostError>> {
        Box::pin(exec::run(spec))
    }

    fn exec_until<'a>(
        &'a self,
        spec: &'a ExecSpec,
        cancel: tokio_util::sync::CancellationToken,
    ) -> BoxFuture<'a, Result<ExecOutcome, HostError>> {
        Box::pin(exec::run_until(spec, cancel))
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
