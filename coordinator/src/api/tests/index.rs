//! `quorate-index`: every answer says which log index it was served at, and it is that state's.

use std::collections::{BTreeMap, BTreeSet};

use quorate_core::command::{BackupCommand, ClusterCommand, NodeCommand};
use quorate_core::{Command, State};
use quorate_model::backup::BackupReceipt;
use quorate_model::{BackupId, InstanceId, MemberName, ServiceName};
use quorate_proto::v1;
use quorate_proto::v1::action_service_client::ActionServiceClient;
use quorate_proto::v1::admin_service_client::AdminServiceClient;
use quorate_proto::v1::artifact_service_client::ArtifactServiceClient;
use quorate_proto::v1::audit_service_client::AuditServiceClient;
use quorate_proto::v1::backup_service_client::BackupServiceClient;
use quorate_proto::v1::failover_service_client::FailoverServiceClient;
use quorate_proto::v1::fleet_service_client::FleetServiceClient;
use quorate_proto::v1::group_service_client::GroupServiceClient;
use quorate_proto::v1::operation_service_client::OperationServiceClient;
use quorate_proto::v1::policy_service_client::PolicyServiceClient;
use quorate_proto::v1::schedule_service_client::ScheduleServiceClient;
use tonic::metadata::MetadataMap;

use super::world::{World, dry, ledger_group, ledger_service, node, options, problem};
use super::{artifacts, enrolment};
use crate::api::authz::RULES;

fn index(metadata: &MetadataMap) -> Option<u64> {
    metadata.get("quorate-index").map(|value| value.to_str().unwrap().parse().unwrap())
}

fn revision(world: &World) -> u64 {
    world.memory.state.lock().unwrap().revision.0
}

/// Nobody else writes here, so an answer's index is the last one there is, also of a change.
macro_rules! asked {
    ($seen:ident, $world:ident, $client:ident, $service:literal { $($name:literal $method:ident($request:expr),)+ }) => {
        $({
            let response = $client::new($world.admin()).$method($request).await.expect($name);
            let served = index(response.metadata());
            assert_eq!(served, Some(revision(&$world)), concat!($service, "/", $name));
            $seen.insert(concat!("/quorate.v1.", $service, "/", $name));
        })+
    };
}

async fn prepared() -> World {
    let world = World::new().with_ledger().await;
    world.memory.system(Command::Cluster(ClusterCommand::AddMember {
        name: MemberName::new("coord2").unwrap(),
        grpc: "127.0.0.1:1".into(),
        http: "127.0.0.1:2".into(),
    }));
    let instance = InstanceId { node: node("node1"), service: ServiceName::new("ledger").unwrap() };
    let receipt = BackupReceipt { path: "/b".into(), ..BackupReceipt::default() };
    let id = BackupId::new("b-1").unwrap();
    world.memory.system(Command::Backup(BackupCommand::Record { id, instance, receipt }));
    world
}

fn node_request(name: &str) -> v1::GetNodeRequest {
    v1::GetNodeRequest { name: name.into(), ..Default::default() }
}

fn labels(name: &str, set: &[(&str, &str)], request_id: &str) -> v1::UpdateNodeLabelsRequest {
    let set = set.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    v1::UpdateNodeLabelsRequest { name: name.into(), set, options: options(request_id), ..Default::default() }
}

fn restart() -> Option<v1::WorkSpec> {
    let waves = v1::WavePolicy { promotion: v1::Promotion::Every as i32, ..Default::default() };
    let rolling = v1::RollingSpec { group: "ledger".into(), waves: Some(waves), ..Default::default() };
    Some(v1::WorkSpec { kind: Some(v1::work_spec::Kind::Rolling(rolling)), max_failures: 0 })
}

