//! The peer protocol over gRPC: one cached connection per peer and purpose, a deadline on every call.
//!
//! Separate connections, because a snapshot or a burst of entries on one connection delays what is behind it; a delayed
//! heartbeat is an election.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quorate_proto::peer::v1 as pb;
use quorate_proto::peer::v1::peer_service_client::PeerServiceClient;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::replicas::{DIGESTS_KEPT, StateDigest};
use super::service::MAX_MESSAGE;
use super::status::MemberRole;
use super::transport::{Call, Header, PeerError, PeerReply, PeerRequest, PeerStatus, Refusal, Transport};

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// Heartbeats and votes.
    Heartbeat,
    /// Log entries.
    Append,
    /// Snapshot chunks.
    Snapshot,
    /// Bytes of artifacts.
    Artifact,
    /// Everything else: forwarded writes, reads, observations, status.
    Control,
}

/// Makes connections; the TLS configuration lives there. A channel connects when it is first used and again after it
/// broke, and presents the member's current certificate each time.
pub trait Dial: Send + Sync + 'static {
    /// A channel to the member `target` at `address`; the certificate found there must be that member's.
    ///
    /// # Errors
    /// One sentence, for instance when the address is malformed.
    fn channel(&self, target: u64, address: &str, purpose: Purpose) -> Result<Channel, String>;
}

/// Channels kept; a cluster has at most a handful of members, each with four. Beyond it the cache starts afresh.
const MAX_CHANNELS: usize = 256;

type Channels = BTreeMap<(u64, String, Purpose), Channel>;

/// [`Transport`] over gRPC.
pub struct GrpcTransport {
    dial: Arc<dyn Dial>,
    channels: Mutex<Channels>,
}

impl std::fmt::Debug for GrpcTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GrpcTransport").finish_non_exhaustive()
    }
}

impl GrpcTransport {
    /// A transport without connections yet.
    #[must_use]
    pub fn new(dial: Arc<dyn Dial>) -> Self {
        Self { dial, channels: Mutex::default() }
    }

    /// Drops all connections: after the trust bundle or the member's certificate changed.
    pub fn reconnect(&self) {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn client(
        &self,
        target: u64,
        address: &str,
        purpose: Purpose,
    ) -> Result<PeerServiceClient<Channel>, PeerError> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (target, address.to_owned(), purpose);
        let channel = match channels.get(&key) {
            Some(channel) => channel.clone(),
            None => {
                let channel = self.dial.channel(target, address, purpose).map_err(PeerError::Unreachable)?;
                if channels.len() >= MAX_CHANNELS {
                    channels.clear();
                }
                channels.insert(key, channel.clone());
                channel
            }
        };
        Ok(PeerServiceClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE))
    }
}

fn purpose(request: &PeerRequest) -> Purpose {
    match request {
        PeerRequest::Append { entries: true, .. } => Purpose::Append,
        PeerRequest::Append { entries: false, .. } | PeerRequest::Vote(_) | PeerRequest::Stand { .. } => {
            Purpose::Heartbeat
        }
        PeerRequest::Snapshot { .. } => Purpose::Snapshot,
        PeerRequest::Propose(_)
        | PeerRequest::ReadIndex
        | PeerRequest::Observations(_)
        | PeerRequest::Leases(_)
        | PeerRequest::Digest
        | PeerRequest::Status => Purpose::Control,
    }
}

fn request<T>(message: T, deadline: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(deadline);
    request
}

