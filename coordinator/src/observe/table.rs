//! The table of everything seen. One lock, short holds; nothing here waits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use quorate_core::observations::NodeObservation;
use quorate_core::{Observations, State};
use quorate_model::node::{Facts, NodeCondition};
use quorate_model::session::{Heartbeat, Hello, InstanceReport, Reading};
use quorate_model::{ActionKind, DurationMs, InstanceId, NodeName, ProbeReading, ServiceName, Timestamp};

use super::fold::{UnitSeen, fold};
use super::report::{NodeReport, Report, ReportedReading};

/// One metric of a node: name, labels, value.
pub(super) type Metric = (String, BTreeMap<String, String>, f64);

/// Readings older than this are dropped: far beyond any freshness limit, and memory stays bounded.
const READING_LIFE: DurationMs = DurationMs::from_secs(600);

/// Everything seen, by node.
#[derive(Debug, Default)]
pub struct Table {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    leading_since: Option<Timestamp>,
    nodes: BTreeMap<NodeName, Seen>,
    /// Sessions that this member holds.
    local: BTreeSet<NodeName>,
    /// What the current leader has already been told of facts and metrics, by node: their versions.
    told: BTreeMap<NodeName, (u64, u64)>,
    /// Grows with every change of facts or metrics.
    version: u64,
}

/// What is known of one node.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Last heartbeat.
    pub heard: Timestamp,
    /// The coordinator that holds its session.
    pub coordinator: String,
    /// Version of its agent.
    pub agent_version: String,
    /// Actions it has.
    pub capabilities: BTreeSet<ActionKind>,
    /// Node clock minus coordinator clock.
    pub clock_offset_ms: i64,
    /// Conditions with one line each and since when.
    pub conditions: BTreeMap<NodeCondition, (String, Timestamp)>,
    /// What its agent found out.
    pub facts: Option<Box<Facts>>,
    /// Newest metrics.
    pub metrics: Vec<Metric>,
    units: BTreeMap<ServiceName, UnitSeen>,
    /// Readings it took, by what it looked at.
    readings: BTreeMap<(InstanceId, quorate_model::ProbeName), ProbeReading>,
    /// The newest reading with a position of each of its own instances: of a primary that is gone it is the last that is known.
    positions: BTreeMap<InstanceId, ProbeReading>,
    facts_version: u64,
    metrics_version: u64,
}

impl Seen {
    fn conditions(&mut self, now: Timestamp, holds: BTreeMap<NodeCondition, String>) {
        self.conditions.retain(|condition, _| holds.contains_key(condition));
        for (condition, line) in holds {
            let since = self.conditions.get(&condition).map_or(now, |(_, since)| *since);
            self.conditions.insert(condition, (line, since));
        }
    }

    fn unit(&mut self, now: Timestamp, report: InstanceReport) {
        let at = now.minus(report.age);
        let up_since = if report.up == DurationMs::ZERO { Timestamp::ZERO } else { at.minus(report.up) };
        let newer = self.units.get(&report.service).is_none_or(|seen| seen.at <= at);
        if newer {
            // The start of a run is computed anew with each report and jitters; the same run keeps its first value. A unit
            // has the id of its run before it is up, and then there is no such value yet.
            let run = |unit: &Option<quorate_model::service::UnitStatus>| {
                unit.as_ref().map(|u| u.invocation_id.clone()).filter(|id| !id.is_empty())
            };
            let up_since = match self.units.get(&report.service) {
                Some(seen)
                    if seen.up_since != Timestamp::ZERO
                        && run(&seen.unit).is_some()
                        && run(&seen.unit) == run(&report.unit) =>
                {
                    seen.up_since
                }
                _ => up_since,
            };
            self.units.insert(report.service, UnitSeen { unit: report.unit, up_since, at });
        }
    }

    fn reading(&mut self, reading: ProbeReading) {
        let key = (reading.instance.clone(), reading.probe.clone());
        let is_newer = |known: Option<&ProbeReading>| known.is_none_or(|known| known.at <= reading.at);
        let own = reading.position.is_some() && reading.from == reading.instance.node;
        if own && is_newer(self.positions.get(&reading.instance)) {
            self.positions.insert(reading.instance.clone(), reading.clone());
        }
        if is_newer(self.readings.get(&key)) {
            self.readings.insert(key, reading);
        }
    }
}

impl Table {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This member began or ceased to lead. What other members told before is forgotten: it is told again at once.
    pub fn set_leading(&self, since: Option<Timestamp>) {
        let mut inner = self.lock();
        inner.leading_since = since;
        let Inner { nodes, local, told, .. } = &mut *inner;
        nodes.retain(|node, _| local.contains(node));
        told.clear();
    }

