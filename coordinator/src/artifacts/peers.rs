//! Bytes between members: asking a fellow member for what lies on its disk, and answering one that asks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use quorate_common::wire::artifact::{read_digest, read_limit};
use quorate_common::wire::limits::ARTIFACT_CHUNK_MAX_BYTES;
use quorate_common::wire::{Invalid, Problem};
use quorate_model::{Digest, MemberId};
use quorate_proto::peer::v1 as pb;
use quorate_proto::peer::v1::artifact_peer_service_client::ArtifactPeerServiceClient;
use quorate_proto::peer::v1::artifact_peer_service_server::{ArtifactPeerService, ArtifactPeerServiceServer};
use tonic::transport::Channel;
use tonic::{Extensions, Request, Response, Status};

use super::store::Chunk;
use super::{ArtifactError, Artifacts};
use crate::api::status::{code, problem};
use crate::raft::{Dial, PeerHandler, Purpose, read_header};
use crate::store::Identity;

/// Longest wait for one part: 256 KiB at 25 KiB/s.
const ANSWER: Duration = Duration::from_secs(10);
/// Largest message: a part and its frame.
const MESSAGE_MAX_BYTES: usize = 512 * 1024;
/// Connections kept; there are at most nine members. Beyond it the cache starts afresh.
const CHANNELS_MAX: usize = 32;

/// A member that has an artifact, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its number.
    pub member: MemberId,
    /// Its gRPC address.
    pub address: String,
}

/// How fellow members are asked.
pub trait Peers: Send + Sync + 'static {
    /// Some bytes that lie on its disk; one line when there are none.
    fn read<'a>(
        &'a self,
        holder: &'a Holder,
        digest: &'a Digest,
        offset: u64,
        limit: u32,
    ) -> BoxFuture<'a, Result<Chunk, String>>;

    /// Tells it that a copy of what it gave came out wrong.
    fn suspect<'a>(&'a self, holder: &'a Holder, digest: &'a Digest) -> BoxFuture<'a, Result<(), String>>;
}

/// Over gRPC, with this member's certificate.
pub struct GrpcPeers {
    identity: Identity,
    dial: Arc<dyn Dial>,
    channels: Mutex<BTreeMap<(MemberId, String), Channel>>,
}

impl GrpcPeers {
    /// Without connections yet.
    #[must_use]
    pub fn new(identity: Identity, dial: Arc<dyn Dial>) -> Self {
        Self { identity, dial, channels: Mutex::default() }
    }

    fn client(&self, holder: &Holder) -> Result<ArtifactPeerServiceClient<Channel>, String> {
        let key = (holder.member, holder.address.clone());
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let channel = match channels.get(&key) {
            Some(channel) => channel.clone(),
            None => {
                let channel = self.dial.channel(holder.member.0, &holder.address, Purpose::Artifact)?;
                if channels.len() >= CHANNELS_MAX {
                    channels.clear();
                }
                channels.insert(key, channel.clone());
                channel
            }
        };
        Ok(ArtifactPeerServiceClient::new(channel)
            .max_decoding_message_size(MESSAGE_MAX_BYTES)
            .max_encoding_message_size(MESSAGE_MAX_BYTES))
    }

    fn header(&self, holder: &Holder) -> Option<pb::PeerHeader> {
        let Identity { cluster_id, member_id } = self.identity;
        Some(pb::PeerHeader {
            cluster_id: cluster_id.to_vec(),
            sender_id: member_id,
            target_id: holder.member.0,
        })
    }
}

fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(ANSWER);
    request
}

async fn answered<T>(asked: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, String> {
    match tokio::time::timeout(ANSWER, asked).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(format!("{}: {}", status.code(), Problem::from_status(&status).what)),
        Err(_) => Err(format!("no answer within {ANSWER:?}")),
    }
}

