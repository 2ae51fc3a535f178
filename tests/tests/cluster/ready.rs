//! Before an instance is disturbed: its host is looked at, and a copy of it is stored.

use std::net::TcpListener;

use quorate_tests::cluster::Fleet;
use serde_json::{Value, json};

use crate::restart::{LIMIT, steps};

/// Makes the sample service declare something more, or no longer.
pub(crate) fn declare(fleet: &Fleet, field: &str, value: Value) {
    let mut service = fleet.json(&["service", "show", "ledger"])["spec"].clone();
    assert!(service.is_object(), "{service:#}");
    service["kind"] = "Service".into();
    service[field] = value;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("ledger.json");
    std::fs::write(&file, service.to_string()).expect("a writable folder");
    let applied = fleet.quorate(&["apply", "-f", &file.display().to_string(), "--yes"]);
    assert_eq!(applied.code, 0, "{applied:?}");
}

fn count(operation: &Value, kind: &str, state: &str) -> usize {
    steps(operation, kind).into_iter().filter(|step| step["state"] == state).count()
}

/// The file with which a person keeps changes away from a host lies beside its helper's socket.
fn hold_file(fleet: &Fleet, node: &str) -> std::path::PathBuf {
    let config = fleet.dir().join("agents").join(node).join("agent.toml");
    let text = std::fs::read_to_string(&config).expect("the agent's configuration");
    let line = text.lines().find_map(|line| line.strip_prefix("helper_socket = ")).expect("a socket");
    std::path::PathBuf::from(line.trim_matches(['"', '\''])).with_extension("hold")
}

pub(crate) fn a_host_that_is_not_ready_is_left_alone(fleet: &Fleet) {
    fleet.calm();
    let before = fleet.starts();
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("an address")
    };
    declare(fleet, "preflight", json!({ "requires": [{ "address": closed.to_string() }] }));
    let id = fleet.begin(&["rollout", "start", "--restart", "ledger", "--yes"]);
    let operation = fleet.ended(&id, LIMIT);
    assert_eq!(operation["state"], "FAILED", "{operation:#}");
    assert_eq!((count(&operation, "PREFLIGHT", "FAILED"), count(&operation, "RESTART", "SKIPPED")), (1, 3));
    let failed = steps(&operation, "PREFLIGHT").into_iter().find(|s| s["state"] == "FAILED").expect("one");
    let subject = format!("requires {closed}");
    let findings = failed["outcome"]["findings"].as_array().cloned().unwrap_or_default();
    let level = |of: &str| findings.iter().find(|f| f["subject"] == of).map(|f| f["level"].clone());
    assert_eq!(level(&subject), Some("critical".into()), "{failed:#}");
    assert_eq!((level("clock"), level("unit")), (Some("ok".into()), Some("ok".into())), "{failed:#}");
    assert_eq!(fleet.starts(), before, "nothing was touched");

    let open = TcpListener::bind(closed).expect("the port is still free");
    let hold = hold_file(fleet, "node1");
    std::fs::write(&hold, "a disk is being changed\n").expect("a writable folder");
    let id = fleet.begin(&["rollout", "start", "--restart", "ledger", "--yes"]);
    let operation = fleet.ended(&id, LIMIT);
    std::fs::remove_file(&hold).expect("the file is still there");
    assert_eq!(operation["state"], "FAILED", "{operation:#}");
    assert!(operation["message"].to_string().contains("a disk is being changed"), "{operation:#}");
    assert_eq!(fleet.starts()["node1"], before["node1"], "nothing was touched there");

    fleet.calm();
    let before = fleet.starts();
    let id = fleet.begin(&["rollout", "start", "--restart", "ledger", "--yes"]);
    let operation = fleet.ended(&id, LIMIT);
    drop(open);
    declare(fleet, "preflight", Value::Null);
    assert_eq!(operation["state"], "SUCCEEDED", "{operation:#}");
    assert_eq!(count(&operation, "PREFLIGHT", "SUCCEEDED"), before.len(), "{operation:#}");
    assert!(fleet.starts().iter().all(|(node, starts)| *starts == before[node] + 1), "each once");
}

pub(crate) fn a_copy_comes_before_a_restart(fleet: &Fleet) {
    fleet.calm();
    let before = fleet.starts();
    let id = fleet.begin(&["rollout", "start", "--restart", "ledger", "--backup-first", "--yes"]);
    let operation = fleet.ended(&id, LIMIT);
    assert_eq!(operation["state"], "SUCCEEDED", "{operation:#}");
    let copies = steps(&operation, "BACKUP");
    assert_eq!(copies.len(), before.len(), "{operation:#}");
    let listed = fleet.json(&["backup", "list"]);
    for copy in copies {
        assert_eq!(copy["state"], "SUCCEEDED", "{copy:#}");
        let sum = copy["outcome"]["backup"]["sha256"].as_str().unwrap_or_default();
        assert!(!sum.is_empty() && listed.to_string().contains(sum), "{copy:#} in {listed:#}");
        let (index, node) = (copy["index"].as_u64(), &copy["node"]);
        let restart = steps(&operation, "RESTART").into_iter().find(|s| s["node"] == *node).expect("one");
        assert!(index < restart["index"].as_u64(), "{operation:#}");
        assert!(copy["ended"].as_str() <= restart["started"].as_str(), "{operation:#}");
    }
    assert!(fleet.starts().iter().all(|(node, starts)| *starts == before[node] + 1), "each once");
}
