//! The process driver against real processes.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use super::record::{FORMAT, Phase, Record};
use super::unit::family_of;
use super::*;
use crate::host::proc;

const LONG: Duration = Duration::from_secs(20);

/// A shell is the program under supervision here, as any other would be; the driver itself never uses one.
fn shell(dir: &Path, script: &str) -> ProcessSpec {
    ProcessSpec {
        argv: vec!["/bin/sh".into(), "-c".into(), script.into()],
        cwd: dir.to_path_buf(),
        env: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]),
        log: dir.join("out.log"),
        settle_ms: 150,
    }
}

async fn driver(dir: &Path, spec: ProcessSpec) -> ProcessDriver {
    let specs = BTreeMap::from([("ledger".to_owned(), spec)]);
    ProcessDriver::open(&dir.join("run"), specs).await.expect("the run folder is usable")
}

async fn until<F: FnMut() -> bool>(what: &str, mut predicate: F) {
    let end = Instant::now() + LONG;
    while !predicate() {
        assert!(Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn log(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("out.log")).unwrap_or_default()
}

fn lines(dir: &Path, word: &str) -> usize {
    log(dir).lines().filter(|l| l.contains(word)).count()
}

#[tokio::test]
async fn start_status_stop() {
    let dir = tempfile::tempdir().expect("temp dir");
    let d = driver(dir.path(), shell(dir.path(), "echo started; exec sleep 1000")).await;
    let before = d.status("ledger").await.expect("status");
    assert_eq!((before.status.active.as_str(), before.evidence.running), ("inactive", false));

    let started = d.start("ledger", LONG).await.expect("starts");
    assert!(!started.already && started.leftovers.is_empty());
    let up = d.status("ledger").await.expect("status");
    assert_eq!((up.status.active.as_str(), up.status.load.as_str()), ("active", "loaded"));
    assert!(up.status.main_pid > 0 && up.evidence.start_ticks > 0 && up.evidence.starts == 1);
    assert_eq!(proc::stat(up.status.main_pid).expect("/proc").expect("alive").pgrp, up.status.main_pid);

    let again = d.start("ledger", LONG).await.expect("no change");
    assert!(again.already);
    assert!(again.unit.evidence.same_run(&up.evidence));

    let stopped = d.stop("ledger", LONG).await.expect("stops");
    assert!(!stopped.already && !stopped.escalated);
    assert_eq!(stopped.unit.status.active, "inactive");
    assert_eq!(stopped.unit.status.result, "success");
    assert_eq!(proc::stat(up.status.main_pid).expect("/proc"), None, "no zombie is left");
    assert!(d.stop("ledger", LONG).await.expect("no change").already);
    assert_eq!(lines(dir.path(), "started"), 1);
}

#[tokio::test]
async fn a_program_that_ends_at_once_is_not_started() {
    let dir = tempfile::tempdir().expect("temp dir");
    let d = driver(dir.path(), shell(dir.path(), "echo no configuration >&2; exit 3")).await;
    let e = d.start("ledger", LONG).await.expect_err("it ended");
    let text = e.full_text();
    assert!(matches!(e, HostError::NotStarted { .. }), "{text}");
    assert!(text.contains("exit code 3") && text.contains("no configuration"), "{text}");
    let reading = d.status("ledger").await.expect("status");
    assert_eq!(
        (reading.status.active.as_str(), reading.status.result.as_str(), reading.status.exit_status),
        ("failed", "exit-code", 3)
    );
    let mut missing = shell(dir.path(), "");
    missing.argv = vec!["/nonexistent/program".into()];
    d.declare(BTreeMap::from([("ledger".to_owned(), missing)])).await.expect("declared");
    assert!(matches!(d.start("ledger", LONG).await, Err(HostError::Io { .. })));
    assert_eq!(d.status("ledger").await.expect("status").evidence, reading.evidence, "no run began");
}

#[tokio::test]
async fn ignoring_sigterm_is_escalated_and_children_go_too() {
    let dir = tempfile::tempdir().expect("temp dir");
    let script = "trap '' TERM; sleep 1000 & setsid sleep 1001 & echo ready; while :; do sleep 1; done";
    let d = driver(dir.path(), shell(dir.path(), script)).await;
    d.start("ledger", LONG).await.expect("starts");
    until("ready", || lines(dir.path(), "ready") == 1).await;
    let unit = d.get("ledger").expect("declared");
    until("the setsid child runs", || family_of(&unit).iter().filter(|n| n.contains("sleep")).count() >= 2)
        .await;
    let effect = d.stop("ledger", Duration::from_millis(200)).await.expect("stops");
    assert!(effect.escalated);
    assert!(effect.leftovers.iter().filter(|n| n.contains("sleep")).count() >= 2, "{:?}", effect.leftovers);
    assert_eq!(family_of(&unit), Vec::<String>::new());
    assert_eq!(effect.unit.status.result, "timeout");
}

#[tokio::test]
async fn a_new_driver_adopts_what_the_old_one_started() {
    let dir = tempfile::tempdir().expect("temp dir");
    let spec = shell(dir.path(), "echo started; exec sleep 1000");
    let first = driver(dir.path(), spec.clone()).await;
    assert!(
        ProcessDriver::open(&dir.path().join("run"), BTreeMap::new()).await.is_err(),
        "one driver per folder"
    );
    first.start("ledger", LONG).await.expect("starts");
    let before = first.status("ledger").await.expect("status");
    drop(first);
    let second = driver(dir.path(), spec.clone()).await;
    let after = second.status("ledger").await.expect("status");
    assert_eq!(before.evidence, after.evidence);
    assert!(second.start("ledger", LONG).await.expect("no change").already);
    let restarted = second.restart("ledger", LONG, LONG).await.expect("restarts");
    assert_eq!(restarted.unit.evidence.starts, 2);
    assert!(!restarted.unit.evidence.same_run(&before.evidence));
    assert_eq!(lines(dir.path(), "started"), 2);
    second.stop("ledger", LONG).await.expect("stops");
}

#[tokio::test]
async fn a_crash_between_spawn_and_record_leads_to_one_copy() {
    let dir = tempfile::tempdir().expect("temp dir");
    let spec = shell(dir.path(), "echo started; exec sleep 1000");
    let d = driver(dir.path(), spec.clone()).await;
    d.start("ledger", LONG).await.expect("starts");
    let truth = d.status("ledger").await.expect("status");
    drop(d);
    // The record as it is between the two writes: the intent is durable, pid and start time are not.
    let path = dir.path().join("run/ledger.json");
    let intent = Record {
        format: FORMAT,
        intent: truth.evidence.invocation_id.clone(),
        boot_id: truth.evidence.boot_id.clone(),
        ..Record::default()
    };
    for damage in [None, Some(&b"{\"format\""[..]), Some(b"")] {
        match damage {
            None => record::store(&path, &intent).expect("stored"),
            Some(bytes) => std::fs::write(&path, bytes).expect("written"),
        }
        let d = driver(dir.path(), spec.clone()).await;
        let seen = d.status("ledger").await.expect("status");
        assert_eq!(seen.status.main_pid, truth.status.main_pid, "{damage:?}");
        assert_eq!(seen.evidence.invocation_id, truth.evidence.invocation_id);
        assert!(d.start("ledger", LONG).await.expect("no change").already);
    }
    std::fs::remove_file(&path).expect("removed");
    let d = driver(dir.path(), spec.clone()).await;
    assert!(d.start("ledger", LONG).await.expect("no change").already);
    assert_eq!(lines(dir.path(), "started"), 1);
    d.stop("ledger", LONG).await.expect("stops");
}

#[tokio::test]
async fn an_intent_that_never_spawned_leaves_the_former_run_as_it_was() {
    let dir = tempfile::tempdir().expect("temp dir");
    let spec = shell(dir.path(), "exec sleep 1000");
    let d = driver(dir.path(), spec.clone()).await;
    let before = d.status("ledger").await.expect("status");
    let path = dir.path().join("run/ledger.json");
    let mut record = d.get("ledger").expect("declared").record();
    record.intent = "feedfeedfeedfeed".into();
    record::store(&path, &record).expect("stored");
    drop(d);
    let d = driver(dir.path(), spec).await;
    let after = d.status("ledger").await.expect("status");
    assert_eq!(
        crate::host::judge(crate::host::Verb::Start, &before.evidence, &after),
        crate::host::Recovered::NotDone
    );
}

#[tokio::test]
async fn a_reused_pid_is_nobody_of_ours() {
    let dir = tempfile::tempdir().expect("temp dir");
    let spec = shell(dir.path(), "exec sleep 1000");
    drop(driver(dir.path(), spec.clone()).await);
    let me = proc::stat(std::process::id()).expect("/proc").expect("alive");
    let path = dir.path().join("run/ledger.json");
    let boot_id = clock::boot_id().expect("boot id");
    let record = Record {
        format: FORMAT,
        phase: Phase::Running,
        token: "gone".into(),
        boot_id,
        pid: me.pid,
        start_ticks: me.start_ticks + 1,
        ..Record::default()
    };
    record::store(&path, &record).expect("stored");
    let d = driver(dir.path(), spec).await;
    assert_eq!(d.status("ledger").await.expect("status").status.active, "failed");
    assert!(d.stop("ledger", LONG).await.expect("nothing to stop").already);
    // This test process would be dead had the pid alone been believed.
    assert_eq!(family_of(&d.get("ledger").expect("declared")), Vec::<String>::new());
}

#[tokio::test]
async fn a_crash_of_the_program_is_seen_with_its_reason() {
    let dir = tempfile::tempdir().expect("temp dir");
    let d = driver(dir.path(), shell(dir.path(), "exec sleep 1000")).await;
    let pid = d.start("ledger", LONG).await.expect("starts").unit.status.main_pid;
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).expect("fits")).expect("not 0");
    rustix::process::kill_process(pid, rustix::process::Signal::SEGV).expect("signal");
    let unit = d.get("ledger").expect("declared");
    until("the end is noted", || unit.record().phase == Phase::Ended).await;
    let s = d.status("ledger").await.expect("status").status;
    assert_eq!((s.active.as_str(), s.result.as_str(), s.exit_status), ("failed", "signal", 11));
}

