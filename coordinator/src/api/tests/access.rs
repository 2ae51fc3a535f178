//! Who gets in, and what everybody else is told.

use std::sync::atomic::Ordering;

use bytes::{BufMut, Bytes, BytesMut};
use http::Request;
use http_body_util::{BodyExt, Full};
use prost::Message;
use quorate_core::Command;
use quorate_core::command::IdentityCommand;
use quorate_model::{AccessRole, DurationMs, Reason, Serial};
use quorate_proto::v1;
use quorate_proto::v1::admin_service_client::AdminServiceClient;
use quorate_proto::v1::fleet_service_client::FleetServiceClient;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service;

use super::world::{As, CERTIFICATE_LIFE, ToLeader, World, options, problem};
use crate::api::authz::{Allow, RULES};
use crate::api::gate::{CLIENT_IP_KEY, ON_BEHALF_OF_KEY};

/// One raw call; its status.
async fn raw(connection: &As, path: &str, message: &[u8]) -> Status {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap());
    frame.put_slice(message);
    send(connection, path, frame.freeze()).await
}

async fn send(connection: &As, path: &str, bytes: Bytes) -> Status {
    let request = Request::post(path)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(Full::new(bytes)))
        .unwrap();
    let response = connection.clone().call(request).await.unwrap();
    if let Some(status) = Status::from_header_map(response.headers()) {
        return status;
    }
    // A stream that goes on has no trailers yet: it was let in.
    let streams = RULES.iter().any(|r| r.path == path && r.effect == crate::api::authz::Effect::Stream);
    if streams {
        return Status::ok("");
    }
    let collected = response.into_body().collect().await.unwrap();
    let trailers = collected.trailers().cloned().unwrap_or_default();
    Status::from_header_map(&trailers).unwrap_or_else(|| Status::ok(""))
}

