//! Policies and approvals, by two people: what is held, who may let it go, and what a lost answer does.

use quorate_model::DurationMs;
use quorate_proto::v1;
use quorate_proto::v1::operation_service_client::OperationServiceClient;
use quorate_proto::v1::policy_service_client::PolicyServiceClient;
use tonic::Code;

use super::world::{As, World, dry, options, problem};

type Operations = OperationServiceClient<As>;

fn spec(name: &str) -> v1::PolicySpec {
    v1::PolicySpec { name: name.into(), reason: "nobody alone".into(), ..Default::default() }
}

fn apply(spec: v1::PolicySpec) -> v1::ApplyPolicyRequest {
    v1::ApplyPolicyRequest { spec: Some(spec), ..Default::default() }
}

fn policies(world: &World) -> PolicyServiceClient<As> {
    PolicyServiceClient::new(world.admin())
}

fn operations(world: &World, role: &str) -> Operations {
    OperationServiceClient::new(world.as_role(role))
}

fn restart() -> v1::CreateOperationRequest {
    let rolling = v1::RollingSpec { group: "ledger".into(), ..Default::default() };
    let work = v1::WorkSpec { kind: Some(v1::work_spec::Kind::Rolling(rolling)), max_failures: 0 };
    let source = Some(v1::create_operation_request::Source::Work(work));
    v1::CreateOperationRequest { source, ..Default::default() }
}

async fn held(world: &World) -> v1::Approval {
    let started = operations(world, "operator").create_operation(restart()).await.unwrap().into_inner();
    let operation = started.operation.unwrap();
    assert_eq!(operation.state(), v1::OperationState::AwaitingApproval, "{operation:?}");
    assert_eq!(operation.conditions[0].reason, "APPROVAL");
    operation.approval.unwrap()
}

fn why(id: &str) -> Option<v1::ChangeOptions> {
    Some(v1::ChangeOptions { reason: "seen".into(), ..options(id).unwrap() })
}

fn approve(approval: &v1::Approval, id: &str) -> v1::ApproveOperationRequest {
    v1::ApproveOperationRequest {
        name: approval.operation.clone(),
        plan_hash: approval.plan_hash.clone(),
        options: why(id),
    }
}

async fn listed(world: &World, state: v1::ApprovalState) -> usize {
    let request = v1::ListApprovalsRequest { state: state.into(), ..Default::default() };
    let mut viewer = operations(world, "viewer");
    viewer.list_approvals(request).await.unwrap().into_inner().approvals.len()
}