    /// Forgets what the leader was told, so that the next report is whole: the leader is another one now.
    pub fn tell_all(&self) {
        self.lock().told.clear();
    }

    /// A session began here.
    pub fn opened(&self, node: &NodeName, coordinator: &str, hello: &Hello, now: Timestamp) {
        let mut inner = self.lock();
        inner.local.insert(node.clone());
        let seen = inner.nodes.entry(node.clone()).or_default();
        seen.heard = now;
        coordinator.clone_into(&mut seen.coordinator);
        seen.agent_version.clone_from(&hello.agent_version);
        seen.capabilities = hello.capabilities.iter().map(|c| c.action).collect();
    }

    /// A session ended here; what was seen stays and grows old.
    pub fn closed(&self, node: &NodeName) {
        let mut inner = self.lock();
        inner.local.remove(node);
        inner.told.remove(node);
    }

    /// A condition that the coordinator itself found, for example two sessions of one identity.
    pub fn found(&self, node: &NodeName, condition: NodeCondition, line: &str, now: Timestamp) {
        if let Some(seen) = self.lock().nodes.get_mut(node) {
            seen.conditions.insert(condition, (line.to_owned(), now));
        }
    }

    /// A heartbeat.
    pub fn heartbeat(&self, node: &NodeName, beat: Heartbeat, now: Timestamp) {
        let mut inner = self.lock();
        let Some(seen) = inner.nodes.get_mut(node) else { return };
        seen.heard = now;
        seen.clock_offset_ms = beat.clock_offset_ms;
        seen.conditions(now, beat.conditions);
    }

    /// Any message: its agent is alive.
    pub fn heard(&self, node: &NodeName, now: Timestamp) {
        if let Some(seen) = self.lock().nodes.get_mut(node) {
            seen.heard = now;
        }
    }

    /// Facts.
    pub fn facts(&self, node: &NodeName, facts: Box<Facts>) {
        let mut inner = self.lock();
        inner.version = inner.version.saturating_add(1);
        let version = inner.version;
        if let Some(seen) = inner.nodes.get_mut(node) {
            seen.facts = Some(facts);
            seen.facts_version = version;
        }
    }

    /// Metrics.
    pub fn metrics(&self, node: &NodeName, metrics: Vec<Metric>) {
        let mut inner = self.lock();
        inner.version = inner.version.saturating_add(1);
        let version = inner.version;
        if let Some(seen) = inner.nodes.get_mut(node) {
            seen.metrics = metrics;
            seen.metrics_version = version;
        }
    }

    /// Units.
    pub fn instances(&self, node: &NodeName, reports: Vec<InstanceReport>, now: Timestamp) {
        let mut inner = self.lock();
        let Some(seen) = inner.nodes.get_mut(node) else { return };
        let told: BTreeSet<ServiceName> = reports.iter().map(|r| r.service.clone()).collect();
        seen.units.retain(|service, _| told.contains(service));
        for report in reports {
            seen.unit(now, report);
        }
    }

    /// Probe readings that this node took.
    pub fn readings(&self, node: &NodeName, readings: Vec<Reading>, now: Timestamp) {
        let mut inner = self.lock();
        let Some(seen) = inner.nodes.get_mut(node) else { return };
        for reading in readings {
            let Reading {
                instance,
                probe,
                ok,
                passes,
                failures,
                detail,
                role,
                lag,
                value,
                listed,
                position,
                age,
            } = reading;
            let at = now.minus(age);
            let from = node.clone();
            seen.reading(ProbeReading {
                instance,
                from,
                probe,
                ok,
                passes,
                failures,
                detail,
                role,
                lag,
                value,
                listed,
                position,
                at,
            });
        }
        seen.readings.retain(|_, reading| now.since(reading.at) < READING_LIFE);
    }

    /// What is known of one node.
    pub fn node(&self, node: &NodeName) -> Option<Seen> {
        self.lock().nodes.get(node).cloned()
    }

    /// Nodes whose session a coordinator holds, by what is known here.
    #[must_use]
    pub fn held_by(&self, coordinator: &str) -> usize {
        self.lock().nodes.values().filter(|seen| seen.coordinator == coordinator).count()
    }

