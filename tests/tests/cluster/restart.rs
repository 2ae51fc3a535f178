//! The main job: a rolling restart never goes below quorum, whatever happens to the leading coordinator.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use quorate_tests::cluster::{Daemon, Fleet, Poll};
use quorate_tests::wait::wait_until;
use serde_json::Value;

/// A rolling restart of three takes about nine seconds here; a busy machine and an election take the rest.
pub(crate) const LIMIT: Duration = Duration::from_secs(150);
/// A rollout undisturbed by anything takes about this long: the leader is killed within it.
const MOMENTS_MS: u64 = 8_500;

/// Steps of one kind.
pub(crate) fn steps<'a>(operation: &'a Value, kind: &str) -> Vec<&'a Value> {
    let steps = operation["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
    steps.iter().filter(|step| step["kind"] == kind).collect()
}

/// Everything that is owed after a rolling restart that succeeded.
#[track_caller]
pub(crate) fn assert_restarted_once(fleet: &Fleet, operation: &Value, before: &BTreeMap<String, usize>) {
    assert_eq!(operation["state"], "SUCCEEDED", "{operation:#}");
    assert_eq!(operation["openObligations"], 0, "{operation:#}");
    assert_eq!(operation["openGrants"], 0, "{operation:#}");
    let restarts = steps(operation, "RESTART");
    assert_eq!(restarts.len(), before.len(), "{operation:#}");
    for step in restarts {
        assert_eq!((&step["state"], step["attempts"].as_u64()), (&"SUCCEEDED".into(), Some(1)), "{step:#}");
    }
    let wanted: BTreeMap<String, usize> = before.iter().map(|(node, n)| (node.clone(), n + 1)).collect();
    assert_eq!(fleet.starts(), wanted, "each instance starts exactly once");
}

pub(crate) fn rolling_restart_keeps_two_of_three(fleet: &Fleet) {
    fleet.calm();
    let before = fleet.starts();
    let poll = Poll::begin(fleet.instances());
    let done = fleet
        .quorate(&[
            "rollout",
            "start",
            "--restart",
            "ledger",
            "--wait",
            "--yes",
            "--timeout",
            "170s",
            "-o",
            "json",
        ])
        .expect(0);
    let tally = poll.end();
    println!("  {} looks, fewest serving {:?}, {} too slow", tally.looks, tally.fewest, tally.slow);
    assert_restarted_once(fleet, &done.json(), &before);
    tally.assert_quorum();
}

/// Random moments that can be repeated (splitmix64).
struct Moments(u64);

impl Moments {
    fn new() -> Self {
        let given = std::env::var("QUORATE_SEED").ok().and_then(|seed| seed.parse().ok());
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let seed = given.unwrap_or(now.as_secs());
        println!("  QUORATE_SEED={seed}");
        Self(seed)
    }

    fn next(&mut self) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Duration::from_millis((z ^ (z >> 31)) % MOMENTS_MS)
    }
}

pub(crate) fn leader_killed_at_a_random_moment(fleet: &Fleet) {
    let rounds = std::env::var("QUORATE_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(2_u32);
    let mut moments = Moments::new();
    let mut changes = 0_u32;
    for round in 1..=rounds {
        fleet.calm();
        let (before, leader, moment) = (fleet.starts(), fleet.leader(), moments.next());
        let poll = Poll::begin(fleet.instances());
        let begun = Instant::now();
        let id = fleet.begin(&["rollout", "start", "--restart", "ledger", "--yes"]);
        wait_until("the moment", LIMIT, || begun.elapsed() >= moment);
        fleet.kill(Daemon::Coordinator(&leader));
        let operation = fleet.ended(&id, LIMIT);
        let took = begun.elapsed();
        let tally = poll.end();
        let next = fleet.leader();
        changes += u32::from(next != leader);
        println!(
            "  round {round} of {rounds}: {leader} killed after {moment:?}, {next} leads, ended {} after {took:.1?}, {} looks, fewest {:?}, {} too slow",
            operation["state"], tally.looks, tally.fewest, tally.slow
        );
        assert_restarted_once(fleet, &operation, &before);
        tally.assert_quorum();
    }
    println!("  the leader changed in {changes} of {rounds} rounds");
    assert!(changes > 0, "a killed leader that always resumes shows nothing");
}
