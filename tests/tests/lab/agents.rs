//! The agent itself goes away while it works: what it began goes on, and the result arrives once.

use std::time::Duration;

use quorate_tests::lab::{LabFleet, VOTERS};
use quorate_tests::wait::{wait_for, wait_until};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(120);
/// A stop that takes long enough for everything around it to be exchanged.
const SLOW_STOP: &str = "[Service]\nExecStop=/bin/sleep 6\n";

pub(crate) fn restarted_during_an_action(fleet: &LabFleet) {
    while_restarting(fleet, VOTERS[1], "systemctl restart quorate-helper quorate-agent");
}

pub(crate) fn killed_during_an_action(fleet: &LabFleet) {
    while_restarting(fleet, VOTERS[0], "systemctl kill --signal=KILL quorate-helper quorate-agent");
}

pub(crate) fn upgraded_during_an_action(fleet: &LabFleet) {
    // The same version again goes through the same maintainer scripts as a newer one.
    while_restarting(fleet, VOTERS[2], "apt-get install -y --reinstall /root/quorate-agent_*.deb");
}

fn while_restarting(fleet: &LabFleet, node: &str, meanwhile: &str) {
    let host = fleet.host(node);
    host.write("/etc/systemd/system/ledger.service.d/slow.conf", SLOW_STOP, 0o644);
    let _ = host.run("systemctl daemon-reload").expect(0);
    fleet.calm();
    let (before, pids) = (fleet.starts(), pids(fleet, node));
    let id = fleet.begin(&format!("service restart ledger --node {node}"));
    wait_until("the unit to stop", LIMIT, || {
        host.run("systemctl is-active ledger").stdout.trim() == "deactivating"
    });
    let _ = host.run(meanwhile).expect(0);
    let after = pids_changed(fleet, node, &pids);
    let ended = fleet.ended(&id, LIMIT);
    println!("  {}: agent and helper {pids:?} -> {after:?}", ended["state"]);
    assert_eq!(ended["state"], "SUCCEEDED", "{ended:#}");
    let step = restart_step(&ended);
    assert_eq!(step["attempts"], 1, "{ended:#}");
    assert_eq!(fleet.starts()[node], before[node] + 1, "started once");
    let _ = host.run("rm -r /etc/systemd/system/ledger.service.d && systemctl daemon-reload").expect(0);
    fleet.calm();
}

fn restart_step(operation: &Value) -> Value {
    let steps = operation["steps"].as_array().cloned().unwrap_or_default();
    steps.into_iter().find(|step| step["kind"] == "RESTART").unwrap_or_else(|| panic!("{operation:#}"))
}

fn pids(fleet: &LabFleet, node: &str) -> Vec<String> {
    let asked = "systemctl show --property=MainPID --value quorate-helper quorate-agent";
    fleet.host(node).run(asked).stdout.split_whitespace().map(str::to_owned).collect()
}

fn pids_changed(fleet: &LabFleet, node: &str, before: &[String]) -> Vec<String> {
    wait_for("new processes", LIMIT, || {
        let now = pids(fleet, node);
        let new = now.len() == before.len() && now.iter().zip(before).all(|(a, b)| a != b && a != "0");
        if new { Ok(now) } else { Err(format!("{now:?}")) }
    })
}
