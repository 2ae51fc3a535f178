//! Looks at the node's units and tells what it sees.

use std::sync::Arc;
use std::time::Duration;

use quorate_common::task::{BoxError, Shutdown};
use quorate_model::DurationMs;
use quorate_model::session::{InstanceReport, NodeInstance};

use super::server::Server;
use crate::host::{Host, clock};
use crate::runner::Notice;

/// Time between looks. A decision rests on readings that are at most two heartbeats old, and those are 500 ms at the
/// shortest; a look costs a read of `/proc` or one D-Bus call.
const LOOK: Duration = Duration::from_millis(500);
/// A unit that can not be looked at within this time is reported so.
const LOOK_LIMIT: Duration = Duration::from_secs(5);

/// Looks until it is told to stop.
pub(super) async fn run(server: Arc<Server>, shutdown: Shutdown) -> Result<(), BoxError> {
    while shutdown.pause(LOOK).await {
        let Ok(instances) = server.runner.instances().await else { return Ok(()) };
        if instances.is_empty() {
            continue;
        }
        let mut reports = Vec::with_capacity(instances.len());
        for instance in &instances {
            reports.push(look(&*server.host, instance).await);
        }
        server.runner.tell(Notice::Instances(reports));
    }
    Ok(())
}

async fn look(host: &dyn Host, instance: &NodeInstance) -> InstanceReport {
    let mut report = InstanceReport {
        service: instance.service.clone(),
        unit: None,
        error: String::new(),
        age: DurationMs::ZERO,
        up: DurationMs::ZERO,
    };
    let looked = async {
        let (driver, unit) = host.service(&instance.driver)?;
        driver.status(unit).await
    };
    match tokio::time::timeout(LOOK_LIMIT, looked).await {
        Ok(Ok(reading)) => {
            if reading.is_running() && reading.evidence.active_enter_us > 0 {
                let up_us = clock::monotonic_us().saturating_sub(reading.evidence.active_enter_us);
                report.up = DurationMs(up_us / 1_000);
            }
            report.unit = Some(reading.status);
        }
        Ok(Err(error)) => report.error = error.full_text(),
        Err(_) => report.error = format!("its state was not told within {LOOK_LIMIT:?}"),
    }
    report
}
