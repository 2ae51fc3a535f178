//! Who leads hands over before it is disturbed: by a hook, and seen by the others.

use quorate_tests::cluster::{Fleet, Poll, http};
use serde_json::{Value, json};

use crate::ready::declare;
use crate::restart::{LIMIT, steps};
use crate::upgrade::{ASK, Writer};

/// Who leads the sample, as one of its members tells.
fn leads(fleet: &Fleet) -> String {
    let (status, body) =
        http("GET", fleet.instance("node1").at, "/cluster/leader/info", "", ASK).expect("it answers");
    assert_eq!(status, 200, "{body}");
    let told: Value = serde_json::from_str(&body).expect("JSON");
    told["node"].as_str().expect("a node").to_owned()
}

pub(crate) fn the_leader_hands_over_before_its_restart(fleet: &Fleet) {
    fleet.calm();
    declare(fleet, "handover", json!({ "hook": "ledger-hand-over", "timeout": "30s" }));
    let (before, starts) = (leads(fleet), fleet.starts());
    let (poll, writer) = (Poll::begin(fleet.instances()), Writer::begin(fleet, "handover"));
    let id = fleet.begin(&["rollout", "start", "--restart", "ledger", "--yes"]);
    let operation = fleet.ended(&id, LIMIT);
    writer.end();
    let tally = poll.end();
    declare(fleet, "handover", Value::Null);
    assert_eq!(operation["state"], "SUCCEEDED", "{operation:#}");
    tally.assert_quorum();
    let handed: Vec<_> = steps(&operation, "HANDOVER");
    assert_eq!(handed.len(), 3, "{operation:#}");
    for step in handed {
        let wanted = if step["node"] == before.as_str() { "SUCCEEDED" } else { "SKIPPED" };
        assert_eq!(step["state"], wanted, "{before} led: {step:#}");
    }
    assert_ne!(leads(fleet), before, "it stays with whoever took over");
    for (node, count) in fleet.starts() {
        assert_eq!(count, starts[&node] + 1, "{node} is started once");
    }
}

pub(crate) fn a_leader_that_cannot_hand_over_is_left_alone(fleet: &Fleet) {
    fleet.calm();
    // The host allows it for a backup only, not for its own sake.
    declare(fleet, "handover", json!({ "hook": "ledger-pause" }));
    let (before, starts) = (leads(fleet), fleet.starts());
    let id = fleet.begin(&["service", "restart", "ledger", "--node", &before, "--yes"]);
    let operation = fleet.ended(&id, LIMIT);
    declare(fleet, "handover", Value::Null);
    assert_eq!(operation["state"], "FAILED", "{operation:#}");
    assert_eq!((leads(fleet), fleet.starts()), (before, starts), "nothing was touched");
}
