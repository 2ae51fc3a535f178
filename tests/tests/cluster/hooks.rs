//! Hooks of the hosts: a migration that is run once whoever leads, and upkeep on one member after the other.

use std::path::Path;

use quorate_tests::cluster::{Daemon, Fleet, Poll};
use quorate_tests::wait::wait_for;
use serde_json::Value;

use crate::restart::{LIMIT, steps};

/// Declares the migration on every host, as its administrator would. It notes each run, and ends when it is told to.
fn declare(fleet: &Fleet, dir: &Path) {
    let (log, go) = (dir.join("runs.log"), dir.join("go"));
    let script = format!(
        "echo $QUORATE_NODE $QUORATE_RELEASE >> {}; while ! test -e {}; do sleep 0.1; done",
        log.display(),
        go.display()
    );
    for instance in fleet.instances() {
        let place = fleet.dir().join("agents").join(&instance.node).join("agent.toml.d");
        std::fs::create_dir_all(&place).expect("a writable folder");
        let text = format!(
            "[policy]\nhooks = ['ledger-pause', 'ledger-resume', 'ledger-compact', 'ledger-migrate']\n\
             run_hooks = ['ledger-compact', 'ledger-migrate']\n\
             [hook.ledger-migrate]\nargv = ['/bin/sh', '-c', '{script}']\ntimeout = '10m'\n"
        );
        std::fs::write(place.join("migrate.toml"), text).expect("a writable folder");
        fleet.kill(Daemon::Helper(&instance.node));
    }
    fleet.calm();
    let mut service = fleet.json(&["service", "show", "ledger"])["spec"].clone();
    service["kind"] = "Service".into();
    service["migrate"] = serde_json::json!({ "hook": "ledger-migrate", "timeout": "600s" });
    let file = dir.join("ledger.json");
    std::fs::write(&file, service.to_string()).expect("a writable folder");
    let applied = fleet.quorate(&["apply", "-f", &file.display().to_string(), "--yes"]);
    assert_eq!(applied.code, 0, "{applied:?}");
}

fn runs(dir: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(dir.join("runs.log")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

pub(crate) fn a_migration_runs_once_though_its_leader_is_killed(_: &Fleet) {
    let fleet = Fleet::start(3, 3);
    let dir = tempfile::tempdir().expect("a temporary directory");
    declare(&fleet, dir.path());
    let artifact = fleet.json(&["artifact", "push", env!("CARGO_BIN_EXE_ledger_1_1_0")]);
    let digest = artifact["digest"].as_str().expect("a digest").to_owned();
    let release =
        ["rollout", "start", "ledger", "--release", "1.1.0", "--artifact", &digest, "--canary", "1"];
    let poll = Poll::begin(fleet.instances());
    let id = fleet.begin(&[&release[..], &["--yes"]].concat());
    wait_for("the migration to run", LIMIT, || match runs(dir.path()).as_slice() {
        [] => Err("nothing ran yet"),
        _ => Ok(()),
    });
    let leader = fleet.leader();
    fleet.kill(Daemon::Coordinator(&leader));
    // Whoever leads now finds it at work, and nobody is upgraded before it is through.
    let operation = fleet.operation(&id);
    let [once] = steps(&operation, "RUN_ONCE")[..] else { panic!("not one run: {operation:#}") };
    assert_eq!(once["state"], "RUNNING", "{operation:#}");
    let begun = |step: &&Value| step["state"] != "PENDING";
    assert_eq!(steps(&operation, "ACTIVATE").into_iter().filter(begun).count(), 0, "{operation:#}");
    // Another rollout of it is refused meanwhile.
    let again = fleet.quorate(&["rollout", "plan", "ledger", "--release", "1.1.0", "--artifact", &digest]);
    assert_eq!(again.code, 3, "{again:?}");
    std::fs::write(dir.path().join("go"), "").expect("a writable folder");
    let operation = fleet.ended(&id, LIMIT);
    poll.end().assert_quorum();
    println!("  {leader} killed, {} leads, ran {:?}", fleet.leader(), runs(dir.path()));
    assert_eq!(operation["state"], "SUCCEEDED", "{operation:#}");
    let [once] = steps(&operation, "RUN_ONCE")[..] else { panic!("not one run: {operation:#}") };
    assert_eq!((&once["state"], &once["attempts"]), (&"SUCCEEDED".into(), &1.into()), "{operation:#}");
    assert_eq!(once["outcome"]["exitCode"], 0, "{operation:#}");
    let node = once["node"].as_str().unwrap_or_default();
    assert_eq!(runs(dir.path()), [format!("{node} 1.1.0")], "exactly once");
    upkeep(&fleet);
}

/// A hook on every member, which disturbs nobody for long: nothing is restarted, and what is not allowed is rejected.
fn upkeep(fleet: &Fleet) {
    fleet.calm();
    let before = fleet.starts();
    let id = fleet.begin(&["rollout", "start", "ledger", "--run", "ledger-compact", "--yes"]);
    let operation = fleet.ended(&id, LIMIT);
    assert_eq!(operation["state"], "SUCCEEDED", "{operation:#}");
    let done = |step: &&Value| step["state"] == "SUCCEEDED" && step["outcome"]["exitCode"] == 0;
    assert_eq!(steps(&operation, "HOOK").into_iter().filter(done).count(), 3, "{operation:#}");
    assert_eq!(fleet.starts(), before, "nobody is restarted");
    let id = fleet.begin(&["rollout", "start", "ledger", "--run", "ledger-pause", "--yes"]);
    let operation = fleet.ended(&id, LIMIT);
    assert_eq!(operation["state"], "FAILED", "{operation:#}");
    let begun = steps(&operation, "HOOK").into_iter().filter(|step| step["state"] != "SKIPPED").count();
    assert_eq!(begun, 1, "{operation:#}");
}
