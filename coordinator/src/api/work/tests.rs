//! Work as it is asked for, and as it is told again.

use quorate_model::{Digest, Reason};

use super::*;

/// One artifact, known by its digest.
fn artifacts(text: &str) -> Result<Found, Refusal> {
    let digest = "ab".repeat(32);
    if text != digest {
        return Err(Refusal::new(Reason::NotFound, "there is no such artifact"));
    }
    Ok(Found { digest: Digest::new(digest).unwrap(), size: 7, signature: "signed".into() })
}

fn all() -> Option<v1::Selector> {
    Some(v1::Selector { all: true, ..Default::default() })
}

fn read(kind: Kind) -> Result<PlanRequest, Invalid> {
    let work = Some(v1::WorkSpec { kind: Some(kind), max_failures: 0 });
    read_work(work, &Principal::System, "why", &artifacts)
}

fn run(selector: Option<v1::Selector>, action: &str, service: &str) -> Kind {
    Kind::Run(v1::RunSpec {
        selector,
        action: action.into(),
        service: service.into(),
        parallelism: 2,
        gate_timeout: None,
    })
}

#[test]
fn every_kind_of_work_comes_back() {
    let rolling = v1::RollingSpec {
        group: "ledger".into(),
        kind: v1::RollingKind::Reload as i32,
        max_unavailable: 1,
        selector: None,
        gate_timeout: Some(write_duration(DurationMs(5_000))),
        ..Default::default()
    };
    let waves = v1::WavePolicy {
        canary: 1,
        ramp: vec!["1".into(), "20%".into()],
        hold: Some(write_duration(DurationMs(60_000))),
        promotion: v1::Promotion::Canary as i32,
        ..Default::default()
    };
    let release = v1::RollingSpec {
        group: "ledger".into(),
        kind: v1::RollingKind::Release as i32,
        version: "1.1.0".into(),
        artifact: "ab".repeat(32),
        waves: Some(waves),
        on_failure: v1::OnFailure::Rollback as i32,
        migration: v1::MigrationChoice::Again as i32,
        ..Default::default()
    };
    let upkeep = v1::RollingSpec {
        group: "ledger".into(),
        kind: v1::RollingKind::Run as i32,
        hook: "compact".into(),
        ..Default::default()
    };
    let undo = v1::RollingSpec {
        group: "ledger".into(),
        kind: v1::RollingKind::Undo as i32,
        on_failure: v1::OnFailure::Pause as i32,
        backup_first: true,
        ..Default::default()
    };
    for kind in [
        Kind::Rolling(rolling),
        Kind::Rolling(release),
        Kind::Rolling(undo),
        Kind::Rolling(upkeep),
        run(all(), "service.stop", "ledger"),
        run(all(), "host.facts", ""),
        Kind::Backup(v1::BackupAllSpec { service: "ledger".into(), selector: all(), parallelism: 1 }),
        Kind::Rotate(v1::RotateAllSpec { service: "ledger".into(), selector: all(), parallelism: 1 }),
        Kind::VerifyBackup(v1::VerifyBackupSpec { backup: "b-1".into() }),
        rebuild("node3", None),
        rebuild("node3", Some(DurationMs(7_000))),
        membership(v1::MembershipVerb::Add, None),
        membership(v1::MembershipVerb::Remove, Some(0)),
    ] {
        let request = read(kind.clone()).unwrap();
        assert_eq!(write_work(&request).kind, Some(kind));
        assert_eq!(request.reason, "why");
    }
}

fn membership(change: v1::MembershipVerb, spare: Option<u32>) -> Kind {
    let (group, node, change) = ("ledger".into(), "node3".into(), change as i32);
    Kind::Membership(v1::MembershipChangeSpec { group, node, change, spare })
}

fn rebuild(node: &str, gate: Option<DurationMs>) -> Kind {
    let gate_timeout = gate.map(write_duration);
    Kind::Rebuild(v1::RebuildSpec { group: "ledger".into(), node: node.into(), gate_timeout })
}

