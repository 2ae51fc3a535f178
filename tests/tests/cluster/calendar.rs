//! Windows: one that holds a rollout and then opens by itself, and everything that may be said of one.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use quorate_model::Timestamp;
use quorate_tests::cluster::{Fleet, Poll};
use quorate_tests::wait::wait_for;
use serde_json::Value;

use crate::restart::{LIMIT, assert_restarted_once, steps};

/// Names of the windows there are.
fn windows(fleet: &Fleet) -> Vec<String> {
    let list = fleet.json(&["window", "list"]);
    assert_eq!(list["nextPageToken"], "", "{list:#}");
    let rows = list["windows"].as_array().cloned().expect("a list");
    rows.iter().filter_map(|row| row["name"].as_str().map(str::to_owned)).collect()
}

fn shown(fleet: &Fleet, name: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    wait_for(what, LIMIT, || {
        let window = fleet.json(&["window", "show", name]);
        if is_so(&window) { Ok(window) } else { Err(window.to_string()) }
    })
}

/// The next full minute that is not too near for what must happen before it, in UTC: as a window says it, and as it is shown.
fn next_minute() -> (String, String) {
    const ENOUGH: u64 = 20;
    minute_in(ENOUGH)
}

/// The first full minute in so many seconds.
fn minute_in(seconds: u64) -> (String, String) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let minute = (now + seconds).div_ceil(60) * 60;
    let shown = Timestamp(i64::try_from(minute * 1_000).expect("before 9999")).utc();
    (shown.chars().take("2026-12-24T22:00".len()).collect(), shown)
}

pub(crate) fn a_window_holds_and_opens(fleet: &Fleet) {
    fleet.calm();
    let before = fleet.starts();
    let poll = Poll::begin(fleet.instances());
    let (start, opens) = next_minute();
    let words = [
        "window",
        "apply",
        "soon",
        "--once",
        &start,
        "--zone",
        "utc",
        "--duration",
        "2h",
        "--service",
        "ledger",
        "--owner",
        "the desk",
        "--announce",
        "1h",
        "--reason",
        "agreed with the exchange",
    ];
    let _ = fleet.quorate(&words).expect(0);
    let window = shown(fleet, "soon", "its opening to be known", |window| window["state"] == "UPCOMING");
    assert_eq!(window["openings"][0]["localStart"], opens.replace('Z', "+00:00[UTC]"), "{window:#}");
    assert_eq!(window["openings"].as_array().map(Vec::len), Some(1), "{window:#}");
    let planned = fleet.quorate(&["rollout", "plan", "--restart", "ledger"]).expect(0);
    let told = format!("window soon: closed until {opens}, then open for 2h; 3 of 3 steps fit");
    assert!((planned.stdout.clone() + &planned.stderr).contains(&told), "{planned:?}");
    let id = fleet.begin(&["rollout", "start", "--restart", "ledger", "--yes"]);
    let held = wait_for("the rollout to wait for the window", LIMIT, || {
        let operation = fleet.operation(&id);
        let reason = &operation["conditions"][0]["reason"];
        if *reason == "WINDOW_CLOSED" { Ok(operation) } else { Err(operation.to_string()) }
    });
    assert_eq!(
        held["conditions"][0]["message"],
        format!("window soon is closed (opens {opens})"),
        "{held:#}"
    );
    assert!(steps(&held, "RESTART").iter().all(|step| step["state"] == "PENDING"), "{held:#}");
    assert_eq!(fleet.starts(), before, "nothing has begun");
    let explained = fleet.quorate(&["explain", &id]).expect(0).stdout;
    for wanted in ["window soon is closed", "the desk", "reason: WINDOW_CLOSED"] {
        assert!(explained.contains(wanted), "{explained}");
    }
    let refused = fleet.quorate(&["node", "drain", "node3", "--yes"]).expect(3);
    assert!(refused.stderr.contains("reason: WINDOW_CLOSED"), "{}", refused.stderr);
    // It opens by itself, was announced once, and what waited goes on.
    let ended = fleet.ended(&id, LIMIT);
    let begun =
        steps(&ended, "RESTART").iter().filter_map(|step| step["started"].as_str().map(str::to_owned)).min();
    assert!(
        begun.clone().expect("it began").as_str() >= opens.trim_end_matches('Z'),
        "{begun:?} before {opens}"
    );
    assert_restarted_once(fleet, &ended, &before);
    assert_eq!(fleet.json(&["window", "show", "soon"])["state"], "OPEN");
    let audit = fleet.json(&["audit", "tail", "-n", "1000"]);
    let records = audit["records"].as_array().cloned().unwrap_or_default();
    let announced = records
        .iter()
        .filter(|record| record["action"] == "window.announced" && record["resource"] == "windows/soon");
    assert_eq!(announced.count(), 1, "{audit:#}");
    let _ = fleet.quorate(&["window", "delete", "soon", "--yes"]).expect(0);
    poll.end().assert_quorum();
}

