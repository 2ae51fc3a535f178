//! `agent.toml` as it is written. What the fields mean and which values they may have is in `mod.rs`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use quorate_common::config::{Size, Span};
use quorate_common::telemetry::Format;
use serde::Deserialize;

use super::balancer::RawBalancer;
use crate::host::process::ProcessSpec;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    pub(super) node: String,
    pub(super) data_dir: PathBuf,
    pub(super) helper_dir: Option<PathBuf>,
    #[serde(default)]
    pub(super) coordinators: Vec<String>,
    #[serde(default)]
    pub(super) enroll: Vec<String>,
    pub(super) token_file: Option<PathBuf>,
    pub(super) helper_socket: PathBuf,
    pub(super) agent_user: Option<String>,
    pub(super) metrics_listen: Option<String>,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) log: RawLog,
    #[serde(default)]
    pub(super) policy: RawPolicy,
    #[serde(default)]
    pub(super) limits: RawLimits,
    #[serde(default)]
    pub(super) journal: RawJournal,
    #[serde(default)]
    pub(super) process: BTreeMap<String, ProcessSpec>,
    #[serde(default)]
    pub(super) hook: BTreeMap<String, RawHook>,
    #[serde(default)]
    pub(super) balancer: BTreeMap<String, RawBalancer>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLog {
    #[serde(default)]
    pub(super) format: Format,
    pub(super) level: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawPolicy {
    #[serde(default)]
    pub(crate) actions: Vec<String>,
    #[serde(default)]
    pub(crate) services: Vec<String>,
    #[serde(default)]
    pub(crate) units: Vec<String>,
    #[serde(default)]
    pub(crate) paths: Vec<PathBuf>,
    #[serde(default)]
    pub(crate) hooks: Vec<String>,
    #[serde(default)]
    pub(crate) run_hooks: Vec<String>,
    #[serde(default)]
    pub(crate) probes: Vec<PathBuf>,
    pub(crate) backup_dir: Option<PathBuf>,
    #[serde(default)]
    pub(crate) install: Vec<PathBuf>,
    #[serde(default)]
    pub(crate) packages: Vec<String>,
    #[serde(default)]
    pub(crate) configs: Vec<PathBuf>,
    #[serde(default)]
    pub(crate) secrets: Vec<PathBuf>,
    #[serde(default)]
    pub(crate) keys: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) unsigned: bool,
    #[serde(default)]
    pub(crate) alertmanagers: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLimits {
    pub(super) backup_bytes_per_sec: Option<Size>,
    pub(super) nice: Option<i32>,
    pub(super) workers: Option<u32>,
    pub(super) reserve: Option<Size>,
    pub(super) spool: Option<Size>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawJournal {
    pub(super) cache: Option<Size>,
    pub(super) min_free: Option<Size>,
    pub(super) ballast: Option<Size>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawHook {
    pub(super) argv: Option<Vec<String>>,
    pub(super) http_post: Option<String>,
    pub(super) cwd: Option<PathBuf>,
    #[serde(default)]
    pub(super) env: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) expect_status: Vec<u16>,
    pub(super) timeout: Option<Span>,
}
