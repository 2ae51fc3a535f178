//! Pre-flight: what must hold on a host before the work on an instance begins there.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::time::DurationMs;

/// Most things one service depends on.
pub const REQUIRES_MAX: usize = 32;
/// Longest name of one of them, in bytes, before and after filling in.
pub const REQUIRED_MAX_BYTES: usize = 255;
/// Part of a file system that must stay free when nothing is said, in percent.
pub const FREE_PERCENT: u32 = 5;
/// Furthest a host's clock may be off when nothing is said: as much as grants are budgeted for.
pub const SKEW_MAX: DurationMs = DurationMs::from_secs(1);

/// Something that an instance cannot serve without.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Required {
    /// A systemd unit of the same host that is active.
    Unit {
        /// For example `postgresql.service`; `${…}` variables allowed.
        unit: String,
    },
    /// A TCP address that accepts a connection from the host.
    Address {
        /// `host:port`; `${…}` variables allowed.
        address: String,
    },
}

/// What is looked at before an instance is worked on. Where nothing is said of a thing it is looked at all the same, with the
/// numbers that hold for everybody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreflightSpec {
    /// What it cannot serve without.
    #[serde(default)]
    pub requires: Vec<Required>,
    /// Part of every file system concerned that stays free, bytes and inodes, in percent.
    pub min_free_percent: u32,
    /// Memory that must be available, in bytes; 0 asks for nothing.
    #[serde(default)]
    pub min_memory_bytes: u64,
    /// Furthest its clock may be from the coordinators'.
    pub max_clock_skew: DurationMs,
}

impl Default for PreflightSpec {
    fn default() -> Self {
        Self {
            requires: Vec::new(),
            min_free_percent: FREE_PERCENT,
            min_memory_bytes: 0,
            max_clock_skew: SKEW_MAX,
        }
    }
}
