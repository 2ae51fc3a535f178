//! Activate and revert: the link, the record and the unit.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use quorate_model::{ActionOutcome, ExecutionId, Reason, Release};

use super::{activate, arrive, host, release, revert, stage};
use crate::actions::testing::{Bench, Misbehave, locked};
use crate::actions::{ActionError, execute, finish};

async fn staged(root: &Path, b: &Bench, version: &str) -> Release {
    let bytes = version.as_bytes();
    let one = release(root, version, bytes);
    arrive(root, &one, bytes);
    execute(&b.context, &stage(&one)).await.expect("staged");
    one
}

async fn done(
    b: &mut Bench,
    id: &str,
    spec: &quorate_model::ActionSpec,
) -> Result<ActionOutcome, ActionError> {
    b.context.execution = ExecutionId::new(id).expect("an id");
    locked(&b.unit.calls).clear();
    execute(&b.context, spec).await
}

fn used(root: &Path) -> String {
    fs::read_to_string(root.join("opt/current/ledger")).unwrap_or_default()
}

fn calls(b: &Bench) -> Vec<&'static str> {
    locked(&b.unit.calls).clone()
}

#[tokio::test]
async fn a_release_goes_into_use_and_out_again() {
    let (dir, mut b) = host(true);
    let (one, two) = (staged(dir.path(), &b, "1.0").await, staged(dir.path(), &b, "2.0").await);
    done(&mut b, "x-1", &activate(&one)).await.expect("activated");
    assert_eq!((used(dir.path()).as_str(), calls(&b)), ("1.0", vec!["stop", "start"]));
    let outcome = done(&mut b, "x-2", &activate(&two)).await.expect("activated");
    let receipt = outcome.release.expect("a receipt");
    assert_eq!((receipt.version.as_str(), receipt.previous.as_str()), ("2.0", "1.0"));
    assert_eq!(receipt.artifact, two.artifact.as_str());
    assert!(outcome.unit.is_some());
    assert_eq!(used(dir.path()), "2.0");
    done(&mut b, "x-3", &activate(&two)).await.expect("in use already");
    assert_eq!(calls(&b), Vec::<&str>::new(), "nothing is disturbed for nothing");
    let outcome = done(&mut b, "x-4", &revert(&two)).await.expect("reverted");
    let receipt = outcome.release.expect("a receipt");
    assert_eq!((receipt.version.as_str(), receipt.previous.as_str()), ("1.0", "2.0"));
    assert_eq!((used(dir.path()).as_str(), calls(&b)), ("1.0", vec!["stop", "start"]));
    done(&mut b, "x-5", &revert(&two)).await.expect("not in use");
    assert_eq!(calls(&b), Vec::<&str>::new());
    b.unit.end_now();
    done(&mut b, "x-6", &revert(&two)).await.expect("only started");
    assert_eq!(calls(&b), ["start"]);
    done(&mut b, "x-7", &revert(&one)).await.expect("back to nothing");
    assert!(!dir.path().join("opt/current").exists());
}

#[tokio::test]
async fn a_release_that_does_not_start_stays_until_it_is_reverted() {
    let (dir, mut b) = host(true);
    let (one, two) = (staged(dir.path(), &b, "1.0").await, staged(dir.path(), &b, "2.0").await);
    done(&mut b, "x-1", &activate(&one)).await.expect("activated");
    for (id, how) in [("x-2", Misbehave::RefusesStart), ("x-3", Misbehave::CrashesAtStart)] {
        *locked(&b.unit.misbehave) = how;
        let error = done(&mut b, id, &activate(&two)).await.expect_err("it does not start");
        assert_eq!(error.reason(), Reason::ActionFailed, "{error}");
        let outcome = error.into_outcome();
        assert!(outcome.message.contains("stays in use"), "{outcome:?}");
        assert_eq!(outcome.release.map(|r| r.version).as_deref(), Some("2.0"), "{how:?}");
        assert_eq!(used(dir.path()), "2.0");
    }
    *locked(&b.unit.misbehave) = Misbehave::No;
    let outcome = done(&mut b, "x-4", &revert(&two)).await.expect("reverted");
    assert_eq!(outcome.unit.map(|u| u.active).as_deref(), Some("active"));
    assert_eq!(used(dir.path()), "1.0");
}

#[tokio::test]
async fn a_stop_that_needs_force_is_told() {
    let (dir, mut b) = host(true);
    let one = staged(dir.path(), &b, "1.0").await;
    *locked(&b.unit.misbehave) = Misbehave::HangsOnStop;
    assert!(done(&mut b, "x-1", &activate(&one)).await.expect("activated").escalated);
}

