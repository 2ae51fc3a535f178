//! The maintenance file: there as long as nobody has seen that the instance serves, gone by its host alone if need be, and never
//! taken from somebody else. And the cordon that goes with the work.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use quorate_tests::cluster::{Daemon, Fleet};
use quorate_tests::wait::{wait_for, wait_until};
use serde_json::{Value, json};

use crate::config::Silence;
use crate::ready::declare;
use crate::restart::{LIMIT, steps};
use crate::upgrade::{assert_closed, pushed, versions};

/// Long enough to stop everything else in it.
const LEASE: &str = "30s";
/// Not long enough for the work, unless somebody extends it.
const EXTENDED: &str = "6s";
/// The lease, and some for a helper that is started again.
const ALONE_LIMIT: Duration = Duration::from_secs(90);

fn file(fleet: &Fleet, node: &str) -> PathBuf {
    fleet.instance(node).dir.join("maintenance")
}

/// The nodes whose instance is told.
fn told(fleet: &Fleet) -> Vec<String> {
    let nodes = fleet.instances().into_iter().map(|instance| instance.node);
    nodes.filter(|node| file(fleet, node).exists()).collect()
}

/// A release that its canary does not survive.
fn begun(fleet: &Fleet, patience: &str) -> String {
    let digest = pushed(fleet, env!("CARGO_BIN_EXE_ledger_1_2_0_unhealthy"));
    let what = ["rollout", "start", "ledger", "--release", "1.2.0", "--artifact", &digest];
    let how = ["--canary", "1", "--on-failure", "rollback", "--gate-timeout", patience, "--yes"];
    fleet.begin(&[&what[..], &how[..]].concat())
}

fn states(operation: &Value, kind: &str) -> Vec<String> {
    let all = steps(operation, kind).into_iter();
    all.map(|step| step["state"].as_str().unwrap_or_default().to_owned()).collect()
}

/// The canary, once this step of it is done.
fn canary(fleet: &Fleet, id: &str, kind: &str) -> String {
    wait_for("the canary", LIMIT, || {
        let operation = fleet.operation(id);
        let done = steps(&operation, kind).into_iter().find(|step| step["state"] == "SUCCEEDED");
        done.and_then(|step| step["node"].as_str().map(str::to_owned)).ok_or_else(|| operation.to_string())
    })
}

fn cordon(fleet: &Fleet, node: &str) -> (String, String) {
    let node = fleet.json(&["node", "show", node]);
    let word = |name: &str| node[name].as_str().unwrap_or_default().to_owned();
    (word("scheduling"), word("cordonOwner"))
}

pub(crate) fn x23_the_file_stays_until_the_rollback_has_proved_it(fleet: &Fleet) {
    fleet.calm();
    // Shorter than the gate alone: it stays because its operation lives.
    declare(fleet, "maintenance", json!({ "file": "${data}/maintenance", "lease": EXTENDED }));
    let ran = versions(fleet);
    let id = begun(fleet, "10s");
    let node = canary(fleet, &id, "ENTER_MAINTENANCE");
    let content: Value =
        serde_json::from_slice(&fs::read(file(fleet, &node)).expect("it is told")).expect("JSON");
    assert_eq!(content["operation"], id.as_str(), "{content:#}");
    let (mut looks, mut held) = (0, 0);
    let operation = wait_for("its end", LIMIT, || {
        // The file first: what is told of the operation is then at least as new.
        let there = told(fleet);
        let owner = cordon(fleet, &node);
        let operation = fleet.operation(&id);
        let gates = states(&operation, "GATE");
        let failed = gates.iter().any(|state| state == "FAILED");
        if failed && gates.iter().all(|state| state != "SUCCEEDED") {
            assert_eq!(there, [node.as_str()], "cleared before anybody has seen it serve: {operation:#}");
            looks += 1;
        }
        held += usize::from(owner == ("CORDONED".into(), id.clone()));
        if operation["state"] == "ROLLED_BACK" { Ok(operation) } else { Err(operation.to_string()) }
    });
    println!(
        "  {looks} looks at a failed release, each found the file; {held} found {node} cordoned by {id}"
    );
    assert!(looks > 0 && held > 0, "nothing was shown: {operation:#}");
    assert_closed(&operation);
    assert_eq!(states(&operation, "EXIT_MAINTENANCE").last().map(String::as_str), Some("SUCCEEDED"));
    assert!(told(fleet).is_empty(), "nobody is told any more");
    assert_eq!(cordon(fleet, &node), ("ELIGIBLE".into(), String::new()), "nothing is left of the cordon");
    assert_eq!(versions(fleet), ran);
    declare(fleet, "maintenance", Value::Null);
    fleet.calm();
}

pub(crate) fn a_host_alone_ends_it(fleet: &Fleet) {
    fleet.calm();
    declare(fleet, "maintenance", json!({ "file": "${data}/maintenance", "lease": LEASE }));
    let id = begun(fleet, "1m");
    let node = canary(fleet, &id, "ENTER_MAINTENANCE");
    let silence = Silence::begin(fleet);
    fleet.kill(Daemon::Agent(&node));
    fleet.kill(Daemon::Helper(&node));
    assert_eq!(told(fleet), [node.as_str()], "its time has not come");
    wait_until("the host to end it alone", ALONE_LIMIT, || told(fleet).is_empty());
    drop(silence);
    let operation = fleet.ended(&id, LIMIT);
    println!("  {node}: {} ({})", operation["state"], operation["message"]);
    assert_closed(&operation);
    assert!(told(fleet).is_empty(), "{operation:#}");
    assert_eq!(cordon(fleet, &node), ("ELIGIBLE".into(), String::new()));
    declare(fleet, "maintenance", Value::Null);
    fleet.calm();
}

pub(crate) fn somebody_elses_file_stays(fleet: &Fleet) {
    fleet.calm();
    declare(fleet, "maintenance", json!({ "file": "${data}/maintenance" }));
    let node = fleet.instances().remove(1).node;
    let (theirs, before) = (file(fleet, &node), fleet.starts());
    fs::write(&theirs, "true\n").expect("the fleet's folder is ours");
    let restart = ["service", "restart", "ledger", "--node", &node, "--wait", "--yes"];
    let failed = fleet.quorate(&restart).expect(1);
    println!("  {}", failed.stderr.lines().last().unwrap_or_default());
    assert_eq!(fs::read_to_string(&theirs).expect("it stays"), "true\n");
    assert_eq!(fleet.starts(), before, "nothing was disturbed");
    fs::remove_file(&theirs).expect("the fleet's folder is ours");
    let operation = fleet.ended(&fleet.begin(&["rollout", "start", "--restart", "ledger", "--yes"]), LIMIT);
    assert_eq!(operation["state"], "SUCCEEDED", "{operation:#}");
    assert_closed(&operation);
    for kind in ["ENTER_MAINTENANCE", "EXIT_MAINTENANCE"] {
        assert_eq!(states(&operation, kind), ["SUCCEEDED"; 3], "{operation:#}");
    }
    assert!(told(fleet).is_empty());
    declare(fleet, "maintenance", Value::Null);
    fleet.calm();
}
