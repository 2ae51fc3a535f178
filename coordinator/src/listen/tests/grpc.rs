//! What a verified peer can do, and how it loses that.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use quorate_common::tls::{Denied, ExpectedServer, LeafSpec};
use quorate_model::{MemberId, Principal};
use tonic::Code;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tower::ServiceExt;

use super::fixture::*;
use crate::listen::*;

pub(super) async fn check(channel: &Channel) -> Result<(), tonic::Status> {
    let request = HealthCheckRequest { service: String::new() };
    soon("a health check", HealthClient::new(channel.clone()).check(request)).await.map(|_| ())
}

/// Posts bytes to a path; the gRPC status of the answer (if any) and its body.
pub(super) async fn raw_call(
    channel: &Channel,
    path: &str,
    body: &'static [u8],
) -> (Option<tonic::Status>, Bytes) {
    let request = Request::post(path)
        .header("content-type", "application/grpc")
        .body(tonic::body::Body::new(Full::new(Bytes::from_static(body))))
        .unwrap();
    let response = soon("a call", channel.clone().oneshot(request)).await.unwrap();
    let (head, body) = response.into_parts();
    let body = soon("a body", body.collect()).await.unwrap().to_bytes();
    (tonic::Status::from_header_map(&head.headers), body)
}

#[tokio::test]
async fn handlers_see_who_asks() {
    let fixture = Fixture::start(ListenLimits::default()).await;
    for (principal, shown) in [
        (agent("node1"), "agent:node1"),
        (user("alice"), "user:alice"),
        (Principal::Coordinator { member: MemberId(2) }, "coordinator:2"),
    ] {
        let channel = fixture.channel(principal);
        assert_eq!(raw_call(&channel, "/test/who", b"").await.1, shown);
        check(&channel).await.unwrap();
    }
    assert_eq!(fixture.stats.snapshot().served, 3);
    assert!(fixture.registry.connections().iter().all(|info| info.identity.connection == info.id));
    until("all connections to be gone", || fixture.registry.is_empty()).await;
}

#[tokio::test]
async fn a_revoked_identity_loses_its_open_stream_and_every_new_connection() {
    let fixture = Fixture::start(ListenLimits::default()).await;
    let (bad, good) = (fixture.live(agent("node1")), fixture.channel(agent("node2")));
    let serial = bad.current().identity().serial.clone();
    let channel = fixture.dial(&bad.client(ExpectedServer::AnyCoordinator).unwrap());
    let watch = HealthClient::new(channel.clone()).watch(HealthCheckRequest { service: String::new() }).await;
    let mut stream = watch.unwrap().into_inner();
    soon("the first message", stream.message()).await.unwrap().unwrap();
    check(&good).await.unwrap();

    let started = std::time::Instant::now();
    fixture.allow.deny(&serial, Denied::Revoked);
    assert_eq!(fixture.registry.close_where(|peer| peer.serial == serial), 1);
    let ended = soon("the stream to end", stream.message()).await;
    assert!(!matches!(ended, Ok(Some(_))), "{ended:?}");
    assert!(started.elapsed() < std::time::Duration::from_secs(5), "I-26");
    assert!(check(&channel).await.is_err());
    until("the refused handshake to be counted", || fixture.refused("revoked") >= 1).await;
    check(&good).await.unwrap();
}

#[tokio::test]
async fn the_allow_list_is_asked_at_every_request_even_if_nobody_closes_the_connection() {
    let fixture = Fixture::start(ListenLimits::default()).await;
    let live = fixture.live(agent("node1"));
    let channel = fixture.dial(&live.client(ExpectedServer::AnyCoordinator).unwrap());
    check(&channel).await.unwrap();
    fixture.allow.deny(&live.current().identity().serial, Denied::Unavailable);
    assert_eq!(check(&channel).await.unwrap_err().code(), Code::Unavailable);
    fixture.allow.deny(&live.current().identity().serial, Denied::Removed);
    let error = check(&channel).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::Unauthenticated, "the certificate is not accepted"));
    assert_eq!(fixture.stats.snapshot().requests_refused.get("removed"), Some(&1));
    until("the connection to be closed", || fixture.registry.is_empty()).await;
    assert!(check(&channel).await.is_err());
}

