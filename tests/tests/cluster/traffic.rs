//! Behind a load balancer: a restart, an upgrade and a release taken back that nobody who asks through it notices.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use quorate_tests::cluster::{Daemon, Fleet, Instance, Poll};
use quorate_tests::wait::{every, wait_for};
use serde_json::Value;

use crate::restart::{LIMIT, steps};
use crate::upgrade::{assert_closed, pushed, released, versions};

/// Longest wait for one answer of a pool that serves, on two busy cores.
const ANSWER: Duration = Duration::from_secs(20);
/// Time between two requests of one client.
const PACE: Duration = Duration::from_millis(5);
/// Clients that ask at once.
const CLIENTS: usize = 4;
/// Fewer answers than this say nothing about those that are missing.
const ANSWERS_LEAST: u64 = 200;
/// How long one slow request is open.
const SLOW: Duration = Duration::from_secs(4);
/// Its body: sent byte by byte, the last one at the end of that time.
const SLOW_BODY: u32 = 10;
/// Longest key that the sample takes is far shorter: it reads the whole request and answers 400 itself, leader or none.
const SLOW_KEY: usize = 2_000;

/// HAProxy in front of the sample service; it ends with this.
pub(crate) struct Edge {
    front: SocketAddr,
    /// Its runtime API for people; agents have a socket of their own.
    pub(crate) admin: SocketAddr,
    child: Child,
}

impl Drop for Edge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn haproxy() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let found = places.map(|dir| dir.join("haproxy")).find(|path| path.is_file());
    found.expect("haproxy is not installed: apt-get install --no-install-recommends haproxy")
}

impl Edge {
    fn start(dir: &Path, instances: &[Instance]) -> Self {
        // Both at once, so that they are two.
        let [front, admin] = [(), ()]
            .map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"))
            .map(|listener| listener.local_addr().expect("an address"));
        let servers = instances.iter().map(|i| format!("  server {} {}\n", i.node, i.at));
        // A server is taken out by its drain alone: nothing is sent twice, so that a dropped request is seen.
        let config = format!(
            "global\n  stats socket {}/edge.sock mode 600 level admin\n  stats socket ipv4@{admin} level admin\n\
             defaults\n  mode http\n  retries 0\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\
             frontend front\n  bind {front}\n  default_backend ledger\n\
             backend ledger\n  balance roundrobin\n  option httpchk GET /health\n  default-server check inter 200ms fall 2 rise 2\n{}",
            dir.display(),
            servers.collect::<String>()
        );
        std::fs::write(dir.join("haproxy.cfg"), config).expect("a writable folder");
        let mut command = Command::new(haproxy());
        command.args(["-db", "-f"]).arg(dir.join("haproxy.cfg"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let edge = Self { front, admin, child: command.spawn().expect("HAProxy starts") };
        wait_for("HAProxy to answer", ANSWER, || match ask(&mut edge.connect().ok()) {
            Some(200) => Ok(()),
            other => Err(format!("{other:?}")),
        });
        edge
    }

    fn connect(&self) -> std::io::Result<BufReader<TcpStream>> {
        connect(self.front)
    }

    /// What HAProxy answers to one command.
    pub(crate) fn told(&self, command: &str) -> String {
        let mut stream = TcpStream::connect_timeout(&self.admin, ANSWER).expect("HAProxy's runtime API");
        stream.write_all(format!("{command}\n").as_bytes()).expect("HAProxy listens");
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).expect("HAProxy answers");
        answer
    }

    /// One column of the servers' lines in HAProxy's table: 4 is the open connections, 17 the state.
    pub(crate) fn column(&self, column: usize) -> Vec<String> {
        let stat = self.told("show stat");
        let rows = stat.lines().filter(|row| row.starts_with("ledger,node"));
        rows.map(|row| row.split(',').nth(column).unwrap_or_default().to_owned()).collect()
    }

    /// Waits until every server is in the pool and well.
    pub(crate) fn wait_whole(&self) {
        wait_for("every server to be back in the pool", ANSWER, || {
            let states = self.column(17);
            if states == ["UP"; 3] { Ok(()) } else { Err(states.join(", ")) }
        });
    }
}

fn connect(at: SocketAddr) -> std::io::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect_timeout(&at, ANSWER)?;
    stream.set_read_timeout(Some(ANSWER))?;
    Ok(BufReader::new(stream))
}

