//! The catalogue of artifacts: what they are and which members hold their bytes.

use alloc::collections::BTreeSet;

use quorate_model::{ArtifactSpec, Digest, MemberId, OperationId, Principal, Revision, Timestamp};
use serde::{Deserialize, Serialize};

use crate::state::{Operation, State};

/// Artifacts listed. None goes by itself: a host may ask for any of them.
pub const ARTIFACTS_MAX: usize = 1_000;

/// One artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// What it is.
    pub spec: ArtifactSpec,
    /// Who pushed it first.
    pub created_by: Principal,
    /// When.
    pub created_at: Timestamp,
    /// Log index of the last change.
    pub revision: Revision,
    /// Members that have all its bytes, read again and found right when they came.
    pub holders: BTreeSet<MemberId>,
}

/// The first operation that still needs an artifact: one that is not over and has a step about it.
#[must_use]
pub fn in_use(state: &State, digest: &Digest) -> Option<OperationId> {
    let needs = |operation: &&Operation| {
        let mut releases = operation.steps.iter().filter_map(|step| step.action.as_ref()?.release());
        !operation.state.is_terminal() && releases.any(|release| release.artifact == *digest)
    };
    state.operations.values().find(needs).map(|operation| operation.id.clone())
}
