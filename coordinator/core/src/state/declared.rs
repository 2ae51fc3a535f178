//! What owners declare: services and groups.

use alloc::vec::Vec;

use quorate_model::{
    AlarmLevel, GroupSpec, NodeName, OperationId, Revision, ServiceSpec, Timestamp, Version,
};
use serde::{Deserialize, Serialize};

use super::lease::{FailoverRecord, PrimaryLease};
use super::release::{ConfigReleases, Migration, Migrations, Releases};

/// Most services.
pub const SERVICES_MAX: usize = 2_000;
/// Most groups.
pub const GROUPS_MAX: usize = 2_000;
/// Most voters or learners of one group; the largest chains we know of run a few hundred validators.
pub const GROUP_MEMBERS_MAX: usize = 500;
/// Most probes of one service.
pub const PROBES_MAX: usize = 16;
/// Longest text in a specification, in bytes.
pub const SPEC_TEXT_MAX_BYTES: usize = 4 * 1024;

/// A declared service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// As declared.
    pub spec: ServiceSpec,
    /// When it was first declared.
    pub created_at: Timestamp,
    /// Last change.
    pub revision: Revision,
    /// What rollouts have brought to it, oldest first, the newest [`super::release::RELEASES_MAX`].
    #[serde(default, skip_serializing_if = "Releases::is_empty")]
    pub releases: Releases,
    /// The same of each of its configuration files.
    #[serde(default, skip_serializing_if = "ConfigReleases::is_empty")]
    pub configs: ConfigReleases,
    /// What became of the run-once hooks of its releases, oldest first, the newest [`super::release::MIGRATIONS_MAX`].
    #[serde(default, skip_serializing_if = "Migrations::is_empty")]
    pub migrations: Migrations,
}

impl Service {
    /// What is known of the run-once hook of a version.
    #[must_use]
    pub fn migration(&self, version: &Version) -> Option<&Migration> {
        self.migrations.iter().find(|known| known.version == *version)
    }
}

/// A declared group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// As declared.
    pub spec: GroupSpec,
    /// When it was first declared.
    pub created_at: Timestamp,
    /// Last change.
    pub revision: Revision,
    /// The alarm that is raised; none while its quorum and its spare hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alarm: Option<RaisedAlarm>,
    /// What its voters are to become: the application may have them so already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<PendingVoters>,
    /// The last lease of its primary role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary: Option<PrimaryLease>,
    /// Its last failovers, the newest at the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failovers: Vec<FailoverRecord>,
}

impl Group {
    /// The level of its alarm.
    #[must_use]
    pub fn alarm_level(&self) -> AlarmLevel {
        self.alarm.as_ref().map_or(AlarmLevel::None, |raised| raised.level)
    }
}

/// An alarm that is raised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaisedAlarm {
    /// How urgent it is.
    pub level: AlarmLevel,
    /// Since when at this level.
    pub since: Timestamp,
}

/// Voters that a group is to have, as soon as they are seen to be its voters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingVoters {
    /// Whose work that is.
    pub operation: OperationId,
    /// Who they are.
    pub voters: Vec<NodeName>,
}
