//! `exec.run`: a hook that counts its runs is run once wherever its helper dies, and ended with all that it started.

use quorate_model::{ActionSpec, ExecutionState, HookName, Reason, Version};

use crate::fixture::{Host, id, service, until, work};

/// Notes each run, and what it was told, before it does what is asked of it.
fn declare(host: &mut Host, then: &str) {
    let log = host.path("migrations.log").display().to_string();
    host.more = format!(
        "[hook.migrate]\nargv = [\"/bin/sh\", \"-c\", \"echo $QUORATE_NODE $QUORATE_SERVICE $QUORATE_RELEASE >> {log}; {then}\"]"
    );
}

fn migrate(once: bool) -> ActionSpec {
    ActionSpec::ExecRun {
        service: service(),
        hook: HookName::new("migrate").expect("a valid name"),
        once,
        release: Some(Version::new("1.1.0").expect("a valid version")),
        targets: Vec::new(),
    }
}

fn runs(host: &Host) -> Vec<String> {
    let path = host.path("migrations.log");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn it_is_run_once_wherever_the_helper_dies_and_a_lost_outcome_is_told_as_unknown() {
    for (point, state, count) in [
        ("accepted", ExecutionState::Succeeded, 1),
        ("before-intent", ExecutionState::Succeeded, 1),
        ("after-intent", ExecutionState::Unknown, 0),
        ("after-effect", ExecutionState::Unknown, 1),
        ("before-result", ExecutionState::Unknown, 1),
        ("after-result", ExecutionState::Succeeded, 1),
    ] {
        let mut host = Host::new();
        declare(&mut host, "exit 0");
        host.running().await;
        host.kill();
        host.start(Some(point));
        host.deliver(work("x-2", 2, migrate(true))).await;
        host.died().await;
        host.start(None);
        host.deliver(work("x-2", 2, migrate(true))).await;
        let end = host.ended("x-2").await;
        assert_eq!((end.state, runs(&host).len()), (state, count), "{point}: {end:?}");
        host.deliver(work("x-2", 2, migrate(true))).await;
        assert_eq!(host.ended("x-2").await, end, "{point}: the second answer equals the first");
        assert_eq!(runs(&host).len(), count, "{point}: a second delivery runs nothing");
    }
}

#[tokio::test]
async fn one_that_may_be_run_again_is_run_again_after_a_crash() {
    let mut host = Host::new();
    declare(&mut host, "exit 0");
    host.running().await;
    host.kill();
    host.start(Some("after-effect"));
    host.deliver(work("x-2", 2, migrate(false))).await;
    host.died().await;
    host.start(None);
    let end = host.ended("x-2").await;
    assert_eq!((end.state, runs(&host).len()), (ExecutionState::Succeeded, 2), "{end:?}");
}

#[tokio::test]
async fn its_exit_code_and_output_are_told() {
    let mut host = Host::new();
    declare(&mut host, "echo no such table >&2; exit 3");
    host.running().await;
    host.deliver(work("x-2", 2, migrate(true))).await;
    let end = host.ended("x-2").await;
    assert_eq!((end.state, end.reason), (ExecutionState::Failed, Some(Reason::ActionFailed)), "{end:?}");
    let outcome = end.outcome.expect("an outcome");
    assert_eq!((outcome.exit_code, outcome.output_tail.as_str()), (Some(3), "no such table\n"));
    assert_eq!((outcome.output_bytes, outcome.output_sha256.len()), (14, 64));
    assert_eq!(runs(&host), ["node1 ledger 1.1.0"]);
}

#[tokio::test]
async fn a_cancel_ends_it_with_all_that_it_started() {
    let mut host = Host::new();
    declare(&mut host, "sleep 31 & sleep 32");
    host.running().await;
    let mut both = work("x-2", 2, migrate(true));
    host.deliver(both.clone()).await;
    until("the hook began", async || (runs(&host).len() == 1).then_some(())).await;
    both.cancels.push(id("x-2"));
    host.deliver(both).await;
    let end = host.ended("x-2").await;
    assert_eq!(end.state, ExecutionState::Canceled, "{end:?}");
    let outcome = end.outcome.expect("an outcome");
    assert!(outcome.exit_code.is_none() && outcome.message.contains("ended with it"), "{outcome:?}");
    let log = host.path("migrations.log").display().to_string();
    let left = quorate_agent::host::proc::pids().expect("/proc is readable").into_iter().filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&log)
    });
    assert_eq!(left.count(), 0, "the hook still runs");
}

#[tokio::test]
async fn what_the_host_does_not_let_be_run_this_way_is_rejected() {
    let mut host = Host::new();
    declare(&mut host, "exit 0");
    host.running().await;
    let hook = HookName::new("pause").expect("a valid name");
    let pause =
        ActionSpec::ExecRun { service: service(), hook, once: false, release: None, targets: Vec::new() };
    host.deliver(work("x-2", 2, pause)).await;
    let end = host.ended("x-2").await;
    assert_eq!((end.state, end.reason), (ExecutionState::Rejected, Some(Reason::PolicyDenied)), "{end:?}");
    assert!(host.hooks().is_empty());
}
