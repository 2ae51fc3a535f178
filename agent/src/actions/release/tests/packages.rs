//! Packages: real `dpkg` over a root of the test's own, so that nothing of this machine changes. `apt-get` is played.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures::FutureExt;
use futures::future::BoxFuture;
use quorate_model::{ExecutionId, Install, Reason, Release};

use super::super::package::{fits, others, read_status};
use super::{activate, arrive, host, release, revert, stage};
use crate::actions::testing::{Bench, locked};
use crate::actions::{PortError, Programs, execute, finish};
use crate::host::exec::{ExecEnd, run};
use crate::host::{ExecOutcome, ExecSpec};

/// Real programs over another root.
struct Elsewhere {
    root: PathBuf,
    /// Times the lock is still seen held.
    held: AtomicU32,
    /// What `apt-get -s` says beside our own package.
    simulated: std::sync::Mutex<String>,
}

impl Programs for Elsewhere {
    fn run<'a>(&'a self, spec: &'a ExecSpec) -> BoxFuture<'a, Result<ExecOutcome, PortError>> {
        async move {
            let mut spec = spec.clone();
            assert_eq!(spec.env.get("DEBIAN_FRONTEND").map(String::as_str), Some("noninteractive"));
            match spec.argv[0].as_str() {
                "/usr/bin/dpkg" => spec.argv.insert(1, format!("--root={}", self.root.display())),
                "/usr/bin/dpkg-query" => {
                    spec.argv.insert(1, format!("--admindir={}/var/lib/dpkg", self.root.display()));
                }
                "/usr/bin/dpkg-deb" => {}
                "/usr/bin/apt-get" => {
                    let mut outcome = ExecOutcome { end: ExecEnd::Code(0), ..ExecOutcome::default() };
                    outcome.stdout.head = locked(&self.simulated).clone().into_bytes();
                    return Ok(outcome);
                }
                other => panic!("{other} is none of the tools"),
            }
            run(&spec).await.map_err(PortError::from)
        }
        .boxed()
    }

    fn is_locked<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, Result<bool, PortError>> {
        assert_eq!(path, Path::new("/var/lib/dpkg/lock-frontend"));
        let held = self.held.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
        async move { Ok(held) }.boxed()
    }
}

fn deb(root: &Path, name: &str, version: &str, more: &str) -> Vec<u8> {
    let tree = root.join(format!("deb-{version}"));
    fs::create_dir_all(tree.join("DEBIAN")).unwrap();
    fs::create_dir_all(tree.join("usr/share/qzledger")).unwrap();
    fs::write(tree.join("usr/share/qzledger/version"), version).unwrap();
    let control = format!(
        "Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: T <t@example.invalid>\n\
         Description: test\n{more}"
    );
    fs::write(tree.join("DEBIAN/control"), control).unwrap();
    let file = root.join(format!("{version}.deb"));
    let built = Command::new("dpkg-deb").arg("-b").arg(&tree).arg(&file).output().expect("dpkg-deb runs");
    assert!(built.status.success(), "{built:?}");
    fs::read(file).unwrap()
}

fn package(root: &Path, version: &str, bytes: &[u8]) -> Release {
    let one =
        Release { install: Install::Package { package: "qzledger".into() }, ..release(root, version, bytes) };
    arrive(root, &one, bytes);
    one
}

/// A host with an empty set of packages; none where `dpkg` would refuse to work.
fn debian(running: bool) -> Option<(tempfile::TempDir, Bench, Arc<Elsewhere>)> {
    if !rustix::process::geteuid().is_root() || !Path::new("/usr/bin/dpkg").exists() {
        return None;
    }
    let (dir, mut b) = host(running);
    let root = dir.path().join("system");
    fs::create_dir_all(root.join("var/lib/dpkg/updates")).unwrap();
    fs::create_dir_all(root.join("var/lib/dpkg/info")).unwrap();
    fs::write(root.join("var/lib/dpkg/status"), "").unwrap();
    let tools = Arc::new(Elsewhere {
        root,
        held: AtomicU32::new(0),
        simulated: std::sync::Mutex::new(String::new()),
    });
    b.context.programs = Arc::clone(&tools) as Arc<dyn Programs>;
    b.context.install.packages = ["qzledger".to_owned()].into();
    Some((dir, b, tools))
}

fn version(tools: &Elsewhere) -> String {
    fs::read_to_string(tools.root.join("usr/share/qzledger/version")).unwrap_or_default()
}

fn set(b: &mut Bench, id: &str) {
    b.context.execution = ExecutionId::new(id).expect("an id");
    locked(&b.unit.calls).clear();
}

