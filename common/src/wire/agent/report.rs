//! What an agent says.

use std::collections::BTreeMap;

use quorate_model::node::{Facts, NodeCondition};
use quorate_model::observe::{LISTED_KEY_MAX_BYTES, LISTED_MAX};
use quorate_model::session::{
    Capability, ExecutionReport, Heartbeat, Hello, InstanceReport, ObligationReport, Reading,
};
use quorate_model::{
    ActionKind, DurationMs, Epoch, InstanceId, InstanceRole, LeaseRenewal, Listed, Millionths, Reason,
};
use quorate_proto::agent::v1 as proto;
use quorate_proto::v1;

use super::{
    CAPABILITIES_MAX, EXECUTIONS_MAX, INSTANCES_MAX, LINE_MAX_BYTES, METRIC_LABELS_MAX, METRICS_MAX,
    NODE_PROBES_MAX, WORD_MAX_BYTES, lease,
};
use crate::wire::invalid::{at_most, each};
use crate::wire::text::{printable, read_filled, read_name, read_text};
use crate::wire::time::{read_timestamp, write_timestamp};
use crate::wire::{Invalid, enums, outcome};

/// One value of a metric. A float, and therefore not in the model: no decision rests on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Name, for example `memory_available_bytes`.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Value; finite.
    pub value: f64,
}

/// From an agent.
#[derive(Clone, Debug, PartialEq)]
pub enum FromAgent {
    /// First message of a session, and only that.
    Hello(Box<Hello>),
    /// Alive.
    Heartbeat(Heartbeat),
    /// The host.
    Facts(Box<Facts>),
    /// Metrics.
    Metrics(Vec<Metric>),
    /// Probe readings since the last report, the newest of each probe.
    Readings(Vec<Reading>),
    /// Every instance it was told of.
    Instances(Vec<InstanceReport>),
    /// An execution's progress.
    Execution(Box<ExecutionReport>),
    /// An obligation's progress.
    Obligation(ObligationReport),
    /// A lease is to be renewed, or needed no more.
    Lease(LeaseRenewal),
}

/// A message from an agent, with its sequence.
///
/// # Errors
/// [`Invalid`] with the field.
pub fn read_from_agent(message: proto::SessionRequest) -> Result<(u64, FromAgent), Invalid> {
    use proto::session_request::Body;
    let proto::SessionRequest { sequence, body } = message;
    if sequence == 0 {
        return Err(Invalid::new("sequence", "it counts from 1"));
    }
    let body = match body.ok_or_else(|| Invalid::missing("body"))? {
        Body::Hello(hello) => FromAgent::Hello(Box::new(read_hello(hello).map_err(|i| i.within("hello"))?)),
        Body::Heartbeat(beat) => {
            FromAgent::Heartbeat(read_heartbeat(beat).map_err(|i| i.within("heartbeat"))?)
        }
        Body::Facts(proto::FactsReport { facts }) => {
            let facts = facts.ok_or_else(|| Invalid::missing("facts.facts"))?;
            FromAgent::Facts(Box::new(outcome::read_facts(facts).map_err(|i| i.within("facts.facts"))?))
        }
        Body::Metrics(proto::MetricsReport { metrics }) => {
            FromAgent::Metrics(each("metrics.metrics", metrics, METRICS_MAX, read_metric)?)
        }
        Body::Readings(proto::ReadingsReport { readings }) => {
            FromAgent::Readings(each("readings.readings", readings, NODE_PROBES_MAX, read_reading)?)
        }
        Body::Instances(proto::InstancesReport { instances }) => {
            FromAgent::Instances(each("instances.instances", instances, INSTANCES_MAX, read_instance)?)
        }
        Body::Execution(report) => {
            FromAgent::Execution(Box::new(read_execution(report).map_err(|i| i.within("execution"))?))
        }
        Body::Obligation(report) => {
            FromAgent::Obligation(read_obligation(report).map_err(|i| i.within("obligation"))?)
        }
        Body::Lease(renewal) => {
            FromAgent::Lease(lease::read_renewal(renewal).map_err(|i| i.within("lease"))?)
        }
    };
    Ok((sequence, body))
}

