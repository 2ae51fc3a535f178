//! What is asked to be planned: `WorkSpec` to `PlanRequest` and back.

use quorate_common::wire::Invalid;
use quorate_common::wire::enums::{read_membership_verb, write_membership_verb};
use quorate_common::wire::limits::GROUP_MEMBERS_MAX;
use quorate_common::wire::rollout::{
    read_migration, read_policy, read_waves, write_migration, write_policy, write_waves,
};
use quorate_common::wire::selector::{read_optional_selector, read_selector, write_selector};
use quorate_common::wire::text::{read_name, read_optional_name};
use quorate_common::wire::time::{read_duration, write_duration};
use quorate_core::PlanRequest;
use quorate_core::state::ReleaseRequest;
use quorate_core::state::plan::{Change, Goal, HostVerb, Verb};
use quorate_model::{
    ActionKind, DurationMs, GroupName, MembershipVerb, NodeName, Principal, Refusal, Selector,
};
use quorate_proto::v1;
use v1::work_spec::Kind;

use super::named_artifact::Found;

/// Looks an artifact up by what a caller calls it.
pub(super) type Artifacts<'a> = &'a dyn Fn(&str) -> Result<Found, Refusal>;

/// Reads what is to be done, in the name of a principal.
pub(super) fn read_work(
    work: Option<v1::WorkSpec>,
    principal: &Principal,
    reason: &str,
    artifacts: Artifacts<'_>,
) -> Result<PlanRequest, Invalid> {
    let v1::WorkSpec { kind, max_failures } = work.ok_or_else(|| Invalid::missing("work"))?;
    let kind = kind.ok_or_else(|| Invalid::missing("work.kind"))?;
    let mut gate_deadline = None;
    let (goal, max_unavailable) = match kind {
        Kind::Rolling(rolling) => {
            let mut request =
                read_rolling(rolling, principal, artifacts).map_err(|i| i.within("work.rolling"))?;
            request.max_failures = max_failures;
            reason.clone_into(&mut request.reason);
            return Ok(request);
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
        Kind::Rejoin(rejoin) => (read_rejoin(rejoin).map_err(|i| i.within("work.rejoin"))?, 0),
        Kind::Failover(failover) => (read_failover(failover).map_err(|i| i.within("work.failover"))?, 0),
        Kind::Rebuild(v1::RebuildSpec { group, node, gate_timeout }) => {
            gate_deadline = read_gate(gate_timeout).map_err(|i| i.within("work.rebuild"))?;
            let (group, node) =
                (read_name("work.rebuild.group", group)?, read_name("work.rebuild.node", node)?);
            (Goal::Rebuild { group, node }, 0)
        }
        Kind::Membership(change) => (read_membership(change).map_err(|i| i.within("work.membership"))?, 0),
    };
    let mut request = PlanRequest::new(goal, principal.clone());
    request.max_unavailable = max_unavailable;
    request.max_failures = max_failures;
    request.gate_deadline = gate_deadline;
    reason.clone_into(&mut request.reason);
    Ok(request)
}

fn read_rolling(
    rolling: v1::RollingSpec,
    principal: &Principal,
    artifacts: Artifacts<'_>,
) -> Result<PlanRequest, Invalid> {
    let v1::RollingSpec {
        group,
        kind,
        max_unavailable,
        selector,
        gate_timeout,
        version,
        artifact,
        waves,
        on_failure,
        config,
        hook,
        migration,
        backup_first,
        secret,
    } = rolling;
    let kind =
        v1::RollingKind::try_from(kind).map_err(|_| Invalid::new("kind", "it is not one of its values"))?;
    let release = || read_release(&version, &artifact, artifacts).map(Box::new);
    let change = match kind {
        v1::RollingKind::Unspecified | v1::RollingKind::Restart => Change::Restart,
        v1::RollingKind::Reload => Change::Reload,
        v1::RollingKind::Release if config.is_empty() => Change::Release(release()?),
        v1::RollingKind::Release => {
            Change::Config { config: read_name("config", config.clone())?, release: release()? }
        }
        v1::RollingKind::Undo if config.is_empty() => Change::Undo,
        v1::RollingKind::Undo => Change::ConfigUndo { config: read_name("config", config.clone())? },
        v1::RollingKind::Diff => {
            Change::ConfigDiff { config: read_name("config", config.clone())?, release: release()? }
        }
        v1::RollingKind::Run => Change::Run { hook: read_name("hook", hook.clone())? },
        v1::RollingKind::Secret => Change::Secret { secret: read_name("secret", secret.clone())? },
    };
    if change.config().is_none() && !config.is_empty() {
        return Err(Invalid::new("config", "only a rolling change of kind RELEASE, UNDO or DIFF has it"));
    }
    if !matches!(change, Change::Release(_) | Change::Config { .. } | Change::ConfigDiff { .. }) {
        for (field, text) in [("version", &version), ("artifact", &artifact)] {
            if !text.is_empty() {
                return Err(Invalid::new(field, "only a rolling change of kind RELEASE has it"));
            }
        }
    }
    if !matches!(change, Change::Run { .. }) && !hook.is_empty() {
        return Err(Invalid::new("hook", "only a rolling change of kind RUN has it"));
    }
    if !matches!(change, Change::Secret { .. }) && !secret.is_empty() {
        return Err(Invalid::new("secret", "only a rolling change of kind SECRET has it"));
    }
    let migration = read_migration(migration)?;
    if !matches!(change, Change::Release(_)) && !migration.is_default() {
        return Err(Invalid::new("migration", "only a rolling change of kind RELEASE has it"));
    }
    if selector.is_some() {
        // The planner changes a group whole; a part of it is a run on a selector, which has the same guards.
        return Err(Invalid::new(
            "selector",
            "a rolling change covers its whole group; use a run for a part",
        ));
    }
    let goal = Goal::Rollout { group: read_name("group", group)?, change };
    let mut request = PlanRequest::new(goal, principal.clone());
    request.max_unavailable = max_unavailable;
    request.gate_deadline = read_gate(gate_timeout)?;
    request.waves = read_waves(waves).map_err(|i| i.within("waves"))?;
    request.on_failure = read_policy(on_failure)?;
    request.migration = migration;
    request.backup_first = backup_first;
    Ok(request)
}

fn read_release(version: &str, artifact: &str, artifacts: Artifacts<'_>) -> Result<ReleaseRequest, Invalid> {
    let version = read_name("version", version.to_owned())?;
    if artifact.is_empty() {
        return Err(Invalid::missing("artifact"));
    }
    let Found { digest, size, signature } = artifacts(artifact).map_err(|refusal| Invalid {
        reason: refusal.reason(),
        field: "artifact".into(),
        why: refusal.what(),
        place: None,
    })?;
    Ok(ReleaseRequest { version, artifact: digest, size, signature })
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
        ActionKind::MaintenanceEnter | ActionKind::MaintenanceExit => {
            return Err(Invalid::new(
                "action",
                "it is part of the work on a service that declares maintenance",
            ));
        }
        ActionKind::HostPreflight => {
            return Err(Invalid::new("action", "it goes ahead of work on a service that declares preflight"));
        }
        ActionKind::DataQuarantine | ActionKind::DataRevert => {
            return Err(Invalid::new("action", "data is put aside for a rebuilding: quorate group rebuild"));
        }
        ActionKind::TrafficDrain | ActionKind::TrafficRestore => {
            return Err(Invalid::new("action", "it is part of the work on a service that declares traffic"));
        }
        ActionKind::RolePromote => {
            return Err(Invalid::new("action", "the role is moved by quorate failover switchover"));
        }
        ActionKind::ExecRun => {
            return Err(Invalid::new(
                "action",
                "hooks are run by rolling changes: quorate rollout start --run",
            ));
        }
        ActionKind::SecretStage
        | ActionKind::SecretInstall
        | ActionKind::SecretConfirm
        | ActionKind::SecretRetire
        | ActionKind::SecretRevert => {
            return Err(Invalid::new(
                "action",
                "secrets are rotated by rolling changes: quorate rollout start --rotate-secret",
            ));
        }
        ActionKind::ArtifactStage
        | ActionKind::ArtifactActivate
        | ActionKind::ArtifactRevert
        | ActionKind::PackageInstall
        | ActionKind::ConfigValidate
        | ActionKind::ConfigApply
        | ActionKind::ConfigRevert
        | ActionKind::ConfigConfirm => {
            return Err(Invalid::new("action", "releases and configuration files come by rolling changes"));
        }
    };
    Ok((Goal::Run { service: read_name("service", service)?, nodes, verb }, parallelism))
}

