//! A group of ledger instances run straight from the `quorate` binary, and a plain HTTP client.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Longest any state may take to come about on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until `look` gives something, and fails with `what` after the deadline. Looks often, without a fixed pause
/// between what is waited for and going on.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain: {what}");
        // Between two looks the machine belongs to the processes looked at.
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Three members, in one temporary directory.
pub(crate) struct Group {
    pub(crate) dir: TempDir,
    pub(crate) ports: Vec<u16>,
    children: Vec<Option<Child>>,
}

impl Group {
    /// Writes the files of three members with short delays; starts none.
    pub(crate) fn new() -> Self {
        Self::with(200, 300)
    }

    pub(crate) fn with(starting_ms: u64, catch_up_ms: u64) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let held: Vec<TcpListener> =
            (0..3).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
        let ports: Vec<u16> = held.iter().map(|socket| socket.local_addr().expect("bound").port()).collect();
        for id in 1..=3 {
            let own = dir.path().join(format!("node{id}"));
            std::fs::create_dir_all(&own).expect("create the data directory");
            let mut text = format!(
                "node = 'node{id}'\nid = {id}\nport = {}\ndata_dir = '{}'\nlog_file = '{}'\n\
                 starting_ms = {starting_ms}\ncatch_up_ms = {catch_up_ms}\n",
                ports[id - 1],
                own.display(),
                own.join("ledger.log").display()
            );
            for (index, port) in ports.iter().enumerate() {
                let peer = index + 1;
                text.push_str(&format!("[[peers]]\nid = {peer}\nnode = 'node{peer}'\nport = {port}\n"));
            }
            std::fs::write(own.join("ledger.toml"), text).expect("write the file");
        }
        Self { dir, ports, children: vec![None, None, None] }
    }

    pub(crate) fn path(&self, id: usize, name: &str) -> PathBuf {
        self.dir.path().join(format!("node{id}")).join(name)
    }

    pub(crate) fn start(&mut self, id: usize) {
        let child = Command::new(env!("CARGO_BIN_EXE_quorate"))
            .args(["dev", "ledger", "--config"])
            .arg(self.path(id, "ledger.toml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start an instance");
        self.children[id - 1] = Some(child);
    }

    /// Three members, all serving, with a leader all agree on.
    pub(crate) fn started() -> Self {
        let mut group = Self::new();
        for id in 1..=3 {
            group.start(id);
        }
        group.wait_serving(&[1, 2, 3]);
        group
    }

    /// Waits until each of `ids` sees exactly `ids` serving under one leader; returns the leader and the term.
    pub(crate) fn wait_serving(&self, ids: &[usize]) -> (u64, u64) {
        wait_for(&format!("{ids:?} serve and agree"), || {
            let views: Option<Vec<Value>> = ids
                .iter()
                .map(|id| self.get(*id, "/cluster/nodes").and_then(|answer| answer.json()))
                .collect();
            let views = views?;
            let good = views.iter().all(|view| {
                serving(view) == ids.iter().map(|id| *id as u64).collect::<Vec<_>>()
                    && view["leader_id"] == views[0]["leader_id"]
                    && view["term"] == views[0]["term"]
            });
            (good && views[0]["leader_id"].is_u64()).then(|| {
                (views[0]["leader_id"].as_u64().expect("checked"), views[0]["term"].as_u64().expect("a term"))
            })
        })
    }

    pub(crate) fn pid(&self, id: usize) -> rustix::process::Pid {
        let child = self.children[id - 1].as_ref().expect("it was started");
        rustix::process::Pid::from_child(child)
    }

    pub(crate) fn signal(&self, id: usize, signal: rustix::process::Signal) {
        rustix::process::kill_process(self.pid(id), signal).expect("signal the instance");
    }

    /// Whether it has ended, and how.
    pub(crate) fn ended(&mut self, id: usize) -> Option<std::process::ExitStatus> {
        self.children[id - 1].as_mut().expect("it was started").try_wait().expect("ask for its end")
    }

    pub(crate) fn kill(&mut self, id: usize) {
        self.signal(id, rustix::process::Signal::KILL);
        wait_for("its end", || self.ended(id));
    }

    pub(crate) fn get(&self, id: usize, path: &str) -> Option<Answer> {
        self.call(id, "GET", path, b"")
    }

    pub(crate) fn call(&self, id: usize, method: &str, path: &str, body: &[u8]) -> Option<Answer> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        self.raw(id, &[head.as_bytes(), body].concat())
    }

    /// Sends bytes as they are and reads the whole answer. `None`: no connection or no HTTP answer.
    pub(crate) fn raw(&self, id: usize, bytes: &[u8]) -> Option<Answer> {
        raw(self.ports[id - 1], bytes)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for child in self.children.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// An answer of an instance.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Option<Value> {
        (self.status == 200).then(|| serde_json::from_slice(&self.body).ok()).flatten()
    }
}

/// Ids that serve, in a `/cluster/nodes` answer.
pub(crate) fn serving(view: &Value) -> Vec<u64> {
    let rows = view["nodes"].as_array().expect("a list of nodes");
    rows.iter()
        .filter(|row| row["serving"] == true)
        .map(|row| row["node_id"].as_u64().expect("an id"))
        .collect()
}

pub(crate) fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path).map(|text| text.lines().count()).unwrap_or(0)
}

/// Asks every member who serves, as fast as it can, on a thread of its own.
pub(crate) struct Watcher {
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    thread: std::thread::JoinHandle<(usize, usize)>,
}

impl Group {
    pub(crate) fn watcher(&self) -> Watcher {
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (ports, stopped) = (self.ports.clone(), std::sync::Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let (mut samples, mut worst) = (0, usize::MAX);
            while !stopped.load(std::sync::atomic::Ordering::SeqCst) {
                let views = ports.iter().filter_map(|port| ask(*port));
                worst = worst.min(views.map(|view| serving(&view).len()).min().unwrap_or(0));
                samples += 1;
            }
            (samples, worst)
        });
        Watcher { stop, thread }
    }
}

impl Watcher {
    /// How often it asked, and the fewest serving that any answer named.
    pub(crate) fn stop(self) -> (usize, usize) {
        self.stop.store(true, std::sync::atomic::Ordering::SeqCst);
        self.thread.join().expect("the watcher ends well")
    }
}

fn ask(port: u16) -> Option<Value> {
    raw(port, b"GET /cluster/nodes HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?.json()
}

/// Sends bytes as they are and reads the whole answer. `None`: no connection or no HTTP answer.
pub(crate) fn raw(port: u16, bytes: &[u8]) -> Option<Answer> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    // The server may answer and close before it has read everything.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, body: answer[end + 4..].to_vec() })
}
