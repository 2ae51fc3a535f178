//! Joining.

use std::net::SocketAddr;
use std::str::FromStr;

use futures::future::BoxFuture;
use http::{Request, Response};
use quorate_common::tls::{JoinToken, KeyRequest};
use quorate_model::{ClusterId, DurationMs, MemberId, Principal};
use quorate_proto::v1;
use quorate_proto::v1::enroll_service_client::EnrollServiceClient;
use quorate_proto::v1::fleet_service_client::FleetServiceClient;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service;

use super::world::{World, node, problem};
use crate::api::enrolment_routes;
use crate::api::gate::Gate;
use crate::listen::HttpPeer;

/// A connection to the HTTPS port.
#[derive(Clone)]
pub(super) struct From {
    gate: Gate,
    peer: HttpPeer,
}

impl Service<Request<Body>> for From {
    type Response = Response<Body>;
    type Error = std::convert::Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, std::convert::Infallible>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        request.extensions_mut().insert(self.peer);
        self.gate.call(request)
    }
}

pub(super) fn joiner(world: &World, address: &str, tls: bool) -> EnrollServiceClient<From> {
    let gate = Gate::enrolment(world.api.clone(), enrolment_routes(&world.api));
    let remote: SocketAddr = address.parse().unwrap();
    EnrollServiceClient::new(From { gate, peer: HttpPeer { tls, remote } })
}

pub(super) async fn token(world: &World, purpose: v1::TokenPurpose, name: &str, access_role: &str) -> String {
    let mut fleet = FleetServiceClient::new(world.admin());
    let (name, access_role) = (name.to_owned(), access_role.to_owned());
    let request = v1::CreateTokenRequest { purpose: purpose as i32, name, access_role, ..Default::default() };
    fleet.create_token(request).await.unwrap().into_inner().token
}

pub(super) fn csr(name: &str) -> Vec<u8> {
    let cluster = ClusterId::new("c1").unwrap();
    KeyRequest::create(&cluster, &Principal::Agent { node: node(name) }).unwrap().csr_der().to_vec()
}

pub(super) fn request(token: &str, name: &str, csr_der: Vec<u8>) -> v1::EnrollRequest {
    v1::EnrollRequest { token: token.into(), name: name.into(), csr_der, ..Default::default() }
}

#[tokio::test]
async fn a_host_joins_once_and_a_lost_answer_can_be_asked_for_again() {
    let world = World::new();
    let token = token(&world, v1::TokenPurpose::Agent, "", "").await;
    let mut host = joiner(&world, "10.1.1.1:5", true);
    let mine = request(&token, "node9", csr("node9"));
    let joined = host.enroll(mine.clone()).await.unwrap().into_inner();
    assert_eq!((joined.node_id, joined.cluster_id.as_str()), (4, "c1"));
    assert!(joined.certificate_pem.contains("BEGIN CERTIFICATE") && joined.ca_key_pem.is_empty());
    assert_eq!(joined.coordinators, ["127.0.0.1:7443"]);
    let listed = |world: &World| {
        let state = world.memory.state.lock().unwrap();
        let agent = Principal::Agent { node: node("node9") };
        state.identities.values().filter(|i| i.principal == agent).count()
    };
    assert_eq!(listed(&world), 1, "listed before it was handed out");
    let again = host.enroll(mine).await.unwrap().into_inner();
    assert_eq!((again.node_id, listed(&world)), (4, 2));
    let other = request(&token, "node10", csr("node10"));
    assert_eq!(host.enroll(other).await.unwrap_err().code(), Code::Unauthenticated, "used up");
}