#[tokio::test]
async fn reload_is_refused_where_it_would_kill() {
    // As the helper does. Without a handler of ours, a child of a shell that ignores SIGHUP (nohup) would ignore it, too.
    let _hangup = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).expect("a handler");
    let dir = tempfile::tempdir().expect("temp dir");
    let d = driver(dir.path(), shell(dir.path(), "exec sleep 1000")).await;
    assert!(matches!(d.reload("ledger", LONG).await, Err(HostError::NotReloadable { .. })));
    d.start("ledger", LONG).await.expect("starts");
    assert!(matches!(d.reload("ledger", LONG).await, Err(HostError::NotReloadable { .. })));
    let script = "trap 'echo reloaded' HUP; echo ready; while :; do sleep 0.05; done";
    d.declare(BTreeMap::from([("ledger".to_owned(), shell(dir.path(), script))])).await.expect("declared");
    d.restart("ledger", LONG, LONG).await.expect("restarts");
    until("ready", || lines(dir.path(), "ready") == 1).await;
    let before = d.status("ledger").await.expect("status");
    let effect = d.reload("ledger", LONG).await.expect("reloads");
    assert!(effect.unit.evidence.same_run(&before.evidence));
    until("reloaded", || lines(dir.path(), "reloaded") == 1).await;
    d.stop("ledger", LONG).await.expect("stops");
}

