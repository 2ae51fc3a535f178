//! A pause is always followed by a resume, whoever dies.

use quorate_model::{ExecutionState, ObligationState};

use crate::fixture::{Host, backup, until, work};

#[tokio::test]
async fn a_backup_with_a_pause_resumes_in_the_normal_course() {
    let mut host = Host::new();
    host.running().await;
    host.deliver(work("x-2", 2, backup(&host))).await;
    let end = host.ended("x-2").await;
    assert_eq!(end.state, ExecutionState::Succeeded, "{end:?}");
    assert_eq!(host.hooks(), ["pause", "resume"]);
    let paid = host.obligation(|report| report.state == ObligationState::Discharged).await;
    assert_eq!(paid.execution, end.execution);
}

#[tokio::test]
async fn a_helper_that_dies_between_pause_and_resume_resumes_when_it_is_back() {
    let mut host = Host::new();
    host.pause_then = "sleep 30";
    host.running().await;
    host.deliver(work("x-2", 2, backup(&host))).await;
    until("writes are paused", async || (host.hooks() == ["pause"]).then_some(())).await;
    host.kill();
    host.pause_then = "";
    host.start(None);
    // Nobody tells it anything: no network half, no coordinator.
    until("writes are resumed", async || host.hooks().contains(&"resume".to_owned()).then_some(())).await;
    let paid = host.obligation(|report| report.state == ObligationState::ExpiredDischarged).await;
    let end = host.ended("x-2").await;
    assert_eq!((end.state, &end.execution), (ExecutionState::Failed, &paid.execution), "{end:?}");
    assert_eq!(host.hooks(), ["pause", "resume"], "nothing is paused a second time");
    let left: Vec<_> = std::fs::read_dir(host.path("backups")).map(Iterator::collect).unwrap_or_default();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_finished_backup_is_reported_when_the_helper_died_before_it_could_tell() {
    let mut host = Host::new();
    host.running().await;
    host.kill();
    host.start(Some("after-effect"));
    host.deliver(work("x-2", 2, backup(&host))).await;
    host.died().await;
    host.start(None);
    let end = host.ended("x-2").await;
    assert_eq!(end.state, ExecutionState::Succeeded, "{end:?}");
    assert!(end.outcome.is_some_and(|o| o.backup.is_some()));
    assert_eq!(host.hooks(), ["pause", "resume"]);
}

#[tokio::test]
async fn an_undo_that_fails_is_tried_again_and_told() {
    let mut host = Host::new();
    host.resume_then = "exit 1";
    host.running().await;
    host.deliver(work("x-2", 2, backup(&host))).await;
    assert_eq!(host.ended("x-2").await.state, ExecutionState::Failed);
    let failed = host.obligation(|report| report.state == ObligationState::Failed).await;
    assert!(failed.message.contains("resume"), "{failed:?}");
    // The cause goes away; nobody tells the helper.
    host.resume_then = "";
    host.write_config();
    host.hang_up();
    host.obligation(|report| report.state == ObligationState::ExpiredDischarged).await;
}

#[tokio::test]
async fn a_pause_that_an_earlier_helper_began_does_not_come_after_the_resume() {
    let mut host = Host::new();
    host.pause_then = "sleep 30";
    host.running().await;
    host.deliver(work("x-2", 2, backup(&host))).await;
    until("the pause began", async || (host.hooks() == ["pause"]).then_some(())).await;
    host.kill();
    host.start(None);
    assert_eq!(host.ended("x-2").await.state, ExecutionState::Failed);
    assert_eq!(host.hooks(), ["pause", "resume"]);
    let left = quorate_agent::host::proc::pids().expect("/proc is readable").into_iter().filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line)
            .contains(&format!("echo pause >> {}", host.path("hooks.log").display()))
    });
    assert_eq!(left.count(), 0, "the old hook still runs and will pause again");
}

#[tokio::test]
async fn a_cancel_ends_the_hook_that_runs_and_resumes() {
    let mut host = Host::new();
    host.pause_then = "sleep 30";
    host.running().await;
    let mut both = work("x-2", 2, backup(&host));
    host.deliver(both.clone()).await;
    until("the pause began", async || (host.hooks() == ["pause"]).then_some(())).await;
    both.cancels.push(crate::fixture::id("x-2"));
    host.deliver(both).await;
    let began = std::time::Instant::now();
    let end = host.ended("x-2").await;
    assert!(began.elapsed() < std::time::Duration::from_secs(20), "the hook was not ended");
    assert_eq!(end.state, ExecutionState::Canceled, "{end:?}");
    assert_eq!(host.hooks(), ["pause", "resume"]);
}
