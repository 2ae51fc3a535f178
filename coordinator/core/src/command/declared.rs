//! Changes of declarations, and transitions of what is seen of instances.

use alloc::vec::Vec;

use quorate_model::service::DesiredState;
use quorate_model::{
    GroupName, GroupSpec, InstanceId, InstanceRole, InstanceState, Revision, ServiceName, ServiceSpec, Sync,
    Timestamp,
};
use serde::{Deserialize, Serialize};

/// Changes of declarations.
#[expect(clippy::large_enum_variant, reason = "`Command` holds it in a box already")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeclaredCommand {
    /// Declares a service.
    ApplyService {
        /// As declared.
        spec: ServiceSpec,
        /// Refused with `STALE_PLAN` unless its revision is this; 0 for "must not exist".
        expect: Option<Revision>,
    },
    /// Forgets a service; refused while a group or an operation uses it.
    DeleteService {
        /// Which.
        name: ServiceName,
    },
    /// Declares a group.
    ApplyGroup {
        /// As declared.
        spec: GroupSpec,
        /// Refused with `STALE_PLAN` unless its revision is this; 0 for "must not exist".
        expect: Option<Revision>,
    },
    /// Forgets a group; refused while grants are held on it.
    DeleteGroup {
        /// Which.
        name: GroupName,
    },
}

/// One transition of what is seen of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceChange {
    /// Which.
    pub instance: InstanceId,
    /// Folded state.
    pub observed: InstanceState,
    /// Role as the application sees it.
    pub role: InstanceRole,
    /// Caught up or not.
    pub sync: Sync,
    /// When it was seen.
    pub at: Timestamp,
}

/// Changes of instances.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceCommand {
    /// Transitions, by the ticker; bounded by [`InstanceCommand::BATCH_MAX`].
    Transition {
        /// What changed.
        changes: Vec<InstanceChange>,
    },
    /// What its owner wants of it, without doing anything now.
    SetDesired {
        /// Which.
        instance: InstanceId,
        /// Run or not.
        desired: DesiredState,
    },
}

impl InstanceCommand {
    /// Most transitions in one command, so that an entry stays small.
    pub const BATCH_MAX: usize = 256;
}
