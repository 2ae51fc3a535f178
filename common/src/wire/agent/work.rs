//! What an agent is told.

use quorate_model::service::HANDOVER_TARGETS_MAX;
use quorate_model::session::{Assignment, NodeInstance, NodeProbe, NodeWork, Welcome};
use quorate_model::{
    ActionKind, ActionSpec, DurationMs, Epoch, InstanceId, MaintenanceSpec, Release, ServiceName, Timestamp,
    TrafficSpec,
};
use quorate_proto::agent::v1 as proto;

use super::{
    COORDINATORS_MAX, EXECUTIONS_MAX, INSTANCES_MAX, LINE_MAX_BYTES, NODE_PROBES_MAX, WORD_MAX_BYTES,
};
use crate::wire::enums::{read_secret_verb, write_secret_verb};
use crate::wire::invalid::each;
use crate::wire::limits::REASON_MAX_BYTES;
use crate::wire::text::{printable, read_filled, read_name, read_optional_name, read_text};
use crate::wire::time::{read_duration, read_duration_or, read_timestamp, write_duration, write_timestamp};
use crate::wire::{
    Invalid, backup, maintenance, preflight as flight, probe, release, secret as secrets, service, traffic,
};

/// To an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToAgent {
    /// Answer to Hello.
    Welcome(Welcome),
    /// Answer to a heartbeat.
    HeartbeatAck {
        /// Sequence of the heartbeat.
        sequence: u64,
        /// The coordinator's clock.
        time: Timestamp,
    },
    /// The node's whole work.
    Work(NodeWork),
    /// A report is durable in the replicated state.
    ReportAck {
        /// Sequence of the message.
        sequence: u64,
        /// The execution or obligation it was about.
        subject: String,
    },
    /// The coordinator ends the session.
    Close {
        /// Stable code.
        reason: String,
        /// One line.
        message: String,
        /// Try again after this time; zero means at once, elsewhere.
        retry_after: DurationMs,
    },
}

/// A message to an agent.
///
/// # Errors
/// [`Invalid`] with the field.
pub fn read_to_agent(message: proto::SessionResponse) -> Result<ToAgent, Invalid> {
    use proto::session_response::Body;
    let proto::SessionResponse { body } = message;
    Ok(match body.ok_or_else(|| Invalid::missing("body"))? {
        Body::Welcome(welcome) => ToAgent::Welcome(read_welcome(welcome).map_err(|i| i.within("welcome"))?),
        Body::HeartbeatAck(proto::HeartbeatAck { sequence, time }) => {
            ToAgent::HeartbeatAck { sequence, time: read_timestamp("heartbeat_ack.time", time)? }
        }
        Body::Desired(work) => ToAgent::Work(read_work(work).map_err(|i| i.within("desired"))?),
        Body::ReportAck(proto::ReportAck { sequence, subject }) => ToAgent::ReportAck {
            sequence,
            subject: read_text("report_ack.subject", subject, WORD_MAX_BYTES)?,
        },
        Body::Close(proto::Close { reason, message, retry_after }) => ToAgent::Close {
            reason: printable(&reason, WORD_MAX_BYTES),
            message: printable(&message, LINE_MAX_BYTES),
            retry_after: read_duration_or("close.retry_after", retry_after, DurationMs::ZERO)?,
        },
    })
}

/// As a message.
#[must_use]
pub fn write_to_agent(said: &ToAgent) -> proto::SessionResponse {
    use proto::session_response::Body;
    let body = match said {
        ToAgent::Welcome(welcome) => Body::Welcome(write_welcome(welcome)),
        ToAgent::HeartbeatAck { sequence, time } => {
            Body::HeartbeatAck(proto::HeartbeatAck { sequence: *sequence, time: write_timestamp(*time) })
        }
        ToAgent::Work(work) => Body::Desired(write_work(work)),
        ToAgent::ReportAck { sequence, subject } => {
            Body::ReportAck(proto::ReportAck { sequence: *sequence, subject: subject.clone() })
        }
        ToAgent::Close { reason, message, retry_after } => Body::Close(proto::Close {
            reason: reason.clone(),
            message: message.clone(),
            retry_after: Some(write_duration(*retry_after)),
        }),
    };
    proto::SessionResponse { body: Some(body) }
}

