//! Drains and ways back against a balancer in memory that speaks HAProxy's words over a real socket.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quorate_model::{ActionSpec, DurationMs, ExecutionState, OnTimeout, Reason, TrafficSpec};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixListener;

use super::super::pool::Balancers;
use super::super::undo::undo;
use super::answers::traffic;
use crate::actions::testing::{Bench, Recorder, bench, locked, service_name};
use crate::actions::{ActionError, Clock as _, HookRunner, HostClock, execute};
use crate::config::{Balancer, BalancerKind};
use crate::host::admin::AdminAddress;
use crate::host::fake::FakeHost;

#[derive(Clone)]
struct Server {
    admin: u32,
    healthy: bool,
    connections: u64,
}

/// A pool in memory; what it is told is noted beside what is owed.
struct Edge {
    servers: Mutex<BTreeMap<String, Server>>,
    /// How many of s1's connections end with each look.
    ends: u64,
    refuses: Mutex<bool>,
    recorder: Arc<Recorder>,
}

impl Edge {
    fn answer(&self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut servers = locked(&self.servers);
        match words.as_slice() {
            ["show", "servers", "state", "b"] => {
                let rows = servers.iter().map(|(name, s)| format!("1 b 1 {name} {}\n", s.admin));
                let head = "1\n# be_id be_name srv_id srv_name srv_admin_state\n";
                format!("{head}{}\n", rows.collect::<String>())
            }
            ["show", "stat", "b", "4", "-1"] => {
                let mut text = "# pxname,svname,qcur,scur,status,weight,bck,check_status,check_rise,check_fall,check_health\n".to_owned();
                for (name, s) in servers.iter() {
                    let (status, check, health) =
                        if s.healthy { ("UP", "L7OK", 3) } else { ("DOWN", "L4CON", 0) };
                    let status = if s.admin & 8 != 0 && s.healthy { "DRAIN" } else { status };
                    text += &format!("b,{name},0,{},{status},1,0,{check},2,2,{health}\n", s.connections);
                }
                if let Some(own) = servers.get_mut("s1").filter(|s| s.admin != 0) {
                    own.connections = own.connections.saturating_sub(self.ends);
                }
                text + "\n"
            }
            ["set", "server", path, "state", state] => {
                self.recorder.note(format!("{path} {state}"));
                if *locked(&self.refuses) {
                    return "Permission denied\n\n".to_owned();
                }
                let name = path.strip_prefix("b/").expect("our pool");
                servers.get_mut(name).expect("a server").admin = if *state == "ready" { 0 } else { 8 };
                "\n".to_owned()
            }
            other => panic!("{other:?}"),
        }
    }

    fn set(&self, name: &str, change: impl FnOnce(&mut Server)) {
        change(locked(&self.servers).get_mut(name).expect("a server"));
    }

    fn is_in(&self, name: &str) -> bool {
        locked(&self.servers)[name].admin == 0
    }
}

/// A bench behind a pool of three; the first is ours.
fn edge(dir: &Path, ends: u64) -> (Bench, Arc<Edge>) {
    let mut bench = bench(Path::new("/nonexistent"), true);
    let server = Server { admin: 0, healthy: true, connections: 4 };
    let servers = ["s1", "s2", "s3"].map(|name| (name.to_owned(), server.clone()));
    let edge = Arc::new(Edge {
        servers: Mutex::new(servers.into()),
        ends,
        refuses: Mutex::new(false),
        recorder: Arc::clone(&bench.recorder),
    });
    let listener = UnixListener::bind(dir.join("edge.sock")).expect("a socket");
    let own = Arc::clone(&edge);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            stream.read_line(&mut line).await.expect("a question");
            // A client that has gone is none of our business.
            let _ = stream.write_all(own.answer(line.trim()).as_bytes()).await;
        }
    });
    bench.context.balancers = balancers(dir);
    bench.context.clock = Arc::new(HostClock);
    bench.context.deadline = HostClock.monotonic().plus(DurationMs::from_secs(60));
    (bench, edge)
}

fn balancers(dir: &Path) -> Balancers {
    let sockets = vec![AdminAddress::Unix(dir.join("edge.sock"))];
    let settle = Duration::from_millis(50);
    let edge = Balancer { kind: BalancerKind::Haproxy { sockets }, health: None, settle };
    let host = FakeHost::with_clock(BTreeMap::new(), Arc::new(|| 0));
    Balancers::new(Arc::new(host), [(traffic(1).adapter, edge)].into())
}

fn drain(traffic: TrafficSpec) -> ActionSpec {
    ActionSpec::TrafficDrain { service: service_name(), traffic, restore_within: DurationMs(9_000) }
}

fn restore(traffic: TrafficSpec) -> ActionSpec {
    ActionSpec::TrafficRestore { service: service_name(), traffic }
}

#[tokio::test]
async fn a_drain_owes_its_way_back_first_and_measures_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let (b, edge) = edge(dir.path(), 2);
    let outcome = execute(&b.context, &drain(traffic(2))).await.expect("drained");
    let measured = outcome.traffic.expect("a receipt");
    assert_eq!((measured.connections_before, measured.connections_after), (Some(4), Some(0)));
    assert_eq!((measured.others_up, measured.balancers), (2, 1));
    assert_eq!(b.recorder.lines(), ["open s1 9000", "b/s1 drain", "hold"]);
    assert!(!edge.is_in("s1"));
    // Once more, as after a crash: it ends the same.
    execute(&b.context, &drain(traffic(2))).await.expect("drained");
    let outcome = execute(&b.context, &restore(traffic(2))).await.expect("restored");
    assert!(edge.is_in("s1") && outcome.message.contains("serves"), "{}", outcome.message);
    execute(&b.context, &restore(traffic(2))).await.expect("restored");
    assert_eq!(b.recorder.lines().last().map(String::as_str), Some("settle ledger@node1"));
}

