//! The catalogue of artifacts: what they are and which members hold their bytes.

use alloc::collections::BTreeSet;

use quorate_model::{ArtifactSpec, Digest, MemberId, OperationId, Principal, Revision, Timestamp};
use serde::{Deserialize, Serialize};

use crate::state::State;

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

/// The operation that still needs an artifact. None always, because no plan can name one yet: whoever lets plans name
/// artifacts makes this look through the operations that are not terminal.
#[must_use]
pub const fn in_use(_state: &State, _digest: &Digest) -> Option<OperationId> {
    None
}
