//! A policy, and two people: one asks, the other lets it begin or not.

use quorate_tests::cluster::{Answer, Fleet, Poll};

use crate::identity::enroll_user;
use crate::restart::{LIMIT, assert_restarted_once, steps};

/// The approvals that are waited for.
fn pending(fleet: &Fleet) -> Vec<serde_json::Value> {
    let list = fleet.json(&["approval", "list"]);
    list["approvals"].as_array().cloned().expect("a list")
}

pub(crate) fn nothing_begins_before_somebody_else_says_yes(fleet: &Fleet) {
    fleet.calm();
    let before = fleet.starts();
    let poll = Poll::begin(fleet.instances());
    let dir = enroll_user(fleet, "cora", "operator");
    let file = |name: &str| dir.join(name).to_string_lossy().into_owned();
    let (cert, key) = (file("cert.pem"), file("key.pem"));
    let cora = |args: &[&str]| -> Answer {
        fleet.quorate_with(&[("QUORATE_CLIENT_CERT", &cert), ("QUORATE_CLIENT_KEY", &key)], args)
    };
    let words = ["policy", "apply", "four-eyes", "--service", "ledger", "--kind", "rollout"];
    let words = [&words[..], &["--reason", "nobody alone"]].concat();
    let _ = cora(&words).expect(7);
    let _ = fleet.quorate(&words).expect(0);
    assert_eq!(fleet.json(&["policy", "show", "four-eyes"])["spec"]["approvals"], 1);
    let planned = ["rollout", "plan", "--restart", "ledger", "--diff", "--detailed-exitcode"];
    let planned = fleet.quorate(&planned).expect(8).stdout;
    assert!(planned.contains("policy four-eyes: "), "{planned}");

    let id = fleet.begin(&["rollout", "start", "--restart", "ledger", "--yes"]);
    let held = fleet.operation(&id);
    assert_eq!(
        (&held["state"], &held["conditions"][0]["reason"]),
        (&"AWAITING_APPROVAL".into(), &"APPROVAL".into())
    );
    let hash = pending(fleet)[0]["planHash"].as_str().expect("a hash").to_owned();
    let yes = ["approval", "approve", &id, "--reason", "seen", "--yes"];
    let _ = fleet.quorate(&yes).expect(7);
    let _ = cora(&[&yes[..], &["--plan", "0123456789abcdef"]].concat()).expect(3);
    let explained = fleet.quorate(&["explain", &id]).expect(0).stdout;
    for wanted in ["policy four-eyes", "any operator", "reason: APPROVAL_REQUIRED"] {
        assert!(explained.contains(wanted), "{explained}");
    }
    assert!(steps(&held, "RESTART").iter().all(|step| step["state"] == "PENDING"), "{held:#}");
    assert_eq!(fleet.starts(), before, "nothing has begun");
    let _ = cora(&[&yes[..], &["--plan", &hash[..12]]].concat()).expect(0);
    let ended = fleet.ended(&id, LIMIT);
    assert_restarted_once(fleet, &ended, &before);

    let after = fleet.starts();
    let id = fleet.begin(&["rollout", "start", "--restart", "ledger", "--yes"]);
    let _ = cora(&["approval", "reject", &id, "--reason", "not today", "--yes"]).expect(0);
    let rejected = fleet.operation(&id);
    assert_eq!(rejected["state"], "CANCELED", "{rejected:#}");
    assert!(rejected["message"].as_str().is_some_and(|text| text.contains("not today")), "{rejected:#}");
    assert!(pending(fleet).is_empty());
    assert_eq!(fleet.starts(), after);
    let _ = fleet.quorate(&["policy", "delete", "four-eyes", "--yes"]).expect(0);
    poll.end().assert_quorum();
}
