//! What is believed of an artifact: nothing but its digest and the host's own keys.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use quorate_model::{DurationMs, ExecutionState, Reason};

use super::{Keys, arrive, host, release, stage};
use crate::actions::{ActionError, execute};

fn laid(root: &std::path::Path, release: &quorate_model::Release) -> std::path::PathBuf {
    let name = super::super::exec::staged_name(release);
    root.join("opt/releases").join(name)
}

fn nothing_laid(root: &std::path::Path) {
    let names: Vec<_> =
        fs::read_dir(root.join("opt/releases")).map(|d| d.flatten().collect()).unwrap_or_default();
    assert!(names.is_empty(), "{names:?}");
    let staging: Vec<_> =
        fs::read_dir(root.join("releases/staging")).map(|d| d.flatten().collect()).unwrap_or_default();
    assert!(staging.is_empty(), "{staging:?}");
}

#[tokio::test]
async fn a_binary_is_laid_out_and_staged_once() {
    let (dir, b) = host(true);
    let one = release(dir.path(), "1.0", b"#!/bin/true");
    let spool = arrive(dir.path(), &one, b"#!/bin/true");
    let outcome = execute(&b.context, &stage(&one)).await.expect("staged");
    let receipt = outcome.release.expect("a receipt");
    assert_eq!((receipt.version.as_str(), receipt.artifact.as_str()), ("1.0", one.artifact.as_str()));
    let file = laid(dir.path(), &one).join("ledger");
    assert_eq!(fs::read(&file).unwrap(), b"#!/bin/true");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o755);
    assert!(!dir.path().join("opt/current").exists(), "nothing that serves changed");
    fs::remove_file(spool).unwrap();
    let again = execute(&b.context, &stage(&one)).await.expect("staged already");
    assert!(again.message.contains("already"), "{again:?}");
    fs::write(&file, b"#!/bin/evil").unwrap();
    arrive(dir.path(), &one, b"#!/bin/true");
    execute(&b.context, &stage(&one)).await.expect("staged anew");
    assert_eq!(fs::read(&file).unwrap(), b"#!/bin/true", "what was changed since is replaced");
}

#[tokio::test]
async fn only_what_a_pinned_key_signed_is_staged() {
    let (dir, mut b) = host(true);
    let (ours, theirs) = (Keys::new(), Keys::new());
    b.context.install.unsigned = false;
    b.context.install.keys = [("builds".to_owned(), ours.public.clone())].into();
    let one = release(dir.path(), "1.0", b"good");
    arrive(dir.path(), &one, b"good");
    let legacy = ours.sign(b"good", &["-l"]);
    for (what, signature) in [
        ("absent", String::new()),
        ("another key", theirs.sign(b"good", &[])),
        ("other bytes", ours.sign(b"evil", &[])),
        ("the legacy kind", legacy),
        ("its comment changed", ours.sign(b"good", &[]).replace("timestamp:", "timestamp:9")),
        ("no signature", "untrusted comment: x\nRWx".to_owned()),
    ] {
        let mut one = one.clone();
        one.signature = signature;
        let error = execute(&b.context, &stage(&one)).await.expect_err(what);
        assert_eq!(error.reason(), Reason::SignatureInvalid, "{what}: {error}");
        assert_eq!(error.state(), ExecutionState::Rejected, "{what}");
        nothing_laid(dir.path());
    }
    let mut signed = one.clone();
    signed.signature = ours.sign(b"good", &["-t", "ledger 1.0"]);
    let outcome = execute(&b.context, &stage(&signed)).await.expect("staged");
    assert_eq!(outcome.release.map(|r| r.signed_by).as_deref(), Some("builds"));
    b.context.install.unsigned = true;
    let mut wrong = one.clone();
    wrong.signature = theirs.sign(b"good", &[]);
    let error = execute(&b.context, &stage(&wrong)).await.expect_err("a wrong one is worse than none");
    assert_eq!(error.reason(), Reason::SignatureInvalid);
}

#[test]
fn no_signature_panics() {
    use proptest::prelude::*;
    let keys = Keys::new();
    let rules = crate::policy::InstallRules {
        keys: [("builds".to_owned(), keys.public.clone())].into(),
        ..crate::policy::InstallRules::default()
    };
    let good = keys.sign(b"good", &[]);
    proptest!(|(at in 0..good.len(), with in any::<char>(), noise in "\\PC{0,1100}")| {
        let mut text: Vec<char> = good.chars().collect();
        text[at] = with;
        let _ = super::super::trust::choose(&rules, &text.into_iter().collect::<String>());
        prop_assert!(super::super::trust::choose(&rules, &noise).is_err());
    });
}

