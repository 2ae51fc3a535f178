//! Pause, resume, abort, promote, explain, freeze.

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

pub(crate) fn a_canary_is_promoted(fleet: &Fleet) {
    fleet.calm();
    let before = fleet.starts();
    let poll = Poll::begin(fleet.instances());
    let waves = ["--canary", "1", "--hold", "1s", "--promotion", "canary"];
    let id = fleet.begin(&[&["rollout", "start", "--restart", "ledger", "--yes"], &waves[..]].concat());
    // Nothing waits yet.
    let _ = fleet.quorate(&["rollout", "promote", &id]).expect(3);
    let waiting = wait_for("the canary to wait for its promotion", LIMIT, || {
        let operation = fleet.operation(&id);
        let waits = operation["waveStates"][0]["state"] == "PROMOTABLE";
        if waits { Ok(operation) } else { Err(operation.to_string()) }
    });
    assert_eq!(waiting["state"], "RUNNING", "{waiting:#}");
    assert_eq!(waiting["openGrants"], 0, "its grant is given back while it is looked at: {waiting:#}");
    let canary = fleet.starts();
    assert_eq!(canary.values().sum::<usize>(), before.values().sum::<usize>() + 1, "the canary alone");
    // Asking a few more times gives a wrong step the time to show itself.
    for _ in 0..20 {
        assert_eq!(fleet.operation(&id)["waveStates"][0]["state"], "PROMOTABLE");
    }
    assert_eq!(fleet.starts(), canary, "nothing starts before it is promoted");
    let promoted = fleet.json(&["rollout", "promote", &id]);
    assert!(promoted["waveStates"][0]["promoted"].is_string(), "{promoted:#}");
    let _ = fleet.quorate(&["rollout", "watch", &id, "--timeout", "120s"]).expect(0);
    let ended = fleet.operation(&id);
    assert_eq!(ended["state"], "SUCCEEDED", "{ended:#}");
    for (node, starts) in fleet.starts() {
        assert_eq!(starts, before[&node] + 1, "{node}");
    }
    poll.end().assert_quorum();
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

pub(crate) fn frozen_and_thawed(fleet: &Fleet) {
    fleet.calm();
    let before = fleet.starts();
    let poll = Poll::begin(fleet.instances());
    let id = fleet.begin(&["rollout", "start", "--restart", "ledger", "--yes"]);
    wait_first_restart(fleet, &id);
    let _ = fleet.quorate(&["freeze", "apply", "audit", "--reason", "the auditors are in"]).expect(0);
    let held = wait_for("the rollout to wait for the freeze", LIMIT, || {
        let operation = fleet.operation(&id);
        let reason = &operation["conditions"][0]["reason"];
        if *reason == "FREEZE" { Ok(operation) } else { Err(operation.to_string()) }
    });
    println!("  {}", held["conditions"][0]["message"]);
    assert_eq!(held["state"], "RUNNING", "blocked is a condition: {held:#}");
    assert_eq!(
        held["conditions"][0]["message"], "freeze audit: the auditors are in (until it is deleted)",
        "{held:#}"
    );
    // What had begun came to its end, with its gate; nothing else has begun.
    assert!(steps(&held, "RESTART").iter().all(|step| step["state"] != "RUNNING"), "{held:#}");
    assert!(steps(&held, "RESTART").iter().any(|step| step["state"] == "PENDING"), "{held:#}");
    let starts = fleet.starts();
    let explained = fleet.quorate(&["explain", &id]).expect(0).stdout;
    for wanted in ["freeze audit: the auditors are in", "user:", " since 20", "reason: FREEZE"] {
        assert!(explained.contains(wanted), "{explained}");
    }
    let page = fleet.quorate(&["explain", "FREEZE"]).expect(0).stdout;
    assert!(
        page.contains("audit: the auditors are in (the whole fleet, until it is deleted; by user:"),
        "{page}"
    );
    // Nobody begins anything that disturbs, and is told who holds it up.
    let operations = fleet.json(&["operation", "list"])["operations"].as_array().map_or(0, Vec::len);
    let refused: &[&[&str]] = &[
        &["rollout", "start", "--restart", "ledger", "--wait", "--yes"],
        &["rollout", "plan", "--restart", "ledger"],
        &["service", "stop", "ledger", "--node", "node3", "--wait", "--yes"],
        &["node", "drain", "node3", "--wait", "--yes"],
    ];
    for args in refused {
        let answer = fleet.quorate(args).expect(3);
        for wanted in
            ["refused: freeze audit: ", "hint: quorate freeze show audit", "reason: FREEZE  request: "]
        {
            assert!(answer.stderr.contains(wanted), "{args:?}: {}", answer.stderr);
        }
    }
    let after = fleet.json(&["operation", "list"])["operations"].as_array().map_or(0, Vec::len);
    assert_eq!((fleet.starts(), after), (starts, operations), "nothing was changed");
    // What does not disturb goes on.
    let _ = fleet.quorate(&["service", "status", "ledger", "--node", "node3"]).expect(0);
    let status = fleet.quorate(&["status"]).expect(0).stdout;
    assert!(status.contains("1 active") && status.contains("audit: the auditors are in"), "{status}");
    let _ = fleet.quorate(&["freeze", "delete", "audit", "--yes"]).expect(0);
    assert_restarted_once(fleet, &fleet.ended(&id, LIMIT), &before);
    poll.end().assert_quorum();
}

/// Names of the freezes there are.
fn freezes(fleet: &Fleet) -> Vec<String> {
    let list = fleet.json(&["freeze", "list"]);
    assert_eq!(list["nextPageToken"], "", "{list:#}");
    let rows = list["freezes"].as_array().cloned().expect("a list");
    rows.iter().filter_map(|row| row["name"].as_str().map(str::to_owned)).collect()
}

pub(crate) fn freezes_are_declared(fleet: &Fleet) {
    fleet.calm();
    assert!(freezes(fleet).is_empty());
    frozen_in_words(fleet);
    let file = fleet.dir().join("freeze.yaml");
    let text = "kind: Freeze\nname: quiet\nreason: no changes at all\nselector: { names: [node5] }\nends: 2199-01-01T00:00:00Z\n";
    fs::write(&file, text).expect("the fleet's directory is ours");
    let file = file.to_string_lossy().into_owned();
    frozen_by_file(fleet, &file);
    frozen_badly(fleet, &file);
    assert_eq!(freezes(fleet), ["quiet", "year-end"]);
    for name in ["quiet", "year-end"] {
        let _ = fleet.quorate(&["freeze", "delete", name, "--dry-run"]).expect(0);
        assert!(freezes(fleet).iter().any(|left| left == name), "a dry run changes nothing");
        let _ = fleet.quorate(&["freeze", "delete", name, "--yes"]).expect(0);
    }
    assert!(freezes(fleet).is_empty());
}

/// Later, on one node, of one service.
fn frozen_in_words(fleet: &Fleet) {
    let words = [
        "freeze",
        "apply",
        "year-end",
        "--reason",
        "the books are closed",
        "--node",
        "node1",
        "--service",
        "ledger",
        "--from",
        "2199-12-24T19:00:00+01:00",
        "--for",
        "2h",
    ];
    let _ = fleet.quorate(&[&words[..], &["--dry-run"]].concat()).expect(0);
    assert!(freezes(fleet).is_empty(), "a dry run changes nothing");
    let freeze = fleet.json(&words);
    assert_eq!((&freeze["name"], &freeze["state"]), (&"year-end".into(), &"UPCOMING".into()), "{freeze:#}");
    let shown = fleet.json(&["freeze", "show", "year-end"]);
    assert_eq!(shown, freeze, "declared and shown are the same");
    for (field, value) in [
        ("reason", Value::from("the books are closed")),
        ("starts", "2199-12-24T18:00:00.000Z".into()),
        ("ends", "2199-12-24T20:00:00.000Z".into()),
        ("services", vec!["ledger"].into()),
    ] {
        assert_eq!(shown["spec"][field], value, "{shown:#}");
    }
    assert_eq!(shown["spec"]["selector"]["names"], Value::from(vec!["node1"]), "{shown:#}");
    assert_eq!(fleet.json(&["status"])["freezesActive"], 0, "it has not begun");
}

/// In a file, and the same again is no change.
fn frozen_by_file(fleet: &Fleet, file: &str) {
    for word in ["applied", "unchanged"] {
        let answer = fleet.quorate(&["freeze", "apply", "-f", file]).expect(0);
        assert_eq!(answer.stdout.trim_end(), format!("freeze quiet {word}"));
    }
    let _ = fleet.quorate(&["apply", "-f", file, "--detailed-exitcode"]).expect(0);
    assert_eq!(freezes(fleet), ["quiet", "year-end"]);
    assert_eq!(fleet.json(&["status"])["freezesActive"], 1);
    let table = fleet.quorate(&["freeze", "ls"]).expect(0).stdout;
    assert!(table.contains("Upcoming") && table.contains("Active"), "{table}");
    let _ = fleet.quorate(&["status", "quiet"]).expect(0);
    let refused = fleet.quorate(&["node", "drain", "node5", "--yes"]).expect(3);
    assert!(refused.stderr.contains("reason: FREEZE"), "{}", refused.stderr);
    assert_eq!(fleet.json(&["node", "show", "node5"])["drain"], "NONE");
}

/// Bad input, by its exit code; nothing of it is kept.
fn frozen_badly(fleet: &Fleet, file: &str) {
    let bad: &[(i32, &[&str])] = &[
        (2, &["apply", "bad"]),
        (2, &["apply", "bad", "--reason", ""]),
        (
            2,
            &[
                "apply",
                "bad",
                "--reason",
                "x",
                "--from",
                "2199-01-02T00:00:00Z",
                "--until",
                "2199-01-01T00:00:00Z",
            ],
        ),
        (2, &["apply", "bad", "--reason", "x", "--until", "2001-01-01T00:00:00Z"]),
        (2, &["apply", "bad", "--reason", "x", "--until", "tomorrow"]),
        (2, &["apply", "bad", "--reason", "x", "-l", "zone in (a"]),
        (2, &["apply", "Bad Name", "--reason", "x"]),
        (2, &["apply", "bad", "-f", file]),
        (2, &["delete", "quiet"]),
        (6, &["apply", "bad", "--reason", "x", "--service", "lodger"]),
        (6, &["show", "nothing"]),
        (6, &["delete", "nothing", "--yes"]),
    ];
    for (code, args) in bad {
        let _ = fleet.quorate(&[&["freeze"], *args].concat()).expect(*code);
    }
}
