//! Audit, members, backups, the catalogue.

use quorate_core::Command;
use quorate_core::command::BackupCommand;
use quorate_model::backup::BackupReceipt;
use quorate_model::{BackupId, InstanceId, ServiceName};
use quorate_proto::v1;
use quorate_proto::v1::action_service_client::ActionServiceClient;
use quorate_proto::v1::admin_service_client::AdminServiceClient;
use quorate_proto::v1::audit_service_client::AuditServiceClient;
use quorate_proto::v1::backup_service_client::BackupServiceClient;
use quorate_proto::v1::fleet_service_client::FleetServiceClient;
use tokio_stream::StreamExt;
use tonic::Code;

use super::world::{World, dry, node, options, problem};

#[tokio::test]
async fn every_change_and_every_refusal_is_in_the_record() {
    let world = World::new();
    let mut fleet = FleetServiceClient::new(world.as_role("operator"));
    let mut audit = AuditServiceClient::new(world.as_role("viewer"));
    let watch = v1::WatchAuditRecordsRequest { after_sequence: 0 };
    let mut stream = audit.watch_audit_records(watch).await.unwrap().into_inner();
    fleet.cordon_node(v1::CordonNodeRequest { name: "node1".into(), options: options("q-1") }).await.unwrap();
    fleet.cordon_node(v1::CordonNodeRequest { name: "node9".into(), options: None }).await.unwrap_err();
    let changed = stream.next().await.unwrap().unwrap().record.unwrap();
    assert_eq!((changed.event_type.as_str(), changed.action.as_str()), ("change", "node.cordon"));
    assert_eq!((changed.principal.as_str(), changed.client_ip.as_str()), ("user:operator", "192.0.2.7"));
    assert_eq!((changed.reason.as_str(), changed.request_id.as_str()), ("test", "q-1"));
    let refused = stream.next().await.unwrap().unwrap().record.unwrap();
    assert_eq!((refused.result.as_str(), refused.reason.as_str()), ("REFUSED", "NOT_FOUND"));
    assert_eq!(refused.sequence, changed.sequence + 1);
    // Resumed after what was seen.
    let watch = v1::WatchAuditRecordsRequest { after_sequence: changed.sequence };
    let mut stream = audit.watch_audit_records(watch).await.unwrap().into_inner();
    assert_eq!(stream.next().await.unwrap().unwrap().record.unwrap(), refused);
    let list = v1::ListAuditRecordsRequest { page_size: 1, ..Default::default() };
    let page = audit.list_audit_records(list).await.unwrap().into_inner();
    assert_eq!((page.records[0].sequence, page.next_page_token.is_empty()), (refused.sequence, false));
    let token = page.next_page_token;
    let list = v1::ListAuditRecordsRequest { page_size: 1, page_token: token, ..Default::default() };
    let page = audit.list_audit_records(list).await.unwrap().into_inner();
    assert_eq!(page.records[0], changed);
}

#[tokio::test]
async fn an_edited_record_is_found() {
    let world = World::new();
    let mut audit = AuditServiceClient::new(world.as_role("viewer"));
    let good = audit.verify_audit(v1::VerifyAuditRequest {}).await.unwrap().into_inner();
    assert!(good.ok && good.records > 3 && good.head.len() == 64);
    world.memory.state.lock().unwrap().audit.records[1].what.details.push('!');
    let bad = audit.verify_audit(v1::VerifyAuditRequest {}).await.unwrap().into_inner();
    assert_eq!((bad.ok, bad.broken_sequence), (false, 2));
}

