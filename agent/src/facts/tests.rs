//! Collectors on this host and on made-up ones; the page over real connections.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::*;

fn fake(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temp dir");
    for (path, text) in files {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        std::fs::write(path, text).expect("a file");
    }
    dir
}

fn value(found: &Collection, name: &str) -> String {
    let full = format!("quorate_agent_{name}");
    let mut text = String::new();
    render(&found.samples, &mut text);
    let line = text.lines().find(|l| l.starts_with(&full)).unwrap_or_else(|| panic!("no {full}"));
    line.rsplit(' ').next().expect("a value").to_owned()
}

#[test]
fn this_host_is_read_without_errors() {
    let unit = WatchedUnit {
        service: "me".into(),
        main_pid: std::process::id(),
        restarts: 3,
        since: Some(quorate_model::Timestamp(1_500)),
    };
    let gone = WatchedUnit { service: "gone".into(), main_pid: 0, restarts: 0, since: None };
    let found = Collector::default().collect(&[unit, gone]);
    assert_eq!(found.errors, []);
    let mut text = String::new();
    render(&found.samples, &mut text);
    for metric in metrics::ALL {
        // Not every kernel has PSI for all resources, nor every test host a disk with counters.
        if !metric.name.contains("pressure") && !metric.name.contains("_disk_") {
            assert!(text.contains(&format!("# TYPE {} ", metric.name)), "{}", metric.name);
        }
    }
    assert!(text.contains("quorate_agent_unit_up{service=\"me\"} 1"));
    assert!(text.contains("quorate_agent_unit_up{service=\"gone\"} 0"));
    assert!(text.contains("quorate_agent_unit_start_time_seconds{service=\"me\"} 1.500"));
    let facts = host_facts(Path::new("/"));
    assert!(
        facts.cpus > 0 && facts.memory_bytes > 0 && !facts.boot_id.is_empty() && !facts.kernel.is_empty()
    );
    assert_eq!(facts.extra.get("facts.errors"), None);
}

#[test]
fn a_made_up_host_is_read_exactly() {
    let dir = fake(&[
        (
            "proc/stat",
            "cpu 1 2 3 4\ncpu0 100 0 50 1000 7 0 0 1 0 0\nctxt 5\nbtime 1700000000\nprocesses 9\nprocs_running 1\nprocs_blocked 2\n",
        ),
        ("proc/meminfo", "MemTotal: 100 kB\nMemAvailable:  50 kB\nSwapTotal: 0 kB\n"),
        ("proc/loadavg", "0.05 1.20 12.00 3/117 999\n"),
        ("proc/net/dev", "h\nh\n  eth0: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\n"),
        ("proc/sys/fs/file-nr", "742\t2\t1000\n"),
        ("proc/pressure/io", "some avg10=0.93 avg60=1.48 avg300=1.26 total=79951950\n"),
        ("proc/uptime", "3696.21 1.00\n"),
        ("proc/diskstats", " 254 0 vda 10 0 20 0 30 0 40 0 0 1234 0\n 7 0 loop0 1 0 1 0 1 0 1 0 0 1 0\n"),
        (
            "proc/self/mountinfo",
            "1 1 8:1 / / rw - ext4 /dev/vda rw\n2 1 8:1 / /bind rw - ext4 /dev/vda rw\n3 1 0:5 / /n rw - nfs4 s:/ rw\n",
        ),
        ("proc/self/stat", "7 (a b) S 1 7 7 0 -1 0 0 0 0 0 150 50 0 0 20 0 4 0 99 1 2"),
        ("proc/self/fd/0", ""),
        ("proc/12/stat", ""),
        ("etc/os-release", "NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n"),
        ("etc/machine-id", "0123456789abcdef\n"),
        (
            "proc/net/fib_trie",
            "Main:\n  |-- 10.0.0.5\n     /32 host LOCAL\n  |-- 127.0.0.1\n     /32 host LOCAL\n  |-- 10.0.0.255\n     /32 link BROADCAST\n",
        ),
        (
            "proc/net/if_inet6",
            "fe800000000000000000000000000001 02 40 20 80 eth0\n20010db8000000000000000000000001 02 40 00 80 eth0\n",
        ),
        ("proc/sys/kernel/random/boot_id", "b\n"),
    ]);
    let found = Collector::at(dir.path()).collect(&[]);
    assert_eq!(found.errors, []);
    for (name, want) in [
        ("cpu_seconds_total{cpu=\"0\",mode=\"user\"}", "1.000000"),
        ("cpu_seconds_total{cpu=\"0\",mode=\"iowait\"}", "0.070000"),
        ("memory_available_bytes", "51200"),
        ("load5", "1.20"),
        ("threads", "117"),
        ("processes", "1"),
        ("network_sent_drops", "8"),
        ("files_open", "740"),
        ("pressure_some_seconds_total{resource=\"io\"}", "79.951950"),
        ("uptime_seconds", "3696.21"),
        ("disk_written_bytes_total{device=\"vda\"}", "20480"),
        ("disk_io_seconds_total", "1.234"),
        ("self_cpu_seconds_total", "2.000000"),
        ("self_files_open", "1"),
    ] {
        let name = if name == "network_sent_drops" { "network_send_drops_total" } else { name };
        // "processes" is a prefix of other names.
        let name = if name == "processes" { "processes " } else { name };
        assert_eq!(value(&found, name), want, "{name}");
    }
    let facts = host_facts(dir.path());
    assert_eq!((facts.os.as_str(), facts.cpus, facts.memory_bytes), ("Debian GNU/Linux 12", 1, 102_400));
    assert_eq!(facts.addresses, ["10.0.0.5", "2001:db8::1"]);
    assert_eq!(facts.booted_at.0, 1_700_000_000_000);
    assert_eq!(facts.extra["machine_id_hash"].len(), 32);
}

