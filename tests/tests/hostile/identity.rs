//! I-26: who was removed is out within 5 s, everywhere, and stays out. I-27: a rotation fails no call.

use std::path::Path;
use std::time::{Duration, Instant};

use quorate_common::tls::{ExpectedServer, KeyRequest, Material};
use quorate_proto::agent::v1 as agent;
use quorate_proto::agent::v1::agent_service_client::AgentServiceClient;
use quorate_proto::v1;
use quorate_proto::v1::audit_service_client::AuditServiceClient;
use quorate_tests::cluster::{CALM, Daemon, Fleet};
use quorate_tests::wait::wait_for;
use tonic::Streaming;

use crate::peers::{block_on, call, dial, live, new_node, new_user, node, remove_node, soon, speak_as};
use crate::sessions::Talk;

/// Removed identities are out within this.
const OUT: Duration = Duration::from_secs(5);

fn rotations() -> usize {
    std::env::var("QUORATE_ROTATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(100)
}

/// An agent's key and certificate are replaced again and again, as its renewal does it, while it goes on calling over one
/// connection that it keeps and over new ones; and each coordinator reads its own again meanwhile.
pub(crate) fn i27_rotations_fail_no_call(fleet: &Fleet) {
    let identity = new_node(fleet, "rota");
    let bundle = std::fs::read_to_string(identity.join("ca.pem")).expect("the CA");
    let addresses: Vec<String> = fleet.coordinators().into_iter().map(|(_, grpc, _)| grpc).collect();
    let (count, begun) = (rotations(), Instant::now());
    let mut calls = 0;
    block_on(async {
        let live = live(&identity);
        let cluster = live.current().identity().cluster.clone();
        let tls = live.client(ExpectedServer::AnyCoordinator).expect("TLS");
        let mut session = Talk::open(&identity, &addresses[0], "rota", "one").await.expect("it may speak");
        let kept: Vec<_> = addresses.iter().map(|address| dial(address, &tls)).collect();
        for round in 0..count {
            let key = KeyRequest::create(&cluster, &node("rota")).expect("a key");
            let request = || agent::RenewCertificateRequest { csr_der: key.csr_der().to_vec() };
            // Over a connection that was there before, then everything over new ones with what it gave.
            let held = kept[round % kept.len()].clone();
            let answer = soon("a renewal", AgentServiceClient::new(held).renew_certificate(request())).await;
            let answer = answer.unwrap_or_else(|status| panic!("renewal {round}: {status:?}")).into_inner();
            let material = Material::from_pem(&bundle, &answer.certificate_pem, key.key_pem());
            live.replace(material.expect("a certificate of ours")).expect("the same identity");
            for (at, address) in addresses.iter().enumerate() {
                // What one member has written the others learn within a heartbeat; they say UNAVAILABLE or refuse until
                // then, so the new certificate is used at the member that issued it first.
                if at == round % addresses.len() {
                    let fresh = dial(address, &tls);
                    let answer = call(&fresh, RENEW, bytes::Bytes::from_static(b"\x07")).await;
                    let status = answer.expect_err("not a message");
                    assert_eq!(
                        crate::peers::reason(&status),
                        "MALFORMED_MESSAGE",
                        "rotation {round}: {status:?}"
                    );
                    calls += 1;
                }
            }
            assert!(session.send(agent::session_request::Body::Heartbeat(agent::Heartbeat::default())).await);
            session.drain().await;
            calls += 2;
        }
        println!(
            "  {count} certificate rotations, {calls} calls, 0 failed, one session open throughout, {:.1} s",
            begun.elapsed().as_secs_f64()
        );
    });
    remove_node(fleet, "rota");
}

const RENEW: &str = "/quorate.agent.v1.AgentService/RenewCertificate";

/// A stream that lives as long as its caller may speak.
async fn watch(identity: &Path, address: &str) -> Streaming<v1::WatchAuditRecordsResponse> {
    let mut client = AuditServiceClient::new(speak_as(identity, address));
    let request = v1::WatchAuditRecordsRequest::default();
    soon("a watch", client.watch_audit_records(request)).await.expect("it may watch").into_inner()
}

async fn is_refused(identity: &Path, address: &str) -> bool {
    let path = "/quorate.v1.AdminService/GetCaller";
    let answer = call(&speak_as(identity, address), path, bytes::Bytes::new()).await;
    // No word of the gate: the handshake itself is refused.
    answer.is_err_and(|status| crate::peers::reason(&status).is_empty())
}

pub(crate) fn i26_removed_identities_are_out(fleet: &Fleet) {
    let coordinators = fleet.coordinators();
    let (gone, stays) = (new_node(fleet, "leaver"), new_user(fleet, "vera", "viewer"));
    let slowest = block_on(async {
        // A session at one member; at each member a connection that is in use.
        let session = Talk::open(&gone, &coordinators[1].1, "leaver", "one").await.expect("it may speak");
        let mut open = Vec::new();
        for (name, grpc, _) in &coordinators {
            let channel = speak_as(&gone, grpc);
            let answer = call(&channel, RENEW, bytes::Bytes::from_static(b"\x07")).await;
            assert_eq!(crate::peers::reason(&answer.expect_err("no message")), "MALFORMED_MESSAGE", "{name}");
            open.push((name.clone(), channel));
        }
        let others = watch(&stays, &coordinators[1].1).await;
        let from = Instant::now();
        remove_node(fleet, "leaver");
        let mut slowest = session.ended(from).await;
        for (name, channel) in open {
            // Asked at each request: the connection that was let in is no way in any more.
            let out = async {
                loop {
                    let answer = call(&channel, RENEW, bytes::Bytes::from_static(b"\x07")).await;
                    if crate::peers::reason(&answer.expect_err("no message")) != "MALFORMED_MESSAGE" {
                        break;
                    }
                }
            };
            tokio::time::timeout(CALM, out).await.unwrap_or_else(|_| panic!("{name} still serves it"));
            slowest = slowest.max(from.elapsed());
        }
        drop(others);
        slowest
    });
    println!(
        "  a removed agent is out at all 3 coordinators {:.2} s after the removal was asked for",
        slowest.as_secs_f64()
    );
    assert!(slowest <= OUT, "I-26: {slowest:?}");

    // Also after each of them was started again.
    for (name, grpc, _) in &coordinators {
        let before = fleet.pid(Daemon::Coordinator(name)).expect("it runs");
        fleet.kill(Daemon::Coordinator(name));
        wait_for("the member to be back", CALM, || {
            let now = fleet.pid(Daemon::Coordinator(name));
            let serves = || block_on(async { !is_refused(&stays, grpc).await });
            if now.is_some_and(|pid| pid != before) && serves() { Ok(()) } else { Err("not yet") }
        });
        assert!(block_on(is_refused(&gone, grpc)), "{name} lets a removed agent in after a restart");
    }
    fleet.calm();
}
