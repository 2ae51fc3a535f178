//! Releases: a binary upgrade of the sample, and broken ones that are taken back on the canary.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use quorate_tests::cluster::{Fleet, Poll, http};
use quorate_tests::wait::every;
use serde_json::Value;

use crate::restart::{LIMIT, steps};

/// Longest wait for one member's answer to a write.
pub(crate) const ASK: Duration = Duration::from_secs(2);
/// Longest that the client goes from member to member for one write: an election of the sample takes a second.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two writes.
const PACE: Duration = Duration::from_millis(25);
/// What must have been written, for the count of failed ones to say anything.
const WRITES_LEAST: usize = 20;

/// A client that writes all the time, and asks the next member when one does not take it.
pub(crate) struct Writer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(Vec<String>, Vec<String>)>,
}

impl Writer {
    pub(crate) fn begin(fleet: &Fleet, round: &'static str) -> Self {
        let members: Vec<SocketAddr> = fleet.instances().iter().map(|instance| instance.at).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut kept, mut failed) = (Vec::new(), Vec::new());
            every(PACE, || {
                let key = format!("{round}-{}", kept.len() + failed.len());
                match write(&members, &key) {
                    Ok(()) => kept.push(key),
                    Err(why) => failed.push(format!("{key}: {why}")),
                }
                !ended.load(Ordering::SeqCst)
            });
            (kept, failed)
        });
        Self { stop, thread }
    }

    /// The keys that were acknowledged; none may have failed.
    pub(crate) fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        let (kept, failed) = self.thread.join().expect("the writer does not panic");
        println!("  {} writes acknowledged, {} failed", kept.len(), failed.len());
        assert!(failed.is_empty(), "{failed:#?}");
        assert!(kept.len() >= WRITES_LEAST, "only {} writes: nothing was shown", kept.len());
        kept
    }
}

/// One write, to whoever takes it first.
fn write(members: &[SocketAddr], key: &str) -> Result<(), String> {
    let begun = Instant::now();
    let mut told = String::new();
    while begun.elapsed() < PATIENCE {
        for at in members {
            match http("PUT", *at, &format!("/kv/{key}"), key, ASK) {
                Ok((200, _)) => return Ok(()),
                Ok((status, body)) => told = format!("{at}: {status} {body}"),
                Err(error) => told = format!("{at}: {error}"),
            }
        }
    }
    Err(told)
}

/// What each member says it is.
pub(crate) fn versions(fleet: &Fleet) -> Vec<String> {
    let asked = fleet.instances().into_iter().map(|instance| {
        let (status, body) = http("GET", instance.at, "/health", "", ASK).expect("it answers");
        assert_eq!(status, 200, "{body}");
        let health: Value = serde_json::from_str(&body).expect("JSON");
        health["version"].as_str().unwrap_or_default().to_owned()
    });
    asked.collect()
}

/// Pushes a build of the sample; its digest.
pub(crate) fn pushed(fleet: &Fleet, program: &str) -> String {
    let artifact = fleet.json(&["artifact", "push", program]);
    artifact["digest"].as_str().expect("a digest").to_owned()
}

pub(crate) fn released(fleet: &Fleet, version: &str, digest: &str, more: &[&str]) -> Value {
    let flags = ["--release", version, "--artifact", digest, "--canary", "1", "--on-failure", "rollback"];
    let id = fleet.begin(&[&["rollout", "start", "ledger"], &flags[..], more, &["--yes"]].concat());
    fleet.ended(&id, LIMIT)
}

#[track_caller]
pub(crate) fn assert_closed(operation: &Value) {
    assert_eq!((&operation["openObligations"], &operation["openGrants"]), (&0.into(), &0.into()));
}

pub(crate) fn a_new_version_everywhere_and_no_write_fails(fleet: &Fleet) {
    fleet.calm();
    assert_eq!(versions(fleet), ["1.0.0"; 3]);
    let before = fleet.starts();
    let digest = pushed(fleet, env!("CARGO_BIN_EXE_ledger_1_1_0"));
    let (poll, writer) = (Poll::begin(fleet.instances()), Writer::begin(fleet, "upgrade"));
    let operation = released(fleet, "1.1.0", &digest, &[]);
    let kept = writer.end();
    let tally = poll.end();
    println!("  {} looks, fewest serving {:?}", tally.looks, tally.fewest);
    assert_eq!(operation["state"], "SUCCEEDED", "{operation:#}");
    assert_closed(&operation);
    tally.assert_quorum();
    assert_eq!(versions(fleet), ["1.1.0"; 3]);
    for (node, starts) in fleet.starts() {
        assert_eq!(starts, before[&node] + 1, "{node} is started once");
    }
    // What was acknowledged is there, whoever is asked.
    for (key, instance) in kept.iter().zip(fleet.instances().iter().cycle()) {
        let (status, body) = http("GET", instance.at, &format!("/kv/{key}"), "", ASK).expect("it answers");
        assert_eq!((status, body.as_str()), (200, key.as_str()), "{} has {key}", instance.node);
    }
    // The same again has nothing to do.
    let again = ["rollout", "plan", "ledger", "--release", "1.1.0", "--artifact", &digest];
    let refused = fleet.quorate(&again).expect(3);
    assert!(refused.stderr.contains("already"), "{}", refused.stderr);
}