#[tokio::test]
async fn rotating_both_sides_during_two_hundred_calls_fails_none() {
    let fixture = Fixture::start(ListenLimits::default()).await;
    let live = fixture.live(agent("node1"));
    let tls = live.client(ExpectedServer::AnyCoordinator).unwrap();
    let held = fixture.dial(&tls);
    let mut fresh = fixture.dial(&tls);
    for call in 0..200 {
        if call % 10 == 0 {
            live.replace(material(&fixture.authority, agent("node1"))).unwrap();
            let server = Principal::Coordinator { member: MemberId(1) };
            fixture.server.replace(material(&fixture.authority, server)).unwrap();
            fresh = fixture.dial(&tls);
        }
        check(&held).await.unwrap();
        check(&fresh).await.unwrap();
    }
    let serials: std::collections::BTreeSet<_> =
        fixture.registry.connections().into_iter().map(|info| info.identity.serial.clone()).collect();
    assert!(serials.len() > 1, "new connections use the new certificate: {serials:?}");
    assert!(fixture.stats.snapshot().refused.is_empty());
}

#[tokio::test]
async fn a_certificate_that_ends_takes_its_connection_with_it() {
    let fixture = Fixture::start(ListenLimits::default()).await;
    let key = quorate_common::tls::KeyRequest::create(fixture.authority.cluster(), &agent("node1")).unwrap();
    let life = std::time::Duration::from_secs(3);
    let spec = LeafSpec::new(agent("node1"), super::super::request::now(), life);
    let cert = fixture.authority.sign_csr(key.csr_der(), &spec).unwrap();
    let material =
        quorate_common::tls::Material::from_pem(fixture.authority.pem(), &cert.pem, key.key_pem()).unwrap();
    let live = quorate_common::tls::LiveTls::new(material);
    let channel = fixture.dial(&live.client(ExpectedServer::AnyCoordinator).unwrap());
    check(&channel).await.unwrap();
    until("the connection to end with its certificate", || fixture.registry.is_empty()).await;
    // The last second still counts as valid at a handshake; after it there is nothing more.
    let refused = async {
        while fixture.refused("expired") == 0 {
            let _ = check(&channel).await;
        }
    };
    soon("the certificate to be refused", refused).await;
    assert!(check(&channel).await.is_err());
}

#[tokio::test]
async fn bad_protobuf_is_the_callers_mistake_and_names_the_method() {
    let fixture = Fixture::start(ListenLimits::default()).await;
    let channel = fixture.channel(user("alice"));
    // Field 1 is a string; invalid UTF-8, a truncated length, a group that never ends, another wire type.
    for message in [
        &b"\0\0\0\0\x03\x0a\x01\xff"[..],
        b"\0\0\0\0\x02\x0a\x7f",
        b"\0\0\0\0\x01\x0b",
        b"\0\0\0\0\x02\x08\x01",
    ] {
        let (status, _) = raw_call(&channel, "/grpc.health.v1.Health/Check", message).await;
        let status = status.unwrap();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert!(
            status.message().starts_with("malformed_message: /grpc.health.v1.Health/Check"),
            "{status:?}"
        );
    }
    // A length prefix of 4 GiB is refused by the decode limit without allocating it (B-1).
    let (status, _) = raw_call(&channel, "/grpc.health.v1.Health/Check", b"\0\xff\xff\xff\xff").await;
    assert_eq!(status.unwrap().code(), Code::OutOfRange);
    let (status, _) = raw_call(&channel, "/no.such.Service/Method", b"\0\0\0\0\0").await;
    assert_eq!(status.unwrap().code(), Code::Unimplemented);
    check(&channel).await.unwrap();
}

#[tokio::test]
async fn a_stop_ends_the_loop_and_its_connections() {
    let mut fixture = Fixture::start(ListenLimits::default()).await;
    let channel = fixture.channel(agent("node1"));
    check(&channel).await.unwrap();
    fixture.shutdown.trigger();
    soon("the listener to stop", &mut fixture.task).await.unwrap();
    assert!(fixture.registry.is_empty());
    assert!(check(&channel).await.is_err());
}
