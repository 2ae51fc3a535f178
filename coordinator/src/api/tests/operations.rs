//! Plans and operations.

use std::sync::atomic::Ordering;

use quorate_core::Command;
use quorate_core::command::{IdentityCommand, OperationCommand};
use quorate_model::{OperationId, OperationState, Serial};
use quorate_proto::v1;
use quorate_proto::v1::operation_service_client::OperationServiceClient;
use tokio_stream::StreamExt;
use tonic::Code;

use super::world::{World, dry, node, options, problem};

type Client = OperationServiceClient<super::world::As>;

fn rolling() -> v1::WorkSpec {
    let rolling = v1::RollingSpec { group: "ledger".into(), ..Default::default() };
    v1::WorkSpec { kind: Some(v1::work_spec::Kind::Rolling(rolling)), max_failures: 0 }
}

fn create(options: Option<v1::ChangeOptions>) -> v1::CreateOperationRequest {
    let source = Some(v1::create_operation_request::Source::Work(rolling()));
    v1::CreateOperationRequest { source, options, ..Default::default() }
}

async fn started(client: &mut Client) -> v1::Operation {
    client.create_operation(create(None)).await.unwrap().into_inner().operation.unwrap()
}

fn id(operation: &v1::Operation) -> OperationId {
    OperationId::new(operation.name.strip_prefix("operations/").unwrap()).unwrap()
}

