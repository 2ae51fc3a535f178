//! A promotion under a lease that comes late, ends early, or is another's.

use std::path::Path;
use std::sync::{Arc, Mutex};

use futures::FutureExt;
use futures::future::BoxFuture;
use quorate_model::{
    ActionSpec, DurationMs, Epoch, ExecutionState, GroupName, HookName, InstanceId, Reason, ServiceName,
};

use crate::actions::testing::{Bench, bench, service_name};
use crate::actions::{HookReport, HookRunner, LeaseKeeper, LeaseNow, PortError, Told, execute};

/// Stands as it is told, one word after the other; the last one stays.
struct Scripted(Mutex<Vec<LeaseNow>>);

impl Scripted {
    fn new(words: impl IntoIterator<Item = LeaseNow>) -> Arc<Self> {
        let mut words: Vec<_> = words.into_iter().collect();
        words.reverse();
        Arc::new(Self(Mutex::new(words)))
    }
}

impl LeaseKeeper for Scripted {
    fn standing(&self, group: &GroupName, epoch: Epoch) -> LeaseNow {
        assert_eq!((group.as_str(), epoch), ("db", Epoch(7)), "of this execution");
        let mut words = self.0.lock().unwrap();
        if words.len() > 1 { words.pop().unwrap() } else { words[0].clone() }
    }

    fn stopping(&self, _: &ServiceName) -> Option<String> {
        None
    }

    fn changed(&self, within: std::time::Duration) -> BoxFuture<'_, ()> {
        tokio::time::sleep(within).boxed()
    }
}

/// A hook that ends only when it is given up.
struct Endless;

impl HookRunner for Endless {
    fn run_for<'a>(
        &'a self,
        _: &'a HookName,
        _: &'a InstanceId,
        told: Told<'a>,
        _: std::time::Duration,
    ) -> BoxFuture<'a, Result<HookReport, PortError>> {
        async move {
            told.until.unwrap().cancelled().await;
            Ok(HookReport { ended: "ended".to_owned(), cut_off: true, ..HookReport::default() })
        }
        .boxed()
    }

    fn check<'a>(
        &'a self,
        _: &'a HookName,
        _: &'a InstanceId,
        _: std::time::Duration,
        _: &'a Path,
        _: &'a Path,
    ) -> BoxFuture<'a, Result<HookReport, PortError>> {
        async { Ok(HookReport::default()) }.boxed()
    }
}

fn live(left: u64) -> LeaseNow {
    LeaseNow::Live { left: DurationMs(left), needed: DurationMs(5_000) }
}

fn promote() -> ActionSpec {
    ActionSpec::RolePromote {
        service: service_name(),
        group: GroupName::new("db").unwrap(),
        hook: HookName::new("promote").unwrap(),
    }
}

fn with(words: impl IntoIterator<Item = LeaseNow>) -> Bench {
    let mut bench = bench(Path::new("/nowhere"), true);
    bench.context.leases = Scripted::new(words);
    bench
}

#[tokio::test(start_paused = true)]
async fn the_hook_runs_once_the_lease_lives_for_long_enough() {
    let bench = with([LeaseNow::NotYet, LeaseNow::NotYet, live(4_999), live(5_000)]);
    let outcome = execute(&bench.context, &promote()).await.unwrap();
    assert_eq!(outcome.message, "hook promote: exit code 0");
    assert_eq!(bench.recorder.lines(), ["hook promote"]);
}

#[tokio::test(start_paused = true)]
async fn without_a_lease_nothing_is_begun() {
    for word in [LeaseNow::NotYet, live(4_999), LeaseNow::Over("it was recalled".to_owned())] {
        let bench = with([word]);
        let error = execute(&bench.context, &promote()).await.unwrap_err();
        assert_eq!((error.state(), error.reason()), (ExecutionState::Rejected, Reason::PrimaryLease));
        assert!(bench.recorder.lines().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_ends_ends_the_hook() {
    let over = || LeaseNow::Over("no renewal was answered in time".to_owned());
    let mut bench = with([live(9_000), live(9_000), live(100), over()]);
    bench.context.hooks = Arc::new(Endless);
    let error = execute(&bench.context, &promote()).await.unwrap_err();
    assert_eq!((error.state(), error.reason()), (ExecutionState::Failed, Reason::PrimaryLease));
    assert!(error.message().contains("no renewal was answered in time; the hook promote was begun: ended"));
    // Its hook was through before the lease was, and yet it is not done.
    let bench = with([live(9_000), over()]);
    let error = execute(&bench.context, &promote()).await.unwrap_err();
    assert_eq!(error.reason(), Reason::PrimaryLease);
    assert_eq!(bench.recorder.lines(), ["hook promote"]);
}
