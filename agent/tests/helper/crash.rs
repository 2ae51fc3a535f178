//! A helper that dies at any point: effects are counted by the service itself and never happen twice.

use quorate_model::ExecutionState;

use crate::fixture::{Host, id, restart, until, work};

#[tokio::test]
async fn a_restart_is_done_once_wherever_the_helper_dies() {
    for point in
        ["accepted", "before-intent", "after-intent", "after-effect", "before-result", "after-result"]
    {
        let mut host = Host::new();
        host.running().await;
        host.kill();
        host.start(Some(point));
        host.deliver(work("x-2", 2, restart())).await;
        host.died().await;
        host.start(None);
        // Level-triggered: the coordinator tells the whole work again. What dies before the acceptance is durable was
        // never promised, and is done now.
        host.deliver(work("x-2", 2, restart())).await;
        let end = host.ended("x-2").await;
        assert_eq!(end.state, ExecutionState::Succeeded, "{point}: {end:?}");
        assert_eq!(host.starts(), 2, "{point}: the restart has one start\n{}", host.read("helper.log"));
        host.deliver(work("x-2", 2, restart())).await;
        assert_eq!(host.ended("x-2").await, end, "{point}: the second answer equals the first");
        assert_eq!(host.starts(), 2, "{point}: a second delivery does nothing");
    }
}

/// Nobody tells the helper again here: what it accepted, and the highest epoch with it, came from its own journal.
#[tokio::test]
async fn what_was_accepted_is_known_and_done_after_a_crash() {
    let mut host = Host::new();
    host.running().await;
    host.kill();
    host.start(Some("accepted"));
    host.deliver(work("x-2", 2, restart())).await;
    host.died().await;
    host.start(None);
    let status = host.status().await;
    assert!(status.unconfirmed.contains(&id("x-2")), "{status:?}");
    assert_eq!(status.highest_epoch, quorate_model::Epoch(2), "an older one stays fenced off");
    let end = host.ended("x-2").await;
    assert_eq!(end.state, ExecutionState::Succeeded, "{end:?}");
    assert_eq!(host.starts(), 2);
}

#[tokio::test]
async fn a_restart_whose_helper_dies_while_the_service_stops_is_finished() {
    let mut host = Host::new();
    host.on_stop = "touch stopping; sleep 1; exit 0";
    host.running().await;
    host.deliver(work("x-2", 2, restart())).await;
    until("the service is stopping", async || host.path("stopping").exists().then_some(())).await;
    host.kill();
    host.start(None);
    let end = host.ended("x-2").await;
    assert_eq!(end.state, ExecutionState::Succeeded, "{end:?}");
    assert_eq!(host.starts(), 2);
    assert_eq!(end.outcome.and_then(|o| o.unit).map(|u| u.active), Some("active".to_owned()));
}

#[tokio::test]
async fn the_service_outlives_the_helper_and_is_found_again() {
    let mut host = Host::new();
    host.running().await;
    let pid =
        |end: quorate_model::session::ExecutionReport| end.outcome.and_then(|o| o.unit).map(|u| u.main_pid);
    let before = pid(host.ended("x-start").await);
    assert_eq!(host.stop(), Some(0), "a stop that was asked for is no failure");
    host.start(None);
    let status = quorate_model::ActionSpec::ServiceStatus { service: crate::fixture::service() };
    host.deliver(work("x-2", 2, status)).await;
    assert_eq!(pid(host.ended("x-2").await), before);
    assert_eq!(host.starts(), 1);
}

#[tokio::test]
async fn what_is_confirmed_is_forgotten_and_still_known() {
    use quorate_agent::helper::protocol::{Answer, Request};
    let mut host = Host::new();
    host.running().await;
    let first = host.status().await;
    assert_eq!(first.unconfirmed, [id("x-start")]);
    let answer = host.client().await.ask(&Request::Confirm(id("x-start"))).await;
    assert!(matches!(answer, Ok(Answer::Done)));
    host.kill();
    host.start(None);
    let second = host.status().await;
    assert!(second.unconfirmed.is_empty());
    assert_eq!(second.highest_epoch, first.highest_epoch, "the epoch survives");
    assert_ne!(second.incarnation, first.incarnation);
    assert_eq!(second.installation, first.installation);
    host.deliver(work("x-start", 1, restart())).await;
    let mut late = work("x-start", 1, restart());
    late.generation = 9;
    host.deliver(late).await;
    assert_eq!(host.starts(), 1, "its id was used for something else");
}
