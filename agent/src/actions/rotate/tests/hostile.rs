//! Names, links, owners and modes that nobody asked for, and ordinary ones.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use quorate_model::Reason;

use super::*;
use crate::actions::testing::{Misbehave, locked};

struct Place {
    temp: tempfile::TempDir,
    bench: Bench,
}

fn place() -> Place {
    let temp = tempfile::tempdir().expect("tempdir");
    let bench = bench(temp.path(), true);
    Place { temp, bench }
}

impl Place {
    fn put(&self, name: &str, text: &str) -> std::path::PathBuf {
        let path = self.temp.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("mkdir");
        std::fs::write(&path, text).expect("write");
        path
    }
}

#[tokio::test]
async fn the_row_moves_keeps_its_number_and_its_modes() {
    let p = place();
    let log = p.put("x.log", "");
    let policy = LogRotation { keep: 3, delay_compress: true, ..policy(&log) };
    for n in 0..5 {
        std::fs::write(&log, format!("{n}")).expect("write");
        std::fs::set_permissions(&log, std::fs::Permissions::from_mode(0o640)).expect("chmod");
        let outcome = rotate(&p.bench, &policy).await.expect("rotated");
        assert_eq!(outcome.rotated, [log.to_str().expect("UTF-8")]);
    }
    assert_eq!(names(p.temp.path()), ["x.log", "x.log.1", "x.log.2.gz", "x.log.3.gz"]);
    assert_eq!(history(&log), b"234");
    for name in ["x.log", "x.log.1", "x.log.2.gz"] {
        let mode = std::fs::metadata(p.temp.path().join(name)).expect("stat").mode();
        assert_eq!(mode & 0o777, 0o640, "{name}");
    }
    assert_eq!(locked(&p.bench.unit.calls).len(), 5, "one reload each");
}

#[tokio::test]
async fn mode_and_owner_of_the_new_log_are_the_policys() {
    let p = place();
    let log = p.put("x.log", "x");
    let me = std::fs::metadata(&log).expect("stat");
    let create_owner = format!("{}:{}", me.uid(), me.gid());
    let policy = LogRotation { create_mode: 0o600, create_owner, ..policy(&log) };
    rotate(&p.bench, &policy).await.expect("rotated");
    assert_eq!(std::fs::metadata(&log).expect("stat").mode() & 0o777, 0o600);
    let bad = LogRotation { create_owner: "no-such-user-here:root".to_owned(), ..policy };
    assert_eq!(rotate(&p.bench, &bad).await.expect_err("unknown").reason(), Reason::InvalidArgument);
}

#[tokio::test]
async fn missing_and_empty_logs_follow_the_policy() {
    let p = place();
    let gone = p.temp.path().join("gone.log");
    let error = rotate(&p.bench, &policy(&gone)).await.expect_err("missing");
    assert!(error.to_string().contains("does not exist"), "{error}");
    let fine = LogRotation { missing_ok: true, ..policy(&gone) };
    assert!(rotate(&p.bench, &fine).await.expect("fine").rotated.is_empty());
    let empty = p.put("empty.log", "");
    assert!(rotate(&p.bench, &policy(&empty)).await.expect("not due").rotated.is_empty());
    let too = LogRotation { rotate_empty: true, ..policy(&empty) };
    assert_eq!(rotate(&p.bench, &too).await.expect("rotated").rotated.len(), 1);
    let small = LogRotation { size_bytes: 100, ..policy(&p.put("small.log", "x")) };
    assert!(rotate(&p.bench, &small).await.expect("not due").rotated.is_empty());
}