/// A duration that must be there and be more than nothing.
fn read_span(field: &str, span: Option<prost_types::Duration>) -> Result<DurationMs, Invalid> {
    match read_duration(field, span)? {
        None => Err(Invalid::missing(field)),
        Some(DurationMs::ZERO) => Err(Invalid::new(field, "it must be more than zero")),
        Some(span) => Ok(span),
    }
}

/// Answer to Hello.
///
/// # Errors
/// [`Invalid`] with the field.
pub fn read_welcome(message: proto::Welcome) -> Result<Welcome, Invalid> {
    let proto::Welcome {
        coordinator,
        heartbeat_interval,
        silence_limit,
        metrics_interval,
        coordinators,
        cluster_id,
    } = message;
    Ok(Welcome {
        coordinator: read_text("coordinator", coordinator, WORD_MAX_BYTES)?,
        heartbeat_interval: read_span("heartbeat_interval", heartbeat_interval)?,
        silence_limit: read_span("silence_limit", silence_limit)?,
        metrics_interval: read_span("metrics_interval", metrics_interval)?,
        coordinators: each("coordinators", coordinators, COORDINATORS_MAX, |address| {
            read_filled("", address, WORD_MAX_BYTES)
        })?,
        cluster: read_name("cluster_id", cluster_id)?,
    })
}

/// As a message.
#[must_use]
pub fn write_welcome(welcome: &Welcome) -> proto::Welcome {
    let Welcome { coordinator, heartbeat_interval, silence_limit, metrics_interval, coordinators, cluster } =
        welcome;
    proto::Welcome {
        coordinator: coordinator.clone(),
        heartbeat_interval: Some(write_duration(*heartbeat_interval)),
        silence_limit: Some(write_duration(*silence_limit)),
        metrics_interval: Some(write_duration(*metrics_interval)),
        coordinators: coordinators.clone(),
        cluster_id: cluster.to_string(),
    }
}

/// The whole work of a node.
///
/// # Errors
/// [`Invalid`] with the field.
pub fn read_work(message: proto::Desired) -> Result<NodeWork, Invalid> {
    let proto::Desired {
        generation,
        assignments,
        instances,
        probes,
        cancels,
        discharges,
        confirmed,
        left_out,
    } = message;
    Ok(NodeWork {
        generation,
        assignments: each("assignments", assignments, EXECUTIONS_MAX, read_assignment)?,
        instances: each("instances", instances, INSTANCES_MAX, read_node_instance)?,
        probes: each("probes", probes, NODE_PROBES_MAX, read_node_probe)?,
        cancels: each("cancels", cancels, EXECUTIONS_MAX, |id| read_name("", id))?,
        discharges: each("discharges", discharges, EXECUTIONS_MAX, |id| read_name("", id))?,
        confirmed: each("confirmed", confirmed, EXECUTIONS_MAX, |id| read_name("", id))?,
        left_out: each("left_out", left_out, EXECUTIONS_MAX, |id| read_name("", id))?,
    })
}

/// As a message.
#[must_use]
pub fn write_work(work: &NodeWork) -> proto::Desired {
    let NodeWork { generation, assignments, instances, probes, cancels, discharges, confirmed, left_out } =
        work;
    proto::Desired {
        generation: *generation,
        assignments: assignments.iter().map(write_assignment).collect(),
        instances: instances.iter().map(write_node_instance).collect(),
        probes: probes.iter().map(write_node_probe).collect(),
        cancels: cancels.iter().map(ToString::to_string).collect(),
        discharges: discharges.iter().map(ToString::to_string).collect(),
        confirmed: confirmed.iter().map(ToString::to_string).collect(),
        left_out: left_out.iter().map(ToString::to_string).collect(),
    }
}

/// One execution to do.
///
/// # Errors
/// [`Invalid`] with the field.
pub fn read_assignment(message: proto::Assignment) -> Result<Assignment, Invalid> {
    let proto::Assignment { execution, operation, epoch, grant_remaining_ms, deadline, action, disruptive } =
        message;
    let action = action.ok_or_else(|| Invalid::missing("action"))?;
    Ok(Assignment {
        execution: read_name("execution", execution)?,
        operation: read_name("operation", operation)?,
        epoch: Epoch(epoch),
        grant_remaining: DurationMs(grant_remaining_ms),
        deadline: read_span("deadline", deadline)?,
        action: read_action(action).map_err(|i| i.within("action"))?,
        disruptive,
    })
}