#[test]
fn bad_work_names_its_field() {
    let field = |kind| read(kind).unwrap_err().field;
    assert_eq!(field(rebuild("", None)), "work.rebuild.node");
    assert_eq!(field(rebuild("node3", Some(DurationMs(u64::MAX)))), "work.rebuild.gate_timeout");
    assert_eq!(field(membership(v1::MembershipVerb::Unspecified, None)), "work.membership.change");
    assert_eq!(field(membership(v1::MembershipVerb::Add, Some(0))), "work.membership.spare");
    assert_eq!(field(membership(v1::MembershipVerb::Remove, Some(501))), "work.membership.spare");
    let with_gate = |action: &str| {
        let Kind::Run(mut spec) = run(all(), action, "ledger") else { unreachable!("it is a run") };
        spec.gate_timeout = Some(write_duration(DurationMs(7_000)));
        Kind::Run(spec)
    };
    assert_eq!(field(with_gate("service.stop")), "work.run.gate_timeout");
    assert_eq!(read(with_gate("service.restart")).unwrap().gate_deadline, Some(DurationMs(7_000)));
    assert_eq!(field(run(all(), "rm -rf", "ledger")), "work.run.action");
    assert_eq!(field(run(all(), "backup.create", "ledger")), "work.run.action");
    assert_eq!(field(run(all(), "service.stop", "")), "work.run.service");
    assert_eq!(field(run(all(), "host.facts", "ledger")), "work.run.service");
    assert_eq!(read(run(None, "service.stop", "ledger")).unwrap_err().reason, Reason::EmptySelector);
    let rolling = v1::RollingSpec { group: "g".into(), selector: all(), ..Default::default() };
    assert_eq!(field(Kind::Rolling(rolling)), "work.rolling.selector");
    let rolling = v1::RollingSpec { group: "g".into(), kind: 99, ..Default::default() };
    assert_eq!(field(Kind::Rolling(rolling)), "work.rolling.kind");
    let release = |version: &str, artifact: &str| {
        let kind = v1::RollingKind::Release as i32;
        let (version, artifact) = (version.into(), artifact.into());
        Kind::Rolling(v1::RollingSpec { group: "g".into(), kind, version, artifact, ..Default::default() })
    };
    assert_eq!(field(release("", "ab")), "work.rolling.version");
    assert_eq!(field(release("1", "")), "work.rolling.artifact");
    assert_eq!(read(release("1", "beef")).unwrap_err().reason, Reason::NotFound);
    let restart = v1::RollingSpec { group: "g".into(), version: "1".into(), ..Default::default() };
    assert_eq!(field(Kind::Rolling(restart)), "work.rolling.version");
    let waves = Some(v1::WavePolicy { ramp: vec!["x".into()], ..Default::default() });
    let ramp = v1::RollingSpec { group: "g".into(), waves, ..Default::default() };
    assert_eq!(field(Kind::Rolling(ramp)), "work.rolling.waves.ramp[0]");
    let policy = v1::RollingSpec { group: "g".into(), on_failure: 9, ..Default::default() };
    assert_eq!(field(Kind::Rolling(policy)), "work.rolling.on_failure");
    let rolling = |spec| field(Kind::Rolling(v1::RollingSpec { group: "g".into(), ..spec }));
    let upkeep = v1::RollingKind::Run as i32;
    assert_eq!(rolling(v1::RollingSpec { kind: upkeep, ..Default::default() }), "work.rolling.hook");
    assert_eq!(rolling(v1::RollingSpec { hook: "x".into(), ..Default::default() }), "work.rolling.hook");
    let again = v1::MigrationChoice::Again as i32;
    assert_eq!(rolling(v1::RollingSpec { migration: again, ..Default::default() }), "work.rolling.migration");
    assert_eq!(read_work(None, &Principal::System, "", &artifacts).unwrap_err().field, "work");
    let none = Some(v1::WorkSpec { kind: None, max_failures: 0 });
    assert_eq!(read_work(none, &Principal::System, "", &artifacts).unwrap_err().field, "work.kind");
}
