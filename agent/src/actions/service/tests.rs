//! Units that obey and units that do not.

use std::path::Path;

use quorate_model::service::UnitStatus;
use quorate_model::{ActionSpec, DurationMs, ExecutionState, Reason, ServiceName};

use super::plan;
use crate::actions::testing::{Misbehave, bench, locked, service_name};
use crate::actions::{ActionError, execute};

fn restart() -> ActionSpec {
    ActionSpec::ServiceRestart { service: service_name() }
}

#[tokio::test]
async fn a_restart_is_proved_by_another_run() {
    let b = bench(Path::new("/nonexistent"), true);
    let outcome = execute(&b.context, &restart()).await.expect("restarted");
    assert_eq!(outcome.unit.expect("status").invocation_id, "run1");
    assert_eq!(*locked(&b.unit.calls), ["stop", "start"]);
    assert!(!outcome.escalated);
}

#[tokio::test]
async fn a_restart_of_a_stopped_unit_only_starts_it() {
    let b = bench(Path::new("/nonexistent"), false);
    execute(&b.context, &restart()).await.expect("restarted");
    assert_eq!(*locked(&b.unit.calls), ["start"]);
}

#[tokio::test]
async fn escalation_is_recorded() {
    let b = bench(Path::new("/nonexistent"), true);
    *locked(&b.unit.misbehave) = Misbehave::HangsOnStop;
    let outcome = execute(&b.context, &ActionSpec::ServiceStop { service: service_name() }).await;
    let outcome = outcome.expect("stopped");
    assert!(outcome.escalated && outcome.message.contains("killed"), "{outcome:?}");
}

#[tokio::test]
async fn a_start_that_returned_is_no_proof() {
    for how in [Misbehave::CrashesAtStart, Misbehave::IgnoresStartAndStop, Misbehave::RefusesStart] {
        let b = bench(Path::new("/nonexistent"), true);
        *locked(&b.unit.misbehave) = how;
        let error = execute(&b.context, &restart()).await.expect_err("not restarted");
        assert_eq!(error.reason(), Reason::ActionFailed, "{how:?}: {error}");
        assert_eq!(error.state(), ExecutionState::Failed);
        assert!(error.into_outcome().unit.is_some(), "{how:?} lost the unit's state");
    }
}

#[tokio::test]
async fn starting_and_stopping_twice_does_nothing_the_second_time() {
    let b = bench(Path::new("/nonexistent"), true);
    let start = ActionSpec::ServiceStart { service: service_name() };
    let outcome = execute(&b.context, &start).await.expect("done");
    assert!(outcome.message.contains("running already"), "{}", outcome.message);
    let stop = ActionSpec::ServiceStop { service: service_name() };
    execute(&b.context, &stop).await.expect("stopped");
    let outcome = execute(&b.context, &stop).await.expect("done");
    assert!(outcome.message.contains("stopped already"), "{}", outcome.message);
    assert_eq!(*locked(&b.unit.calls), ["stop"]);
}

#[tokio::test]
async fn a_reload_must_leave_the_same_run() {
    let b = bench(Path::new("/nonexistent"), true);
    let reload = ActionSpec::ServiceReload { service: service_name() };
    execute(&b.context, &reload).await.expect("reloaded");
    *locked(&b.unit.misbehave) = Misbehave::ReloadRestarts;
    let error = execute(&b.context, &reload).await.expect_err("another run");
    assert!(error.to_string().contains("replaced run run0 by run1"), "{error}");
    let b = bench(Path::new("/nonexistent"), false);
    let error = execute(&b.context, &reload).await.expect_err("does not run");
    assert!(error.message().contains("does not run"), "{}", error.message());
}

#[tokio::test]
async fn a_reload_may_take_as_long_as_a_start() {
    let b = bench(Path::new("/nonexistent"), true);
    *locked(&b.unit.misbehave) = Misbehave::HangsInReload;
    let reload = ActionSpec::ServiceReload { service: service_name() };
    let error = execute(&b.context, &reload).await.expect_err("it hangs");
    let limit = std::time::Duration::from_millis(
        b.context.service(&service_name()).expect("known").spec.start_timeout.0,
    );
    assert!(error.to_string().contains(&format!("longer than {limit:?}")), "{error}");
}

#[tokio::test]
async fn canceled_and_late_requests_touch_nothing() {
    let b = bench(Path::new("/nonexistent"), true);
    b.context.cancel.cancel();
    let error = execute(&b.context, &restart()).await.expect_err("canceled");
    assert_eq!(error.state(), ExecutionState::Canceled);
    let mut b = bench(Path::new("/nonexistent"), true);
    b.context.deadline = DurationMs::ZERO;
    let error = execute(&b.context, &restart()).await.expect_err("late");
    assert_eq!((error.state(), error.reason()), (ExecutionState::TimedOut, Reason::DeadlineExceeded));
    assert!(locked(&b.unit.calls).is_empty());
}

#[tokio::test]
async fn an_unknown_service_and_an_unknown_unit_are_not_found() {
    let b = bench(Path::new("/nonexistent"), true);
    let other = ServiceName::new("other").expect("a valid name");
    let error =
        execute(&b.context, &ActionSpec::ServiceStatus { service: other }).await.expect_err("unknown");
    assert!(matches!(error, ActionError::UnknownService(_)));
    let b = bench(Path::new("/nonexistent"), false);
    locked(&b.unit.state).load = "not-found".to_owned();
    let error = execute(&b.context, &restart()).await.expect_err("not found");
    assert_eq!(error.reason(), Reason::NotFound);
    assert!(locked(&b.unit.calls).is_empty());
}

#[test]
fn without_an_invocation_id_nothing_is_proved() {
    let up = UnitStatus { active: "active".to_owned(), ..UnitStatus::default() };
    assert!(plan::new_run(&UnitStatus::default(), &up).is_err());
}