#[tokio::test]
async fn packages_go_in_and_out_at_exact_versions() {
    let Some((dir, mut b, tools)) = debian(true) else { return };
    let one = package(dir.path(), "1.0", &deb(dir.path(), "qzledger", "1.0", ""));
    let two = package(dir.path(), "2:1.1~rc1-1", &deb(dir.path(), "qzledger", "2:1.1~rc1-1", ""));
    for staged in [&one, &two] {
        execute(&b.context, &stage(staged)).await.unwrap_or_else(|e| panic!("{}", e.message()));
    }
    assert_eq!(version(&tools), "", "staging installs nothing");
    set(&mut b, "x-1");
    let outcome = execute(&b.context, &activate(&one)).await.unwrap_or_else(|e| panic!("{}", e.message()));
    assert_eq!((version(&tools).as_str(), locked(&b.unit.calls).clone()), ("1.0", vec!["stop", "start"]));
    assert_eq!(outcome.release.map(|r| r.version).as_deref(), Some("1.0"));
    set(&mut b, "x-2");
    tools.held.store(2, Ordering::SeqCst);
    let outcome = execute(&b.context, &activate(&two)).await.unwrap_or_else(|e| panic!("{}", e.message()));
    assert_eq!(version(&tools), "2:1.1~rc1-1");
    assert_eq!(outcome.release.map(|r| r.previous).as_deref(), Some("1.0"));
    assert_eq!(tools.held.load(Ordering::SeqCst), 0, "the lock was waited for");
    set(&mut b, "x-3");
    execute(&b.context, &revert(&two)).await.unwrap_or_else(|e| panic!("{}", e.message()));
    assert_eq!((version(&tools).as_str(), locked(&b.unit.calls).clone()), ("1.0", vec!["stop", "start"]));
    set(&mut b, "x-4");
    execute(&b.context, &revert(&one)).await.unwrap_or_else(|e| panic!("{}", e.message()));
    assert_eq!(version(&tools), "", "there was none before the first");
}

#[tokio::test]
async fn a_wait_for_the_lock_is_left_to_the_next_helper_when_this_one_stops() {
    let Some((dir, mut b, tools)) = debian(true) else { return };
    let one = package(dir.path(), "1.0", &deb(dir.path(), "qzledger", "1.0", ""));
    execute(&b.context, &stage(&one)).await.unwrap_or_else(|e| panic!("{}", e.message()));
    set(&mut b, "x-1");
    tools.held.store(u32::MAX, Ordering::SeqCst);
    let told = Arc::new(tokio::sync::Notify::new());
    let teller = Arc::clone(&told);
    b.context.leaving.tell = Arc::new(move || teller.notify_one());
    let asked = b.context.leaving.asked.clone();
    let action = activate(&one);
    tokio::select! {
        ended = execute(&b.context, &action) => panic!("it ended: {ended:?}"),
        () = async { asked.cancel(); told.notified().await } => {}
    }
    assert_eq!((version(&tools).as_str(), locked(&b.unit.calls).len()), ("", 0), "nothing was begun");
    // The next helper finds nothing begun, and does it.
    tools.held.store(0, Ordering::SeqCst);
    b.context.leaving.asked = tokio_util::sync::CancellationToken::new();
    let error = finish(&b.context, &action).await.expect_err("nothing to finish");
    assert_eq!(error.state(), quorate_model::ExecutionState::TimedOut, "{error}");
    execute(&b.context, &action).await.unwrap_or_else(|e| panic!("{}", e.message()));
    assert_eq!(version(&tools), "1.0");
}

#[tokio::test]
async fn what_could_not_be_undone_or_not_be_done_alone_is_refused_before_anything_stops() {
    let Some((dir, mut b, tools)) = debian(true) else { return };
    let old = deb(dir.path(), "qzledger", "0.9", "");
    let file = dir.path().join("0.9.deb");
    fs::write(&file, old).unwrap();
    let root = format!("--root={}", tools.root.display());
    let by_hand = Command::new("dpkg").arg(root).arg("-i").arg(&file).output().expect("dpkg runs");
    assert!(by_hand.status.success(), "{by_hand:?}");
    let one = package(dir.path(), "1.0", &deb(dir.path(), "qzledger", "1.0", ""));
    execute(&b.context, &stage(&one)).await.unwrap_or_else(|e| panic!("{}", e.message()));
    set(&mut b, "x-1");
    let error = execute(&b.context, &activate(&one)).await.expect_err("0.9 is kept nowhere");
    assert_eq!(error.reason(), Reason::PackageBlocked, "{error}");
    assert!(error.message().contains("0.9"), "{error}");
    let kept = package(dir.path(), "0.9", &fs::read(&file).unwrap());
    execute(&b.context, &stage(&kept)).await.unwrap_or_else(|e| panic!("{}", e.message()));
    set(&mut b, "x-2");
    *locked(&tools.simulated) = "Inst qzledger (1.0)\nInst libother (2)\nRemv postgresql [15]\n".to_owned();
    let error = execute(&b.context, &activate(&one)).await.expect_err("others would change");
    assert_eq!(error.reason(), Reason::PackageBlocked);
    assert!(error.message().contains("libother, postgresql"), "{error}");
    assert_eq!((version(&tools).as_str(), locked(&b.unit.calls).len()), ("0.9", 0));
    *locked(&tools.simulated) = "Inst qzledger (1.0)\nConf qzledger (1.0)\n".to_owned();
    set(&mut b, "x-3");
    execute(&b.context, &activate(&one)).await.unwrap_or_else(|e| panic!("{}", e.message()));
    assert_eq!(version(&tools), "1.0");
}

