//! A fleet of real processes on loopback, as `quorate dev` runs it, and what tests do to it.
//!
//! The fleet lives as long as its guard: it is ended on drop, also when a test panics. Processes are killed by the pid
//! that `fleet.json` names, never by a name.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::wait::{wait_for, wait_until};
use crate::workspace;

mod poll;

pub use poll::{Look, Poll, Tally, serving};

/// Longest a healthy fleet needs to be whole again after anything a test does, on two busy cores.
pub const CALM: Duration = Duration::from_secs(90);
/// Bytes of a log shown when a test failed.
const TAIL_BYTES: usize = 3_000;

/// What a command line gave.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Exit code; -1 when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Answer {
    /// Of a program that has ended.
    #[must_use]
    pub fn of(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Standard output as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("no JSON ({e}): {self:?}"))
    }

    /// Itself, when it ended with this code.
    ///
    /// # Panics
    /// When it did not.
    #[must_use]
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }
}

/// Which process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Daemon<'a> {
    /// A coordinator by name.
    Coordinator(&'a str),
    /// The network half of a node.
    Agent(&'a str),
    /// The other half of a node.
    Helper(&'a str),
}

/// One instance of the sample service.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Its node.
    pub node: String,
    /// Where it listens.
    pub at: SocketAddr,
    /// Its data directory.
    pub dir: PathBuf,
}

/// A running fleet.
#[derive(Debug)]
pub struct Fleet {
    dir: tempfile::TempDir,
    quorate: PathBuf,
}

impl Fleet {
    /// Brings a fleet up; it is ready when this returns.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start(coordinators: usize, agents: usize) -> Self {
        let dir = tempfile::Builder::new().prefix("quorate-").tempdir().expect("a temporary directory");
        let (members, hosts) = (coordinators.to_string(), agents.to_string());
        Self::start_in(dir, &["--coordinators", &members, "--agents", &hosts])
    }

    /// The same in a directory that was prepared, with more flags of `quorate dev`.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start_in(dir: tempfile::TempDir, flags: &[&str]) -> Self {
        let fleet = Self { dir, quorate: workspace::binaries().join("quorate") };
        let up = fleet.dev(&[flags, &["--detach"]].concat());
        assert_eq!(up.code, 0, "the fleet comes up: {}", up.stderr);
        fleet
    }

    /// `quorate dev --dir DIR …`.
    pub fn dev(&self, args: &[&str]) -> Answer {
        let mut command = Command::new(&self.quorate);
        command.args(["dev", "--dir"]).arg(self.dir.path()).args(args).stdin(Stdio::null());
        Answer::of(&command.output().expect("quorate runs"))
    }

    /// `quorate dev stop --dir DIR`.
    pub fn stop(&self) -> Answer {
        let mut command = Command::new(&self.quorate);
        command.args(["dev", "stop", "--dir"]).arg(self.dir.path()).stdin(Stdio::null());
        Answer::of(&command.output().expect("quorate runs"))
    }

    /// The fleet's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// `fleet.json` as it is now.
    ///
    /// # Panics
    /// When it cannot be read: it is replaced whole.
    #[must_use]
    pub fn record(&self) -> Value {
        let text = fs::read(self.dir.path().join("fleet.json")).expect("fleet.json is there");
        serde_json::from_slice(&text).expect("fleet.json is JSON")
    }

    /// Runs the command line as the fleet's administrator, without a terminal.
    pub fn quorate(&self, args: &[&str]) -> Answer {
        self.quorate_with(&[], args)
    }

    /// The same with more variables.
    ///
    /// # Panics
    /// When the program cannot be run.
    pub fn quorate_with(&self, variables: &[(&str, &str)], args: &[&str]) -> Answer {
        let mut command = Command::new(&self.quorate);
        command.env("QUORATE_CONFIG", self.dir.path().join("config.toml")).env("NO_COLOR", "1");
        command.envs(variables.iter().copied()).args(args).stdin(Stdio::null());
        Answer::of(&command.output().expect("quorate runs"))
    }

    /// The JSON of a command that must succeed.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        self.quorate(&[args, &["-o", "json"]].concat()).expect(0).json()
    }

    /// Starts an operation and gives its id.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn begin(&self, args: &[&str]) -> String {
        let operation = self.json(&[args, &["--detach"]].concat());
        let name = operation["name"].as_str().expect("an operation has a name");
        name.rsplit('/').next().unwrap_or(name).to_owned()
    }

    /// The operation, as soon as a coordinator answers for it.
    #[must_use]
    pub fn operation(&self, id: &str) -> Value {
        wait_for("the operation to be shown", CALM, || {
            let shown = self.quorate(&["operation", "show", id, "-o", "json"]);
            if shown.code == 0 { Ok(shown.json()) } else { Err(shown.stderr) }
        })
    }

    /// The operation once it is terminal.
    #[must_use]
    pub fn ended(&self, id: &str, limit: Duration) -> Value {
        wait_for(&format!("{id} to end"), limit, || {
            let operation = self.operation(id);
            let terminal = ["SUCCEEDED", "FAILED", "CANCELED", "ROLLED_BACK"];
            let state = operation["state"].as_str().unwrap_or_default();
            if terminal.contains(&state) { Ok(operation) } else { Err(operation.to_string()) }
        })
    }

    /// The instances of the sample service.
    ///
    /// # Panics
    /// When `fleet.json` is not as the contract says.
    #[must_use]
    pub fn instances(&self) -> Vec<Instance> {
        self.listed("instances")
    }

    /// The two of the sample pair, of a fleet that has it.
    ///
    /// # Panics
    /// When it has none.
    #[must_use]
    pub fn pair(&self) -> Vec<Instance> {
        self.listed("pair")
    }

    fn listed(&self, list: &str) -> Vec<Instance> {
        let record = self.record();
        let rows = record[list].as_array().expect("instances");
        rows.iter()
            .map(|row| Instance {
                node: row["node"].as_str().expect("node").to_owned(),
                at: loopback(u16::try_from(row["port"].as_u64().expect("port")).expect("a port")),
                dir: PathBuf::from(row["dir"].as_str().expect("dir")),
            })
            .collect()
    }

    /// The instance on a node.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn instance(&self, node: &str) -> Instance {
        self.instances().into_iter().find(|i| i.node == node).expect("an instance on this node")
    }

    /// How often each instance was started, by its own count.
    #[must_use]
    pub fn starts(&self) -> BTreeMap<String, usize> {
        self.instances()
            .into_iter()
            .map(|i| {
                let text = fs::read_to_string(i.dir.join("starts.log")).unwrap_or_default();
                (i.node, text.lines().count())
            })
            .collect()
    }

    /// Name and addresses (gRPC, HTTPS) of the coordinators.
    #[must_use]
    pub fn coordinators(&self) -> Vec<(String, String, String)> {
        let record = self.record();
        let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let rows = record["coordinators"].as_array().cloned().unwrap_or_default();
        rows.iter().map(|row| (text(row, "name"), text(row, "grpc"), text(row, "http"))).collect()
    }

    /// Directory of a node's certificate.
    #[must_use]
    pub fn agent_tls(&self, node: &str) -> PathBuf {
        self.dir.path().join("agents").join(node).join("data/tls")
    }

    /// The leading coordinator, once there is one.
    #[must_use]
    pub fn leader(&self) -> String {
        wait_for("a leading coordinator", CALM, || {
            let members = self.quorate(&["cluster", "members", "-o", "json"]);
            if members.code != 0 {
                return Err(members.stderr);
            }
            leader_among(&members.json())
        })
    }

    /// Pid of a daemon; `None` while it does not run.
    #[must_use]
    pub fn pid(&self, daemon: Daemon<'_>) -> Option<Pid> {
        let record = self.record();
        let (list, key, name, field) = match daemon {
            Daemon::Coordinator(name) => ("coordinators", "name", name, "pid"),
            Daemon::Agent(node) => ("agents", "node", node, "pid"),
            Daemon::Helper(node) => ("agents", "node", node, "helper_pid"),
        };
        let row = record[list].as_array()?.iter().find(|row| row[key] == name)?;
        row[field].as_i64().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw)
    }

    /// kill -9. The fleet's supervisor starts the daemon again after a second.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&self, daemon: Daemon<'_>) {
        let pid = wait_for("the daemon to run", CALM, || self.pid(daemon).ok_or("no pid"));
        kill_process(pid, Signal::KILL).expect("the daemon can be killed");
    }

    /// Waits until every member is up, every node READY and the group HEALTHY.
    pub fn calm(&self) {
        wait_for("a calm fleet", CALM, || {
            let members = self.quorate(&["cluster", "members", "-o", "json"]);
            let nodes = self.quorate(&["node", "list", "-o", "json"]);
            let group = self.quorate(&["group", "show", "ledger", "-o", "json"]);
            for answer in [&members, &nodes, &group] {
                if answer.code != 0 {
                    return Err(answer.stderr.clone());
                }
            }
            let down = |list: &Value, bad: &dyn Fn(&Value) -> bool| {
                list.as_array().is_none_or(|rows| rows.iter().any(bad))
            };
            if down(&members.json()["members"], &|m| m["state"] == "DOWN" || m["voter"] != true) {
                return Err(members.stdout);
            }
            if down(&nodes.json()["nodes"], &|n| n["status"] != "READY") {
                return Err(nodes.stdout);
            }
            if group.json()["state"] == "HEALTHY" { Ok(()) } else { Err(group.stdout) }
        });
    }

    /// Ends of all logs, for a failed test.
    pub fn tell(&self) {
        let files = walkdir::WalkDir::new(self.dir.path()).sort_by_file_name();
        for entry in files.into_iter().filter_map(Result::ok) {
            let path = entry.path();
            let shown = ["coordinator.log", "agent.log", "helper.log", "supervisor.log", "ledger.log"];
            if !path.file_name().is_some_and(|name| shown.iter().any(|s| *s == name)) {
                continue;
            }
            let bytes = fs::read(path).unwrap_or_default();
            let tail = bytes.get(bytes.len().saturating_sub(TAIL_BYTES)..).unwrap_or_default();
            eprintln!("---- end of {}\n{}", path.display(), String::from_utf8_lossy(tail));
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let stopped = self.stop();
        if stopped.code != 0 {
            eprintln!("the fleet in {} could not be stopped: {}", self.dir.path().display(), stopped.stderr);
        }
    }
}