/// As a message.
#[must_use]
pub fn write_assignment(assignment: &Assignment) -> proto::Assignment {
    let Assignment { execution, operation, epoch, grant_remaining, deadline, action, disruptive } =
        assignment;
    proto::Assignment {
        execution: execution.to_string(),
        operation: operation.to_string(),
        epoch: epoch.0,
        grant_remaining_ms: grant_remaining.0,
        deadline: Some(write_duration(*deadline)),
        action: Some(write_action(action)),
        disruptive: *disruptive,
    }
}

/// The typed request.
///
/// # Errors
/// [`Invalid`] with the field.
pub fn read_action(message: proto::ActionSpec) -> Result<ActionSpec, Invalid> {
    use proto::action_spec::Kind;
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
        Kind::BackupCreate(proto::BackupCreateAction { service, backup, policy }) => {
            let policy = policy.ok_or_else(|| Invalid::missing("backup_create.policy"))?;
            ActionSpec::BackupCreate {
                service: read_name("backup_create.service", service)?,
                backup: read_name("backup_create.backup", backup)?,
                policy: backup::read_policy(policy).map_err(|i| i.within("backup_create.policy"))?,
            }
        }
        Kind::BackupVerify(proto::BackupVerifyAction { backup, sha256 }) => ActionSpec::BackupVerify {
            backup: read_name("backup_verify.backup", backup)?,
            sha256: backup::read_sha256("backup_verify.sha256", sha256)?,
        },
        Kind::LogRotate(proto::LogRotateAction { service, policy }) => {
            let policy = policy.ok_or_else(|| Invalid::missing("log_rotate.policy"))?;
            ActionSpec::LogRotate {
                service: read_name("log_rotate.service", service)?,
                policy: backup::read_rotation(policy).map_err(|i| i.within("log_rotate.policy"))?,
            }
        }
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
        Kind::TrafficDrain(proto::TrafficDrainAction { service, traffic, restore_within }) => {
            ActionSpec::TrafficDrain {
                service: read_name("traffic_drain.service", service)?,
                traffic: read_traffic("traffic_drain.traffic", traffic)?,
                restore_within: read_span("traffic_drain.restore_within", restore_within)?,
            }
        }
        Kind::TrafficRestore(proto::TrafficRestoreAction { service, traffic }) => {
            ActionSpec::TrafficRestore {
                service: read_name("traffic_restore.service", service)?,
                traffic: read_traffic("traffic_restore.traffic", traffic)?,
            }
        }
        Kind::ExecRun(proto::ExecRunAction { service, hook, once, release, targets }) => {
            ActionSpec::ExecRun {
                service: read_name("exec_run.service", service)?,
                hook: read_name("exec_run.hook", hook)?,
                once,
                release: read_optional_name("exec_run.release", release)?,
                targets: each("exec_run.targets", targets, HANDOVER_TARGETS_MAX, |node| read_name("", node))?,
            }
        }
        Kind::MaintenanceEnter(proto::MaintenanceEnterAction {
            service,
            maintenance,
            exit_within,
            reason,
        }) => ActionSpec::MaintenanceEnter {
            service: read_name("maintenance_enter.service", service)?,
            maintenance: read_maintenance("maintenance_enter.maintenance", maintenance)?,
            exit_within: read_span("maintenance_enter.exit_within", exit_within)?,
            reason: read_text("maintenance_enter.reason", reason, REASON_MAX_BYTES)?,
        },
        Kind::MaintenanceExit(proto::MaintenanceExitAction { service, maintenance }) => {
            ActionSpec::MaintenanceExit {
                service: read_name("maintenance_exit.service", service)?,
                maintenance: read_maintenance("maintenance_exit.maintenance", maintenance)?,
            }
        }
        Kind::Secret(m) => read_secret(m).map_err(|i| i.within("secret"))?,
        Kind::HostPreflight(m) => read_preflight(m).map_err(|i| i.within("host_preflight"))?,
        Kind::HostFacts(proto::HostFactsAction {}) => ActionSpec::HostFacts,
        Kind::HostDiagnose(proto::HostDiagnoseAction {}) => ActionSpec::HostDiagnose,
    })
}

fn read_maintenance(
    field: &str,
    message: Option<quorate_proto::v1::MaintenanceSpec>,
) -> Result<MaintenanceSpec, Invalid> {
    let maintenance = message.ok_or_else(|| Invalid::missing(field))?;
    maintenance::read_maintenance(maintenance).map_err(|i| i.within(field))
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
    let proto::SecretAction { service, secret, rotation, verb } = message;
    let secret = secret.ok_or_else(|| Invalid::missing("secret"))?;
    Ok(ActionSpec::Secret {
        service: read_name("service", service)?,
        secret: secrets::read_secret(secret).map_err(|i| i.within("secret"))?,
        rotation: read_name("rotation", rotation)?,
        verb: read_secret_verb("verb", verb)?,
    })
}