    /// What the leader is to be told now. Facts and metrics only when newer than what it was told.
    #[must_use]
    pub fn report(&self, member: &str, now: Timestamp) -> Report {
        let mut inner = self.lock();
        let Inner { nodes, local, told, .. } = &mut *inner;
        let mut report = Report { member: member.to_owned(), nodes: Vec::new() };
        for node in local.iter() {
            let Some(seen) = nodes.get(node) else { continue };
            let known = told.get(node).copied().unwrap_or_default();
            report.nodes.push(node_report(node, seen, known, now));
            told.insert(node.clone(), (seen.facts_version, seen.metrics_version));
        }
        report
    }

    /// Takes another member's report, on this clock.
    pub fn merge(&self, report: Report, now: Timestamp) {
        let mut inner = self.lock();
        for told in report.nodes {
            // A session that is held here is known better here.
            if inner.local.contains(&told.node) {
                continue;
            }
            let seen = inner.nodes.entry(told.node.clone()).or_default();
            let heard = now.minus(told.heard);
            if heard < seen.heard {
                continue;
            }
            seen.heard = heard;
            seen.coordinator.clone_from(&report.member);
            seen.agent_version = told.agent_version;
            seen.capabilities = told.capabilities.into_iter().collect();
            seen.clock_offset_ms = told.clock_offset_ms;
            seen.conditions(now, told.conditions);
            let services: BTreeSet<ServiceName> = told.instances.iter().map(|i| i.service.clone()).collect();
            seen.units.retain(|service, _| services.contains(service));
            for instance in told.instances {
                seen.unit(now, instance);
            }
            for ReportedReading { mut reading, age } in told.readings {
                reading.at = now.minus(age);
                seen.reading(reading);
            }
            if let Some(facts) = told.facts {
                seen.facts = Some(facts);
            }
            if let Some(metrics) = told.metrics {
                seen.metrics = metrics;
            }
        }
    }

    /// Folds everything for `plan` and `next`.
    #[must_use]
    pub fn observations(&self, state: &State, now: Timestamp) -> Observations {
        let inner = self.lock();
        let mut observations =
            Observations { leading_since: inner.leading_since.unwrap_or(now), ..Observations::default() };
        for (name, seen) in &inner.nodes {
            let (heard, agent_version) = (seen.heard, seen.agent_version.clone());
            let capabilities = seen.capabilities.clone();
            observations.nodes.insert(name.clone(), NodeObservation { heard, agent_version, capabilities });
            observations.positions.extend(seen.positions.clone());
        }
        // Readings of an instance lie with whoever took them: gather them once.
        let mut by_instance: BTreeMap<&InstanceId, Vec<ProbeReading>> = BTreeMap::new();
        for seen in inner.nodes.values() {
            for ((instance, _), reading) in &seen.readings {
                by_instance.entry(instance).or_default().push(reading.clone());
            }
        }
        for service in state.services.values() {
            for node in state.nodes.all_present() {
                if !service.spec.nodes.matches(node.name.as_str(), &node.labels) {
                    continue;
                }
                let Some(unit) = inner.nodes.get(&node.name).and_then(|s| s.units.get(&service.spec.name))
                else {
                    continue;
                };
                let instance = InstanceId { node: node.name.clone(), service: service.spec.name.clone() };
                let readings = by_instance.remove(&instance).unwrap_or_default();
                let reading = fold(&service.spec, &instance, unit, &readings);
                observations.instances.insert(instance, reading);
            }
        }
        observations
    }
}

fn node_report(node: &NodeName, seen: &Seen, told: (u64, u64), now: Timestamp) -> NodeReport {
    let instances = seen.units.iter().map(|(service, unit)| {
        let up =
            if unit.up_since == Timestamp::ZERO { DurationMs::ZERO } else { unit.at.since(unit.up_since) };
        InstanceReport {
            service: service.clone(),
            unit: unit.unit.clone(),
            error: String::new(),
            age: now.since(unit.at),
            up,
        }
    });
    let readings = seen.readings.values().map(|reading| {
        let age = now.since(reading.at);
        ReportedReading { reading: reading.clone(), age }
    });
    NodeReport {
        node: node.clone(),
        heard: now.since(seen.heard),
        agent_version: seen.agent_version.clone(),
        capabilities: seen.capabilities.iter().copied().collect(),
        clock_offset_ms: seen.clock_offset_ms,
        conditions: seen.conditions.iter().map(|(c, (line, _))| (*c, line.clone())).collect(),
        instances: instances.collect(),
        readings: readings.collect(),
        facts: seen.facts.clone().filter(|_| seen.facts_version > told.0),
        metrics: (seen.metrics_version > told.1).then(|| seen.metrics.clone()),
    }
}