/// Whether the connection could not be made: then nothing was sent.
fn not_connected(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        // hyper-util calls a failed connector so; there is no type to match on.
        if error.to_string().contains("tcp connect error") || error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

fn failed(status: Status) -> PeerError {
    let text = status.message().to_owned();
    match status.code() {
        Code::PermissionDenied | Code::Unauthenticated => PeerError::Refused(Refusal::Denied(text)),
        Code::InvalidArgument | Code::OutOfRange | Code::Unimplemented => {
            PeerError::Refused(Refusal::Invalid(text))
        }
        Code::FailedPrecondition => PeerError::Refused(Refusal::Unavailable(text)),
        Code::Unavailable if not_connected(&status) => PeerError::Unreachable(text),
        // Everything else may have reached the peer.
        _ => PeerError::NoReply(format!("{}: {text}", status.code())),
    }
}

fn leader(found: pb::NotLeader) -> Option<(u64, String)> {
    let pb::NotLeader { leader_id, leader_address } = found;
    (leader_id != 0).then_some((leader_id, leader_address))
}

fn empty() -> PeerError {
    PeerError::NoReply("the reply is empty".to_owned())
}

fn propose_reply(response: pb::ProposeResponse) -> Result<PeerReply, PeerError> {
    use pb::propose_response::Outcome;
    Ok(match response.outcome.ok_or_else(empty)? {
        Outcome::Applied(pb::ProposeApplied { log_index, answer }) => {
            PeerReply::Applied { index: log_index, answer: answer.into() }
        }
        Outcome::NotLeader(found) => PeerReply::NotLeader(leader(found)),
        Outcome::Unknown(pb::ProposeUnknown { reason }) => PeerReply::Unknown(reason),
        Outcome::Overloaded(pb::ProposeOverloaded { reason }) => PeerReply::Overloaded(reason),
    })
}

/// What another release keeps more, or hashes otherwise, is left out: it is not compared anyway.
fn digests_of(digests: Vec<pb::StateDigest>, most: usize) -> Vec<StateDigest> {
    let one = |digest: pb::StateDigest| {
        let pb::StateDigest { index, sha256 } = digest;
        let sha256 = <[u8; 32]>::try_from(&sha256[..]).ok()?;
        Some(StateDigest { index, sha256 })
    };
    digests.into_iter().take(most).filter_map(one).collect()
}

fn status_reply(response: pb::GetPeerStatusResponse) -> Result<PeerReply, PeerError> {
    let role = match response.state() {
        pb::PeerState::Unspecified => {
            return Err(PeerError::NoReply("the peer did not say its state".to_owned()));
        }
        pb::PeerState::Learner => MemberRole::Learner,
        pb::PeerState::Follower => MemberRole::Follower,
        pb::PeerState::Candidate => MemberRole::Candidate,
        pb::PeerState::Leader => MemberRole::Leader,
        pb::PeerState::Failed => MemberRole::Failed,
    };
    let pb::GetPeerStatusResponse {
        member_id,
        state: _,
        term,
        leader_id,
        last_log_index,
        applied_index,
        snapshot_index,
        version,
        digests,
    } = response;
    Ok(PeerReply::Status(PeerStatus {
        member_id,
        role,
        term,
        leader: (leader_id != 0).then_some(leader_id),
        last_log: last_log_index,
        applied: applied_index,
        snapshot: snapshot_index,
        version,
        digests: digests_of(digests, DIGESTS_KEPT),
    }))
}

impl GrpcTransport {
    async fn send(
        &self,
        header: Header,
        address: &str,
        message: PeerRequest,
        deadline: Duration,
    ) -> Result<PeerReply, PeerError> {
        let mut client = self.client(header.target_id, address, purpose(&message))?;
        let Header { cluster_id, sender_id, target_id } = header;
        let header = Some(pb::PeerHeader { cluster_id: cluster_id.to_vec(), sender_id, target_id });
        match message {
            PeerRequest::Append { payload, .. } => {
                let message = pb::AppendEntriesRequest { header, payload: payload.into() };
                let reply = client.append_entries(request(message, deadline)).await.map_err(failed)?;
                Ok(PeerReply::Raft(reply.into_inner().payload.into()))
            }
            PeerRequest::Vote(payload) => {
                let message = pb::RequestVoteRequest { header, payload: payload.into() };
                let reply = client.request_vote(request(message, deadline)).await.map_err(failed)?;
                Ok(PeerReply::Raft(reply.into_inner().payload.into()))
            }
            PeerRequest::Snapshot { payload, data, crc } => {
                let (payload, data) = (payload.into(), data.into());
                let message = pb::InstallSnapshotRequest { header, payload, data, data_crc32c: crc };
                let reply = client.install_snapshot(request(message, deadline)).await.map_err(failed)?;
                Ok(PeerReply::Raft(reply.into_inner().payload.into()))
            }
            PeerRequest::Propose(entry) => {
                let message = pb::ProposeRequest { header, entry: entry.into() };
                propose_reply(client.propose(request(message, deadline)).await.map_err(failed)?.into_inner())
            }
            PeerRequest::ReadIndex => {
                use pb::read_index_response::Outcome;
                let message = pb::ReadIndexRequest { header };
                let reply = client.read_index(request(message, deadline)).await.map_err(failed)?.into_inner();
                match reply.outcome.ok_or_else(empty)? {
                    Outcome::LogIndex(index) => Ok(PeerReply::ReadIndex(index)),
                    Outcome::NotLeader(found) => Ok(PeerReply::NotLeader(leader(found))),
                }
            }
            PeerRequest::Observations(payload) => {
                let message = pb::ReportObservationsRequest { header, payload: payload.into() };
                let reply = client.report_observations(request(message, deadline)).await.map_err(failed)?;
                Ok(PeerReply::Observations(reply.into_inner().payload.into()))
            }
            PeerRequest::Leases(payload) => {
                let message = pb::RenewLeasesRequest { header, payload: payload.into() };
                let reply = client.renew_leases(request(message, deadline)).await.map_err(failed)?;
                Ok(PeerReply::Leases(reply.into_inner().payload.into()))
            }
            PeerRequest::Status => {
                let message = pb::GetPeerStatusRequest { header };
                let reply = client.get_peer_status(request(message, deadline)).await.map_err(failed)?;
                status_reply(reply.into_inner())
            }
            PeerRequest::Digest => {
                let message = pb::GetStateDigestRequest { header };
                let reply = client.get_state_digest(request(message, deadline)).await.map_err(failed)?;
                let pb::GetStateDigestResponse { digests, version } = reply.into_inner();
                Ok(PeerReply::Digests { digests: digests_of(digests, DIGESTS_KEPT + 1), version })
            }
            PeerRequest::Stand { term } => {
                let message = pb::StandForElectionRequest { header, term };
                let reply = client.stand_for_election(request(message, deadline)).await.map_err(failed)?;
                let pb::StandForElectionResponse {} = reply.into_inner();
                Ok(PeerReply::Standing)
            }
        }
    }
}

impl Transport for GrpcTransport {
    fn call<'a>(
        &'a self,
        header: Header,
        address: &'a str,
        request: PeerRequest,
        deadline: Duration,
    ) -> Call<'a> {
        Box::pin(async move {
            match tokio::time::timeout(deadline, self.send(header, address, request, deadline)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(PeerError::NoReply(format!("none within {deadline:?}"))),
            }
        })
    }
}
