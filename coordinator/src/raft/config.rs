//! Timeouts and limits, with where they come from.

use std::time::Duration;

use openraft::{Config, SnapshotPolicy};

/// Tunable values; the defaults are R7's.
#[derive(Debug, Clone)]
pub struct RaftConfig {
    /// The leader's heartbeat interval. R7: `fdatasync` takes up to 568 ms on the worst disk measured.
    pub heartbeat: Duration,
    /// Shortest election timeout.
    pub election_min: Duration,
    /// Longest election timeout.
    pub election_max: Duration,
    /// Deadline of one snapshot chunk.
    pub snapshot_timeout: Duration,
    /// Bytes of one snapshot chunk; the peer listener decodes at most 4 MiB.
    pub snapshot_chunk_bytes: u32,
    /// Entries applied since the last snapshot before the next one is made.
    pub snapshot_entries: u64,
    /// Bytes appended since the last snapshot before the next one is made.
    pub snapshot_bytes: u64,
    /// Entries kept behind a snapshot for members that lag a little.
    pub keep_entries: u64,
    /// Lag in entries from which on a member gets a snapshot instead of entries.
    pub lag_entries: u64,
    /// A digest of the state is taken at every index that this divides, and compared among members (I-7).
    pub digest_entries: u64,
    /// How long a proposal waits before it counts as unknown.
    pub propose_timeout: Duration,
    /// How long a linearizable read waits.
    pub read_timeout: Duration,
    /// How long a learner must be healthy and caught up before it may vote (R6).
    pub promote_after: Duration,
    /// How long promotion waits for a learner to catch up.
    pub promote_timeout: Duration,
}

impl Default for RaftConfig {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(250),
            election_min: Duration::from_millis(1000),
            election_max: Duration::from_millis(2000),
            snapshot_timeout: Duration::from_secs(5),
            snapshot_chunk_bytes: 512 << 10,
            snapshot_entries: 10_000,
            snapshot_bytes: 32 << 20,
            keep_entries: 1000,
            lag_entries: 5000,
            digest_entries: 1000,
            propose_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(5),
            promote_after: Duration::from_secs(10),
            promote_timeout: Duration::from_secs(120),
        }
    }
}

impl RaftConfig {
    /// Most entries of one append request: with the byte limit of [`super::log_store`] it stays under 4 MiB.
    const APPEND_ENTRIES: u64 = 256;

    /// How long a member that is short of disk space waits before it starts, so that another leads: the lease of the last
    /// leader, the longest election timeout behind it, and one more try.
    pub(crate) fn stand_back(&self) -> Duration {
        self.election_max * 3
    }

    pub(crate) fn openraft(&self, cluster: &str) -> Result<Config, Box<openraft::ConfigError>> {
        let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        Config {
            cluster_name: cluster.to_owned(),
            heartbeat_interval: millis(self.heartbeat),
            election_timeout_min: millis(self.election_min),
            election_timeout_max: millis(self.election_max),
            install_snapshot_timeout: millis(self.snapshot_timeout),
            snapshot_max_chunk_size: u64::from(self.snapshot_chunk_bytes),
            max_payload_entries: Self::APPEND_ENTRIES,
            replication_lag_threshold: self.lag_entries,
            // Ours: openraft 0.9 does not re-arm its policy after a build in flight (#1829).
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: self.keep_entries,
            purge_batch_size: 64,
            ..Config::default()
        }
        .validate()
        .map_err(Box::new)
    }
}
