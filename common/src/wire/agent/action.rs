//! An action as an agent is asked for it.

use quorate_model::service::HANDOVER_TARGETS_MAX;
use quorate_model::{
    ActionKind, ActionSpec, DataVerb, DurationMs, GroupName, HookName, MaintenanceSpec, NodeName,
    PreflightSpec, QuarantineId, Release, RotationId, SecretSpec, SecretVerb, ServiceName, TrafficSpec,
    Version,
};
use quorate_proto::agent::v1 as proto;
use quorate_proto::agent::v1::action_spec::Kind;

use super::work::read_span;
use crate::wire::data;
use crate::wire::enums::{read_data_verb, read_secret_verb, write_data_verb, write_secret_verb};
use crate::wire::invalid::each;
use crate::wire::limits::REASON_MAX_BYTES;
use crate::wire::text::{read_name, read_optional_name, read_text};
use crate::wire::time::write_duration;
use crate::wire::{Invalid, backup, maintenance, preflight as flight, release, secret as secrets, traffic};

/// The typed request.
///
/// # Errors
/// [`Invalid`] with the field.
pub fn read_action(message: proto::ActionSpec) -> Result<ActionSpec, Invalid> {
    let proto::ActionSpec { kind } = message;
    let service = |field: &str, message: proto::ServiceAction| {
        let proto::ServiceAction { service } = message;
        read_name(&format!("{field}.service"), service)
    };
    Ok(match kind.ok_or_else(|| Invalid::missing("kind"))? {
        Kind::ServiceStatus(m) => ActionSpec::ServiceStatus { service: service("service_status", m)? },
        Kind::ServiceStart(m) => ActionSpec::ServiceStart { service: service("service_start", m)? },
        Kind::ServiceStop(m) => ActionSpec::ServiceStop { service: service("service_stop", m)? },
        Kind::ServiceRestart(m) => ActionSpec::ServiceRestart { service: service("service_restart", m)? },
        Kind::ServiceReload(m) => ActionSpec::ServiceReload { service: service("service_reload", m)? },
        Kind::BackupCreate(m) => read_backup(m).map_err(|i| i.within("backup_create"))?,
        Kind::BackupVerify(m) => read_verify(m).map_err(|i| i.within("backup_verify"))?,
        Kind::LogRotate(m) => read_rotate(m).map_err(|i| i.within("log_rotate"))?,
        Kind::ArtifactStage(m) => {
            let (service, release) = read_release_action("artifact_stage", m)?;
            ActionSpec::ArtifactStage { service, release }
        }
        Kind::ArtifactActivate(m) => {
            let (service, release) = read_release_action("artifact_activate", m)?;
            ActionSpec::ArtifactActivate { service, release }
        }
        Kind::ArtifactRevert(m) => {
            let (service, release) = read_release_action("artifact_revert", m)?;
            ActionSpec::ArtifactRevert { service, release }
        }
        Kind::ConfigConfirm(m) => {
            let (service, release) = read_release_action("config_confirm", m)?;
            ActionSpec::ConfigConfirm { service, release }
        }
        Kind::TrafficDrain(m) => read_drain(m).map_err(|i| i.within("traffic_drain"))?,
        Kind::TrafficRestore(m) => read_restore(m).map_err(|i| i.within("traffic_restore"))?,
        Kind::ExecRun(m) => read_exec(m).map_err(|i| i.within("exec_run"))?,
        Kind::RolePromote(proto::RolePromoteAction { service, group, hook }) => ActionSpec::RolePromote {
            service: read_name("role_promote.service", service)?,
            group: read_name("role_promote.group", group)?,
            hook: read_name("role_promote.hook", hook)?,
        },
        Kind::MaintenanceEnter(m) => read_enter(m).map_err(|i| i.within("maintenance_enter"))?,
        Kind::Data(m) => read_data(m).map_err(|i| i.within("data"))?,
        Kind::MaintenanceExit(m) => read_exit(m).map_err(|i| i.within("maintenance_exit"))?,
        Kind::Secret(m) => read_secret(m).map_err(|i| i.within("secret"))?,
        Kind::HostPreflight(m) => read_preflight(m).map_err(|i| i.within("host_preflight"))?,
        Kind::HostFacts(proto::HostFactsAction {}) => ActionSpec::HostFacts,
        Kind::HostDiagnose(proto::HostDiagnoseAction {}) => ActionSpec::HostDiagnose,
    })
}

