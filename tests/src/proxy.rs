//! A network of our own on loopback: a TCP proxy in front of each coordinator, and rules for who is troubled on the way.
//!
//! Nothing of the product is changed: bytes pass through, or are held, slowed, cut in the middle. Who calls is found out from
//! `/proc`: the owner of the calling socket, by the configuration file it was started with, so that a rule can be for one
//! direction, for the agents only, or for one member.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;

/// Bytes moved at once.
const CHUNK: usize = 16 * 1024;
/// How often a slow connection moves a few bytes.
const SLOW_TICK: Duration = Duration::from_millis(50);
/// How long a connection waits for a coordinator that is being started.
const CONNECT: Duration = Duration::from_secs(2);

/// What happens to bytes on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Open connections are reset, new ones too.
    Cut,
    /// Half open: connections stay, nothing comes through, nobody is told.
    Stall,
    /// Nothing gets to the coordinator; what it sends comes through, and nobody is told.
    StallThere,
    /// Nothing comes back from the coordinator; what is sent gets there.
    StallBack,
    /// So many bytes a second, each way.
    Slow(u32),
    /// Every piece comes this much later.
    Delay(Duration),
    /// The next piece is cut in the middle, then the connection is reset; new connections are as good as ever.
    Torn,
    /// Open connections are reset once.
    Reset,
}

/// Whose connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// Everybody's.
    Anyone,
    /// The other coordinators'.
    Coordinators,
    /// The agents'.
    Agents,
    /// This coordinator's or agent's.
    One(String),
}

/// One trouble: on the way from somebody to a coordinator (`None`: to any).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Whose connections.
    pub from: From,
    /// To which coordinator.
    pub to: Option<String>,
    /// What happens.
    pub trouble: Trouble,
}

/// Who opened a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A member by name.
    Coordinator(String),
    /// An agent by its node.
    Agent(String),
    /// Somebody else: the command line, a client of a test.
    Other,
}

impl Rule {
    fn concerns(&self, from: &Caller, to: &str) -> bool {
        let caller = match (&self.from, from) {
            (From::Anyone, _) => true,
            (From::Coordinators, Caller::Coordinator(_)) | (From::Agents, Caller::Agent(_)) => true,
            (From::One(name), Caller::Coordinator(caller) | Caller::Agent(caller)) => name == caller,
            (From::Coordinators | From::Agents | From::One(_), _) => false,
        };
        caller && self.to.as_ref().is_none_or(|name| name == to)
    }
}

#[derive(Clone, Debug, Default)]
struct Weather {
    /// Grows with each change: a reset or a tear hits every connection that was opened before it, once.
    number: u64,
    rules: Arc<Vec<Rule>>,
}

/// What the proxies have done.
#[derive(Debug, Default)]
pub struct Counts {
    /// Connections taken.
    pub connections: AtomicU64,
    /// Bytes passed on.
    pub bytes: AtomicU64,
    /// Connections reset by a rule.
    pub broken: AtomicU64,
    /// Pieces held back, slowed or delayed.
    pub held: AtomicU64,
}

/// The proxies of a fleet.
#[derive(Debug)]
pub struct Network {
    weather: watch::Sender<Weather>,
    counts: Arc<Counts>,
    gates: Vec<(String, SocketAddr, Arc<OnceLock<SocketAddr>>)>,
}

impl Network {
    /// One proxy for each name, leading nowhere yet.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn open(runtime: &Handle, names: &[String]) -> io::Result<Self> {
        let (weather, counts) = (watch::Sender::new(Weather::default()), Arc::new(Counts::default()));
        let mut gates = Vec::new();
        for name in names {
            let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            listener.set_nonblocking(true)?;
            let (address, target) = (listener.local_addr()?, Arc::new(OnceLock::new()));
            let gate = Gate {
                name: name.clone(),
                target: Arc::clone(&target),
                weather: weather.subscribe(),
                counts: Arc::clone(&counts),
            };
            runtime.spawn(async move { gate.run(listener).await });
            gates.push((name.clone(), address, target));
        }
        Ok(Self { weather, counts, gates })
    }

    /// Where a coordinator is to be called.
    ///
    /// # Panics
    /// When it has no proxy.
    #[must_use]
    pub fn address(&self, name: &str) -> SocketAddr {
        self.gates.iter().find(|gate| gate.0 == name).expect("every coordinator has a proxy").1
    }

    /// Says where a coordinator really listens; once.
    pub fn lead(&self, name: &str, target: SocketAddr) {
        for gate in self.gates.iter().filter(|gate| gate.0 == name) {
            let _ = gate.2.set(target);
        }
    }

    /// From now on these rules hold, and no others.
    pub fn set(&self, rules: Vec<Rule>) {
        self.weather.send_modify(|weather| {
            weather.number += 1;
            weather.rules = Arc::new(rules);
        });
    }

    /// What has been done so far.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }
}

