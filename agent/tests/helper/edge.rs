//! Real load balancers on loopback, in front of web servers of the test's own; and a client that never stops asking.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use quorate_agent::host::admin::{self, AdminAddress};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::fixture::until;

/// Longest wait for one answer of a healthy pool, on a busy machine.
const ANSWER: Duration = Duration::from_secs(20);
/// Time between two requests of one client.
const PACE: Duration = Duration::from_millis(3);

/// A web server: `/health` as it is told, `/hang` until it is let go, `200` for everything else.
pub(crate) struct Web {
    pub(crate) at: SocketAddr,
    healthy: AtomicBool,
    served: AtomicU64,
    /// Requests that hang now.
    hanging: AtomicU64,
    go: Notify,
}

impl Web {
    pub(crate) async fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let web = Arc::new(Self {
            at: listener.local_addr().expect("an address"),
            healthy: AtomicBool::new(true),
            served: AtomicU64::new(0),
            hanging: AtomicU64::new(0),
            go: Notify::new(),
        });
        let own = Arc::clone(&web);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let web = Arc::clone(&own);
                tokio::spawn(async move { web.serve(stream).await });
            }
        });
        web
    }

    async fn serve(&self, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        loop {
            let mut path = None;
            loop {
                let mut line = String::new();
                match stream.read_line(&mut line).await {
                    Ok(n) if n > 0 => {}
                    _ => return,
                }
                if line.trim().is_empty() {
                    break;
                }
                path = path.or_else(|| line.split(' ').nth(1).map(str::to_owned));
            }
            let status = match path.as_deref() {
                Some("/health") if !self.healthy.load(Ordering::SeqCst) => "503 Sick",
                Some("/health") => "200 OK",
                Some("/hang") => {
                    self.hanging.fetch_add(1, Ordering::SeqCst);
                    self.go.notified().await;
                    self.hanging.fetch_sub(1, Ordering::SeqCst);
                    "200 OK"
                }
                _ => {
                    self.served.fetch_add(1, Ordering::SeqCst);
                    "200 OK"
                }
            };
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok");
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    pub(crate) fn heal(&self, healthy: bool) {
        self.healthy.store(healthy, Ordering::SeqCst);
    }

    pub(crate) fn served(&self) -> u64 {
        self.served.load(Ordering::SeqCst)
    }

    pub(crate) fn hanging(&self) -> u64 {
        self.hanging.load(Ordering::SeqCst)
    }

    pub(crate) fn let_go(&self) {
        self.go.notify_waiters();
    }
}

/// Where Debian puts it, or `PATH` has it.
fn program(name: &str, package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let found = places.map(|dir| dir.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!("{name} is not installed: apt-get install --no-install-recommends {package}")
    })
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// A balancer of its own process; it ends with this.
pub(crate) struct Edge {
    pub(crate) front: SocketAddr,
    pub(crate) webs: Vec<Arc<Web>>,
    dir: PathBuf,
    child: Child,
}

impl Drop for Edge {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        // nginx ends its workers on TERM, and would leave them on KILL.
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

impl Edge {
    /// HAProxy with three servers `s1`, `s2`, `s3` in the pool `app`.
    pub(crate) async fn haproxy(dir: &Path) -> Self {
        let mut webs = Vec::new();
        for _ in 0..3 {
            webs.push(Web::start().await);
        }
        let front = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let servers = webs.iter().enumerate().map(|(i, web)| format!("  server s{} {}\n", i + 1, web.at));
        let config = format!(
            "global\n  stats socket {0}/edge.sock mode 600 level admin\n  stats socket {0}/second.sock mode 600 level admin\n\
             defaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n  retries 0\n\
             frontend front\n  bind {front}\n  default_backend app\n\
             backend app\n  balance roundrobin\n  option httpchk GET /health\n  default-server check inter 100ms fall 2 rise 2\n{1}",
            dir.display(),
            servers.collect::<String>()
        );
        std::fs::write(dir.join("haproxy.cfg"), config).expect("a writable folder");
        let mut command = Command::new(program("haproxy", "haproxy"));
        command.args(["-db", "-f"]).arg(dir.join("haproxy.cfg"));
        let edge = Self { front, webs, dir: dir.to_owned(), child: spawn(command, &dir.join("haproxy.log")) };
        until("every server of the pool is up", async || {
            let answer = edge.ask("show stat app 4 -1").await?;
            (answer.matches("L7OK").count() == 3 && edge.inside().await? == 3).then_some(())
        })
        .await;
        edge
    }

    /// nginx with two servers in a file of its own.
    pub(crate) async fn nginx(dir: &Path, upstreams: impl Fn(&[Arc<Web>]) -> String) -> Self {
        let webs = vec![Web::start().await, Web::start().await];
        let front = SocketAddr::from(([127, 0, 0, 1], free_port()));
        std::fs::write(dir.join("upstream.conf"), upstreams(&webs)).expect("a writable folder");
        std::fs::write(dir.join("nginx.conf"), nginx_config(dir, front)).expect("a writable folder");
        let mut command = Command::new(program("nginx", "nginx-light"));
        command.arg("-p").arg(dir).arg("-c").arg(dir.join("nginx.conf")).args(["-g", "daemon off;"]);
        let edge = Self { front, webs, dir: dir.to_owned(), child: spawn(command, &dir.join("nginx.log")) };
        until("nginx answers", async || edge.get("/").await.filter(|status| *status == 200)).await;
        edge
    }

    /// Words of nginx's own command line, as `agent.toml` has them.
    pub(crate) fn nginx_argv(dir: &Path, rest: &str) -> String {
        let nginx = program("nginx", "nginx-light");
        format!("[{nginx:?}, \"-p\", {dir:?}, \"-c\", {:?}, {rest}]", dir.join("nginx.conf"))
    }

    /// What HAProxy answers.
    pub(crate) async fn ask(&self, line: &str) -> Option<String> {
        let socket = AdminAddress::Unix(self.dir.join("edge.sock"));
        admin::ask(&socket, line, ANSWER).await.ok()
    }

    /// Whether somebody ordered a server out.
    pub(crate) async fn is_out(&self, server: &str) -> bool {
        let answer = self.ask("show servers state app").await.expect("HAProxy answers");
        let row = answer.lines().find(|l| l.split(' ').nth(3) == Some(server)).expect("the server is there");
        row.split(' ').nth(6) != Some("0")
    }

    /// Servers that nobody ordered out.
    async fn inside(&self) -> Option<usize> {
        let answer = self.ask("show servers state app").await?;
        Some(
            answer
                .lines()
                .filter(|l| l.split(' ').nth(1) == Some("app") && l.split(' ').nth(6) == Some("0"))
                .count(),
        )
    }

    /// One request on a connection of its own.
    pub(crate) async fn get(&self, path: &str) -> Option<u16> {
        let mut stream = BufReader::new(TcpStream::connect(self.front).await.ok()?);
        request(&mut stream, path).await
    }
}

fn nginx_config(dir: &Path, front: SocketAddr) -> String {
    let dir = dir.display();
    format!(
        "worker_processes 1;\npid {dir}/nginx.pid;\nerror_log {dir}/error.log;\nevents {{}}\nhttp {{\n  access_log off;\n\
         client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3; uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;\n\
         include {dir}/upstream.conf;\n  server {{ listen {front}; location / {{ proxy_pass http://app; proxy_next_upstream off; }} }}\n}}\n"
    )
}

fn spawn(mut command: Command, log: &Path) -> Child {
    let log = std::fs::File::create(log).expect("a log file");
    let other = log.try_clone().expect("a second handle");
    command.stdin(Stdio::null()).stdout(log).stderr(other).spawn().expect("the balancer starts")
}

async fn request(stream: &mut BufReader<TcpStream>, path: &str) -> Option<u16> {
    let ask = format!("GET {path} HTTP/1.1\r\nHost: app\r\n\r\n");
    stream.write_all(ask.as_bytes()).await.ok()?;
    let (mut status, mut length) = (None, 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
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
    stream.read_exact(&mut body).await.ok()?;
    status
}

/// Clients that ask all the time, each on a connection that it keeps, and a witness of the pool.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    good: Arc<AtomicU64>,
    bad: Arc<AtomicU64>,
    fewest: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    pub(crate) fn start(edge: &Arc<Edge>, clients: usize) -> Self {
        let load = Self {
            stop: Arc::default(),
            good: Arc::default(),
            bad: Arc::default(),
            fewest: Arc::new(AtomicU64::new(u64::MAX)),
            tasks: Vec::new(),
        };
        let client = |_| {
            let (stop, good, bad) = (Arc::clone(&load.stop), Arc::clone(&load.good), Arc::clone(&load.bad));
            let edge = Arc::clone(edge);
            tokio::spawn(async move {
                let mut kept = None;
                let mut pace = tokio::time::interval(PACE);
                while !stop.load(Ordering::SeqCst) {
                    pace.tick().await;
                    if kept.is_none() {
                        kept = TcpStream::connect(edge.front).await.ok().map(BufReader::new);
                    }
                    let answer = match &mut kept {
                        Some(stream) => {
                            tokio::time::timeout(ANSWER, request(stream, "/")).await.ok().flatten()
                        }
                        None => None,
                    };
                    if answer == Some(200) {
                        good.fetch_add(1, Ordering::SeqCst);
                    } else {
                        bad.fetch_add(1, Ordering::SeqCst);
                        kept = None;
                    }
                }
            })
        };
        let mut tasks: Vec<_> = (0..clients).map(client).collect();
        let (stop, fewest, watched) = (Arc::clone(&load.stop), Arc::clone(&load.fewest), Arc::clone(edge));
        tasks.push(tokio::spawn(async move {
            let mut pace = tokio::time::interval(PACE);
            while !stop.load(Ordering::SeqCst) {
                pace.tick().await;
                if let Some(inside) = watched.inside().await {
                    fewest.fetch_min(inside as u64, Ordering::SeqCst);
                }
            }
        }));
        Self { tasks, ..load }
    }

    pub(crate) fn good(&self) -> u64 {
        self.good.load(Ordering::SeqCst)
    }

    /// Requests that were answered, those that were not, and the fewest servers in the pool.
    pub(crate) async fn end(self) -> (u64, u64, u64) {
        self.stop.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.expect("a client that did not panic");
        }
        let read = |count: &AtomicU64| count.load(Ordering::SeqCst);
        (read(&self.good), read(&self.bad), read(&self.fewest))
    }
}
