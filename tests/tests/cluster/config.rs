//! Configuration files: checked before anything is touched, taken back when they are bad, and put back by a host alone when
//! nobody confirms them.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use quorate_tests::cluster::{Daemon, Fleet, Poll};
use quorate_tests::wait::{wait_for, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::restart::{LIMIT, steps};

/// The time that an unconfirmed file is given here, and some for a helper that is started again.
const CONFIRM: &str = "12s";
const PUT_BACK_LIMIT: Duration = Duration::from_secs(60);

fn file(fleet: &Fleet, node: &str) -> PathBuf {
    fleet.dir().join("apps").join("ledger").join(node).join("etc").join("settings.toml")
}

/// What each instance has.
fn contents(fleet: &Fleet) -> Vec<String> {
    let all = fleet.instances().into_iter();
    all.map(|instance| fs::read_to_string(file(fleet, &instance.node)).expect("it has settings")).collect()
}

fn pushed(fleet: &Fleet, content: &str) -> String {
    let path = fleet.dir().join("candidate.toml");
    fs::write(&path, content).expect("the fleet's folder is ours");
    let artifact = fleet.json(&["artifact", "push", &path.to_string_lossy()]);
    artifact["digest"].as_str().expect("a digest").to_owned()
}

fn begun(fleet: &Fleet, version: &str, digest: &str, more: &[&str]) -> String {
    let what = ["rollout", "start", "ledger", "--config", "settings", "--release", version];
    let how = ["--artifact", digest, "--canary", "1", "--on-failure", "rollback"];
    fleet.begin(&[&what[..], &how[..], more, &["--yes"]].concat())
}

fn assert_closed(operation: &Value) {
    assert_eq!(
        (&operation["openObligations"], &operation["openGrants"]),
        (&0.into(), &0.into()),
        "{operation:#}"
    );
}

pub(crate) fn a_good_one_is_rolled_out_and_confirmed(fleet: &Fleet) {
    fleet.calm();
    let before = fleet.starts();
    let content = "note = \"second\"\n";
    let digest = pushed(fleet, content);
    let compare = ["config", "diff", "ledger", "--config", "settings", "--artifact", &digest];
    let differs =
        fleet.quorate(&[&compare[..], &["--detailed-exitcode", "-o", "json"]].concat()).expect(8).json();
    let lines = differs["nodes"][0]["diff"].as_array().expect("a diff").clone();
    assert!(lines.contains(&"+note = \"second\"".into()), "{differs:#}");
    assert_eq!(fleet.starts(), before, "a comparison touches nothing");
    let poll = Poll::begin(fleet.instances());
    let operation = fleet.ended(&begun(fleet, "2", &digest, &[]), LIMIT);
    poll.end().assert_quorum();
    assert_eq!(operation["state"], "SUCCEEDED", "{operation:#}");
    assert_closed(&operation);
    assert_eq!(steps(&operation, "CONFIRM").len(), 3, "{operation:#}");
    assert_eq!(contents(fleet), [content; 3]);
    for (node, starts) in fleet.starts() {
        assert_eq!(starts, before[&node] + 1, "{node} is started once");
    }
    let _ = fleet.quorate(&[&compare[..], &["--detailed-exitcode"]].concat()).expect(0);
    let history = fleet.json(&["rollout", "history", "ledger", "--config", "settings"]);
    assert_eq!(history["releases"][0]["version"], "2", "{history:#}");
}

pub(crate) fn one_that_its_check_refuses_touches_nothing(fleet: &Fleet) {
    fleet.calm();
    let (before, had) = (fleet.starts(), contents(fleet));
    let digest = pushed(fleet, "note = \"third\"\ncolour = \"blue\"\n");
    let operation = fleet.ended(&begun(fleet, "3", &digest, &[]), LIMIT);
    assert_eq!(operation["state"], "FAILED", "{operation:#}");
    assert_closed(&operation);
    let refused = steps(&operation, "STAGE").into_iter().find(|step| step["state"] == "FAILED");
    let refused = refused.expect("a host refused it");
    assert_eq!(refused["reason"], "CONFIG_REJECTED", "{refused:#}");
    let printed = refused["outcome"]["outputTail"].as_str().unwrap_or_default();
    assert!(printed.contains("colour"), "what the check printed is told: {refused:#}");
    assert!(steps(&operation, "ACTIVATE").iter().all(|step| step["state"] == "SKIPPED"), "{operation:#}");
    assert_eq!((contents(fleet), fleet.starts()), (had, before));
}

pub(crate) fn one_that_turns_unhealthy_is_taken_back(fleet: &Fleet) {
    fleet.calm();
    let had = contents(fleet);
    let digest = pushed(fleet, "note = \"fourth\"\n[misbehave]\nunhealthy_after_ms = 0\n");
    let poll = Poll::begin(fleet.instances());
    let operation = fleet.ended(&begun(fleet, "4", &digest, &["--gate-timeout", "10s"]), LIMIT);
    poll.end().assert_quorum();
    assert_eq!(operation["state"], "ROLLED_BACK", "{operation:#}");
    assert_closed(&operation);
    assert_eq!(steps(&operation, "REVERT").len(), 1, "only the canary had it: {operation:#}");
    assert_eq!(contents(fleet), had);
    fleet.calm();
}

/// Stops the coordinators where they are, and lets them go on when dropped: nobody must find them stopped afterwards.
pub(crate) struct Silence(Vec<Pid>);

impl Silence {
    pub(crate) fn begin(fleet: &Fleet) -> Self {
        let names: Vec<String> = fleet.coordinators().into_iter().map(|(name, ..)| name).collect();
        let pids: Vec<Pid> = names.iter().filter_map(|name| fleet.pid(Daemon::Coordinator(name))).collect();
        assert_eq!(pids.len(), names.len(), "all of them run");
        for pid in &pids {
            kill_process(*pid, Signal::STOP).expect("it can be stopped");
        }
        Self(pids)
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        for pid in &self.0 {
            let _ = kill_process(*pid, Signal::CONT);
        }
    }
}

pub(crate) fn a_host_alone_puts_the_file_before_back(fleet: &Fleet) {
    fleet.calm();
    let shown = fleet.json(&["service", "show", "ledger"]);
    let sample = shown.get("spec").unwrap_or(&shown).clone();
    let declare = |confirm: Option<&str>| {
        let mut document = sample.clone();
        document["kind"] = "Service".into();
        if let Some(confirm) = confirm {
            document["configs"][0]["confirm"] = confirm.into();
        }
        let path = fleet.dir().join("ledger-config.json");
        fs::write(&path, document.to_string()).expect("the fleet's folder is ours");
        let _ = fleet.quorate(&["apply", "-f", &path.to_string_lossy(), "--yes"]).expect(0);
    };
    declare(Some(CONFIRM));
    let had = contents(fleet);
    // It answers 503 for so long that its gate is still waiting when everything else is gone.
    let digest = pushed(fleet, "note = \"fifth\"\n[misbehave]\nslow_start_ms = 600000\n");
    let id = begun(fleet, "5", &digest, &["--gate-timeout", "5m"]);
    let canary = wait_for("the canary to have it", LIMIT, || {
        let operation = fleet.operation(&id);
        let done = steps(&operation, "ACTIVATE").into_iter().find(|step| step["state"] == "SUCCEEDED");
        done.and_then(|step| step["node"].as_str().map(str::to_owned)).ok_or_else(|| operation.to_string())
    });
    let silence = Silence::begin(fleet);
    fleet.kill(Daemon::Agent(&canary));
    fleet.kill(Daemon::Helper(&canary));
    assert_ne!(contents(fleet), had, "it has not been put back yet: {canary}");
    let before = fleet.starts()[&canary];
    wait_until("the file from before to be back", PUT_BACK_LIMIT, || contents(fleet) == had);
    wait_until("the service to use it again", PUT_BACK_LIMIT, || fleet.starts()[&canary] > before);
    drop(silence);
    let _ = fleet.quorate(&["rollout", "abort", &id, "--yes"]);
    let operation = fleet.ended(&id, LIMIT);
    println!("  {canary}: {} ({})", operation["state"], operation["message"]);
    assert_closed(&operation);
    assert_eq!(contents(fleet), had);
    declare(None);
    fleet.calm();
}