#[tokio::test]
async fn every_method_lets_in_exactly_its_roles() {
    let world = World::new();
    for rule in RULES {
        for word in ["coordinator", "agent", "viewer", "operator", "admin"] {
            let allowed = match rule.allow {
                Allow::Coordinators => word == "coordinator",
                Allow::Agents => word == "agent",
                Allow::Enrolment => false,
                Allow::Users(least) => {
                    AccessRole::parse(&word.to_uppercase()).is_some_and(|role| role >= least)
                }
            };
            let status = raw(&world.as_role(word), rule.path, b"").await;
            let denied = status.code() == Code::PermissionDenied;
            assert_eq!(denied, !allowed, "{} as {word}: {status:?}", rule.path);
            assert_ne!(status.code(), Code::Unauthenticated, "{} as {word}", rule.path);
        }
        let nobody = As { gate: world.gate.clone(), connected: None };
        assert_eq!(raw(&nobody, rule.path, b"").await.code(), Code::Unauthenticated, "{}", rule.path);
    }
    let unknown = raw(&world.admin(), "/quorate.v1.FleetService/Explode", b"").await;
    assert_eq!(unknown.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn every_bad_certificate_gets_the_same_answer_and_the_audit_knows_why() {
    let world = World::new();
    let mut unknown = world.admin();
    unknown.connected.as_mut().unwrap().serial = Serial::new("ffff").unwrap();
    let mut other = world.admin();
    other.connected.as_mut().unwrap().principal = super::world::user("viewer");
    let revoked = world.as_role("operator");
    let serial = Serial::new("u-operator").unwrap();
    world.memory.system(Command::Identity(IdentityCommand::Revoke { serial }));
    let mut texts = Vec::new();
    for connection in [unknown, other, revoked, As { gate: world.gate.clone(), connected: None }] {
        let status = raw(&connection, "/quorate.v1.FleetService/ListNodes", b"").await;
        assert_eq!(status.code(), Code::Unauthenticated);
        texts.push(problem(&status).what);
    }
    let viewer = world.as_role("viewer");
    world.memory.advance(CERTIFICATE_LIFE);
    world.memory.advance(DurationMs(1));
    texts.push(problem(&raw(&viewer, "/quorate.v1.FleetService/ListNodes", b"").await).what);
    assert!(texts.iter().all(|t| *t == texts[0]), "{texts:?}");
    let causes: Vec<String> = world
        .api
        .ledger()
        .drain(quorate_model::Timestamp(1))
        .concat()
        .iter()
        .map(|d| d.details.clone())
        .collect();
    for cause in ["not listed", "somebody else", "revoked", "no certificate", "life is over"] {
        assert!(causes.iter().any(|c| c.contains(cause)), "{cause} is missing in {causes:?}");
    }
}

#[tokio::test]
async fn bad_bytes_are_the_callers_mistake() {
    let world = World::new();
    let path = "/quorate.v1.FleetService/ListNodes";
    // A wrong wire type, a cut-off field, invalid UTF-8 in a string.
    for bytes in [&b"\x07"[..], b"\x0a\x7f\x01", b"\x1a\x02\xff\xfe"] {
        let status = raw(&world.admin(), path, bytes).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        let problem = problem(&status);
        assert_eq!(problem.reason, "MALFORMED_MESSAGE");
        assert!(problem.what.contains("FleetService/ListNodes"), "{}", problem.what);
        assert!(!problem.request_id.is_empty());
    }
    let mut nested = Vec::new();
    for _ in 0..300 {
        let mut outer = vec![0x0a];
        prost::encoding::encode_varint(nested.len() as u64, &mut outer);
        outer.extend(&nested);
        nested = outer;
    }
    // Deep nesting in unknown or known fields must neither crash nor hang.
    let status = raw(&world.admin(), path, &nested).await;
    assert!(matches!(status.code(), Code::InvalidArgument | Code::Ok), "{status:?}");
    let large = vec![0_u8; 1024 * 1024 + 1];
    let status = raw(&world.admin(), path, &large).await;
    assert_eq!(problem(&status).reason, "MESSAGE_TOO_LARGE", "{status:?}");
    // A length prefix of 4 GiB: refused by the number, nothing is allocated for it.
    let status = send(&world.admin(), path, Bytes::from_static(b"\0\xff\xff\xff\xff")).await;
    assert_eq!(problem(&status).reason, "MESSAGE_TOO_LARGE", "{status:?}");
}

fn headers<T>(message: T, serial: &str) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert(ON_BEHALF_OF_KEY, serial.parse().unwrap());
    request.metadata_mut().insert(CLIENT_IP_KEY, "198.51.100.9".parse().unwrap());
    request
}

#[tokio::test]
async fn only_coordinators_speak_for_users_and_only_for_users() {
    let world = World::new();
    let who = |connection: As, serial: &'static str| async move {
        let mut admin = AdminServiceClient::new(connection);
        admin.get_caller(headers(v1::GetCallerRequest {}, serial)).await.map(|r| r.into_inner().principal)
    };
    assert_eq!(who(world.as_role("coordinator"), "u-viewer").await.unwrap(), "user:viewer");
    let denied = who(world.as_role("viewer"), "u-admin").await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied, "a user claims to speak for another");
    let denied = who(world.as_role("agent"), "u-admin").await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    for nobody in ["a01", "c01"] {
        let denied = who(world.as_role("coordinator"), nobody).await.unwrap_err();
        assert_eq!(denied.code(), Code::PermissionDenied, "{nobody} is no user");
    }
    let denied = who(world.as_role("coordinator"), "ffff").await.unwrap_err();
    assert_eq!(denied.code(), Code::Unauthenticated);
    // The original caller is authorised again: what a viewer may not, a coordinator may not in its name.
    let mut fleet = FleetServiceClient::new(world.as_role("coordinator"));
    let request = v1::CordonNodeRequest { name: "node1".into(), options: None };
    let denied = fleet.cordon_node(headers(request, "u-viewer")).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_follower_passes_calls_on_with_their_caller() {
    let leader = World::new();
    let follower = World::with_forward(ToLeader(Some(leader.as_role("coordinator"))));
    follower.memory.leads.store(false, Ordering::Relaxed);
    let mut fleet = FleetServiceClient::new(follower.as_role("operator"));
    let request = v1::CordonNodeRequest { name: "node1".into(), options: options("req-1") };
    let response = fleet.cordon_node(request).await.unwrap();
    assert_eq!(response.metadata().get("quorate-request-id").unwrap(), "req-1");
    assert_eq!(response.into_inner().node.unwrap().cordon_owner, "user:operator");
    let record = leader.memory.state.lock().unwrap().audit.records.back().unwrap().what.clone();
    assert_eq!(
        (record.principal.to_string().as_str(), record.client_ip.as_str()),
        ("user:operator", "192.0.2.7")
    );
    // A refusal of the leader comes through with all it says.
    let request = v1::CordonNodeRequest { name: "node9".into(), options: None };
    let refused = problem(&fleet.cordon_node(request).await.unwrap_err());
    assert_eq!((refused.code, refused.reason.as_str()), (Code::NotFound, "NOT_FOUND"));
    // Never twice: a member that thinks another one leads refuses what was passed on to it.
    leader.memory.leads.store(false, Ordering::Relaxed);
    let request = v1::ListNodesRequest::default();
    let refused = problem(&fleet.list_nodes(request).await.unwrap_err());
    assert_eq!((refused.code, refused.reason.as_str()), (Code::Unavailable, "NO_LEADER"));
}

