//! Pause, resume, abort, explain.

use std::fs;

use quorate_tests::cluster::{Fleet, Poll};
use quorate_tests::wait::wait_for;
use serde_json::Value;

use crate::restart::{LIMIT, assert_restarted_once, steps};

fn wait_first_restart(fleet: &Fleet, id: &str) -> Value {
    wait_for("the first restart", LIMIT, || {
        let operation = fleet.operation(id);
        let begun = steps(&operation, "RESTART").iter().any(|step| step["state"] != "PENDING");
        if begun { Ok(operation) } else { Err(operation.to_string()) }
    })
}

pub(crate) fn paused_resumed(fleet: &Fleet) {
    fleet.calm();
    let before = fleet.starts();
    let poll = Poll::begin(fleet.instances());
    let id = fleet.begin(&["rollout", "start", "--restart", "ledger", "--yes"]);
    wait_first_restart(fleet, &id);
    let paused = fleet.json(&["rollout", "pause", &id, "--wait", "--timeout", "60s"]);
    assert_eq!(paused["state"], "PAUSED", "{paused:#}");
    assert!(
        steps(&paused, "RESTART").iter().all(|step| step["state"] != "RUNNING"),
        "a safe point: {paused:#}"
    );
    let starts = fleet.starts();
    assert!(
        starts.values().sum::<usize>() < before.values().sum::<usize>() + 3,
        "it was paused in the middle"
    );
    let explained = fleet.json(&["explain", &id]);
    assert!(
        explained["summary"].as_str().is_some_and(|s| s.to_lowercase().contains("paused")),
        "{explained:#}"
    );
    // Asking a few more times gives a wrong step the time to show itself.
    for _ in 0..20 {
        assert_eq!(fleet.operation(&id)["state"], "PAUSED");
    }
    assert_eq!(fleet.starts(), starts, "nothing starts while it is paused");
    let resumed = fleet.json(&["rollout", "resume", &id]);
    assert_eq!(resumed["state"], "RUNNING", "{resumed:#}");
    let _ = fleet.quorate(&["rollout", "watch", &id, "--timeout", "120s"]).expect(0);
    assert_restarted_once(fleet, &fleet.operation(&id), &before);
    poll.end().assert_quorum();
}

pub(crate) fn aborted_at_a_safe_stop(fleet: &Fleet) {
    fleet.calm();
    let before = fleet.starts();
    let id = fleet.begin(&["rollout", "start", "--restart", "ledger", "--yes"]);
    wait_first_restart(fleet, &id);
    let aborted = fleet.json(&["rollout", "abort", &id, "--yes", "--wait", "--timeout", "60s"]);
    assert_eq!(aborted["state"], "CANCELED", "{aborted:#}");
    assert_eq!((&aborted["openObligations"], &aborted["openGrants"]), (&0.into(), &0.into()), "{aborted:#}");
    assert!(steps(&aborted, "RESTART").iter().any(|step| step["state"] == "SKIPPED"), "{aborted:#}");
    fleet.calm();
    for (node, starts) in fleet.starts() {
        assert!(starts <= before[&node] + 1, "{node}");
    }
    assert!(
        fleet.starts().values().sum::<usize>() < before.values().sum::<usize>() + 3,
        "it was aborted early"
    );
}

/// The three nodes in the order in which they will be restarted: the one that leads comes last.
fn planned(fleet: &Fleet) -> [String; 3] {
    let plan = fleet.json(&["rollout", "plan", "--restart", "ledger"]);
    let waves = plan["waves"].as_array().expect("a plan has waves");
    let steps = waves.iter().flat_map(|wave| wave["steps"].as_array().into_iter().flatten());
    let restarts = steps.filter(|step| step["kind"] == "RESTART");
    let nodes: Vec<String> = restarts.filter_map(|step| step["node"].as_str()).map(str::to_owned).collect();
    nodes.try_into().unwrap_or_else(|nodes| panic!("a step for each of three nodes: {nodes:?}"))
}

pub(crate) fn a_waiting_gate_is_explained(fleet: &Fleet) {
    fleet.calm();
    let before = fleet.starts();
    // The instance that leads is the last one; the middle one has somebody before it and somebody after it.
    let [_, gated, last] = planned(fleet);
    let misbehave = fleet.instance(&gated).dir.join("misbehave");
    fs::write(&misbehave, "never_catch_up = true\n").expect("the data directory is ours");
    let poll = Poll::begin(fleet.instances());
    let id = fleet.begin(&["rollout", "start", "--restart", "ledger", "--yes"]);
    let explained = wait_for("the middle one's gate to wait", LIMIT, || {
        let explained = fleet.quorate(&["explain", &id, "-o", "json"]);
        let waits = explained.stdout.contains(&gated) && explained.stdout.contains("membership");
        if waits { Ok(explained.json()) } else { Err(format!("{explained:?}")) }
    });
    println!("  {}", explained["summary"]);
    let operation = fleet.operation(&id);
    assert_eq!(operation["state"], "RUNNING", "blocked is a condition: {operation:#}");
    assert_eq!(fleet.starts()[&last], before[&last], "nobody else is touched while a gate waits");
    // A second one needs another voter: it waits, says for what, and can be taken back.
    let second = fleet.begin(&["rollout", "start", "--restart", "ledger", "--yes"]);
    let waiting = wait_for("the second one to say why it waits", LIMIT, || {
        let explained = fleet.json(&["explain", &second]);
        let reason = explained["reason"].as_str().unwrap_or_default().to_owned();
        if reason.is_empty() { Err(explained.to_string()) } else { Ok(explained) }
    });
    println!("  {}: {}", waiting["reason"], waiting["summary"]);
    let blocked = fleet.operation(&second);
    assert!(steps(&blocked, "RESTART").iter().all(|step| step["attempts"] == 0), "{blocked:#}");
    let canceled = fleet.json(&["rollout", "abort", &second, "--yes", "--wait", "--timeout", "60s"]);
    assert_eq!(canceled["state"], "CANCELED", "{canceled:#}");
    fs::remove_file(&misbehave).expect("it was there");
    assert_restarted_once(fleet, &fleet.ended(&id, LIMIT), &before);
    poll.end().assert_quorum();
}