#[tokio::test]
async fn every_bad_token_gets_one_answer_and_guessing_is_slowed_down() {
    let world = World::new();
    let good = token(&world, v1::TokenPurpose::Agent, "", "").await;
    let parsed = JoinToken::from_str(&good).unwrap();
    let mut wrong_secret = parsed.clone();
    let mut bits = *parsed.secret.expose();
    bits[31] ^= 1;
    wrong_secret.secret = quorate_common::tls::Secret::from_bytes(bits);
    let mut other_cluster = parsed.clone();
    other_cluster.cluster = ClusterId::new("c2").unwrap();
    let mut other_purpose = parsed.clone();
    other_purpose.purpose = quorate_model::Role::Coordinator;
    let mut unknown = parsed.clone();
    unknown.id = quorate_model::TokenId::new("t-nope").unwrap();
    let mut host = joiner(&world, "10.1.1.2:5", true);
    let mut answers: Vec<Status> = Vec::new();
    for bad in [wrong_secret, other_cluster, other_purpose, unknown] {
        let text = bad.encode().unwrap().as_str().to_owned();
        answers.push(host.enroll(request(&text, "node9", csr("node9"))).await.unwrap_err());
    }
    answers.push(host.enroll(request("quorate-join-v1.???", "node9", Vec::new())).await.unwrap_err());
    for answer in &answers {
        assert_eq!((answer.code(), problem(answer).what), (Code::Unauthenticated, problem(&answers[0]).what));
    }
    // Five failures: now even the good one waits.
    let sixth = host.enroll(request(&good, "node9", csr("node9"))).await.unwrap_err();
    assert_eq!((sixth.code(), problem(&sixth).reason.as_str()), (Code::ResourceExhausted, "RATE_LIMITED"));
    let causes = world.api.ledger().drain(quorate_model::Timestamp(1)).concat();
    for cause in
        ["secret is wrong", "another cluster", "purpose was changed", "no such token", "cannot be read"]
    {
        assert!(causes.iter().any(|d| d.details.contains(cause)), "{cause}");
    }
    world.memory.advance(DurationMs::from_secs(61));
    host.enroll(request(&good, "node9", csr("node9"))).await.unwrap();
}

#[tokio::test]
async fn an_expired_or_revoked_token_is_no_token() {
    let world = World::new();
    let expired = token(&world, v1::TokenPurpose::Agent, "", "").await;
    let revoked = token(&world, v1::TokenPurpose::Agent, "", "").await;
    let token_id = JoinToken::from_str(&revoked).unwrap().id.as_str().to_owned();
    let mut fleet = FleetServiceClient::new(world.admin());
    fleet.revoke_token(v1::RevokeTokenRequest { token_id, options: None }).await.unwrap();
    let mut host = joiner(&world, "10.1.1.3:5", true);
    let refused = host.enroll(request(&revoked, "node9", csr("node9"))).await.unwrap_err();
    world.memory.advance(DurationMs::from_secs(3_601));
    let late = host.enroll(request(&expired, "node9", csr("node9"))).await.unwrap_err();
    assert_eq!((refused.code(), late.code()), (Code::Unauthenticated, Code::Unauthenticated));
    assert_eq!(problem(&refused).what, problem(&late).what);
    assert!(world.memory.state.lock().unwrap().nodes.present(&node("node9")).is_none());
}

