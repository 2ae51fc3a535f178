//! Releases: what a rollout is asked to install, what each instance was last given, and what a service had before.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use quorate_model::{
    ConfigName, Digest, ExecutionId, Install, NodeName, OperationId, Release, Timestamp, Version,
};
use serde::{Deserialize, Serialize};

/// Releases remembered per service.
pub const RELEASES_MAX: usize = 10;
/// Versions of a service of which it is remembered what became of their run-once hook.
pub const MIGRATIONS_MAX: usize = 64;

/// A release as a rollout asks for it; how it is installed is the service's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseRequest {
    /// Its name for people; for a package its exact version.
    pub version: Version,
    /// The artifact's sha256.
    pub artifact: Digest,
    /// The artifact's size in bytes.
    pub size: u64,
    /// Its signature as text; empty when it has none. Only the host judges it.
    #[serde(default)]
    pub signature: String,
}

impl ReleaseRequest {
    /// With how it is installed.
    #[must_use]
    pub fn with(&self, install: Install) -> Release {
        Release {
            version: self.version.clone(),
            artifact: self.artifact.clone(),
            size: self.size,
            signature: self.signature.clone(),
            install,
        }
    }
}

/// The release that an instance was last seen to be given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceRelease {
    /// Its version.
    pub version: Version,
    /// Its artifact's sha256.
    pub artifact: Digest,
    /// Since when.
    pub since: Timestamp,
    /// By which operation.
    pub operation: OperationId,
}

/// A release that a rollout has brought to a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRelease {
    /// What.
    pub release: ReleaseRequest,
    /// When the rollout succeeded.
    pub at: Timestamp,
    /// Which rollout.
    pub operation: OperationId,
}

/// Releases of a service, oldest first.
pub type Releases = Vec<ServiceRelease>;

/// What rollouts have brought of each configuration file of a service.
pub type ConfigReleases = BTreeMap<ConfigName, Releases>;

/// The configuration files that an instance was last seen to be given.
pub type InstanceConfigs = BTreeMap<ConfigName, InstanceRelease>;

/// What is known of the run-once hook of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Migrated {
    /// It was handed to its node, and has not ended as far as is known.
    Begun,
    /// It ended well.
    Done,
    /// It ended by itself, and said that it failed.
    Failed,
    /// Nobody can tell what it did: it was cut off, or its outcome is lost.
    Unknown,
}

/// The run-once hook of a release, as it was last run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migration {
    /// Of which version.
    pub version: Version,
    /// What became of it.
    pub state: Migrated,
    /// Where it ran.
    pub node: NodeName,
    /// The evidence.
    pub execution: ExecutionId,
    /// By which operation.
    pub operation: OperationId,
    /// Since when it is in this state.
    pub at: Timestamp,
}

/// Migrations of a service, oldest first; each version once.
pub type Migrations = Vec<Migration>;
