//! One budget for all causes: operations that want the same group at once take turns.

use quorate_tests::cluster::{Fleet, Poll};
use quorate_tests::wait::wait_for;
use serde_json::Value;

use crate::restart::LIMIT;

/// When each action of an operation began, by the coordinators' clock; RFC 3339 sorts as text.
fn begun(operation: &Value) -> Vec<String> {
    let steps = operation["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
    let actions = steps.iter().filter(|step| step["kind"] != "GATE");
    let mut begun: Vec<String> =
        actions.filter_map(|step| step["started"].as_str()).map(str::to_owned).collect();
    begun.sort();
    begun
}

pub(crate) fn three_operations_take_turns(fleet: &Fleet) {
    fleet.calm();
    let before = fleet.starts();
    let poll = Poll::begin(fleet.instances());
    let ids = [
        fleet.begin(&["rollout", "start", "--restart", "ledger", "--yes"]),
        fleet.begin(&["backup", "create", "ledger", "--all"]),
        fleet.begin(&["rollout", "start", "--restart", "ledger", "--yes"]),
    ];
    // Whoever is not at work says who is.
    let told = wait_for("one of them to name who holds the budget", LIMIT, || {
        let explained: Vec<Value> = ids.iter().map(|id| fleet.json(&["explain", id])).collect();
        let holder = |answer: &Value| {
            let why = answer["why"].as_array()?;
            let held = why.iter().find(|fact| fact["subject"] == "held by")?;
            held["text"].as_str().map(str::to_owned)
        };
        let mut told = ids.iter().zip(&explained).filter_map(|(id, answer)| Some((id, holder(answer)?)));
        told.next().ok_or_else(|| format!("{explained:#?}"))
    });
    let (waiting, holder) = told;
    println!("  {waiting} waits: held by {holder}");
    assert!(
        ids.iter().any(|id| id != waiting && holder.contains(id.as_str())),
        "{waiting} names another one of {ids:?}: {holder}"
    );
    let ended: Vec<Value> = ids.iter().map(|id| fleet.ended(id, LIMIT)).collect();
    for operation in &ended {
        assert_eq!(operation["state"], "SUCCEEDED", "{operation:#}");
        assert_eq!((&operation["openObligations"], &operation["openGrants"]), (&0.into(), &0.into()));
    }
    poll.end().assert_quorum();
    // In turns: nobody was through before everybody had begun.
    let turns: Vec<Vec<String>> = ended.iter().map(begun).collect();
    let all_begun = turns.iter().filter_map(|turns| turns.first()).max().expect("each began");
    for turns in &turns {
        assert_eq!(turns.len(), 3, "{turns:?}");
        assert!(turns.last().is_some_and(|last| last > all_begun), "{turns:?}");
    }
    for (node, starts) in fleet.starts() {
        assert_eq!(starts, before[&node] + 2, "two restarts of {node}, and a backup is none");
    }
}