impl Peers for GrpcPeers {
    fn read<'a>(
        &'a self,
        holder: &'a Holder,
        digest: &'a Digest,
        offset: u64,
        limit: u32,
    ) -> BoxFuture<'a, Result<Chunk, String>> {
        Box::pin(async move {
            let (header, digest) = (self.header(holder), digest.as_str().to_owned());
            let message = pb::ReadArtifactRequest { header, digest, offset, limit };
            let mut client = self.client(holder)?;
            let pb::ReadArtifactResponse { data, size } =
                answered(client.read_artifact(request(message))).await?;
            if data.len() > limit as usize {
                return Err(format!("{} bytes came, {limit} were asked for", data.len()));
            }
            Ok(Chunk { data, size })
        })
    }

    fn suspect<'a>(&'a self, holder: &'a Holder, digest: &'a Digest) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let (header, digest) = (self.header(holder), digest.as_str().to_owned());
            let message = pb::SuspectArtifactRequest { header, digest };
            let mut client = self.client(holder)?;
            let pb::SuspectArtifactResponse {} = answered(client.suspect_artifact(request(message))).await?;
            Ok(())
        })
    }
}

type Certified = Arc<dyn Fn(&Extensions) -> Option<u64> + Send + Sync>;

/// The answering side. It serves only what lies on this member's disk.
#[derive(Clone)]
pub struct PeerArtifacts {
    artifacts: Artifacts,
    handler: PeerHandler,
    certified: Certified,
}

impl PeerArtifacts {
    /// `certified` reads the member id of the sender's certificate, as for the other peer calls.
    pub fn new(
        artifacts: Artifacts,
        handler: PeerHandler,
        certified: impl Fn(&Extensions) -> Option<u64> + Send + Sync + 'static,
    ) -> Self {
        Self { artifacts, handler, certified: Arc::new(certified) }
    }

    /// The tonic service with its limits.
    #[must_use]
    pub fn into_service(self) -> ArtifactPeerServiceServer<Self> {
        ArtifactPeerServiceServer::new(self)
            .max_decoding_message_size(MESSAGE_MAX_BYTES)
            .max_encoding_message_size(MESSAGE_MAX_BYTES)
    }

    fn check(&self, extensions: &Extensions, header: Option<pb::PeerHeader>) -> Result<u64, Status> {
        let denied = || Status::permission_denied("only coordinators may call this method");
        let certified = (self.certified)(extensions).ok_or_else(denied)?;
        let header = read_header(header)?;
        self.handler.check(certified, header).map_err(|e| Status::permission_denied(e.to_string()))?;
        Ok(certified)
    }
}

fn invalid(invalid: &Invalid) -> Status {
    problem(invalid.reason, invalid.to_string()).to_status()
}

fn refused(error: &ArtifactError, digest: &Digest) -> Status {
    let refusal = error.refusal(digest);
    Problem::refused(code(refusal.reason()), &refusal).to_status()
}

#[tonic::async_trait]
impl ArtifactPeerService for PeerArtifacts {
    async fn read_artifact(
        &self,
        request: Request<pb::ReadArtifactRequest>,
    ) -> Result<Response<pb::ReadArtifactResponse>, Status> {
        let (_, extensions, message) = request.into_parts();
        let pb::ReadArtifactRequest { header, digest, offset, limit } = message;
        self.check(&extensions, header)?;
        let digest = read_digest("digest", digest).map_err(|e| invalid(&e))?;
        let limit = read_limit("limit", limit, ARTIFACT_CHUNK_MAX_BYTES).map_err(|e| invalid(&e))?;
        let read = self.artifacts.read(&digest, offset, limit).await;
        let Chunk { data, size } = read.map_err(|error| refused(&error, &digest))?;
        Ok(Response::new(pb::ReadArtifactResponse { data, size }))
    }

    async fn suspect_artifact(
        &self,
        request: Request<pb::SuspectArtifactRequest>,
    ) -> Result<Response<pb::SuspectArtifactResponse>, Status> {
        let (_, extensions, message) = request.into_parts();
        let pb::SuspectArtifactRequest { header, digest } = message;
        let sender = self.check(&extensions, header)?;
        let digest = read_digest("digest", digest).map_err(|e| invalid(&e))?;
        tracing::warn!(%digest, sender, "a copy of this artifact came out wrong; it is read again here");
        self.artifacts.suspect(&digest);
        Ok(Response::new(pb::SuspectArtifactResponse {}))
    }
}