/// As a message.
#[must_use]
pub fn write_from_agent(sequence: u64, said: &FromAgent) -> proto::SessionRequest {
    use proto::session_request::Body;
    let body = match said {
        FromAgent::Hello(hello) => Body::Hello(write_hello(hello)),
        FromAgent::Heartbeat(beat) => Body::Heartbeat(write_heartbeat(beat)),
        FromAgent::Facts(facts) => {
            Body::Facts(proto::FactsReport { facts: Some(outcome::write_facts(facts)) })
        }
        FromAgent::Metrics(metrics) => {
            Body::Metrics(proto::MetricsReport { metrics: metrics.iter().map(write_metric).collect() })
        }
        FromAgent::Readings(readings) => {
            Body::Readings(proto::ReadingsReport { readings: readings.iter().map(write_reading).collect() })
        }
        FromAgent::Instances(instances) => Body::Instances(proto::InstancesReport {
            instances: instances.iter().map(write_instance).collect(),
        }),
        FromAgent::Execution(report) => Body::Execution(write_execution(report)),
        FromAgent::Obligation(report) => Body::Obligation(write_obligation(report)),
        FromAgent::Lease(renewal) => Body::Lease(lease::write_renewal(renewal)),
    };
    proto::SessionRequest { sequence, body: Some(body) }
}

/// First words.
///
/// # Errors
/// [`Invalid`] with the field. An action that this release does not know is left out: it can not be asked for.
pub fn read_hello(message: proto::Hello) -> Result<Hello, Invalid> {
    let proto::Hello {
        node,
        agent_version,
        boot_id,
        incarnation,
        capabilities,
        highest_epoch,
        unconfirmed,
        generation,
        installation,
    } = message;
    at_most("capabilities", capabilities.len(), CAPABILITIES_MAX)?;
    let capabilities = capabilities
        .into_iter()
        .filter_map(|proto::Capability { action, version }| {
            ActionKind::parse(&action).map(|action| Capability { action, version })
        })
        .collect();
    Ok(Hello {
        node: read_name("node", node)?,
        agent_version: read_text("agent_version", agent_version, WORD_MAX_BYTES)?,
        boot_id: read_text("boot_id", boot_id, WORD_MAX_BYTES)?,
        incarnation: read_text("incarnation", incarnation, WORD_MAX_BYTES)?,
        capabilities,
        highest_epoch: Epoch(highest_epoch),
        unconfirmed: each("unconfirmed", unconfirmed, EXECUTIONS_MAX, |id| read_name("", id))?,
        generation,
        installation: read_text("installation", installation, WORD_MAX_BYTES)?,
    })
}

/// As a message.
#[must_use]
pub fn write_hello(hello: &Hello) -> proto::Hello {
    let Hello {
        node,
        agent_version,
        boot_id,
        incarnation,
        capabilities,
        highest_epoch,
        unconfirmed,
        generation,
        installation,
    } = hello;
    let capability = |c: &Capability| {
        let Capability { action, version } = c;
        proto::Capability { action: action.as_str().to_owned(), version: *version }
    };
    proto::Hello {
        node: node.to_string(),
        agent_version: agent_version.clone(),
        boot_id: boot_id.clone(),
        incarnation: incarnation.clone(),
        capabilities: capabilities.iter().map(capability).collect(),
        highest_epoch: highest_epoch.0,
        unconfirmed: unconfirmed.iter().map(ToString::to_string).collect(),
        generation: *generation,
        installation: installation.clone(),
    }
}