/// A port of this machine.
#[must_use]
pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// One HTTP request: status and body.
///
/// # Errors
/// When it is not answered in time.
pub fn http(
    method: &str,
    at: SocketAddr,
    path: &str,
    body: &str,
    limit: Duration,
) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&at, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    let length = body.len();
    stream.write_all(
        format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .as_bytes(),
    )?;
    let mut answer = Vec::new();
    // Far more than any answer of the sample service.
    stream.take(1 << 20).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("no status line: {head}")))?;
    Ok((status, body.to_owned()))
}

/// Waits until a process is gone (a zombie is).
pub fn wait_gone(pid: Pid) {
    wait_until("the process to be gone", CALM, || {
        let process = procfs::process::Process::new(pid.as_raw_nonzero().get());
        process.and_then(|p| p.stat()).map_or(true, |stat| stat.state == 'Z')
    });
}

/// Who leads, of the answer to `cluster members -o json`.
///
/// # Errors
/// The answer, when nobody does.
pub fn leader_among(members: &Value) -> Result<String, String> {
    let rows = members["members"].as_array().map(Vec::as_slice).unwrap_or_default();
    let leader = rows.iter().find(|row| row["state"] == "LEADER");
    leader.and_then(|row| row["name"].as_str()).map(str::to_owned).ok_or_else(|| members.to_string())
}
