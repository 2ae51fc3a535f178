//! Gates that ask a real Alertmanager: a rollout waits for what fires, and for whoever does not answer.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use quorate_tests::cluster::{Fleet, Poll};
use quorate_tests::wait::wait_for;
use serde_json::{Value, json};

use crate::gates::{declare, sample};
use crate::restart::{LIMIT, steps};

/// Longest wait for one answer of Alertmanager, on two busy cores.
const ANSWER: Duration = Duration::from_secs(20);
/// Long over, and long to come: an alert has a beginning and an end, and nobody here waits for either.
const PAST: &str = "2020-01-01T00:00:00Z";
pub(crate) const FUTURE: &str = "2099-01-01T00:00:00Z";

/// An Alertmanager that tells nobody; it ends with this.
pub(crate) struct Alertmanager {
    pub(crate) at: SocketAddr,
    child: Child,
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = || std::env::split_paths(&path).chain(["/usr/bin".into(), "/usr/local/bin".into()]);
    // Debian's name, and the one of its makers.
    let named = |name: &str| places().map(|dir| dir.join(name)).find(|path| path.is_file());
    named("prometheus-alertmanager").or_else(|| named("alertmanager")).expect(
        "Alertmanager is not installed: apt-get install --no-install-recommends prometheus-alertmanager",
    )
}

impl Alertmanager {
    pub(crate) fn start(fleet: &Fleet) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("an address");
        drop(listener);
        let dir = fleet.dir().join("alertmanager");
        fs::create_dir_all(&dir).expect("the fleet's folder is ours");
        let config = dir.join("alertmanager.yml");
        fs::write(&config, "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n").expect("ours");
        let mut command = Command::new(program());
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.path={}", dir.join("data").display()));
        command.args([&format!("--web.listen-address={at}"), "--cluster.listen-address="]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let manager = Self { at, child: command.spawn().expect("Alertmanager starts") };
        wait_for("Alertmanager to answer", ANSWER, || match manager.ask("GET", "/-/ready", "") {
            Ok(answer) if answer.starts_with("HTTP/1.1 200 ") => Ok(()),
            other => Err(format!("{other:?}")),
        });
        manager
    }

    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.at, ANSWER)?;
        stream.set_read_timeout(Some(ANSWER))?;
        let length = body.len();
        stream.write_all(
            format!(
                "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/json\r\n\
                 Content-Length: {length}\r\n\r\n{body}",
                self.at
            )
            .as_bytes(),
        )?;
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    fn post(&self, path: &str, body: &Value) {
        let answer = self.ask("POST", path, &body.to_string()).expect("Alertmanager answers");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }

    /// One alert of the sample service, as Prometheus tells it.
    pub(crate) fn alert(&self, name: &str, ends: &str) {
        let labels = json!({ "alertname": name, "service": "ledger", "severity": "critical" });
        self.post("/api/v2/alerts", &json!([{ "labels": labels, "startsAt": PAST, "endsAt": ends }]));
    }

    /// What a person does who knows of it.
    pub(crate) fn silence(&self, name: &str) {
        let matcher = json!({ "name": "alertname", "value": name, "isRegex": false, "isEqual": true });
        let silence = json!({
            "matchers": [matcher], "startsAt": PAST, "endsAt": FUTURE, "createdBy": "somebody", "comment": "known",
        });
        self.post("/api/v2/silences", &silence);
    }
}

pub(crate) fn quiet(manager: &Alertmanager) -> Value {
    json!({
        "name": "quiet", "interval": "0.3s", "timeout": "1s", "passes": 2, "fromPeer": true,
        "alerts": {
            "url": format!("http://{}", manager.at),
            "matchers": ["service=\"${service}\"", "severity=~crit.*"],
        },
    })
}

/// What `explain` says of the gate that waits.
pub(crate) fn waits_for(fleet: &Fleet, id: &str, what: &str) -> Value {
    wait_for("a gate to wait for an alert", LIMIT, || {
        let explained = fleet.quorate(&["explain", id, "-o", "json"]);
        if explained.stdout.contains(what) { Ok(explained.json()) } else { Err(format!("{explained:?}")) }
    })
}

pub(crate) fn restarted(operation: &Value) -> usize {
    steps(operation, "RESTART").iter().filter(|step| step["state"] == "SUCCEEDED").count()
}

pub(crate) fn a_gate_waits_for_what_fires_and_for_who_does_not_answer(fleet: &Fleet) {
    fleet.calm();
    let spec = sample(fleet);
    let manager = Alertmanager::start(fleet);
    declare(fleet, &spec, &[quiet(&manager)]);
    // One that is over holds nothing.
    manager.alert("OldNews", "2020-01-02T00:00:00Z");
    manager.alert("LedgerLags", FUTURE);
    fleet.calm();
    let poll = Poll::begin(fleet.instances());
    let id = fleet.begin(&["rollout", "start", "--restart", "ledger", "--yes"]);
    let explained = waits_for(fleet, &id, "quiet");
    println!("  {}", explained["summary"]);
    let told = wait_for("the alert to be told by its name", LIMIT, || {
        let told = fleet.quorate(&["group", "show", "ledger", "-o", "json"]).stdout
            + &fleet.quorate(&["operation", "show", &id, "-o", "wide"]).stdout
            + &fleet.quorate(&["explain", &id, "-o", "json"]).stdout;
        if told.contains("1 alert fires: LedgerLags") { Ok(told) } else { Err(told) }
    });
    assert!(!told.contains("OldNews"), "what is over does not fire: {told}");
    let operation = fleet.operation(&id);
    assert_eq!(operation["state"], "RUNNING", "{operation:#}");
    assert_eq!(restarted(&operation), 1, "nobody else is touched while an alert fires: {operation:#}");
    wait_for("every member to be well while an alert of it fires", LIMIT, || {
        let group = fleet.json(&["group", "show", "ledger"]);
        let members = group["members"].as_array().cloned().unwrap_or_default();
        let well = members.len() == 3 && members.iter().all(|member| member["observed"] == "HEALTHY");
        if well { Ok(()) } else { Err(group.to_string()) }
    });
    // Known by somebody: it counts no more.
    manager.silence("LedgerLags");
    let operation = fleet.ended(&id, LIMIT);
    assert_eq!(operation["state"], "SUCCEEDED", "{operation:#}");
    for gate in steps(&operation, "GATE") {
        let readings = gate["readings"].as_array().expect("a verdict has its readings");
        let quiet: Vec<_> = readings.iter().filter(|reading| reading["probe"] == "quiet").collect();
        assert!(quiet.len() >= 2, "its own node's and a peer's: {gate:#}");
        assert!(quiet.iter().all(|reading| reading["ok"] == true), "{gate:#}");
    }

    drop(manager);
    let id = fleet.begin(&["rollout", "start", "--restart", "ledger", "--gate-timeout", "10s", "--yes"]);
    let operation = fleet.ended(&id, LIMIT);
    assert_eq!(
        operation["state"], "FAILED",
        "who cannot be asked has not said that all is well: {operation:#}"
    );
    assert_eq!(restarted(&operation), 1, "{operation:#}");
    let gates = steps(&operation, "GATE");
    let failed = gates.iter().find(|step| step["state"] == "FAILED").expect("a failed gate");
    let readings = failed["readings"].as_array().expect("a verdict has its readings");
    let quiet = readings.iter().find(|reading| reading["probe"] == "quiet").expect("of the alerts, too");
    assert!(quiet["ok"] != true && quiet.to_string().contains("refused"), "{quiet:#}");
    poll.end().assert_quorum();
    declare(fleet, &spec, &[]);
    fleet.calm();
}
