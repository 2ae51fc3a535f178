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
use quorate_core::safety::{Evidence, availability};
use quorate_model::{NodeStatus, ObligationState, OperationState, Reason};
use tonic::Code;

use crate::api::Api;
use crate::api::backend::RaftRole;

/// Prefix of every name.
pub const PREFIX: &str = "quorate_coordinator";

macro_rules! names {
    ($($(#[$meta:meta])* $name:ident = $text:literal, $help:literal;)+) => {
        $(#[doc = $help] pub const $name: (&str, &str) = ($text, $help);)+

        /// Every name without prefix, with its help.
        pub const ALL: &[(&str, &str)] = &[$($name),+];
    };
}

names! {
    RAFT_TERM = "raft_term", "Raft term of this member.";
    RAFT_ROLE = "raft_role", "1 for the role this member has now, 0 for the others.";
    RAFT_APPLIED = "raft_applied_index", "Last log index this member has applied.";
    RAFT_LAST_LOG = "raft_last_log_index", "Last log index on this member's disk.";
    RAFT_QUORUM = "raft_has_quorum", "1 while this member leads with a majority or hears a leader.";
    RAFT_LOG_BYTES = "raft_log_bytes", "Bytes of the log store's files.";
    PROPOSED = "raft_entries_proposed", "Log entries proposed by this member since it started.";
    FDATASYNCS = "store_fdatasyncs", "Durable writes (fdatasync) of this member since it started.";
    CHANGES = "changes", "Changes made through this member's API.";
    SESSIONS = "agent_sessions", "Agent sessions that this member holds.";
    NODES = "nodes", "Nodes by status.";
    GROUP_MARGIN = "group_margin", "Available minus required voters of a group; below 0 its quorum is lost. Leader only.";
    GROUP_AVAILABLE = "group_available", "Available voters of a group. Leader only.";
    GROUP_REQUIRED = "group_required", "Voters that the policy of a group requires.";
    OPERATIONS = "operations_active", "Operations that are not terminal, by state.";
    OBLIGATIONS = "obligations_open", "Undos that are owed.";
    GRANTS = "grants_held", "Disruption grants that are held.";
    AUDIT_RECORDS = "audit_sequence", "Position of the newest audit record.";
    REFUSALS = "refusals", "Calls that this member refused, by stable reason.";
    CALLS = "grpc_calls", "gRPC calls by method and code.";
    CALL_SECONDS = "grpc_call_seconds", "Time until the first answer of a gRPC call, by method.";
    IN_FLIGHT = "grpc_calls_in_flight", "gRPC calls that have no answer yet.";
}

/// Bounds in seconds: from a read in memory to the 30 s that end a unary call.
const BUCKETS: [f64; 12] = [0.000_25, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Word {
    word: &'static str,
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
    refusals: Family<Word, Counter>,
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
        self.inner.refusals.get_or_create(&Word { word: reason.as_str() }).inc();
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
        let mut registry = Registry::with_prefix(PREFIX);
        let counted = &self.inner;
        registry.register(CHANGES.0, CHANGES.1, counted.changes.clone());
        registry.register(REFUSALS.0, REFUSALS.1, counted.refusals.clone());
        registry.register(CALLS.0, CALLS.1, counted.calls.clone());
        registry.register(CALL_SECONDS.0, CALL_SECONDS.1, counted.call_seconds.clone());
        registry.register(IN_FLIGHT.0, IN_FLIGHT.1, counted.in_flight.clone());
        member(&mut registry, api);
        replicated(&mut registry, api);
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(text)
    }
}

fn gauge(registry: &mut Registry, (name, help): (&'static str, &'static str), value: u64) {
    let gauge: Gauge<u64, AtomicU64> = Gauge::default();
    gauge.set(value);
    registry.register(name, help, gauge);
}

fn counter(registry: &mut Registry, (name, help): (&'static str, &'static str), value: u64) {
    let counter: Counter = Counter::default();
    counter.inc_by(value);
    registry.register(name, help, counter);
}

fn member(registry: &mut Registry, api: &Api) {
    let health = api.backend().health();
    gauge(registry, RAFT_TERM, health.term);
    gauge(registry, RAFT_APPLIED, health.applied);
    gauge(registry, RAFT_LAST_LOG, health.last_log);
    gauge(registry, RAFT_QUORUM, u64::from(health.has_quorum));
    gauge(registry, RAFT_LOG_BYTES, health.log_bytes);
    gauge(registry, SESSIONS, u64::from(health.sessions));
    counter(registry, PROPOSED, health.proposals);
    counter(registry, FDATASYNCS, health.fdatasyncs);
    let roles: Family<Word, Gauge> = Family::default();
    for role in RaftRole::ALL {
        roles.get_or_create(&Word { word: role.as_str() }).set(i64::from(role == health.role));
    }
    registry.register(RAFT_ROLE.0, RAFT_ROLE.1, roles);
}

fn replicated(registry: &mut Registry, api: &Api) {
    let nodes: Family<Word, Gauge> = Family::default();
    let operations: Family<Word, Gauge> = Family::default();
    let margin: Family<GroupLabel, Gauge> = Family::default();
    let available: Family<GroupLabel, Gauge> = Family::default();
    let needed: Family<GroupLabel, Gauge> = Family::default();
    for status in NodeStatus::ALL {
        nodes.get_or_create(&Word { word: status.as_str() }).set(0);
    }
    for state in OperationState::ALL.iter().filter(|s| !s.is_terminal()) {
        operations.get_or_create(&Word { word: state.as_str() }).set(0);
    }
    // Only the leader knows the health of groups: a follower's view would show quorums lost that are not.
    let leads = api.backend().health().leads();
    let (owed, grants, audit) = api.look_around(|state, observations, now| {
        for node in state.nodes.by_name.values() {
            nodes.get_or_create(&Word { word: node.status.as_str() }).inc();
        }
        for operation in state.operations.values().filter(|o| !o.state.is_terminal()) {
            operations.get_or_create(&Word { word: operation.state.as_str() }).inc();
        }
        let evidence = Evidence::from_observations(observations);
        for group in state.groups.values() {
            let stand = availability(state, group, &evidence, now);
            let label = GroupLabel { group: group.spec.name.as_str().to_owned() };
            needed.get_or_create(&label).set(i64::from(stand.required));
            if leads {
                available.get_or_create(&label).set(i64::from(stand.up));
                margin.get_or_create(&label).set(stand.margin());
            }
        }
        let open = |state: ObligationState| matches!(state, ObligationState::Open | ObligationState::Failed);
        let owed = state.obligations.values().filter(|o| open(o.state)).count();
        (owed, state.grants.len(), state.audit.head.seq)
    });
    registry.register(NODES.0, NODES.1, nodes);
    registry.register(OPERATIONS.0, OPERATIONS.1, operations);
    registry.register(GROUP_MARGIN.0, GROUP_MARGIN.1, margin);
    registry.register(GROUP_AVAILABLE.0, GROUP_AVAILABLE.1, available);
    registry.register(GROUP_REQUIRED.0, GROUP_REQUIRED.1, needed);
    gauge(registry, OBLIGATIONS, u64::try_from(owed).unwrap_or(u64::MAX));
    gauge(registry, GRANTS, u64::try_from(grants).unwrap_or(u64::MAX));
    gauge(registry, AUDIT_RECORDS, audit);
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