async fn fleet_calls(world: &World, seen: &mut BTreeSet<&'static str>) {
    asked!(seen, world, FleetServiceClient, "FleetService" {
        "ListNodes" list_nodes(v1::ListNodesRequest::default()),
        "GetNode" get_node(node_request("node1")),
        "CordonNode" cordon_node(v1::CordonNodeRequest { name: "node1".into(), ..Default::default() }),
        "UncordonNode" uncordon_node(v1::UncordonNodeRequest { name: "node1".into(), ..Default::default() }),
        "DrainNode" drain_node(v1::DrainNodeRequest { name: "node3".into(), ..Default::default() }),
        "UndrainNode" undrain_node(v1::UndrainNodeRequest { name: "node3".into(), ..Default::default() }),
        "UpdateNodeLabels" update_node_labels(labels("node1", &[("a", "1")], "")),
        "ListTokens" list_tokens(v1::ListTokensRequest::default()),
    });
    let request = v1::CreateTokenRequest {
        purpose: v1::TokenPurpose::Agent as i32,
        ..v1::CreateTokenRequest::default()
    };
    let made = FleetServiceClient::new(world.admin()).create_token(request).await.unwrap();
    assert_eq!(index(made.metadata()), Some(revision(world)));
    seen.insert("/quorate.v1.FleetService/CreateToken");
    let token_id = made.into_inner().enrollment_token.unwrap().token_id;
    asked!(seen, world, FleetServiceClient, "FleetService" {
        "RevokeToken" revoke_token(v1::RevokeTokenRequest { token_id, ..Default::default() }),
        "RemoveNode" remove_node(v1::RemoveNodeRequest { name: "node3".into(), ..Default::default() }),
    });
    let token = enrolment::token(world, v1::TokenPurpose::Agent, "", "").await;
    let mut host = enrolment::joiner(world, "10.1.1.1:5", true);
    let joined = host.enroll(enrolment::request(&token, "node9", enrolment::csr("node9"))).await.unwrap();
    assert_eq!(index(joined.metadata()), Some(revision(world)));
    seen.insert("/quorate.v1.EnrollService/Enroll");
}

async fn group_calls(world: &World, seen: &mut BTreeSet<&'static str>) {
    let (service, group) = (ledger_service(), ledger_group());
    let other = v1::ServiceSpec { name: "other".into(), ..service.clone() };
    let extra = v1::GroupSpec { name: "extra".into(), ..group };
    let name = || "ledger".to_owned();
    asked!(seen, world, GroupServiceClient, "GroupService" {
        "ListServices" list_services(v1::ListServicesRequest::default()),
        "GetService" get_service(v1::GetServiceRequest { name: name(), ..Default::default() }),
        "ApplyService" apply_service(v1::ApplyServiceRequest { spec: Some(other), ..Default::default() }),
        "DeleteService" delete_service(v1::DeleteServiceRequest { name: "other".into(), ..Default::default() }),
        "ListGroups" list_groups(v1::ListGroupsRequest::default()),
        "GetGroup" get_group(v1::GetGroupRequest { name: name(), ..Default::default() }),
        "ApplyGroup" apply_group(v1::ApplyGroupRequest { spec: Some(extra), ..Default::default() }),
        "DeleteGroup" delete_group(v1::DeleteGroupRequest { name: "extra".into(), ..Default::default() }),
        "GetQuorum" get_quorum(v1::GetQuorumRequest::default()),
        "CheckQuorum" check_quorum(v1::CheckQuorumRequest { down: vec!["node1".into()], ..Default::default() }),
    });
}

async fn operation_calls(world: &World, seen: &mut BTreeSet<&'static str>) {
    let mut operations = OperationServiceClient::new(world.admin());
    let planned =
        operations.create_plan(v1::CreatePlanRequest { work: restart(), options: None }).await.unwrap();
    assert_eq!(index(planned.metadata()), Some(revision(world)));
    let plan_id = planned.into_inner().plan.unwrap().plan_id;
    let source = v1::create_operation_request::Source::PlanId(plan_id.clone());
    let request = v1::CreateOperationRequest { source: Some(source), options: None, ..Default::default() };
    let started = operations.create_operation(request).await.unwrap();
    assert_eq!(index(started.metadata()), Some(revision(world)));
    let name = started.into_inner().operation.unwrap().name;
    let watch = v1::WatchOperationRequest { name: name.clone(), after_revision: 0 };
    assert_eq!(index(operations.watch_operation(watch).await.unwrap().metadata()), Some(revision(world)));
    for path in ["CreatePlan", "CreateOperation", "WatchOperation"] {
        seen.insert(
            RULES.iter().find(|rule| rule.path.ends_with(&format!("OperationService/{path}"))).unwrap().path,
        );
    }
    let promote = v1::PromoteOperationRequest { name: name.clone(), all: true, options: None };
    let get = || v1::GetOperationRequest { name: name.clone(), ..Default::default() };
    asked!(seen, world, OperationServiceClient, "OperationService" {
        "GetPlan" get_plan(v1::GetPlanRequest { plan_id: plan_id.clone(), ..Default::default() }),
        "ListPlans" list_plans(v1::ListPlansRequest::default()),
        "GetOperation" get_operation(get()),
        "ListOperations" list_operations(v1::ListOperationsRequest::default()),
        "ExplainOperation" explain_operation(v1::ExplainOperationRequest { name: name.clone() }),
        "PauseOperation" pause_operation(v1::PauseOperationRequest { name: name.clone(), ..Default::default() }),
        "PromoteOperation" promote_operation(promote),
        "ListReleases" list_releases(v1::ListReleasesRequest { group: "ledger".into(), ..Default::default() }),
        "ResumeOperation" resume_operation(v1::ResumeOperationRequest { name: name.clone(), ..Default::default() }),
        "CancelOperation" cancel_operation(v1::CancelOperationRequest { name: name.clone(), ..Default::default() }),
    });
}