#[tokio::test]
async fn what_arrives_is_proved_and_no_link_is_followed() {
    let (dir, b) = host(true);
    let one = release(dir.path(), "1.0", b"good");
    let spool = dir.path().join("data/spool/artifacts").join(one.artifact.as_str());
    let elsewhere = dir.path().join("elsewhere");
    fs::write(&elsewhere, b"good").unwrap();
    for (what, put) in [
        ("other bytes", &(|| fs::write(&spool, b"evil").unwrap()) as &dyn Fn()),
        ("more bytes", &|| fs::write(&spool, b"good and more").unwrap()),
        ("a link, even to the right bytes", &|| symlink(&elsewhere, &spool).unwrap()),
        ("a folder", &|| fs::create_dir(&spool).unwrap()),
        ("a FIFO", &|| {
            let path = std::ffi::CString::new(spool.to_str().unwrap()).unwrap();
            rustix::fs::mknodat(
                rustix::fs::CWD,
                path.as_c_str(),
                rustix::fs::FileType::Fifo,
                rustix::fs::Mode::from_raw_mode(0o600),
                0,
            )
            .unwrap();
        }),
    ] {
        let _ = fs::remove_file(&spool);
        put();
        let error = execute(&b.context, &stage(&one)).await.expect_err(what);
        assert_eq!(error.reason(), Reason::ArtifactInvalid, "{what}: {error}");
        nothing_laid(dir.path());
        let _ = fs::remove_dir(&spool);
    }
    let _ = fs::remove_file(&spool);
    fs::remove_dir_all(dir.path().join("data/spool")).unwrap();
    fs::create_dir_all(dir.path().join("evil/artifacts")).unwrap();
    fs::write(dir.path().join("evil/artifacts").join(one.artifact.as_str()), b"good").unwrap();
    symlink(dir.path().join("evil"), dir.path().join("data/spool")).unwrap();
    b.clock.0.store(600_000, std::sync::atomic::Ordering::SeqCst);
    assert!(execute(&b.context, &stage(&one)).await.is_err(), "a spool that is a link has nothing");
}

#[tokio::test]
async fn what_does_not_come_is_told_with_the_reason_of_who_fetches() {
    let (dir, mut b) = host(true);
    b.context.clock = std::sync::Arc::new(crate::actions::HostClock);
    b.context.deadline = b.context.clock.monotonic().plus(DurationMs(300));
    let one = release(dir.path(), "1.0", b"good");
    let note = dir.path().join("data/spool/artifacts").join(format!("{}.error", one.artifact));
    fs::write(note, b"coord1: NotFound: artifact\n\x1b[31m").unwrap();
    let error = execute(&b.context, &stage(&one)).await.expect_err("it never came");
    assert_eq!((error.reason(), error.state()), (Reason::ArtifactUnavailable, ExecutionState::TimedOut));
    let text = error.message();
    assert!(text.contains("coord1: NotFound") && !text.contains(['\n', '\x1b']), "{text}");
}

#[tokio::test]
async fn a_file_that_comes_while_it_is_waited_for_is_taken() {
    let (dir, b) = host(true);
    let one = release(dir.path(), "1.0", b"good");
    let (spec, root) = (stage(&one), dir.path().to_path_buf());
    let staging = execute(&b.context, &spec);
    let arriving = async {
        // The stage is waiting by now: it looks first, and nothing was there.
        tokio::task::yield_now().await;
        arrive(&root, &one, b"good");
    };
    let (outcome, ()) = tokio::join!(staging, arriving);
    outcome.expect("staged");
}

#[tokio::test]
async fn a_full_disk_and_a_place_that_is_not_allowed_lay_nothing_out() {
    let (dir, mut b) = host(true);
    let one = release(dir.path(), "1.0", b"good");
    arrive(dir.path(), &one, b"good");
    b.context.limits.reserve_bytes = u64::MAX / 2;
    let error = execute(&b.context, &stage(&one)).await.expect_err("no room");
    assert_eq!(error.reason(), Reason::LowSpace, "{error}");
    nothing_laid(dir.path());
    b.context.limits.reserve_bytes = 0;
    for (what, place) in [("outside", "/nonexistent"), ("a step back", "opt/../opt")] {
        let mut bad = one.clone();
        let place = dir.path().join(place).display().to_string();
        bad.install = quorate_model::Install::Binary { dir: place, file: "ledger".into() };
        let error = execute(&b.context, &stage(&bad)).await.expect_err(what);
        assert_eq!(error.state(), ExecutionState::Rejected, "{what}: {error}");
    }
    for file in ["..", "a/b", ".x", ""] {
        let mut bad = one.clone();
        let opt = dir.path().join("opt").display().to_string();
        bad.install = quorate_model::Install::Binary { dir: opt, file: file.into() };
        let error = execute(&b.context, &stage(&bad)).await.expect_err(file);
        assert!(matches!(error, ActionError::Invalid { .. }), "{file}: {error}");
    }
    let away = dir.path().join("away");
    fs::create_dir(&away).unwrap();
    symlink(&away, dir.path().join("opt/sub")).unwrap();
    let mut bad = one.clone();
    let sub = dir.path().join("opt/sub").display().to_string();
    bad.install = quorate_model::Install::Binary { dir: sub, file: "ledger".into() };
    let error = execute(&b.context, &stage(&bad)).await.expect_err("a link on the way");
    assert_eq!(error.reason(), Reason::PolicyDenied, "{error}");
    assert!(fs::read_dir(&away).unwrap().next().is_none());
}
