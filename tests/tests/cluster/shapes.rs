//! The shapes, exit codes and ends that scripts rely on (contract.md).

use std::time::Instant;

use quorate_tests::cluster::{Daemon, Fleet, wait_gone};
use serde_json::{Value, json};

use crate::identity::enroll_user;
use crate::restart::LIMIT;

/// Every field is there; more is allowed, less or another name is not.
#[track_caller]
fn has(value: &Value, fields: &[&str]) {
    for field in fields {
        assert!(value.get(field).is_some(), "{field} is missing: {value:#}");
    }
}

pub(crate) fn answers_have_the_fields_of_the_contract(fleet: &Fleet) {
    fleet.calm();
    let nodes = fleet.json(&["node", "list"]);
    assert_eq!(nodes["nextPageToken"], "");
    assert_eq!(nodes["nodes"].as_array().map(Vec::len), Some(6));
    for (row, name) in nodes["nodes"].as_array().expect("a list").iter().zip(1..) {
        has(row, &["name", "status", "scheduling", "drain", "labels"]);
        assert_eq!(row["name"], format!("node{name}"));
        assert_eq!(
            (&row["status"], &row["scheduling"], &row["drain"]),
            (&json!("READY"), &json!("ELIGIBLE"), &json!("NONE"))
        );
        assert!(row["labels"].is_object());
    }

    let group = fleet.json(&["group", "show", "ledger"]);
    for (field, value) in [
        ("name", json!("ledger")),
        ("state", json!("HEALTHY")),
        ("voters", json!(3)),
        ("available", json!(3)),
        ("required", json!(2)),
        ("margin", json!(1)),
    ] {
        assert_eq!(group[field], value, "{field}");
    }
    assert_eq!(group["policy"]["kind"], "MAJORITY");
    let members = group["members"].as_array().expect("members");
    members.iter().for_each(|member| has(member, &["node", "role", "observed", "sync"]));
    assert_eq!(members.iter().filter(|member| member["role"] == "LEADER").count(), 1, "{group:#}");

    let cluster = fleet.json(&["cluster", "members"]);
    let members = cluster["members"].as_array().expect("members");
    assert_eq!(members.len(), 3);
    for (member, name) in members.iter().zip(1..) {
        has(member, &["name", "state", "voter", "term", "appliedIndex"]);
        assert_eq!((&member["name"], &member["voter"]), (&json!(format!("coord{name}")), &json!(true)));
        assert!(member["term"].is_u64() && member["appliedIndex"].is_u64());
        assert!(["LEADER", "FOLLOWER"].iter().any(|state| member["state"] == *state));
    }

    let check = fleet.json(&["quorum", "check", "--down", "node1"]);
    assert_eq!(check["groups"][0]["name"], "ledger");
    let numbers = |v: &Value| (v["available"].clone(), v["required"].clone(), v["ok"].clone());
    assert_eq!(numbers(&check["groups"][0]), (json!(2), json!(2), json!(true)));
    let refused = fleet.quorate(&["quorum", "check", "--down", "node1,node2", "-o", "json"]).expect(3);
    assert_eq!(numbers(&refused.json()["groups"][0]), (json!(1), json!(2), json!(false)));

    let begun = fleet.json(&["service", "status", "ledger", "--node", "node1", "--detach"]);
    let name = begun["name"].as_str().expect("a name");
    assert!(name.starts_with("operations/r-"), "{name}");
    let shown = fleet.ended(name.trim_start_matches("operations/"), LIMIT);
    has(&shown, &["name", "kind", "state", "conditions", "steps", "openObligations"]);
    assert_eq!((&shown["kind"], &shown["state"]), (&json!("RUN"), &json!("SUCCEEDED")));
    has(&shown["steps"][0], &["node", "kind", "state", "attempts"]);

    let record = fleet.record();
    has(&record["coordinators"][0], &["name", "pid", "grpc", "http", "dir"]);
    has(&record["agents"][0], &["node", "pid", "dir"]);
    has(&record["instances"][0], &["node", "service", "dir", "port"]);
}

