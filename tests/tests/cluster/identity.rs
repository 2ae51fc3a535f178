//! Who may say what: an agent for its own node only, a token once, a removed node nothing.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use quorate_common::tls::{
    Address, ChannelLimits, ClientTls, ExpectedServer, JoinToken, KeyRequest, LiveTls, Material, channel,
};
use quorate_model::{NodeName, Principal};
use quorate_proto::agent::v1 as agent;
use quorate_proto::agent::v1::agent_service_client::AgentServiceClient;
use quorate_proto::agent::v1::session_request::Body;
use quorate_proto::peer::v1 as peer;
use quorate_proto::peer::v1::peer_service_client::PeerServiceClient;
use quorate_proto::v1;
use quorate_proto::v1::enroll_service_client::EnrollServiceClient;
use quorate_proto::v1::fleet_service_client::FleetServiceClient;
use quorate_proto::v1::operation_service_client::OperationServiceClient;
use quorate_tests::cluster::{Daemon, Fleet};
use quorate_tests::wait::wait_for;
use rustix::process::{Signal, kill_process};
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::transport::s_client;

/// Longest one call may take.
const CALL: Duration = Duration::from_secs(10);
/// A removed node's session ends within this (reliability.md: at once; the brief: 5 s).
const CLOSED: Duration = Duration::from_secs(5);

pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(work)
}

fn dial(address: &str, tls: &ClientTls) -> Channel {
    let address: Address = address.parse().expect("an address");
    channel(&address, tls, &ChannelLimits::default()).expect("a channel")
}

/// A channel that speaks as whoever's certificate lies in `dir`.
pub(crate) fn speak_as(dir: &Path, address: &str) -> Channel {
    let material = Material::load(&dir.join("ca.pem"), &dir.join("cert.pem"), &dir.join("key.pem"))
        .expect("an identity");
    let tls = LiveTls::new(material).client(ExpectedServer::AnyCoordinator).expect("TLS");
    dial(address, &tls)
}

/// Opens a session as `dir` that says it is `node`; the first answer, and the stream that stays open.
async fn session(
    channel: Channel,
    node: &str,
    installation: &str,
) -> Result<
    (
        agent::SessionResponse,
        Streaming<agent::SessionResponse>,
        tokio::sync::mpsc::Sender<agent::SessionRequest>,
    ),
    Status,
> {
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    let hello = agent::Hello {
        node: node.to_owned(),
        agent_version: "0.1.0".to_owned(),
        boot_id: "boot".to_owned(),
        incarnation: "incarnation".to_owned(),
        installation: installation.to_owned(),
        ..Default::default()
    };
    let first = agent::SessionRequest { sequence: 1, body: Some(Body::Hello(hello)) };
    sender.send(first).await.expect("room for the first message");
    let out = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut client = AgentServiceClient::new(channel);
    let mut stream = tokio::time::timeout(CALL, client.session(out))
        .await
        .map_err(|_| Status::deadline_exceeded("no answer to the call"))??
        .into_inner();
    let answer = tokio::time::timeout(CALL, stream.message())
        .await
        .map_err(|_| Status::deadline_exceeded("no answer to Hello"))??
        .ok_or_else(|| Status::cancelled("closed without a word"))?;
    Ok((answer, stream, sender))
}

pub(crate) fn an_agent_speaks_for_itself_only(fleet: &Fleet) {
    let tls = fleet.agent_tls("node1");
    for (name, grpc, _) in fleet.coordinators() {
        block_on(async {
            let channel = speak_as(&tls, &grpc);
            let other =
                session(channel.clone(), "node2", "x").await.map(|_| ()).expect_err("node2 is somebody else");
            assert_eq!(other.code(), Code::PermissionDenied, "{name}: {other:?}");

            let nodes =
                FleetServiceClient::new(channel.clone()).list_nodes(v1::ListNodesRequest::default()).await;
            assert_eq!(nodes.expect_err("for users").code(), Code::PermissionDenied, "{name}");
            let request = v1::CreateTokenRequest::default();
            let token = FleetServiceClient::new(channel.clone()).create_token(request).await;
            assert_eq!(token.expect_err("for users").code(), Code::PermissionDenied, "{name}");
            let request = v1::CreateOperationRequest::default();
            let operation = OperationServiceClient::new(channel.clone()).create_operation(request).await;
            assert_eq!(operation.expect_err("for users").code(), Code::PermissionDenied, "{name}");

            let mut peers = PeerServiceClient::new(channel);
            let status = peers.get_peer_status(peer::GetPeerStatusRequest::default()).await;
            assert_eq!(status.expect_err("for members").code(), Code::PermissionDenied, "{name}");
            let vote = peers.request_vote(peer::RequestVoteRequest::default()).await;
            assert_eq!(vote.expect_err("for members").code(), Code::PermissionDenied, "{name}");
            let proposal = peers.propose(peer::ProposeRequest::default()).await;
            assert_eq!(proposal.expect_err("for members").code(), Code::PermissionDenied, "{name}");
        });
    }
}

