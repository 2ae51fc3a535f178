//! The peer protocol as a gRPC service: takes messages apart, nothing else. Decode and encode limit 4 MiB.

use std::sync::Arc;

use bytes::Bytes;
use quorate_proto::peer::v1 as pb;
use quorate_proto::peer::v1::peer_service_server::{PeerService, PeerServiceServer};
use tonic::{Code, Extensions, Request, Response, Status};

use super::handler::PeerHandler;
use super::replicas::StateDigest;
use super::status::MemberRole;
use super::transport::{Header, PeerReply, PeerRequest, Refusal};

/// Largest peer message in bytes (reliability.md §5.3).
pub(crate) const MAX_MESSAGE: usize = 4 << 20;

type Certified = Arc<dyn Fn(&Extensions) -> Option<u64> + Send + Sync>;

/// The service; give [`PeerServer::into_service`] to the listener that only coordinators reach.
#[derive(Clone)]
pub struct PeerServer {
    handler: PeerHandler,
    certified: Certified,
}

impl std::fmt::Debug for PeerServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerServer").field("handler", &self.handler).finish_non_exhaustive()
    }
}

impl PeerServer {
    /// `certified` reads the member id of the sender's certificate from the request's extensions, where the TLS
    /// listener put it; `None` for any other role, which is refused.
    pub fn new(
        handler: PeerHandler,
        certified: impl Fn(&Extensions) -> Option<u64> + Send + Sync + 'static,
    ) -> Self {
        Self { handler, certified: Arc::new(certified) }
    }

    /// The tonic service with its limits.
    #[must_use]
    pub fn into_service(self) -> PeerServiceServer<Self> {
        PeerServiceServer::new(self)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }

    async fn handle(
        &self,
        extensions: &Extensions,
        header: Option<pb::PeerHeader>,
        request: PeerRequest,
    ) -> Result<PeerReply, Status> {
        let certified = (self.certified)(extensions)
            .ok_or_else(|| Status::permission_denied("only coordinators may call this method"))?;
        let header = read_header(header)?;
        self.handler.handle(certified, header, request).await.map_err(|refusal| match refusal {
            Refusal::Denied(text) => Status::permission_denied(text),
            Refusal::Invalid(text) => Status::invalid_argument(text),
            // Not UNAVAILABLE: a broken connection looks like that, and then the request may have been taken.
            Refusal::Unavailable(text) => Status::failed_precondition(text),
        })
    }
}

pub(crate) fn read_header(header: Option<pb::PeerHeader>) -> Result<Header, Status> {
    let missing = || Status::invalid_argument("bad_field: header");
    let pb::PeerHeader { cluster_id, sender_id, target_id } = header.ok_or_else(missing)?;
    let cluster_id =
        cluster_id.try_into().map_err(|_| Status::invalid_argument("bad_field: header.cluster_id"))?;
    Ok(Header { cluster_id, sender_id, target_id })
}

fn unexpected() -> Status {
    Status::new(Code::Internal, "a reply of another kind")
}

fn raft(reply: PeerReply) -> Result<Vec<u8>, Status> {
    match reply {
        PeerReply::Raft(payload) => Ok(payload.into()),
        _ => Err(unexpected()),
    }
}

fn not_leader(leader: Option<(u64, String)>) -> pb::NotLeader {
    let (leader_id, leader_address) = leader.unwrap_or_default();
    pb::NotLeader { leader_id, leader_address }
}

pub(crate) fn state(role: MemberRole) -> pb::PeerState {
    match role {
        MemberRole::Learner => pb::PeerState::Learner,
        MemberRole::Follower => pb::PeerState::Follower,
        MemberRole::Candidate => pb::PeerState::Candidate,
        MemberRole::Leader => pb::PeerState::Leader,
        MemberRole::Failed => pb::PeerState::Failed,
    }
}

