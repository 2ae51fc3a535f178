//! What a session says, apart from reports: Hello, heartbeats, facts, metrics, readings, instances.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_common::wire::agent::{FromAgent, METRICS_MAX, Metric, NODE_PROBES_MAX};
use quorate_model::node::Facts;
use quorate_model::session::{Capability, Heartbeat, Hello, NodeProbe, NodeWork, Reading, Welcome};
use quorate_model::{DurationMs, InstanceId, ProbeKind, Timestamp};

use super::conditions::{View, conditions};
use super::stream::Context;
use crate::facts::{Sample, WatchedUnit};
use crate::host::clock;
use crate::probes::{ProbeKey, ProbeTarget, Scheduled};
use crate::{actions, runner};

/// Heartbeats whose answer is awaited; more than this and the silence limit ends the session.
const BEATS_MAX: usize = 64;
/// Metrics of one message: with names and labels some 100 bytes each, so that it stays well below the message's limit.
const METRICS_PER_MESSAGE: usize = 1_000;
/// Readings of one message: each has a line of at most 200 characters.
const READINGS_PER_MESSAGE: usize = 500;
/// Members that the readings of one message list together: each has a key of at most 128 bytes.
const LISTED_PER_MESSAGE: usize = 512;
/// Facts are told again after so many looks even if nothing changed: free space does.
const FACTS_ANYWAY: u32 = 5;

pub(super) struct Teller {
    context: Arc<Context>,
    terms: Option<Welcome>,
    beats: BTreeMap<u64, (u64, Timestamp)>,
    offset_ms: Option<i64>,
    round_trip_us: u64,
    facts: Option<Facts>,
    facts_looks: u32,
    memory_available: Option<u64>,
    told: BTreeMap<ProbeKey, (u64, Timestamp)>,
}

impl Teller {
    pub(super) fn new(context: Arc<Context>) -> Self {
        Self {
            context,
            terms: None,
            beats: BTreeMap::new(),
            offset_ms: None,
            round_trip_us: 0,
            facts: None,
            facts_looks: 0,
            memory_available: None,
            told: BTreeMap::new(),
        }
    }

    pub(super) fn welcomed(&mut self, welcome: Welcome) {
        self.terms = Some(welcome);
    }

    pub(super) fn terms(&self) -> &Welcome {
        // Set before the session runs; a default would mean intervals nobody asked for.
        static NEVER: std::sync::OnceLock<Welcome> = std::sync::OnceLock::new();
        self.terms.as_ref().unwrap_or_else(|| {
            NEVER.get_or_init(|| Welcome {
                coordinator: String::new(),
                heartbeat_interval: DurationMs(1_000),
                silence_limit: DurationMs(10_000),
                metrics_interval: DurationMs(15_000),
                coordinators: Vec::new(),
                cluster: self.context.live.current().identity().cluster.clone(),
            })
        })
    }

