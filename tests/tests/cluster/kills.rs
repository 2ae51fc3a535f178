//! Kill points with real processes: releases go back and forth on one fleet, and in each rollout somebody is killed (SIGKILL)
//! at the n-th change of the operation that is seen, both by seed. The supervisor starts them again. How many changes there
//! are is counted in a rollout without a kill, and again whenever one was shorter than the point that was drawn for it.
//!
//! `QUORATE_KILL_POINTS` is the number of points (2 here, 60 for a release), `QUORATE_SEED` repeats the draws of a run.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime};

use quorate_common::task::Entropy;
use quorate_tests::cluster::{Daemon, Fleet, Poll};
use quorate_tests::wait::wait_for;
use serde_json::Value;

use crate::restart::{LIMIT, steps};
use crate::upgrade::{assert_closed, pushed, versions};

/// Points of the gate.
const GATE: u64 = 2;
/// Points of this sort in all; the other 940 of a thousand are simulated.
const MOST: u64 = 60;
/// The change at which nobody is killed.
const NEVER: usize = usize::MAX;

/// Who can be killed.
const WHO: [&str; 6] = ["leader", "follower", "agent", "helper", "both halves", "all"];

/// Ended for good.
const TERMINAL: [&str; 4] = ["SUCCEEDED", "FAILED", "CANCELED", "ROLLED_BACK"];

struct Draws(Entropy);

impl Draws {
    fn new() -> Self {
        let given = std::env::var("QUORATE_SEED").ok().and_then(|seed| seed.parse().ok());
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let seed = given.unwrap_or(now.as_secs());
        println!("  QUORATE_SEED={seed}");
        Self(Entropy::seeded(seed))
    }

    fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).unwrap_or(1).max(1);
        usize::try_from(self.0.next_u64() % limit).unwrap_or(0)
    }
}

/// Waits for the n-th change of an operation that is seen; the number of changes when it ended with fewer.
fn nth_change(fleet: &Fleet, id: &str, nth: usize) -> Result<(), usize> {
    let (mut seen, mut last) = (0, Value::Null);
    wait_for("the moment", LIMIT, || {
        let operation = fleet.operation(id);
        if TERMINAL.iter().any(|state| operation["state"] == *state) {
            return Ok(Err(seen));
        }
        if operation["revision"] != last {
            (seen, last) = (seen + 1, operation["revision"].clone());
        }
        if seen >= nth { Ok(Ok(())) } else { Err(operation.to_string()) }
    })
}

fn kill(fleet: &Fleet, draws: &mut Draws, who: &str) -> Vec<String> {
    let leader = fleet.leader();
    let members: Vec<String> = fleet.coordinators().into_iter().map(|(name, _, _)| name).collect();
    let followers: Vec<String> = members.iter().filter(|name| **name != leader).cloned().collect();
    let nodes: Vec<String> = fleet.instances().into_iter().map(|instance| instance.node).collect();
    let node = nodes[draws.below(nodes.len())].as_str();
    let victims: Vec<Daemon<'_>> = match who {
        "leader" => vec![Daemon::Coordinator(&leader)],
        "follower" => vec![Daemon::Coordinator(&followers[draws.below(followers.len())])],
        "agent" => vec![Daemon::Agent(node)],
        "helper" => vec![Daemon::Helper(node)],
        "both halves" => vec![Daemon::Agent(node), Daemon::Helper(node)],
        _ => {
            let halves = nodes.iter().flat_map(|node| [Daemon::Agent(node), Daemon::Helper(node)]);
            members.iter().map(|name| Daemon::Coordinator(name)).chain(halves).collect()
        }
    };
    for victim in &victims {
        fleet.kill(*victim);
    }
    victims.iter().map(|victim| format!("{victim:?}")).collect()
}