pub(crate) fn windows_are_declared(fleet: &Fleet) {
    fleet.calm();
    assert!(windows(fleet).is_empty());
    let words = [
        "window",
        "apply",
        "saturdays",
        "--cron",
        "0 22 * * 6",
        "--zone",
        "Europe/Berlin",
        "--duration",
        "4h",
        "--node",
        "node5",
        "--reason",
        "agreed with the exchange",
    ];
    let _ = fleet.quorate(&[&words[..], &["--dry-run"]].concat()).expect(0);
    assert!(windows(fleet).is_empty(), "a dry run changes nothing");
    let _ = fleet.quorate(&words).expect(0);
    let window = shown(fleet, "saturdays", "five openings", |window| {
        window["openings"].as_array().is_some_and(|openings| openings.len() == 5)
    });
    for (field, value) in [
        ("zone", Value::from("Europe/Berlin")),
        ("cron", "0 22 * * 6".into()),
        ("duration", "14400s".into()),
        ("announce", vec!["1209600s", "604800s", "86400s", "3600s"].into()),
    ] {
        assert_eq!(window["spec"][field], value, "{window:#}");
    }
    let text = fleet.quorate(&["window", "show", "saturdays"]).expect(0).stdout;
    assert!(text.contains("T22:00:00+0") && text.contains("[Europe/Berlin]"), "{text}");
    let file = fleet.dir().join("window.yaml");
    // A year ahead.
    let (start, _) = minute_in(366 * 86_400);
    let text = format!(
        "kind: Window\nname: christmas\nreason: nobody trades\nselector: {{ names: [node5] }}\nzone: UTC\nstart: {start}\nduration: 3600s\nquiet: true\n"
    );
    fs::write(&file, text).expect("the fleet's directory is ours");
    let file = file.to_string_lossy().into_owned();
    for word in ["applied", "unchanged"] {
        let answer = fleet.quorate(&["window", "apply", "-f", &file]).expect(0);
        assert_eq!(answer.stdout.trim_end(), format!("window christmas {word}"));
    }
    let _ = fleet.quorate(&["status", "christmas"]).expect(0);
    declared_badly(fleet, &file);
    assert_eq!(windows(fleet), ["christmas", "saturdays"]);
    for name in ["christmas", "saturdays"] {
        let _ = fleet.quorate(&["window", "delete", name, "--yes"]).expect(0);
    }
    assert!(windows(fleet).is_empty());
}

/// Bad input, by its exit code; nothing of it is kept.
fn declared_badly(fleet: &Fleet, file: &str) {
    let bad: &[(i32, &[&str])] = &[
        (2, &["apply", "bad"]),
        (2, &["apply", "bad", "--cron", "0 22 * * 6", "--zone", "UTC", "--duration", "4h"]),
        (2, &["apply", "bad", "--cron", "* 22 * * 6", "--zone", "UTC", "--duration", "4h", "--reason", "x"]),
        (2, &["apply", "bad", "--cron", "0 22 * * 6", "--zone", "Mars", "--duration", "4h", "--reason", "x"]),
        (2, &["apply", "bad", "--cron", "0 22 * * 6", "--zone", "UTC", "--duration", "8d", "--reason", "x"]),
        (
            2,
            &[
                "apply",
                "bad",
                "--once",
                "2001-01-01T00:00",
                "--zone",
                "UTC",
                "--duration",
                "1h",
                "--reason",
                "x",
            ],
        ),
        (2, &["apply", "bad", "-f", file]),
        (2, &["delete", "christmas"]),
        (6, &["show", "nothing"]),
        (6, &["delete", "nothing", "--yes"]),
    ];
    for (code, args) in bad {
        let _ = fleet.quorate(&[&["window"], *args].concat()).expect(*code);
    }
}