/// Alive. A condition that this release does not know is left out; it would have nowhere to be shown.
fn read_heartbeat(message: proto::Heartbeat) -> Result<Heartbeat, Invalid> {
    let proto::Heartbeat { sent, clock_offset_ms, round_trip_us, conditions, generation } = message;
    at_most("conditions", conditions.len(), NodeCondition::ALL.len() * 2)?;
    let conditions = conditions
        .into_iter()
        .filter_map(|(word, text)| {
            NodeCondition::parse(&word).map(|condition| (condition, printable(&text, LINE_MAX_BYTES)))
        })
        .collect();
    Ok(Heartbeat {
        sent: read_timestamp("sent", sent)?,
        clock_offset_ms,
        round_trip_us,
        conditions,
        generation,
    })
}

fn write_heartbeat(beat: &Heartbeat) -> proto::Heartbeat {
    let Heartbeat { sent, clock_offset_ms, round_trip_us, conditions, generation } = beat;
    proto::Heartbeat {
        sent: write_timestamp(*sent),
        clock_offset_ms: *clock_offset_ms,
        round_trip_us: *round_trip_us,
        conditions: conditions.iter().map(|(c, text)| (c.as_str().to_owned(), text.clone())).collect(),
        generation: *generation,
    }
}

/// One metric.
///
/// # Errors
/// [`Invalid`] with the field; a value that is no number is refused.
pub fn read_metric(message: v1::Metric) -> Result<Metric, Invalid> {
    let v1::Metric { name, labels, value } = message;
    let name = read_filled("name", name, WORD_MAX_BYTES)?;
    at_most("labels", labels.len(), METRIC_LABELS_MAX)?;
    for (key, text) in &labels {
        read_filled("labels", key.clone(), WORD_MAX_BYTES)?;
        read_text("labels", text.clone(), WORD_MAX_BYTES)?;
    }
    if !value.is_finite() {
        return Err(Invalid::new("value", "it is not a finite number"));
    }
    Ok(Metric { name, labels, value })
}

/// As a message.
#[must_use]
pub fn write_metric(metric: &Metric) -> v1::Metric {
    let Metric { name, labels, value } = metric;
    v1::Metric { name: name.clone(), labels: labels.clone(), value: *value }
}

/// One reading.
///
/// # Errors
/// [`Invalid`] with the field.
pub fn read_reading(message: proto::Reading) -> Result<Reading, Invalid> {
    let proto::Reading {
        node,
        service,
        probe,
        ok,
        passes,
        failures,
        detail,
        role,
        lag,
        age_ms,
        value_millionths,
        listed,
        position,
    } = message;
    // Most probes see no role; then the field is not set.
    let role = if role == 0 { InstanceRole::Unknown } else { enums::read_instance_role("role", role)? };
    Ok(Reading {
        instance: InstanceId { node: read_name("node", node)?, service: read_name("service", service)? },
        probe: read_name("probe", probe)?,
        ok,
        passes,
        failures,
        detail: printable(&detail, LINE_MAX_BYTES),
        role,
        lag,
        value: value_millionths.map(Millionths),
        listed: each("listed", listed, LISTED_MAX, read_listed)?,
        position,
        age: DurationMs(age_ms),
    })
}

fn read_listed(message: proto::ListedMember) -> Result<Listed, Invalid> {
    let proto::ListedMember { key, role } = message;
    if key.len() > LISTED_KEY_MAX_BYTES {
        return Err(Invalid::new("key", format!("it is longer than {LISTED_KEY_MAX_BYTES} bytes")));
    }
    let role = if role == 0 { InstanceRole::Unknown } else { enums::read_instance_role("role", role)? };
    Ok(Listed { key, role })
}

fn write_listed(listed: &Listed) -> proto::ListedMember {
    let Listed { key, role } = listed;
    proto::ListedMember { key: key.clone(), role: enums::write_instance_role(*role) as i32 }
}