fn read_backup(message: proto::BackupCreateAction) -> Result<ActionSpec, Invalid> {
    let proto::BackupCreateAction { service, backup, policy } = message;
    let policy = policy.ok_or_else(|| Invalid::missing("policy"))?;
    Ok(ActionSpec::BackupCreate {
        service: read_name("service", service)?,
        backup: read_name("backup", backup)?,
        policy: backup::read_policy(policy).map_err(|i| i.within("policy"))?,
    })
}

fn read_verify(message: proto::BackupVerifyAction) -> Result<ActionSpec, Invalid> {
    let proto::BackupVerifyAction { backup, sha256 } = message;
    let sha256 = backup::read_sha256("sha256", sha256)?;
    Ok(ActionSpec::BackupVerify { backup: read_name("backup", backup)?, sha256 })
}

fn read_rotate(message: proto::LogRotateAction) -> Result<ActionSpec, Invalid> {
    let proto::LogRotateAction { service, policy } = message;
    let policy = policy.ok_or_else(|| Invalid::missing("policy"))?;
    let policy = backup::read_rotation(policy).map_err(|i| i.within("policy"))?;
    Ok(ActionSpec::LogRotate { service: read_name("service", service)?, policy })
}

fn read_drain(message: proto::TrafficDrainAction) -> Result<ActionSpec, Invalid> {
    let proto::TrafficDrainAction { service, traffic, restore_within } = message;
    Ok(ActionSpec::TrafficDrain {
        service: read_name("service", service)?,
        traffic: read_traffic(traffic)?,
        restore_within: read_span("restore_within", restore_within)?,
    })
}

fn read_restore(message: proto::TrafficRestoreAction) -> Result<ActionSpec, Invalid> {
    let proto::TrafficRestoreAction { service, traffic } = message;
    let traffic = read_traffic(traffic)?;
    Ok(ActionSpec::TrafficRestore { service: read_name("service", service)?, traffic })
}

fn read_exec(message: proto::ExecRunAction) -> Result<ActionSpec, Invalid> {
    let proto::ExecRunAction { service, hook, once, release, targets } = message;
    Ok(ActionSpec::ExecRun {
        service: read_name("service", service)?,
        hook: read_name("hook", hook)?,
        once,
        release: read_optional_name("release", release)?,
        targets: each("targets", targets, HANDOVER_TARGETS_MAX, |node| read_name("", node))?,
    })
}

fn read_enter(message: proto::MaintenanceEnterAction) -> Result<ActionSpec, Invalid> {
    let proto::MaintenanceEnterAction { service, maintenance, exit_within, reason } = message;
    Ok(ActionSpec::MaintenanceEnter {
        service: read_name("service", service)?,
        maintenance: read_maintenance(maintenance)?,
        exit_within: read_span("exit_within", exit_within)?,
        reason: read_text("reason", reason, REASON_MAX_BYTES)?,
    })
}

fn read_exit(message: proto::MaintenanceExitAction) -> Result<ActionSpec, Invalid> {
    let proto::MaintenanceExitAction { service, maintenance } = message;
    let maintenance = read_maintenance(maintenance)?;
    Ok(ActionSpec::MaintenanceExit { service: read_name("service", service)?, maintenance })
}

fn read_maintenance(message: Option<quorate_proto::v1::MaintenanceSpec>) -> Result<MaintenanceSpec, Invalid> {
    let maintenance = message.ok_or_else(|| Invalid::missing("maintenance"))?;
    maintenance::read_maintenance(maintenance).map_err(|i| i.within("maintenance"))
}

fn read_preflight(message: proto::HostPreflightAction) -> Result<ActionSpec, Invalid> {
    let proto::HostPreflightAction { service, preflight, ahead_of, release, backup } = message;
    let preflight = preflight.ok_or_else(|| Invalid::missing("preflight"))?;
    Ok(ActionSpec::HostPreflight {
        service: read_name("service", service)?,
        preflight: flight::read_preflight(preflight).map_err(|i| i.within("preflight"))?,
        ahead_of: ActionKind::parse(&ahead_of)
            .ok_or_else(|| Invalid::new("ahead_of", "it is no action that is known here"))?,
        release: release.map(release::read_release).transpose().map_err(|i| i.within("release"))?,
        backup,
    })
}

