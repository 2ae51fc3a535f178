//! A hook for its own sake: its end, whatever it is, is told as it was.

use std::path::Path;

use quorate_model::{ActionOutcome, ActionSpec, ExecutionState, HookName, NodeName, Reason, Version};

use crate::actions::testing::{Bench, bench, service_name};
use crate::actions::{ActionError, HookReport, PortError, execute};

fn migrate() -> ActionSpec {
    ActionSpec::ExecRun {
        service: service_name(),
        hook: HookName::new("migrate").unwrap(),
        once: true,
        release: Some(Version::new("1.1.0").unwrap()),
        targets: Vec::new(),
    }
}

async fn run(bench: &Bench) -> Result<ActionOutcome, ActionError> {
    execute(&bench.context, &migrate()).await
}

fn ended(report: HookReport) -> Bench {
    let bench = bench(Path::new("/nowhere"), true);
    bench.recorder.on_hook(move |_| Ok(report.clone()));
    bench
}

#[tokio::test]
async fn it_is_run_once_for_its_release_and_what_it_said_is_kept() {
    let bench = ended(HookReport {
        ok: true,
        ended: "exit code 0".into(),
        output_tail: "3 tables".into(),
        output_bytes: 8,
        output_sha256: "ab".repeat(32),
        exit_code: Some(0),
        ..HookReport::default()
    });
    let outcome = run(&bench).await.unwrap();
    assert_eq!(bench.recorder.lines(), ["hook migrate for 1.1.0"]);
    assert_eq!(
        (outcome.exit_code, outcome.output_tail.as_str(), outcome.output_bytes),
        (Some(0), "3 tables", 8)
    );
    assert_eq!((outcome.message.as_str(), outcome.output_sha256.len()), ("hook migrate: exit code 0", 64));
}

#[tokio::test]
async fn a_hand_over_is_told_who_may_take_over() {
    let bench = bench(Path::new("/nowhere"), true);
    let hook = HookName::new("step-down").unwrap();
    let targets = ["node2", "node3"].map(|name| NodeName::new(name).unwrap()).to_vec();
    let hand_over =
        ActionSpec::ExecRun { service: service_name(), hook, once: false, release: None, targets };
    execute(&bench.context, &hand_over).await.unwrap();
    assert_eq!(bench.recorder.lines(), ["hook step-down to node2 to node3"]);
}

#[tokio::test]
async fn a_bad_exit_is_a_failure_with_its_code_and_output() {
    let ended = ended(HookReport {
        ended: "exit code 3".into(),
        exit_code: Some(3),
        output_tail: "no such table".into(),
        leftovers: (1..=10).map(|pid| format!("{pid} sleep")).collect(),
        ..HookReport::default()
    });
    let error = run(&ended).await.unwrap_err();
    assert_eq!((error.state(), error.reason()), (ExecutionState::Failed, Reason::ActionFailed));
    let outcome = error.into_outcome();
    assert_eq!((outcome.exit_code, outcome.output_tail.as_str()), (Some(3), "no such table"));
    assert!(outcome.message.contains("ended with it: 1 sleep") && outcome.message.ends_with("and 2 more"));
}

#[tokio::test]
async fn one_that_was_cut_off_has_no_code_and_says_why() {
    let cut = || HookReport { ended: "timed out after 5s".into(), cut_off: true, ..HookReport::default() };
    let late = ended(cut());
    let error = run(&late).await.unwrap_err();
    assert_eq!((error.state(), error.reason()), (ExecutionState::TimedOut, Reason::DeadlineExceeded));
    assert_eq!(error.into_outcome().exit_code, None);
    let canceled = ended(cut());
    let cancel = canceled.context.cancel.clone();
    canceled.recorder.on_hook(move |_| {
        cancel.cancel();
        Ok(cut())
    });
    let error = run(&canceled).await.unwrap_err();
    assert_eq!(error.state(), ExecutionState::Canceled);
    assert!(error.into_outcome().message.contains("stays done"));
}

#[tokio::test]
async fn what_the_host_does_not_have_is_rejected_before_anything_is_done() {
    let bench = bench(Path::new("/nowhere"), true);
    bench.recorder.on_hook(|_| Err(PortError::new(Reason::NotFound, "this host declares no [hook.migrate]")));
    let error = run(&bench).await.unwrap_err();
    assert_eq!((error.state(), error.reason()), (ExecutionState::Rejected, Reason::NotFound));
    bench.context.cancel.cancel();
    assert_eq!(run(&bench).await.unwrap_err().state(), ExecutionState::Canceled);
    assert_eq!(bench.recorder.lines().len(), 1, "canceled before it began: it is not run");
}
