//! Nodes and tokens.

use std::collections::BTreeMap;
use std::str::FromStr;

use quorate_common::tls::JoinToken;
use quorate_model::{InstanceState, Role};
use quorate_proto::v1;
use quorate_proto::v1::fleet_service_client::FleetServiceClient;
use tonic::Code;

use super::world::{World, dry, options, problem};

#[tokio::test]
async fn a_node_shows_what_scripts_rely_on() {
    let world = World::new().with_ledger().await;
    let mut fleet = FleetServiceClient::new(world.as_role("viewer"));
    let request = v1::GetNodeRequest { name: "node1".into(), consistency: 0 };
    let node = fleet.get_node(request).await.unwrap().into_inner().node.unwrap();
    assert_eq!(node.status(), v1::NodeStatus::Ready);
    assert_eq!(node.scheduling(), v1::NodeScheduling::Eligible);
    assert_eq!(node.drain(), v1::NodeDrain::None);
    assert_eq!((node.node_id, node.agent_version.as_str(), node.clock_offset_ms), (1, "0.1.0", -3));
    assert_eq!(node.instances.len(), 1);
    assert_eq!(node.instances[0].observed(), v1::InstanceState::Healthy);
    assert!(node.certificate_expires.is_some());
}

#[tokio::test]
async fn pages_cover_all_nodes_once() {
    let world = World::new();
    let mut fleet = FleetServiceClient::new(world.as_role("viewer"));
    let (mut names, mut token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListNodesRequest { page_size: 2, page_token: token.clone(), ..Default::default() };
        let page = fleet.list_nodes(request).await.unwrap().into_inner();
        names.extend(page.nodes.into_iter().map(|n| n.name));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(names, ["node1", "node2", "node3"]);
    let request = v1::ListNodesRequest { page_token: "!".into(), ..Default::default() };
    let refused = problem(&fleet.list_nodes(request).await.unwrap_err());
    assert!(refused.what.starts_with("bad_field:page_token"), "{}", refused.what);
    let empty = v1::ListNodesRequest { selector: Some(v1::Selector::default()), ..Default::default() };
    assert_eq!(problem(&fleet.list_nodes(empty).await.unwrap_err()).reason, "EMPTY_SELECTOR");
}

#[tokio::test]
async fn the_same_request_id_gives_the_same_answer_and_another_request_is_a_conflict() {
    let world = World::new();
    let mut fleet = FleetServiceClient::new(world.as_role("operator"));
    let request = v1::CordonNodeRequest { name: "node1".into(), options: options("req-7") };
    fleet.cordon_node(request.clone()).await.unwrap();
    let audited = world.memory.state.lock().unwrap().audit.head.seq;
    fleet.cordon_node(request).await.unwrap();
    assert_eq!(world.memory.state.lock().unwrap().audit.head.seq, audited, "done once");
    let other = v1::CordonNodeRequest { name: "node2".into(), options: options("req-7") };
    let refused = problem(&fleet.cordon_node(other).await.unwrap_err());
    assert_eq!((refused.code, refused.reason.as_str()), (Code::AlreadyExists, "REQUEST_ID_CONFLICT"));
    assert_eq!(refused.request_id, "req-7");
    let bad = v1::CordonNodeRequest { name: "node2".into(), options: options("a b\n") };
    let refused = problem(&fleet.cordon_node(bad).await.unwrap_err());
    assert!(refused.what.starts_with("bad_field:options.request_id"), "{}", refused.what);
    let minted = v1::UncordonNodeRequest { name: "node1".into(), options: None };
    let response = fleet.uncordon_node(minted).await.unwrap();
    let id = response.metadata().get("quorate-request-id").unwrap().to_str().unwrap();
    assert_eq!(uuid::Uuid::parse_str(id).unwrap().get_version_num(), 7);
}

#[tokio::test]
async fn a_dry_run_says_the_same_and_changes_nothing() {
    let world = World::new();
    let mut fleet = FleetServiceClient::new(world.as_role("admin"));
    let before = world.memory.state.lock().unwrap().digest();
    fleet.cordon_node(v1::CordonNodeRequest { name: "node1".into(), options: dry() }).await.unwrap();
    let refused = fleet.cordon_node(v1::CordonNodeRequest { name: "node9".into(), options: dry() }).await;
    assert_eq!(refused.unwrap_err().code(), Code::NotFound);
    fleet.remove_node(v1::RemoveNodeRequest { name: "node1".into(), options: dry() }).await.unwrap();
    let token = v1::CreateTokenRequest {
        purpose: v1::TokenPurpose::Coordinator as i32,
        options: dry(),
        ..Default::default()
    };
    assert!(fleet.create_token(token).await.unwrap().into_inner().token.is_empty());
    assert_eq!(world.memory.state.lock().unwrap().digest(), before);
}

#[tokio::test]
async fn labels_are_merged_and_hostile_ones_refused() {
    let world = World::new();
    let mut fleet = FleetServiceClient::new(world.as_role("operator"));
    let update = |set: &[(&str, &str)], remove: &[&str]| {
        let request = v1::UpdateNodeLabelsRequest {
            name: "node1".into(),
            set: set.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            remove: remove.iter().map(|r| (*r).to_owned()).collect(),
            options: None,
        };
        let mut fleet = fleet.clone();
        async move { fleet.update_node_labels(request).await.map(|r| r.into_inner().node.unwrap().labels) }
    };
    update(&[("zone", "a"), ("role", "voter")], &[]).await.unwrap();
    let labels = update(&[("zone", "b")], &["role"]).await.unwrap();
    assert_eq!(labels, BTreeMap::from([("zone".to_owned(), "b".to_owned())]));
    for (set, remove, field) in [
        (&[("k", "\u{1b}[31m")][..], &[][..], "set"),
        (&[][..], &[][..], "set"),
        (&[("a", "1")][..], &["a"][..], "remove[0]"),
        (&[][..], &["x y"][..], "remove[0]"),
    ] {
        let refused = problem(&update(set, remove).await.unwrap_err());
        assert!(refused.what.starts_with(&format!("bad_field:{field}:")), "{}", refused.what);
    }
    let request = v1::ListNodesRequest {
        selector: Some(v1::Selector { labels: "zone=b".into(), ..Default::default() }),
        ..Default::default()
    };
    assert_eq!(fleet.list_nodes(request).await.unwrap().into_inner().nodes.len(), 1);
}

#[tokio::test]
async fn draining_stops_what_runs_there_and_undraining_starts_it_again() {
    let world = World::new().with_ledger().await;
    let mut fleet = FleetServiceClient::new(world.as_role("operator"));
    let request = v1::DrainNodeRequest { name: "node3".into(), options: options("drain-1") };
    let drained = fleet.drain_node(request.clone()).await.unwrap().into_inner();
    assert_eq!(drained.node.as_ref().unwrap().drain(), v1::NodeDrain::Draining);
    assert_eq!(drained.operations.len(), 1);
    assert!(drained.operation.starts_with("operations/r-"));
    let again = fleet.drain_node(request).await.unwrap().into_inner();
    assert_eq!(again.operations, drained.operations, "the same request is the same drain");
    // A second one would take the quorum, and is refused before anything is changed.
    let before = world.memory.state.lock().unwrap().nodes.clone();
    let second = v1::DrainNodeRequest { name: "node2".into(), options: None };
    let refused = problem(&fleet.drain_node(second).await.unwrap_err());
    assert_eq!((refused.code, refused.exit_code()), (Code::FailedPrecondition, 3));
    assert_eq!(refused.reason, "QUORUM_MARGIN");
    assert!(refused.why.iter().any(|(s, t)| s == "group ledger" && t.contains("needs 2")), "{refused:?}");
    assert_eq!(world.memory.state.lock().unwrap().nodes, before);
    assert_eq!(world.memory.state.lock().unwrap().operations.len(), 1);
    // The cordon of the drain does not hold up the stop that the drain is for.
    let due = world.memory.obs.lock().unwrap().clone();
    let state = world.memory.state.lock().unwrap().clone();
    let mut n = 0;
    let commands =
        quorate_core::next::next(&state, &due, quorate_model::Timestamp(super::world::NOW), &mut || {
            n += 1;
            n
        });
    let starts = commands.iter().any(|c| matches!(c, quorate_core::Command::Step(_)));
    assert!(starts, "the stop is not proposed: {commands:?}");
}

#[tokio::test]
async fn undrain_starts_only_what_the_drain_stopped() {
    use quorate_core::command::InstanceCommand;
    use quorate_model::service::DesiredState;
    let world = World::new().with_ledger().await;
    let mut fleet = FleetServiceClient::new(world.as_role("operator"));
    let request = v1::DrainNodeRequest { name: "node3".into(), options: None };
    fleet.drain_node(request).await.unwrap();
    let id = quorate_model::InstanceId {
        node: super::world::node("node3"),
        service: quorate_model::ServiceName::new("ledger").unwrap(),
    };
    // As the end of the stop leaves it.
    let stopped = InstanceCommand::SetDesired { instance: id, desired: DesiredState::Stopped };
    world.memory.system(quorate_core::Command::Instance(stopped));
    world.see("node3", InstanceState::Stopped);
    let request = v1::UndrainNodeRequest { name: "node3".into(), options: None };
    let undrained = fleet.undrain_node(request.clone()).await.unwrap().into_inner();
    assert_eq!(undrained.node.unwrap().drain(), v1::NodeDrain::None);
    assert_eq!(undrained.operations.len(), 1);
    let again = fleet.undrain_node(request).await.unwrap().into_inner();
    assert!(again.operations.is_empty(), "nothing is drained any more");
}

#[tokio::test]
async fn a_token_shows_its_secret_once() {
    let world = World::new();
    let mut fleet = FleetServiceClient::new(world.admin());
    let request = v1::CreateTokenRequest {
        purpose: v1::TokenPurpose::Agent as i32,
        name: "node9".into(),
        options: options("tok-1"),
        ..Default::default()
    };
    let made = fleet.create_token(request.clone()).await.unwrap().into_inner();
    let token = JoinToken::from_str(&made.token).unwrap();
    let kept = made.enrollment_token.unwrap();
    assert_eq!((token.purpose, token.id.as_str()), (Role::Agent, kept.token_id.as_str()));
    assert_eq!(token.addresses.len(), 1);
    let again = problem(&fleet.create_token(request).await.unwrap_err());
    assert_eq!(again.reason, "ALREADY_EXISTS");
    let listed = fleet.list_tokens(v1::ListTokensRequest::default()).await.unwrap().into_inner();
    let text = format!("{listed:?}");
    assert!(!text.contains(&quorate_common::tls::hex(&token.secret.hash())), "not even the hash is shown");
    let revoke = v1::RevokeTokenRequest { token_id: kept.token_id, options: None };
    assert!(fleet.revoke_token(revoke).await.unwrap().into_inner().enrollment_token.unwrap().revoked);
}

#[tokio::test]
async fn bad_tokens_name_their_field() {
    let world = World::new();
    let fleet = FleetServiceClient::new(world.admin());
    let field = |request: v1::CreateTokenRequest| {
        let mut fleet = fleet.clone();
        async move { problem(&fleet.create_token(request).await.unwrap_err()).what }
    };
    let user = v1::TokenPurpose::User as i32;
    let long = Some(prost_types::Duration { seconds: 8 * 86_400, nanos: 0 });
    let negative = Some(prost_types::Duration { seconds: -1, nanos: 0 });
    let agent = || v1::CreateTokenRequest { purpose: v1::TokenPurpose::Agent as i32, ..Default::default() };
    for (request, expected) in [
        (v1::CreateTokenRequest::default(), "purpose"),
        (v1::CreateTokenRequest { purpose: 77, ..Default::default() }, "purpose"),
        (v1::CreateTokenRequest { purpose: user, name: "bob".into(), ..Default::default() }, "access_role"),
        (v1::CreateTokenRequest { purpose: user, access_role: "ADMIN".into(), ..Default::default() }, "name"),
        (v1::CreateTokenRequest { ttl: long, ..agent() }, "ttl"),
        (v1::CreateTokenRequest { ttl: negative, ..agent() }, "ttl"),
        (v1::CreateTokenRequest { access_role: "ADMIN".into(), ..agent() }, "access_role"),
    ] {
        let what = field(request).await;
        assert!(what.starts_with(&format!("bad_field:{expected}:")), "{what}");
    }
}

#[tokio::test]
async fn a_removed_node_is_gone_with_its_certificate() {
    let world = World::new();
    let mut fleet = FleetServiceClient::new(world.admin());
    let request = v1::RemoveNodeRequest { name: "node1".into(), options: None };
    let node = fleet.remove_node(request).await.unwrap().into_inner().node.unwrap();
    assert_eq!(node.status(), v1::NodeStatus::Removed);
    let nodes = fleet.list_nodes(v1::ListNodesRequest::default()).await.unwrap().into_inner().nodes;
    assert_eq!(nodes.len(), 2);
    let mut as_agent = FleetServiceClient::new(world.as_role("agent"));
    let refused = as_agent.list_nodes(v1::ListNodesRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "its certificate is refused, not only its role");
}