#[tokio::test]
async fn a_bad_key_request_does_not_use_the_token_up() {
    let world = World::new();
    let agent = token(&world, v1::TokenPurpose::Agent, "", "").await;
    let mut host = joiner(&world, "10.1.1.4:5", true);
    for bytes in [Vec::new(), vec![0xff; 100], vec![0x30; 20_000]] {
        let refused = host.enroll(request(&agent, "node9", bytes)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    }
    let refused = host.enroll(request(&agent, "../node", csr("node9"))).await.unwrap_err();
    assert!(problem(&refused).what.starts_with("bad_field:name"));
    host.enroll(request(&agent, "node9", csr("node9"))).await.unwrap();
    let member = token(&world, v1::TokenPurpose::Coordinator, "", "").await;
    let refused = host.enroll(request(&member, "coord2", csr("x"))).await.unwrap_err();
    assert!(problem(&refused).what.starts_with("bad_field:grpc_address"), "{refused:?}");
}

#[tokio::test]
async fn a_coordinator_and_a_user_join() {
    let world = World::new();
    let member = token(&world, v1::TokenPurpose::Coordinator, "", "").await;
    let mut host = joiner(&world, "10.1.1.5:5", true);
    let join = v1::EnrollRequest {
        grpc_address: "coord2.example:7443".into(),
        http_address: "coord2.example:7480".into(),
        ..request(&member, "coord2", csr("x"))
    };
    let joined = host.enroll(join).await.unwrap().into_inner();
    assert_eq!(joined.member_id, 2);
    assert!(joined.ca_key_pem.contains("PRIVATE KEY"));
    assert_eq!(*world.memory.admitted.lock().unwrap(), [MemberId(2)]);
    let user = token(&world, v1::TokenPurpose::User, "alice", "OPERATOR").await;
    let refused = host.enroll(request(&user, "mallory", csr("x"))).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let joined = host.enroll(request(&user, "alice", csr("x"))).await.unwrap().into_inner();
    assert!(joined.ca_key_pem.is_empty() && joined.member_id == 0);
    let state = world.memory.state.lock().unwrap();
    let listed = state.identities.values().any(|i| {
        i.principal == super::world::user("alice") && i.access == Some(quorate_model::AccessRole::Operator)
    });
    assert!(listed);
}

#[tokio::test]
async fn a_lost_member_is_replaced_under_a_new_number_but_not_one_that_answers() {
    let world = World::new();
    let mut host = joiner(&world, "10.1.1.5:5", true);
    let join = |token: &str, name: &str, replace| v1::EnrollRequest {
        grpc_address: "coord.example:7443".into(),
        http_address: "coord.example:7480".into(),
        replace,
        ..request(token, name, csr("x"))
    };
    let first = token(&world, v1::TokenPurpose::Coordinator, "", "").await;
    assert_eq!(host.enroll(join(&first, "coord2", false)).await.unwrap().into_inner().member_id, 2);
    let second = token(&world, v1::TokenPurpose::Coordinator, "", "").await;
    // By name alone nobody takes a member's place.
    host.enroll(join(&second, "coord2", false)).await.unwrap_err();
    let leader = host.enroll(join(&second, "coord1", true)).await.unwrap_err();
    assert!(leader.message().contains("stop it before it is replaced"), "{leader:?}");
    let back = join(&second, "coord2", true);
    assert_eq!(host.enroll(back.clone()).await.unwrap().into_inner().member_id, 3);
    // The answer was lost, the call is repeated: the same member again.
    assert_eq!(host.enroll(back).await.unwrap().into_inner().member_id, 3);
    {
        let state = world.memory.state.lock().unwrap();
        let present: Vec<u64> = state.members.present().map(|m| m.id.0).collect();
        assert_eq!(present, [1, 3]);
    }
    // A token that is used up makes no room either.
    let used = host.enroll(join(&second, "coord2", true)).await.unwrap_err();
    assert_eq!(used.code(), Code::Unauthenticated);
    assert_eq!(world.memory.state.lock().unwrap().members.present().count(), 2);
}

#[tokio::test]
async fn nothing_is_enrolled_in_the_clear_and_nothing_else_is_served_here() {
    let world = World::new();
    let agent = token(&world, v1::TokenPurpose::Agent, "", "").await;
    let mut plain = joiner(&world, "127.0.0.1:5", false);
    let refused = plain.enroll(request(&agent, "node9", csr("node9"))).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let gate = Gate::enrolment(world.api.clone(), enrolment_routes(&world.api));
    let peer = HttpPeer { tls: true, remote: "10.1.1.6:5".parse().unwrap() };
    let mut fleet = FleetServiceClient::new(From { gate, peer });
    let refused = fleet.list_nodes(v1::ListNodesRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn an_agent_renews_its_certificate_until_it_is_removed() {
    let world = World::new();
    let renewed = world.api.renew_agent(&node("node1"), &csr("node1"), "10.0.0.1").await.unwrap();
    assert!(renewed.certificate_pem.contains("BEGIN CERTIFICATE"));
    let mut fleet = FleetServiceClient::new(world.admin());
    fleet.remove_node(v1::RemoveNodeRequest { name: "node1".into(), options: None }).await.unwrap();
    let refused = world.api.renew_agent(&node("node1"), &csr("node1"), "10.0.0.1").await.unwrap_err();
    assert_eq!(refused.reason(), quorate_model::Reason::IdentityRevoked);
}
