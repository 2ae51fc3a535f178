//! Changes of the catalogue of artifacts.

use quorate_model::{ArtifactSpec, Digest, MemberId};
use serde::{Deserialize, Serialize};

/// Changes of the catalogue. The bytes themselves never come this way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArtifactCommand {
    /// Lists one. The same again changes nothing, but for a signature where there was none.
    Register {
        /// What it is.
        spec: ArtifactSpec,
    },
    /// A member has all of its bytes.
    Hold {
        /// Which.
        digest: Digest,
        /// Who.
        member: MemberId,
    },
    /// A member has lost its bytes, or found them damaged.
    Release {
        /// Which.
        digest: Digest,
        /// Who.
        member: MemberId,
    },
    /// Takes one off the list; the members remove its bytes.
    Delete {
        /// Which.
        digest: Digest,
    },
}
