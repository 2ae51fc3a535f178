//! openraft's network on our transport. openraft makes a new client per peer per read; ours holds no connection, the
//! transport caches them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::error::{
    InstallSnapshotError, NetworkError, RPCError, RaftError, RemoteError, Timeout, Unreachable,
};
use openraft::network::{RPCOption, RPCTypes, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use openraft::{AnyError, BasicNode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::codec;
use super::transport::{Header, PeerError, PeerReply, PeerRequest, Transport};
use super::types::{SnapshotMeta, Types, Vote};

type Outcome<T, E> = Result<T, RPCError<u64, BasicNode, E>>;

/// Makes clients.
#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) cluster_id: [u8; 16],
    pub(crate) member_id: u64,
}

/// A client of one peer.
pub(crate) struct Client {
    network: Network,
    target: u64,
    address: String,
}

/// A snapshot request without its data, which travels beside it.
#[derive(Serialize, serde::Deserialize)]
pub(crate) struct Chunk {
    pub(crate) vote: Vote,
    pub(crate) meta: SnapshotMeta,
    pub(crate) offset: u64,
    pub(crate) done: bool,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Client {
        Client { network: self.clone(), target, address: node.addr.clone() }
    }
}

fn network<E: std::error::Error>(text: impl std::fmt::Display) -> RPCError<u64, BasicNode, E> {
    RPCError::Network(NetworkError::from(AnyError::error(text.to_string())))
}

impl Client {
    async fn call<T, E>(&self, kind: RPCTypes, request: PeerRequest, deadline: Duration) -> Outcome<T, E>
    where
        T: DeserializeOwned,
        E: std::error::Error + DeserializeOwned,
    {
        let header = Header {
            cluster_id: self.network.cluster_id,
            sender_id: self.network.member_id,
            target_id: self.target,
        };
        let call = self.network.transport.call(header, &self.address, request, deadline);
        let reply = match tokio::time::timeout(deadline, call).await {
            Ok(reply) => reply,
            Err(_) => {
                return Err(RPCError::Timeout(Timeout {
                    action: kind,
                    id: self.network.member_id,
                    target: self.target,
                    timeout: deadline,
                }));
            }
        };
        match reply {
            Ok(PeerReply::Raft(bytes)) => {
                let outcome: Result<T, E> = codec::decode("peer reply", &bytes).map_err(network)?;
                outcome.map_err(|error| RPCError::RemoteError(RemoteError::new(self.target, error)))
            }
            Ok(_) => Err(network("a reply of another kind")),
            // A refusal lasts: only "unreachable" makes openraft wait before it asks again.
            Err(error @ (PeerError::Unreachable(_) | PeerError::Refused(_))) => {
                Err(RPCError::Unreachable(Unreachable::from(AnyError::error(error.to_string()))))
            }
            Err(error) => Err(network(error)),
        }
    }
}

impl RaftNetwork<Types> for Client {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Outcome<AppendEntriesResponse<u64>, RaftError<u64>> {
        let entries = !rpc.entries.is_empty();
        let payload = Bytes::from(codec::encode("append request", &rpc).map_err(network)?);
        self.call(RPCTypes::AppendEntries, PeerRequest::Append { payload, entries }, option.hard_ttl()).await
    }

    async fn install_snapshot(
        &mut self,
        rpc: InstallSnapshotRequest<Types>,
        option: RPCOption,
    ) -> Outcome<InstallSnapshotResponse<u64>, RaftError<u64, InstallSnapshotError>> {
        let chunk = Chunk { vote: rpc.vote, meta: rpc.meta, offset: rpc.offset, done: rpc.done };
        let payload = Bytes::from(codec::encode("snapshot request", &chunk).map_err(network)?);
        let data = Bytes::from(rpc.data);
        let crc = crc32c::crc32c(&data);
        self.call(RPCTypes::InstallSnapshot, PeerRequest::Snapshot { payload, data, crc }, option.hard_ttl())
            .await
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<u64>,
        option: RPCOption,
    ) -> Outcome<VoteResponse<u64>, RaftError<u64>> {
        let payload = Bytes::from(codec::encode("vote request", &rpc).map_err(network)?);
        self.call(RPCTypes::Vote, PeerRequest::Vote(payload), option.hard_ttl()).await
    }
}
