//! Silences at a real Alertmanager: there as long as an instance is worked on, and no longer, whoever dies or is away.

use std::net::TcpListener;
use std::time::Duration;

use quorate_tests::cluster::{Daemon, Fleet};
use quorate_tests::wait::{wait_for, wait_until};
use serde_json::{Value, json};

use crate::alerts::{Alertmanager, FUTURE, quiet, restarted, waits_for};
use crate::config::Silence;
use crate::gates;
use crate::ready::declare;
use crate::restart::{LIMIT, steps};
use crate::upgrade::{assert_closed, pushed, versions};

/// Longest wait for a silence that ends by itself: the lease, and some for a helper that is started again.
const ALONE_LIMIT: Duration = Duration::from_secs(90);

/// What Alertmanager keeps of us: (node, state, operation).
fn ours(manager: &Alertmanager) -> Vec<(String, String, String)> {
    let answer = manager.ask("GET", "/api/v2/silences", "").expect("Alertmanager answers");
    let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
    // Its answer may come in chunks: the document is what lies between the outer brackets.
    let document = &body[body.find('[').expect("a list")..=body.rfind(']').expect("a list")];
    let all: Vec<Value> = serde_json::from_str(document).expect("JSON");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let each = all.iter().filter(|silence| silence["createdBy"] == "quorate").map(|silence| {
        let matchers = silence["matchers"].as_array().cloned().unwrap_or_default();
        let node = matchers.iter().find(|m| m["name"] == "node").map(|m| text(&m["value"]));
        let operation = text(&silence["comment"]).split(' ').nth(1).unwrap_or_default().to_owned();
        (node.unwrap_or_default(), text(&silence["status"]["state"]), operation)
    });
    each.collect()
}

/// The nodes whose alerts nobody is told of now.
fn silenced(manager: &Alertmanager) -> Vec<String> {
    let mut nodes: Vec<String> = ours(manager)
        .into_iter()
        .filter(|(_, state, _)| state != "expired")
        .map(|(node, _, _)| node)
        .collect();
    nodes.sort();
    nodes
}

fn wanted(url: &str, required: bool, lease: &str) -> Value {
    let matchers = ["service=${service}", "node=~\"${node}\""];
    json!({ "silence": { "url": url, "matchers": matchers, "required": required }, "lease": lease })
}

fn at(manager: &Alertmanager) -> String {
    format!("http://{}", manager.at)
}

/// A release that its canary does not survive.
fn begun(fleet: &Fleet, patience: &str) -> String {
    let digest = pushed(fleet, env!("CARGO_BIN_EXE_ledger_1_2_0_unhealthy"));
    let what = ["rollout", "start", "ledger", "--release", "1.2.0", "--artifact", &digest];
    let how = ["--canary", "1", "--on-failure", "rollback", "--gate-timeout", patience, "--yes"];
    fleet.begin(&[&what[..], &how[..]].concat())
}

fn canary(fleet: &Fleet, id: &str) -> String {
    wait_for("the canary's announcement", LIMIT, || {
        let operation = fleet.operation(id);
        let all = steps(&operation, "ENTER_MAINTENANCE");
        let done = all.into_iter().find(|step| step["state"] == "SUCCEEDED");
        done.and_then(|step| step["node"].as_str().map(str::to_owned)).ok_or_else(|| operation.to_string())
    })
}

pub(crate) fn it_lasts_until_the_rollback_has_proved_it(fleet: &Fleet) {
    fleet.calm();
    let manager = Alertmanager::start(fleet);
    // Shorter than the gate alone: it is renewed because its operation lives.
    declare(fleet, "maintenance", wanted(&at(&manager), true, "6s"));
    let plan = fleet.quorate(&["rollout", "start", "--restart", "ledger", "--dry-run"]).expect(0);
    assert!(plan.stdout.contains("silences {"), "a plan says what it will silence: {}", plan.stdout);
    let ran = versions(fleet);
    let id = begun(fleet, "15s");
    let node = canary(fleet, &id);
    let mut looks = 0;
    let operation = wait_for("its end", LIMIT, || {
        // The silence first: what is told of the operation is then at least as new.
        let there = silenced(&manager);
        let operation = fleet.operation(&id);
        let gates = steps(&operation, "GATE");
        let restarted = steps(&operation, "ACTIVATE").iter().any(|step| step["state"] == "SUCCEEDED");
        if restarted && gates.iter().all(|gate| gate["state"] != "SUCCEEDED") {
            assert_eq!(there, [node.as_str()], "ended before anybody has seen it serve: {operation:#}");
            looks += 1;
        }
        if operation["state"] == "ROLLED_BACK" { Ok(operation) } else { Err(operation.to_string()) }
    });
    println!("  {looks} looks at a release that does not serve, each found the silence of {node} alone");
    assert!(looks > 0, "nothing was shown: {operation:#}");
    assert_closed(&operation);
    let all = ours(&manager);
    assert!(!all.is_empty() && all.iter().all(|(_, state, of)| state == "expired" && *of == id), "{all:?}");
    assert_eq!(versions(fleet), ran);
    fleet.calm();
    // One that goes well silences each while it is worked on, and nobody afterwards.
    let id = fleet.begin(&["rollout", "start", "--restart", "ledger", "--yes"]);
    let operation = fleet.ended(&id, LIMIT);
    assert_eq!(operation["state"], "SUCCEEDED", "{operation:#}");
    assert_closed(&operation);
    let mut each: Vec<_> = ours(&manager).into_iter().filter(|(_, _, of)| *of == id).collect();
    each.sort();
    let expected: Vec<_> =
        ["node1", "node2", "node3"].map(|node| (node.to_owned(), "expired".to_owned(), id.clone())).to_vec();
    assert_eq!(each, expected);
    for step in steps(&operation, "EXIT_MAINTENANCE") {
        assert!(step.to_string().contains("its silence has ended"), "{step:#}");
    }
    declare(fleet, "maintenance", Value::Null);
    fleet.calm();
}

