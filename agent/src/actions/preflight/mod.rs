//! `host.preflight`: everything that the work on an instance needs is looked at before the work begins.
//!
//! Job: one reading for each check, each with what was measured. Must never: change anything, or take a check that could not be
//! made for one that was passed.

pub(super) mod exec;
mod plan;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use quorate_model::RiskClass;
use serde::{Deserialize, Serialize};

/// What the catalogue tells of it: class, input, summary.
pub(super) const LOOK: (RiskClass, &str, &str) = (
    RiskClass::Read,
    "service, preflight (what it requires, free space, memory, clock), the action that follows, release",
    "Look at all that the work on an instance needs, and change nothing.",
);

/// Where the network half says what it reached, below its data folder: one file for each execution.
pub(crate) const REACHED: &str = "spool/reached";
/// Longest such file.
pub(crate) const REACHED_MAX_BYTES: u64 = 64 * 1024;

/// What the network half found out for one execution: the helper has no network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reached {
    /// How far this clock is from the coordinators'; none when nobody has said yet.
    pub(crate) offset_ms: Option<i64>,
    /// Each address with why it could not be reached; empty when it was.
    pub(crate) addresses: BTreeMap<String, String>,
}