#[test]
fn addresses_are_the_hosts_and_not_of_the_helpers_own_empty_network() {
    let dir = fake(&[
        ("proc/net/fib_trie", "Main:\n  |-- 127.0.0.1\n     /32 host LOCAL\n"),
        ("proc/net/if_inet6", ""),
        ("proc/1/net/fib_trie", "Main:\n  |-- 10.0.0.7\n     /32 host LOCAL\n"),
        ("proc/1/net/if_inet6", "20010db8000000000000000000000007 02 40 00 80 eth0\n"),
    ]);
    assert_eq!(host_facts(dir.path()).addresses, ["10.0.0.7", "2001:db8::7"]);
}

#[test]
fn hidden_or_broken_sources_are_errors_of_their_collector() {
    let empty = fake(&[]);
    let found = Collector::at(empty.path()).collect(&[]);
    assert!(found.errors.len() >= 9, "{:?}", found.errors);
    assert!(found.samples.iter().any(|s| s.metric == metrics::COLLECTOR_UP && s.value == Value::whole(0)));
    assert!(host_facts(empty.path()).extra.contains_key("facts.errors"));
    for garbage in
        ["", "\n\n\n", "cpu0", "x y z", "cpu0 a b", "1 2 3 - 4", "99999999999999999999999 1 1", ":::::\n:\n:"]
    {
        let files = [
            "stat",
            "meminfo",
            "loadavg",
            "net/dev",
            "diskstats",
            "self/mountinfo",
            "uptime",
            "sys/fs/file-nr",
            "pressure/io",
            "self/stat",
        ];
        let paths: Vec<String> = files.iter().map(|f| format!("proc/{f}")).collect();
        let all: Vec<(&str, &str)> = paths.iter().map(|p| (p.as_str(), garbage)).collect();
        let dir = fake(&all);
        let found = Collector::at(dir.path()).collect(&[]);
        assert!(!found.errors.is_empty(), "{garbage:?}");
        let _ = host_facts(dir.path());
    }
    let binary = tempfile::tempdir().expect("temp dir");
    std::fs::create_dir(binary.path().join("proc")).expect("a folder");
    std::fs::write(binary.path().join("proc/stat"), b"\xff\xfe").expect("a file");
    assert!(
        Collector::at(binary.path())
            .collect(&[])
            .errors
            .iter()
            .any(|(n, e)| *n == "cpu" && e.contains("UTF-8"))
    );
}

async fn ask(to: std::net::SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(to).await.expect("connects");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer))
        .await
        .expect("it ends");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn the_page_is_served_and_hostile_scrapers_are_shown_the_door() {
    let stop = CancellationToken::new();
    let (tell, told) = tokio::sync::oneshot::channel();
    let page = Arc::new(MetricsPage::new(Collector::default()));
    let serving = tokio::spawn(serve(page, 0, stop.clone(), |at| tell.send(at).expect("awaited")));
    let at = told.await.expect("bound");
    assert!(at.ip().is_loopback());
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let text = ask(at, &get("/metrics")).await;
    assert!(
        text.starts_with("HTTP/1.1 200") && text.contains("quorate_agent_memory_available_bytes "),
        "{text}"
    );
    assert!(ask(at, &get("/healthz")).await.ends_with("ok\n"));
    assert!(ask(at, &get("/etc/passwd")).await.starts_with("HTTP/1.1 404"));
    assert!(
        ask(at, "POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 405")
    );
    let huge = format!("GET /metrics HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(100_000));
    assert!(!ask(at, &huge).await.contains("200 OK"));
    assert!(!ask(at, "\u{0}garbage\r\n\r\n").await.contains("200 OK"));
    // As many silent connections as there are places: they are thrown out, then the next one is served.
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(at).await.expect("connects"));
    }
    let began = Instant::now();
    assert!(ask(at, &get("/healthz")).await.ends_with("ok\n"));
    assert!(began.elapsed() < Duration::from_secs(10));
    stop.cancel();
    serving.await.expect("ends").expect("was bound");
}
