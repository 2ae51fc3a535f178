//! What became of an action.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::backup::BackupReceipt;
use crate::node::Facts;
use crate::release::ReleaseReceipt;
use crate::service::UnitStatus;
use crate::time::DurationMs;
use crate::traffic::TrafficReceipt;

/// Longest tail of output that travels with an outcome, in bytes; the rest stays on the node.
pub const OUTPUT_TAIL_MAX_BYTES: usize = 4 * 1024;

/// One finding of `host.diagnose`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at: `disk`, `memory`, `unit ledger`, …
    pub subject: String,
    /// `ok`, `warning`, `critical`.
    pub level: String,
    /// What was found, one line.
    pub message: String,
    /// What it rests on.
    pub evidence: String,
}

/// What an action gave back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionOutcome {
    /// One line for people.
    pub message: String,
    /// Tail of the output, at most 4 KiB, lossy UTF-8.
    #[serde(default)]
    pub output_tail: String,
    /// Size of the whole output in bytes.
    #[serde(default)]
    pub output_bytes: u64,
    /// sha256 of the whole output, lower-case hex; empty when there was none.
    #[serde(default)]
    pub output_sha256: String,
    /// SIGKILL was needed after the graceful deadline.
    #[serde(default)]
    pub escalated: bool,
    /// How long it took on the node.
    #[serde(default)]
    pub took: DurationMs,
    /// Unit state afterwards, for `service.*`.
    #[serde(default)]
    pub unit: Option<UnitStatus>,
    /// What was stored, for `backup.create` and `backup.verify`.
    #[serde(default)]
    pub backup: Option<BackupReceipt>,
    /// Files rotated, for `log.rotate`.
    #[serde(default)]
    pub rotated: Vec<String>,
    /// What is in use afterwards, for `artifact.*`, `config.*` and `package.install`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ReleaseReceipt>,
    /// What was measured, for `traffic.*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<TrafficReceipt>,
    /// For `exec.run`: the hook's exit code, or the status of its answer; none when it did not end by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// For `host.facts`.
    #[serde(default)]
    pub facts: Option<Facts>,
    /// For `host.diagnose`, and every check of `host.preflight`.
    #[serde(default)]
    pub findings: Vec<Finding>,
}
