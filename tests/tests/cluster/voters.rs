//! Members of a managed group join and leave: by the guide's calls, and by ours, with the coordinators' leader killed.

use std::time::Duration;

use quorate_tests::cluster::{Daemon, Fleet, Poll, http};
use quorate_tests::wait::wait_for;
use serde_json::Value;

use crate::restart::{LIMIT, steps};
use crate::upgrade::{ASK, Writer};

/// For the members to have told each other.
const SOON: Duration = Duration::from_secs(20);

/// Whom the application takes for its members, as one of them tells.
fn listed(fleet: &Fleet) -> Vec<String> {
    let (status, body) =
        http("GET", fleet.instance("node1").at, "/cluster/nodes", "", ASK).expect("it answers");
    assert_eq!(status, 200, "{body}");
    let told: Value = serde_json::from_str(&body).expect("JSON");
    let nodes = told["nodes"].as_array().expect("a list");
    nodes.iter().filter_map(|row| row["node"].as_str().map(str::to_owned)).collect()
}

/// Whom we count.
fn declared(fleet: &Fleet) -> Vec<String> {
    let group = fleet.json(&["group", "show", "ledger"]);
    let members = group["members"].as_array().expect("members");
    members.iter().filter_map(|row| row["node"].as_str().map(str::to_owned)).collect()
}

/// Both, once they agree.
fn agreed(fleet: &Fleet, wanted: &[&str]) {
    wait_for("the application and the declaration to agree", SOON, || {
        let both = (listed(fleet), declared(fleet));
        if both.0 == wanted && both.1 == wanted { Ok(()) } else { Err(format!("{both:?}")) }
    });
}

/// The guide's own calls, as it writes them.
fn by_the_guide(fleet: &Fleet, path: &str, body: &str) {
    let (status, answer) = http("POST", fleet.instance("node1").at, path, body, ASK).expect("it answers");
    assert_eq!(status, 200, "{answer}");
}

/// Begins it, kills the leader once the application is told, and waits for its end.
fn with_the_leader_killed(fleet: &Fleet, args: &[&str], kind: &str) -> Value {
    let id = fleet.begin(args);
    wait_for("the application to be told", LIMIT, || {
        let operation = fleet.operation(&id);
        let begun = steps(&operation, kind).iter().any(|step| step["state"] != "PENDING");
        if begun { Ok(()) } else { Err(format!("{operation:#}")) }
    });
    fleet.kill(Daemon::Coordinator(&fleet.leader()));
    let operation = fleet.ended(&id, LIMIT);
    assert_eq!(operation["state"], "SUCCEEDED", "{operation:#}");
    assert_eq!((&operation["openObligations"], &operation["kind"]), (&0.into(), &"MEMBERSHIP".into()));
    operation
}

pub(crate) fn x17_a_member_leaves_only_where_the_rest_can_go_on(_: &Fleet) {
    let dir = tempfile::Builder::new().prefix("quorate-").tempdir().expect("a temporary directory");
    let fleet = Fleet::start_in(dir, &["--coordinators", "3", "--agents", "4", "--spares", "1"]);
    let three = ["node1", "node2", "node3"];
    agreed(&fleet, &three);

    // As it is written: nobody asks what is left, and two voters survive no failure at all.
    by_the_guide(&fleet, "/cluster/nodes/remove", r#"{"node_id": 3}"#);
    let (_, info) = http("GET", fleet.instance("node1").at, "/cluster/info", "", ASK).expect("it answers");
    let info: Value = serde_json::from_str(&info).expect("JSON");
    assert_eq!((&info["voters"], &info["required"]), (&2.into(), &2.into()), "{info:#}");
    by_the_guide(&fleet, "/cluster/nodes/add", r#"{"node_id": 3, "address": "10.0.1.12:8003"}"#);
    agreed(&fleet, &three);
    fleet.calm();

    // Ours: refused with the numbers, and nothing was touched.
    let starts = fleet.starts();
    let refused = fleet.quorate(&["group", "remove", "ledger", "node3", "--yes"]).expect(3);
    for part in ["QUORUM_MARGIN", "3 voters, 3 up, needs 2", "2 voters, 2 up, needs 2", "--spare 0"] {
        assert!(refused.stderr.contains(part), "{part}: {refused:?}");
    }
    agreed(&fleet, &three);
    assert_eq!(fleet.starts(), starts);

    // From three to four and back, with the leader of the coordinators killed in the middle, writes going on.
    let (poll, writer) = (Poll::begin(fleet.instances()), Writer::begin(&fleet, "voters"));
    let joined = with_the_leader_killed(&fleet, &["group", "add", "ledger", "node4", "--yes"], "JOIN");
    assert_eq!(steps(&joined, "START").len(), 1, "{joined:#}");
    agreed(&fleet, &["node1", "node2", "node3", "node4"]);
    let group = fleet.json(&["group", "show", "ledger"]);
    assert_eq!((&group["voters"], &group["required"]), (&4.into(), &3.into()), "{group:#}");
    let left = with_the_leader_killed(&fleet, &["group", "remove", "ledger", "node4", "--yes"], "LEAVE");
    assert_eq!(steps(&left, "STOP").len(), 1, "{left:#}");
    agreed(&fleet, &three);
    writer.end();
    poll.end().assert_untouched();
    assert_eq!(fleet.starts(), starts, "those that stay are never touched");

    // From three to two only by who says that no failure needs to be survived.
    let id = fleet.begin(&["group", "remove", "ledger", "node3", "--spare", "0", "--yes"]);
    let operation = fleet.ended(&id, LIMIT);
    assert_eq!(operation["state"], "SUCCEEDED", "{operation:#}");
    agreed(&fleet, &["node1", "node2"]);
    let last = fleet.quorate(&["group", "remove", "ledger", "node2", "--dry-run"]).expect(3);
    assert!(last.stderr.contains("QUORUM_MARGIN"), "{last:?}");
    comes_up_again(&fleet, &["node1", "node2"], "node3");
}

/// Stopped and started anew: the members are those of the last change, and who has left is not started.
fn comes_up_again(fleet: &Fleet, members: &[&str], left: &str) {
    let starts = fleet.starts();
    let down = fleet.stop();
    assert_eq!(down.code, 0, "{down:?}");
    let up = fleet.dev(&["--detach"]);
    assert_eq!(up.code, 0, "{up:?}");
    agreed(fleet, members);
    let again = fleet.starts();
    assert_eq!(again[left], starts[left], "{left} has left: {again:?}");
    assert!(members.iter().all(|node| again[*node] > starts[*node]), "{again:?}");
}
