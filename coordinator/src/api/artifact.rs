//! ArtifactService: the catalogue, and the bytes of uploads.
//!
//! An upload lives at the member that is called: its bytes are never passed on. Only what the catalogue is to say goes
//! through the leader, once all bytes are on this member's disk and were read again.

use std::time::Duration;

use quorate_common::wire::artifact::{read_digest, read_limit, read_spec};
use quorate_common::wire::limits::{ARTIFACT_CHUNK_MAX_BYTES, ARTIFACT_FETCH_MAX_BYTES};
use quorate_common::with_causes;
use quorate_core::command::ArtifactCommand;
use quorate_core::state::Artifact;
use quorate_core::{Command, Entry};
use quorate_model::{Digest, Principal};
use quorate_proto::agent::v1 as agent;
use quorate_proto::v1;
use quorate_proto::v1::artifact_service_server::ArtifactService;
use tonic::{Request, Response, Status};

use super::context::{Api, Served};
use super::page::{Page, newest_first};
use super::status::Failure;
use super::view::artifact::artifact as show;
use crate::artifacts::{ArtifactError, Artifacts, Begun, Chunk, holders};

/// Artifacts on one page when the request says none (proto).
const PAGE: u32 = 200;
/// How long the end of an upload waits for the note that this member holds it; the keeper makes it anyhow.
const NOTE: Duration = Duration::from_secs(5);

/// For `map_err`: what the caller is told, and what the log.
fn refuse(digest: &Digest) -> impl Fn(ArtifactError) -> Failure {
    move |error| {
        if let ArtifactError::Io { .. } = &error {
            tracing::error!(%digest, error = with_causes(&error).to_string(), "an artifact could not be kept or read");
            return Failure::Internal("this member's disk failed under an artifact");
        }
        Failure::Refused(error.refusal(digest))
    }
}

impl Api {
    fn kept(&self, digest: &Digest) -> Result<&Artifacts, Failure> {
        self.artifacts().ok_or_else(|| refuse(digest)(ArtifactError::Off))
    }

    fn revision(&self) -> u64 {
        self.look(|state| state.revision.0)
    }

    /// The artifact as the catalogue shows it, and the index of that.
    fn catalogued(&self, digest: &Digest) -> Result<(v1::Artifact, u64), Failure> {
        self.look(|state| {
            let index = state.revision.0;
            let found = state.artifacts.get(digest);
            let found = found.ok_or_else(|| Failure::not_found("artifact", digest.as_str(), index))?;
            Ok((show(state, found), index))
        })
    }

    /// Some bytes of a listed artifact, from here or from a member that has them.
    async fn bytes_of(&self, digest: &Digest, offset: u64, limit: u32) -> Result<(Chunk, u64), Failure> {
        let (_, index) = self.catalogued(digest)?;
        let own = self.health().id;
        let from = self.look(|state| holders(state, digest, own));
        let read = self.kept(digest)?.read_anywhere(&from, digest, offset, limit).await;
        Ok((read.map_err(refuse(digest))?, index))
    }

    /// Some bytes of a listed artifact, for an agent.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn fetch_for_agent(
        &self,
        request: agent::FetchArtifactRequest,
    ) -> Result<agent::FetchArtifactResponse, Failure> {
        let agent::FetchArtifactRequest { digest, offset, limit } = request;
        let digest = read_digest("digest", digest)?;
        let limit = read_limit("limit", limit, ARTIFACT_FETCH_MAX_BYTES)?;
        let (Chunk { data, size }, _) = self.bytes_of(&digest, offset, limit).await?;
        Ok(agent::FetchArtifactResponse { data, size })
    }

    /// Notes that this member holds it; gives the index, when that is known in time.
    async fn note_held(&self, digest: &Digest) -> Option<u64> {
        let member = self.health().id;
        let command = ArtifactCommand::Hold { digest: digest.clone(), member };
        let principal = Principal::Coordinator { member };
        let entry = Entry::new(self.backend().now(), principal, None, Command::Artifact(command));
        let (index, answer) = tokio::time::timeout(NOTE, self.backend().propose(entry)).await.ok()?.ok()?;
        self.applied(index).await.ok()?;
        answer.revision().map(|revision| revision.0)
    }
}

#[tonic::async_trait]
impl ArtifactService for Api {
    async fn list_artifacts(
        &self,
        request: Request<v1::ListArtifactsRequest>,
    ) -> Result<Response<v1::ListArtifactsResponse>, Status> {
        self.serve(request, |api, _, m| async move {
            let v1::ListArtifactsRequest { page_size, page_token, consistency } = m;
            let page = Page::read(page_size, &page_token, PAGE)?;
            api.fresh(consistency).await?;
            Ok(api.look(|state| {
                let key = |a: &&Artifact| newest_first(a.created_at.0, a.spec.digest.as_str());
                let mut found: Vec<_> = state.artifacts.values().collect();
                found.sort_by_key(key);
                let (found, next_page_token) = page.cut(found.into_iter(), key);
                let artifacts = found.into_iter().map(|artifact| show(state, artifact)).collect();
                let message = v1::ListArtifactsResponse { artifacts, next_page_token };
                Served { message, index: state.revision.0 }
            }))
        })
        .await
    }

