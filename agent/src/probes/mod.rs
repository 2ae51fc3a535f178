//! Named probes: one measurement of health each.
//!
//! Job: take one reading, within its timeout, with at most 1 MiB of answer, and keep the newest reading of each probe
//! with its run of passes or failures. Must never: follow a redirect, run what the host's policy did not hand over, take
//! an answer it does not understand for a pass, or act on what it sees (that is the coordinator's work).
//!
//! **Architecture Invariant:** `plan.rs` judges (specification and answer in, reading out) and knows neither `host` nor
//! tokio; `exec.rs` only fetches. `alerts.rs` judges its kind likewise;
//! `certificate.rs` has both halves of its kind side by side. So every verdict can be tested without a network.

mod alerts;
mod certificate;
mod exec;
mod json;
mod measure;
pub mod page;
pub mod plan;
mod schedule;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use quorate_model::{InstanceRole, Listed, Millionths, Timestamp};

pub use exec::{ProbeTarget, Prober};
pub use schedule::{Latest, PROBES_MAX, ProbeKey, Scheduled, Scheduler};

/// One reading of one probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// It passed.
    pub ok: bool,
    /// Nobody could look, for a reason of this host and not of the instance: no pass, and no failure either.
    pub blind: bool,
    /// One line, sanitized, at most 200 characters.
    pub detail: String,
    /// What was measured: the status, the JSON value compared, the exit code; empty for none.
    pub value: String,
    /// What was measured, by a metric probe; days left, by a certificate probe; alerts that fire, by
    /// an alerts probe.
    pub number: Option<Millionths>,
    /// What an HTTP server answered, by an HTTP probe.
    pub status: Option<u16>,
    /// The document it answered, bounded; only where an expression asks for it.
    pub body: Option<Arc<serde_json::Value>>,
    /// Role of the member, by a membership probe.
    pub role: InstanceRole,
    /// Lag of the member, by a membership probe.
    pub lag: Option<u64>,
    /// Position of the member in its application's own log, by a membership probe.
    pub position: Option<u64>,
    /// Key of the member that leads, by a membership probe; empty when none does.
    pub leader: String,
    /// Whom the instance lists as members, by a membership probe; empty when nothing is told.
    pub listed: Vec<Listed>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// When it was taken.
    pub at: Timestamp,
}

impl Reading {
    pub(crate) fn new(ok: bool, detail: &str) -> Self {
        Self {
            ok,
            blind: false,
            detail: plan::one_line(detail),
            value: String::new(),
            number: None,
            status: None,
            body: None,
            role: InstanceRole::Unknown,
            lag: None,
            position: None,
            leader: String::new(),
            listed: Vec::new(),
            took_ms: 0,
            at: Timestamp::ZERO,
        }
    }

    pub(crate) fn blind(detail: &str) -> Self {
        Self { blind: true, ..Self::new(false, detail) }
    }
}