/// Two operations of somebody else that a policy holds: one is approved, one rejected.
async fn approval_calls(world: &World, seen: &mut BTreeSet<&'static str>) {
    let spec = Some(v1::PolicySpec { name: "eyes".into(), reason: "r".into(), ..Default::default() });
    let declared = v1::ApplyPolicyRequest { spec, ..Default::default() };
    PolicyServiceClient::new(world.admin()).apply_policy(declared).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..2 {
        let source = restart().map(v1::create_operation_request::Source::Work);
        let request = v1::CreateOperationRequest { source, ..Default::default() };
        let mut theirs = OperationServiceClient::new(world.as_role("operator"));
        let started = theirs.create_operation(request).await.unwrap().into_inner();
        held.push(started.operation.unwrap().approval.unwrap());
    }
    let why = |id: &str| Some(v1::ChangeOptions { reason: "seen".into(), ..options(id).unwrap() });
    let approve = v1::ApproveOperationRequest {
        name: held[0].operation.clone(),
        plan_hash: held[0].plan_hash.clone(),
        options: why("q-yes"),
    };
    let reject = v1::RejectOperationRequest {
        name: held[1].operation.clone(),
        plan_hash: held[1].plan_hash.clone(),
        options: why("q-no"),
    };
    asked!(seen, world, OperationServiceClient, "OperationService" {
        "ListApprovals" list_approvals(v1::ListApprovalsRequest::default()),
        "ApproveOperation" approve_operation(approve),
        "RejectOperation" reject_operation(reject),
    });
}

async fn other_calls(world: &World, seen: &mut BTreeSet<&'static str>) {
    asked!(seen, world, ActionServiceClient, "ActionService" {
        "ListActions" list_actions(v1::ListActionsRequest::default()),
    });
    let spec = Some(v1::FreezeSpec { name: "f".into(), reason: "r".into(), ..Default::default() });
    let window = v1::WindowSpec {
        name: "w".into(),
        reason: "r".into(),
        zone: "UTC".into(),
        when: Some(v1::window_spec::When::Cron("0 22 * * 6".into())),
        duration: Some(prost_types::Duration { seconds: 3_600, nanos: 0 }),
        ..Default::default()
    };
    let schedule = v1::ScheduleSpec {
        name: "s".into(),
        reason: "r".into(),
        zone: "UTC".into(),
        when: Some(v1::schedule_spec::When::Cron("0 22 * * 6".into())),
        work: Some(v1::WorkSpec {
            kind: Some(v1::work_spec::Kind::Rolling(v1::RollingSpec {
                group: "ledger".into(),
                ..Default::default()
            })),
            max_failures: 0,
        }),
        ..Default::default()
    };
    asked!(seen, world, ScheduleServiceClient, "ScheduleService" {
        "ApplyFreeze" apply_freeze(v1::ApplyFreezeRequest { spec, ..Default::default() }),
        "ListFreezes" list_freezes(v1::ListFreezesRequest::default()),
        "GetFreeze" get_freeze(v1::GetFreezeRequest { name: "f".into(), ..Default::default() }),
        "DeleteFreeze" delete_freeze(v1::DeleteFreezeRequest { name: "f".into(), ..Default::default() }),
        "ApplyWindow" apply_window(v1::ApplyWindowRequest { spec: Some(window), ..Default::default() }),
        "ListWindows" list_windows(v1::ListWindowsRequest::default()),
        "GetWindow" get_window(v1::GetWindowRequest { name: "w".into(), ..Default::default() }),
        "DeleteWindow" delete_window(v1::DeleteWindowRequest { name: "w".into(), ..Default::default() }),
        "ApplySchedule" apply_schedule(v1::ApplyScheduleRequest { spec: Some(schedule), ..Default::default() }),
        "ListSchedules" list_schedules(v1::ListSchedulesRequest::default()),
        "GetSchedule" get_schedule(v1::GetScheduleRequest { name: "s".into(), ..Default::default() }),
        "PauseSchedule" pause_schedule(v1::PauseScheduleRequest { name: "s".into(), ..Default::default() }),
        "ResumeSchedule" resume_schedule(v1::ResumeScheduleRequest { name: "s".into(), ..Default::default() }),
        "RunSchedule" run_schedule(v1::RunScheduleRequest { name: "s".into(), ..Default::default() }),
        "DeleteSchedule" delete_schedule(v1::DeleteScheduleRequest { name: "s".into(), ..Default::default() }),
    });
    let policy = v1::PolicySpec { name: "p".into(), reason: "r".into(), ..Default::default() };
    asked!(seen, world, PolicyServiceClient, "PolicyService" {
        "ApplyPolicy" apply_policy(v1::ApplyPolicyRequest { spec: Some(policy), ..Default::default() }),
        "ListPolicies" list_policies(v1::ListPoliciesRequest::default()),
        "GetPolicy" get_policy(v1::GetPolicyRequest { name: "p".into(), ..Default::default() }),
        "DeletePolicy" delete_policy(v1::DeletePolicyRequest { name: "p".into(), ..Default::default() }),
    });
    asked!(seen, world, BackupServiceClient, "BackupService" {
        "ListBackups" list_backups(v1::ListBackupsRequest::default()),
        "GetBackup" get_backup(v1::GetBackupRequest { backup_id: "b-1".into(), ..Default::default() }),
    });
    asked!(seen, world, AuditServiceClient, "AuditService" {
        "ListAuditRecords" list_audit_records(v1::ListAuditRecordsRequest::default()),
        "WatchAuditRecords" watch_audit_records(v1::WatchAuditRecordsRequest::default()),
        "VerifyAudit" verify_audit(v1::VerifyAuditRequest::default()),
    });
}