#[tokio::test]
async fn a_policy_is_an_administrators_and_comes_back() {
    let world = World::new().with_ledger().await;
    let mut theirs = PolicyServiceClient::new(world.as_role("operator"));
    let refused = theirs.apply_policy(apply(spec("p"))).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "loosening is administrators' work");
    let mut client = policies(&world);
    let tried = v1::ApplyPolicyRequest { options: dry(), ..apply(spec("p")) };
    let tried = client.apply_policy(tried).await.unwrap().into_inner();
    assert_eq!((tried.changed, tried.policy), (true, None));
    let policy = client.apply_policy(apply(spec("p"))).await.unwrap().into_inner().policy.unwrap();
    let full = policy.spec.clone().unwrap();
    assert_eq!((full.approvals, full.expires.unwrap().seconds), (1, 86_400));
    assert!(!client.apply_policy(apply(full)).await.unwrap().into_inner().changed);
    let stale = v1::ApplyPolicyRequest { etag: "0".into(), ..apply(spec("p")) };
    assert_eq!(problem(&client.apply_policy(stale).await.unwrap_err()).reason, "STALE_PLAN");
    let list = theirs.list_policies(v1::ListPoliciesRequest::default()).await.unwrap().into_inner();
    assert_eq!(list.policies, [policy]);
    for (field, bad) in [
        ("spec.reason", v1::PolicySpec { reason: String::new(), ..spec("q") }),
        ("spec.users", v1::PolicySpec { role: "ADMIN".into(), users: vec!["ann".into()], ..spec("q") }),
        ("spec.approvals", v1::PolicySpec { approvals: 6, ..spec("q") }),
    ] {
        let refused = problem(&client.apply_policy(apply(bad)).await.unwrap_err());
        assert!(refused.what.starts_with(&format!("bad_field:{field}: ")), "{}", refused.what);
    }
    let delete = v1::DeletePolicyRequest { name: "p".into(), ..Default::default() };
    assert_eq!(theirs.delete_policy(delete.clone()).await.unwrap_err().code(), Code::PermissionDenied);
    client.delete_policy(delete.clone()).await.unwrap();
    assert_eq!(client.delete_policy(delete).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn somebody_else_lets_it_begin_and_nobody_their_own() {
    let world = World::new().with_ledger().await;
    policies(&world).apply_policy(apply(spec("p"))).await.unwrap();
    let tried = v1::CreateOperationRequest { options: dry(), ..restart() };
    let plan =
        operations(&world, "operator").create_operation(tried).await.unwrap().into_inner().plan.unwrap();
    assert!(plan.notes.iter().any(|note| note.starts_with("policy p: ")), "{:?}", plan.notes);
    let approval = held(&world).await;
    assert_eq!(approval.requested_by, ["user:operator"]);
    assert_eq!((approval.wants[0].missing, listed(&world, v1::ApprovalState::Pending).await), (1, 1));
    let own = operations(&world, "operator").approve_operation(approve(&approval, "q-1")).await;
    let own = problem(&own.unwrap_err());
    assert_eq!((own.reason.as_str(), own.exit_code()), ("APPROVER_REFUSED", 7));
    let viewer = operations(&world, "viewer").approve_operation(approve(&approval, "q-2")).await;
    assert_eq!(viewer.unwrap_err().code(), Code::PermissionDenied);
    let mut admin = operations(&world, "admin");
    let other = v1::ApproveOperationRequest { plan_hash: "00".repeat(32), ..approve(&approval, "q-3") };
    let other = problem(&admin.approve_operation(other).await.unwrap_err());
    assert_eq!((other.reason.as_str(), other.exit_code()), ("STALE_PLAN", 3));
    for bad in ["", "9c1f", &"0g".repeat(32)] {
        let bad = v1::ApproveOperationRequest { plan_hash: bad.into(), ..approve(&approval, "q-4") };
        let refused = problem(&admin.approve_operation(bad).await.unwrap_err());
        assert!(refused.what.starts_with("bad_field:plan_hash: "), "{}", refused.what);
    }
    let silent = Some(v1::ChangeOptions { reason: String::new(), ..why("q-5").unwrap() });
    let silent = v1::ApproveOperationRequest { options: silent, ..approve(&approval, "q-5") };
    assert_eq!(problem(&admin.approve_operation(silent).await.unwrap_err()).exit_code(), 2);
    let tried = Some(v1::ChangeOptions { validate_only: true, ..why("q-6").unwrap() });
    let tried = v1::ApproveOperationRequest { options: tried, ..approve(&approval, "q-6") };
    let tried = admin.approve_operation(tried).await.unwrap().into_inner().operation.unwrap();
    assert_eq!(tried.state(), v1::OperationState::AwaitingApproval, "a dry run changes nothing");
    let explain = v1::ExplainOperationRequest { name: approval.operation.clone() };
    let explained = admin.explain_operation(explain).await.unwrap().into_inner();
    assert_eq!(explained.reason, "APPROVAL_REQUIRED", "{explained:?}");
    assert!(explained.hint.starts_with("quorate approval approve r-"), "{explained:?}");
    let request = approve(&approval, "q-7");
    let done = admin.approve_operation(request.clone()).await.unwrap().into_inner().operation.unwrap();
    assert_eq!(done.state(), v1::OperationState::Queued);
    let again = admin.approve_operation(request).await.unwrap().into_inner().operation.unwrap();
    assert_eq!(again.approval.as_ref().unwrap().decisions.len(), 1, "the same request is the same decision");
    assert_eq!(listed(&world, v1::ApprovalState::Pending).await, 0);
    assert_eq!(listed(&world, v1::ApprovalState::Approved).await, 1);
}

#[tokio::test]
async fn a_no_ends_it_and_so_does_what_changes_meanwhile() {
    let world = World::new().with_ledger().await;
    policies(&world).apply_policy(apply(spec("p"))).await.unwrap();
    let mut admin = operations(&world, "admin");
    let first = held(&world).await;
    let no = v1::RejectOperationRequest {
        name: first.operation.clone(),
        plan_hash: first.plan_hash.clone(),
        options: why("q-1"),
    };
    let ended = admin.reject_operation(no).await.unwrap().into_inner().operation.unwrap();
    assert_eq!(ended.state(), v1::OperationState::Canceled);
    assert_eq!(ended.message, "rejected by user:admin: seen");
    let second = held(&world).await;
    let late = DurationMs::from_secs(24 * 3_600);
    world.memory.advance(late);
    let refused = problem(&admin.approve_operation(approve(&second, "q-2")).await.unwrap_err());
    assert_eq!((refused.reason.as_str(), refused.exit_code()), ("APPROVAL_EXPIRED", 3));
}

#[tokio::test]
async fn a_stored_plan_starts_under_its_own_hash_only() {
    let world = World::new().with_ledger().await;
    let mut client = operations(&world, "operator");
    let Some(v1::create_operation_request::Source::Work(work)) = restart().source else { unreachable!() };
    let plan = v1::CreatePlanRequest { work: Some(work), options: None };
    let plan = client.create_plan(plan).await.unwrap().into_inner().plan.unwrap();
    let source = Some(v1::create_operation_request::Source::PlanId(plan.plan_id.clone()));
    let start = |plan_hash: &str| v1::CreateOperationRequest {
        source: source.clone(),
        plan_hash: plan_hash.into(),
        ..Default::default()
    };
    let refused = problem(&client.create_operation(start(&"00".repeat(32))).await.unwrap_err());
    assert_eq!((refused.reason.as_str(), refused.exit_code()), ("STALE_PLAN", 3));
    let odd = v1::CreateOperationRequest { plan_hash: plan.hash.clone(), ..restart() };
    assert_eq!(client.create_operation(odd).await.unwrap_err().code(), Code::InvalidArgument);
    client.create_operation(start(&plan.hash)).await.unwrap();
}