/// Trades a token with a fresh key, as a joining host or person does.
fn enroll(
    address: &str,
    token: &str,
    principal: &Principal,
    name: &str,
) -> Result<(v1::EnrollResponse, KeyRequest), Status> {
    let parsed: JoinToken = token.parse().expect("a token");
    let key = KeyRequest::create(&parsed.cluster, principal).expect("a key");
    let tls = ClientTls::pinned(parsed.ca, parsed.cluster.clone()).expect("TLS");
    let request = v1::EnrollRequest {
        token: token.to_owned(),
        name: name.to_owned(),
        csr_der: key.csr_der().to_vec(),
        ..Default::default()
    };
    let answer = block_on(async {
        let mut client = EnrollServiceClient::new(dial(address, &tls));
        tokio::time::timeout(Duration::from_secs(30), client.enroll(request)).await
    });
    answer.expect("an answer in time").map(|answer| (answer.into_inner(), key))
}

/// A new user's identity in a directory.
pub(crate) fn enroll_user(fleet: &Fleet, name: &str, role: &str) -> std::path::PathBuf {
    let token = fleet.json(&["token", "create", "--purpose", "user", "--name", name, "--role", role]);
    let (_, _, http) = fleet.coordinators().swap_remove(0);
    let principal = Principal::User { name: quorate_model::UserName::new(name).expect("a name") };
    let (answer, key) =
        enroll(&http, token["token"].as_str().expect("a token"), &principal, name).expect("enrolled");
    let dir = fleet.dir().join("users").join(name);
    fs::create_dir_all(&dir).expect("a directory");
    for (file, text) in [
        ("ca.pem", answer.ca_pem.as_str()),
        ("cert.pem", answer.certificate_pem.as_str()),
        ("key.pem", key.key_pem()),
    ] {
        let path = dir.join(file);
        fs::write(&path, text).expect("written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(&path, mode).expect("private");
    }
    dir
}

pub(crate) fn a_token_works_once(fleet: &Fleet) {
    let token = fleet.json(&["token", "create", "--node", "node99"]);
    let token = token["token"].as_str().expect("a token");
    let (_, _, http) = fleet.coordinators().swap_remove(0);
    let node = |name: &str| Principal::Agent { node: NodeName::new(name).expect("a name") };

    let wrong = enroll(&http, token, &node("node98"), "node98").map(|_| ()).expect_err("it names node99");
    assert!(matches!(wrong.code(), Code::Unauthenticated | Code::PermissionDenied), "{wrong:?}");
    let first = enroll(&http, token, &node("node99"), "node99");
    assert!(first.is_ok(), "{:?}", first.map(|_| ()));
    for (name, _, http) in fleet.coordinators() {
        let again = enroll(&http, token, &node("node99"), "node99").map(|_| ()).expect_err("used up");
        assert_eq!(again.code(), Code::Unauthenticated, "{name}: {again:?}");
    }
    let revoked = fleet.json(&["token", "create", "--node", "node97"]);
    let text = revoked["token"].as_str().expect("a token").to_owned();
    let id = text.parse::<JoinToken>().expect("a token").id.to_string();
    let _ = fleet.quorate(&["token", "revoke", &id, "--yes"]).expect(0);
    let refused = enroll(&http, &text, &node("node97"), "node97").map(|_| ()).expect_err("revoked");
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused:?}");
    let _ = fleet.quorate(&["node", "remove", "node99", "--confirm", "node99", "--yes"]).expect(0);
}

pub(crate) fn a_removed_node_is_out_at_once(fleet: &Fleet) {
    fleet.calm();
    // A copy: the agent may throw its identity away once it is refused.
    let tls = fleet.dir().join("node6-copy");
    fs::create_dir_all(&tls).expect("a directory");
    for file in ["ca.pem", "cert.pem", "key.pem"] {
        fs::copy(fleet.agent_tls("node6").join(file), tls.join(file)).expect("copied");
    }
    let installation = fs::read_to_string(fleet.dir().join("agents/node6/data/installation"))
        .expect("the installation's number");
    // The agent itself is held still; the session below stands for it.
    let pid = fleet.pid(Daemon::Agent("node6")).expect("it runs");
    kill_process(pid, Signal::STOP).expect("it can be stopped");
    let (_, grpc, _) = fleet.coordinators().swap_remove(2);
    block_on(async {
        let (_, mut stream, _sender) =
            session(speak_as(&tls, &grpc), "node6", installation.trim()).await.expect("node6 may speak");
        let removal = Instant::now();
        let _ = fleet.quorate(&["node", "remove", "node6", "--confirm", "node6", "--yes"]).expect(0);
        let closed =
            tokio::time::timeout(CLOSED, async { while let Ok(Some(_)) = stream.message().await {} });
        closed.await.expect("the live session of a removed node is closed within 5 s");
        println!("  closed {:.1?} after the removal was asked for", removal.elapsed());
        let again = session(speak_as(&tls, &grpc), "node6", installation.trim()).await.map(|_| ());
        assert!(again.is_err(), "a removed node may open a session");
    });
    kill_process(pid, Signal::CONT).expect("it can go on");
    for (name, grpc, _) in fleet.coordinators() {
        wait_for("the removal to reach every member", CLOSED, || {
            let refused = s_client(&grpc, &["-tls1_3"], Some(&tls));
            let out = refused.got.is_empty() && refused.said.contains("alert certificate revoked");
            if out { Ok(()) } else { Err(format!("{name}: {refused:?}")) }
        });
    }
    let gone = fleet.quorate(&["node", "show", "node6"]);
    assert!(gone.code == 6 || gone.stdout.contains("REMOVED") || gone.stdout.contains("Removed"), "{gone:?}");
    fleet.calm();
}
