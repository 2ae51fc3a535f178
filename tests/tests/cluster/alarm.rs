//! The alarm of a group: what it says while members go one by one, and what the guide's own rules say beside it (X2, X3).
//!
//! The guide's rules stand as they are written, evaluated by a real Prometheus; a second of the guide takes a fortieth. Beside
//! them, in the same Prometheus and on the same scale, the rules that we ship.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use quorate_tests::cluster::{Daemon, Fleet, http};
use quorate_tests::wait::{wait_for, wait_until};
use quorate_tests::workspace;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::restart::LIMIT;

/// S2, 89-109: the two rules that tell of members that are gone.
const GUIDE: &str = r#"
groups:
  - name: scribe-ledger
    interval: 750ms
    rules:
      - alert: NodeDown
        expr: up{job="scribe-ledger"} == 0
        for: 1500ms
        labels:
          severity: critical
        annotations:
          summary: "Node is down"
          description: "{{ $labels.instance }} is not responding"

      - alert: ClusterQuorumLost
        expr: count(up{job="scribe-ledger"} == 1) < 2
        for: 1500ms
        labels:
          severity: critical
        annotations:
          summary: "Cluster quorum lost"
          description: "Less than 2 nodes available"
"#;
/// Evaluations after which an alert that is to come has come: `for` is over after two.
const EVALUATIONS: usize = 6;
const ANSWER: Duration = Duration::from_secs(20);

/// A Prometheus that scrapes the sample as the guide does, and the coordinators as we say; ended on drop.
struct Prometheus {
    at: SocketAddr,
    dir: PathBuf,
    coordinators: Vec<String>,
    child: Child,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    fn start(fleet: &Fleet, name: &str) -> Self {
        let at = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
        let dir = fleet.dir().join(name);
        fs::create_dir_all(&dir).expect("the fleet's folder is ours");
        fs::write(dir.join("guide.yml"), GUIDE).expect("written");
        let shipped = workspace::root().join("deploy/prometheus/quorate.rules.yml");
        let shipped = fs::read_to_string(shipped).expect("the rules that we ship");
        let scaled = shipped.replace("interval: 30s", "interval: 750ms").replace("for: 1m", "for: 1500ms");
        fs::write(dir.join("ours.yml"), scaled).expect("written");
        fs::copy(fleet.dir().join("admin/ca.pem"), dir.join("ca.pem")).expect("the administrator's CA");
        let coordinators: Vec<String> = fleet.coordinators().into_iter().map(|(_, _, http)| http).collect();
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", dir.join("prometheus.yml").display()));
        command.arg(format!("--storage.tsdb.path={}", dir.join("data").display()));
        command.arg(format!("--web.listen-address={at}")).arg("--web.enable-lifecycle");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let targets: Vec<SocketAddr> = fleet.instances().iter().map(|instance| instance.at).collect();
        configure(&dir, &coordinators, &targets);
        let child = command.spawn().expect("prometheus (package `prometheus`)");
        let prometheus = Self { at, dir, coordinators, child };
        prometheus.wait_up(targets.len());
        prometheus
    }

    /// The guide's list of targets, from now on.
    fn scrape(&self, targets: &[SocketAddr]) {
        configure(&self.dir, &self.coordinators, targets);
        let (status, told) = http("POST", self.at, "/-/reload", "", ANSWER).expect("it answers");
        assert_eq!(status, 200, "{told}");
    }

    fn ask(&self, path: &str) -> Result<Value, String> {
        let asked = http("GET", self.at, &format!("/api/v1/{path}"), "", ANSWER);
        let (status, body) = asked.map_err(|error| error.to_string())?;
        // The body may come in chunks: what is between the outermost braces is the document.
        let (from, to) = (body.find('{').unwrap_or(0), body.rfind('}').map_or(body.len(), |at| at + 1));
        let document: String = body[from..to].lines().filter(|line| !is_chunk(line)).collect();
        let answer: Value = serde_json::from_str(&document).map_err(|e| format!("{status} {e}: {body}"))?;
        Ok(answer["data"].clone())
    }

    /// How many of the guide's targets there are, and how many of them are up, as its rules see it.
    fn targets(&self) -> Result<(usize, usize), String> {
        let found = self.ask("query?query=up%7Bjob%3D%22scribe-ledger%22%7D")?;
        let rows = found["result"].as_array().cloned().unwrap_or_default();
        let up = rows.iter().filter(|row| row["value"][1] == "1").count();
        Ok((rows.len(), up))
    }

