//! The catalogue of artifacts.

use quorate_common::wire::time::write_timestamp;
use quorate_core::State;
use quorate_core::state::Artifact;
use quorate_model::ArtifactSpec;
use quorate_proto::v1;

/// One artifact, with the names of the members that hold it.
pub(crate) fn artifact(state: &State, artifact: &Artifact) -> v1::Artifact {
    let Artifact { spec, created_by, created_at, revision: _, holders } = artifact;
    let ArtifactSpec { digest, size, file_name, signature } = spec;
    let holding = holders.iter().filter_map(|id| state.members.by_id.get(id));
    v1::Artifact {
        digest: digest.as_str().to_owned(),
        size: *size,
        file_name: file_name.clone(),
        signature: signature.clone().unwrap_or_default(),
        created_by: created_by.to_string(),
        created: write_timestamp(*created_at),
        holders: holding.map(|member| member.name.as_str().to_owned()).collect(),
    }
}
