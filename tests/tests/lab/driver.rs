//! The systemd driver against units that do not do what they should, and against a person who does it beside us.

use std::time::{Duration, Instant};

use quorate_tests::cluster::Poll;
use quorate_tests::lab::{Host, LabFleet, VOTERS};
use quorate_tests::wait::wait_for;
use serde_json::Value;

/// One unit, and what a restart of it must end as.
struct Odd {
    name: &'static str,
    /// The `[Service]` section.
    service: &'static str,
    verb: &'static str,
    state: &'static str,
    /// What the answer must say.
    says: &'static str,
}

/// Until an operation has ended.
const ENDED: Duration = Duration::from_secs(200);
/// How long a gate waits for a unit that failed: somebody may start it.
const GATE: &str = "15s";

/// The deadlines of the services are 10 s for a start and 5 s for a stop.
const ODD: &[Odd] = &[
    Odd {
        name: "odd-slow",
        service: "Type=notify\nNotifyAccess=all\nExecStart=/bin/sh -c 'sleep 4; systemd-notify --ready; exec sleep infinity'\n",
        verb: "restart",
        state: "SUCCEEDED",
        says: "",
    },
    Odd {
        name: "odd-too-slow",
        service: "Type=notify\nNotifyAccess=all\nExecStart=/bin/sh -c 'sleep 60; exec sleep infinity'\n",
        verb: "restart",
        state: "FAILED",
        says: "odd-too-slow",
    },
    Odd {
        name: "odd-crash",
        service: "Type=exec\nExecStart=/bin/sh -c 'sleep 0.3; exit 7'\n",
        verb: "restart",
        state: "FAILED",
        says: "exit status 7",
    },
    Odd {
        name: "odd-stubborn",
        service: "Type=exec\nTimeoutStopSec=3\nExecStart=/bin/sh -c 'trap \"\" TERM; while :; do sleep 1; done'\n",
        verb: "restart",
        state: "SUCCEEDED",
        says: "",
    },
    Odd {
        name: "odd-reload",
        service: "Type=exec\nExecStart=/bin/sleep infinity\nExecReload=/bin/sleep 600\n",
        verb: "reload",
        state: "FAILED",
        says: "odd-reload",
    },
    Odd { name: "odd-masked", service: "", verb: "restart", state: "FAILED", says: "masked" },
    Odd { name: "odd-absent", service: "", verb: "restart", state: "FAILED", says: "odd-absent" },
];

fn prepare(host: &Host) {
    for odd in ODD.iter().filter(|odd| !odd.service.is_empty()) {
        let unit = format!("[Unit]\nDescription=Odd\n[Service]\n{}", odd.service);
        host.write(&format!("/etc/systemd/system/{}.service", odd.name), unit, 0o644);
    }
    let names: Vec<String> = ODD.iter().map(|odd| format!("\"{}\"", odd.name)).collect();
    let policy = format!(
        "[policy]\nactions = [\"service.*\", \"backup.*\", \"log.rotate\", \"host.*\"]\nservices = [\"ledger\", {}]\n",
        names.join(", ")
    );
    host.write("/etc/quorate/agent.toml.d/20-odd.toml", policy, 0o644);
    let masked = "ln -sf /dev/null /etc/systemd/system/odd-masked.service && systemctl daemon-reload";
    let started: Vec<&str> = ODD.iter().filter(|odd| !odd.service.is_empty()).map(|odd| odd.name).collect();
    let start = format!("systemctl start --no-block {}", started.join(" "));
    let again = "systemctl restart quorate-helper quorate-agent";
    let _ = host.run(&format!("{masked} && {start} && {again}")).expect(0);
}