#[tokio::test]
async fn a_pool_at_its_minimum_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let (b, edge) = edge(dir.path(), 2);
    edge.set("s2", |s| s.healthy = false);
    let error = execute(&b.context, &drain(traffic(2))).await.expect_err("too few");
    assert_eq!((error.reason(), error.state()), (Reason::PoolMinimum, ExecutionState::Rejected));
    assert!(error.message().contains("has 1 that serve, needs 2"), "{}", error.message());
    let other = TrafficSpec { server: "s9".into(), ..traffic(1) };
    let error = execute(&b.context, &drain(other)).await.expect_err("no such server");
    assert_eq!(error.reason(), Reason::BalancerUnreadable);
    let hostile = TrafficSpec { server: "s1 state maint;show".into(), ..traffic(1) };
    let error = execute(&b.context, &drain(hostile)).await.expect_err("no name");
    assert_eq!(error.reason(), Reason::InvalidArgument);
    assert!(b.recorder.lines().is_empty(), "{:?}", b.recorder.lines());
}

#[tokio::test]
async fn an_order_that_is_refused_is_no_drain() {
    let dir = tempfile::tempdir().unwrap();
    let (b, edge) = edge(dir.path(), 2);
    *locked(&edge.refuses) = true;
    let error = execute(&b.context, &drain(traffic(1))).await.expect_err("refused");
    assert!(error.message().contains("Permission denied"), "{}", error.message());
    assert!(edge.is_in("s1"));
    assert_eq!(b.recorder.lines(), ["open s1 9000", "b/s1 drain", "discharge"], "it never left");
}

#[tokio::test]
async fn connections_that_do_not_end_undo_the_drain_or_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let (b, edge) = edge(dir.path(), 0);
    let short = TrafficSpec { drain_timeout: DurationMs(300), ..traffic(1) };
    let error = execute(&b.context, &drain(short.clone())).await.expect_err("not drained");
    assert_eq!((error.reason(), error.state()), (Reason::NotDrained, ExecutionState::Failed));
    assert!(error.message().contains("4 connections were left"), "{}", error.message());
    assert_eq!(b.recorder.lines(), ["open s1 9000", "b/s1 drain", "b/s1 ready", "discharge"]);
    assert!(edge.is_in("s1"));
    let short = TrafficSpec { on_timeout: OnTimeout::Proceed, ..short };
    let outcome = execute(&b.context, &drain(short)).await.expect("it goes on");
    assert_eq!(outcome.traffic.and_then(|t| t.connections_after), Some(4));
}

#[tokio::test]
async fn two_that_drain_at_once_both_give_way() {
    let dir = tempfile::tempdir().unwrap();
    let (b, edge) = edge(dir.path(), 0);
    let running = tokio::spawn({
        let context = b.context.clone();
        async move { execute(&context, &drain(traffic(2))).await }
    });
    let end = tokio::time::Instant::now() + Duration::from_secs(30);
    while edge.is_in("s1") {
        assert!(tokio::time::Instant::now() < end, "it never began");
        tokio::task::yield_now().await;
    }
    edge.set("s2", |s| s.admin = 8);
    let error = running.await.unwrap().expect_err("too few are left");
    assert_eq!((error.reason(), error.state()), (Reason::PoolMinimum, ExecutionState::Failed));
    assert!(edge.is_in("s1"));
}

#[tokio::test]
async fn an_unhealthy_instance_is_put_back_by_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let (mut b, edge) = edge(dir.path(), 2);
    execute(&b.context, &drain(traffic(1))).await.expect("drained");
    edge.set("s1", |s| s.healthy = false);
    b.context.deadline = HostClock.monotonic().plus(DurationMs::from_secs(21));
    let error = execute(&b.context, &restore(traffic(1))).await.expect_err("unhealthy");
    assert_eq!((error.reason(), error.state()), (Reason::NotFit, ExecutionState::Failed));
    let hooks = Arc::clone(&b.recorder) as Arc<dyn HookRunner>;
    let instance = quorate_model::InstanceId { node: b.context.node.clone(), service: service_name() };
    let pool = balancers(dir.path()).pool(&traffic(1), &instance, hooks).unwrap();
    let why = undo(&pool, b.unit.as_ref()).await.expect_err("unhealthy");
    assert!(why.contains("L4CON"), "{why}");
    edge.set("s1", |s| s.healthy = true);
    locked(&b.unit.state).active = "failed".to_owned();
    let why = undo(&pool, b.unit.as_ref()).await.expect_err("it does not run");
    assert!(why.contains("unit is failed"), "{why}");
    assert!(!edge.is_in("s1"));
    assert!(!b.recorder.lines().contains(&"b/s1 ready".to_owned()), "{:?}", b.recorder.lines());
    locked(&b.unit.state).active = "active".to_owned();
    undo(&pool, b.unit.as_ref()).await.expect("healthy again");
    assert!(edge.is_in("s1"));
}

#[tokio::test]
async fn a_cancel_puts_a_healthy_instance_back() {
    let dir = tempfile::tempdir().unwrap();
    let (b, edge) = edge(dir.path(), 0);
    let (cancel, watched) = (b.context.cancel.clone(), Arc::clone(&edge));
    let canceler = tokio::spawn(async move {
        while watched.is_in("s1") {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
    });
    let error = execute(&b.context, &drain(traffic(1))).await.expect_err("canceled");
    assert!(matches!(error, ActionError::Canceled(_)), "{error}");
    assert!(edge.is_in("s1"));
    canceler.await.unwrap();
}
