//! What leads is stopped in its time, whoever is alive: a real helper, a real child, a lease of three seconds.

use std::process::Command;
use std::time::{Duration, Instant};

use quorate_agent::helper::Client;
use quorate_agent::helper::protocol::{Answer, Request};
use quorate_agent::host::{clock, proc};
use quorate_agent::runner::leases::{LeaseOrder, LeaseStanding, LeaseWord};
use quorate_model::{
    ActionSpec, Driver, DurationMs, Epoch, ExecutionState, GroupName, HeldLease, HookName, Reason,
};

use crate::fixture::{Host, service, until, work};

const TTL: DurationMs = DurationMs(3_000);

fn order(epoch: u64, answer: Option<LeaseWord>) -> Request {
    let lease = HeldLease {
        group: GroupName::new("db").expect("a valid name"),
        service: service(),
        epoch: Epoch(epoch),
        ttl: TTL,
        recalled: false,
    };
    Request::Lease(Box::new(LeaseOrder {
        lease,
        driver: Driver::Process { name: "ledger".to_owned() },
        answer,
    }))
}

async fn ask(client: &mut Client, request: Request) -> LeaseStanding {
    match client.ask(&request).await {
        Ok(Answer::Lease(standing)) => standing,
        other => panic!("{other:?}"),
    }
}

fn granted_now() -> Option<LeaseWord> {
    Some(LeaseWord::Granted { sent: DurationMs(clock::uptime_ms()) })
}

/// The service leads, under a lease that was renewed just now.
async fn leads(host: &mut Host) -> Client {
    host.running().await;
    let mut client = host.client().await;
    assert_eq!(ask(&mut client, order(7, None)).await, LeaseStanding::Kept);
    assert_eq!(ask(&mut client, order(7, granted_now())).await, LeaseStanding::Kept);
    client
}

/// Processes of the service.
fn alive(host: &Host) -> Vec<u32> {
    let mark = format!("{}/starts.log", host.path("").display()).replace("//", "/");
    let of = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&mark)
    };
    proc::pids().expect("/proc is readable").into_iter().filter(of).collect()
}

async fn gone(host: &Host) {
    until("nothing leads any more", async || alive(host).is_empty().then_some(())).await;
}

async fn released(host: &Host) -> String {
    let mut client = host.client().await;
    until("it is released", async || match ask(&mut client, order(7, None)).await {
        LeaseStanding::Released(why) | LeaseStanding::Killed(why) => Some(why),
        LeaseStanding::Kept | LeaseStanding::Stopping => None,
    })
    .await
}

fn may_lead(host: &Host, more: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate-agent"));
    command.arg("--config").arg(host.path("agent.toml")).args(["may-lead", "ledger"]).args(more);
    let output = command.output().expect("it runs");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test]
async fn nobody_renews_it_and_it_is_stopped_in_its_time() {
    let mut host = Host::new();
    host.running().await;
    let mut client = host.client().await;
    ask(&mut client, order(7, None)).await;
    assert_eq!(may_lead(&host, &[]).0, Some(1), "nobody has answered yet");
    let began = Instant::now();
    ask(&mut client, order(7, granted_now())).await;
    assert_eq!(may_lead(&host, &[]).0, Some(0));
    drop(client);
    gone(&host).await;
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(2), "stopped before its time: {took:?}");
    assert_eq!(released(&host).await, "stopped: no renewal was answered in time");
    let (code, why) = may_lead(&host, &[]);
    assert!(code == Some(1) && why.contains("no renewal was answered in time"), "{code:?} {why}");
    let there = host.path("agent.toml").display().to_string();
    assert_eq!(may_lead(&host, &["--unless-exists", &there]).0, Some(0), "it follows");
    assert_eq!(may_lead(&host, &["--unless-exists", "/nonexistent"]).0, Some(1));
    host.kill();
    let (code, why) = may_lead(&host, &[]);
    assert!(code == Some(1) && why.contains("can not be asked"), "{code:?} {why}");
}