fn write_digest(digest: StateDigest) -> pb::StateDigest {
    pb::StateDigest { index: digest.index, sha256: digest.sha256.to_vec() }
}

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl PeerService for PeerServer {
    async fn append_entries(
        &self,
        request: Request<pb::AppendEntriesRequest>,
    ) -> Reply<pb::AppendEntriesResponse> {
        let (_, extensions, pb::AppendEntriesRequest { header, payload }) = request.into_parts();
        let request = PeerRequest::Append { payload: Bytes::from(payload), entries: false };
        let payload = raft(self.handle(&extensions, header, request).await?)?;
        Ok(Response::new(pb::AppendEntriesResponse { payload }))
    }

    async fn request_vote(&self, request: Request<pb::RequestVoteRequest>) -> Reply<pb::RequestVoteResponse> {
        let (_, extensions, pb::RequestVoteRequest { header, payload }) = request.into_parts();
        let payload = raft(self.handle(&extensions, header, PeerRequest::Vote(payload.into())).await?)?;
        Ok(Response::new(pb::RequestVoteResponse { payload }))
    }

    async fn install_snapshot(
        &self,
        request: Request<pb::InstallSnapshotRequest>,
    ) -> Reply<pb::InstallSnapshotResponse> {
        let (_, extensions, message) = request.into_parts();
        let pb::InstallSnapshotRequest { header, payload, data, data_crc32c } = message;
        let request = PeerRequest::Snapshot { payload: payload.into(), data: data.into(), crc: data_crc32c };
        let payload = raft(self.handle(&extensions, header, request).await?)?;
        Ok(Response::new(pb::InstallSnapshotResponse { payload }))
    }

    async fn propose(&self, request: Request<pb::ProposeRequest>) -> Reply<pb::ProposeResponse> {
        use pb::propose_response::Outcome;
        let (_, extensions, pb::ProposeRequest { header, entry }) = request.into_parts();
        let outcome = match self.handle(&extensions, header, PeerRequest::Propose(entry.into())).await? {
            PeerReply::Applied { index, answer } => {
                Outcome::Applied(pb::ProposeApplied { log_index: index, answer: answer.into() })
            }
            PeerReply::NotLeader(leader) => Outcome::NotLeader(not_leader(leader)),
            PeerReply::Unknown(reason) => Outcome::Unknown(pb::ProposeUnknown { reason }),
            PeerReply::Overloaded(reason) => Outcome::Overloaded(pb::ProposeOverloaded { reason }),
            PeerReply::Raft(_)
            | PeerReply::ReadIndex(_)
            | PeerReply::Observations(_)
            | PeerReply::Leases(_)
            | PeerReply::Status(_)
            | PeerReply::Digests { .. }
            | PeerReply::Standing => {
                return Err(unexpected());
            }
        };
        Ok(Response::new(pb::ProposeResponse { outcome: Some(outcome) }))
    }

    async fn read_index(&self, request: Request<pb::ReadIndexRequest>) -> Reply<pb::ReadIndexResponse> {
        use pb::read_index_response::Outcome;
        let (_, extensions, pb::ReadIndexRequest { header }) = request.into_parts();
        let outcome = match self.handle(&extensions, header, PeerRequest::ReadIndex).await? {
            PeerReply::ReadIndex(index) => Outcome::LogIndex(index),
            PeerReply::NotLeader(leader) => Outcome::NotLeader(not_leader(leader)),
            _ => return Err(unexpected()),
        };
        Ok(Response::new(pb::ReadIndexResponse { outcome: Some(outcome) }))
    }

    async fn report_observations(
        &self,
        request: Request<pb::ReportObservationsRequest>,
    ) -> Reply<pb::ReportObservationsResponse> {
        let (_, extensions, pb::ReportObservationsRequest { header, payload }) = request.into_parts();
        match self.handle(&extensions, header, PeerRequest::Observations(payload.into())).await? {
            PeerReply::Observations(payload) => {
                Ok(Response::new(pb::ReportObservationsResponse { payload: payload.into() }))
            }
            _ => Err(unexpected()),
        }
    }

    async fn renew_leases(&self, request: Request<pb::RenewLeasesRequest>) -> Reply<pb::RenewLeasesResponse> {
        let (_, extensions, pb::RenewLeasesRequest { header, payload }) = request.into_parts();
        match self.handle(&extensions, header, PeerRequest::Leases(payload.into())).await? {
            PeerReply::Leases(payload) => {
                Ok(Response::new(pb::RenewLeasesResponse { payload: payload.into() }))
            }
            _ => Err(unexpected()),
        }
    }

    async fn get_state_digest(
        &self,
        request: Request<pb::GetStateDigestRequest>,
    ) -> Reply<pb::GetStateDigestResponse> {
        let (_, extensions, pb::GetStateDigestRequest { header }) = request.into_parts();
        match self.handle(&extensions, header, PeerRequest::Digest).await? {
            PeerReply::Digests { digests, version } => {
                let digests = digests.into_iter().map(write_digest).collect();
                Ok(Response::new(pb::GetStateDigestResponse { digests, version }))
            }
            _ => Err(unexpected()),
        }
    }

    async fn stand_for_election(
        &self,
        request: Request<pb::StandForElectionRequest>,
    ) -> Reply<pb::StandForElectionResponse> {
        let (_, extensions, pb::StandForElectionRequest { header, term }) = request.into_parts();
        match self.handle(&extensions, header, PeerRequest::Stand { term }).await? {
            PeerReply::Standing => Ok(Response::new(pb::StandForElectionResponse {})),
            _ => Err(unexpected()),
        }
    }

    async fn get_peer_status(
        &self,
        request: Request<pb::GetPeerStatusRequest>,
    ) -> Reply<pb::GetPeerStatusResponse> {
        let (_, extensions, pb::GetPeerStatusRequest { header }) = request.into_parts();
        match self.handle(&extensions, header, PeerRequest::Status).await? {
            PeerReply::Status(status) => Ok(Response::new(pb::GetPeerStatusResponse {
                member_id: status.member_id,
                state: state(status.role).into(),
                term: status.term,
                leader_id: status.leader.unwrap_or(0),
                last_log_index: status.last_log,
                applied_index: status.applied,
                snapshot_index: status.snapshot,
                version: status.version,
                digests: status.digests.into_iter().map(write_digest).collect(),
            })),
            _ => Err(unexpected()),
        }
    }
}