    fn wait_up(&self, count: usize) {
        wait_for("the sample and the coordinators to be scraped", LIMIT, || {
            let ours = self.ask("query?query=quorate_coordinator_group_alarm")?;
            let members = ours["result"].as_array().map_or(0, Vec::len);
            let found = self.targets()?;
            if found == (count, count) && members >= self.coordinators.len() {
                Ok(())
            } else {
                Err(format!("{found:?}, {members} members"))
            }
        });
    }

    fn wait_targets(&self, wanted: (usize, usize)) {
        wait_for("the targets as they are now", LIMIT, || match self.targets()? {
            found if found == wanted => Ok(()),
            found => Err(format!("{found:?}")),
        });
    }

    /// The names of the alerts that fire, once whatever is to fire has had the time to.
    fn firing(&self) -> BTreeSet<String> {
        let mut seen: BTreeSet<String> = BTreeSet::new();
        wait_until("the rules to be evaluated again and again", LIMIT, || {
            let rules = self.ask("rules").unwrap_or_default();
            let groups = rules["groups"].as_array().cloned().unwrap_or_default();
            let guide = groups.iter().find(|group| group["name"] == "scribe-ledger");
            seen.extend(guide.and_then(|group| group["lastEvaluation"].as_str()).map(str::to_owned));
            seen.len() > EVALUATIONS
        });
        let alerts = self.ask("alerts").expect("an answer");
        let rows = alerts["alerts"].as_array().cloned().unwrap_or_default();
        let firing = rows.iter().filter(|alert| alert["state"] == "firing");
        firing.filter_map(|alert| alert["labels"]["alertname"].as_str()).map(str::to_owned).collect()
    }
}

/// The length of a chunk, on a line of its own.
fn is_chunk(line: &str) -> bool {
    !line.is_empty() && line.len() < 8 && line.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// S2, 20-30, with the port and the scale that are ours.
fn configure(dir: &std::path::Path, coordinators: &[String], targets: &[SocketAddr]) {
    let list = |targets: &mut dyn Iterator<Item = String>| {
        targets.map(|target| format!("'{target}'")).collect::<Vec<_>>().join(", ")
    };
    let sample = list(&mut targets.iter().map(ToString::to_string));
    let members = list(&mut coordinators.iter().cloned());
    let text = format!(
        "global: {{scrape_interval: 375ms, scrape_timeout: 300ms, evaluation_interval: 750ms}}
rule_files: [guide.yml, ours.yml]
scrape_configs:
  - job_name: 'scribe-ledger'
    static_configs:
      - targets: [{sample}]
    metrics_path: '/metrics/prometheus'
  - job_name: quorate-coordinator
    scheme: https
    scrape_interval: 1s
    scrape_timeout: 1s
    tls_config: {{ca_file: ca.pem}}
    static_configs:
      - targets: [{members}]
"
    );
    fs::write(dir.join("prometheus.yml"), text).expect("written");
}

/// kill -9 of a member itself: nobody starts it again, and nobody has planned it.
pub(crate) fn kill(fleet: &Fleet, node: &str) {
    let record = fleet.record();
    let rows = record["instances"].as_array().cloned().unwrap_or_default();
    let row = rows.iter().find(|row| row["node"] == node).expect("an instance");
    let log = fs::read_to_string(row["log"].as_str().expect("a log")).expect("it is written");
    let pid = log.lines().rev().find_map(|line| line.split_once(" start pid=")?.1.split(' ').next());
    let pid = pid.and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw).expect("a pid");
    kill_process(pid, Signal::KILL).expect("it runs");
}

/// kill -9 of the leader, until somebody leads anew: with nothing in memory, be it another member or the same.
fn depose(fleet: &Fleet) {
    let term = || {
        let members = fleet.quorate(&["cluster", "members", "-o", "json"]);
        if members.code != 0 {
            return Err(members.stderr);
        }
        let members = members.json();
        let rows = members["members"].as_array().cloned().unwrap_or_default();
        let leader = rows.iter().find(|row| row["state"] == "LEADER");
        leader.and_then(|row| row["term"].as_u64()).ok_or_else(|| members.to_string())
    };
    let before = wait_for("a leader", LIMIT, term);
    fleet.kill(Daemon::Coordinator(&fleet.leader()));
    wait_for("somebody to lead anew", LIMIT, || match term()? {
        now if now > before => Ok(()),
        now => Err(format!("term {now}")),
    });
}

/// Starts what was killed, and waits until everything is as it was.
fn mend(fleet: &Fleet, nodes: &[&str]) {
    for node in nodes {
        let started = ["service", "start", "ledger", "--node", node, "--yes"];
        let _ = fleet.begin(&started);
    }
    fleet.calm();
    let _ = told(fleet, "NONE", &[]);
}

