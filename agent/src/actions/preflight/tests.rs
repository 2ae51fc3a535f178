//! Every check is told with its number; one that fails, or that could not be made, keeps the work away.

use std::path::Path;
use std::sync::atomic::Ordering;

use quorate_model::action::Finding;
use quorate_model::service::UnitStatus;
use quorate_model::{
    ActionKind, ActionSpec, Digest, DurationMs, ExecutionState, Install, PreflightSpec, Reason, Release,
    Required, Version,
};

use super::plan::{FAILED, OK, Place, Room, Seen, judge, size, verdict};
use super::{REACHED, Reached};
use crate::actions::testing::{Bench, bench, locked, service_name};
use crate::actions::{ActionError, execute};

fn unit(active: &str) -> UnitStatus {
    UnitStatus { load: "loaded".into(), active: active.into(), ..UnitStatus::default() }
}

fn spec() -> PreflightSpec {
    PreflightSpec {
        requires: vec![
            Required::Unit { unit: "db.service".into() },
            Required::Address { address: "db:5432".into() },
        ],
        min_memory_bytes: 1_000,
        ..PreflightSpec::default()
    }
}

fn good() -> Seen {
    let room = Room { bytes: 1_000, bytes_free: 350, inodes: 100, inodes_free: 5 };
    Seen {
        unit: Ok(unit("active")),
        places: vec![Place { path: "/opt".into(), needs: 300, room: Ok(room) }],
        memory: Ok(1_000),
        units: vec![("db.service".into(), Ok(unit("active")))],
        reached: Ok(Reached {
            offset_ms: Some(-1_000),
            addresses: [("db:5432".to_owned(), String::new())].into(),
        }),
        packages_locked: Some(Ok(false)),
        hold: Ok(None),
    }
}

fn failed(checks: &[Finding]) -> Vec<&str> {
    checks.iter().filter(|c| c.level == FAILED).map(|c| c.subject.as_str()).collect()
}

#[test]
fn what_is_just_enough_is_enough() {
    let checks = judge(&spec(), &good());
    assert!(failed(&checks).is_empty(), "{checks:?}");
    assert_eq!(verdict(&checks).unwrap(), "9 checks passed");
    assert!(checks.iter().all(|c| c.level == OK && !c.message.is_empty()), "{checks:?}");
}

#[test]
fn each_check_fails_alone() {
    let why = || "nobody can tell".to_owned();
    let room = |change: fn(&mut Room)| {
        let mut seen = good();
        change(seen.places[0].room.as_mut().unwrap());
        seen
    };
    let told = |offset_ms, why: &str| Reached {
        offset_ms,
        addresses: [("db:5432".to_owned(), why.to_owned())].into(),
    };
    let masked = UnitStatus { load: "masked".into(), ..unit("inactive") };
    let cases: Vec<(&str, Seen)> = vec![
        ("unit", Seen { unit: Ok(masked), ..good() }),
        ("unit", Seen { unit: Err(why()), ..good() }),
        ("disk /opt", room(|room| room.bytes_free -= 1)),
        ("inodes /opt", room(|room| room.inodes_free -= 1)),
        ("memory", Seen { memory: Ok(999), ..good() }),
        ("memory", Seen { memory: Err(why()), ..good() }),
        ("requires db.service", Seen { units: vec![("db.service".into(), Ok(unit("failed")))], ..good() }),
        ("requires db.service", Seen { units: Vec::new(), ..good() }),
        ("requires db:5432", Seen { reached: Ok(told(Some(0), "refused")), ..good() }),
        (
            "requires db:5432",
            Seen { reached: Ok(Reached { offset_ms: Some(0), ..Reached::default() }), ..good() },
        ),
        ("clock", Seen { reached: Ok(told(Some(1_001), "")), ..good() }),
        ("clock", Seen { reached: Ok(told(None, "")), ..good() }),
        ("packages", Seen { packages_locked: Some(Ok(true)), ..good() }),
        ("packages", Seen { packages_locked: Some(Err(why())), ..good() }),
        ("hold", Seen { hold: Ok(Some("raid rebuilds".into())), ..good() }),
        ("hold", Seen { hold: Err(why()), ..good() }),
    ];
    for (subject, seen) in cases {
        let checks = judge(&spec(), &seen);
        assert_eq!(failed(&checks), [subject], "{seen:?}");
        assert!(verdict(&checks).unwrap_err().starts_with("1 of 9 checks failed: "), "{checks:?}");
    }
    let silent = Seen { reached: Err(why()), ..good() };
    assert_eq!(failed(&judge(&spec(), &silent)), ["requires db:5432", "clock"]);
    assert!(verdict(&[]).is_err(), "no check is no proof");
}