#[tokio::test]
async fn a_package_that_is_not_what_was_asked_for_is_not_kept() {
    let Some((dir, b, _tools)) = debian(true) else { return };
    for (what, bytes) in [
        ("another name", deb(dir.path(), "qzother", "1.0", "")),
        ("another version", deb(dir.path(), "qzledger", "1.1", "")),
        ("no package", b"!<arch>\nnothing".to_vec()),
    ] {
        let one = package(dir.path(), "1.0", &bytes);
        let error = execute(&b.context, &stage(&one)).await.expect_err(what);
        assert_eq!(error.reason(), Reason::ArtifactInvalid, "{what}: {error}");
        assert!(!dir.path().join("releases/packages").exists(), "{what}");
    }
}

#[tokio::test]
async fn a_package_that_fails_leaves_what_ran_running_and_can_be_left() {
    let Some((dir, mut b, tools)) = debian(true) else { return };
    let one = package(dir.path(), "1.0", &deb(dir.path(), "qzledger", "1.0", ""));
    let bad = package(dir.path(), "2.0", &deb(dir.path(), "qzledger", "2.0", "Depends: nosuch\n"));
    for staged in [&one, &bad] {
        execute(&b.context, &stage(staged)).await.unwrap_or_else(|e| panic!("{}", e.message()));
    }
    set(&mut b, "x-1");
    execute(&b.context, &activate(&one)).await.unwrap_or_else(|e| panic!("{}", e.message()));
    set(&mut b, "x-2");
    let error = execute(&b.context, &activate(&bad)).await.expect_err("dpkg leaves it unconfigured");
    assert!(error.message().contains("started again"), "{}", error.message());
    assert_eq!(*locked(&b.unit.calls), ["stop", "start"]);
    set(&mut b, "x-3");
    execute(&b.context, &revert(&bad)).await.unwrap_or_else(|e| panic!("{}", e.message()));
    assert_eq!(version(&tools), "1.0");
}

#[test]
fn what_the_tools_say_is_read_with_care() {
    assert_eq!(read_status(""), Ok((None, false)));
    assert_eq!(read_status("ii |1.0\n"), Ok((Some("1.0".into()), false)));
    assert_eq!(read_status("hi |1.0\n"), Ok((Some("1.0".into()), false)), "held is installed");
    assert_eq!(read_status("rc |1.0\n"), Ok((None, false)), "only its configuration is left");
    assert_eq!(read_status("un |\n"), Ok((None, false)));
    for torn in ["iU |2", "iF |2", "iH |2", "iiR|2"] {
        assert_eq!(read_status(torn), Ok((Some("2".into()), true)), "{torn}");
    }
    assert!(read_status("ii |1\nii |1\n").is_err());
    let fields = "Package: ledger\nVersion: 1.0\nArchitecture: amd64\n";
    assert!(fits(fields, "ledger", "1.0", "amd64").is_ok());
    assert!(fits(&fields.replace("amd64", "all"), "ledger", "1.0", "amd64").is_ok());
    for (package, version, architecture) in
        [("ledge", "1.0", "amd64"), ("ledger", "1.0-1", "amd64"), ("ledger", "1.0", "arm64")]
    {
        assert!(fits(fields, package, version, architecture).is_err());
    }
    assert!(fits(&fields.replace("Version", "Package"), "ledger", "1.0", "amd64").is_err(), "twice");
    assert!(others("Inst ledger (1)\nConf ledger (1)\nInst ledger:amd64 (1)\n", "ledger").is_empty());
    assert_eq!(others("Inst ledger (1)\nRemv vi [9]\nInst libx:i386\n", "ledger"), ["vi", "libx:i386"]);
}
