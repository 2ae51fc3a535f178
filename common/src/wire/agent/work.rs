//! What an agent is told.

use quorate_model::session::{Assignment, NodeInstance, NodeProbe, NodeWork, Welcome};
use quorate_model::{DurationMs, Epoch, InstanceId, LeaseAnswer, ObligationId, Timestamp};
use quorate_proto::agent::v1 as proto;

use super::action::{read_action, write_action};
use super::{
    COORDINATORS_MAX, EXECUTIONS_MAX, INSTANCES_MAX, LEASES_MAX, LINE_MAX_BYTES, NODE_PROBES_MAX,
    WORD_MAX_BYTES, lease,
};
use crate::wire::invalid::each;
use crate::wire::text::{printable, read_filled, read_name, read_text};
use crate::wire::time::{read_duration, read_duration_or, read_timestamp, write_duration, write_timestamp};
use crate::wire::{Invalid, probe, service};

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
    /// Answer to a renewal of a lease.
    Lease(LeaseAnswer),
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
        Body::Lease(answer) => ToAgent::Lease(lease::read_answer(answer).map_err(|i| i.within("lease"))?),
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
        ToAgent::Lease(answer) => Body::Lease(lease::write_answer(answer)),
    };
    proto::SessionResponse { body: Some(body) }
}

/// A duration that must be there and be more than nothing.
pub(super) fn read_span(field: &str, span: Option<prost_types::Duration>) -> Result<DurationMs, Invalid> {
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
        extended,
        leases,
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
        extended: each("extended", extended, EXECUTIONS_MAX, read_extension)?,
        leases: each("leases", leases, LEASES_MAX, lease::read_held)?,
    })
}

/// As a message.
#[must_use]
pub fn write_work(work: &NodeWork) -> proto::Desired {
    let NodeWork {
        generation,
        assignments,
        instances,
        probes,
        cancels,
        discharges,
        confirmed,
        left_out,
        extended,
        leases,
    } = work;
    proto::Desired {
        generation: *generation,
        assignments: assignments.iter().map(write_assignment).collect(),
        instances: instances.iter().map(write_node_instance).collect(),
        probes: probes.iter().map(write_node_probe).collect(),
        cancels: cancels.iter().map(ToString::to_string).collect(),
        discharges: discharges.iter().map(ToString::to_string).collect(),
        confirmed: confirmed.iter().map(ToString::to_string).collect(),
        left_out: left_out.iter().map(ToString::to_string).collect(),
        extended: extended.iter().map(write_extension).collect(),
        leases: leases.iter().map(lease::write_held).collect(),
    }
}

fn read_extension(message: proto::Extension) -> Result<(ObligationId, DurationMs), Invalid> {
    let proto::Extension { obligation, remaining } = message;
    Ok((read_name("obligation", obligation)?, read_span("remaining", remaining)?))
}

fn write_extension((obligation, remaining): &(ObligationId, DurationMs)) -> proto::Extension {
    proto::Extension { obligation: obligation.to_string(), remaining: Some(write_duration(*remaining)) }
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