#[tokio::test]
async fn members_status_and_caller() {
    let world = World::new();
    let mut admin = AdminServiceClient::new(world.admin());
    let members = admin.list_members(v1::ListMembersRequest::default()).await.unwrap().into_inner().members;
    assert_eq!((members[0].name.as_str(), members[0].state()), ("coord1", v1::MemberState::Leader));
    assert!(members[0].voter && members[0].term == 7 && members[0].applied_index > 0);
    let status = admin.get_status(v1::GetStatusRequest::default()).await.unwrap().into_inner();
    assert_eq!((status.leader.as_str(), status.members_up, status.nodes["READY"]), ("coord1", 1, 3));
    let caller = admin.get_caller(v1::GetCallerRequest {}).await.unwrap().into_inner();
    assert_eq!((caller.principal.as_str(), caller.access_role.as_str()), ("user:admin", "ADMIN"));
    let snapshot = admin.trigger_snapshot(v1::TriggerSnapshotRequest::default()).await.unwrap().into_inner();
    assert_eq!(snapshot.index, status.index);
    let request = v1::RemoveMemberRequest { name: "coord1".into(), options: dry(), ..Default::default() };
    let refused = problem(&admin.remove_member(request).await.unwrap_err());
    assert_eq!((refused.reason.as_str(), refused.exit_code()), ("CONFLICT", 3), "the last one stays");
    assert!(world.memory.retired.lock().unwrap().is_empty(), "a dry run touches no Raft group");
    let request = v1::RemoveMemberRequest { name: "coord9".into(), ..Default::default() };
    assert_eq!(admin.remove_member(request).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn the_catalogues() {
    let world = World::new();
    let mut actions = ActionServiceClient::new(world.as_role("viewer"));
    let list = actions.list_actions(v1::ListActionsRequest {}).await.unwrap().into_inner().actions;
    assert_eq!(list.len(), quorate_model::ActionKind::ALL.len());
    assert!(list.windows(2).all(|w| w[0].name < w[1].name) && list.iter().all(|a| a.nodes == 3));
    for n in 0..3 {
        let service = ServiceName::new("ledger").unwrap();
        world.memory.advance(quorate_model::DurationMs(1));
        world.memory.system(Command::Backup(BackupCommand::Record {
            id: BackupId::new(format!("b-{n}")).unwrap(),
            instance: InstanceId { node: node("node1"), service },
            receipt: BackupReceipt { path: "/b".into(), ..Default::default() },
        }));
    }
    let mut backups = BackupServiceClient::new(world.as_role("viewer"));
    let request = v1::ListBackupsRequest { page_size: 2, ..Default::default() };
    let page = backups.list_backups(request).await.unwrap().into_inner();
    let names: Vec<_> = page.backups.iter().map(|b| b.backup_id.as_str()).collect();
    assert_eq!((names, page.next_page_token.is_empty()), (vec!["b-2", "b-1"], false));
    let request = v1::ListBackupsRequest { node: "node2".into(), ..Default::default() };
    assert!(backups.list_backups(request).await.unwrap().into_inner().backups.is_empty());
    let request = v1::GetBackupRequest { backup_id: "../x".into(), consistency: 0 };
    let refused = problem(&backups.get_backup(request).await.unwrap_err());
    assert!(refused.what.starts_with("bad_field:backup_id"), "{}", refused.what);
}

#[tokio::test]
async fn leadership_moves_and_who_asked_for_it_is_in_the_record() {
    let world = World::new();
    let member = |name: &str| {
        Command::Cluster(quorate_core::command::ClusterCommand::AddMember {
            name: quorate_model::MemberName::new(name).unwrap(),
            grpc: "127.0.0.1:1".into(),
            http: "127.0.0.1:2".into(),
        })
    };
    world.memory.system(member("coord2"));
    let mut admin = AdminServiceClient::new(world.admin());
    let request = |name: &str, options| v1::TransferLeaderRequest { name: name.into(), options };
    // It leads already: nothing to do is no failure.
    let still = admin.transfer_leader(request("coord1", None)).await.unwrap().into_inner();
    assert_eq!((still.leader.as_str(), still.moved, still.term), ("coord1", false, 7));
    let tried = admin.transfer_leader(request("coord2", dry())).await.unwrap().into_inner();
    assert_eq!((tried.leader.as_str(), tried.moved), ("coord2", false));
    assert!(world.memory.transferred.lock().unwrap().is_empty(), "a dry run moves nothing");
    let unfit = problem(&admin.transfer_leader(request("", None)).await.unwrap_err());
    assert_eq!((unfit.reason.as_str(), unfit.exit_code()), ("MEMBER_UNFIT", 3));
    assert_eq!(admin.transfer_leader(request("coord9", None)).await.unwrap_err().code(), Code::NotFound);
    let moved = admin.transfer_leader(request("coord2", options("q-7"))).await.unwrap().into_inner();
    assert_eq!((moved.leader.as_str(), moved.previous_leader.as_str()), ("coord2", "coord1"));
    assert!(moved.moved && moved.term == 8 && moved.without_leader.unwrap().nanos == 21_000_000);
    let records: Vec<_> = {
        let state = world.memory.state.lock().unwrap();
        let found = state.audit.records.iter().filter(|r| r.what.action == "cluster.transfer_leader");
        found.map(|r| (r.what.result.as_str(), r.what.principal.to_string(), r.what.reason.clone())).collect()
    };
    let admin = || "user:admin".to_owned();
    assert_eq!(records, [("FAILED", admin(), "MEMBER_UNFIT".to_owned()), ("OK", admin(), "test".to_owned())]);
}

#[tokio::test]
async fn only_the_dead_are_cleaned_up_and_not_below_the_minimum() {
    let world = World::new();
    for name in ["coord2", "coord3"] {
        world.memory.system(Command::Cluster(quorate_core::command::ClusterCommand::AddMember {
            name: quorate_model::MemberName::new(name).unwrap(),
            grpc: "127.0.0.1:1".into(),
            http: "127.0.0.1:2".into(),
        }));
    }
    let mut admin = AdminServiceClient::new(world.admin());
    let request = |name: &str, min_members| v1::RemoveMemberRequest {
        name: name.into(),
        options: None,
        dead_only: true,
        min_members,
    };
    let alive = problem(&admin.remove_member(request("coord1", 0)).await.unwrap_err());
    assert_eq!(alive.reason.as_str(), "CONFLICT");
    let few = problem(&admin.remove_member(request("coord2", 3)).await.unwrap_err());
    assert_eq!((few.reason.as_str(), few.exit_code()), ("QUORUM_MARGIN", 3));
    assert!(few.what.contains("2 coordinators, at least 3"), "{}", few.what);
    assert!(world.memory.retired.lock().unwrap().is_empty());
    let left = admin.remove_member(request("coord2", 2)).await.unwrap().into_inner().members;
    assert_eq!(left.len(), 2);
    // The only voter of the Raft group here: without it nobody answers.
    let request = v1::RemoveMemberRequest { name: "coord1".into(), ..Default::default() };
    let refused = problem(&admin.remove_member(request).await.unwrap_err());
    assert_eq!(refused.reason.as_str(), "QUORUM_MARGIN");
}

#[tokio::test]
async fn the_state_is_saved_whole_and_who_took_it_is_in_the_record() {
    use quorate_common::saved;
    let world = World::new().with_ledger().await;
    let mut admin = AdminServiceClient::new(world.admin());
    let request = v1::SaveSnapshotRequest { reason: "nightly".into(), ..Default::default() };
    let mut stream = admin.save_snapshot(request.clone()).await.unwrap().into_inner();
    let mut file = Vec::new();
    while let Some(part) = stream.message().await.unwrap() {
        assert!(part.data.len() <= 256 << 10);
        file.extend_from_slice(&part.data);
    }
    let (header, bytes) = saved::decode(&file).unwrap();
    assert_eq!((header.member.as_str(), header.term, header.counts["nodes"]), ("coord1", 7, 3));
    let state: quorate_core::State = rmp_serde::from_slice(bytes).unwrap();
    assert_eq!(state.revision.0, header.index);
    let taken = |world: &World| {
        let state = world.memory.state.lock().unwrap();
        let found = state.audit.records.iter().find(|r| r.what.action == "cluster.save_snapshot");
        found.map(|r| (r.what.principal.to_string(), r.what.reason.clone()))
    };
    assert_eq!(taken(&world), Some(("user:admin".into(), "nightly".into())));
    // It holds hashes of tokens: not for operators.
    let mut operator = AdminServiceClient::new(world.as_role("operator"));
    assert_eq!(operator.save_snapshot(request).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn states_are_compared_and_a_standby_is_promoted_when_it_can() {
    use crate::api::backend::StateDigest;
    use quorate_model::MemberId;
    let world = World::new();
    for name in ["coord2", "coord3"] {
        world.memory.system(Command::Cluster(quorate_core::command::ClusterCommand::AddMember {
            name: quorate_model::MemberName::new(name).unwrap(),
            grpc: "127.0.0.1:1".into(),
            http: "127.0.0.1:2".into(),
        }));
    }
    let digest = |byte: u8| Some(vec![StateDigest { index: 9, sha256: [byte; 32] }]);
    let mut admin = AdminServiceClient::new(world.admin());
    for (third, ok) in [(1, true), (2, false)] {
        let seen = [(MemberId(1), digest(1)), (MemberId(2), digest(1)), (MemberId(3), digest(third))];
        *world.memory.digests.lock().unwrap() = seen.into_iter().collect();
        let answer = admin.compare_state(v1::CompareStateRequest {}).await.unwrap().into_inner();
        assert_eq!((answer.ok, answer.index, answer.members.len()), (ok, 9, 3));
        assert_eq!(answer.members[2].verdict() == v1::StateVerdict::Same, ok);
    }
    let request = |name: &str| v1::PromoteMemberRequest { name: name.into(), options: None };
    let behind = problem(&admin.promote_member(request("coord3")).await.unwrap_err());
    assert_eq!((behind.reason.as_str(), behind.exit_code()), ("MEMBER_UNFIT", 3));
    let two = |world: &World| world.memory.state.lock().unwrap().members.by_id[&MemberId(2)].standby;
    world.memory.state.lock().unwrap().members.by_id.get_mut(&MemberId(2)).unwrap().standby = true;
    let tried = v1::PromoteMemberRequest { name: "coord2".into(), options: dry() };
    admin.promote_member(tried).await.unwrap();
    assert!(two(&world), "a dry run promotes nobody");
    let members = admin.promote_member(request("coord2")).await.unwrap().into_inner().members;
    assert!(!members[1].standby && !two(&world));
}
