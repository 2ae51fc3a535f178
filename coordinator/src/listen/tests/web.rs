//! The HTTP port: TLS for everybody, plain for loopback, and the router knows which.

use std::sync::Arc;

use axum::Router;
use axum::extract::Extension;
use axum::routing::any;
use bytes::Bytes;
use http::Method;
use quorate_common::task::{Service, Shutdown};
use quorate_common::tls::{
    Address, CertificateAuthority, ClientTls, HttpsError, HttpsLimits, LiveTls, https_request,
};
use quorate_model::{ClusterId, MemberId, Principal};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use super::fixture::*;
use crate::listen::*;

struct Port {
    authority: CertificateAuthority,
    address: std::net::SocketAddr,
    stats: Arc<ListenStats>,
    shutdown: Shutdown,
}

impl Drop for Port {
    fn drop(&mut self) {
        self.shutdown.trigger();
    }
}

async fn start(limits: ListenLimits) -> Port {
    let authority = authority();
    let live = LiveTls::new(material(&authority, Principal::Coordinator { member: MemberId(1) }));
    let show = |Extension(peer): Extension<HttpPeer>, body: Bytes| async move {
        format!("tls={} {}", peer.tls, String::from_utf8_lossy(&body))
    };
    let router = Router::new().route("/show", any(show));
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let listener = HttpListener::new(socket, &live, router, limits).unwrap();
    let (stats, shutdown) = (listener.stats(), Shutdown::new());
    let stop = shutdown.clone();
    tokio::spawn(async move { listener.run(stop).await.unwrap() });
    Port { authority, address, stats, shutdown }
}

async fn post(port: &Port, tls: &ClientTls, body: &'static str) -> Result<(u16, Bytes), HttpsError> {
    let address: Address = port.address.to_string().parse().unwrap();
    let limits = HttpsLimits::default();
    let work =
        https_request(&address, tls, Method::POST, "/show", Bytes::from_static(body.as_bytes()), &limits);
    soon("a request", work).await.map(|response| (response.status.as_u16(), response.body))
}

#[tokio::test]
async fn enrolment_reaches_the_pinned_coordinator_over_tls_only() {
    let port = start(ListenLimits::default()).await;
    let cluster = port.authority.cluster().clone();
    let pinned = ClientTls::pinned(port.authority.fingerprint(), cluster.clone()).unwrap();
    assert_eq!(post(&port, &pinned, "hello").await.unwrap(), (200, Bytes::from_static(b"tls=true hello")));
    for wrong in [
        ClientTls::pinned([1; 32], cluster).unwrap(),
        ClientTls::pinned(port.authority.fingerprint(), ClusterId::new("other").unwrap()).unwrap(),
    ] {
        let error = post(&port, &wrong, "secret").await.unwrap_err();
        assert!(
            matches!(error, HttpsError::Connect { reason: "wrong_ca" | "wrong_cluster", .. }),
            "{error:?}"
        );
    }
    until("the refusals to be counted", || port.stats.snapshot().refused.get("refused_by_peer") == Some(&2))
        .await;
}

#[tokio::test]
async fn loopback_may_speak_plain_http_and_the_router_knows() {
    let port = start(ListenLimits::default()).await;
    let mut stream = TcpStream::connect(port.address).await.unwrap();
    let request = b"POST /show HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi";
    stream.write_all(request).await.unwrap();
    let answer = String::from_utf8(read_to_close(stream).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("tls=false hi"), "{answer}");
}

#[tokio::test]
async fn slow_huge_and_broken_requests_are_closed() {
    let short = quorate_common::config::Span(std::time::Duration::from_millis(200));
    let port = start(ListenLimits {
        handshake_timeout: short,
        keepalive_interval: short,
        ..ListenLimits::default()
    })
    .await;
    let silent = TcpStream::connect(port.address).await.unwrap();
    assert!(read_to_close(silent).await.is_empty());
    assert_eq!(port.stats.snapshot().refused.get("handshake_timeout"), Some(&1));
    let mut slow = TcpStream::connect(port.address).await.unwrap();
    slow.write_all(b"GET /show HTTP/1.1\r\nHo").await.unwrap();
    let answer = read_to_close(slow).await;
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"));
    for bytes in [vec![b'x'; 4_096], [b"GET /show HTTP/1.1\r\nA: ".to_vec(), vec![b'a'; 1 << 20]].concat()] {
        let mut stream = TcpStream::connect(port.address).await.unwrap();
        let _ = stream.write_all(&bytes).await;
        let answer = read_to_close(stream).await;
        assert!(
            answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"),
            "{}",
            String::from_utf8_lossy(&answer)
        );
    }
    let pinned = ClientTls::pinned(port.authority.fingerprint(), port.authority.cluster().clone()).unwrap();
    assert_eq!(post(&port, &pinned, "").await.unwrap().0, 200);
}

#[tokio::test]
async fn connections_are_bounded() {
    let port = start(ListenLimits { max_http_connections: 1, ..ListenLimits::default() }).await;
    let held = TcpStream::connect(port.address).await.unwrap();
    until("it to be accepted", || port.stats.snapshot().accepted == 1).await;
    let second = TcpStream::connect(port.address).await.unwrap();
    assert!(read_to_close(second).await.is_empty());
    assert_eq!(port.stats.snapshot().refused.get("too_many"), Some(&1));
    drop(held);
}