fn read_membership(message: v1::MembershipChangeSpec) -> Result<Goal, Invalid> {
    let v1::MembershipChangeSpec { group, node, change, spare } = message;
    let change = read_membership_verb("change", change)?;
    if change == MembershipVerb::Add && spare.is_some() {
        return Err(Invalid::new("spare", "only who leaves leaves fewer to spare"));
    }
    let limit = u32::try_from(GROUP_MEMBERS_MAX).unwrap_or(u32::MAX);
    if spare.is_some_and(|spare| spare > limit) {
        return Err(Invalid::new("spare", format!("expected at most {GROUP_MEMBERS_MAX}")));
    }
    Ok(Goal::Membership { group: read_name("group", group)?, node: read_name("node", node)?, change, spare })
}

fn read_failover(message: v1::FailoverWorkSpec) -> Result<Goal, Invalid> {
    let v1::FailoverWorkSpec { group, to, planned } = message;
    Ok(Goal::Failover { group: read_name("group", group)?, to: read_optional_name("to", to)?, planned })
}

fn write_membership(group: &GroupName, node: &NodeName, change: MembershipVerb, spare: Option<u32>) -> Kind {
    Kind::Membership(v1::MembershipChangeSpec {
        group: group.as_str().to_owned(),
        node: node.as_str().to_owned(),
        change: write_membership_verb(change) as i32,
        spare,
    })
}