/// A connection that is kept.
type Kept = Option<BufReader<TcpStream>>;

/// One request that is answered at once.
fn ask(kept: &mut Kept) -> Option<u16> {
    let stream = kept.as_mut()?;
    stream.get_mut().write_all(b"GET /health HTTP/1.1\r\nHost: ledger\r\n\r\n").ok()?;
    answer(stream)
}

/// One request that is open for [`SLOW`]: an upload over a thin line.
fn ask_slowly(kept: &mut Kept) -> Option<u16> {
    let stream = kept.as_mut()?;
    let key = "k".repeat(SLOW_KEY);
    let head = format!("PUT /kv/{key} HTTP/1.1\r\nHost: ledger\r\nContent-Length: {SLOW_BODY}\r\n\r\n");
    stream.get_mut().write_all(head.as_bytes()).ok()?;
    let (mut left, mut sent) = (SLOW_BODY, Some(()));
    every(SLOW / SLOW_BODY, || {
        sent = stream.get_mut().write_all(b"v").ok();
        left -= 1;
        left > 0 && sent.is_some()
    });
    sent?;
    answer(stream)
}

fn answer(stream: &mut BufReader<TcpStream>) -> Option<u16> {
    let (mut status, mut length) = (None, 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        status = status.or_else(|| line.split(' ').nth(1)?.parse().ok());
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0_u8; length];
    stream.read_exact(&mut body).ok()?;
    status
}

/// Clients that ask all the time.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    good: Arc<AtomicU64>,
    bad: Arc<AtomicU64>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// Asks for what is answered at once.
    fn start(edge: &Edge) -> Self {
        Self::of(edge.front, ask, 200)
    }

    /// Asks for what takes its time.
    pub(crate) fn slow(edge: &Edge) -> Self {
        Self::of(edge.front, ask_slowly, 400)
    }

    /// Requests of one kind, and the status that a served one has.
    fn of(front: SocketAddr, one: fn(&mut Kept) -> Option<u16>, served: u16) -> Self {
        let (stop, good, bad) = <(Arc<AtomicBool>, Arc<AtomicU64>, Arc<AtomicU64>)>::default();
        let client = |_| {
            let (stop, good, bad) = (Arc::clone(&stop), Arc::clone(&good), Arc::clone(&bad));
            std::thread::spawn(move || {
                let mut kept = None;
                every(PACE, || {
                    if kept.is_none() {
                        kept = connect(front).ok();
                    }
                    if one(&mut kept) == Some(served) {
                        good.fetch_add(1, Ordering::SeqCst);
                    } else {
                        bad.fetch_add(1, Ordering::SeqCst);
                        kept = None;
                    }
                    !stop.load(Ordering::SeqCst)
                });
            })
        };
        let clients = (0..CLIENTS).map(client).collect();
        Self { stop, good, bad, clients }
    }

    /// Requests that were answered, and those that were not.
    pub(crate) fn end(self) -> (u64, u64) {
        self.stop.store(true, Ordering::SeqCst);
        for client in self.clients {
            client.join().expect("a client that did not panic");
        }
        (self.good.load(Ordering::SeqCst), self.bad.load(Ordering::SeqCst))
    }
}

/// A fleet of its own whose sample stands behind HAProxy.
pub(crate) struct Behind {
    pub(crate) edge: Edge,
    pub(crate) fleet: Fleet,
    _dir: tempfile::TempDir,
}

impl Behind {
    pub(crate) fn start() -> Self {
        let fleet = Fleet::start(1, 3);
        let dir = tempfile::tempdir().expect("a temporary directory");
        let edge = Edge::start(dir.path(), &fleet.instances());
        put_behind(&fleet, dir.path());
        Self { edge, fleet, _dir: dir }
    }

