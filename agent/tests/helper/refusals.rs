//! What the helper does not do, and who can not ask it.

use std::os::unix::fs::PermissionsExt;

use quorate_agent::helper::protocol::{Answer, Request};
use quorate_model::{ActionSpec, DurationMs, ExecutionState, Reason, ServiceName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::fixture::{Host, restart, work};

#[tokio::test]
async fn refusals_name_their_reason_and_do_nothing() {
    let mut host = Host::new();
    host.running().await;
    host.deliver(work("x-5", 5, ActionSpec::ServiceStatus { service: crate::fixture::service() })).await;
    let mut expired = work("x-7", 7, restart());
    expired.assignments[0].1 = Some(DurationMs(1));
    let other = ActionSpec::ServiceRestart { service: ServiceName::new("sshd").unwrap() };
    for (execution, work, reason) in [
        ("x-4", work("x-4", 4, restart()), Reason::EpochStale),
        ("x-7", expired, Reason::GrantExpired),
        ("x-8", work("x-8", 8, other), Reason::PolicyDenied),
        ("x-9", work("x-9", 9, ActionSpec::HostFacts), Reason::PolicyDenied),
    ] {
        host.deliver(work).await;
        let end = host.ended(execution).await;
        assert_eq!((end.state, end.reason), (ExecutionState::Rejected, Some(reason)), "{end:?}");
    }
    assert_eq!(host.starts(), 1);
}

#[tokio::test]
async fn a_program_that_policy_does_not_list_is_no_probe() {
    let mut host = Host::new();
    host.start(None);
    let request = Request::RunProbe { argv: vec!["/bin/true".into()], timeout: DurationMs(1_000) };
    let answer = host.client().await.ask(&request).await.unwrap();
    assert!(matches!(answer, Answer::Refused { reason: Reason::PolicyDenied, .. }), "{answer:?}");
}

#[tokio::test]
async fn garbage_costs_its_own_connection_only() {
    let mut host = Host::new();
    host.start(None);
    drop(host.client().await);
    for bytes in
        [&b"\xff\xff\xff\xff"[..], b"\0\0\0\x01\x07", b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\x03\x01\x93\xc0"]
    {
        let mut stream = UnixStream::connect(host.path("helper.sock")).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut rest = Vec::new();
        // Closed, or reset because not all was read.
        let _ = stream.read_to_end(&mut rest).await;
        assert!(rest.is_empty(), "{bytes:?} was answered");
    }
    host.status().await;
}

#[tokio::test]
async fn nobody_else_reaches_the_socket() {
    let mut host = Host::new();
    host.start(None);
    drop(host.client().await);
    let mode = |name: &str| std::fs::metadata(host.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("helper.sock"), 0o600);
    assert_eq!(mode("state"), 0o700);
}

#[tokio::test]
async fn a_lost_journal_refuses_changes_until_it_is_reset() {
    let mut host = Host::new();
    host.running().await;
    let before = host.status().await;
    host.kill();
    std::fs::remove_dir_all(host.path("state/journal")).unwrap();
    host.start(None);
    assert!(host.status().await.journal_lost.is_some());
    host.deliver(work("x-2", 2, restart())).await;
    let end = host.ended("x-2").await;
    assert_eq!((end.state, end.reason), (ExecutionState::Rejected, Some(Reason::JournalLost)), "{end:?}");
    let look = ActionSpec::ServiceStatus { service: crate::fixture::service() };
    host.deliver(work("x-3", 3, look)).await;
    assert_eq!(host.ended("x-3").await.state, ExecutionState::Succeeded, "looking changes nothing");
    assert_eq!(host.stop(), Some(0));
    let reset = |yes: &[&str]| host.command().arg("reset-journal").args(yes).output().unwrap();
    assert_eq!(reset(&[]).status.code(), Some(2));
    let done = reset(&["--yes"]);
    assert!(done.status.success(), "{done:?}");
    host.start(None);
    let after = host.status().await;
    assert_eq!(after.journal_lost, None);
    let begun =
        |status: &quorate_agent::runner::Status| status.incarnation.split('.').next().map(str::to_owned);
    assert_ne!(begun(&after), begun(&before), "a new journal has a new incarnation");
    host.deliver(work("x-9", 9, restart())).await;
    assert_eq!(host.ended("x-9").await.state, ExecutionState::Succeeded);
    assert_eq!(host.starts(), 2);
}