#[tokio::test]
async fn without_a_leader_only_stale_reads_are_served() {
    let world = World::new();
    world.memory.has_leader.store(false, Ordering::Relaxed);
    let mut fleet = FleetServiceClient::new(world.as_role("operator"));
    let refused = problem(&fleet.list_nodes(v1::ListNodesRequest::default()).await.unwrap_err());
    assert_eq!((refused.code, refused.exit_code()), (Code::Unavailable, 4));
    let stale = v1::Consistency::Stale as i32;
    let request = v1::ListNodesRequest { consistency: stale, ..Default::default() };
    let response = fleet.list_nodes(request).await.unwrap();
    assert!(response.metadata().contains_key("quorate-index"));
    assert_eq!(response.into_inner().nodes.len(), 3);
    let request = v1::CordonNodeRequest { name: "node1".into(), options: None };
    let refused = problem(&fleet.cordon_node(request).await.unwrap_err());
    assert_eq!(refused.known_reason(), Some(Reason::NoLeader));
    let request = v1::ListNodesRequest { consistency: 9, ..Default::default() };
    assert_eq!(fleet.list_nodes(request).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn an_unknown_outcome_says_so_and_the_same_id_finds_out() {
    let world = World::new();
    let mut fleet = FleetServiceClient::new(world.as_role("operator"));
    let lost = crate::api::backend::ProposeError::Unknown("the leader is gone".into());
    *world.memory.next_propose.lock().unwrap() = Some(lost);
    let request = v1::CordonNodeRequest { name: "node1".into(), options: options("again") };
    let unknown = problem(&fleet.cordon_node(request.clone()).await.unwrap_err());
    assert_eq!((unknown.code, unknown.request_id.as_str()), (Code::Unknown, "again"));
    assert!(unknown.is_retryable());
    assert_eq!(fleet.cordon_node(request).await.unwrap().into_inner().node.unwrap().name, "node1");
}

#[tokio::test]
async fn reads_are_counted_for_the_audit_and_messages_round_trip() {
    let world = World::new();
    let empty = v1::ListNodesRequest::default().encode_to_vec();
    for _ in 0..3 {
        assert_eq!(
            raw(&world.as_role("viewer"), "/quorate.v1.FleetService/ListNodes", &empty).await.code(),
            Code::Ok
        );
    }
    raw(&world.as_role("viewer"), "/quorate.v1.FleetService/CreateToken", b"").await;
    let drafts = world.api.ledger().drain(quorate_model::Timestamp(5)).concat();
    let read = drafts.iter().find(|d| d.event_type == "read").unwrap();
    assert_eq!((read.action.as_str(), read.details.as_str()), ("FleetService/ListNodes", "3 times"));
    let denied = drafts.iter().find(|d| d.event_type == "authz").unwrap();
    assert_eq!(
        (denied.reason.as_str(), denied.principal.to_string().as_str()),
        ("NOT_ALLOWED", "user:viewer")
    );
}

#[tokio::test]
async fn a_request_id_that_is_none_is_refused_and_not_replaced() {
    let world = World::new();
    let mut fleet = FleetServiceClient::new(world.as_role("operator"));
    let cordon = |id: &str| v1::CordonNodeRequest { name: "node1".into(), options: options(id) };
    let nil = "00000000-0000-0000-0000-000000000000";
    for id in [nil, "a b", "a\nb", "$(id)", &"a".repeat(65)] {
        let refused = problem(&fleet.cordon_node(cordon(id)).await.unwrap_err());
        assert_eq!((refused.code, refused.reason.as_str()), (Code::InvalidArgument, "INVALID_ARGUMENT"));
        assert!(refused.what.starts_with("bad_field:options.request_id: "), "{}", refused.what);
    }
    for id in [nil, "a b", "$(id)", &"a".repeat(65)] {
        let mut request = tonic::Request::new(cordon(""));
        request.metadata_mut().insert("quorate-request-id", id.parse().unwrap());
        let refused = problem(&fleet.cordon_node(request).await.unwrap_err());
        assert!(refused.what.starts_with("bad_field:quorate-request-id: "), "{}", refused.what);
        assert!(!refused.request_id.is_empty());
    }
    let state = world.memory.state.lock().unwrap();
    let node1 = state.nodes.present(&super::world::node("node1")).unwrap();
    assert!(node1.cordon.is_none());
}
