//! What is asked to be planned: `WorkSpec` to `PlanRequest` and back.

use quorate_common::wire::Invalid;
use quorate_common::wire::selector::{read_optional_selector, read_selector, write_selector};
use quorate_common::wire::text::read_name;
use quorate_common::wire::time::{read_duration, write_duration};
use quorate_core::PlanRequest;
use quorate_core::state::plan::{Change, Goal, HostVerb, Verb};
use quorate_model::{ActionKind, DurationMs, Principal, Selector};
use quorate_proto::v1;
use v1::work_spec::Kind;

/// Reads what is to be done, in the name of a principal.
pub(crate) fn read_work(
    work: Option<v1::WorkSpec>,
    principal: &Principal,
    reason: &str,
) -> Result<PlanRequest, Invalid> {
    let v1::WorkSpec { kind, max_failures } = work.ok_or_else(|| Invalid::missing("work"))?;
    let kind = kind.ok_or_else(|| Invalid::missing("work.kind"))?;
    let mut gate_deadline = None;
    let (goal, max_unavailable) = match kind {
        Kind::Rolling(rolling) => {
            let read = read_rolling(rolling).map_err(|i| i.within("work.rolling"))?;
            gate_deadline = read.2;
            (read.0, read.1)
        }
        Kind::Run(run) => {
            gate_deadline = read_gate(run.gate_timeout).map_err(|i| i.within("work.run"))?;
            let read = read_run(run).map_err(|i| i.within("work.run"))?;
            if gate_deadline.is_some() && !has_gate(&read.0) {
                return Err(Invalid::new("work.run.gate_timeout", "this action has no gate to wait for"));
            }
            read
        }
        Kind::Backup(v1::BackupAllSpec { service, selector, parallelism }) => {
            let service = read_name("work.backup.service", service)?;
            let nodes = instances("work.backup.selector", selector)?;
            (Goal::Backup { service, nodes }, parallelism)
        }
        Kind::Rotate(v1::RotateAllSpec { service, selector, parallelism }) => {
            let service = read_name("work.rotate.service", service)?;
            let nodes = instances("work.rotate.selector", selector)?;
            (Goal::Rotate { service, nodes }, parallelism)
        }
        Kind::VerifyBackup(v1::VerifyBackupSpec { backup }) => {
            (Goal::Verify { backups: vec![read_name("work.verify_backup.backup", backup)?] }, 0)
        }
    };
    let mut request = PlanRequest::new(goal, principal.clone());
    request.max_unavailable = max_unavailable;
    request.max_failures = max_failures;
    request.gate_deadline = gate_deadline;
    reason.clone_into(&mut request.reason);
    Ok(request)
}

fn read_rolling(rolling: v1::RollingSpec) -> Result<(Goal, u32, Option<DurationMs>), Invalid> {
    let v1::RollingSpec { group, kind, max_unavailable, selector, gate_timeout } = rolling;
    let change = match v1::RollingKind::try_from(kind) {
        Ok(v1::RollingKind::Unspecified | v1::RollingKind::Restart) => Change::Restart,
        Ok(v1::RollingKind::Reload) => Change::Reload,
        Err(_) => return Err(Invalid::new("kind", "it is not one of its values")),
    };
    if selector.is_some() {
        // The planner changes a group whole; a part of it is a run on a selector, which has the same guards.
        return Err(Invalid::new(
            "selector",
            "a rolling change covers its whole group; use a run for a part",
        ));
    }
    let deadline = read_gate(gate_timeout)?;
    Ok((Goal::Rollout { group: read_name("group", group)?, change }, max_unavailable, deadline))
}

/// How long gates may take; the fleet's setting when it is absent or zero.
fn read_gate(timeout: Option<prost_types::Duration>) -> Result<Option<DurationMs>, Invalid> {
    Ok(read_duration("gate_timeout", timeout)?.filter(|d| *d != DurationMs::ZERO))
}

/// Whether an instance must be seen to serve after it.
const fn has_gate(goal: &Goal) -> bool {
    matches!(goal, Goal::Run { verb: Verb::Start | Verb::Restart | Verb::Reload, .. })
}

/// Every instance, unless a selector says which.
fn instances(field: &str, selector: Option<v1::Selector>) -> Result<Selector, Invalid> {
    let every = Selector { all: true, names: Vec::new(), labels: Vec::new() };
    Ok(read_optional_selector(field, selector)?.unwrap_or(every))
}