#[tokio::test]
async fn nothing_is_disturbed_for_what_is_not_ready() {
    let (dir, mut b) = host(true);
    let missing = release(dir.path(), "1.0", b"1.0");
    let error = done(&mut b, "x-1", &activate(&missing)).await.expect_err("not staged");
    assert_eq!(error.reason(), Reason::WrongState, "{error}");
    let one = staged(dir.path(), &b, "1.0").await;
    let name = super::super::exec::staged_name(&one);
    fs::write(dir.path().join("opt/releases").join(&name).join("ledger"), b"evil").unwrap();
    let error = done(&mut b, "x-2", &activate(&one)).await.expect_err("changed since");
    assert_eq!(error.reason(), Reason::WrongState, "{error}");
    let two = staged(dir.path(), &b, "2.0").await;
    b.context.install.unsigned = false;
    let error = done(&mut b, "x-3", &activate(&two)).await.expect_err("trusted no more");
    assert_eq!(error.reason(), Reason::SignatureInvalid, "{error}");
    b.context.install.unsigned = true;
    let error = done(&mut b, "x-4", &revert(&two)).await;
    error.expect("not in use: nothing to leave");
    symlink(format!("releases/{}", super::super::exec::staged_name(&two)), dir.path().join("opt/current"))
        .unwrap();
    let error = done(&mut b, "x-5", &revert(&two)).await.expect_err("nobody knows what was before");
    assert_eq!(error.reason(), Reason::WrongState, "{error}");
    assert_eq!(calls(&b), Vec::<&str>::new());
    fs::remove_file(dir.path().join("opt/current")).unwrap();
    fs::create_dir(dir.path().join("opt/current")).unwrap();
    let error = done(&mut b, "x-6", &activate(&two)).await.expect_err("a folder is in the way");
    assert_eq!(error.reason(), Reason::AlreadyExists, "{error}");
    assert_eq!(calls(&b), Vec::<&str>::new());
}

#[tokio::test]
async fn a_damaged_record_is_told_and_not_made_up() {
    let (dir, mut b) = host(true);
    let one = staged(dir.path(), &b, "1.0").await;
    for entry in fs::read_dir(dir.path().join("releases")).unwrap().flatten() {
        if entry.path().extension().is_some_and(|e| e == "json") {
            fs::write(entry.path(), b"{").unwrap();
        }
    }
    let error = done(&mut b, "x-1", &activate(&one)).await.expect_err("it can not be read");
    assert!(matches!(error, ActionError::Record { .. }), "{error}");
    assert_eq!(calls(&b), Vec::<&str>::new());
}

#[tokio::test]
async fn what_was_in_use_by_another_hand_is_the_way_back() {
    let (dir, mut b) = host(true);
    fs::create_dir(dir.path().join("opt/by-hand")).unwrap();
    fs::write(dir.path().join("opt/by-hand/ledger"), b"by hand").unwrap();
    symlink("by-hand", dir.path().join("opt/current")).unwrap();
    let one = staged(dir.path(), &b, "1.0").await;
    let outcome = done(&mut b, "x-1", &activate(&one)).await.expect("activated");
    assert_eq!(outcome.release.map(|r| r.previous).as_deref(), Some(""), "it is no release of ours");
    done(&mut b, "x-2", &revert(&one)).await.expect("reverted");
    assert_eq!(used(dir.path()), "by hand");
}

#[tokio::test]
async fn the_same_execution_goes_on_and_only_with_what_it_began() {
    let (dir, mut b) = host(true);
    let (one, two) = (staged(dir.path(), &b, "1.0").await, staged(dir.path(), &b, "2.0").await);
    done(&mut b, "x-1", &activate(&one)).await.expect("activated");
    *locked(&b.unit.misbehave) = Misbehave::RefusesStart;
    done(&mut b, "x-2", &activate(&two)).await.expect_err("as if it had died before the start");
    *locked(&b.unit.misbehave) = Misbehave::No;
    locked(&b.unit.calls).clear();
    b.context.execution = ExecutionId::new("x-9").unwrap();
    let error = finish(&b.context, &activate(&one)).await.expect_err("it had begun nothing");
    assert_eq!(error.reason(), Reason::DeadlineExceeded);
    assert_eq!(calls(&b), Vec::<&str>::new());
    b.context.execution = ExecutionId::new("x-2").unwrap();
    finish(&b.context, &activate(&two)).await.expect("brought up again");
    assert_eq!(calls(&b), ["start"]);
    finish(&b.context, &activate(&two)).await.expect("told once more");
    assert_eq!(calls(&b), ["start"], "started once");
}

#[tokio::test]
async fn a_switch_that_fails_leaves_the_service_running_as_it_was() {
    let (dir, mut b) = host(true);
    let (one, two) = (staged(dir.path(), &b, "1.0").await, staged(dir.path(), &b, "2.0").await);
    done(&mut b, "x-1", &activate(&one)).await.expect("activated");
    // Something that is no file is in the way of the new link's temporary name.
    fs::create_dir(dir.path().join("opt/.current.new")).unwrap();
    let error = done(&mut b, "x-2", &activate(&two)).await.expect_err("not switched");
    assert!(error.message().contains("started again as it was"), "{error}");
    assert_eq!((used(dir.path()).as_str(), calls(&b)), ("1.0", vec!["stop", "start"]));
}

#[tokio::test]
async fn old_releases_go_and_the_way_back_stays() {
    let (dir, mut b) = host(true);
    let first = staged(dir.path(), &b, "1.0").await;
    done(&mut b, "x-1", &activate(&first)).await.expect("activated");
    for n in 2..=6 {
        b.clock.0.store(n, std::sync::atomic::Ordering::SeqCst);
        staged(dir.path(), &b, &format!("{n}.0")).await;
    }
    let six = release(dir.path(), "6.0", b"6.0");
    done(&mut b, "x-2", &activate(&six)).await.expect("activated");
    let mut names: Vec<_> = fs::read_dir(dir.path().join("opt/releases"))
        .unwrap()
        .flatten()
        .map(|e| e.file_name().to_string_lossy().chars().take(3).collect::<String>())
        .collect();
    names.sort();
    assert_eq!(names, ["1.0", "4.0", "5.0", "6.0"]);
    done(&mut b, "x-3", &revert(&six)).await.expect("reverted");
    assert_eq!(used(dir.path()), "1.0");
}