fn read_secret(message: proto::SecretAction) -> Result<ActionSpec, Invalid> {
    let proto::SecretAction { service, secret, rotation, verb, resumes } = message;
    let secret = secret.ok_or_else(|| Invalid::missing("secret"))?;
    Ok(ActionSpec::Secret {
        service: read_name("service", service)?,
        secret: secrets::read_secret(secret).map_err(|i| i.within("secret"))?,
        rotation: read_name("rotation", rotation)?,
        verb: read_secret_verb("verb", verb)?,
        resumes: (!resumes.is_empty()).then(|| read_name("resumes", resumes)).transpose()?,
    })
}

fn read_data(message: proto::DataAction) -> Result<ActionSpec, Invalid> {
    let proto::DataAction { service, paths, quarantine, verb } = message;
    Ok(ActionSpec::Data {
        service: read_name("service", service)?,
        paths: data::read_paths("paths", paths)?,
        quarantine: read_name("quarantine", quarantine)?,
        verb: read_data_verb("verb", verb)?,
    })
}

fn read_traffic(message: Option<quorate_proto::v1::TrafficSpec>) -> Result<TrafficSpec, Invalid> {
    let traffic = message.ok_or_else(|| Invalid::missing("traffic"))?;
    traffic::read_traffic(traffic).map_err(|i| i.within("traffic"))
}

fn read_release_action(
    field: &str,
    message: proto::ReleaseAction,
) -> Result<(ServiceName, Release), Invalid> {
    let proto::ReleaseAction { service, release } = message;
    let within = format!("{field}.release");
    let release = release.ok_or_else(|| Invalid::missing(&within))?;
    let release = release::read_release(release).map_err(|i| i.within(&within))?;
    Ok((read_name(&format!("{field}.service"), service)?, release))
}

/// As a message.
#[must_use]
pub fn write_action(action: &ActionSpec) -> proto::ActionSpec {
    let on = |service: &ServiceName| proto::ServiceAction { service: service.to_string() };
    let of = |service: &ServiceName, release: &Release| proto::ReleaseAction {
        service: service.to_string(),
        release: Some(release::write_release(release)),
    };
    let kind = match action {
        ActionSpec::ServiceStatus { service } => Kind::ServiceStatus(on(service)),
        ActionSpec::ServiceStart { service } => Kind::ServiceStart(on(service)),
        ActionSpec::ServiceStop { service } => Kind::ServiceStop(on(service)),
        ActionSpec::ServiceRestart { service } => Kind::ServiceRestart(on(service)),
        ActionSpec::ServiceReload { service } => Kind::ServiceReload(on(service)),
        ActionSpec::BackupCreate { service, backup, policy } => {
            Kind::BackupCreate(proto::BackupCreateAction {
                service: service.to_string(),
                backup: backup.to_string(),
                policy: Some(backup::write_policy(policy)),
            })
        }
        ActionSpec::BackupVerify { backup, sha256 } => Kind::BackupVerify(proto::BackupVerifyAction {
            backup: backup.to_string(),
            sha256: sha256.clone(),
        }),
        ActionSpec::LogRotate { service, policy } => Kind::LogRotate(proto::LogRotateAction {
            service: service.to_string(),
            policy: Some(backup::write_rotation(policy)),
        }),
        ActionSpec::ArtifactStage { service, release } => Kind::ArtifactStage(of(service, release)),
        ActionSpec::ArtifactActivate { service, release } => Kind::ArtifactActivate(of(service, release)),
        ActionSpec::ArtifactRevert { service, release } => Kind::ArtifactRevert(of(service, release)),
        ActionSpec::ConfigConfirm { service, release } => Kind::ConfigConfirm(of(service, release)),
        ActionSpec::TrafficDrain { service, traffic, restore_within } => {
            Kind::TrafficDrain(proto::TrafficDrainAction {
                service: service.to_string(),
                traffic: Some(traffic::write_traffic(traffic)),
                restore_within: Some(write_duration(*restore_within)),
            })
        }
        ActionSpec::TrafficRestore { service, traffic } => {
            Kind::TrafficRestore(proto::TrafficRestoreAction {
                service: service.to_string(),
                traffic: Some(traffic::write_traffic(traffic)),
            })
        }
        ActionSpec::ExecRun { service, hook, once, release, targets } => {
            write_exec(service, hook, *once, release.as_ref(), targets)
        }
        ActionSpec::RolePromote { service, group, hook } => write_promote(service, group, hook),
        ActionSpec::MaintenanceEnter { service, maintenance, exit_within, reason } => {
            write_enter(service, maintenance, *exit_within, reason)
        }
        ActionSpec::MaintenanceExit { service, maintenance } => {
            Kind::MaintenanceExit(proto::MaintenanceExitAction {
                service: service.to_string(),
                maintenance: Some(maintenance::write_maintenance(maintenance)),
            })
        }
        ActionSpec::Secret { service, secret, rotation, verb, resumes } => {
            write_secret(service, secret, (rotation, resumes.as_ref()), *verb)
        }
        ActionSpec::Data { service, paths, quarantine, verb } => {
            write_data(service, paths, quarantine, *verb)
        }
        ActionSpec::HostPreflight { service, preflight, ahead_of, release, backup } => {
            let release = release.as_ref().map(release::write_release);
            write_preflight(service, preflight, *ahead_of, release, *backup)
        }
        ActionSpec::HostFacts => Kind::HostFacts(proto::HostFactsAction {}),
        ActionSpec::HostDiagnose => Kind::HostDiagnose(proto::HostDiagnoseAction {}),
    };
    proto::ActionSpec { kind: Some(kind) }
}

