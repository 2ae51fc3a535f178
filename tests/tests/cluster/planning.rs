//! What a plan tells, and a schedule that is run by hand.

use quorate_tests::cluster::Fleet;

use crate::restart::LIMIT;

pub(crate) fn zones_and_time_are_told(fleet: &Fleet) {
    fleet.calm();
    let words = ["rollout", "plan", "--restart", "ledger", "--order", "zone", "--zone-label", "rack"];
    let plan = fleet.json(&words);
    let waves = &plan["work"]["rolling"]["waves"];
    assert_eq!((&waves["order"], &waves["zoneLabel"]), (&"ZONE".into(), &"rack".into()), "{plan:#}");
    let notes = plan["notes"].to_string();
    assert!(notes.contains("without a label rack, a zone of its own"), "{notes}");
    let estimate = &plan["estimate"];
    assert!(estimate["atMost"].is_string() && estimate["basis"].is_string(), "{plan:#}");
    let text = fleet.quorate(&words).expect(0).stdout;
    assert!(text.contains("Time") && text.contains("at most"), "{text}");
    let wrong = ["rollout", "plan", "--restart", "ledger", "--zone-label", "rack"];
    let _ = fleet.quorate(&wrong).expect(2);
}

pub(crate) fn a_schedule_is_run_by_hand(fleet: &Fleet) {
    fleet.calm();
    let words = ["schedule", "apply", "by-hand", "--rotate", "ledger", "--all", "--cron", "0 3 29 2 *"];
    let _ = fleet.quorate(&[&words[..], &["--zone", "UTC", "--reason", "full logs"]].concat()).expect(0);
    let runs =
        || fleet.json(&["schedule", "show", "by-hand"])["runs"].as_array().cloned().unwrap_or_default();
    let _ = fleet.quorate(&["schedule", "run", "by-hand", "--dry-run", "--yes"]).expect(0);
    assert!(runs().is_empty(), "a dry run starts nothing");
    let id = fleet.begin(&["schedule", "run", "by-hand", "--yes"]);
    let operation = fleet.ended(&id, LIMIT);
    assert_eq!(operation["state"], "SUCCEEDED", "{operation:#}");
    let runs = runs();
    assert_eq!(runs.len(), 1, "{runs:#?}");
    assert_eq!((&runs[0]["result"], &runs[0]["operation"]), (&"STARTED".into(), &id.as_str().into()));
    assert!(runs[0]["by"].as_str().is_some_and(|by| by.starts_with("user:")), "{runs:#?}");
    let _ = fleet.quorate(&["schedule", "pause", "by-hand"]).expect(0);
    let refused = fleet.quorate(&["schedule", "run", "by-hand", "--yes"]).expect(3);
    assert!(refused.stderr.contains("is paused"), "{}", refused.stderr);
    let _ = fleet.quorate(&["schedule", "delete", "by-hand", "--yes"]).expect(0);
}