#[test]
fn sizes_are_rounded_down() {
    assert_eq!((size(0), size(2_047), size(1 << 20)), ("0.0 KiB".into(), "1.9 KiB".into(), "1.0 MiB".into()));
    assert_eq!((size((1 << 30) - 1), size(5 << 30)), ("1023.9 MiB".into(), "5.0 GiB".into()));
}

fn action(b: &Bench, preflight: PreflightSpec, size: u64) -> ActionSpec {
    let dir = b.context.install.dirs[0].join("new/ledger").display().to_string();
    let release = Release {
        version: Version::new("1.0").unwrap(),
        artifact: Digest::new("a".repeat(64)).unwrap(),
        size,
        signature: String::new(),
        install: Install::Archive { dir },
    };
    ActionSpec::HostPreflight {
        service: service_name(),
        preflight,
        ahead_of: ActionKind::ArtifactActivate,
        release: Some(release),
        backup: true,
    }
}

fn tell(b: &Bench, reached: &Reached) {
    let dir = b.context.data_dir.join(REACHED);
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("x-1"), serde_json::to_vec(reached).unwrap()).unwrap();
}

fn lenient() -> PreflightSpec {
    PreflightSpec { min_free_percent: 0, ..PreflightSpec::default() }
}

#[tokio::test]
async fn a_host_that_is_ready_is_looked_at_and_nothing_is_changed() {
    let root = tempfile::tempdir().unwrap();
    let b = bench(root.path(), true);
    tell(&b, &Reached { offset_ms: Some(3), addresses: [].into() });
    let outcome = execute(&b.context, &action(&b, lenient(), 1_000)).await.expect("ready");
    let subjects: Vec<&str> = outcome.findings.iter().map(|f| f.subject.as_str()).collect();
    let path = |name: &str| root.path().join(name).display().to_string();
    for wanted in [format!("disk {}", path("opt/new/ledger")), format!("inodes {}", path("backups"))] {
        assert!(subjects.contains(&wanted.as_str()), "{wanted} in {subjects:?}");
    }
    assert!(!Path::new(&path("opt")).exists() && !Path::new(&path("backups")).exists(), "nothing is made");
    assert!(locked(&b.unit.calls).is_empty() && b.recorder.lines().is_empty());
}

#[tokio::test]
async fn a_host_that_is_not_ready_says_all_of_it() {
    let root = tempfile::tempdir().unwrap();
    let b = bench(root.path(), true);
    tell(&b, &Reached { offset_ms: Some(3), addresses: [].into() });
    std::fs::write(&b.context.hold_file, "raid rebuilds\nuntil noon").unwrap();
    let requires = vec![Required::Unit { unit: "db.service".into() }];
    let wanted = PreflightSpec { requires, ..lenient() };
    let error = execute(&b.context, &action(&b, wanted, u64::MAX / 8)).await.expect_err("not ready");
    assert!(matches!(error, ActionError::NotReady { .. }), "{error:?}");
    assert_eq!((error.reason(), error.state()), (Reason::PreflightFailed, ExecutionState::Rejected));
    let outcome = error.into_outcome();
    for text in
        ["disk ", "requires db.service: it is inactive", "hold: a person holds this host: raid rebuilds"]
    {
        assert!(outcome.message.contains(text), "{text} in {}", outcome.message);
    }
    assert!(outcome.findings.iter().any(|f| f.subject == "clock" && f.level == OK), "{outcome:?}");
}

#[tokio::test]
async fn a_network_half_that_says_nothing_has_reached_nothing() {
    let root = tempfile::tempdir().unwrap();
    let mut b = bench(root.path(), true);
    b.context.deadline = DurationMs(200);
    assert_eq!(b.clock.0.load(Ordering::SeqCst), 0);
    std::fs::create_dir_all(&b.context.data_dir).unwrap();
    let error = execute(&b.context, &action(&b, lenient(), 1)).await.expect_err("nothing is known");
    assert!(error.message().contains("clock: quorate-agent did not say what it reached"), "{error:?}");
}