async fn failover_calls(world: &World, seen: &mut BTreeSet<&'static str>) {
    let group = || "ledger".to_owned();
    asked!(seen, world, FailoverServiceClient, "FailoverService" {
        "ListFailovers" list_failovers(v1::ListFailoversRequest::default()),
        "GetFailover" get_failover(v1::GetFailoverRequest { group: group(), consistency: 0 }),
        "AcknowledgeFailover" acknowledge_failover(v1::AcknowledgeFailoverRequest { group: group(), options: None }),
    });
}

async fn admin_calls(world: &World, seen: &mut BTreeSet<&'static str>) {
    asked!(seen, world, AdminServiceClient, "AdminService" {
        "ListMembers" list_members(v1::ListMembersRequest::default()),
        "RemoveMember" remove_member(v1::RemoveMemberRequest { name: "coord2".into(), ..Default::default() }),
        "PromoteMember" promote_member(v1::PromoteMemberRequest { name: "coord1".into(), options: None }),
        "CompareState" compare_state(v1::CompareStateRequest {}),
        "SaveSnapshot" save_snapshot(v1::SaveSnapshotRequest { consistency: 2, ..Default::default() }),
        "TransferLeader" transfer_leader(v1::TransferLeaderRequest { name: "coord1".into(), options: None }),
        "TriggerSnapshot" trigger_snapshot(v1::TriggerSnapshotRequest::default()),
        "GetStatus" get_status(v1::GetStatusRequest::default()),
        "GetCaller" get_caller(v1::GetCallerRequest {}),
    });
}

async fn artifact_calls(world: &World, seen: &mut BTreeSet<&'static str>) {
    let bytes = b"an artifact";
    let digest = || artifacts::digest(bytes);
    asked!(seen, world, ArtifactServiceClient, "ArtifactService" {
        "BeginUpload" begin_upload(artifacts::begin(bytes)),
        "WriteArtifact" write_artifact(artifacts::write(bytes, 0, bytes.len())),
        "FinishUpload" finish_upload(artifacts::finish(bytes)),
        "ListArtifacts" list_artifacts(v1::ListArtifactsRequest::default()),
        "GetArtifact" get_artifact(v1::GetArtifactRequest { digest: digest(), consistency: 0 }),
        "ReadArtifact" read_artifact(v1::ReadArtifactRequest { digest: digest(), ..Default::default() }),
        "DeleteArtifact" delete_artifact(v1::DeleteArtifactRequest { digest: digest(), options: None }),
    });
}

