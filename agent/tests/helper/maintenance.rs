//! The maintenance file: owed before it is there, and gone at its time, whoever dies; of others nothing is touched.

use std::fs;

use quorate_agent::host::clock::uptime_ms;
use quorate_agent::runner::Incoming;
use quorate_model::{
    ActionSpec, DurationMs, ExecutionState, MaintenanceSpec, ObligationId, ObligationState, Reason,
};

use crate::fixture::{Host, service, work};

/// Out of the way of every test that does not wait for it.
const LONG: DurationMs = DurationMs(600_000);

fn spec(host: &Host) -> MaintenanceSpec {
    MaintenanceSpec { file: host.path("data/maintenance").display().to_string(), silence: None, lease: None }
}

fn enter(host: &Host, exit_within: DurationMs) -> ActionSpec {
    let reason = "new disk".to_owned();
    ActionSpec::MaintenanceEnter { service: service(), maintenance: spec(host), exit_within, reason }
}

fn exit(host: &Host) -> ActionSpec {
    ActionSpec::MaintenanceExit { service: service(), maintenance: spec(host) }
}

fn is_told(host: &Host) -> bool {
    host.path("data/maintenance").exists()
}

async fn does(host: &Host, execution: &str, epoch: u64, action: ActionSpec) -> ExecutionState {
    host.deliver(work(execution, epoch, action)).await;
    host.ended(execution).await.state
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_stays_until_it_is_ended_and_goes_by_the_coordinators_word() {
    let mut host = Host::new();
    host.running().await;
    assert_eq!(does(&host, "x-2", 2, enter(&host, LONG)).await, ExecutionState::Succeeded);
    assert!(is_told(&host) && host.status().await.open_obligations == 1, "it outlasts its execution");
    assert_eq!(does(&host, "x-3", 3, exit(&host)).await, ExecutionState::Succeeded);
    assert!(!is_told(&host));
    assert_eq!(host.status().await.open_obligations, 0);
    // An operation that was canceled: its coordinators want the undo now.
    assert_eq!(does(&host, "x-4", 4, enter(&host, LONG)).await, ExecutionState::Succeeded);
    let owed = ObligationId::new("x-4:maintenance").expect("a valid id");
    host.deliver(Incoming { generation: 9, discharges: vec![owed], ..Incoming::default() }).await;
    host.obligation(|report| report.state == ObligationState::ExpiredDischarged).await;
    assert!(!is_told(&host));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_helper_that_dies_takes_it_away_alone_at_its_time() {
    let mut host = Host::new();
    host.running().await;
    assert_eq!(does(&host, "x-2", 2, enter(&host, DurationMs(3_000))).await, ExecutionState::Succeeded);
    host.kill();
    assert!(is_told(&host), "nobody is there to take it away");
    host.start(None);
    // Nobody tells it anything: no network half, no coordinator.
    host.obligation(|report| report.state == ObligationState::ExpiredDischarged).await;
    assert!(!is_told(&host));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_waited_for_longer_while_its_operation_lives_and_after_a_crash_too() {
    let mut host = Host::new();
    host.running().await;
    let (first, longer) = (DurationMs(1_500), DurationMs(6_000));
    assert_eq!(does(&host, "x-2", 2, enter(&host, first)).await, ExecutionState::Succeeded);
    let begun = DurationMs(uptime_ms());
    let owed = ObligationId::new("x-2:maintenance").expect("a valid id");
    let until = begun.plus(longer);
    host.deliver(Incoming { generation: 9, extended: vec![(owed, until)], ..Incoming::default() }).await;
    host.kill();
    host.start(None);
    host.obligation(|report| report.state == ObligationState::ExpiredDischarged).await;
    assert!(!is_told(&host));
    assert!(DurationMs(uptime_ms()) >= until, "its first time was not the end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_helper_that_dies_while_it_is_written_goes_on_with_it() {
    for point in ["obligation-open", "after-effect"] {
        let mut host = Host::new();
        host.running().await;
        host.kill();
        host.start(Some(point));
        host.deliver(work("x-2", 2, enter(&host, LONG))).await;
        host.died().await;
        host.start(None);
        assert_eq!(host.ended("x-2").await.state, ExecutionState::Succeeded, "{point}");
        assert!(is_told(&host), "{point}");
        assert_eq!(host.status().await.open_obligations, 1, "{point}: it is still owed");
        assert_eq!(does(&host, "x-3", 3, exit(&host)).await, ExecutionState::Succeeded, "{point}");
        assert!(!is_told(&host), "{point}");
        assert_eq!(host.status().await.open_obligations, 0, "{point}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_else_wrote_stays() {
    let mut host = Host::new();
    host.running().await;
    let file = host.path("data/maintenance");
    fs::write(&file, "true\n").expect("a writable folder");
    host.deliver(work("x-2", 2, enter(&host, LONG))).await;
    let end = host.ended("x-2").await;
    assert_eq!((end.state, end.reason), (ExecutionState::Rejected, Some(Reason::WrongState)), "{end:?}");
    assert_eq!(host.status().await.open_obligations, 0, "nothing is owed");
    fs::remove_file(&file).expect("a writable folder");
    assert_eq!(does(&host, "x-3", 3, enter(&host, DurationMs(3_000))).await, ExecutionState::Succeeded);
    fs::write(&file, "true\n").expect("a writable folder");
    let closed = host.obligation(|report| report.state == ObligationState::ExpiredDischarged).await;
    assert!(closed.message.contains("somebody else"), "{closed:?}");
    assert_eq!(fs::read_to_string(&file).expect("it stays"), "true\n");
}
