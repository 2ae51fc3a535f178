//! The HTTPS port's pages, in process.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt;
use quorate_proto::v1;
use quorate_proto::v1::fleet_service_client::FleetServiceClient;
use quorate_proto::v1::group_service_client::GroupServiceClient;
use tower::ServiceExt;

use super::router;
use crate::api::tests::World;
use crate::api::tests::world::ledger_service;
use crate::listen::HttpPeer;
use crate::metrics;

async fn get(world: &World, from: &str, path: &str) -> (StatusCode, String) {
    let remote = SocketAddr::new(from.parse::<IpAddr>().unwrap(), 9);
    let request = Request::get(path).extension(HttpPeer { tls: true, remote }).body(Body::empty()).unwrap();
    let response = router(world.api.clone()).oneshot(request).await.unwrap();
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

#[tokio::test]
async fn health_and_readiness_are_told_apart() {
    let world = World::new();
    assert_eq!(get(&world, "10.0.0.9", "/healthz").await, (StatusCode::OK, "ok\n".into()));
    assert_eq!(get(&world, "10.0.0.9", "/readyz").await.0, StatusCode::OK);
    world.memory.has_leader.store(false, Ordering::Relaxed);
    assert_eq!(get(&world, "10.0.0.9", "/healthz").await.0, StatusCode::OK, "the process still lives");
    let (status, text) = get(&world, "10.0.0.9", "/readyz?verbose").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(text.contains("[-] quorum: no leader is known"), "{text}");
}

#[tokio::test]
async fn a_full_disk_is_told_and_takes_nobody_out_of_service() {
    let world = World::new();
    *world.memory.low_space.lock().unwrap() = Some("0 bytes free of 9: 5 must stay free".into());
    let (status, text) = get(&world, "10.0.0.9", "/readyz?verbose").await;
    assert_eq!(status, StatusCode::OK);
    assert!(text.contains("[!] storage: 0 bytes free of 9: 5 must stay free"), "{text}");
    let metrics = get(&world, "10.0.0.9", "/metrics").await.1;
    assert!(metrics.contains("quorate_coordinator_low_space 1"), "{metrics}");
}

/// A primary and its standby of which nobody is known to lead.
async fn apply_pair(world: &World) {
    let mut groups = GroupServiceClient::new(world.admin());
    let membership = v1::MembershipProbe {
        url: "http://127.0.0.1:1/status".into(),
        members: "members".into(),
        key: "node".into(),
        this: "${node}".into(),
        role: "role".into(),
        ..Default::default()
    };
    let probe = v1::ProbeSpec {
        name: "membership".into(),
        kind: Some(v1::probe_spec::Kind::Membership(membership)),
        ..Default::default()
    };
    let service = v1::ServiceSpec { name: "pair".into(), probes: vec![probe], ..ledger_service() };
    let request = v1::ApplyServiceRequest { spec: Some(service), ..Default::default() };
    groups.apply_service(request).await.unwrap();
    let kind = v1::QuorumPolicyKind::PrimaryStandby as i32;
    let group = v1::GroupSpec {
        name: "pair".into(),
        service: "pair".into(),
        voters: vec!["node1".into(), "node2".into()],
        policy: Some(v1::QuorumPolicy { kind, ..Default::default() }),
        failover: Some(v1::GroupFailover { promote_hook: "promote".into(), ..Default::default() }),
        ..Default::default()
    };
    let request = v1::ApplyGroupRequest { spec: Some(group), ..Default::default() };
    groups.apply_group(request).await.unwrap();
}

#[tokio::test]
async fn every_metric_is_exported() {
    let world = World::new().with_ledger().await;
    apply_pair(&world).await;
    let mut fleet = FleetServiceClient::new(world.as_role("viewer"));
    fleet.list_tokens(v1::ListTokensRequest::default()).await.unwrap_err();
    let (status, text) = get(&world, "10.0.0.9", "/metrics").await;
    assert_eq!(status, StatusCode::OK);
    assert!(text.contains("quorate_coordinator_refusals_total{reason=\"NOT_ALLOWED\"} 1"), "{text}");
    for (name, _) in metrics::ALL {
        assert!(text.contains(name), "{name} is missing");
    }
    assert!(text.contains("quorate_coordinator_group_margin{group=\"ledger\"} 1"), "{text}");
    assert!(text.contains("quorate_coordinator_group_alarm{group=\"ledger\"} 0"), "{text}");
    assert!(text.contains("quorate_coordinator_group_primary{group=\"pair\"} 0"), "{text}");
    assert!(text.ends_with("# EOF\n"));
}

#[tokio::test]
async fn what_names_hosts_is_for_this_host_only() {
    let world = World::new();
    for path in ["/sd/prometheus", "/v1/status", "/v1/nodes"] {
        let (status, text) = get(&world, "10.0.0.9", path).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{path}");
        assert!(text.contains("NOT_ALLOWED") && !text.contains("node1"), "{text}");
    }
    let (status, text) = get(&world, "::1", "/sd/prometheus").await;
    assert_eq!(status, StatusCode::OK);
    let targets: serde_json::Value = serde_json::from_str(&text).unwrap();
    // An agent's metrics are on its own loopback: no target of another host's Prometheus.
    assert_eq!(targets.as_array().unwrap().len(), 1, "{text}");
    assert_eq!(targets[0]["labels"]["quorate_member"], "coord1");
    let (_, text) = get(&world, "::1", "/sd/prometheus?agents=7482").await;
    let targets: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(targets.as_array().unwrap().len(), 4);
    assert_eq!(targets[1]["targets"][0], "10.0.0.1:7482");
    let (status, text) = get(&world, "::1", "/sd/prometheus?agents=99999").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(text.contains("INVALID_ARGUMENT"), "{text}");
    let (_, text) = get(&world, "127.0.0.1", "/v1/status").await;
    let status: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&status["leader"], &status["nodes"]["READY"]), (&"coord1".into(), &3.into()));
    assert_eq!(get(&world, "127.0.0.1", "/v1/nodes").await.0, StatusCode::NOT_FOUND);
    assert_eq!(get(&world, "127.0.0.1", "/../../etc/passwd").await.0, StatusCode::NOT_FOUND);
    let unknown = Request::get("/v1/status").body(Body::empty()).unwrap();
    let response = router(world.api.clone()).oneshot(unknown).await.unwrap();
    assert_eq!(response.status(), StatusCode::FORBIDDEN, "a request from nowhere is nobody's");
}
