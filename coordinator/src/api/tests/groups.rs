//! Services, groups, quorum.

use quorate_model::InstanceState;
use quorate_proto::v1;
use quorate_proto::v1::group_service_client::GroupServiceClient;
use tonic::Code;

use super::world::{World, dry, ledger_group, ledger_service, problem};

#[tokio::test]
async fn a_group_shows_its_arithmetic() {
    let world = World::new().with_ledger().await;
    let mut groups = GroupServiceClient::new(world.as_role("viewer"));
    let request = v1::GetGroupRequest { name: "ledger".into(), consistency: 0 };
    let group = groups.get_group(request.clone()).await.unwrap().into_inner().group.unwrap();
    assert_eq!(group.state(), v1::GroupState::Healthy);
    assert_eq!((group.voters, group.available, group.required, group.margin), (3, 3, 2, 1));
    assert_eq!(group.policy.unwrap().kind(), v1::QuorumPolicyKind::Majority);
    assert!(group.members.iter().all(|m| m.available && m.voter));
    world.see("node2", InstanceState::Failed);
    world.see("node3", InstanceState::Failed);
    let group = groups.get_group(request).await.unwrap().into_inner().group.unwrap();
    assert_eq!((group.state(), group.margin), (v1::GroupState::QuorumLost, -1));
    assert_eq!(group.members[1].out_reason, "unhealthy");
}

#[tokio::test]
async fn quorum_check_thinks_nodes_away() {
    let world = World::new().with_ledger().await;
    let mut groups = GroupServiceClient::new(world.as_role("viewer"));
    let mut check = async |down: &[&str]| {
        let down = down.iter().map(|d| (*d).to_owned()).collect();
        groups.check_quorum(v1::CheckQuorumRequest { down, consistency: 0 }).await
    };
    let one = check(&["node1"]).await.unwrap().into_inner().groups;
    assert_eq!((one[0].available, one[0].required, one[0].ok), (2, 2, true));
    let two = check(&["node1", "node2", "node1"]).await.unwrap().into_inner().groups;
    assert_eq!((two[0].available, two[0].margin, two[0].ok), (1, -1, false));
    assert_eq!(two[0].out.len(), 2);
    assert_eq!(check(&["node77"]).await.unwrap_err().code(), Code::NotFound);
    let refused = problem(&check(&["node1", "../x"]).await.unwrap_err());
    assert!(refused.what.starts_with("bad_field:down[1]:"), "{}", refused.what);
    let all = groups.get_quorum(v1::GetQuorumRequest::default()).await.unwrap().into_inner().groups;
    assert_eq!((all[0].name.as_str(), all[0].kind.as_str()), ("coordinator", "raft"));
    assert_eq!((all[1].name.as_str(), all[1].kind.as_str(), all[1].ok), ("ledger", "majority", true));
}

#[tokio::test]
async fn declaring_the_same_again_changes_nothing() {
    let world = World::new().with_ledger().await;
    let mut groups = GroupServiceClient::new(world.as_role("operator"));
    let request = v1::ApplyServiceRequest { spec: Some(ledger_service()), options: None };
    let again = groups.apply_service(request).await.unwrap().into_inner();
    assert!(!again.changed);
    assert_eq!(again.service.unwrap().instances.len(), 3);
    let request = v1::ApplyGroupRequest { spec: Some(ledger_group()), ..Default::default() };
    assert!(!groups.apply_group(request).await.unwrap().into_inner().changed);
    let request = v1::DeleteServiceRequest { name: "ledger".into(), options: None };
    let refused = problem(&groups.delete_service(request).await.unwrap_err());
    assert_eq!(refused.exit_code(), 3, "a group uses it: {refused}");
    let request = v1::DeleteGroupRequest { name: "ledger".into(), options: None };
    groups.delete_group(request).await.unwrap();
    let request = v1::GetGroupRequest { name: "ledger".into(), consistency: 0 };
    assert_eq!(groups.get_group(request).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_group_is_tried_together_with_the_service_that_is_declared_with_it() {
    let world = World::new();
    let mut groups = GroupServiceClient::new(world.as_role("operator"));
    let before = world.memory.state.lock().unwrap().digest();
    let mut ask = async |with_service: Option<v1::ServiceSpec>, options| {
        let spec = Some(ledger_group());
        groups
            .apply_group(v1::ApplyGroupRequest { spec, options, with_service })
            .await
            .map(tonic::Response::into_inner)
    };
    assert_eq!(ask(None, dry()).await.unwrap_err().code(), Code::NotFound, "there is no such service");
    assert!(ask(Some(ledger_service()), dry()).await.unwrap().changed);
    // What the service itself would be refused for, the group is refused for.
    let nowhere = v1::ServiceSpec { nodes: Some(v1::Selector::default()), ..ledger_service() };
    let refused = problem(&ask(Some(nowhere), dry()).await.unwrap_err());
    assert_eq!((refused.exit_code(), refused.reason.as_str()), (2, "EMPTY_SELECTOR"), "{refused}");
    let other = v1::ServiceSpec { name: "other".into(), ..ledger_service() };
    for (service, options) in [(other, dry()), (ledger_service(), None)] {
        let refused = problem(&ask(Some(service), options).await.unwrap_err());
        assert!(refused.what.starts_with("bad_field:with_service:"), "{}", refused.what);
    }
    assert_eq!(world.memory.state.lock().unwrap().digest(), before, "nothing was declared");
}

#[tokio::test]
async fn bad_declarations_name_the_field_and_store_nothing() {
    let world = World::new();
    let mut groups = GroupServiceClient::new(world.as_role("operator"));
    let before = world.memory.state.lock().unwrap().digest();
    let spec = v1::ServiceSpec { driver: None, ..ledger_service() };
    let request = v1::ApplyServiceRequest { spec: Some(spec), options: None };
    let refused = problem(&groups.apply_service(request).await.unwrap_err());
    assert_eq!(
        (refused.code, refused.what.as_str()),
        (Code::InvalidArgument, "bad_field:spec.driver: it is missing")
    );
    let spec = v1::GroupSpec { voters: vec!["node1".into(); 2], ..ledger_group() };
    let request = v1::ApplyGroupRequest { spec: Some(spec), ..Default::default() };
    let refused = problem(&groups.apply_group(request).await.unwrap_err());
    assert!(refused.what.starts_with("bad_field:spec.voters[1]:"), "{}", refused.what);
    let refused = groups.apply_group(v1::ApplyGroupRequest::default()).await.unwrap_err();
    assert!(problem(&refused).what.starts_with("bad_field:spec:"));
    assert_eq!(world.memory.state.lock().unwrap().digest(), before);
}
