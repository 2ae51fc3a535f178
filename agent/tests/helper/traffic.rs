//! Out of a real load balancer's pool and back, whoever dies.

use std::sync::Arc;

use quorate_agent::runner::Incoming;
use quorate_model::{
    ActionSpec, BalancerName, DurationMs, ExecutionState, ObligationId, ObligationState, OnTimeout, Reason,
    TrafficSpec,
};

use crate::edge::{Edge, Load};
use crate::fixture::{Host, service, until, work};

/// Out of the way of every test that does not wait for it.
const LONG: DurationMs = DurationMs(600_000);

fn traffic(server: &str, adapter: &str) -> TrafficSpec {
    TrafficSpec {
        adapter: BalancerName::new(adapter).expect("a valid name"),
        backend: "app".to_owned(),
        server: server.to_owned(),
        drain_timeout: DurationMs(30_000),
        on_timeout: OnTimeout::Fail,
        min_up: if adapter == "edge" { 2 } else { 1 },
    }
}

fn drain(traffic: &TrafficSpec, restore_within: DurationMs) -> ActionSpec {
    ActionSpec::TrafficDrain { service: service(), traffic: traffic.clone(), restore_within }
}

fn restore(traffic: &TrafficSpec) -> ActionSpec {
    ActionSpec::TrafficRestore { service: service(), traffic: traffic.clone() }
}

/// A host whose service stands behind HAProxy.
async fn behind() -> (Host, Arc<Edge>) {
    let mut host = Host::new();
    let edge = Arc::new(Edge::haproxy(&host.path("")).await);
    host.more = format!(
        "[balancer.edge]\nkind = 'haproxy'\nsockets = [{:?}, {:?}]\nsettle = '300ms'\n",
        host.path("edge.sock"),
        host.path("second.sock")
    );
    host.running().await;
    (host, edge)
}

