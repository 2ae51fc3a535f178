//! Every metric of the coordinator: name, help and label words in one place.
//!
//! Names are API: dashboards and alerts use them. `prometheus-client` adds `_total` to counters by itself; the constants are
//! without it. Labels have few values each: reasons, methods and states are closed sets, names of nodes never are labels
//! here, names of groups are (there are at most 2,000).

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use quorate_core::safety::{Evidence, availability, freeze, window};
use quorate_model::{AlarmLevel, LeaseState, NodeStatus, ObligationState, OperationState, Reason, RunResult};
use tonic::Code;

use crate::api::Api;
use crate::api::backend::RaftRole;

macro_rules! names {
    ($(#[doc = $help:literal] pub const $name:ident: &str = $text:literal;)+) => {
        $(#[doc = $help] pub const $name: &str = $text;)+

        /// Every name with its help.
        pub const ALL: &[(&str, &str)] = &[$(($text, $help)),+];
    };
}

names! {
    /// Raft term of this member.
    pub const RAFT_TERM: &str = "quorate_coordinator_raft_term";
    /// 1 for the role this member has now, 0 for the others.
    pub const RAFT_ROLE: &str = "quorate_coordinator_raft_role";
    /// Last log index this member has applied.
    pub const RAFT_APPLIED: &str = "quorate_coordinator_raft_applied_index";
    /// Last log index on this member's disk.
    pub const RAFT_LAST_LOG: &str = "quorate_coordinator_raft_last_log_index";
    /// 1 while this member leads with a majority or hears a leader.
    pub const RAFT_QUORUM: &str = "quorate_coordinator_raft_has_quorum";
    /// Bytes of the log store's files.
    pub const RAFT_LOG_BYTES: &str = "quorate_coordinator_raft_log_bytes";
    /// 1 while this member's disk has too little room for new work.
    pub const LOW_SPACE: &str = "quorate_coordinator_low_space";
    /// Log entries proposed by this member since it started; changes that come together share one.
    pub const PROPOSED: &str = "quorate_coordinator_raft_entries_proposed";
    /// Durable writes (fdatasync) of this member since it started.
    pub const FDATASYNCS: &str = "quorate_coordinator_store_fdatasyncs";
    /// Synchronous writes of the committed index since this member started; they come beside the durable ones.
    pub const COMMITTED_WRITES: &str = "quorate_coordinator_store_committed_writes";
    /// Changes made through this member's API.
    pub const CHANGES: &str = "quorate_coordinator_changes";
    /// Agent sessions that this member holds.
    pub const SESSIONS: &str = "quorate_coordinator_agent_sessions";
    /// Complete artifacts on this member's disk.
    pub const ARTIFACTS: &str = "quorate_coordinator_artifacts";
    /// Bytes of the complete artifacts on this member's disk.
    pub const ARTIFACT_BYTES: &str = "quorate_coordinator_artifact_bytes";
    /// Uploads that were begun at this member and not finished.
    pub const ARTIFACT_UPLOADS: &str = "quorate_coordinator_artifact_uploads_open";
    /// Artifacts that this member copies from another one now.
    pub const ARTIFACT_COPIES: &str = "quorate_coordinator_artifact_copies_running";
    /// Copies of artifacts that failed since this member started; each is tried again.
    pub const ARTIFACT_COPIES_FAILED: &str = "quorate_coordinator_artifact_copies_failed";
    /// Nodes by status.
    pub const NODES: &str = "quorate_coordinator_nodes";
    /// Available minus required voters of a group; below 0 its quorum is lost. Leader only.
    pub const GROUP_MARGIN: &str = "quorate_coordinator_group_margin";
    /// Available voters of a group. Leader only.
    pub const GROUP_AVAILABLE: &str = "quorate_coordinator_group_available";
    /// Voters that the policy of a group requires.
    pub const GROUP_REQUIRED: &str = "quorate_coordinator_group_required";
    /// Alarm of a group as it is recorded: 0 none, 1 warning (no spare), 2 critical (quorum lost, or nobody known to be up).
    pub const GROUP_ALARM: &str = "quorate_coordinator_group_alarm";
    /// Whether somebody holds the primary role of a group that declares a failover, by the lease that is recorded.
    pub const GROUP_PRIMARY: &str = "quorate_coordinator_group_primary";
    /// Operations that are not terminal, by state.
    pub const OPERATIONS: &str = "quorate_coordinator_operations_active";
    /// Undos that are owed.
    pub const OBLIGATIONS: &str = "quorate_coordinator_obligations_open";
    /// Freezes that hold something now.
    pub const FREEZES: &str = "quorate_coordinator_freezes_active";
    /// Windows that are open now.
    pub const WINDOWS: &str = "quorate_coordinator_windows_open";
    /// Schedules by what became of their last run; NONE for those that have had none, PAUSED for those that start nothing.
    pub const SCHEDULES: &str = "quorate_coordinator_schedules";
    /// Runs of the schedules that there are, by what became of them, since each was first declared.
    pub const SCHEDULE_RUNS: &str = "quorate_coordinator_schedule_runs";
    /// Disruption grants that are held.
    pub const GRANTS: &str = "quorate_coordinator_grants_held";
    /// Position of the newest audit record.
    pub const AUDIT_RECORDS: &str = "quorate_coordinator_audit_sequence";
    /// Calls that this member refused, by stable reason.
    pub const REFUSALS: &str = "quorate_coordinator_refusals";
    /// gRPC calls by method and code.
    pub const CALLS: &str = "quorate_coordinator_grpc_calls";
    /// Time until the first answer of a gRPC call, by method.
    pub const CALL_SECONDS: &str = "quorate_coordinator_grpc_call_seconds";
    /// gRPC calls that have no answer yet.
    pub const IN_FLIGHT: &str = "quorate_coordinator_grpc_calls_in_flight";
}

/// The help of a name, without the full stop that the encoder adds.
fn help(name: &str) -> &'static str {
    ALL.iter().find(|(known, _)| *known == name).map_or("", |(_, help)| help.trim().trim_end_matches('.'))
}

/// Bounds in seconds: from a read in memory to the 30 s that end a unary call.
const BUCKETS: [f64; 12] = [0.000_25, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RoleLabel {
    role: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StatusLabel {
    status: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct MethodLabel {
    method: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CallLabel {
    method: &'static str,
    code: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct GroupLabel {
    group: String,
}

/// What is counted as it happens. Clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    inner: Arc<Counted>,
}

#[derive(Debug)]
struct Counted {
    changes: Counter,
    refusals: Family<ReasonLabel, Counter>,
    calls: Family<CallLabel, Counter>,
    call_seconds: Family<MethodLabel, Histogram>,
    in_flight: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(BUCKETS);
        let inner = Counted {
            changes: Counter::default(),
            refusals: Family::default(),
            calls: Family::default(),
            call_seconds: Family::new_with_constructor(histogram),
            in_flight: Gauge::default(),
        };
        Self { inner: Arc::new(inner) }
    }
}

impl Metrics {
    /// A change was made.
    pub fn proposed(&self) {
        self.inner.changes.inc();
    }

    /// A call was refused.
    pub fn refused(&self, reason: Reason) {
        self.inner.refusals.get_or_create(&ReasonLabel { reason: reason.as_str() }).inc();
    }

    /// A call is being served.
    pub fn call_began(&self) {
        self.inner.in_flight.inc();
    }

    /// It has its answer.
    pub fn call_ended(&self) {
        self.inner.in_flight.dec();
    }

    /// A call was answered. `method` comes from the table of methods, never from the caller.
    pub fn called(&self, method: &'static str, code: Code, took: Duration) {
        let label = CallLabel { method, code: format!("{code:?}") };
        self.inner.calls.get_or_create(&label).inc();
        self.inner.call_seconds.get_or_create(&MethodLabel { method }).observe(took.as_secs_f64());
    }

    /// Everything in OpenMetrics text, with gauges read from the state now.
    ///
    /// # Errors
    /// When the text cannot be written, which is a defect of ours.
    pub fn render(&self, api: &Api) -> Result<String, std::fmt::Error> {
        let mut registry = Registry::default();
        let counted = &self.inner;
        registry.register(CHANGES, help(CHANGES), counted.changes.clone());
        registry.register(REFUSALS, help(REFUSALS), counted.refusals.clone());
        registry.register(CALLS, help(CALLS), counted.calls.clone());
        registry.register(CALL_SECONDS, help(CALL_SECONDS), counted.call_seconds.clone());
        registry.register(IN_FLIGHT, help(IN_FLIGHT), counted.in_flight.clone());
        member(&mut registry, api);
        artifacts(&mut registry, api);
        replicated(&mut registry, api);
        schedules(&mut registry, api);
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(text)
    }
}

fn gauge(registry: &mut Registry, name: &'static str, value: u64) {
    let gauge: Gauge<u64, AtomicU64> = Gauge::default();
    gauge.set(value);
    registry.register(name, help(name), gauge);
}

fn counter(registry: &mut Registry, name: &'static str, value: u64) {
    let counter: Counter = Counter::default();
    counter.inc_by(value);
    registry.register(name, help(name), counter);
}

fn member(registry: &mut Registry, api: &Api) {
    let health = api.backend().health();
    gauge(registry, RAFT_TERM, health.term);
    gauge(registry, RAFT_APPLIED, health.applied);
    gauge(registry, RAFT_LAST_LOG, health.last_log);
    gauge(registry, RAFT_QUORUM, u64::from(health.has_quorum));
    gauge(registry, RAFT_LOG_BYTES, health.log_bytes);
    gauge(registry, LOW_SPACE, u64::from(health.low_space.is_some()));
    gauge(registry, SESSIONS, u64::from(health.sessions));
    counter(registry, PROPOSED, health.entries);
    counter(registry, FDATASYNCS, health.fdatasyncs);
    counter(registry, COMMITTED_WRITES, health.committed_writes);
    let roles: Family<RoleLabel, Gauge> = Family::default();
    for role in RaftRole::ALL {
        roles.get_or_create(&RoleLabel { role: role.as_str() }).set(i64::from(role == health.role));
    }
    registry.register(RAFT_ROLE, help(RAFT_ROLE), roles);
}

fn artifacts(registry: &mut Registry, api: &Api) {
    let Some(artifacts) = api.artifacts() else { return };
    let (kept, (running, failed)) = (artifacts.kept(), artifacts.copies());
    let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    gauge(registry, ARTIFACTS, count(kept.blobs));
    gauge(registry, ARTIFACT_BYTES, kept.bytes);
    gauge(registry, ARTIFACT_UPLOADS, count(kept.uploads));
    gauge(registry, ARTIFACT_COPIES, running);
    counter(registry, ARTIFACT_COPIES_FAILED, failed);
}

fn replicated(registry: &mut Registry, api: &Api) {
    let nodes: Family<StatusLabel, Gauge> = Family::default();
    let operations: Family<StateLabel, Gauge> = Family::default();
    let margin: Family<GroupLabel, Gauge> = Family::default();
    let available: Family<GroupLabel, Gauge> = Family::default();
    let needed: Family<GroupLabel, Gauge> = Family::default();
    let alarm: Family<GroupLabel, Gauge> = Family::default();
    let primary: Family<GroupLabel, Gauge> = Family::default();
    for status in NodeStatus::ALL {
        nodes.get_or_create(&StatusLabel { status: status.as_str() }).set(0);
    }
    for state in OperationState::ALL.iter().filter(|s| !s.is_terminal()) {
        operations.get_or_create(&StateLabel { state: state.as_str() }).set(0);
    }
    // Only the leader knows the health of groups: a follower's view would show quorums lost that are not.
    let leads = api.backend().health().leads();
    let (owed, grants, freezes, windows, audit) = api.look_around(|state, observations, now| {
        for node in state.nodes.by_name.values() {
            nodes.get_or_create(&StatusLabel { status: node.status.as_str() }).inc();
        }
        for operation in state.operations.values().filter(|o| !o.state.is_terminal()) {
            operations.get_or_create(&StateLabel { state: operation.state.as_str() }).inc();
        }
        let evidence = Evidence::from_observations(observations);
        for group in state.groups.values() {
            let stand = availability(state, group, &evidence, now);
            let label = GroupLabel { group: group.spec.name.as_str().to_owned() };
            needed.get_or_create(&label).set(i64::from(stand.required));
            // Each member tells it: a level that is recorded outlasts the leader that has found it.
            alarm.get_or_create(&label).set(match group.alarm_level() {
                AlarmLevel::None => 0,
                AlarmLevel::Warning => 1,
                AlarmLevel::Critical => 2,
            });
            if leads && group.spec.failover.is_some() {
                let held = group.primary.as_ref().is_some_and(|lease| lease.state == LeaseState::Held);
                primary.get_or_create(&label).set(i64::from(held));
            }
            if leads {
                available.get_or_create(&label).set(i64::from(stand.up));
                margin.get_or_create(&label).set(stand.margin());
            }
        }
        let open = |state: ObligationState| matches!(state, ObligationState::Open | ObligationState::Failed);
        let owed = state.obligations.values().filter(|o| open(o.state)).count();
        let freezes = state.freezes.values().filter(|f| freeze::is_on(f, now)).count();
        let windows = state.windows.values().filter(|w| window::is_open(w, now)).count();
        (owed, state.grants.len(), freezes, windows, state.audit.head.seq)
    });
    registry.register(NODES, help(NODES), nodes);
    registry.register(OPERATIONS, help(OPERATIONS), operations);
    registry.register(GROUP_MARGIN, help(GROUP_MARGIN), margin);
    registry.register(GROUP_AVAILABLE, help(GROUP_AVAILABLE), available);
    registry.register(GROUP_REQUIRED, help(GROUP_REQUIRED), needed);
    registry.register(GROUP_ALARM, help(GROUP_ALARM), alarm);
    registry.register(GROUP_PRIMARY, help(GROUP_PRIMARY), primary);
    gauge(registry, OBLIGATIONS, u64::try_from(owed).unwrap_or(u64::MAX));
    gauge(registry, GRANTS, u64::try_from(grants).unwrap_or(u64::MAX));
    gauge(registry, FREEZES, u64::try_from(freezes).unwrap_or(u64::MAX));
    gauge(registry, WINDOWS, u64::try_from(windows).unwrap_or(u64::MAX));
    gauge(registry, AUDIT_RECORDS, audit);
}

fn schedules(registry: &mut Registry, api: &Api) {
    let last: Family<ResultLabel, Gauge> = Family::default();
    let runs: Family<ResultLabel, Counter> = Family::default();
    for result in RunResult::ALL.iter().map(|result| result.as_str()) {
        last.get_or_create(&ResultLabel { result }).set(0);
        runs.get_or_create(&ResultLabel { result }).inc_by(0);
    }
    for result in ["NONE", "PAUSED"] {
        last.get_or_create(&ResultLabel { result }).set(0);
    }
    api.look(|state| {
        for schedule in state.schedules.values() {
            let newest = schedule.runs.back().map_or("NONE", |run| run.result.as_str());
            let result = if schedule.spec.paused { "PAUSED" } else { newest };
            last.get_or_create(&ResultLabel { result }).inc();
            for (result, count) in &schedule.counts {
                runs.get_or_create(&ResultLabel { result: result.as_str() }).inc_by(*count);
            }
        }
    });
    registry.register(SCHEDULES, help(SCHEDULES), last);
    registry.register(SCHEDULE_RUNS, help(SCHEDULE_RUNS), runs);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_name_is_unique_documented_and_well_formed() {
        let mut seen = BTreeSet::new();
        for (name, help) in ALL {
            assert!(seen.insert(name), "{name} is registered twice");
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
            assert!(!name.ends_with("_total"), "{name}: the encoder adds it");
            assert!(name.starts_with("quorate_coordinator_"), "{name}");
            assert!(help.ends_with('.') && help.len() > 10, "{name} has no help");
        }
    }

    #[test]
    fn no_name_is_written_anywhere_else() {
        // The names live here only: a metric made up elsewhere would be undocumented.
        let sources = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
        let mut folders = vec![std::path::PathBuf::from(sources)];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("metrics.rs") {
                    let text = std::fs::read_to_string(&path).unwrap();
                    assert!(!text.contains("registry.register("), "{}", path.display());
                }
            }
        }
    }
}