/// A release that its canary does not survive: only the canary ran it, and everybody runs what they ran before.
fn taken_back(fleet: &Fleet, program: &str, flags: &[&str], evidence: &str) {
    fleet.calm();
    let (before, ran) = (fleet.starts(), versions(fleet));
    let digest = pushed(fleet, program);
    let (poll, writer) = (Poll::begin(fleet.instances()), Writer::begin(fleet, "broken"));
    let operation = released(fleet, "1.2.0", &digest, flags);
    drop(writer.end());
    poll.end().assert_quorum();
    assert_eq!(operation["state"], "ROLLED_BACK", "{operation:#}");
    assert_closed(&operation);
    let changed: Vec<&Value> =
        steps(&operation, "ACTIVATE").into_iter().filter(|step| step["state"] != "SKIPPED").collect();
    let [canary] = changed[..] else { panic!("more than the canary: {operation:#}") };
    let reverted = steps(&operation, "REVERT");
    assert_eq!(reverted.len(), 1, "{operation:#}");
    assert_eq!((&reverted[0]["node"], &reverted[0]["state"]), (&canary["node"], &"SUCCEEDED".into()));
    let failed = operation["steps"].as_array().into_iter().flatten().find(|step| step["state"] == "FAILED");
    let why = failed.and_then(|step| step["message"].as_str()).unwrap_or_default();
    println!("  taken back on {}: {why}", canary["node"]);
    assert!(why.contains(evidence), "{operation:#}");
    fleet.calm();
    assert_eq!(versions(fleet), ran);
    for (node, starts) in fleet.starts() {
        let more = if canary["node"] == node.as_str() { 2 } else { 0 };
        assert_eq!(starts, before[&node] + more, "{node}");
    }
}

pub(crate) fn one_that_turns_unhealthy_is_taken_back(fleet: &Fleet) {
    taken_back(fleet, env!("CARGO_BIN_EXE_ledger_1_2_0_unhealthy"), &["--gate-timeout", "10s"], "health");
}

pub(crate) fn one_that_crashes_at_once_is_taken_back(fleet: &Fleet) {
    taken_back(fleet, env!("CARGO_BIN_EXE_ledger_1_2_0_crash"), &[], "did not start");
}

pub(crate) fn one_that_fades_is_taken_back(fleet: &Fleet) {
    taken_back(fleet, env!("CARGO_BIN_EXE_ledger_1_2_0_fades"), &["--hold", "30s"], "UNHEALTHY");
}

pub(crate) fn back_to_the_release_before(fleet: &Fleet) {
    fleet.calm();
    // The first release that was recorded has none before it.
    let refused = fleet.quorate(&["rollout", "undo", "ledger", "--yes", "--detach"]).expect(6);
    println!("  {}", refused.stderr.lines().next().unwrap_or_default());
    let digest = pushed(fleet, env!("CARGO_BIN_EXE_ledger_1_0_0"));
    assert_eq!(released(fleet, "1.0.0", &digest, &[])["state"], "SUCCEEDED");
    assert_eq!(versions(fleet), ["1.0.0"; 3]);
    let poll = Poll::begin(fleet.instances());
    let id = fleet.begin(&["rollout", "undo", "ledger", "--yes"]);
    let operation = fleet.ended(&id, LIMIT);
    poll.end().assert_quorum();
    assert_eq!(operation["state"], "SUCCEEDED", "{operation:#}");
    assert_eq!(versions(fleet), ["1.1.0"; 3]);
    let history = fleet.json(&["rollout", "history", "ledger"]);
    let listed = history["releases"].as_array().expect("a list");
    assert!(listed.len() >= 2 && listed[0]["version"] == "1.1.0", "{history:#}");
}