    /// First words, and the incarnation they speak of.
    pub(super) fn hello(&self) -> (FromAgent, String) {
        let state = self.context.hub.helper.borrow().clone();
        let status: Option<&runner::Status> = state.status();
        let capabilities = if status.is_some() {
            let all = actions::catalogue();
            all.iter().map(|info| Capability { action: info.kind, version: info.version }).collect()
        } else {
            // Nothing can be done without the helper.
            Vec::new()
        };
        let incarnation = status.map(|s| s.incarnation.clone()).unwrap_or_default();
        let hello = Hello {
            node: self.context.settings.current().node.clone(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            boot_id: status.map_or_else(|| clock::boot_id().unwrap_or_default(), |s| s.boot_id.clone()),
            incarnation: incarnation.clone(),
            capabilities,
            highest_epoch: status.map(|s| s.highest_epoch).unwrap_or_default(),
            unconfirmed: status
                .map(|s| s.unconfirmed.iter().take(1_000).cloned().collect())
                .unwrap_or_default(),
            generation: self.context.hub.current().generation,
            installation: status.map(|s| s.installation.clone()).unwrap_or_default(),
        };
        (FromAgent::Hello(Box::new(hello)), incarnation)
    }

    /// Alive. The second part goes to [`Teller::beat_sent`].
    pub(super) fn heartbeat(&self) -> (FromAgent, (u64, Timestamp)) {
        let hub = &self.context.hub;
        let state = hub.helper.borrow().clone();
        let material = self.context.live.current();
        let identity = material.identity();
        let now = clock::now();
        let view = View {
            helper: &state,
            offset_ms: self.offset_ms,
            facts: self.facts.as_ref(),
            memory_available_bytes: self.memory_available,
            now,
            renew_at: identity.renew_at(),
            expires: identity.not_after,
        };
        let beat = Heartbeat {
            sent: now,
            clock_offset_ms: self.offset_ms.unwrap_or(0),
            round_trip_us: self.round_trip_us,
            conditions: conditions(&view),
            generation: state.status().map_or(0, |s| s.generation),
        };
        (FromAgent::Heartbeat(beat), (clock::monotonic_us(), now))
    }

    pub(super) fn beat_sent(&mut self, sequence: u64, mark: (u64, Timestamp)) {
        self.beats.insert(sequence, mark);
        while self.beats.len() > BEATS_MAX {
            self.beats.pop_first();
        }
    }

    /// Round trip and clock offset. The coordinator's clock was read half a round trip after ours.
    pub(super) fn beat_answered(&mut self, sequence: u64, time: Timestamp) {
        let Some((sent_us, sent_wall)) = self.beats.remove(&sequence) else { return };
        self.beats.retain(|earlier, _| *earlier > sequence);
        self.round_trip_us = clock::monotonic_us().saturating_sub(sent_us).max(1);
        let half_ms = i64::try_from(self.round_trip_us / 2_000).unwrap_or(i64::MAX);
        let offset = sent_wall.0.saturating_add(half_ms).saturating_sub(time.0);
        self.offset_ms = Some(offset);
        self.context.hub.clock_told(offset);
    }

    /// The node's work: instances and executions are the helper's, probes are run here.
    pub(super) fn take_work(&mut self, work: NodeWork) {
        let node = self.context.settings.current().node.clone();
        let wanted: Vec<Scheduled> =
            work.probes.iter().map(|probe| self.scheduled(probe, &work, &node)).collect();
        let left_out = self.context.scheduler.set(wanted);
        if left_out > 0 {
            tracing::error!(left_out, "more probes than this agent runs");
        }
        let transit = DurationMs(self.round_trip_us.div_ceil(1_000));
        self.context.hub.desired(work, transit);
    }

    fn scheduled(&self, probe: &NodeProbe, work: &NodeWork, node: &quorate_model::NodeName) -> Scheduled {
        let InstanceId { node: on, service } = &probe.instance;
        let own = on == node;
        let driver = work.instances.iter().find(|i| own && i.service == *service).map(|i| i.driver.clone());
        let settings = self.context.settings.current();
        let allowed = match &probe.probe.kind {
            ProbeKind::Exec { argv } | ProbeKind::Membership { argv, .. } => {
                own && settings.policy.allows_probe(argv).is_ok()
            }
            ProbeKind::Certificate(wanted) => {
                wanted.file.is_empty() || (own && settings.policy.allows_path(wanted.file.as_ref()).is_ok())
            }
            ProbeKind::Http { .. }
            | ProbeKind::Tcp { .. }
            | ProbeKind::UnitSoak { .. }
            | ProbeKind::Metric(_)
            | ProbeKind::Alerts(_)
            | ProbeKind::Expression { .. } => false,
        };
        let key = ProbeKey { node: on.clone(), service: service.clone(), probe: probe.probe.name.clone() };
        Scheduled {
            target: ProbeTarget { key, driver, keep_body: false, allowed },
            spec: probe.probe.clone(),
        }
    }

    /// Readings that were not told yet. What does not fit follows with the next ones.
    pub(super) fn readings(&mut self) -> Option<FromAgent> {
        let latest = self.context.scheduler.latest();
        self.told.retain(|key, _| latest.contains_key(key));
        let now = clock::now();
        let (mut readings, mut listed) = (Vec::new(), 0_usize);
        for (key, newest) in latest.into_iter().take(NODE_PROBES_MAX) {
            let mark = (newest.taken, newest.reading.at);
            let lists = listed.saturating_add(newest.reading.listed.len());
            let full = readings.len() >= READINGS_PER_MESSAGE || lists > LISTED_PER_MESSAGE;
            if self.told.get(&key) == Some(&mark) || full {
                continue;
            }
            listed = lists;
            self.told.insert(key.clone(), mark);
            readings.push(Reading {
                instance: InstanceId { node: key.node, service: key.service },
                probe: key.probe,
                ok: newest.reading.ok,
                passes: newest.passes,
                failures: newest.failures,
                detail: newest.reading.detail,
                role: newest.reading.role,
                lag: newest.reading.lag,
                value: newest.reading.number,
                listed: newest.reading.listed,
                position: newest.reading.position,
                age: now.since(newest.reading.at),
            });
        }
        (!readings.is_empty()).then_some(FromAgent::Readings(readings))
    }

    /// The instances with their age; nothing while the helper has not told any.
    pub(super) fn instances(&self) -> Option<FromAgent> {
        let seen = self.context.hub.seen();
        let passed = super::now().minus(seen.at);
        let mut reports: Vec<_> = seen.reports.into_values().collect();
        self.context.page.watch(
            reports
                .iter()
                .filter_map(|report| {
                    let unit = report.unit.as_ref()?;
                    Some(WatchedUnit {
                        service: report.service.to_string(),
                        main_pid: unit.main_pid,
                        restarts: unit.restarts,
                        since: (unit.main_pid != 0).then_some(unit.since),
                    })
                })
                .collect(),
        );
        for report in &mut reports {
            report.age = report.age.plus(passed);
            if report.up != DurationMs::ZERO {
                report.up = report.up.plus(passed);
            }
        }
        (!reports.is_empty()).then_some(FromAgent::Instances(reports))
    }

    /// All metrics, in messages that fit.
    pub(super) fn metrics(&mut self) -> Vec<FromAgent> {
        let samples = self.context.page.samples();
        self.memory_available = samples
            .iter()
            .find(|s| s.metric.name == crate::facts::metrics::MEMORY_AVAILABLE.name)
            .map(|s| s.value.units);
        let metrics: Vec<Metric> = samples.iter().take(METRICS_MAX).map(metric).collect();
        metrics.chunks(METRICS_PER_MESSAGE).map(|part| FromAgent::Metrics(part.to_vec())).collect()
    }

    /// The facts when they changed, and now and then anyway.
    pub(super) async fn facts(&mut self) -> Option<FromAgent> {
        let facts = self.context.facts.facts().await.ok()?;
        self.facts_looks = self.facts_looks.wrapping_add(1);
        let same = self.facts.as_ref().is_some_and(|old| lasting(old) == lasting(&facts));
        self.facts = Some(facts.clone());
        if same && !self.facts_looks.is_multiple_of(FACTS_ANYWAY) {
            return None;
        }
        Some(FromAgent::Facts(Box::new(facts)))
    }
}

/// Facts without what changes with every byte that is written.
fn lasting(facts: &Facts) -> Facts {
    let mut facts = facts.clone();
    for disk in &mut facts.disks {
        (disk.available_bytes, disk.inodes_free) = (0, 0);
    }
    facts
}

fn metric(sample: &Sample) -> Metric {
    Metric {
        name: sample.metric.name.to_owned(),
        labels: sample.labels.iter().map(|(key, text)| ((*key).to_owned(), text.clone())).collect(),
        value: sample.value.as_f64(),
    }
}