pub(crate) fn odd_units(fleet: &LabFleet) {
    let host = fleet.host("node4");
    prepare(host);
    fleet.calm();
    println!("  {:14} {:10} {:6} {}", "UNIT", "STATE", "S", "SAYS");
    let begin = |odd: &Odd| {
        let spec = format!(
            "kind: Service\nname: {0}\ndriver: {{ systemdUnit: {0}.service }}\nnodes: {{ names: [node4] }}\n\
             startTimeout: 10s\nstopTimeout: 5s\nprobes:\n  - name: stays-up\n    interval: 1s\n    unitSoak: {{ minUp: 2s }}\n",
            odd.name
        );
        fleet.host("coord1").write("/root/odd.yaml", spec, 0o644);
        let _ = fleet.quorate("apply --file /root/odd.yaml").expect(0);
        fleet.begin(&format!("service {} {} --node node4 --gate-timeout {GATE}", odd.verb, odd.name))
    };
    // All at once: their node takes one action after the other, and the longest gate waits beside the others.
    let begun = Instant::now();
    let operations: Vec<String> = ODD.iter().map(begin).collect();
    for (odd, id) in ODD.iter().zip(&operations) {
        let ended = fleet.ended(id, ENDED);
        let said = said(&ended);
        println!("  {:14} {:10} {:<6.1} {said}", odd.name, ended["state"], begun.elapsed().as_secs_f32());
        assert_eq!(ended["state"], odd.state, "{}: {ended:#}", odd.name);
        assert!(said.contains(odd.says), "{}: {said:?} does not say {:?}", odd.name, odd.says);
        assert_eq!((&ended["openObligations"], &ended["openGrants"]), (&0.into(), &0.into()), "{ended:#}");
    }
    for odd in ODD {
        let _ = fleet.quorate(&format!("service delete {} --yes", odd.name)).expect(0);
        drop(host.run(&format!("systemctl stop {}", odd.name)));
    }
    let _ = host
        .run("rm /etc/quorate/agent.toml.d/20-odd.toml; systemctl restart quorate-helper quorate-agent")
        .expect(0);
    fleet.calm();
}

/// What the operation and its steps say of how they ended.
fn said(operation: &Value) -> String {
    let steps = operation["steps"].as_array().cloned().unwrap_or_default();
    let mut said: Vec<String> =
        steps.iter().filter_map(|step| step["message"].as_str().map(str::to_owned)).collect();
    said.extend(operation["message"].as_str().map(str::to_owned));
    said.retain(|text| !text.is_empty());
    said.join("; ")
}

/// Ours has restarted one member and waits for it; a person stops it. (One whose turn is still to come would be started by
/// the rollout itself.)
pub(crate) fn a_member_stopped_by_hand(fleet: &LabFleet) {
    fleet.calm();
    let before = fleet.starts();
    let id = fleet.begin("rollout start --restart ledger");
    let stopped = wait_for("the first member to be restarted", Duration::from_secs(60), || {
        let starts = fleet.starts();
        let first = VOTERS.iter().find(|node| starts[**node] > before[**node]);
        first.copied().ok_or_else(|| format!("{starts:?}"))
    });
    let _ = fleet.host(stopped).run("systemctl stop ledger").expect(0);
    let poll = Poll::begin(fleet.instances());
    let explained = wait_for("the rollout to say why it waits", Duration::from_secs(60), || {
        let explained = fleet.json(&format!("explain {id}"));
        let summary = explained["summary"].as_str().unwrap_or_default();
        // What the gate misses, and not only that it waits.
        let down = summary.contains(&format!("waits for {stopped}: health fails"));
        if down { Ok(summary.to_owned()) } else { Err(explained.to_string()) }
    });
    println!("  {stopped} is stopped: {explained}");
    // Looked at many times, so that a wrong step has the time to show itself.
    for _ in 0..40 {
        let starts = fleet.starts();
        let untouched =
            VOTERS.iter().filter(|node| **node != stopped).all(|node| starts[*node] == before[*node]);
        assert!(
            untouched,
            "another member was touched while {stopped} was down: {before:?}, then {starts:?}"
        );
        let _ = fleet.operation(&id);
    }
    let _ = fleet.host(stopped).run("systemctl start ledger").expect(0);
    let ended = fleet.ended(&id, ENDED);
    let tally = poll.end();
    println!("  ended {}: {} looks, fewest {:?}", ended["state"], tally.looks, tally.fewest);
    tally.assert_quorum();
    assert_eq!(ended["state"], "SUCCEEDED", "{ended:#}");
    assert_eq!((&ended["openObligations"], &ended["openGrants"]), (&0.into(), &0.into()), "{ended:#}");
    fleet.calm();
}
