//! What a pre-flight asks of the network is looked at once for each execution, and written where the helper looks.

use quorate_model::session::Assignment;
use quorate_model::{ActionKind, ActionSpec, OperationId, PreflightSpec, Required, ServiceName};

use super::*;
use crate::actions::{REACHED, Reached};
use crate::session::reach;

fn work(addresses: &[String]) -> NodeWork {
    let requires = addresses.iter().map(|address| Required::Address { address: address.clone() }).collect();
    let action = ActionSpec::HostPreflight {
        service: ServiceName::new("ledger").unwrap(),
        preflight: PreflightSpec { requires, ..PreflightSpec::default() },
        ahead_of: ActionKind::ServiceRestart,
        release: None,
        backup: false,
    };
    let assignment = Assignment {
        execution: ExecutionId::new("x-7").unwrap(),
        operation: OperationId::new("r-1").unwrap(),
        epoch: Epoch(4),
        grant_remaining: DurationMs(60_000),
        deadline: DurationMs(60_000),
        action,
        disruptive: false,
    };
    NodeWork { assignments: vec![assignment], ..NodeWork::default() }
}

#[tokio::test]
async fn addresses_and_the_clock_are_told_and_forgotten() {
    let ca = authority();
    let (address, _seen, _) = coordinator(&ca).await;
    let bench = bench(&ca, &[address], Duration::from_secs(3_600));
    tokio::spawn(reach::run(Arc::clone(&bench.context), bench.shutdown.clone()));
    let open = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let there = open.local_addr().unwrap().to_string();
    let gone = {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        closed.local_addr().unwrap().to_string()
    };
    bench.hub.clock_told(-12);
    bench.hub.desired(work(&[there.clone(), gone.clone()]), DurationMs::ZERO);
    let file = bench.dir.path().join(REACHED).join("x-7");
    let read = || serde_json::from_slice::<Reached>(&std::fs::read(&file).ok()?).ok();
    let told = super::artifacts::until("what was reached", read).await;
    assert_eq!((told.offset_ms, told.addresses[&there].as_str()), (Some(-12), ""));
    assert!(told.addresses[&gone].contains("refused"), "{told:?}");
    bench.hub.desired(NodeWork::default(), DurationMs::ZERO);
    super::artifacts::until("the file to go", || (!file.exists()).then_some(())).await;
}
