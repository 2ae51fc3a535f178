//! Behind a load balancer: a rolling restart that nobody who asks through it notices.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use quorate_tests::cluster::{Daemon, Fleet, Instance};
use quorate_tests::wait::{every, wait_for};
use serde_json::Value;

use crate::restart::{LIMIT, steps};

/// Longest wait for one answer of a pool that serves, on two busy cores.
const ANSWER: Duration = Duration::from_secs(20);
/// Time between two requests of one client.
const PACE: Duration = Duration::from_millis(5);
/// Clients that ask at once.
const CLIENTS: usize = 4;

/// HAProxy in front of the sample service; it ends with this.
struct Edge {
    front: SocketAddr,
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
        let front = {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            listener.local_addr().expect("an address")
        };
        let servers = instances.iter().map(|i| format!("  server {} {}\n", i.node, i.at));
        // A server is taken out by its drain alone: nothing is sent twice, so that a dropped request is seen.
        let config = format!(
            "global\n  stats socket {}/edge.sock mode 600 level admin\n\
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
        let edge = Self { front, child: command.spawn().expect("HAProxy starts") };
        wait_for("HAProxy to answer", ANSWER, || match ask(&mut edge.connect().ok()) {
            Some(200) => Ok(()),
            other => Err(format!("{other:?}")),
        });
        edge
    }

    fn connect(&self) -> std::io::Result<BufReader<TcpStream>> {
        connect(self.front)
    }
}

fn connect(at: SocketAddr) -> std::io::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect_timeout(&at, ANSWER)?;
    stream.set_read_timeout(Some(ANSWER))?;
    Ok(BufReader::new(stream))
}

/// One request on a connection that is kept.
fn ask(stream: &mut Option<BufReader<TcpStream>>) -> Option<u16> {
    let stream = stream.as_mut()?;
    stream.get_mut().write_all(b"GET /health HTTP/1.1\r\nHost: ledger\r\n\r\n").ok()?;
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
struct Load {
    stop: Arc<AtomicBool>,
    good: Arc<AtomicU64>,
    bad: Arc<AtomicU64>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(front: SocketAddr) -> Self {
        let (stop, good, bad) = <(Arc<AtomicBool>, Arc<AtomicU64>, Arc<AtomicU64>)>::default();
        let client = |_| {
            let (stop, good, bad) = (Arc::clone(&stop), Arc::clone(&good), Arc::clone(&bad));
            std::thread::spawn(move || {
                let mut kept = None;
                every(PACE, || {
                    if kept.is_none() {
                        kept = connect(front).ok();
                    }
                    if ask(&mut kept) == Some(200) {
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
    fn end(self) -> (u64, u64) {
        self.stop.store(true, Ordering::SeqCst);
        for client in self.clients {
            client.join().expect("a client that did not panic");
        }
        (self.good.load(Ordering::SeqCst), self.bad.load(Ordering::SeqCst))
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

pub(crate) fn a_restart_drops_no_request(_: &Fleet) {
    let fleet = Fleet::start(1, 3);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let edge = Edge::start(dir.path(), &fleet.instances());
    put_behind(&fleet, dir.path());
    let before = fleet.starts();
    let load = Load::start(edge.front);
    let id = fleet.begin(&["rollout", "start", "--restart", "ledger", "--yes"]);
    let operation = fleet.ended(&id, LIMIT);
    let (good, bad) = load.end();
    println!("  {good} requests answered, {bad} dropped");
    assert_eq!(operation["state"], "SUCCEEDED", "{operation:#}");
    assert_eq!(operation["openObligations"], 0, "{operation:#}");
    assert!(good > 200, "too few requests to tell: {good}");
    assert_eq!(bad, 0, "of {good} requests");
    for kind in ["DRAIN", "RESTART", "GATE", "RESTORE"] {
        let done = |step: &&Value| step["state"] == "SUCCEEDED";
        assert_eq!(steps(&operation, kind).into_iter().filter(done).count(), 3, "{kind}: {operation:#}");
    }
    assert!(fleet.starts().iter().all(|(node, starts)| *starts == before[node] + 1), "each once");
}