async fn does(host: &Host, execution: &str, epoch: u64, action: ActionSpec) -> ExecutionState {
    host.deliver(work(execution, epoch, action)).await;
    host.ended(execution).await.state
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_server_is_drained_and_put_back_in_turn_and_no_request_fails() {
    let (host, edge) = behind().await;
    let load = Load::start(&edge, 4);
    let mut epoch = 1;
    for (index, web) in edge.webs.iter().enumerate() {
        let server = format!("s{}", index + 1);
        let pool = traffic(&server, "edge");
        epoch += 2;
        let (out, back) = (format!("x-out{index}"), format!("x-back{index}"));
        host.deliver(work(&out, epoch, drain(&pool, LONG))).await;
        let end = host.ended(&out).await;
        assert_eq!(end.state, ExecutionState::Succeeded, "{end:?}");
        let measured = end.outcome.and_then(|o| o.traffic).expect("it was measured");
        assert_eq!((measured.connections_after, measured.others_up, measured.balancers), (Some(0), 2, 2));
        assert!(edge.is_out(&server).await);
        let (served, good) = (web.served(), load.good());
        until("the others carry on", async || (load.good() > good + 100).then_some(())).await;
        assert_eq!(web.served(), served, "a drained server gets no request");
        assert_eq!(does(&host, &back, epoch + 1, restore(&pool)).await, ExecutionState::Succeeded);
        assert!(!edge.is_out(&server).await);
        until("it is asked again", async || (web.served() > served).then_some(())).await;
    }
    let (good, bad, fewest) = load.end().await;
    assert_eq!(bad, 0, "of {good} requests");
    assert_eq!(fewest, 2, "the pool's minimum");
    assert_eq!(host.status().await.open_obligations, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_never_ends_undoes_the_drain() {
    let (host, edge) = behind().await;
    let (asked, mut hanging) = (Arc::clone(&edge), tokio::task::JoinSet::new());
    for _ in 0..3 {
        let asked = Arc::clone(&asked);
        hanging.spawn(async move { asked.get("/hang").await });
    }
    until("a request hangs on every server", async || {
        edge.webs.iter().all(|w| w.hanging() > 0).then_some(())
    })
    .await;
    let pool = TrafficSpec { drain_timeout: DurationMs(500), ..traffic("s1", "edge") };
    host.deliver(work("x-2", 2, drain(&pool, LONG))).await;
    let end = host.ended("x-2").await;
    assert_eq!((end.state, end.reason), (ExecutionState::Failed, Some(Reason::NotDrained)), "{end:?}");
    assert!(!edge.is_out("s1").await, "it was undone");
    host.obligation(|report| report.state == ObligationState::Discharged).await;
    // Two of three are the minimum: a second one is not touched.
    edge.ask("set server app/s3 state drain").await.expect("HAProxy answers");
    host.deliver(work("x-3", 3, drain(&traffic("s2", "edge"), LONG))).await;
    let end = host.ended("x-3").await;
    assert_eq!((end.state, end.reason), (ExecutionState::Rejected, Some(Reason::PoolMinimum)), "{end:?}");
    assert!(!edge.is_out("s2").await);
    until("what hangs is let go", async || {
        edge.webs.iter().for_each(|web| web.let_go());
        hanging.try_join_next()
    })
    .await
    .expect("no client panics");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_helper_that_dies_while_a_server_is_out_puts_it_back_only_when_it_is_healthy() {
    let (mut host, edge) = behind().await;
    let pool = traffic("s1", "edge");
    assert_eq!(does(&host, "x-2", 2, drain(&pool, DurationMs(3_000))).await, ExecutionState::Succeeded);
    edge.webs[0].heal(false);
    until("HAProxy sees that it is sick", async || {
        edge.ask("show stat app 4 -1").await.filter(|answer| answer.contains("L7STS"))
    })
    .await;
    host.kill();
    host.start(None);
    // Nobody tells it anything: no network half, no coordinator.
    let kept = host.obligation(|report| report.state == ObligationState::Failed).await;
    assert!(kept.message.contains("kept out of the pool app") && kept.message.contains("L7STS"), "{kept:?}");
    assert!(edge.is_out("s1").await, "an unhealthy server is never put back");
    edge.webs[0].heal(true);
    host.obligation(|report| report.state == ObligationState::ExpiredDischarged).await;
    assert!(!edge.is_out("s1").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_helper_that_dies_during_a_drain_goes_on_with_it() {
    for point in ["obligation-open", "after-effect"] {
        let (mut host, edge) = behind().await;
        host.kill();
        host.start(Some(point));
        host.deliver(work("x-2", 2, drain(&traffic("s1", "edge"), LONG))).await;
        host.died().await;
        host.start(None);
        assert_eq!(host.ended("x-2").await.state, ExecutionState::Succeeded, "{point}");
        assert!(edge.is_out("s1").await, "{point}");
        assert_eq!(host.status().await.open_obligations, 1, "{point}: it is still owed");
        assert_eq!(does(&host, "x-3", 3, restore(&traffic("s1", "edge"))).await, ExecutionState::Succeeded);
        assert_eq!(host.status().await.open_obligations, 0, "{point}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_can_leave_it_out_and_a_stopped_one_is_not_put_back() {
    let (host, edge) = behind().await;
    let owed = |text: &str| ObligationId::new(text).expect("a valid id");
    assert_eq!(does(&host, "x-2", 2, drain(&traffic("s1", "edge"), LONG)).await, ExecutionState::Succeeded);
    host.deliver(Incoming { generation: 9, left_out: vec![owed("x-2:restore")], ..Incoming::default() })
        .await;
    let closed = host.obligation(|report| report.state == ObligationState::Discharged).await;
    assert!(closed.message.contains("not done"), "{closed:?}");
    assert!(edge.is_out("s1").await);
    // Asked to undo while its unit is down: it says so, and goes on when the unit is back.
    let stop = ActionSpec::ServiceStop { service: service() };
    assert_eq!(does(&host, "x-3", 3, drain(&traffic("s1", "edge"), LONG)).await, ExecutionState::Succeeded);
    assert_eq!(does(&host, "x-4", 4, stop).await, ExecutionState::Succeeded);
    host.deliver(Incoming { generation: 10, discharges: vec![owed("x-3:restore")], ..Incoming::default() })
        .await;
    let kept = host.obligation(|report| report.state == ObligationState::Failed).await;
    assert!(kept.message.contains("its unit is"), "{kept:?}");
    assert!(edge.is_out("s1").await);
    let start = ActionSpec::ServiceStart { service: service() };
    assert_eq!(does(&host, "x-5", 5, start).await, ExecutionState::Succeeded);
    host.obligation(|report| report.state == ObligationState::ExpiredDischarged).await;
    assert!(!edge.is_out("s1").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_gets_one_word_in_its_file_and_what_it_refuses_is_not_loaded() {
    let mut host = Host::new();
    let dir = host.path("");
    let file = |webs: &[Arc<crate::edge::Web>]| {
        format!(
            "# by hand\nupstream app {{\n\tserver {} weight=2 ; # first\n  server {};\n  keepalive 4;\n}}\n",
            webs[0].at, webs[1].at
        )
    };
    let edge = Arc::new(Edge::nginx(&dir, file).await);
    host.more = format!(
        "[balancer.front]\nkind = 'nginx'\nupstream_file = {:?}\ncheck = {}\nreload = {}\nhealth = 'healthy'\nsettle = '300ms'\n\
         [hook.healthy]\nargv = ['/usr/bin/test', '!', '-e', {:?}]\n",
        dir.join("upstream.conf"),
        Edge::nginx_argv(&dir, "\"-t\""),
        Edge::nginx_argv(&dir, "\"-s\", \"reload\""),
        dir.join("sick")
    );
    host.running().await;
    let before = host.read("upstream.conf");
    let first = edge.webs[0].at.to_string();
    let pool = traffic(&first, "front");
    host.deliver(work("x-2", 2, drain(&pool, LONG))).await;
    let end = host.ended("x-2").await;
    assert_eq!(end.state, ExecutionState::Succeeded, "{end:?}");
    assert_eq!(end.outcome.and_then(|o| o.traffic).and_then(|t| t.connections_after), Some(0));
    assert_eq!(host.read("upstream.conf"), before.replace("weight=2 ;", "weight=2 down ;"));
    let served = edge.webs[0].served();
    for _ in 0..10 {
        assert_eq!(edge.get("/").await, Some(200));
    }
    assert_eq!(edge.webs[0].served(), served, "it gets no request");
    // The last one of the pool is not touched.
    host.deliver(work("x-3", 3, drain(&traffic(&edge.webs[1].at.to_string(), "front"), LONG))).await;
    assert_eq!(host.ended("x-3").await.reason, Some(Reason::PoolMinimum));
    assert_eq!(does(&host, "x-4", 4, restore(&pool)).await, ExecutionState::Succeeded);
    assert_eq!(host.read("upstream.conf"), before, "byte for byte");
    until("it is asked again", async || {
        edge.get("/").await;
        (edge.webs[0].served() > served).then_some(())
    })
    .await;
    // Somebody broke the configuration: nothing is loaded, and the file is as it was.
    let config = host.read("nginx.conf");
    std::fs::write(dir.join("nginx.conf"), format!("{config}nonsense;\n")).expect("a writable folder");
    host.deliver(work("x-5", 5, drain(&pool, LONG))).await;
    let end = host.ended("x-5").await;
    assert_eq!(end.state, ExecutionState::Failed, "{end:?}");
    assert!(end.outcome.is_some_and(|o| o.message.contains("nonsense")), "nginx's own words are told");
    assert_eq!(host.read("upstream.conf"), before);
    assert_eq!(edge.get("/").await, Some(200));
    assert_eq!(host.status().await.open_obligations, 0, "it never left");
}