struct Gate {
    name: String,
    target: Arc<OnceLock<SocketAddr>>,
    weather: watch::Receiver<Weather>,
    counts: Arc<Counts>,
}

impl Gate {
    async fn run(self, listener: std::net::TcpListener) {
        let Ok(listener) = TcpListener::from_std(listener) else { return };
        // No descriptors left is no reason to end.
        loop {
            let Ok((stream, remote)) = listener.accept().await else {
                tokio::time::sleep(SLOW_TICK).await;
                continue;
            };
            let Some(target) = self.target.get().copied() else { continue };
            self.counts.connections.fetch_add(1, Ordering::Relaxed);
            let (name, weather, counts) = (self.name.clone(), self.weather.clone(), Arc::clone(&self.counts));
            tokio::spawn(async move {
                let who =
                    tokio::task::spawn_blocking(move || caller(remote.port())).await.unwrap_or(Caller::Other);
                let born = weather.borrow().number;
                let way = Way { who, name, weather, counts, born, heads: None };
                // How a connection ends is its ends' business.
                let _ = way.carry(stream, target).await;
            });
        }
    }
}

/// One connection.
#[derive(Clone)]
struct Way {
    who: Caller,
    name: String,
    weather: watch::Receiver<Weather>,
    counts: Arc<Counts>,
    /// The weather's number when it was opened.
    born: u64,
    /// Where the bytes go; none for both ways.
    heads: Option<Heads>,
}

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heads {
    /// To the coordinator.
    There,
    /// From it.
    Back,
}

impl Way {
    fn trouble(&mut self) -> Option<Trouble> {
        let weather = self.weather.borrow_and_update();
        let rule = weather.rules.iter().find(|rule| rule.concerns(&self.who, &self.name))?;
        let once = matches!(rule.trouble, Trouble::Reset | Trouble::Torn);
        let trouble = match (rule.trouble, self.heads) {
            (Trouble::StallThere, Some(Heads::Back)) | (Trouble::StallBack, Some(Heads::There)) => {
                return None;
            }
            // A connection is not opened while either way is shut.
            (Trouble::StallThere | Trouble::StallBack, _) => Trouble::Stall,
            (other, _) => other,
        };
        (!once || weather.number > self.born).then_some(trouble)
    }

    async fn carry(mut self, client: TcpStream, target: SocketAddr) -> io::Result<()> {
        while self.trouble() == Some(Trouble::Stall) {
            self.counts.held.fetch_add(1, Ordering::Relaxed);
            if self.weather.changed().await.is_err() {
                return Ok(());
            }
        }
        if self.trouble() == Some(Trouble::Cut) {
            return self.reset(&client);
        }
        let server = tokio::time::timeout(CONNECT, TcpStream::connect(target)).await;
        let server = match server {
            Ok(Ok(server)) => server,
            // Whoever calls must see what it would have seen: nobody there.
            Ok(Err(_)) | Err(_) => return client.set_zero_linger(),
        };
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        client.set_zero_linger()?;
        server.set_zero_linger()?;
        let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
        let back = Self { heads: Some(Heads::Back), ..self.clone() };
        self.heads = Some(Heads::There);
        tokio::select! {
            ended = self.pump(from_client, to_server) => ended,
            ended = back.pump(from_server, to_client) => ended,
        }
    }

    fn reset(&self, stream: &TcpStream) -> io::Result<()> {
        self.counts.broken.fetch_add(1, Ordering::Relaxed);
        stream.set_zero_linger()
    }