#[tokio::test]
async fn links_special_files_and_open_folders_are_refused_and_the_others_still_rotated() {
    let p = place();
    p.put("secret/target", "secret");
    p.put("logs/good.log", "x");
    p.put("logs/two.log", "y");
    std::fs::hard_link(p.temp.path().join("logs/two.log"), p.temp.path().join("secret/two")).expect("link");
    symlink("../secret/target", p.temp.path().join("logs/link.log")).expect("symlink");
    let error = rotate(&p.bench, &policy(&p.temp.path().join("logs/*.log"))).await.expect_err("two refused");
    let text = error.to_string();
    assert!(text.contains("symbolic link") && text.contains("hard link"), "{text}");
    assert_eq!(error.into_outcome().rotated.len(), 1);
    assert_eq!(std::fs::read(p.temp.path().join("secret/target")).expect("read"), b"secret");
    assert!(p.temp.path().join("logs/good.log.1.gz").exists());

    symlink("secret", p.temp.path().join("linked")).expect("symlink");
    let glob = p.temp.path().join("linked/target");
    assert!(rotate(&p.bench, &policy(&glob)).await.is_err(), "a linked folder");
    let open = p.put("open/x.log", "x");
    let folder = p.temp.path().join("open");
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o1777)).expect("chmod");
    let error = rotate(&p.bench, &policy(&open)).await.expect_err("anybody may swap names");
    assert!(error.to_string().contains("everybody may write"), "{error}");
    let outside = rotate(&p.bench, &policy(Path::new("/etc/*.log"))).await.expect_err("outside");
    assert_eq!(outside.reason(), Reason::PolicyDenied);
    for bad in ["relative.log", "/a/**/x", "/a/${node}.log", "/"] {
        assert!(rotate(&p.bench, &policy(Path::new(bad))).await.is_err(), "{bad}");
    }
}

#[tokio::test]
async fn globs_find_odd_names_and_not_what_was_rotated() {
    let p = place();
    let odd = p.temp.path().join(OsStr::from_bytes(b"odd \xff\nname;$(id).log"));
    std::fs::write(&odd, "odd").expect("write");
    p.put("a/one.log", "1");
    p.put("b/one.log", "2");
    p.put("b/deeper/one.log", "3");
    let all = policy(&p.temp.path().join("*"));
    let deep = policy(&p.temp.path().join("*/*.log"));
    for _ in 0..2 {
        std::fs::write(&odd, "odd").expect("write");
        assert_eq!(rotate(&p.bench, &all).await.expect("rotated").rotated.len(), 1);
    }
    assert_eq!(rotate(&p.bench, &deep).await.expect("rotated").rotated.len(), 2);
    assert!(p.temp.path().join("b/deeper").read_dir().expect("listing").count() == 1);
    let long = p.put(&format!("{}.log", "n".repeat(245)), "x");
    assert_eq!(rotate(&p.bench, &policy(&long)).await.expect_err("too long").reason(), Reason::ActionFailed);
}

#[tokio::test]
async fn a_reload_that_fails_is_told_and_owed() {
    let p = place();
    let log = p.put("x.log", "x");
    let writer = std::fs::OpenOptions::new().append(true).open(&log).expect("open");
    *locked(&p.bench.unit.misbehave) = Misbehave::ReloadRestarts;
    let error = rotate(&p.bench, &policy(&log)).await.expect_err("reload failed");
    assert_eq!(error.into_outcome().rotated.len(), 1);
    *locked(&p.bench.unit.misbehave) = Misbehave::No;
    rotate(&p.bench, &policy(&log)).await.expect("nothing due, reload owed");
    assert_eq!(locked(&p.bench.unit.calls).len(), 2);
    drop(writer);
    rotate(&p.bench, &policy(&log)).await.expect("nothing owed");
    assert_eq!(locked(&p.bench.unit.calls).len(), 2);
    assert_eq!(names(p.temp.path()), ["x.log", "x.log.1.gz"]);
}

#[tokio::test]
async fn a_full_disk_copies_nothing_and_compresses_nothing() {
    let mut p = place();
    p.bench.context.limits.reserve_bytes = u64::MAX / 2;
    let log = p.put("x.log", &"x".repeat(10_000));
    let copying = LogRotation { copy_truncate: true, ..policy(&log) };
    let error = rotate(&p.bench, &copying).await.expect_err("full");
    assert!(error.to_string().contains("bytes free"), "{error}");
    assert_eq!(std::fs::metadata(&log).expect("stat").len(), 10_000);
    let outcome = rotate(&p.bench, &policy(&log)).await.expect("renaming needs no room");
    assert!(outcome.message.contains("too little free space"), "{}", outcome.message);
    assert_eq!(names(p.temp.path()), ["x.log", "x.log.1"]);
}
