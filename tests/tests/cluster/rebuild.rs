//! A member's data is damaged: by the guide's procedure, and by ours, with both halves of its agent killed in the middle.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use quorate_tests::cluster::{Daemon, Fleet, http};
use quorate_tests::wait::wait_for;
use serde_json::Value;

use crate::alarm::kill;
use crate::restart::{LIMIT, steps};
use crate::upgrade::{ASK, Writer};

/// Where a member keeps its records.
fn store(fleet: &Fleet, node: &str) -> PathBuf {
    fleet.instance(node).dir.join("store")
}

/// The folders that lie aside beside a member's records.
fn aside(fleet: &Fleet, node: &str) -> Vec<String> {
    let names = fs::read_dir(fleet.instance(node).dir).expect("its folder is ours");
    let names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.starts_with("store.quarantine-")).collect()
}

/// A byte in the midst of the records, so that the member finds them damaged when it starts.
fn damage(fleet: &Fleet, node: &str) {
    let path = store(fleet, node).join("ledger.kv");
    let mut bytes = fs::read(&path).expect("it keeps its records there");
    let middle = bytes.len() / 3;
    bytes[middle] ^= 0xff;
    fs::write(&path, bytes).expect("it is ours");
}

fn put(fleet: &Fleet, node: &str, key: &str) -> u16 {
    let answer = http("PUT", fleet.instance(node).at, &format!("/kv/{key}"), key, ASK);
    answer.map_or(0, |(status, _)| status)
}

fn has(fleet: &Fleet, node: &str, key: &str) -> bool {
    let answer = http("GET", fleet.instance(node).at, &format!("/kv/{key}"), "", ASK);
    answer.is_ok_and(|(status, body)| status == 200 && body == key)
}

/// Begun and not waited for: alone it serves nobody.
fn start(fleet: &Fleet, node: &str) {
    let _ = fleet.begin(&["service", "start", "ledger", "--node", node, "--yes"]);
}

/// How many voters count, as we see it.
fn available(fleet: &Fleet, wanted: u64) {
    wait_for("the group to be seen as it is", LIMIT, || {
        let group = fleet.json(&["group", "show", "ledger"]);
        if group["available"] == wanted { Ok(()) } else { Err(group.to_string()) }
    });
}