pub(crate) fn exit_codes(fleet: &Fleet) {
    fleet.calm();
    // 2: no selector, no terminal to ask at, an unknown flag.
    let empty = fleet.quorate(&["service", "restart", "ledger", "--yes"]).expect(2);
    assert!(empty.stderr.contains("an empty selector never means all"), "{}", empty.stderr);
    let unasked = fleet.quorate(&["service", "restart", "ledger", "--node", "node1"]).expect(2);
    assert!(unasked.stderr.contains("--yes"), "it names the flag: {}", unasked.stderr);
    let _ = fleet.quorate(&["node", "list", "--bogus"]).expect(2);
    // 3
    let _ = fleet.quorate(&["quorum", "check", "--down", "node1,node3"]).expect(3);
    // 4: nobody listens there.
    let begun = Instant::now();
    let away = fleet.quorate(&["--addr", "127.0.0.1:1", "node", "list"]).expect(4);
    println!(
        "  unreachable after {:.1?}: {}",
        begun.elapsed(),
        away.stderr.lines().next().unwrap_or_default()
    );
    // 6
    let unknown = fleet.quorate(&["node", "show", "nosuch"]).expect(6);
    assert!(unknown.stderr.contains("reason: "), "{}", unknown.stderr);
    let _ = fleet.quorate(&["operation", "show", "r-000000000000"]).expect(6);
    // 7: a viewer changes nothing.
    let viewer = enroll_user(fleet, "vera", "viewer");
    let file = |name: &str| viewer.join(name).to_string_lossy().into_owned();
    let (ca, cert, key) = (file("ca.pem"), file("cert.pem"), file("key.pem"));
    let vera: &[(&str, &str)] =
        &[("QUORATE_CACERT", &ca), ("QUORATE_CLIENT_CERT", &cert), ("QUORATE_CLIENT_KEY", &key)];
    let _ = fleet.quorate_with(vera, &["node", "list"]).expect(0);
    let denied = fleet.quorate_with(vera, &["node", "cordon", "node4", "--yes"]).expect(7);
    assert!(denied.stderr.contains("reason: "), "{}", denied.stderr);
    assert_eq!(fleet.json(&["node", "show", "node4"])["scheduling"], "ELIGIBLE");
    // 5: the operation goes on.
    let before = fleet.starts();
    let late = fleet
        .quorate(&["rollout", "start", "--restart", "ledger", "--wait", "--yes", "--timeout", "1s"])
        .expect(5);
    let id =
        late.stderr.split_whitespace().find(|word| word.starts_with("r-")).expect("it names the operation");
    let operation = fleet.ended(id, LIMIT);
    crate::restart::assert_restarted_once(fleet, &operation, &before);
    // 1: it ran and failed; what a host lets nobody do, it rejects.
    let failed = fleet.quorate(&["operation", "watch", "r-000000000000", "--timeout", "5s"]);
    assert_eq!(failed.code, 6, "{failed:?}");
}

pub(crate) fn audit_is_unbroken(fleet: &Fleet) {
    let verified = fleet.quorate(&["audit", "verify"]).expect(0);
    assert_eq!(verified.stdout.lines().count(), 1, "{}", verified.stdout);
    println!("  {}", verified.stdout.trim_end());
}

pub(crate) fn stop_leaves_no_process(fleet: &Fleet) {
    let mut pids = Vec::new();
    for (name, _, _) in fleet.coordinators() {
        pids.extend(fleet.pid(Daemon::Coordinator(&name)));
    }
    for number in 1..=6 {
        let node = format!("node{number}");
        pids.extend(fleet.pid(Daemon::Agent(&node)));
        pids.extend(fleet.pid(Daemon::Helper(&node)));
    }
    assert!(pids.len() >= 13, "{pids:?}");
    let _ = fleet.stop().expect(0);
    pids.into_iter().for_each(wait_gone);
    // Instances too: nothing that was started with a file under the fleet's directory is left.
    let dir = fleet.dir().canonicalize().expect("it is there");
    let left: Vec<String> = procfs::process::all_processes()
        .expect("/proc")
        .filter_map(|process| process.ok()?.cmdline().ok())
        .filter(|words| words.iter().any(|word| std::path::Path::new(word).starts_with(&dir)))
        .map(|words| words.join(" "))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    let again = fleet.dev(&["--detach"]);
    assert_eq!(again.code, 0, "a stopped fleet comes up again with its data: {}", again.stderr);
    fleet.calm();
}

/// A group of one can spare nobody: it is never HEALTHY by the book, and the fleet is ready all the same.
pub(crate) fn a_fleet_of_one_is_ready_too(_: &Fleet) {
    let small = Fleet::start(1, 1);
    let group = small.json(&["group", "show", "ledger"]);
    assert_eq!((&group["state"], group["available"].as_u64()), (&"AT_RISK".into(), Some(1)), "{group:#}");
}