#[tokio::test]
async fn a_helper_that_was_away_at_that_time_stops_it_as_soon_as_it_is_back() {
    let mut host = Host::new();
    let client = leads(&mut host).await;
    drop(client);
    host.kill();
    let end = clock::uptime_ms() + TTL.0;
    until("its time is over", async || (clock::uptime_ms() > end).then_some(())).await;
    assert!(!alive(&host).is_empty(), "nobody was there to stop it");
    host.start(None);
    gone(&host).await;
    released(&host).await;
}

#[tokio::test]
async fn a_helper_that_dies_while_it_stops_it_goes_on_when_it_is_back() {
    let told = "no renewal was answered in time";
    // What was down when it came back may have ended in any way.
    for (point, how) in
        [("lease-before-stop", "stopped"), ("lease-before-released", "killed, or ended by itself")]
    {
        let mut host = Host::new();
        host.running().await;
        host.kill();
        host.start(Some(point));
        let mut client = host.client().await;
        ask(&mut client, order(7, None)).await;
        ask(&mut client, order(7, granted_now())).await;
        drop(client);
        host.died().await;
        host.start(None);
        gone(&host).await;
        assert_eq!(released(&host).await, format!("{how}: {told}"), "{point}");
    }
}

#[tokio::test]
async fn one_that_does_not_hear_is_killed() {
    let mut host = Host::new();
    let client = leads(&mut host).await;
    for pid in alive(&host) {
        let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).expect("it can be signaled");
    }
    drop(client);
    gone(&host).await;
    released(&host).await;
}

#[tokio::test]
async fn recalled_or_lost_it_is_stopped_at_once() {
    for lost in [true, false] {
        let mut host = Host::new();
        let mut client = leads(&mut host).await;
        let mut ended = order(7, lost.then_some(LeaseWord::Lost));
        if let Request::Lease(order) = &mut ended {
            order.lease.recalled = !lost;
        }
        assert_eq!(ask(&mut client, ended).await, LeaseStanding::Stopping);
        gone(&host).await;
        let why = if lost { "stopped: it is another's, or nobody's" } else { "stopped: it was recalled" };
        assert_eq!(released(&host).await, why);
        host.deliver(work("x-2", 2, ActionSpec::ServiceStart { service: service() })).await;
        assert_eq!(host.ended("x-2").await.state, ExecutionState::Succeeded, "it may be started again");
    }
}

#[tokio::test]
async fn a_promotion_runs_under_its_own_lease_and_not_longer() {
    let mut host = Host::new();
    let log = host.path("promoted.log").display().to_string();
    host.more = format!(
        "[hook.migrate]\nargv = [\"/bin/sh\", \"-c\", \"echo $QUORATE_GROUP $QUORATE_EPOCH >> {log}; test -e {log}.slow && sleep 60; exit 0\"]"
    );
    host.running().await;
    let promote = |hook: &str| ActionSpec::RolePromote {
        service: service(),
        group: GroupName::new("db").expect("a valid name"),
        hook: HookName::new(hook).expect("a valid name"),
    };
    // The execution is there before its lease is.
    host.deliver(work("x-7", 7, promote("migrate"))).await;
    let mut client = host.client().await;
    ask(&mut client, order(7, None)).await;
    ask(&mut client, order(7, granted_now())).await;
    let end = host.ended("x-7").await;
    assert_eq!(end.state, ExecutionState::Succeeded, "{end:?}");
    assert_eq!(host.read("promoted.log"), "db 7\n");
    gone(&host).await;
    released(&host).await;
    std::fs::write(format!("{log}.slow"), "").expect("a file");
    ask(&mut client, order(8, None)).await;
    ask(&mut client, order(8, granted_now())).await;
    host.deliver(work("x-8", 8, promote("migrate"))).await;
    let end = host.ended("x-8").await;
    assert_eq!((end.state, end.reason), (ExecutionState::Failed, Some(Reason::PrimaryLease)), "{end:?}");
    host.deliver(work("x-9", 9, promote("pause"))).await;
    let refused = host.ended("x-9").await;
    assert_eq!(refused.state, ExecutionState::Rejected, "it is not one of run_hooks: {refused:?}");
}