/// As a message.
#[must_use]
pub fn write_reading(reading: &Reading) -> proto::Reading {
    let Reading { instance, probe, ok, passes, failures, detail, role, lag, value, listed, position, age } =
        reading;
    proto::Reading {
        node: instance.node.to_string(),
        service: instance.service.to_string(),
        probe: probe.to_string(),
        ok: *ok,
        passes: *passes,
        failures: *failures,
        detail: detail.clone(),
        role: enums::write_instance_role(*role) as i32,
        lag: *lag,
        age_ms: age.0,
        value_millionths: value.map(|Millionths(value)| value),
        listed: listed.iter().map(write_listed).collect(),
        position: *position,
    }
}

/// One instance.
///
/// # Errors
/// [`Invalid`] with the field.
pub fn read_instance(message: proto::InstanceReport) -> Result<InstanceReport, Invalid> {
    let proto::InstanceReport { service, unit, error, age_ms, up_ms } = message;
    Ok(InstanceReport {
        service: read_name("service", service)?,
        unit: unit.map(outcome::read_unit).transpose().map_err(|i| i.within("unit"))?,
        error: printable(&error, LINE_MAX_BYTES),
        age: DurationMs(age_ms),
        up: DurationMs(up_ms),
    })
}

/// As a message.
#[must_use]
pub fn write_instance(report: &InstanceReport) -> proto::InstanceReport {
    let InstanceReport { service, unit, error, age, up } = report;
    proto::InstanceReport {
        service: service.to_string(),
        unit: unit.as_ref().map(outcome::write_unit),
        error: error.clone(),
        age_ms: age.0,
        up_ms: up.0,
    }
}

/// An execution's progress.
///
/// # Errors
/// [`Invalid`] with the field. A reason that this release does not know counts as `ACTION_FAILED`: refusing the report
/// would leave the execution open for ever.
pub fn read_execution(message: proto::ExecutionReport) -> Result<ExecutionReport, Invalid> {
    let proto::ExecutionReport { execution, state, reason, outcome, at, epoch } = message;
    read_text("reason", reason.clone(), WORD_MAX_BYTES)?;
    let reason = (!reason.is_empty()).then(|| Reason::parse(&reason).unwrap_or(Reason::ActionFailed));
    Ok(ExecutionReport {
        execution: read_name("execution", execution)?,
        state: enums::read_execution_state("state", state)?,
        reason,
        outcome: outcome.map(outcome::read_outcome).transpose().map_err(|i| i.within("outcome"))?,
        at: read_timestamp("at", at)?,
        epoch: Epoch(epoch),
    })
}

/// As a message.
#[must_use]
pub fn write_execution(report: &ExecutionReport) -> proto::ExecutionReport {
    let ExecutionReport { execution, state, reason, outcome, at, epoch } = report;
    proto::ExecutionReport {
        execution: execution.to_string(),
        state: enums::write_execution_state(*state) as i32,
        reason: reason.map(|r| r.as_str().to_owned()).unwrap_or_default(),
        outcome: outcome.as_ref().map(outcome::write_outcome),
        at: write_timestamp(*at),
        epoch: epoch.0,
    }
}

/// An obligation's progress.
///
/// # Errors
/// [`Invalid`] with the field.
pub fn read_obligation(message: proto::ObligationReport) -> Result<ObligationReport, Invalid> {
    let proto::ObligationReport { obligation, execution, state, description, deadline, message } = message;
    Ok(ObligationReport {
        obligation: read_name("obligation", obligation)?,
        execution: read_name("execution", execution)?,
        state: enums::read_obligation_state("state", state)?,
        description: printable(&description, LINE_MAX_BYTES),
        deadline: read_timestamp("deadline", deadline)?,
        message: printable(&message, LINE_MAX_BYTES),
    })
}

/// As a message.
#[must_use]
pub fn write_obligation(report: &ObligationReport) -> proto::ObligationReport {
    let ObligationReport { obligation, execution, state, description, deadline, message } = report;
    proto::ObligationReport {
        obligation: obligation.to_string(),
        execution: execution.to_string(),
        state: enums::write_obligation_state(*state) as i32,
        description: description.clone(),
        deadline: write_timestamp(*deadline),
        message: message.clone(),
    }
}