/// Each instance was started as often as the operation says that it did something there, and never more often.
#[track_caller]
fn assert_once(operation: &Value, before: &BTreeMap<String, usize>, after: &BTreeMap<String, usize>) {
    for (node, starts) in after {
        let begun = starts - before[node];
        let of = |kind| steps(operation, kind).into_iter().filter(|step| step["node"] == node.as_str());
        let work: Vec<&Value> = of("ACTIVATE").chain(of("REVERT")).collect();
        let done = work.iter().filter(|step| step["state"] == "SUCCEEDED").count();
        let never =
            work.iter().filter(|step| step["state"] == "SKIPPED" || step["state"] == "PENDING").count();
        if done + never == work.len() {
            assert_eq!(begun, done, "{node}: {operation:#}");
        } else {
            assert!(begun <= work.len() - never, "{node} was started {begun} times: {operation:#}");
        }
    }
}

/// What runs fits how the rollout ended.
#[track_caller]
fn assert_in_use(operation: &Value, version: &str, had: &[String], now: &[String]) {
    match operation["state"].as_str().unwrap_or_default() {
        "SUCCEEDED" => assert!(now.iter().all(|one| one == version), "{now:?}: {operation:#}"),
        "ROLLED_BACK" => assert_eq!(now, had, "{operation:#}"),
        _ => {
            assert_ne!(operation["message"], "", "a failure says why: {operation:#}");
            let known = had.iter().zip(now).all(|(had, now)| now == had || now == version);
            assert!(known, "{now:?}: {operation:#}");
        }
    }
}

pub(crate) fn rollouts_end_whoever_is_killed(fleet: &Fleet) {
    let wanted = std::env::var("QUORATE_KILL_POINTS").ok().and_then(|n| n.parse::<u64>().ok());
    let points = wanted.unwrap_or(GATE).min(MOST);
    let mut draws = Draws::new();
    fleet.calm();
    let releases = [
        ("1.0.0", pushed(fleet, env!("CARGO_BIN_EXE_ledger_1_0_0"))),
        ("1.1.0", pushed(fleet, env!("CARGO_BIN_EXE_ledger_1_1_0"))),
    ];
    let (mut kills, mut ends) = (BTreeMap::<&str, u64>::new(), BTreeMap::<String, u64>::new());
    let (mut rounds, mut length) = (0, None);
    while kills.values().sum::<u64>() < points {
        rounds += 1;
        assert!(rounds <= 2 * points + 4, "too few of the drawn points are ever reached: {kills:?}");
        fleet.calm();
        let (had, before) = (versions(fleet), fleet.starts());
        let (version, digest) =
            if had.iter().all(|version| version == "1.1.0") { &releases[0] } else { &releases[1] };
        let who = WHO[draws.below(WHO.len())];
        let nth = length.map_or(NEVER, |length| 1 + draws.below(length));
        let failing = ["rollback", "abort"][draws.below(2)];
        let (poll, begun) = (Poll::begin(fleet.instances()), Instant::now());
        let flags = ["--release", version, "--artifact", digest, "--canary", "1", "--on-failure", failing];
        let id = fleet.begin(&[&["rollout", "start", "ledger"], &flags[..], &["--yes"]].concat());
        let victims = match nth_change(fleet, &id, nth) {
            Ok(()) => kill(fleet, &mut draws, who),
            Err(seen) => {
                length = Some(seen.max(1));
                Vec::new()
            }
        };
        let operation = fleet.ended(&id, LIMIT);
        let tally = poll.end();
        let state = operation["state"].as_str().unwrap_or_default();
        println!(
            "  round {rounds}: {} -> {version}, change {nth}, {who} {}: {state} after {:.1?}, fewest {:?}",
            had[0],
            if victims.is_empty() { "spared".to_owned() } else { victims.join(" ") },
            begun.elapsed(),
            tally.fewest,
        );
        if !victims.is_empty() {
            *kills.entry(who).or_default() += 1;
        }
        *ends.entry(state.to_owned()).or_default() += 1;
        assert!(tally.below.is_empty(), "fewer than 2 of 3 served: {tally:?}\n{operation:#}");
        assert_closed(&operation);
        fleet.calm();
        assert_once(&operation, &before, &fleet.starts());
        assert_in_use(&operation, version, &had, &versions(fleet));
    }
    println!("  {points} kill points with real processes: {kills:?}; terminal states {ends:?}");
}