pub(crate) fn x16_the_last_good_copy_is_not_removed(_: &Fleet) {
    let fleet = Fleet::start(1, 3);
    // Two of three acknowledge a write; then one of the two finds its records damaged. Only node1 has it now.
    kill(&fleet, "node3");
    available(&fleet, 2);
    let keys: Vec<String> = (0..20).map(|n| format!("x16-{n}")).collect();
    wait_for("writes to be acknowledged by two", LIMIT, || match put(&fleet, "node1", "x16-first") {
        200 => Ok(()),
        status => Err(status),
    });
    assert!(keys.iter().all(|key| put(&fleet, "node1", key) == 200), "two of three acknowledge them");
    kill(&fleet, "node2");
    damage(&fleet, "node2");
    available(&fleet, 1);

    // Ours: refused with the numbers, for the member with the last good copy and for the damaged one; nothing was touched.
    for node in ["node1", "node2"] {
        let refused = fleet.quorate(&["group", "rebuild", "ledger", node, "--confirm", node]).expect(3);
        for part in ["QUORUM_MARGIN", "3 voters, 1 up, needs 2", "of 2 others up and caught up, needs 2"] {
            assert!(refused.stderr.contains(part), "{part}: {refused:?}");
        }
        assert!(aside(&fleet, node).is_empty(), "{node}");
    }
    assert!(keys.iter().all(|key| has(&fleet, "node1", key)));

    // As it is written, on the one that the operator takes for the corrupt one: stop it, rm -rf, start it.
    kill(&fleet, "node1");
    fs::remove_dir_all(store(&fleet, "node1")).expect("rm -rf");
    start(&fleet, "node1");
    start(&fleet, "node3");
    wait_for("the group to say that all is well", LIMIT, || {
        match http("GET", fleet.instance("node1").at, "/health", "", ASK) {
            Ok((200, _)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    let lost = keys.iter().filter(|key| !has(&fleet, "node1", key) && !has(&fleet, "node3", key)).count();
    println!("  by the guide {lost} of {} acknowledged writes are lost", keys.len());
    assert_eq!(lost, keys.len(), "as it is written the last good copy is gone");
    let _ = fleet.stop();
}

pub(crate) fn a_damaged_member_is_rebuilt_from_the_others(_: &Fleet) {
    let fleet = Fleet::start(1, 3);
    let writer = Writer::begin(&fleet, "rebuilt");
    wait_for("records to damage", LIMIT, || {
        let size = fs::metadata(store(&fleet, "node2").join("ledger.kv")).map_or(0, |seen| seen.len());
        if size > 1_000 { Ok(()) } else { Err(size) }
    });
    kill(&fleet, "node2");
    damage(&fleet, "node2");
    available(&fleet, 2);

    // Without the name nothing happens, and a dry run says where the data will lie.
    let unasked = fleet.quorate(&["group", "rebuild", "ledger", "node2", "--yes"]).expect(2);
    assert!(unasked.stderr.contains("--confirm node2"), "{unasked:?}");
    let plan = fleet.json(&["group", "rebuild", "ledger", "node2", "--dry-run"]);
    assert!(plan.to_string().contains("nothing is deleted"), "{plan:#}");
    assert!(aside(&fleet, "node2").is_empty());

    let id = fleet.begin(&["group", "rebuild", "ledger", "node2", "--confirm", "node2"]);
    wait_for("its data to be put aside", LIMIT, || {
        let operation = fleet.operation(&id);
        if aside(&fleet, "node2").is_empty() { Err(operation.to_string()) } else { Ok(()) }
    });
    fleet.kill(Daemon::Agent("node2"));
    fleet.kill(Daemon::Helper("node2"));
    let operation: Value = fleet.ended(&id, LIMIT);
    assert_eq!(operation["state"], "SUCCEEDED", "{operation:#}");
    assert_eq!((&operation["kind"], &operation["openObligations"]), (&"REBUILD".into(), &0.into()));
    assert_eq!(steps(&operation, "QUARANTINE").len(), 1, "{operation:#}");
    let kept = writer.end();
    fleet.calm();

    // Every acknowledged write is on the rebuilt member itself, and the damaged records are where the plan said.
    wait_for("the last writes to be copied", LIMIT, || {
        let missing = kept.iter().filter(|key| !has(&fleet, "node2", key)).count();
        if missing == 0 { Ok(()) } else { Err(missing) }
    });
    let old = aside(&fleet, "node2");
    assert_eq!(old.len(), 1, "{old:?}");
    assert!(fleet.instance("node2").dir.join(&old[0]).join("ledger.kv").exists(), "nothing was deleted");
    let _ = fleet.stop();
}

pub(crate) fn one_that_does_not_catch_up_gets_its_own_data_back(_: &Fleet) {
    let fleet = Fleet::start(1, 3);
    let writer = Writer::begin(&fleet, "kept");
    wait_for("records to keep", LIMIT, || {
        let size = fs::metadata(store(&fleet, "node2").join("ledger.kv")).map_or(0, |seen| seen.len());
        if size > 1_000 { Ok(()) } else { Err(size) }
    });
    let own = fs::metadata(store(&fleet, "node2")).expect("it is ours").ino();
    // Whatever it has, it does not catch up until somebody takes this away.
    let misbehave = fleet.instance("node2").dir.join("misbehave");
    fs::write(&misbehave, "never_catch_up = true\n").expect("the data directory is ours");

    let asked = ["group", "rebuild", "ledger", "node2", "--confirm", "node2", "--gate-timeout", "8s"];
    let id = fleet.begin(&asked);
    wait_for("its data to be put aside", LIMIT, || {
        if aside(&fleet, "node2").is_empty() { Err(fleet.operation(&id).to_string()) } else { Ok(()) }
    });
    assert_ne!(fs::metadata(store(&fleet, "node2")).map_or(0, |seen| seen.ino()), own, "it is aside");
    wait_for("the gate", LIMIT, || {
        let operation = fleet.operation(&id);
        let gate = steps(&operation, "GATE").first().map(|step| step["state"].clone());
        if gate == Some("RUNNING".into()) { Ok(()) } else { Err(operation.to_string()) }
    });
    let refused = fleet.quorate(&["rollout", "abort", &id, "--yes"]).expect(3);
    assert!(refused.stderr.contains("its data may be aside"), "{refused:?}");
    let later = || aside(&fleet, "node2").iter().any(|name| name.ends_with("-later"));
    wait_for("what came meanwhile to make way", LIMIT, || {
        if later() { Ok(()) } else { Err(format!("{:?}", aside(&fleet, "node2"))) }
    });
    fs::remove_file(&misbehave).expect("it was there");
    fleet.kill(Daemon::Agent("node2"));
    fleet.kill(Daemon::Helper("node2"));
    let operation = fleet.ended(&id, LIMIT);
    assert_eq!(operation["state"], "ROLLED_BACK", "{operation:#}");
    assert_eq!((&operation["openObligations"], &operation["openGrants"]), (&0.into(), &0.into()));
    let kept = writer.end();
    fleet.calm();

    assert_eq!(fs::metadata(store(&fleet, "node2")).map_or(0, |seen| seen.ino()), own, "its own data");
    let left = aside(&fleet, "node2");
    assert!(left.len() == 1 && later(), "what came meanwhile, and nothing else: {left:?}");
    wait_for("the last writes to be copied", LIMIT, || {
        let missing = kept.iter().filter(|key| !has(&fleet, "node2", key)).count();
        if missing == 0 { Ok(()) } else { Err(missing) }
    });
    let _ = fleet.stop();
}