#[tokio::test]
async fn a_plan_is_stored_shown_and_started() {
    let world = World::new().with_ledger().await;
    let mut client = OperationServiceClient::new(world.as_role("operator"));
    let request = v1::CreatePlanRequest { work: Some(rolling()), options: options("plan-1") };
    let plan = client.create_plan(request.clone()).await.unwrap().into_inner().plan.unwrap();
    assert_eq!((plan.to_change, plan.waves.is_empty()), (3, false));
    assert_eq!(plan.hash.len(), 64);
    assert!(plan.waves.iter().flat_map(|w| &w.quorum).all(|q| q.group == "ledger" && q.required == 2));
    let again = client.create_plan(request).await.unwrap().into_inner().plan.unwrap();
    assert_eq!(again.plan_id, plan.plan_id, "the same request is the same plan");
    let source = Some(v1::create_operation_request::Source::PlanId(plan.plan_id.clone()));
    let request = v1::CreateOperationRequest { source, options: options("start-1"), ..Default::default() };
    let first = client.create_operation(request.clone()).await.unwrap().into_inner().operation.unwrap();
    assert!(first.name.starts_with("operations/r-"));
    assert_eq!((first.kind(), first.group.as_str()), (v1::OperationKind::Rollout, "ledger"));
    assert_eq!(first.plan_id, plan.plan_id);
    let second = client.create_operation(request).await.unwrap().into_inner().operation.unwrap();
    assert_eq!(second.name, first.name);
    let list = client.list_plans(v1::ListPlansRequest::default()).await.unwrap().into_inner();
    assert_eq!(list.plans.len(), 1);
    let get = v1::GetPlanRequest { plan_id: "p-0".into(), consistency: 0 };
    assert_eq!(client.get_plan(get).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_stale_plan_is_refused_and_a_dry_run_starts_nothing() {
    let world = World::new().with_ledger().await;
    let mut client = OperationServiceClient::new(world.as_role("operator"));
    let dry_run = client.create_operation(create(dry())).await.unwrap().into_inner();
    assert!(dry_run.operation.is_none() && dry_run.plan.is_some());
    assert!(world.memory.state.lock().unwrap().operations.is_empty());
    let request = v1::CreatePlanRequest { work: Some(rolling()), options: None };
    let plan = client.create_plan(request).await.unwrap().into_inner().plan.unwrap();
    let cordon = quorate_core::command::NodeCommand::Cordon { node: node("node1"), reason: "x".into() };
    world.memory.system(Command::Node(cordon));
    let source = Some(v1::create_operation_request::Source::PlanId(plan.plan_id));
    let request = v1::CreateOperationRequest { source, options: None, ..Default::default() };
    let refused = problem(&client.create_operation(request).await.unwrap_err());
    assert_eq!((refused.reason.as_str(), refused.exit_code()), ("STALE_PLAN", 3));
}

#[tokio::test]
async fn a_refused_plan_carries_its_numbers() {
    let world = World::new().with_ledger().await;
    world.see("node1", quorate_model::InstanceState::Failed);
    world.see("node2", quorate_model::InstanceState::Failed);
    let mut client = OperationServiceClient::new(world.as_role("operator"));
    let run = v1::RunSpec {
        selector: Some(v1::Selector { names: vec!["node3".into()], ..Default::default() }),
        action: "service.stop".into(),
        service: "ledger".into(),
        parallelism: 0,
        gate_timeout: None,
    };
    let work = Some(v1::WorkSpec { kind: Some(v1::work_spec::Kind::Run(run)), max_failures: 0 });
    let request = v1::CreatePlanRequest { work, options: options("why") };
    let refused = problem(&client.create_plan(request).await.unwrap_err());
    assert_eq!((refused.code, refused.reason.as_str()), (Code::FailedPrecondition, "QUORUM_MARGIN"));
    assert_eq!(refused.request_id, "why");
    assert!(refused.why.iter().any(|(subject, _)| subject == "group ledger"), "{refused:?}");
    assert!(refused.hint.contains("quorate quorum check"), "{}", refused.hint);
}

#[tokio::test]
async fn pausing_resuming_and_canceling_go_through_the_log() {
    let world = World::new().with_ledger().await;
    let mut client = OperationServiceClient::new(world.as_role("operator"));
    let operation = started(&mut client).await;
    let name = operation.name.clone();
    let paused = v1::PauseOperationRequest { name: name.clone(), options: None };
    let paused = client.pause_operation(paused).await.unwrap().into_inner().operation.unwrap();
    assert!(matches!(paused.state(), v1::OperationState::Pausing | v1::OperationState::Paused));
    let resume = v1::ResumeOperationRequest { name: name.clone(), options: None };
    client.resume_operation(resume).await.unwrap();
    // The id alone is good, too.
    let short = id(&operation).as_str().to_owned();
    let cancel = v1::CancelOperationRequest { name: short.clone(), options: None };
    let canceled = client.cancel_operation(cancel).await.unwrap().into_inner().operation.unwrap();
    assert!(matches!(canceled.state(), v1::OperationState::Canceling | v1::OperationState::Canceled));
    let explained =
        client.explain_operation(v1::ExplainOperationRequest { name }).await.unwrap().into_inner();
    assert!(!explained.summary.is_empty() && !explained.why.is_empty());
    for bad in ["", "operations/", "r-0000", "a/b/c\n"] {
        let request = v1::GetOperationRequest { name: bad.into(), consistency: 0 };
        let code = client.get_operation(request).await.unwrap_err().code();
        assert!(matches!(code, Code::InvalidArgument | Code::NotFound), "{bad:?}: {code:?}");
    }
    let list = client.list_operations(v1::ListOperationsRequest::default()).await.unwrap().into_inner();
    assert_eq!((list.operations.len(), list.operations[0].steps.len()), (1, 0));
    let backups = v1::ListOperationsRequest { kind: v1::OperationKind::Backup as i32, ..Default::default() };
    assert!(client.list_operations(backups).await.unwrap().into_inner().operations.is_empty());
}

#[tokio::test]
async fn a_watch_resumes_by_revision_and_ends_when_nothing_more_comes() {
    let world = World::new().with_ledger().await;
    let mut client = OperationServiceClient::new(world.as_role("operator"));
    let operation = started(&mut client).await;
    let watch = |after_revision| v1::WatchOperationRequest { name: operation.name.clone(), after_revision };
    let mut stream = client.watch_operation(watch(0)).await.unwrap().into_inner();
    let first = stream.next().await.unwrap().unwrap().operation.unwrap();
    assert_eq!((first.name.as_str(), first.steps.len()), (operation.name.as_str(), operation.steps.len()));
    let settle = |state| OperationCommand::Settle { id: id(&operation), state };
    let command = |c| Command::Operation(Box::new(c));
    world.memory.system(command(OperationCommand::Cancel { id: id(&operation) }));
    let next = stream.next().await.unwrap().unwrap().operation.unwrap();
    assert!(next.revision > first.revision);
    if next.state() != v1::OperationState::Canceled {
        world.memory.system(command(settle(OperationState::Canceled)));
    }
    let mut last = next.clone();
    while let Some(message) = stream.next().await {
        last = message.unwrap().operation.unwrap_or(last);
    }
    assert_eq!(last.state(), v1::OperationState::Canceled, "the stream ends with the end");
    // Somebody who saw the end already gets nothing again, and no error.
    let mut stream = client.watch_operation(watch(last.revision)).await.unwrap().into_inner();
    assert!(stream.next().await.is_none());
    // Somebody who saw the beginning gets the end.
    let mut stream = client.watch_operation(watch(first.revision)).await.unwrap().into_inner();
    assert_eq!(stream.next().await.unwrap().unwrap().operation.unwrap().revision, last.revision);
    let unknown = v1::WatchOperationRequest { name: "r-000000000000".into(), after_revision: 0 };
    assert_eq!(client.watch_operation(unknown).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_watch_ends_when_its_caller_is_removed() {
    let world = World::new().with_ledger().await;
    let mut operator = OperationServiceClient::new(world.as_role("operator"));
    let operation = started(&mut operator).await;
    let mut viewer = OperationServiceClient::new(world.as_role("viewer"));
    let request = v1::WatchOperationRequest { name: operation.name, after_revision: 0 };
    let mut stream = viewer.watch_operation(request).await.unwrap().into_inner();
    stream.next().await.unwrap().unwrap();
    let serial = Serial::new("u-viewer").unwrap();
    world.memory.system(Command::Identity(IdentityCommand::Revoke { serial }));
    let ended = stream.next().await.unwrap().unwrap_err();
    assert_eq!(ended.code(), Code::Unauthenticated);
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn only_a_leader_plans() {
    let world = World::new().with_ledger().await;
    world.memory.has_leader.store(false, Ordering::Relaxed);
    let mut client = OperationServiceClient::new(world.as_role("operator"));
    let refused = problem(&client.create_operation(create(None)).await.unwrap_err());
    assert_eq!((refused.code, refused.reason.as_str()), (Code::Unavailable, "NO_LEADER"));
}

fn advanced(waves: v1::WavePolicy, kind: v1::RollingKind, on_failure: v1::OnFailure) -> v1::WorkSpec {
    let rolling = v1::RollingSpec {
        group: "ledger".into(),
        kind: kind.into(),
        waves: Some(waves),
        on_failure: on_failure.into(),
        ..Default::default()
    };
    v1::WorkSpec { kind: Some(v1::work_spec::Kind::Rolling(rolling)), max_failures: 0 }
}

fn every() -> v1::WavePolicy {
    v1::WavePolicy {
        canary: 1,
        hold: Some(prost_types::Duration { seconds: 600, nanos: 0 }),
        promotion: v1::Promotion::Every.into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn waves_are_shown_and_promoted_and_a_dry_run_promotes_nothing() {
    let world = World::new().with_ledger().await;
    let mut client = OperationServiceClient::new(world.as_role("operator"));
    let work = Some(advanced(every(), v1::RollingKind::Restart, v1::OnFailure::Pause));
    let request = v1::CreatePlanRequest { work: work.clone(), options: None };
    let plan = client.create_plan(request).await.unwrap().into_inner().plan.unwrap();
    assert_eq!(plan.work, work, "what was asked comes back");
    let between: Vec<_> = plan.waves.iter().map(|w| (w.promote, w.hold.map_or(0, |h| h.seconds))).collect();
    assert_eq!(between, [(true, 600), (true, 600), (false, 0)], "nothing comes after the last wave");
    assert_eq!(plan.waves[0].label, "canary");
    assert!(plan.waves[0].steps[2].message.contains("healthy for 10m"), "{:?}", plan.waves[0].steps);
    let source = Some(v1::create_operation_request::Source::PlanId(plan.plan_id));
    let request = v1::CreateOperationRequest { source, options: None, ..Default::default() };
    let name = client.create_operation(request).await.unwrap().into_inner().operation.unwrap().name;
    let promote = |all, options| v1::PromoteOperationRequest { name: name.clone(), all, options };
    let refused = problem(&client.promote_operation(promote(false, None)).await.unwrap_err());
    assert_eq!((refused.reason.as_str(), refused.exit_code()), ("WRONG_STATE", 3), "nothing waits yet");
    client.promote_operation(promote(true, dry())).await.unwrap();
    let promoted =
        |operation: &v1::Operation| operation.wave_states.iter().filter(|w| w.promoted.is_some()).count();
    let get = v1::GetOperationRequest { name: name.clone(), consistency: 0 };
    let seen = client.get_operation(get).await.unwrap().into_inner().operation.unwrap();
    assert_eq!((seen.wave_states.len(), promoted(&seen)), (3, 0), "a dry run leaves no trace");
    let done = client.promote_operation(promote(true, None)).await.unwrap().into_inner().operation.unwrap();
    assert_eq!(promoted(&done), 2);
    assert_eq!(done.wave_states[0].state(), v1::WaveState::Pending);
    let list = client.list_operations(v1::ListOperationsRequest::default()).await.unwrap().into_inner();
    assert!(list.operations[0].wave_states.is_empty(), "lists are short");
}

#[tokio::test]
async fn what_cannot_be_taken_back_or_found_is_refused() {
    let world = World::new().with_ledger().await;
    let mut client = OperationServiceClient::new(world.as_role("operator"));
    let mut plan = async |work| {
        let request = v1::CreatePlanRequest { work: Some(work), options: None };
        problem(&client.create_plan(request).await.unwrap_err())
    };
    let plain = v1::WavePolicy::default;
    let restart = plan(advanced(plain(), v1::RollingKind::Restart, v1::OnFailure::Rollback)).await;
    assert_eq!(restart.reason, "INVALID_ARGUMENT");
    assert!(restart.what.contains("on_failure"), "{restart:?}");
    let undo = plan(advanced(plain(), v1::RollingKind::Undo, v1::OnFailure::Abort)).await;
    assert_eq!((undo.reason.as_str(), undo.exit_code()), ("NOT_FOUND", 6), "{undo:?}");
    let mut release = advanced(plain(), v1::RollingKind::Release, v1::OnFailure::Abort);
    if let Some(v1::work_spec::Kind::Rolling(rolling)) = &mut release.kind {
        rolling.version = "1.1.0".into();
        rolling.artifact = "ab".repeat(32);
    }
    assert_eq!(plan(release).await.reason, "NOT_FOUND", "no artifact of that digest");
    let releases = v1::ListReleasesRequest { group: "nobody".into(), ..Default::default() };
    assert_eq!(client.list_releases(releases).await.unwrap_err().code(), Code::NotFound);
    let releases = v1::ListReleasesRequest { group: "ledger".into(), ..Default::default() };
    assert!(client.list_releases(releases).await.unwrap().into_inner().releases.is_empty());
}
