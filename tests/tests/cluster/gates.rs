//! Gates on evidence: a member that serves, and serves worse than before, stops a rollout.

use std::fs;

use quorate_tests::cluster::{Fleet, Poll};
use quorate_tests::wait::wait_for;
use serde_json::{Value, json};

use crate::restart::{LIMIT, steps};

/// A file that declares the sample service with these probes on top of its own.
fn file(fleet: &Fleet, spec: &Value, more: &[Value]) -> String {
    let mut document = spec.clone();
    document["kind"] = "Service".into();
    document["probes"].as_array_mut().expect("it has probes").extend(more.iter().cloned());
    let file = fleet.dir().join("ledger-gates.json");
    fs::write(&file, document.to_string()).expect("the fleet's folder is ours");
    file.to_string_lossy().into_owned()
}

pub(crate) fn declare(fleet: &Fleet, spec: &Value, more: &[Value]) {
    let _ = fleet.quorate(&["apply", "-f", &file(fleet, spec, more), "--yes"]).expect(0);
}

fn latency() -> Value {
    json!({
        "name": "latency", "interval": "0.3s", "timeout": "1s", "passes": 2,
        "metric": {
            "url": "http://127.0.0.1:${port}/metrics/prometheus",
            "metric": "scribe_request_latency_p99",
            "labels": { "node": "${node}" },
            "baseline": { "maxIncreasePercent": 50, "minAbsolute": 1000 },
        },
    })
}

fn sense(expr: &str) -> Value {
    json!({ "name": "sense", "interval": "0.3s", "timeout": "1s", "passes": 2, "expression": { "expr": expr } })
}

pub(crate) fn sample(fleet: &Fleet) -> Value {
    let shown = fleet.json(&["service", "show", "ledger"]);
    shown.get("spec").unwrap_or(&shown).clone()
}

pub(crate) fn an_expression_over_nothing_is_refused_with_its_place(fleet: &Fleet) {
    let wrong = [latency(), sense("probes.latency.value < 1e6 && probes.heath.pass")];
    let refused = fleet.quorate(&["apply", "-f", &file(fleet, &sample(fleet), &wrong), "--yes"]).expect(2);
    assert!(refused.stderr.contains("no probe of this service has this name"), "{}", refused.stderr);
    let lines: Vec<&str> = refused.stderr.lines().collect();
    let caret = lines.iter().position(|line| line.ends_with(" ^")).expect("a caret");
    assert_eq!(lines[caret].find('^'), lines[caret - 1].find("heath"), "{}", refused.stderr);
}

pub(crate) fn a_worse_metric_stops_the_rollout(fleet: &Fleet) {
    fleet.calm();
    let spec = sample(fleet);
    let sound = "probes.latency.value < 1e6 && probes.health.status == 200";
    declare(fleet, &spec, &[latency(), sense(sound)]);
    fleet.calm();
    let poll = Poll::begin(fleet.instances());
    let id = fleet.begin(&["rollout", "start", "--restart", "ledger", "--gate-timeout", "20s", "--yes"]);
    let node = wait_for("the first restart", LIMIT, || {
        let operation = fleet.operation(&id);
        let begun = steps(&operation, "RESTART").into_iter().find(|step| step["state"] != "PENDING").cloned();
        begun.and_then(|step| step["node"].as_str().map(str::to_owned)).ok_or_else(|| operation.to_string())
    });
    let misbehave = fleet.instance(&node).dir.join("misbehave");
    fs::write(&misbehave, "latency_p99_ms = 90000\n").expect("the data directory is ours");
    let operation = fleet.ended(&id, LIMIT);
    assert_eq!(operation["state"], "FAILED", "{operation:#}");
    let gates = steps(&operation, "GATE");
    let failed: Vec<_> = gates.iter().filter(|step| step["state"] == "FAILED").collect();
    assert_eq!(failed.len(), 1, "{operation:#}");
    assert_eq!(failed[0]["node"], node.as_str(), "{operation:#}");
    let readings = failed[0]["readings"].as_array().expect("a verdict has its readings");
    let worse = readings.iter().find(|reading| reading["probe"] == "latency").expect("of the metric, too");
    assert_eq!((worse["ok"] == true, worse["value"].as_f64()), (false, Some(90_000.0)), "{worse:#}");
    assert!(worse["before"].as_f64().is_some_and(|before| before < 1_000.0), "{worse:#}");
    let told = fleet.quorate(&["operation", "show", &id, "-o", "wide"]).expect(0).stdout;
    assert!(told.contains("90000, before ") && told.contains("at most +50% or +1000"), "{told}");
    assert_eq!(steps(&operation, "RESTART").iter().filter(|step| step["state"] == "SUCCEEDED").count(), 1);
    poll.end().assert_quorum();

    fs::remove_file(&misbehave).expect("it was there");
    declare(fleet, &spec, &[]);
    fleet.calm();
}