pub(crate) fn a_host_alone_ends_it(fleet: &Fleet) {
    fleet.calm();
    let manager = Alertmanager::start(fleet);
    declare(fleet, "maintenance", wanted(&at(&manager), false, "10s"));
    let id = begun(fleet, "30s");
    let node = canary(fleet, &id);
    let silence = Silence::begin(fleet);
    fleet.kill(Daemon::Agent(&node));
    fleet.kill(Daemon::Helper(&node));
    assert_eq!(silenced(&manager), [node.as_str()], "its time has not come");
    wait_until("nobody to be silenced", ALONE_LIMIT, || silenced(&manager).is_empty());
    drop(silence);
    let operation = fleet.ended(&id, LIMIT);
    println!("  {node}: {} ({})", operation["state"], operation["message"]);
    assert_closed(&operation);
    assert!(silenced(&manager).is_empty(), "{operation:#}");
    declare(fleet, "maintenance", Value::Null);
    fleet.calm();
}

pub(crate) fn its_own_opens_no_gate(fleet: &Fleet) {
    fleet.calm();
    let spec = gates::sample(fleet);
    let manager = Alertmanager::start(fleet);
    gates::declare(fleet, &spec, &[quiet(&manager)]);
    declare(
        fleet,
        "maintenance",
        json!({
            "silence": { "url": at(&manager), "matchers": ["service=${service}"], "required": true },
        }),
    );
    manager.alert("LedgerLags", FUTURE);
    fleet.calm();
    let id = fleet.begin(&["rollout", "start", "--restart", "ledger", "--yes"]);
    waits_for(fleet, &id, "quiet");
    wait_for("the alert to be silenced by the operation, and seen all the same", LIMIT, || {
        let alerts = manager.ask("GET", "/api/v2/alerts", "").expect("Alertmanager answers");
        let told = fleet.quorate(&["group", "show", "ledger", "-o", "json"]).stdout
            + &fleet.quorate(&["operation", "show", &id, "-o", "wide"]).stdout
            + &fleet.quorate(&["explain", &id, "-o", "json"]).stdout;
        let seen = alerts.contains("suppressed") && told.contains("1 alert fires: LedgerLags");
        if seen { Ok(()) } else { Err(alerts + &told) }
    });
    let operation = fleet.operation(&id);
    assert_eq!((&operation["state"], restarted(&operation)), (&"RUNNING".into(), 1), "{operation:#}");
    manager.silence("LedgerLags");
    let operation = fleet.ended(&id, LIMIT);
    assert_eq!(operation["state"], "SUCCEEDED", "a person knows of it: {operation:#}");
    assert_closed(&operation);
    assert!(ours(&manager).iter().all(|(_, state, _)| state == "expired"));
    declare(fleet, "maintenance", Value::Null);
    gates::declare(fleet, &spec, &[]);
    fleet.calm();
}

pub(crate) fn one_that_cannot_be_set(fleet: &Fleet) {
    fleet.calm();
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        format!("http://{}", listener.local_addr().expect("an address"))
    };
    let before = fleet.starts();
    // Needed: nothing is disturbed without it.
    for (url, state) in [(closed.as_str(), "FAILED"), ("http://127.0.0.2:9093", "REJECTED")] {
        declare(fleet, "maintenance", wanted(url, true, "30s"));
        let operation =
            fleet.ended(&fleet.begin(&["rollout", "start", "--restart", "ledger", "--yes"]), LIMIT);
        assert_eq!(operation["state"], "FAILED", "{operation:#}");
        assert_closed(&operation);
        let enter = steps(&operation, "ENTER_MAINTENANCE").into_iter().find(|s| s["state"] == "FAILED");
        let told = enter.expect("it failed").to_string();
        println!("  {state}: {}", operation["message"]);
        assert!(told.contains(if state == "FAILED" { "refused" } else { "does not list" }), "{told}");
    }
    assert_eq!(fleet.starts(), before, "nothing was disturbed");
    // Wished for: the work goes on and says so, and nobody waits for an Alertmanager that is away.
    declare(fleet, "maintenance", wanted(&closed, false, "10m"));
    let operation = fleet.ended(&fleet.begin(&["rollout", "start", "--restart", "ledger", "--yes"]), LIMIT);
    assert_eq!(operation["state"], "SUCCEEDED", "{operation:#}");
    assert_closed(&operation);
    for step in steps(&operation, "ENTER_MAINTENANCE") {
        assert!(step.to_string().contains("not silenced"), "{step:#}");
    }
    declare(fleet, "maintenance", Value::Null);
    fleet.calm();
}
