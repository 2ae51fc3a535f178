use std::collections::BTreeMap;

use quorate_model::service::Driver;
use quorate_model::session::NodeInstance;
use quorate_model::{ActionSpec, ExecutionState, OperationId, ServiceName, Timestamp};
use tokio_util::sync::CancellationToken;

use super::journal::{Entry, Intent};
use super::*;
use crate::actions::PortError;
use crate::config::Config;
use crate::host::ServiceDriver;
use crate::host::fake::{FakeHost, FakeUnit};

struct NoFacts;

impl FactsSource for NoFacts {
    fn facts(&self) -> futures::future::BoxFuture<'_, Result<quorate_model::node::Facts, PortError>> {
        Box::pin(async { Ok(quorate_model::node::Facts::default()) })
    }
}

fn shop(host: &FakeHost) -> Shop {
    let text = "node = \"node1\"\ndata_dir = \"/nonexistent\"\nhelper_socket = \"/nonexistent/socket\"\n\
                coordinators = [\"127.0.0.1:1\"]\n[policy]\nactions = [\"service.*\"]\nservices = [\"ledger\"]\n";
    let settings = Settings::new(Config::parse(text).unwrap());
    let journal = Journal::in_memory(&quorate_durable::MemoryDisk::new()).unwrap();
    let (clock, of_host) = (leases::boot_clock(), Arc::new(host.clone()));
    let leases = Leases::new(journal.clone(), of_host, settings.clone(), clock, Vec::new());
    let hooks = Hooks::new(Arc::new(host.clone()), settings.clone(), Arc::clone(&leases));
    let undoer = Undoer::new(Arc::new(host.clone()), settings.clone(), hooks.clone());
    let book = Book::new(journal, undoer, host.boot_id().to_owned(), Vec::new(), |_| {});
    let (commands, _) = tokio::sync::mpsc::channel(1);
    let (host, stopping) = (Arc::new(host.clone()), tokio_util::sync::CancellationToken::new());
    Shop { host, settings, hooks, book, leases, facts: Arc::new(NoFacts), stopping, commands }
}

fn restart(host: &FakeHost) -> Entry {
    let service = ServiceName::new("ledger").unwrap();
    Entry {
        assignment: Assignment {
            execution: ExecutionId::new("x-1").unwrap(),
            operation: OperationId::new("r-1").unwrap(),
            epoch: Epoch(1),
            grant_remaining: DurationMs::from_secs(60),
            deadline: DurationMs::from_secs(60),
            action: ActionSpec::ServiceRestart { service: service.clone() },
            disruptive: true,
        },
        instance: Some(NodeInstance {
            service,
            driver: Driver::Systemd { unit: "ledger.service".to_owned() },
            running: true,
            stop_timeout: DurationMs::from_secs(1),
            start_timeout: DurationMs::from_secs(1),
        }),
        digest: "ab".repeat(32),
        boot_id: host.boot_id().to_owned(),
        begin_before: None,
        at: Timestamp::ZERO,
        intent: None,
        end: None,
    }
}

/// An earlier helper stopped the unit and died. systemd was still ending it when this one began to look, and a cancel came
/// in meanwhile: the unit is down by our own hand, so it is started, whoever asks for what.
#[tokio::test]
async fn a_cancel_leaves_no_unit_down_that_an_earlier_helper_stopped() {
    let units = BTreeMap::from([("ledger.service".to_owned(), FakeUnit::default())]);
    let host = FakeHost::new(units);
    let (shop, entry) = (shop(&host), restart(&host));
    let evidence = shop.evidence(&entry).await.unwrap();
    host.stop("ledger.service", Duration::from_secs(1)).await.unwrap();
    let uptime = DurationMs(crate::host::clock::uptime_ms());
    let intent = Intent { at: Timestamp::ZERO, uptime, evidence };
    let canceled = CancellationToken::new();
    canceled.cancel();
    let end = shop.resume(entry.assignment.execution.clone(), entry, intent, canceled).await;
    assert_eq!(end.state, ExecutionState::Succeeded, "{end:?}");
    let unit = end.outcome.and_then(|o| o.unit).map(|u| u.active);
    assert_eq!(unit.as_deref(), Some("active"));
}