fn write_promote(service: &ServiceName, group: &GroupName, hook: &HookName) -> Kind {
    Kind::RolePromote(proto::RolePromoteAction {
        service: service.to_string(),
        group: group.to_string(),
        hook: hook.to_string(),
    })
}

fn write_exec(
    service: &ServiceName,
    hook: &HookName,
    once: bool,
    release: Option<&Version>,
    targets: &[NodeName],
) -> Kind {
    Kind::ExecRun(proto::ExecRunAction {
        service: service.to_string(),
        hook: hook.to_string(),
        once,
        release: release.map(ToString::to_string).unwrap_or_default(),
        targets: targets.iter().map(ToString::to_string).collect(),
    })
}

fn write_enter(
    service: &ServiceName,
    maintenance: &MaintenanceSpec,
    exit_within: DurationMs,
    reason: &str,
) -> Kind {
    Kind::MaintenanceEnter(proto::MaintenanceEnterAction {
        service: service.to_string(),
        maintenance: Some(maintenance::write_maintenance(maintenance)),
        exit_within: Some(write_duration(exit_within)),
        reason: reason.to_owned(),
    })
}

fn write_secret(
    service: &ServiceName,
    secret: &SecretSpec,
    (rotation, resumes): (&RotationId, Option<&RotationId>),
    verb: SecretVerb,
) -> Kind {
    Kind::Secret(proto::SecretAction {
        service: service.to_string(),
        secret: Some(secrets::write_secret(secret)),
        rotation: rotation.to_string(),
        verb: write_secret_verb(verb) as i32,
        resumes: resumes.map(ToString::to_string).unwrap_or_default(),
    })
}

fn write_preflight(
    service: &ServiceName,
    preflight: &PreflightSpec,
    ahead_of: ActionKind,
    release: Option<quorate_proto::v1::Release>,
    backup: bool,
) -> Kind {
    Kind::HostPreflight(proto::HostPreflightAction {
        service: service.to_string(),
        preflight: Some(flight::write_preflight(preflight)),
        ahead_of: ahead_of.as_str().to_owned(),
        release,
        backup,
    })
}

fn write_data(service: &ServiceName, paths: &[String], quarantine: &QuarantineId, verb: DataVerb) -> Kind {
    Kind::Data(proto::DataAction {
        service: service.to_string(),
        paths: paths.to_vec(),
        quarantine: quarantine.to_string(),
        verb: write_data_verb(verb) as i32,
    })
}