    /// Runs `work` under constant load and with a witness: nothing may be dropped, and two must always serve.
    fn unnoticed(&self, what: &str, work: impl FnOnce() -> Value) -> Value {
        self.fleet.calm();
        self.edge.wait_whole();
        let (poll, load) = (Poll::begin(self.fleet.instances()), Load::start(&self.edge));
        let operation = work();
        let (good, bad) = load.end();
        let tally = poll.end();
        println!(
            "  {what}: {good} requests answered, {bad} dropped; {} looks, fewest serving {:?}",
            tally.looks, tally.fewest
        );
        assert!(good > ANSWERS_LEAST, "too few requests to tell: {good}");
        assert_eq!(bad, 0, "of {good} requests");
        tally.assert_quorum();
        assert_closed(&operation);
        self.edge.wait_whole();
        operation
    }
}

/// Declares the balancer on every host of the service, as its administrator would, and makes the service stand behind it.
fn put_behind(fleet: &Fleet, edge: &Path) {
    for instance in fleet.instances() {
        let dir = fleet.dir().join("agents").join(&instance.node).join("agent.toml.d");
        std::fs::create_dir_all(&dir).expect("a writable folder");
        let text = format!("[balancer.edge]\nkind = 'haproxy'\nsockets = [{:?}]\n", edge.join("edge.sock"));
        std::fs::write(dir.join("edge.toml"), text).expect("a writable folder");
        fleet.kill(Daemon::Helper(&instance.node));
    }
    fleet.calm();
    let mut service = fleet.json(&["service", "show", "ledger"])["spec"].clone();
    assert!(service.is_object(), "{service:#}");
    service["kind"] = "Service".into();
    service["traffic"] =
        serde_json::json!({ "adapter": "edge", "backend": "ledger", "server": "${node}", "minUp": 2 });
    let file = edge.join("ledger.json");
    std::fs::write(&file, service.to_string()).expect("a writable folder");
    let applied = fleet.quorate(&["apply", "-f", &file.display().to_string(), "--yes"]);
    assert_eq!(applied.code, 0, "{applied:?}");
}

/// How many steps of a kind succeeded.
fn done(operation: &Value, kind: &str) -> usize {
    steps(operation, kind).into_iter().filter(|step| step["state"] == "SUCCEEDED").count()
}

pub(crate) fn a_restart_an_upgrade_and_a_release_taken_back_drop_no_request(_: &Fleet) {
    let behind = Behind::start();
    let fleet = &behind.fleet;
    let before = fleet.starts();
    let restarted = behind.unnoticed("restart", || {
        let id = fleet.begin(&["rollout", "start", "--restart", "ledger", "--yes"]);
        fleet.ended(&id, LIMIT)
    });
    assert_eq!(restarted["state"], "SUCCEEDED", "{restarted:#}");
    for kind in ["DRAIN", "RESTART", "GATE", "RESTORE"] {
        assert_eq!(done(&restarted, kind), 3, "{kind}: {restarted:#}");
    }
    assert!(fleet.starts().iter().all(|(node, starts)| *starts == before[node] + 1), "each once");

    assert_eq!(versions(fleet), ["1.0.0"; 3]);
    let good = pushed(fleet, env!("CARGO_BIN_EXE_ledger_1_1_0"));
    let upgraded = behind.unnoticed("upgrade 1.0.0 -> 1.1.0", || released(fleet, "1.1.0", &good, &[]));
    assert_eq!(upgraded["state"], "SUCCEEDED", "{upgraded:#}");
    for kind in ["DRAIN", "ACTIVATE", "RESTORE"] {
        assert_eq!(done(&upgraded, kind), 3, "{kind}: {upgraded:#}");
    }
    assert_eq!(versions(fleet), ["1.1.0"; 3]);
    assert!(fleet.starts().iter().all(|(node, starts)| *starts == before[node] + 2), "each once");

    let broken = pushed(fleet, env!("CARGO_BIN_EXE_ledger_1_2_0_unhealthy"));
    let back = behind.unnoticed("broken 1.2.0, taken back", || {
        released(fleet, "1.2.0", &broken, &["--gate-timeout", "10s"])
    });
    assert_eq!(back["state"], "ROLLED_BACK", "{back:#}");
    assert_eq!((done(&back, "ACTIVATE"), done(&back, "REVERT")), (1, 1), "{back:#}");
    assert_eq!(versions(fleet), ["1.1.0"; 3]);
}