    async fn get_artifact(
        &self,
        request: Request<v1::GetArtifactRequest>,
    ) -> Result<Response<v1::GetArtifactResponse>, Status> {
        self.serve(request, |api, _, m| async move {
            let v1::GetArtifactRequest { digest, consistency } = m;
            let digest = read_digest("digest", digest)?;
            api.fresh(consistency).await?;
            let (artifact, index) = api.catalogued(&digest)?;
            Ok(Served { message: v1::GetArtifactResponse { artifact: Some(artifact) }, index })
        })
        .await
    }

    async fn begin_upload(
        &self,
        request: Request<v1::BeginUploadRequest>,
    ) -> Result<Response<v1::BeginUploadResponse>, Status> {
        self.serve(request, |api, caller, m| async move {
            let v1::BeginUploadRequest { digest, size, file_name, signature, options } = m;
            let change = api.change(&caller, options)?;
            let spec = read_spec(digest, size, file_name, signature)?;
            // What its end would be refused for is said before gigabytes travel.
            let register = Command::Artifact(ArtifactCommand::Register { spec: spec.clone() });
            let (index, _) = api.try_out(&caller, &change, [register]).await?;
            let (digest, now) = (spec.digest.clone(), api.backend().now());
            let artifacts = api.kept(&digest)?;
            let begun = artifacts.begin(spec, change.validate_only, now).await.map_err(refuse(&digest))?;
            let Begun { received, complete } = begun;
            let chunk_bytes = artifacts.chunk_bytes();
            let message = v1::BeginUploadResponse { received_bytes: received, complete, chunk_bytes };
            Ok(Served { message, index })
        })
        .await
    }

    async fn write_artifact(
        &self,
        request: Request<v1::WriteArtifactRequest>,
    ) -> Result<Response<v1::WriteArtifactResponse>, Status> {
        self.serve(request, |api, caller, m| async move {
            let v1::WriteArtifactRequest { digest, offset, data, options } = m;
            let change = api.change(&caller, options)?;
            let digest = read_digest("digest", digest)?;
            let now = api.backend().now();
            let written = api.kept(&digest)?.write(&digest, offset, data, change.validate_only, now).await;
            let received_bytes = written.map_err(refuse(&digest))?;
            Ok(Served { message: v1::WriteArtifactResponse { received_bytes }, index: api.revision() })
        })
        .await
    }

    async fn finish_upload(
        &self,
        request: Request<v1::FinishUploadRequest>,
    ) -> Result<Response<v1::FinishUploadResponse>, Status> {
        self.serve(request, |api, caller, m| async move {
            let v1::FinishUploadRequest { digest, options } = m;
            let change = api.change(&caller, options)?;
            let digest = read_digest("digest", digest)?;
            let artifacts = api.kept(&digest)?;
            let Some(spec) = artifacts.upload(&digest) else {
                // Asked again after its answer was lost: it is listed and the bytes are here.
                let (artifact, index) =
                    api.catalogued(&digest).map_err(|_| refuse(&digest)(ArtifactError::NotOpen))?;
                if !artifacts.has(&digest) {
                    return Err(refuse(&digest)(ArtifactError::NotOpen));
                }
                return Ok(Served { message: v1::FinishUploadResponse { artifact: Some(artifact) }, index });
            };
            let now = api.backend().now();
            let register = |spec| Command::Artifact(ArtifactCommand::Register { spec });
            if change.validate_only {
                let size = spec.size;
                let begun = artifacts.begin(spec.clone(), true, now).await.map_err(refuse(&digest))?;
                if begun.received < size {
                    return Err(refuse(&digest)(ArtifactError::Incomplete {
                        received: begun.received,
                        size,
                    }));
                }
                let (index, _) = api.propose(&caller, &change, register(spec)).await?;
                return Ok(Served { message: v1::FinishUploadResponse::default(), index });
            }
            let spec = artifacts.finish(&digest, now).await.map_err(refuse(&digest))?;
            let (listed, _) = api.propose(&caller, &change, register(spec)).await?;
            artifacts.ended(&digest);
            let index = api.note_held(&digest).await.unwrap_or(listed);
            let artifact = api.catalogued(&digest).ok().map(|(artifact, _)| artifact);
            Ok(Served { message: v1::FinishUploadResponse { artifact }, index })
        })
        .await
    }

    async fn read_artifact(
        &self,
        request: Request<v1::ReadArtifactRequest>,
    ) -> Result<Response<v1::ReadArtifactResponse>, Status> {
        self.serve(request, |api, _, m| async move {
            let v1::ReadArtifactRequest { digest, offset, limit } = m;
            let digest = read_digest("digest", digest)?;
            let limit = read_limit("limit", limit, ARTIFACT_CHUNK_MAX_BYTES)?;
            let (Chunk { data, size }, index) = api.bytes_of(&digest, offset, limit).await?;
            Ok(Served { message: v1::ReadArtifactResponse { data, size }, index })
        })
        .await
    }

    async fn delete_artifact(
        &self,
        request: Request<v1::DeleteArtifactRequest>,
    ) -> Result<Response<v1::DeleteArtifactResponse>, Status> {
        self.serve(request, |api, caller, m| async move {
            let v1::DeleteArtifactRequest { digest, options } = m;
            let change = api.change(&caller, options)?;
            let digest = read_digest("digest", digest)?;
            // As it was; the members remove the bytes when they see that it is gone.
            let artifact = api.catalogued(&digest).ok().map(|(artifact, _)| artifact);
            let command = Command::Artifact(ArtifactCommand::Delete { digest });
            let (index, _) = api.propose(&caller, &change, command).await?;
            Ok(Served { message: v1::DeleteArtifactResponse { artifact }, index })
        })
        .await
    }
}