/// The alarm of the group, once it is at this level and names these.
fn told(fleet: &Fleet, level: &str, nodes: &[&str]) -> Value {
    wait_for(&format!("the alarm to be {level} and to name {nodes:?}"), LIMIT, || {
        let shown = fleet.quorate(&["group", "show", "ledger", "-o", "json"]);
        if shown.code != 0 {
            return Err(shown.stderr);
        }
        let alarm = shown.json()["alarm"].clone();
        let missing = alarm["missing"].as_array().cloned().unwrap_or_default();
        let named: Vec<&str> = missing.iter().filter_map(|voter| voter["node"].as_str()).collect();
        if alarm["level"] == level && named == nodes { Ok(alarm) } else { Err(alarm.to_string()) }
    })
}

/// The place of the newest record of the audit.
fn newest(fleet: &Fleet) -> u64 {
    let listed = fleet.json(&["audit", "tail", "-n", "1"]);
    sequence(&listed["records"][0])
}

fn sequence(record: &Value) -> u64 {
    let number = &record["sequence"];
    number.as_u64().or_else(|| number.as_str()?.parse().ok()).expect("a record has its place")
}

/// What was recorded of this kind, of this thing, after that place: oldest first.
fn records(fleet: &Fleet, after: u64, action: &str, resource: &str) -> Vec<String> {
    let listed = fleet.json(&["audit", "tail", "-n", "1000"]);
    let rows = listed["records"].as_array().cloned().unwrap_or_default();
    let new = rows.iter().filter(|row| sequence(row) > after);
    let ours = new.filter(|row| row["action"] == action && row["resource"] == resource);
    ours.filter_map(|row| row["details"].as_str()).map(str::to_owned).collect()
}

fn recorded(fleet: &Fleet, after: u64) -> Vec<String> {
    records(fleet, after, "alarm.set", "groups/ledger")
}

fn has(names: &BTreeSet<String>, name: &str) -> bool {
    names.contains(name)
}

pub(crate) fn x2_nobody_left_is_no_silence(fleet: &Fleet) {
    fleet.calm();
    let prometheus = Prometheus::start(fleet, "prometheus-x2");
    let calm = prometheus.firing();
    assert!(!has(&calm, "ClusterQuorumLost") && !has(&calm, "QuorateGroupQuorumLost"), "{calm:?}");

    kill(fleet, "node2");
    kill(fleet, "node3");
    prometheus.wait_targets((3, 1));
    let alarm = told(fleet, "CRITICAL", &["node2", "node3"]);
    let one_of_three = prometheus.firing();
    assert!(has(&one_of_three, "ClusterQuorumLost"), "the guide's rule counts to one: {one_of_three:?}");
    assert!(has(&one_of_three, "QuorateGroupQuorumLost"), "{one_of_three:?}");
    assert!(alarm["since"].is_string(), "{alarm:#}");

    // The last one: the guide's rule has nothing to count, and what fired before is taken back.
    kill(fleet, "node1");
    prometheus.wait_targets((3, 0));
    let alarm = told(fleet, "CRITICAL", &["node1", "node2", "node3"]);
    let nobody = prometheus.firing();
    println!("  with one of three up: {one_of_three:?}\n  with nobody up: {nobody:?}");
    assert!(!has(&nobody, "ClusterQuorumLost"), "the guide's rule was expected to be silent: {nobody:?}");
    assert!(has(&nobody, "QuorateGroupQuorumLost"), "{nobody:?}");
    assert_eq!((&alarm["available"], &alarm["margin"]), (&0.into(), &(-2).into()), "{alarm:#}");
    let line = fleet.quorate(&["quorum", "status"]).expect(0).stdout;
    assert!(line.contains("Critical ledger for ") && line.contains(": 0 up, needs 2"), "{line}");
    mend(fleet, &["node1", "node2", "node3"]);
}

pub(crate) fn x3_a_target_that_vanished_is_missed(fleet: &Fleet) {
    fleet.calm();
    let prometheus = Prometheus::start(fleet, "prometheus-x3");
    let at: Vec<SocketAddr> = fleet.instances().iter().map(|instance| instance.at).collect();

    // A member dies, and with it its place in the list, as when a discovery forgets what does not answer.
    kill(fleet, "node3");
    prometheus.scrape(&at[..2]);
    prometheus.wait_targets((2, 2));
    let alarm = told(fleet, "WARNING", &["node3"]);
    let one = prometheus.firing();
    assert!(!has(&one, "NodeDown"), "the guide's rule was expected to be silent: {one:?}");
    assert!(has(&one, "QuorateGroupNoSpare"), "{one:?}");
    assert!(alarm["missing"][0]["since"].is_string(), "{alarm:#}");

    // All of them: there is not one alert left, of either rule.
    kill(fleet, "node1");
    kill(fleet, "node2");
    prometheus.scrape(&[]);
    prometheus.wait_targets((0, 0));
    let _ = told(fleet, "CRITICAL", &["node1", "node2", "node3"]);
    let all = prometheus.firing();
    println!("  one vanished: {one:?}\n  all vanished: {all:?}");
    assert!(!has(&all, "NodeDown") && !has(&all, "ClusterQuorumLost"), "the guide's rules: {all:?}");
    assert!(has(&all, "QuorateGroupQuorumLost"), "{all:?}");
    mend(fleet, &["node1", "node2", "node3"]);
}

