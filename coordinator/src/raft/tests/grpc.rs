//! The same members over tonic on loopback. Plain TCP: certificates are the listener's business; each of the two
//! servers takes every caller for the other member.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Endpoint, Server};

use super::{Node, config, converged, format, set, start, until};
use crate::raft::{
    Dial, GrpcTransport, Header, PeerError, PeerRequest, PeerServer, Purpose, RaftConfig, Refusal, Transport,
};

struct Plain;

impl Dial for Plain {
    fn channel(&self, _target: u64, address: &str, _purpose: Purpose) -> Result<Channel, String> {
        let endpoint =
            Endpoint::from_shared(format!("http://{address}")).map_err(|error| error.to_string())?;
        Ok(endpoint.connect_timeout(Duration::from_secs(2)).connect_lazy())
    }
}

/// Connections that fail the way a refused certificate does: in a connector of ours, not in tonic's own.
struct RefusedTls;

impl Dial for RefusedTls {
    fn channel(&self, _target: u64, address: &str, _purpose: Purpose) -> Result<Channel, String> {
        let endpoint =
            Endpoint::from_shared(format!("http://{address}")).map_err(|error| error.to_string())?;
        let connector = tower::service_fn(|_: http::Uri| async {
            let outcome: Result<hyper_util::rt::TokioIo<tokio::net::TcpStream>, _> =
                Err(std::io::Error::other("certificate refused"));
            outcome
        });
        Ok(endpoint.connect_with_connector_lazy(connector))
    }
}

async fn serve(node: &Node, listener: TcpListener, other: Option<u64>) {
    let service = PeerServer::new(node.handler(), move |_| other).into_service();
    let serving =
        Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(async move { drop(serving.await) });
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_members_talk_over_grpc() {
    let dir = tempfile::tempdir().unwrap();
    let small = RaftConfig {
        snapshot_entries: 50,
        keep_entries: 5,
        lag_entries: 20,
        snapshot_chunk_bytes: 8 << 10,
        ..config()
    };
    let mut nodes = Vec::new();
    let mut addresses = Vec::new();
    for id in 1..=2 {
        format(dir.path(), id);
        let transport = Arc::new(GrpcTransport::new(Arc::new(Plain)));
        let node = start(dir.path(), id, small.clone(), transport).await.unwrap();
        let (listener, address) = listen().await;
        serve(&node, listener, Some(3 - id)).await;
        nodes.push(node);
        addresses.push(address.to_string());
    }
    nodes[0].bootstrap(&addresses[0]).await.unwrap();
    until(&nodes[0], "leading", |s| s.is_leader()).await;
    for n in 0..120 {
        nodes[0].propose(&set(n, "y".repeat(300))).await.unwrap();
    }
    until(&nodes[0], "a purged log", |s| s.purged > 20).await;
    nodes[0].add_learner(2, &addresses[1]).await.unwrap();
    nodes[0].promote(2).await.unwrap();
    converged(&[&nodes[0], &nodes[1]]).await;
    until(&nodes[1], "a snapshot it received", |s| s.snapshot > 20).await;

    // Forwarded by the follower.
    let (index, _) = nodes[1].propose(&set("via", "follower")).await.unwrap();
    nodes[1].wait_applied(index, Duration::from_secs(5)).await.unwrap();
    assert!(nodes[1].read_index().await.unwrap() >= index);
    let status = nodes[1].peer_status(1, &addresses[0], Duration::from_secs(2)).await.unwrap();
    assert_eq!((status.member_id, status.leader), (1, Some(1)));
    let error = nodes[1].report_observations("x".into(), Duration::from_secs(2)).await.unwrap_err();
    assert!(matches!(error, PeerError::Refused(Refusal::Unavailable(_))), "{error}");

    refused(&nodes[0], &addresses[0]).await;
    for node in &nodes {
        node.shutdown().await;
    }
}

/// Over the wire: no certificate of a coordinator, another cluster, nobody there.
async fn refused(node: &Node, address: &str) {
    let transport = GrpcTransport::new(Arc::new(Plain));
    let second = Duration::from_secs(2);
    let header = Header { cluster_id: [9; 16], sender_id: 2, target_id: 1 };
    let error = transport.call(header, address, PeerRequest::Status, second).await.unwrap_err();
    assert!(matches!(error, PeerError::Refused(Refusal::Denied(_))), "{error}");

    let (listener, open) = listen().await;
    serve(node, listener, None).await;
    let header = Header { cluster_id: super::CLUSTER, ..header };
    let error = transport.call(header, &open.to_string(), PeerRequest::ReadIndex, second).await.unwrap_err();
    assert!(matches!(error, PeerError::Refused(Refusal::Denied(_))), "{error}");

    let (listener, closed) = listen().await;
    drop(listener);
    let error = transport.call(header, &closed.to_string(), PeerRequest::Status, second).await.unwrap_err();
    assert!(matches!(error, PeerError::Unreachable(_)), "{error}");

    // A connector of ours that fails is as good as nobody there: nothing was sent.
    let refusing = GrpcTransport::new(Arc::new(RefusedTls));
    let error = refusing.call(header, address, PeerRequest::Status, second).await.unwrap_err();
    assert!(matches!(error, PeerError::Unreachable(_)), "{error}");

    // A listener that never answers: the deadline ends the call.
    let (_silent, silent) = listen().await;
    let short = Duration::from_millis(200);
    let error = transport.call(header, &silent.to_string(), PeerRequest::Status, short).await.unwrap_err();
    assert!(matches!(error, PeerError::NoReply(_)), "{error}");
}
