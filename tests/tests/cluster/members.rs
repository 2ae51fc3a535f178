//! The coordinators' own cluster: leadership handed over under load, members that may not go, and what is counted.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use quorate_tests::cluster::{Daemon, Fleet};
use quorate_tests::wait::wait_for;
use rustix::process::{Signal, kill_process};
use serde_json::Value;

/// An election after a failure waits out the lease of 2 s that a transfer does not.
const GAP_MS: u64 = 1_500;
/// For a member to stop, to come up again and to be listed.
const LIMIT: Duration = Duration::from_secs(60);

fn members(fleet: &Fleet) -> Vec<Value> {
    fleet.json(&["cluster", "members"])["members"].as_array().cloned().unwrap_or_default()
}

fn follower(fleet: &Fleet) -> String {
    let leader = fleet.leader();
    let names = fleet.coordinators().into_iter().map(|(name, ..)| name);
    names.into_iter().find(|name| *name != leader).expect("a follower")
}

/// `"0.021s"` in milliseconds.
fn gap_ms(answer: &Value) -> u64 {
    let text = answer["withoutLeader"].as_str().unwrap_or("0s");
    let seconds: f64 = text.trim_end_matches('s').parse().expect("a duration");
    std::time::Duration::from_secs_f64(seconds).as_millis().try_into().expect("a short time")
}

pub(crate) fn leadership_is_handed_over_under_load(fleet: &Fleet) {
    fleet.calm();
    let stop = Arc::new(AtomicBool::new(false));
    let written = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut written = BTreeSet::new();
            while !stop.load(Ordering::Relaxed) {
                let made =
                    fleet.quorate(&["token", "create", "--ttl", "10m", "--yes", "-o", "json"]).expect(0);
                let id = made.json()["enrollmentToken"]["tokenId"].as_str().expect("an id").to_owned();
                written.insert(id);
            }
            written
        });
        for _ in 0..4 {
            let (before, to) = (fleet.leader(), follower(fleet));
            let moved = fleet.json(&["cluster", "transfer-leader", &to, "--reason", "a test", "--yes"]);
            let gap = gap_ms(&moved);
            println!("  {before} -> {to}: {gap} ms without a leader");
            assert_eq!((&moved["leader"], &moved["moved"]), (&Value::from(to.as_str()), &Value::from(true)));
            assert_eq!(moved["previousLeader"], before.as_str());
            assert!(gap < GAP_MS, "{moved:#}");
            assert_eq!(fleet.leader(), to);
        }
        stop.store(true, Ordering::Relaxed);
        writer.join().expect("every write was acknowledged")
    });
    let listed = fleet.json(&["token", "list"]);
    let listed: BTreeSet<String> = listed["tokens"]
        .as_array()
        .expect("tokens")
        .iter()
        .filter_map(|token| token["tokenId"].as_str().map(str::to_owned))
        .collect();
    println!("  {} writes were acknowledged meanwhile", written.len());
    assert!(written.len() > 3, "{} writes", written.len());
    assert!(written.is_subset(&listed), "lost: {:?}", written.difference(&listed));
    let audit = fleet.json(&["audit", "tail", "--lines", "200"]).to_string();
    assert!(audit.contains("cluster.transfer_leader"), "who asked for it is on record");
}

pub(crate) fn a_transfer_that_cannot_end_well_is_refused(fleet: &Fleet) {
    fleet.calm();
    let leader = fleet.leader();
    let still = fleet.json(&["cluster", "transfer-leader", &leader, "--yes"]);
    assert_eq!((&still["leader"], &still["moved"]), (&Value::from(leader.as_str()), &Value::from(false)));
    let tried = fleet.json(&["cluster", "transfer-leader", "--dry-run"]);
    assert_ne!(tried["leader"], leader.as_str());
    assert_eq!(tried["moved"], false);
    assert_eq!(fleet.quorate(&["cluster", "transfer-leader", "coord9", "--yes"]).code, 6);
    assert_eq!(fleet.quorate(&["cluster", "transfer-leader"]).code, 2);
    assert_eq!(fleet.leader(), leader, "nothing of it moved anything");

    let down = follower(fleet);
    let pid = fleet.pid(Daemon::Coordinator(&down)).expect("it runs");
    kill_process(pid, Signal::STOP).expect("it can be stopped");
    let refused = fleet.quorate(&["cluster", "transfer-leader", &down, "--yes"]);
    let other = members(fleet)
        .iter()
        .filter_map(|m| m["name"].as_str())
        .find(|name| *name != down && *name != leader)
        .expect("three members")
        .to_owned();
    // With one that does not answer, nobody else may go: two voters need two.
    let kept = fleet.quorate(&["cluster", "remove", &other, "--dry-run"]);
    let dead = fleet.quorate(&["cluster", "remove", "--dead", "--dry-run"]);
    kill_process(pid, Signal::CONT).expect("it can go on");
    let refused = refused.expect(3);
    assert!(
        refused.stderr.contains("MEMBER_UNFIT") && refused.stderr.contains("does not answer"),
        "{refused:?}"
    );
    let kept = kept.expect(3);
    assert!(
        kept.stderr.contains("QUORUM_MARGIN") && kept.stderr.contains("2 voters, 1 up, needs 2"),
        "{kept:?}"
    );
    // Three are the least that a cleanup leaves.
    let dead = dead.expect(3);
    assert!(dead.stderr.contains("at least 3"), "{dead:?}");
    fleet.calm();
    assert_eq!(members(fleet).len(), 3);
}

pub(crate) fn a_leader_that_is_told_to_stop_hands_over(_: &Fleet) {
    // A fleet of its own: nobody starts a daemon again that ended as it was told.
    let fleet = Fleet::start(3, 1);
    let before = fleet.leader();
    let term = || members(&fleet).iter().filter_map(|m| m["term"].as_u64()).max().expect("a term");
    let old = term();
    let pid = fleet.pid(Daemon::Coordinator(&before)).expect("it runs");
    kill_process(pid, Signal::TERM).expect("it can be told");
    wait_for("another leader", LIMIT, || {
        let leader = fleet.leader();
        if leader == before { Err(leader) } else { Ok(()) }
    });
    let dirs = walkdir::WalkDir::new(fleet.dir()).into_iter().filter_map(Result::ok);
    let told = dirs.filter(|entry| entry.path().to_string_lossy().contains(&before)).any(|entry| {
        let text = std::fs::read_to_string(entry.path());
        entry.file_name() == "coordinator.log" && text.is_ok_and(|t| t.contains("leadership was handed over"))
    });
    assert!(told, "{before} did not hand over");
    assert_eq!(term(), old + 1, "one election was enough");
    drop(fleet.json(&["token", "create", "--ttl", "10m", "--yes"]));
}