pub(crate) fn it_names_who_is_missing_whoever_leads(fleet: &Fleet) {
    fleet.calm();
    let _ = told(fleet, "NONE", &[]);
    let before = newest(fleet);

    // A leader dies: nobody in the group is the worse for it.
    depose(fleet);
    fleet.calm();
    assert_eq!(recorded(fleet, before), Vec::<String>::new(), "no false alarm");

    kill(fleet, "node2");
    let warned = told(fleet, "WARNING", &["node2"]);
    let voter = &warned["missing"][0];
    assert_eq!(voter["unknown"], false, "its own agent has told it: {warned:#}");
    assert!(voter["since"].is_string() && voter["why"].is_string(), "{warned:#}");
    assert_eq!(fleet.json(&["status"])["alarms"]["WARNING"], 1);

    // Another leader finds what the last one has recorded, and takes it neither for worse nor for over.
    depose(fleet);
    let kept = told(fleet, "WARNING", &["node2"]);
    assert_eq!(kept["since"], warned["since"], "{kept:#}");

    kill(fleet, "node3");
    let critical = told(fleet, "CRITICAL", &["node2", "node3"]);
    assert_eq!((&critical["available"], &critical["required"]), (&1.into(), &2.into()), "{critical:#}");
    mend(fleet, &["node2", "node3"]);

    let told = recorded(fleet, before);
    println!("  {}", told.join("\n  "));
    assert!(told[0].starts_with("NONE -> WARNING: 2 of 3 up, needs 2; node2 "), "{told:?}");
    assert!(told[0].contains(" since 20"), "{told:?}");
    assert!(told[1].starts_with("WARNING -> CRITICAL: 1 of 3 up, needs 2; node2 "), "{told:?}");
    assert!(told[1].contains(", node3 "), "{told:?}");
    assert!(told.last().is_some_and(|last| last.contains("-> NONE: ")), "{told:?}");
}

/// An agent that hangs is as silent as a dead host. It belongs to no group: nobody else is hurt.
pub(crate) fn a_dead_node_is_noticed_in_time_and_none_by_a_new_leader(fleet: &Fleet) {
    fleet.calm();
    let before = newest(fleet);
    let agent = fleet.pid(Daemon::Agent("node5")).expect("it runs");
    let silent = Instant::now();
    kill_process(agent, Signal::STOP).expect("it runs");
    let status = |wanted: &str| {
        wait_for(&format!("node5 to be {wanted}"), LIMIT, || {
            let shown = fleet.quorate(&["node", "show", "node5", "-o", "json"]);
            if shown.code == 0 && shown.json()["status"] == wanted { Ok(()) } else { Err(shown.stdout) }
        });
        silent.elapsed()
    };
    let (disconnected, down) = (status("DISCONNECTED"), status("DOWN"));
    kill_process(agent, Signal::CONT).expect("it is there");
    fleet.calm();
    println!("  disconnected after {disconnected:.1?}, down after {down:.1?}");
    let seen = records(fleet, before, "node.set_status", "nodes/node5");
    assert_eq!(seen, ["READY -> DISCONNECTED", "DISCONNECTED -> DOWN", "DOWN -> READY"]);
    // 3 s and 5 s here, 3 s and 10 s by default, from its last heartbeat, which was at most one second old; and what a busy
    // machine takes to look.
    assert!(disconnected >= Duration::from_secs(2) && down < Duration::from_secs(10), "{down:?}");

    let before = newest(fleet);
    depose(fleet);
    fleet.calm();
    for node in ["node1", "node2", "node3", "node4", "node5"] {
        let seen = records(fleet, before, "node.set_status", &format!("nodes/{node}"));
        assert!(!seen.iter().any(|change| change.ends_with("-> DOWN")), "{node}: {seen:?}");
    }
    assert_eq!(recorded(fleet, before), Vec::<String>::new(), "no false alarm");
}