#[tokio::test]
async fn every_call_says_which_index_it_was_served_at() {
    let world = prepared().await;
    let mut seen = BTreeSet::new();
    group_calls(&world, &mut seen).await;
    operation_calls(&world, &mut seen).await;
    approval_calls(&world, &mut seen).await;
    other_calls(&world, &mut seen).await;
    failover_calls(&world, &mut seen).await;
    admin_calls(&world, &mut seen).await;
    artifact_calls(&world, &mut seen).await;
    fleet_calls(&world, &mut seen).await;
    let ours = RULES.iter().map(|rule| rule.path).filter(|path| path.starts_with("/quorate.v1."));
    let missing: Vec<&str> = ours.filter(|path| !seen.contains(path)).collect();
    assert!(missing.is_empty(), "not asked here: {missing:?}");
}

#[tokio::test]
async fn refusals_of_the_state_have_an_index_and_others_have_none() {
    let world = World::new();
    let mut fleet = FleetServiceClient::new(world.admin());
    let unknown = fleet.get_node(node_request("node9")).await.unwrap_err();
    assert_eq!(index(unknown.metadata()), Some(revision(&world)));
    let refused = fleet.update_node_labels(labels("node9", &[("a", "1")], "r1")).await.unwrap_err();
    assert_eq!(
        (problem(&refused).reason.as_str(), index(refused.metadata())),
        ("NOT_FOUND", Some(revision(&world)))
    );
    let tried = v1::CordonNodeRequest { name: "node9".into(), options: dry() };
    assert_eq!(index(fleet.cordon_node(tried).await.unwrap_err().metadata()), Some(revision(&world)));
    let malformed = fleet.get_node(node_request("../x")).await.unwrap_err();
    assert_eq!(index(malformed.metadata()), None, "it never came as far as the state");
}

#[tokio::test]
async fn a_repeated_change_tells_the_index_of_the_first_time() {
    let world = World::new();
    let mut fleet = FleetServiceClient::new(world.admin());
    let first = fleet.update_node_labels(labels("node1", &[("a", "1")], "same")).await.unwrap();
    let done = index(first.metadata());
    fleet.update_node_labels(labels("node1", &[("a", "2")], "next")).await.unwrap();
    // Somebody else's change in between made this "used before for something else" once.
    let again = fleet.update_node_labels(labels("node1", &[("a", "1")], "same")).await.unwrap();
    assert_eq!(index(again.metadata()), done);
    assert_eq!(again.into_inner().node.unwrap().labels["a"], "2", "done once");
}

/// Both callers were told that their label is set.
#[tokio::test]
async fn a_label_set_by_somebody_else_meanwhile_is_not_lost() {
    let world = World::new();
    let mut fleet = FleetServiceClient::new(world.admin());
    let set = BTreeMap::from([("theirs".to_owned(), "1".to_owned())]);
    let theirs = NodeCommand::UpdateLabels { node: node("node1"), set, remove: Vec::new() };
    *world.memory.before_propose.lock().unwrap() = Some(Command::Node(theirs));
    fleet.update_node_labels(labels("node1", &[("ours", "1")], "")).await.unwrap();
    let node = fleet.get_node(node_request("node1")).await.unwrap().into_inner().node.unwrap();
    let both = BTreeMap::from([("ours", "1"), ("theirs", "1")].map(|(k, v)| (k.to_owned(), v.to_owned())));
    assert_eq!(node.labels, both);
}

fn label_of(state: &State, name: &str) -> Option<String> {
    state.nodes.by_name[&node(name)].labels.get("n").cloned()
}

/// A list that is made in several looks mixes states.
#[tokio::test]
async fn a_list_is_the_state_at_its_index() {
    let world = World::new();
    let update = |n: u32| {
        let set = BTreeMap::from([("n".to_owned(), n.to_string())]);
        Command::Node(NodeCommand::UpdateLabels { node: node("node3"), set, remove: Vec::new() })
    };
    let mut at = BTreeMap::from([(revision(&world), None)]);
    at.extend((1..=4_u32).map(|n| (revision(&world) + u64::from(n), Some(n.to_string()))));
    *world.memory.before_observe.lock().unwrap() = (1..=4).rev().map(update).collect();
    let mut fleet = FleetServiceClient::new(world.admin());
    let list = fleet.list_nodes(v1::ListNodesRequest::default()).await.unwrap();
    let served = index(list.metadata()).unwrap();
    let nodes = list.into_inner().nodes;
    let shown = nodes.iter().find(|n| n.name == "node3").unwrap().labels.get("n").cloned();
    assert_eq!(shown, at[&served], "at {served}");
    assert!(label_of(&world.memory.state.lock().unwrap(), "node3").is_some(), "somebody wrote meanwhile");
}
