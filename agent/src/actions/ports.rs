//! The ports of an action over the real host.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use quorate_model::node::Facts;
use quorate_model::service::UnitStatus;
use quorate_model::{Driver, DurationMs, Epoch, GroupName, Reason, ServiceName, ServiceSpec, Timestamp};

use super::context::{
    Clock, FactsSource, LeaseKeeper, LeaseNow, Programs, ServiceDriver, ServiceHandle, Services, Stopped,
};
use super::error::PortError;
use crate::facts::host_facts;
use crate::host::{ExecOutcome, ExecSpec, Host, HostError, clock, locks};

impl From<HostError> for PortError {
    fn from(error: HostError) -> Self {
        Self { reason: error.reason(), message: error.full_text() }
    }
}

/// The services that were sent with an assignment, over the host's drivers. The caller has applied the host's policy.
#[derive(Clone)]
pub struct HostServices {
    host: Arc<dyn Host>,
    leases: Arc<dyn LeaseKeeper>,
    specs: BTreeMap<ServiceName, ServiceSpec>,
}

impl HostServices {
    /// Puts services behind the port.
    #[must_use]
    pub fn new(
        host: Arc<dyn Host>,
        leases: Arc<dyn LeaseKeeper>,
        specs: impl IntoIterator<Item = ServiceSpec>,
    ) -> Self {
        Self { host, leases, specs: specs.into_iter().map(|spec| (spec.name.clone(), spec)).collect() }
    }

    fn handle(&self, spec: &ServiceSpec) -> ServiceHandle {
        let driver = HostDriver { host: Arc::clone(&self.host), driver: spec.driver.clone() };
        let (leases, service) = (Arc::clone(&self.leases), spec.name.clone());
        ServiceHandle { spec: spec.clone(), driver: Arc::new(LeasedDriver { driver, leases, service }) }
    }
}

impl Services for HostServices {
    fn get(&self, name: &ServiceName) -> Option<ServiceHandle> {
        self.specs.get(name).map(|spec| self.handle(spec))
    }

    fn all(&self) -> Vec<ServiceHandle> {
        self.specs.values().map(|spec| self.handle(spec)).collect()
    }

    fn unit(&self, unit: &str) -> Arc<dyn ServiceDriver> {
        host_driver(Arc::clone(&self.host), Driver::Systemd { unit: unit.to_owned() })
    }
}

/// The driver of one unit, for work that no assignment stands behind.
pub(crate) fn host_driver(host: Arc<dyn Host>, driver: Driver) -> Arc<dyn ServiceDriver> {
    Arc::new(HostDriver { host, driver })
}

/// One unit behind the host's door.
struct HostDriver {
    host: Arc<dyn Host>,
    driver: Driver,
}

impl ServiceDriver for HostDriver {
    fn status(&self) -> BoxFuture<'_, Result<UnitStatus, PortError>> {
        async move {
            let (driver, unit) = self.host.service(&self.driver)?;
            Ok(driver.status(unit).await?.status)
        }
        .boxed()
    }

    fn start(&self, limit: Duration) -> BoxFuture<'_, Result<(), PortError>> {
        async move {
            let (driver, unit) = self.host.service(&self.driver)?;
            driver.start(unit, limit).await?;
            Ok(())
        }
        .boxed()
    }

    fn stop(&self, graceful: Duration) -> BoxFuture<'_, Result<Stopped, PortError>> {
        async move {
            let (driver, unit) = self.host.service(&self.driver)?;
            Ok(Stopped { escalated: driver.stop(unit, graceful).await?.escalated })
        }
        .boxed()
    }

    fn reload(&self, limit: Duration) -> BoxFuture<'_, Result<(), PortError>> {
        async move {
            let (driver, unit) = self.host.service(&self.driver)?;
            driver.reload(unit, limit).await?;
            Ok(())
        }
        .boxed()
    }
}

/// One unit that is not started while its lease has it stopped: whatever action would.
struct LeasedDriver {
    driver: HostDriver,
    leases: Arc<dyn LeaseKeeper>,
    service: ServiceName,
}

impl ServiceDriver for LeasedDriver {
    fn status(&self) -> BoxFuture<'_, Result<UnitStatus, PortError>> {
        self.driver.status()
    }

    fn start(&self, limit: Duration) -> BoxFuture<'_, Result<(), PortError>> {
        match self.leases.stopping(&self.service) {
            Some(why) => async move { Err(PortError::new(Reason::PrimaryLease, why)) }.boxed(),
            None => self.driver.start(limit),
        }
    }

    fn stop(&self, graceful: Duration) -> BoxFuture<'_, Result<Stopped, PortError>> {
        self.driver.stop(graceful)
    }

    fn reload(&self, limit: Duration) -> BoxFuture<'_, Result<(), PortError>> {
        self.driver.reload(limit)
    }
}

/// The programs of this host.
pub struct HostPrograms {
    host: Arc<dyn Host>,
}

impl HostPrograms {
    /// Behind the host's door.
    #[must_use]
    pub const fn new(host: Arc<dyn Host>) -> Self {
        Self { host }
    }
}

impl Programs for HostPrograms {
    fn run<'a>(&'a self, spec: &'a ExecSpec) -> BoxFuture<'a, Result<ExecOutcome, PortError>> {
        async move { Ok(self.host.exec(spec).await?) }.boxed()
    }

    fn is_locked<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, Result<bool, PortError>> {
        async move {
            let looked = locks::is_locked(path);
            looked.map_err(|e| PortError::new(Reason::ActionFailed, format!("{}: {e}", path.display())))
        }
        .boxed()
    }
}

/// A host on which nothing has ever led under a lease.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoLeases;

impl LeaseKeeper for NoLeases {
    fn standing(&self, _group: &GroupName, _epoch: Epoch) -> LeaseNow {
        LeaseNow::NotYet
    }

    fn stopping(&self, _service: &ServiceName) -> Option<String> {
        None
    }

    fn changed(&self, within: Duration) -> BoxFuture<'_, ()> {
        tokio::time::sleep(within).boxed()
    }
}

/// The host's own clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostClock;

impl Clock for HostClock {
    fn wall(&self) -> Timestamp {
        clock::now()
    }

    fn monotonic(&self) -> DurationMs {
        DurationMs(clock::uptime_ms())
    }
}

/// The facts of this host.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostFacts;

impl FactsSource for HostFacts {
    fn facts(&self) -> BoxFuture<'_, Result<Facts, PortError>> {
        async {
            let collected = tokio::task::spawn_blocking(|| host_facts(Path::new("/"))).await;
            collected
                .map_err(|e| PortError::new(Reason::Internal, format!("collecting facts ended early: {e}")))
        }
        .boxed()
    }
}
