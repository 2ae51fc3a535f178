//! Schedules: one that runs once although its leader is killed when it is due, and everything that may be said of one.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use quorate_model::Timestamp;
use quorate_tests::cluster::{Daemon, Fleet, Poll};
use quorate_tests::wait::{wait_for, wait_until};
use serde_json::Value;

use crate::restart::{LIMIT, assert_restarted_once};

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// The next full minute that leaves enough time to declare something before it: in seconds, as it is declared, as it is shown.
fn next_minute() -> (u64, String, String) {
    const ENOUGH: u64 = 10;
    let minute = (seconds() + ENOUGH).div_ceil(60) * 60;
    let shown = Timestamp(i64::try_from(minute * 1_000).expect("before 9999")).utc();
    (minute, shown.chars().take("2026-12-24T22:00".len()).collect(), shown)
}

fn runs(schedule: &Value) -> Vec<Value> {
    schedule["runs"].as_array().cloned().unwrap_or_default()
}

/// Operations that the schedule made.
fn made(fleet: &Fleet, name: &str) -> usize {
    let list = fleet.json(&["operation", "list"]);
    let by = format!("schedule:{name}");
    let rows = list["operations"].as_array().cloned().unwrap_or_default();
    rows.iter().filter(|row| row["createdBy"] == by.as_str()).count()
}

pub(crate) fn a_schedule_runs_once_across_leaders(fleet: &Fleet) {
    fleet.calm();
    let before = fleet.starts();
    let poll = Poll::begin(fleet.instances());
    let (minute, start, shown) = next_minute();
    let mut words = vec!["schedule", "apply", "soon", "--restart", "ledger", "--once", &start];
    words.extend(["--zone", "utc", "--missed", "run-once", "--reason", "memory grows"]);
    let _ = fleet.quorate(&words).expect(0);
    let declared = fleet.json(&["schedule", "show", "soon"]);
    assert_eq!(declared["next"][0]["local"], shown.replace('Z', "+00:00[UTC]"), "{declared:#}");
    let leader = fleet.leader();
    wait_until("the second before it is due", LIMIT, || seconds() + 1 >= minute);
    fleet.kill(Daemon::Coordinator(&leader));
    let first = wait_for("its run", LIMIT, || {
        let answer = fleet.quorate(&["schedule", "show", "soon", "-o", "json"]);
        if answer.code != 0 {
            return Err(answer.stderr);
        }
        let schedule = answer.json();
        runs(&schedule).into_iter().next().ok_or_else(|| schedule.to_string())
    });
    assert_eq!(
        (&first["result"], &first["due"]),
        (&Value::from("STARTED"), &Value::from(shown)),
        "{first:#}"
    );
    let id = first["operation"].as_str().expect("it made an operation").to_owned();
    // Whoever leads next has nothing left to do.
    let leader = fleet.leader();
    fleet.kill(Daemon::Coordinator(&leader));
    let operation = fleet.ended(&id, LIMIT);
    assert_restarted_once(fleet, &operation, &before);
    assert_eq!(operation["createdBy"], "schedule:soon", "{operation:#}");
    fleet.calm();
    let schedule = fleet.json(&["schedule", "show", "soon"]);
    assert_eq!((runs(&schedule).len(), made(fleet, "soon")), (1, 1), "{schedule:#}");
    assert_eq!(runs(&schedule)[0]["operationState"], "SUCCEEDED", "{schedule:#}");
    assert_eq!(schedule["next"].as_array().map_or(0, Vec::len), 0, "{schedule:#}");
    let audit = fleet.json(&["audit", "list", "--limit", "1000"]);
    let records = audit["records"].as_array().cloned().unwrap_or_default();
    let fired =
        records.iter().filter(|r| r["action"] == "schedule.fire" && r["resource"] == "schedules/soon");
    assert_eq!(fired.count(), 1, "{audit:#}");
    let _ = fleet.quorate(&["schedule", "delete", "soon", "--yes"]).expect(0);
    poll.end().assert_quorum();
}

pub(crate) fn schedules_are_declared(fleet: &Fleet) {
    fleet.calm();
    let names = || {
        let list = fleet.json(&["schedule", "list"]);
        assert_eq!(list["nextPageToken"], "", "{list:#}");
        let rows = list["schedules"].as_array().cloned().expect("a list");
        rows.iter().filter_map(|row| row["name"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    assert!(names().is_empty());
    let mut words = vec!["schedule", "apply", "weekly", "--restart", "ledger", "--cron", "0 3 * * 6"];
    words.extend(["--zone", "Europe/Berlin", "--overlap", "buffer-one", "--reason", "memory grows"]);
    let _ = fleet.quorate(&[&words[..], &["--dry-run"]].concat()).expect(0);
    assert!(names().is_empty(), "a dry run changes nothing");
    let _ = fleet.quorate(&words).expect(0);
    let text = fleet.quorate(&["schedule", "show", "weekly"]).expect(0).stdout;
    for wanted in ["restart ledger", "[Europe/Berlin]", "T03:00:00+0", "BUFFER_ONE", "It has not run yet."] {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    let _ = fleet.quorate(&["schedule", "pause", "weekly", "--reason", "a holiday"]).expect(0);
    assert_eq!(fleet.json(&["schedule", "show", "weekly"])["spec"]["paused"], true);
    let _ = fleet.quorate(&["schedule", "resume", "weekly"]).expect(0);
    let file = fleet.dir().join("schedule.yaml");
    let text = "kind: Schedule\nname: nightly\nreason: full logs\nzone: UTC\ncron: '30 2 * * *'\nwork:\n  rotate: { service: ledger }\n";
    fs::write(&file, text).expect("the fleet's directory is ours");
    let file = file.to_string_lossy().into_owned();
    for word in ["applied", "unchanged"] {
        let answer = fleet.quorate(&["schedule", "apply", "-f", &file]).expect(0);
        assert_eq!(answer.stdout.trim_end(), format!("schedule nightly {word}"));
    }
    let same = fleet.quorate(&["diff", "-f", &file, "--detailed-exitcode"]);
    assert_eq!(same.code, 0, "what was left out is no difference: {same:?}");
    let _ = fleet.quorate(&["status", "nightly"]).expect(0);
    let bad: &[(i32, &[&str])] = &[
        (2, &["apply", "bad"]),
        (2, &["apply", "bad", "--restart", "ledger", "--cron", "0 3 * * 6", "--zone", "UTC"]),
        (2, &["apply", "bad", "--cron", "0 3 * * 6", "--zone", "UTC", "--reason", "x"]),
        (2, &["apply", "bad", "--restart", "ledger", "--cron", "0 3 * *", "--zone", "UTC", "--reason", "x"]),
        (
            2,
            &[
                "apply",
                "bad",
                "--restart",
                "ledger",
                "--cron",
                "0 3 * * 6",
                "--zone",
                "Mars",
                "--reason",
                "x",
            ],
        ),
        (2, &["delete", "nightly"]),
        (6, &["show", "nothing"]),
        (6, &["pause", "nothing"]),
        (6, &["delete", "nothing", "--yes"]),
    ];
    for (code, args) in bad {
        let _ = fleet.quorate(&[&["schedule"], *args].concat()).expect(*code);
    }
    assert_eq!(names(), ["nightly", "weekly"]);
    for name in ["nightly", "weekly"] {
        let _ = fleet.quorate(&["schedule", "delete", name, "--yes"]).expect(0);
    }
    assert!(names().is_empty());
}