    /// Moves bytes one way until an end closes or a rule breaks the connection.
    async fn pump(mut self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK];
        loop {
            match self.trouble() {
                Some(Trouble::Cut | Trouble::Reset) => {
                    self.counts.broken.fetch_add(1, Ordering::Relaxed);
                    return Ok(());
                }
                Some(Trouble::Stall) => {
                    self.counts.held.fetch_add(1, Ordering::Relaxed);
                    let _ = self.weather.changed().await;
                    continue;
                }
                Some(
                    Trouble::Slow(_)
                    | Trouble::Delay(_)
                    | Trouble::Torn
                    | Trouble::StallThere
                    | Trouble::StallBack,
                )
                | None => {}
            }
            let length = tokio::select! {
                read = from.read(&mut chunk) => read?,
                changed = self.weather.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return Ok(()),
                },
            };
            let Some(piece) = chunk.get(..length).filter(|piece| !piece.is_empty()) else { return Ok(()) };
            if !self.pass(piece, &mut to).await? {
                return Ok(());
            }
        }
    }

    /// Passes one piece on; false when the connection is to be broken.
    async fn pass(&mut self, piece: &[u8], to: &mut OwnedWriteHalf) -> io::Result<bool> {
        let mut left = piece;
        while !left.is_empty() {
            let now = match self.trouble() {
                Some(Trouble::Cut | Trouble::Reset) => 0,
                Some(Trouble::Stall | Trouble::StallThere | Trouble::StallBack) => {
                    self.counts.held.fetch_add(1, Ordering::Relaxed);
                    let _ = self.weather.changed().await;
                    continue;
                }
                Some(Trouble::Torn) => {
                    to.write_all(&left[..left.len() / 2]).await?;
                    to.flush().await?;
                    0
                }
                Some(Trouble::Slow(bytes_per_s)) => {
                    self.counts.held.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(SLOW_TICK).await;
                    left.len().min(usize::try_from(bytes_per_s / 20).unwrap_or(1).max(1))
                }
                Some(Trouble::Delay(delay)) => {
                    self.counts.held.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(delay).await;
                    left.len()
                }
                None => left.len(),
            };
            if now == 0 {
                self.counts.broken.fetch_add(1, Ordering::Relaxed);
                return Ok(false);
            }
            let (first, rest) = left.split_at(now);
            to.write_all(first).await?;
            self.counts.bytes.fetch_add(u64::try_from(now).unwrap_or(u64::MAX), Ordering::Relaxed);
            left = rest;
        }
        Ok(true)
    }
}

/// The process that owns the calling end of a connection from this port on loopback.
fn caller(port: u16) -> Caller {
    let Ok(connections) = procfs::net::tcp() else { return Caller::Other };
    let own = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let Some(inode) = connections.into_iter().find(|c| c.local_address == own).map(|c| c.inode) else {
        return Caller::Other;
    };
    let Ok(processes) = procfs::process::all_processes() else { return Caller::Other };
    for process in processes.filter_map(Result::ok) {
        let Some(who) = started_as(&process) else { continue };
        let Ok(open) = process.fd() else { continue };
        let owns = |target| matches!(target, procfs::process::FDTarget::Socket(found) if found == inode);
        if open.filter_map(Result::ok).any(|fd| owns(fd.target)) {
            return who;
        }
    }
    Caller::Other
}

/// A daemon of a fleet, by the configuration file it was started with.
fn started_as(process: &procfs::process::Process) -> Option<Caller> {
    // The name first: asking a strange process for its command line waits for its memory lock, and there are hundreds.
    let name = std::fs::read_to_string(format!("/proc/{}/comm", process.pid)).ok()?;
    if !name.starts_with("quorate-") {
        return None;
    }
    let words = process.cmdline().ok()?;
    let config = words.windows(2).find(|pair| pair[0] == "--config").map(|pair| pair[1].clone())?;
    let config = Path::new(&config);
    let name = config.parent()?.file_name()?.to_str()?.to_owned();
    match config.file_name()?.to_str()? {
        "coordinator.toml" => Some(Caller::Coordinator(name)),
        "agent.toml" => Some(Caller::Agent(name)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
