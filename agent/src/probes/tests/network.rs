//! The fetching half, against servers on loopback.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use quorate_model::probe::{MembershipPaths, MetricProbe};
use quorate_model::service::Driver;
use quorate_model::{
    DurationMs, InstanceRole, Millionths, NodeName, ProbeKind, ProbeName, ProbeSpec, ServiceName,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::host::RealHost;
use crate::host::fake::{FakeHost, FakeUnit};
use crate::host::fetch::testing::{fixed, head, ok, server};
use crate::probes::{ProbeKey, ProbeTarget, Prober, Reading, Scheduled, Scheduler};

fn key(probe: &str) -> ProbeKey {
    ProbeKey {
        node: NodeName::new("node1").expect("a name"),
        service: ServiceName::new("ledger").expect("a name"),
        probe: ProbeName::new(probe).expect("a name"),
    }
}

fn spec(kind: ProbeKind, timeout_ms: u64) -> ProbeSpec {
    ProbeSpec {
        name: ProbeName::new("p").expect("a name"),
        kind,
        interval: DurationMs(100),
        timeout: DurationMs(timeout_ms),
        passes: 2,
        from_peer: false,
    }
}

fn http(at: SocketAddr) -> ProbeKind {
    ProbeKind::Http {
        url: format!("http://{at}/health"),
        status: Vec::new(),
        body_contains: String::new(),
        json: Vec::new(),
    }
}

fn target() -> ProbeTarget {
    ProbeTarget {
        key: key("p"),
        driver: Some(Driver::Process { name: "ledger".into() }),
        keep_body: false,
        allowed: true,
    }
}

pub(super) async fn read(kind: ProbeKind, timeout_ms: u64) -> Reading {
    let host = RealHost::new(None, None).expect("boot id");
    Prober::new(Arc::new(host)).read(&target(), &spec(kind, timeout_ms), &BTreeMap::new()).await
}

#[tokio::test]
async fn a_server_that_behaves() {
    let at = fixed(ok("{\"status\":\"up\"}")).await;
    let r = read(http(at), 5_000).await;
    assert!(r.ok && r.at.0 > 0, "{}", r.detail);
    let chunked = fixed("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n").await;
    assert!(read(http(chunked), 5_000).await.ok);
    // Without a length the body ends with the connection.
    let open_ended = fixed("HTTP/1.1 200 OK\r\n\r\nuntil the end").await;
    let kind = ProbeKind::Http {
        url: format!("http://{open_ended}/"),
        status: vec![],
        body_contains: "the end".into(),
        json: vec![],
    };
    let r = read(kind, 5_000).await;
    assert!(r.ok, "{}", r.detail);
    assert!(read(ProbeKind::Tcp { address: at.to_string() }, 5_000).await.ok);
}

/// A resolver that is down must not make every instance of a fleet look dead.
#[tokio::test]
async fn only_who_was_reached_or_refused_is_known_to_fail() {
    let silent = server(|mut stream| async move {
        let _ = stream.read(&mut [0; 1]).await;
        std::future::pending::<()>().await;
    })
    .await;
    let r = read(http(silent), 200).await;
    assert!(!r.ok && !r.blind, "it took the connection and says nothing: {}", r.detail);
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("its address");
    let r = read(http(free), 5_000).await;
    assert!(!r.ok && !r.blind, "refused: {}", r.detail);
    let r = read(ProbeKind::Tcp { address: "no-such-host.invalid:1".into() }, 500).await;
    assert!(!r.ok && r.blind, "no such name, or nobody who knows it: {}", r.detail);
}

#[tokio::test]
async fn servers_that_misbehave_are_failures_in_time() {
    let silent = server(|mut stream| async move {
        let _ = stream.read(&mut [0; 1]).await;
        std::future::pending::<()>().await;
    })
    .await;
    let slow = server(|mut stream| async move {
        head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n").await;
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    for at in [silent, slow] {
        let began = Instant::now();
        let r = read(http(at), 200).await;
        assert!(!r.ok && r.detail.contains("200 ms"), "{}", r.detail);
        assert!(began.elapsed() < Duration::from_secs(5));
    }
    let huge = server(|mut stream| async move {
        head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        while stream.write_all(&[b'x'; 65_536]).await.is_ok() {}
    })
    .await;
    let r = read(http(huge), 20_000).await;
    assert!(!r.ok && r.detail.contains("larger than"), "{}", r.detail);
    let big_head = format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "x".repeat(200_000));
    for garbage in [
        "",
        "\u{0}\u{1}\u{2}",
        "SSH-2.0-x\r\n",
        "HTTP/1.1 200",
        "HTTP/1.1 999999 x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        &big_head,
    ] {
        let at = fixed(garbage).await;
        let r = read(http(at), 5_000).await;
        assert!(!r.ok && !r.detail.is_empty(), "{garbage:.40}: {}", r.detail);
    }
    let redirect =
        fixed(format!("HTTP/1.1 302 Found\r\nLocation: http://{silent}/\r\nContent-Length: 0\r\n\r\n")).await;
    let r = read(http(redirect), 5_000).await;
    assert_eq!((r.ok, r.value.as_str()), (false, "302"));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let free = listener.local_addr().expect("an address");
    drop(listener);
    assert!(!read(http(free), 5_000).await.ok);
    assert!(!read(ProbeKind::Tcp { address: free.to_string() }, 5_000).await.ok);
    assert!(!read(ProbeKind::Tcp { address: "no port".into() }, 5_000).await.ok);
}

#[tokio::test]
async fn membership_programs_and_soaks() {
    let body = r#"{"nodes":[{"node":"node1","role":"leader","serving":true,"lag":0}]}"#;
    let at = fixed(ok(body)).await;
    let paths = MembershipPaths {
        members: "nodes".into(),
        key: "node".into(),
        this: "node1".into(),
        role: "role".into(),
        serving: "serving".into(),
        lag: "lag".into(),
        max_lag: 0,
        position: String::new(),
    };
    let by = |url: String, argv: Vec<String>| ProbeKind::Membership { url, argv, paths: paths.clone() };
    let r = read(by(format!("http://{at}/cluster/nodes"), vec![]), 5_000).await;
    assert_eq!((r.ok, r.role, r.lag, r.leader.as_str()), (true, InstanceRole::Leader, Some(0), "node1"));

    let told = |script: String| by(String::new(), vec!["/bin/sh".into(), "-c".into(), script]);
    let r = read(told(format!("echo noise >&2; printf %s '{body}'")), 10_000).await;
    assert_eq!((r.ok, r.role, r.lag, r.leader.as_str()), (true, InstanceRole::Leader, Some(0), "node1"));
    let r = read(told(format!("printf %s '{body}'; exit 3")), 10_000).await;
    assert_eq!((r.ok, r.role, r.value.as_str()), (false, InstanceRole::Unknown, "3"), "it did not end well");
    let r = read(told("echo nothing".into()), 10_000).await;
    assert!(!r.ok && !r.blind && r.detail.contains("no JSON"), "{}", r.detail);

    let sh = |s: &str| ProbeKind::Exec { argv: vec!["/bin/sh".into(), "-c".into(), s.into()] };
    assert!(read(sh("exit 0"), 10_000).await.ok);
    let r = read(sh("echo broken >&2; exit 4"), 10_000).await;
    assert_eq!((r.ok, r.value.as_str(), r.detail.as_str()), (false, "4", "exit code 4: broken"));
    let r = read(sh("sleep 1000"), 500).await;
    assert!(!r.ok && (r.detail.contains("killed after") || r.detail.contains("no answer")), "{}", r.detail);
    let host = Arc::new(RealHost::new(None, None).expect("boot id"));
    let forbidden = ProbeTarget { allowed: false, ..target() };
    let refused = Prober::new(host).read(&forbidden, &spec(sh("exit 0"), 5_000), &BTreeMap::new()).await;
    assert!(!refused.ok && refused.blind, "the policy's word is no evidence against the instance");
    let host = Arc::new(RealHost::new(None, None).expect("boot id"));
    let members = spec(told(format!("printf %s '{body}'")), 5_000);
    let refused = Prober::new(host).read(&forbidden, &members, &BTreeMap::new()).await;
    assert!(!refused.ok && refused.blind, "nor does a membership probe run what is not listed");

    let fake = FakeHost::new(BTreeMap::from([("ledger".to_owned(), FakeUnit::default())]));
    let prober = Prober::new(Arc::new(fake.clone()));
    let soak = spec(ProbeKind::UnitSoak { min_up: DurationMs(50) }, 5_000);
    let end = Instant::now() + Duration::from_secs(10);
    while !prober.read(&target(), &soak, &BTreeMap::new()).await.ok {
        assert!(Instant::now() < end, "it never soaks");
    }
    fake.change("ledger", |u| u.starts += 1);
    assert!(!prober.read(&target(), &soak, &BTreeMap::new()).await.ok, "another run");
    fake.change("ledger", |u| u.running = false);
    assert!(!prober.read(&target(), &soak, &BTreeMap::new()).await.ok);
    let elsewhere = ProbeTarget { driver: None, ..target() };
    assert!(!prober.read(&elsewhere, &soak, &BTreeMap::new()).await.ok);
}

#[tokio::test]
async fn the_scheduler_keeps_one_reading_in_flight_and_the_newest_of_each() {
    static FLYING: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);
    // Slower than the interval, and silent once in a while.
    let at = server(|mut stream| async move {
        head(&mut stream).await;
        MOST.fetch_max(FLYING.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(150)).await;
        FLYING.fetch_sub(1, Ordering::SeqCst);
        let _ = stream.write_all(ok("x").as_bytes()).await;
    })
    .await;
    let host = Arc::new(RealHost::new(None, None).expect("boot id"));
    let scheduler = Scheduler::new(Arc::new(Prober::new(host)));
    let mut changes = scheduler.changes();
    let wanted = vec![Scheduled { target: target(), spec: spec(http(at), 5_000) }];
    assert_eq!(scheduler.set(wanted.clone()), 0);
    assert_eq!(scheduler.set(wanted), 0, "the same set again changes nothing");
    let stable = changes.wait_for(|_| scheduler.latest().values().any(|l| l.is_stable() && l.taken >= 3));
    tokio::time::timeout(Duration::from_secs(20), stable).await.expect("stable in time").expect("alive");
    assert_eq!(MOST.load(Ordering::SeqCst), 1);
    let other = Scheduled {
        target: ProbeTarget { key: key("q"), ..target() },
        spec: spec(ProbeKind::Tcp { address: "127.0.0.1:1".into() }, 1_000),
    };
    scheduler.set(vec![other]);
    let mut changes = scheduler.changes();
    let failed = changes.wait_for(|_| scheduler.latest().get(&key("q")).is_some_and(|l| l.failures >= 2));
    tokio::time::timeout(Duration::from_secs(20), failed).await.expect("failed in time").expect("alive");
    assert!(!scheduler.latest().contains_key(&key("p")), "results of probes that are gone are dropped");
    assert_eq!(scheduler.set(Vec::new()), 0);
    assert!(scheduler.latest().is_empty());
}

#[tokio::test]
async fn an_expression_looks_at_the_other_probes_of_its_instance() {
    let page = fixed(ok("# TYPE errors_total counter\nerrors_total{code=\"500\"} 3\n")).await;
    let json = fixed(ok("{\"paused\": false}")).await;
    let metric = MetricProbe {
        url: format!("http://{page}/metrics"),
        metric: "errors_total".into(),
        labels: BTreeMap::new(),
        rate: false,
        condition: None,
        baseline: None,
    };
    let wanted = |name: &str, kind| {
        let target = ProbeTarget { key: key(name), ..target() };
        Scheduled { target, spec: ProbeSpec { name: key(name).probe, ..spec(kind, 2_000) } }
    };
    let expr =
        "probes.errors.value == 3.0 && probes.health.status == 200 && !probes.health.body.paused".to_owned();
    let scheduler = Scheduler::new(Arc::new(Prober::new(Arc::new(FakeHost::new(BTreeMap::new())))));
    let mut changes = scheduler.changes();
    scheduler.set(vec![
        wanted("errors", ProbeKind::Metric(metric)),
        wanted("health", http(json)),
        wanted("sense", ProbeKind::Expression { expr }),
        wanted("nobody", ProbeKind::Expression { expr: "probes.missing.pass".into() }),
    ]);
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let latest = scheduler.latest();
        let nobody = latest.get(&key("nobody")).map(|l| l.reading.clone());
        if latest.get(&key("sense")).is_some_and(|l| l.is_stable()) && nobody.is_some() {
            assert!(nobody.is_some_and(|r| !r.ok && r.blind), "what is not there proves nothing");
            assert_eq!(latest[&key("errors")].reading.number, Some(Millionths(3_000_000)));
            return;
        }
        assert!(Instant::now() < deadline, "{latest:#?}");
        let _ = tokio::time::timeout(Duration::from_secs(1), changes.changed()).await;
    }
}

#[tokio::test]
async fn a_page_that_is_too_large_or_no_page_fails() {
    let large = fixed(ok(&"x 1\n".repeat(600_000))).await;
    let gone = fixed("HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nx 1").await;
    for at in [large, gone] {
        let metric = MetricProbe {
            url: format!("http://{at}/metrics"),
            metric: "x".into(),
            labels: BTreeMap::new(),
            rate: false,
            condition: None,
            baseline: None,
        };
        let reading = read(ProbeKind::Metric(metric), 5_000).await;
        assert!(!reading.ok && reading.number.is_none(), "{reading:?}");
    }
}
