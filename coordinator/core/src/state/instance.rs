//! What was last decided about each instance. Readings themselves stay in the leader's memory.

use alloc::collections::BTreeMap;

use quorate_model::service::DesiredState;
use quorate_model::{InstanceId, InstanceRole, InstanceState, NodeName, ServiceName, Sync, Timestamp};
use serde::{Deserialize, Serialize};

use super::release::{InstanceConfigs, InstanceRelease};

/// Instances by node, then service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Instances(pub BTreeMap<NodeName, BTreeMap<ServiceName, Instance>>);

impl Instances {
    /// What is known of one.
    #[must_use]
    pub fn get(&self, id: &InstanceId) -> Option<&Instance> {
        self.0.get(&id.node)?.get(&id.service)
    }

    /// The entry of one, made when missing.
    pub fn entry(&mut self, id: &InstanceId) -> &mut Instance {
        self.0.entry(id.node.clone()).or_default().entry(id.service.clone()).or_default()
    }
}

/// One service on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// What its owner wants.
    pub desired: DesiredState,
    /// Last health transition.
    pub observed: InstanceState,
    /// Role at that transition.
    pub role: InstanceRole,
    /// Sync at that transition.
    pub sync: Sync,
    /// When that transition was seen.
    pub since: Timestamp,
    /// End of the last action that disturbed it: a reading that is not newer says nothing about it.
    pub disturbed_at: Timestamp,
    /// The release it was last given, as its agent told; none when that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<InstanceRelease>,
    /// The configuration files it was last given, as its agent told; one that is not known is missing.
    #[serde(default, skip_serializing_if = "InstanceConfigs::is_empty")]
    pub configs: InstanceConfigs,
}

impl Default for Instance {
    fn default() -> Self {
        Self {
            desired: DesiredState::Running,
            observed: InstanceState::Unknown,
            role: InstanceRole::Unknown,
            sync: Sync::Unknown,
            since: Timestamp::ZERO,
            disturbed_at: Timestamp::ZERO,
            release: None,
            configs: InstanceConfigs::new(),
        }
    }
}