fn read_traffic(
    field: &str,
    message: Option<quorate_proto::v1::TrafficSpec>,
) -> Result<TrafficSpec, Invalid> {
    let traffic = message.ok_or_else(|| Invalid::missing(field))?;
    traffic::read_traffic(traffic).map_err(|i| i.within(field))
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
    use proto::action_spec::Kind;
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
            Kind::ExecRun(proto::ExecRunAction {
                service: service.to_string(),
                hook: hook.to_string(),
                once: *once,
                release: release.as_ref().map(ToString::to_string).unwrap_or_default(),
                targets: targets.iter().map(ToString::to_string).collect(),
            })
        }
        ActionSpec::MaintenanceEnter { service, maintenance, exit_within, reason } => {
            Kind::MaintenanceEnter(proto::MaintenanceEnterAction {
                service: service.to_string(),
                maintenance: Some(maintenance::write_maintenance(maintenance)),
                exit_within: Some(write_duration(*exit_within)),
                reason: reason.clone(),
            })
        }
        ActionSpec::MaintenanceExit { service, maintenance } => {
            Kind::MaintenanceExit(proto::MaintenanceExitAction {
                service: service.to_string(),
                maintenance: Some(maintenance::write_maintenance(maintenance)),
            })
        }
        ActionSpec::Secret { service, secret, rotation, verb } => Kind::Secret(proto::SecretAction {
            service: service.to_string(),
            secret: Some(secrets::write_secret(secret)),
            rotation: rotation.to_string(),
            verb: write_secret_verb(*verb) as i32,
        }),
        ActionSpec::HostPreflight { service, preflight, ahead_of, release, backup } => {
            Kind::HostPreflight(proto::HostPreflightAction {
                service: service.to_string(),
                preflight: Some(flight::write_preflight(preflight)),
                ahead_of: ahead_of.as_str().to_owned(),
                release: release.as_ref().map(release::write_release),
                backup: *backup,
            })
        }
        ActionSpec::HostFacts => Kind::HostFacts(proto::HostFactsAction {}),
        ActionSpec::HostDiagnose => Kind::HostDiagnose(proto::HostDiagnoseAction {}),
    };
    proto::ActionSpec { kind: Some(kind) }
}

/// An instance on the node.
///
/// # Errors
/// [`Invalid`] with the field.
pub fn read_node_instance(message: proto::DesiredInstance) -> Result<NodeInstance, Invalid> {
    let proto::DesiredInstance { service: name, driver, running, stop_timeout, start_timeout } = message;
    Ok(NodeInstance {
        service: read_name("service", name)?,
        driver: service::read_driver(driver)?,
        running,
        stop_timeout: read_span("stop_timeout", stop_timeout)?,
        start_timeout: read_span("start_timeout", start_timeout)?,
    })
}

/// As a message.
#[must_use]
pub fn write_node_instance(instance: &NodeInstance) -> proto::DesiredInstance {
    let NodeInstance { service: name, driver, running, stop_timeout, start_timeout } = instance;
    proto::DesiredInstance {
        service: name.to_string(),
        driver: Some(service::write_driver(driver)),
        running: *running,
        stop_timeout: Some(write_duration(*stop_timeout)),
        start_timeout: Some(write_duration(*start_timeout)),
    }
}

/// A probe to run.
///
/// # Errors
/// [`Invalid`] with the field.
pub fn read_node_probe(message: proto::DesiredProbe) -> Result<NodeProbe, Invalid> {
    let proto::DesiredProbe { node, service, probe } = message;
    let probe = probe.ok_or_else(|| Invalid::missing("probe"))?;
    Ok(NodeProbe {
        instance: InstanceId { node: read_name("node", node)?, service: read_name("service", service)? },
        probe: probe::read_probe(probe).map_err(|i| i.within("probe"))?,
    })
}

/// As a message.
#[must_use]
pub fn write_node_probe(probe: &NodeProbe) -> proto::DesiredProbe {
    let NodeProbe { instance, probe } = probe;
    proto::DesiredProbe {
        node: instance.node.to_string(),
        service: instance.service.to_string(),
        probe: Some(probe::write_probe(probe)),
    }
}
