//! Fleet files on a real fleet: the difference before, what is applied, and what is refused without a trace.

use std::fs;

use quorate_tests::cluster::{Answer, Fleet};
use serde_json::{Value, json};

/// A service beside the sample, on nodes that hold no voter, and its group.
const FILE: &str = "kind: ServiceGroup
name: spare
service: spare
voters: [node4, node5]
policy: { kind: NONE }
---
kind: Service
name: spare
driver: { process: spare }
nodes: { names: [node4, node5] }
stopTimeout: 30s
";

fn changes(answer: &Answer) -> Vec<(String, String)> {
    let rows = answer.json()["changes"].as_array().cloned().unwrap_or_default();
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    rows.iter().map(|row| (text(row, "name"), text(row, "change"))).collect()
}

pub(crate) fn diffed_applied_and_refused(fleet: &Fleet) {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("written");
        path.to_string_lossy().into_owned()
    };
    let good = write("good.yaml", FILE);
    let revision = || fleet.json(&["service", "show", "ledger"])["revision"].clone();
    let ledger = revision();

    // Nothing of it is there.
    let diff = fleet.quorate(&["diff", "-f", &good, "-o", "json", "--detailed-exitcode"]).expect(8);
    assert_eq!(changes(&diff), [("spare".into(), "CREATE".into()), ("spare".into(), "CREATE".into())]);
    let kinds: Vec<Value> = (0..2).map(|i| diff.json()["changes"][i]["kind"].clone()).collect();
    assert_eq!(kinds, [json!("Service"), json!("ServiceGroup")], "services first");
    let dry = fleet.quorate(&["apply", "-f", &good, "--dry-run"]).expect(0);
    assert!(dry.stdout.contains("service spare: would be created\n"), "{}", dry.stdout);
    assert!(dry.stdout.contains("\n+stopTimeout: 30s\n"), "{}", dry.stdout);
    let _ = fleet.quorate(&["service", "show", "spare"]).expect(6);

    // A bad second document: the first is not applied.
    let bad = write("bad.yaml", &FILE.replace("stopTimeout: 30s", "stopTimout: 30s"));
    let refused = fleet.quorate(&["apply", "-f", &bad]).expect(2);
    let place = format!("error: {bad}:11:1: document 2 (Service): unknown key \"stopTimout\"\n");
    assert!(refused.stderr.starts_with(&place), "{}", refused.stderr);
    assert!(refused.stderr.contains("11 | stopTimout: 30s\n"), "{}", refused.stderr);
    assert!(refused.stderr.contains("did you mean \"stopTimeout\"?"), "{}", refused.stderr);
    // A group that the coordinators refuse: its service, which they would take, is not applied either.
    let strangers =
        write("strangers.yaml", &FILE.replace("voters: [node4, node5]", "voters: [node4, nobody]"));
    let refused = fleet.quorate(&["apply", "-f", &strangers]).expect(6);
    let place = format!("{strangers}:4:1: document 1 (ServiceGroup): voters: there is no node nobody\n");
    assert!(refused.stderr.contains(&place), "{}", refused.stderr);
    let _ = fleet.quorate(&["service", "show", "spare"]).expect(6);

    // Applied twice; the second time nothing changes.
    let applied = fleet.quorate(&["apply", "-f", &good, "--reason", "a spare"]).expect(0);
    assert_eq!(applied.stdout, "service spare applied\ngroup spare applied\n");
    let again = fleet.quorate(&["apply", "-f", &good, "-o", "json", "--detailed-exitcode"]).expect(0);
    let changed: Vec<Value> = (0..2).map(|i| again.json()["results"][i]["changed"].clone()).collect();
    assert_eq!(changed, [json!(false), json!(false)]);
    // Defaults that were filled in are no difference.
    let same = fleet.quorate(&["diff", "-f", &good, "--detailed-exitcode"]).expect(0);
    assert_eq!(same.stdout, "service spare: unchanged\ngroup spare: unchanged\n");
    assert!(same.stderr.contains("2 document(s), 0 would change"), "{}", same.stderr);

    // One line is changed, and one line is shown.
    let later = write("later.yaml", &FILE.replace("30s", "45s"));
    let diff = fleet.quorate(&["diff", "-f", &later, "-o", "json"]).expect(0);
    assert_eq!(changes(&diff), [("spare".into(), "UPDATE".into()), ("spare".into(), "NONE".into())]);
    let lines = diff.json()["changes"][0]["diff"].clone();
    let touched: Vec<&str> = lines
        .as_array()
        .expect("lines")
        .iter()
        .filter_map(Value::as_str)
        .filter(|line| line.starts_with(['+', '-']))
        .collect();
    assert_eq!(touched, ["-stopTimeout: 30s", "+stopTimeout: 45s"]);

    // What the coordinators alone know has its place, too.
    for (line, place) in [
        ("maxUnavailable: 3", "4:19: maxUnavailable: 3 at once is all of ledger, which has 3 members"),
        ("selector: { names: [node1] }", "4:3: rolling.selector: a rolling change covers its whole group"),
    ] {
        let file = write("rollout.yaml", &format!("kind: Rollout\nrolling:\n  group: ledger\n  {line}\n"));
        let refused = fleet.quorate(&["rollout", "plan", "-f", &file]).expect(2);
        assert!(refused.stderr.contains(&format!("error: {file}:{place}")), "{}", refused.stderr);
    }

    let _ = fleet.quorate(&["group", "delete", "spare", "--yes"]).expect(0);
    let _ = fleet.quorate(&["service", "delete", "spare", "--yes"]).expect(0);
    assert_eq!(revision(), ledger, "nothing else was touched");
    let schema = fleet.quorate(&["schema", "service"]).expect(0).json();
    assert_eq!(schema["properties"]["kind"]["const"], "Service");
}
