//! `coordinator.toml`: raw as written, validated as used. Unknown keys are errors.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quorate_common::config::{ConfigError, load};
use quorate_model::MemberName;
use serde::Deserialize;

use crate::artifacts::ArtifactLimits;
use crate::listen::ListenLimits;
use crate::raft::RaftConfig;

/// Prefix of the environment variables that override keys: `QUORATE_COORDINATOR_LISTEN__GRPC`.
pub const ENV_PREFIX: &str = "QUORATE_COORDINATOR";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: String,
    #[serde(default)]
    cluster_name: String,
    data_dir: PathBuf,
    #[serde(default)]
    enroll: Vec<String>,
    listen: RawListen,
    #[serde(default)]
    advertise: RawAdvertise,
    #[serde(default)]
    raft: RawRaft,
    #[serde(default)]
    fleet: RawFleet,
    #[serde(default)]
    store: RawStore,
    #[serde(default)]
    artifacts: ArtifactLimits,
    #[serde(default)]
    limits: ListenLimits,
    #[serde(default)]
    certificates: RawCertificates,
    #[serde(default)]
    log: RawLog,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawListen {
    grpc: SocketAddr,
    http: SocketAddr,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawAdvertise {
    grpc: String,
    http: String,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawRaft {
    heartbeat_ms: u64,
    election_min_ms: u64,
    election_max_ms: u64,
    snapshot_entries: u64,
    promote_after_ms: u64,
}

impl Default for RawRaft {
    fn default() -> Self {
        // R7: fdatasync takes up to 568 ms on the worst disk measured.
        Self {
            heartbeat_ms: 250,
            election_min_ms: 1_000,
            election_max_ms: 2_000,
            snapshot_entries: 10_000,
            promote_after_ms: 10_000,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawFleet {
    heartbeat_ms: u64,
    silence_ms: u64,
    grace_ms: u64,
}

impl Default for RawFleet {
    fn default() -> Self {
        Self { heartbeat_ms: 1_000, silence_ms: 3_000, grace_ms: 10_000 }
    }
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawStore {
    ballast_bytes: u64,
    min_free_bytes: u64,
    min_free_percent: u8,
    cache_bytes: u64,
}

impl Default for RawStore {
    fn default() -> Self {
        Self {
            ballast_bytes: 64 << 20,
            min_free_bytes: 512 << 20,
            min_free_percent: 10,
            cache_bytes: 128 << 20,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawCertificates {
    life_secs: u64,
}

impl Default for RawCertificates {
    fn default() -> Self {
        Self { life_secs: 86_400 }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawLog {
    format: String,
    filter: String,
}

/// Validated configuration of one member.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its name.
    pub name: MemberName,
    /// The cluster's name, used by `init` only.
    pub cluster_name: String,
    /// Where everything of it lies, 0700.
    pub data_dir: PathBuf,
    /// HTTPS addresses that `join` may ask besides those of the token.
    pub enroll: Vec<String>,
    /// gRPC listener.
    pub grpc: SocketAddr,
    /// HTTPS listener.
    pub http: SocketAddr,
    /// gRPC address that others are told, `host:port`.
    pub advertise_grpc: String,
    /// HTTPS address that others are told.
    pub advertise_http: String,
    /// Timeouts and limits of Raft.
    pub raft: RaftConfig,
    /// Heartbeats of agents.
    pub heartbeat: Duration,
    /// No heartbeat for this long: DISCONNECTED.
    pub silence: Duration,
    /// No heartbeat for this long: DOWN.
    pub grace: Duration,
    /// Reserve file of the log's disk; 0 for none.
    pub ballast_bytes: u64,
    /// New work is refused below this.
    pub min_free_bytes: u64,
    /// New work is refused below this share of the disk.
    pub min_free_percent: u8,
    /// sled's page cache.
    pub cache_bytes: u64,
    /// How much of the disk artifacts may take.
    pub artifacts: ArtifactLimits,
    /// Limits of the listeners.
    pub limits: ListenLimits,
    /// Life of certificates that this member signs.
    pub certificate_life: Duration,
    /// Logs as JSON.
    pub log_json: bool,
    /// Log filter; empty for the default, which is `info` with the noise of libraries taken out.
    pub log_filter: String,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigRefused {
    /// It cannot be read as TOML of the right shape.
    #[error(transparent)]
    Read(#[from] ConfigError),
    /// A value makes no sense.
    #[error("{path}: {key}: {why}")]
    Value {
        /// The file.
        path: String,
        /// The key.
        key: &'static str,
        /// Why.
        why: String,
    },
}

/// Timings that cannot work together.
fn timings(raft: &RawRaft, fleet: &RawFleet) -> Result<(), (&'static str, String)> {
    let heartbeats = raft.heartbeat_ms.saturating_mul(3);
    if raft.heartbeat_ms < 10
        || raft.election_min_ms < heartbeats
        || raft.election_max_ms <= raft.election_min_ms
    {
        let why = "wanted: heartbeat_ms >= 10, election_min_ms >= 3 * heartbeat_ms, election_max_ms > election_min_ms";
        return Err(("raft", why.to_owned()));
    }
    if raft.snapshot_entries < 100 {
        return Err(("raft.snapshot_entries", "at least 100".to_owned()));
    }
    let beats = fleet.heartbeat_ms.saturating_mul(2);
    if fleet.heartbeat_ms < 50 || fleet.silence_ms < beats || fleet.grace_ms <= fleet.silence_ms {
        let why = "wanted: heartbeat_ms >= 50, silence_ms >= 2 * heartbeat_ms, grace_ms > silence_ms";
        return Err(("fleet", why.to_owned()));
    }
    Ok(())
}

impl Config {
    /// Reads and validates a configuration.
    ///
    /// # Errors
    /// [`ConfigRefused`], ready to print.
    pub fn load(path: &Path) -> Result<Self, ConfigRefused> {
        let raw: Raw = load(path, ENV_PREFIX)?;
        Self::validate(raw, path)
    }

    fn validate(raw: Raw, path: &Path) -> Result<Self, ConfigRefused> {
        let refuse = |key: &'static str, why: String| ConfigRefused::Value {
            path: path.display().to_string(),
            key,
            why,
        };
        let name = MemberName::new(raw.name).map_err(|e| refuse("name", e.to_string()))?;
        if !raw.data_dir.is_absolute() {
            return Err(refuse("data_dir", "it must be an absolute path".to_owned()));
        }
        timings(&raw.raft, &raw.fleet).map_err(|(key, why)| refuse(key, why))?;
        raw.artifacts.validate().map_err(|(key, why)| refuse(key, why))?;
        raw.limits.validate().map_err(|error| refuse("limits", error.to_string()))?;
        let advertise = |key, text: String, listen: SocketAddr| -> Result<String, ConfigRefused> {
            let text = if text.is_empty() { listen.to_string() } else { text };
            let address: quorate_common::tls::Address =
                text.parse().map_err(|e| refuse(key, format!("{e}")))?;
            if address.port() == 0 || listen.ip().is_unspecified() && text == listen.to_string() {
                return Err(refuse(
                    key,
                    "others cannot dial this; set the address they reach it at".to_owned(),
                ));
            }
            Ok(address.to_string())
        };
        if !(300..=90 * 86_400).contains(&raw.certificates.life_secs) {
            return Err(refuse("certificates.life_secs", "between 300 and 7776000 (90 days)".to_owned()));
        }
        let log_json = match raw.log.format.as_str() {
            "" | "text" => false,
            "json" => true,
            other => return Err(refuse("log.format", format!("{other:?} is neither \"text\" nor \"json\""))),
        };
        Ok(Self {
            name,
            cluster_name: if raw.cluster_name.is_empty() { "quorate".to_owned() } else { raw.cluster_name },
            data_dir: raw.data_dir,
            enroll: raw.enroll,
            grpc: raw.listen.grpc,
            http: raw.listen.http,
            advertise_grpc: advertise("advertise.grpc", raw.advertise.grpc, raw.listen.grpc)?,
            advertise_http: advertise("advertise.http", raw.advertise.http, raw.listen.http)?,
            raft: RaftConfig {
                heartbeat: Duration::from_millis(raw.raft.heartbeat_ms),
                election_min: Duration::from_millis(raw.raft.election_min_ms),
                election_max: Duration::from_millis(raw.raft.election_max_ms),
                snapshot_entries: raw.raft.snapshot_entries,
                promote_after: Duration::from_millis(raw.raft.promote_after_ms),
                ..RaftConfig::default()
            },
            heartbeat: Duration::from_millis(raw.fleet.heartbeat_ms),
            silence: Duration::from_millis(raw.fleet.silence_ms),
            grace: Duration::from_millis(raw.fleet.grace_ms),
            ballast_bytes: raw.store.ballast_bytes,
            min_free_bytes: raw.store.min_free_bytes,
            min_free_percent: raw.store.min_free_percent.min(90),
            cache_bytes: raw.store.cache_bytes.clamp(8 << 20, 4 << 30),
            artifacts: raw.artifacts,
            limits: raw.limits,
            certificate_life: Duration::from_secs(raw.certificates.life_secs),
            log_json,
            log_filter: raw.log.filter,
        })
    }

    /// Names and addresses that this member's own server certificate carries.
    #[must_use]
    pub fn server_names(&self) -> Vec<String> {
        let mut names = BTreeSet::from(["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()]);
        for text in [&self.advertise_grpc, &self.advertise_http] {
            if let Ok(address) = text.parse::<quorate_common::tls::Address>() {
                names.insert(address.host().to_owned());
            }
        }
        names.into_iter().collect()
    }
}