fn read_run(run: v1::RunSpec) -> Result<(Goal, u32), Invalid> {
    // The deadline of its gates was read beside it: it belongs to the request, not to the goal.
    let v1::RunSpec { selector, action, service, parallelism, gate_timeout: _ } = run;
    let nodes = read_selector("selector", selector)?;
    let kind = ActionKind::parse(&action)
        .ok_or_else(|| Invalid::new("action", "there is no such action; quorate action list names them"))?;
    let on_host = |verb| {
        if service.is_empty() {
            Ok(Goal::Host { nodes: nodes.clone(), verb })
        } else {
            Err(Invalid::new("service", "this action works on a host, not on a service"))
        }
    };
    let verb = match kind {
        ActionKind::ServiceStatus => Verb::Status,
        ActionKind::ServiceStart => Verb::Start,
        ActionKind::ServiceStop => Verb::Stop,
        ActionKind::ServiceRestart => Verb::Restart,
        ActionKind::ServiceReload => Verb::Reload,
        ActionKind::HostFacts => return Ok((on_host(HostVerb::Facts)?, parallelism)),
        ActionKind::HostDiagnose => return Ok((on_host(HostVerb::Diagnose)?, parallelism)),
        ActionKind::BackupCreate | ActionKind::BackupVerify | ActionKind::LogRotate => {
            return Err(Invalid::new("action", "it has its own kind of work: backup, verify_backup, rotate"));
        }
        ActionKind::ArtifactStage
        | ActionKind::ArtifactActivate
        | ActionKind::ArtifactRevert
        | ActionKind::PackageInstall => {
            return Err(Invalid::new("action", "releases are installed by rolling changes"));
        }
    };
    Ok((Goal::Run { service: read_name("service", service)?, nodes, verb }, parallelism))
}

/// As a message.
pub(crate) fn write_work(request: &PlanRequest) -> v1::WorkSpec {
    let PlanRequest {
        goal,
        max_unavailable,
        max_failures,
        step_deadline: _,
        gate_deadline,
        deadline: _,
        principal: _,
        reason: _,
    } = request;
    let run = |nodes: &Selector, action: ActionKind, service: String| {
        Kind::Run(v1::RunSpec {
            selector: Some(write_selector(nodes)),
            action: action.as_str().to_owned(),
            service,
            parallelism: *max_unavailable,
            gate_timeout: gate_deadline.map(write_duration),
        })
    };
    let kind = match goal {
        Goal::Rollout { group, change } => Kind::Rolling(v1::RollingSpec {
            group: group.as_str().to_owned(),
            kind: match change {
                Change::Restart => v1::RollingKind::Restart,
                Change::Reload => v1::RollingKind::Reload,
            } as i32,
            max_unavailable: *max_unavailable,
            selector: None,
            gate_timeout: gate_deadline.map(write_duration),
        }),
        Goal::Run { service, nodes, verb } => {
            let action = match verb {
                Verb::Status => ActionKind::ServiceStatus,
                Verb::Start => ActionKind::ServiceStart,
                Verb::Stop => ActionKind::ServiceStop,
                Verb::Restart => ActionKind::ServiceRestart,
                Verb::Reload => ActionKind::ServiceReload,
            };
            run(nodes, action, service.as_str().to_owned())
        }
        Goal::Host { nodes, verb } => {
            let action = match verb {
                HostVerb::Facts => ActionKind::HostFacts,
                HostVerb::Diagnose => ActionKind::HostDiagnose,
            };
            run(nodes, action, String::new())
        }
        Goal::Backup { service, nodes } => Kind::Backup(v1::BackupAllSpec {
            service: service.as_str().to_owned(),
            selector: Some(write_selector(nodes)),
            parallelism: *max_unavailable,
        }),
        Goal::Rotate { service, nodes } => Kind::Rotate(v1::RotateAllSpec {
            service: service.as_str().to_owned(),
            selector: Some(write_selector(nodes)),
            parallelism: *max_unavailable,
        }),
        Goal::Verify { backups } => Kind::VerifyBackup(v1::VerifyBackupSpec {
            backup: backups.first().map(|id| id.as_str().to_owned()).unwrap_or_default(),
        }),
    };
    v1::WorkSpec { kind: Some(kind), max_failures: *max_failures }
}

#[cfg(test)]
mod tests {
    use quorate_model::Reason;

    use super::*;

    fn all() -> Option<v1::Selector> {
        Some(v1::Selector { all: true, ..Default::default() })
    }

    fn read(kind: Kind) -> Result<PlanRequest, Invalid> {
        read_work(Some(v1::WorkSpec { kind: Some(kind), max_failures: 0 }), &Principal::System, "why")
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
        };
        for kind in [
            Kind::Rolling(rolling),
            run(all(), "service.stop", "ledger"),
            run(all(), "host.facts", ""),
            Kind::Backup(v1::BackupAllSpec { service: "ledger".into(), selector: all(), parallelism: 1 }),
            Kind::Rotate(v1::RotateAllSpec { service: "ledger".into(), selector: all(), parallelism: 1 }),
            Kind::VerifyBackup(v1::VerifyBackupSpec { backup: "b-1".into() }),
        ] {
            let request = read(kind.clone()).unwrap();
            assert_eq!(write_work(&request).kind, Some(kind));
            assert_eq!(request.reason, "why");
        }
    }

    #[test]
    fn bad_work_names_its_field() {
        let field = |kind| read(kind).unwrap_err().field;
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
        let rolling = v1::RollingSpec { group: "g".into(), kind: 9, ..Default::default() };
        assert_eq!(field(Kind::Rolling(rolling)), "work.rolling.kind");
        assert_eq!(read_work(None, &Principal::System, "").unwrap_err().field, "work");
        let none = Some(v1::WorkSpec { kind: None, max_failures: 0 });
        assert_eq!(read_work(none, &Principal::System, "").unwrap_err().field, "work.kind");
    }
}