fn write_failover(group: &GroupName, to: Option<&NodeName>, planned: bool) -> Kind {
    Kind::Failover(v1::FailoverWorkSpec {
        group: group.as_str().to_owned(),
        to: to.map_or_else(String::new, |to| to.as_str().to_owned()),
        planned,
    })
}

fn read_rejoin(message: v1::RejoinSpec) -> Result<Goal, Invalid> {
    let v1::RejoinSpec { group, node } = message;
    Ok(Goal::Rejoin { group: read_name("group", group)?, node: read_name("node", node)? })
}

fn write_rolling(request: &PlanRequest, group: &GroupName, change: &Change) -> v1::RollingSpec {
    let (kind, release) = match change {
        Change::Restart => (v1::RollingKind::Restart, None),
        Change::Reload => (v1::RollingKind::Reload, None),
        Change::Release(release) => (v1::RollingKind::Release, Some(release)),
        Change::Undo | Change::ConfigUndo { .. } => (v1::RollingKind::Undo, None),
        Change::Config { release, .. } => (v1::RollingKind::Release, Some(release)),
        Change::ConfigDiff { release, .. } => (v1::RollingKind::Diff, Some(release)),
        Change::Run { .. } => (v1::RollingKind::Run, None),
        Change::Secret { .. } => (v1::RollingKind::Secret, None),
    };
    let secret = match change {
        Change::Secret { secret } => secret.as_str().to_owned(),
        Change::Restart
        | Change::Reload
        | Change::Release(_)
        | Change::Undo
        | Change::Config { .. }
        | Change::ConfigUndo { .. }
        | Change::ConfigDiff { .. }
        | Change::Run { .. } => String::new(),
    };
    let hook = match change {
        Change::Run { hook } => hook.as_str().to_owned(),
        Change::Restart
        | Change::Reload
        | Change::Release(_)
        | Change::Undo
        | Change::Config { .. }
        | Change::ConfigUndo { .. }
        | Change::ConfigDiff { .. }
        | Change::Secret { .. } => String::new(),
    };
    v1::RollingSpec {
        group: group.as_str().to_owned(),
        kind: kind as i32,
        max_unavailable: request.max_unavailable,
        selector: None,
        gate_timeout: request.gate_deadline.map(write_duration),
        version: release.map(|r| r.version.as_str().to_owned()).unwrap_or_default(),
        artifact: release.map(|r| r.artifact.as_str().to_owned()).unwrap_or_default(),
        waves: write_waves(&request.waves),
        on_failure: write_policy(request.on_failure) as i32,
        config: change.config().map(ToString::to_string).unwrap_or_default(),
        hook,
        migration: write_migration(request.migration) as i32,
        backup_first: request.backup_first,
        secret,
    }
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
        waves: _,
        on_failure: _,
        migration: _,
        backup_first: _,
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
        Goal::Rollout { group, change } => Kind::Rolling(write_rolling(request, group, change)),
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
        Goal::Failover { group, to, planned } => write_failover(group, to.as_ref(), *planned),
        Goal::Rejoin { group, node } => {
            Kind::Rejoin(v1::RejoinSpec { group: group.to_string(), node: node.to_string() })
        }
        Goal::Rebuild { group, node } => Kind::Rebuild(v1::RebuildSpec {
            group: group.as_str().to_owned(),
            node: node.as_str().to_owned(),
            gate_timeout: gate_deadline.map(write_duration),
        }),
        Goal::Membership { group, node, change, spare } => write_membership(group, node, *change, *spare),
        Goal::Verify { backups } => Kind::VerifyBackup(v1::VerifyBackupSpec {
            backup: backups.first().map(|id| id.as_str().to_owned()).unwrap_or_default(),
        }),
    };
    v1::WorkSpec { kind: Some(kind), max_failures: *max_failures }
}

#[cfg(test)]
mod tests;
