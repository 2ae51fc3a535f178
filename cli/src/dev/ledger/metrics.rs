//! What an instance counts, as JSON (`/metrics`) and in Prometheus text (`/metrics/prometheus`).
//!
//! The names are those of the users' guide (S2, "Key Metrics to Monitor"), kept even where Prometheus would name them
//! otherwise, because the guide's alert rules are run against them.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Latencies kept for the percentile: the newest thousand, 8 KiB.
const KEPT_LATENCIES: usize = 1024;

/// Counters of one instance.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    ops: AtomicU64,
    errors: AtomicU64,
    latencies_us: Mutex<VecDeque<u64>>,
}

/// What the instance knew when the metrics were asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Gauges {
    pub(super) keys: usize,
    pub(super) bytes: u64,
    pub(super) term: u64,
    pub(super) seq: u64,
    pub(super) lag: u64,
    pub(super) healthy: bool,
    pub(super) leader: bool,
    pub(super) serving: usize,
    pub(super) paused: bool,
    /// Told as the percentile when it is above the true one: misbehaviour asked for.
    pub(super) least_p99_us: u64,
}

impl Metrics {
    /// Counts one request to the key-value or verify endpoints.
    pub(super) fn observe(&self, took: Duration, failed: bool) {
        self.ops.fetch_add(1, Ordering::Relaxed);
        if failed {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
        let mut kept = self.latencies_us.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT_LATENCIES {
            kept.pop_front();
        }
        kept.push_back(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    /// The 99th percentile of the kept latencies, in microseconds; 0 when there is none.
    fn p99_us(&self) -> u64 {
        let kept = self.latencies_us.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sorted: Vec<u64> = kept.iter().copied().collect();
        drop(kept);
        sorted.sort_unstable();
        let rank = (sorted.len() * 99).div_ceil(100);
        rank.checked_sub(1).and_then(|index| sorted.get(index)).copied().unwrap_or(0)
    }

    pub(super) fn json(&self, gauges: &Gauges) -> serde_json::Value {
        serde_json::json!({
            "ops_total": self.ops.load(Ordering::Relaxed),
            "errors_total": self.errors.load(Ordering::Relaxed),
            "request_latency_p99_us": self.p99_us().max(gauges.least_p99_us),
            "storage": { "keys": gauges.keys, "bytes": gauges.bytes },
            "raft": { "term": gauges.term, "commit_index": gauges.seq, "lag": gauges.lag, "leader": gauges.leader },
            "serving": gauges.serving,
            "writes_paused": gauges.paused,
            "healthy": gauges.healthy,
        })
    }

    pub(super) fn prometheus(&self, node: &str, gauges: &Gauges) -> String {
        let p99_us = self.p99_us().max(gauges.least_p99_us);
        let rows: [(&str, &str, &str, String); 10] = [
            (
                "scribe_ops_total",
                "counter",
                "Requests to keys.",
                self.ops.load(Ordering::Relaxed).to_string(),
            ),
            ("scribe_errors_total", "counter", "Such requests that failed on the server's side.", {
                self.errors.load(Ordering::Relaxed).to_string()
            }),
            (
                "scribe_request_latency_p99",
                "gauge",
                "99th percentile of the last 1024 such requests, milliseconds.",
                format!("{}.{:03}", p99_us / 1000, p99_us % 1000),
            ),
            ("scribe_storage_keys_total", "gauge", "Keys with a value.", gauges.keys.to_string()),
            ("scribe_storage_bytes", "gauge", "Size of the key-value file.", gauges.bytes.to_string()),
            ("scribe_raft_term", "gauge", "Term of the leader known here.", gauges.term.to_string()),
            ("scribe_raft_commit_index", "gauge", "Newest write stored here.", gauges.seq.to_string()),
            ("scribe_raft_lag", "gauge", "Entries this member is behind.", gauges.lag.to_string()),
            (
                "scribe_writes_paused",
                "gauge",
                "1 while writes are paused.",
                u8::from(gauges.paused).to_string(),
            ),
            (
                "scribe_node_health",
                "gauge",
                "1 when this instance serves as a caught-up voter.",
                u8::from(gauges.healthy).to_string(),
            ),
        ];
        let mut out = String::new();
        for (name, kind, help, value) in rows {
            // Writing to a String cannot fail; a node's name has no character that needs escaping (config.rs).
            let _ = write!(
                out,
                "# HELP {name} {help}\n# TYPE {name} {kind}\n{name}{{node=\"{node}\"}} {value}\n"
            );
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_percentile_is_of_the_newest_thousand() {
        let metrics = Metrics::default();
        assert_eq!(metrics.p99_us(), 0);
        for us in 0..2000 {
            metrics.observe(Duration::from_micros(us), us % 2 == 0);
        }
        assert_eq!(metrics.p99_us(), 976 + 1014 - 1);
        let json = metrics.json(&Gauges::default());
        assert_eq!((&json["ops_total"], &json["errors_total"]), (&2000.into(), &1000.into()));
    }

    #[test]
    fn the_guides_names_are_there() {
        let text =
            Metrics::default().prometheus("node1", &Gauges { keys: 3, healthy: true, ..Gauges::default() });
        for line in [
            "scribe_storage_keys_total{node=\"node1\"} 3",
            "scribe_node_health{node=\"node1\"} 1",
            "scribe_request_latency_p99{node=\"node1\"} 0.000",
            "# TYPE scribe_ops_total counter",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is missing in\n{text}");
        }
    }
}
