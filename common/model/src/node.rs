//! The three independent axes of a node.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

words! {
    /// Connection axis.
    pub enum NodeStatus {
        /// Enrolled, no session yet.
        Pending = "PENDING",
        /// Its agent is heard.
        Ready = "READY",
        /// Heartbeats are missing, inside the grace.
        Disconnected = "DISCONNECTED",
        /// The grace is over.
        Down = "DOWN",
        /// Its identity was revoked; the number is never used again.
        Removed = "REMOVED",
    }
}

words! {
    /// Scheduling axis.
    pub enum Scheduling {
        /// May be worked on.
        Eligible = "ELIGIBLE",
        /// No new disruptive work.
        Cordoned = "CORDONED",
    }
}

words! {
    /// Drain axis.
    pub enum Drain {
        /// Carries its load.
        None = "NONE",
        /// Load is being taken away.
        Draining = "DRAINING",
        /// No load left.
        Drained = "DRAINED",
    }
}

words! {
    /// Typed conditions of a node.
    pub enum NodeCondition {
        /// Its clock differs from the coordinator's by more than the limit.
        ClockSkewed = "CLOCK_SKEWED",
        /// A file system is nearly full.
        DiskPressure = "DISK_PRESSURE",
        /// Memory is nearly used up.
        MemoryPressure = "MEMORY_PRESSURE",
        /// Its certificate is past two thirds of its life and was not renewed.
        CertificateExpiring = "CERTIFICATE_EXPIRING",
        /// Two sessions claim the same identity.
        DuplicateIdentity = "DUPLICATE_IDENTITY",
        /// The agent's journal was lost; it refuses mutating work until an operator resets it.
        JournalLost = "JOURNAL_LOST",
        /// The network part cannot reach the helper.
        HelperUnreachable = "HELPER_UNREACHABLE",
    }
}

/// What an agent found out about its host. Lives in the coordinators' memory, never in the Raft log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The kernel's host name.
    pub hostname: String,
    /// Pretty name from os-release.
    pub os: String,
    /// Kernel release.
    pub kernel: String,
    /// Machine architecture.
    pub arch: String,
    /// Logical CPUs.
    pub cpus: u32,
    /// Physical memory in bytes.
    pub memory_bytes: u64,
    /// Mounted file systems that hold data.
    pub disks: Vec<Disk>,
    /// IP addresses other than loopback and link-local.
    pub addresses: Vec<String>,
    /// Version of the agent.
    pub agent_version: String,
    /// Boot id of the kernel; changes with every reboot.
    pub boot_id: String,
    /// When the host booted.
    pub booted_at: Timestamp,
    /// Further facts by name, at most 64.
    pub extra: BTreeMap<String, String>,
}

/// One mounted file system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Where it is mounted.
    pub mount: String,
    /// Device or source.
    pub device: String,
    /// File system type.
    pub filesystem: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Bytes free for unprivileged use.
    pub available_bytes: u64,
    /// Inodes in all.
    pub inodes: u64,
    /// Inodes free.
    pub inodes_free: u64,
}