#[tokio::test]
async fn a_dropped_caller_does_not_cut_a_verb_in_half() {
    let dir = tempfile::tempdir().expect("temp dir");
    let d = driver(dir.path(), shell(dir.path(), "echo started; exec sleep 1000")).await;
    let cut = tokio::time::timeout(Duration::from_millis(1), d.start("ledger", LONG)).await;
    assert!(cut.is_err(), "the settle time is longer than that");
    let unit = d.get("ledger").expect("declared");
    until("it runs all the same", || unit.reading().is_ok_and(|r| r.evidence.running)).await;
    d.stop("ledger", LONG).await.expect("stops");
    assert_eq!(lines(dir.path(), "started"), 1);
}

#[tokio::test]
async fn hostile_declarations_are_refused() {
    let dir = tempfile::tempdir().expect("temp dir");
    let d = driver(dir.path(), shell(dir.path(), "exec sleep 1000")).await;
    let good = shell(dir.path(), "true");
    for name in ["", "../x", "-a", "a/b", "A", "a\nb", &"x".repeat(64)] {
        assert!(d.declare(BTreeMap::from([(name.to_owned(), good.clone())])).await.is_err(), "{name:?}");
    }
    let mut relative = good.clone();
    relative.argv = vec!["sh".into()];
    let mut empty = good.clone();
    empty.argv.clear();
    let mut nul = good.clone();
    nul.env.insert("A".into(), "x\0y".into());
    let mut named = good;
    named.env.insert("A=B".into(), "x".into());
    for spec in [relative, empty, nul, named] {
        assert!(d.declare(BTreeMap::from([("x".to_owned(), spec)])).await.is_err());
    }
    assert!(matches!(d.start("nobody", LONG).await, Err(HostError::NotFound { .. })));
    assert_eq!(d.status("nobody").await.expect("a reading").status.load, "not-found");
}
