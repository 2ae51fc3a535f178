//! Freezes: declared, shown, holding, deleted.

use quorate_model::DurationMs;
use quorate_proto::v1;
use quorate_proto::v1::admin_service_client::AdminServiceClient;
use quorate_proto::v1::fleet_service_client::FleetServiceClient;
use quorate_proto::v1::operation_service_client::OperationServiceClient;
use quorate_proto::v1::schedule_service_client::ScheduleServiceClient;
use tonic::Code;

use super::world::{As, NOW, World, dry, options, problem};

type Client = ScheduleServiceClient<As>;

fn at(seconds_from_now: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds: NOW / 1_000 + seconds_from_now, nanos: 0 })
}

fn spec(name: &str) -> v1::FreezeSpec {
    v1::FreezeSpec { name: name.into(), reason: "the books are closed".into(), ..Default::default() }
}

fn apply(spec: v1::FreezeSpec) -> v1::ApplyFreezeRequest {
    v1::ApplyFreezeRequest { spec: Some(spec), ..Default::default() }
}

async fn applied(client: &mut Client, spec: v1::FreezeSpec) -> v1::Freeze {
    client.apply_freeze(apply(spec)).await.unwrap().into_inner().freeze.unwrap()
}

fn client(world: &World) -> Client {
    ScheduleServiceClient::new(world.as_role("operator"))
}

#[tokio::test]
async fn a_freeze_is_declared_shown_and_deleted() {
    let world = World::new().with_ledger().await;
    let mut client = client(&world);
    let full = v1::FreezeSpec {
        selector: Some(v1::Selector { names: vec!["node1".into()], ..Default::default() }),
        services: vec!["ledger".into()],
        starts: at(60),
        ends: at(120),
        ..spec("tonight")
    };
    let freeze = applied(&mut client, full.clone()).await;
    assert_eq!((freeze.state(), freeze.spec.as_ref()), (v1::FreezeState::Upcoming, Some(&full)));
    assert_eq!((freeze.applied_by.as_str(), freeze.since), ("user:operator", full.starts));
    let again = client.apply_freeze(apply(full.clone())).await.unwrap().into_inner();
    assert_eq!((again.changed, again.freeze), (false, Some(freeze.clone())));
    applied(&mut client, spec("at-once")).await;
    let list = v1::ListFreezesRequest { page_size: 1, ..Default::default() };
    let first = client.list_freezes(list.clone()).await.unwrap().into_inner();
    assert_eq!(
        (first.freezes[0].name.as_str(), first.freezes[0].state()),
        ("at-once", v1::FreezeState::Active)
    );
    let list = v1::ListFreezesRequest { page_token: first.next_page_token, ..list };
    assert_eq!(client.list_freezes(list).await.unwrap().into_inner().freezes, [freeze]);
    let mut admin = AdminServiceClient::new(world.admin());
    let mut active = async || {
        let status = admin.get_status(v1::GetStatusRequest::default()).await.unwrap().into_inner();
        status.freezes_active
    };
    assert_eq!(active().await, 1);
    world.memory.advance(DurationMs::from_secs(90));
    assert_eq!(active().await, 2);
    let text = world.api.metrics().render(&world.api).unwrap();
    assert!(text.contains("\nquorate_coordinator_freezes_active 2\n"), "{text}");
    let delete = v1::DeleteFreezeRequest { name: "at-once".into(), ..Default::default() };
    client.delete_freeze(delete.clone()).await.unwrap();
    assert_eq!(client.delete_freeze(delete).await.unwrap_err().code(), Code::NotFound);
    world.memory.advance(DurationMs::from_secs(90));
    assert_eq!(active().await, 0);
    let get = v1::GetFreezeRequest { name: "tonight".into(), consistency: 0 };
    let ended = client.get_freeze(get).await.unwrap().into_inner().freeze.unwrap();
    assert_eq!(ended.state(), v1::FreezeState::Ended);
}

#[tokio::test]
async fn what_is_wrong_is_named_and_changes_nothing() {
    let world = World::new().with_ledger().await;
    let mut client = client(&world);
    for (field, bad) in [
        ("spec.reason", v1::FreezeSpec { reason: String::new(), ..spec("f") }),
        ("spec.name", spec("")),
        ("spec.selector", v1::FreezeSpec { selector: Some(v1::Selector::default()), ..spec("f") }),
        ("spec.ends", v1::FreezeSpec { starts: at(60), ends: at(60), ..spec("f") }),
        ("spec.ends", v1::FreezeSpec { ends: at(-1), ..spec("f") }),
        ("spec.services[0]", v1::FreezeSpec { services: vec!["a b".into()], ..spec("f") }),
    ] {
        let refused = problem(&client.apply_freeze(apply(bad)).await.unwrap_err());
        assert_eq!(refused.exit_code(), 2, "{field}: {refused:?}");
        assert!(refused.what.starts_with(&format!("bad_field:{field}: ")), "{field}: {}", refused.what);
    }
    let unknown = v1::FreezeSpec { services: vec!["lodger".into()], ..spec("f") };
    let refused = problem(&client.apply_freeze(apply(unknown)).await.unwrap_err());
    assert_eq!((refused.reason.as_str(), refused.exit_code()), ("NOT_FOUND", 6));
    let nothing = v1::ApplyFreezeRequest::default();
    assert_eq!(client.apply_freeze(nothing).await.unwrap_err().code(), Code::InvalidArgument);
    let dry_run = v1::ApplyFreezeRequest { options: dry(), ..apply(spec("f")) };
    let tried = client.apply_freeze(dry_run).await.unwrap().into_inner();
    assert_eq!((tried.changed, tried.freeze), (true, None));
    assert!(world.memory.state.lock().unwrap().freezes.is_empty());
    let mut viewer = ScheduleServiceClient::new(world.as_role("viewer"));
    assert_eq!(viewer.apply_freeze(apply(spec("f"))).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn an_etag_guards_against_somebody_elses_change() {
    let world = World::new();
    let mut client = client(&world);
    let fresh = v1::ApplyFreezeRequest { etag: "0".into(), ..apply(spec("f")) };
    let seen = client.apply_freeze(fresh.clone()).await.unwrap().into_inner().freeze.unwrap();
    let twice = v1::ApplyFreezeRequest {
        spec: Some(v1::FreezeSpec { reason: "another".into(), ..spec("f") }),
        ..fresh
    };
    assert_eq!(problem(&client.apply_freeze(twice).await.unwrap_err()).reason, "STALE_PLAN");
    let changed = v1::FreezeSpec { reason: "longer".into(), ..spec("f") };
    let right = v1::ApplyFreezeRequest { etag: seen.etag.clone(), ..apply(changed) };
    let now = client.apply_freeze(right).await.unwrap().into_inner().freeze.unwrap();
    let delete = |etag: &str| v1::DeleteFreezeRequest {
        name: "f".into(),
        etag: etag.into(),
        options: options(&format!("delete-{etag}")),
    };
    assert_eq!(problem(&client.delete_freeze(delete(&seen.etag)).await.unwrap_err()).exit_code(), 3);
    client.delete_freeze(delete(&now.etag)).await.unwrap();
    let odd = v1::DeleteFreezeRequest { name: "f".into(), etag: "W/\"1\"".into(), options: None };
    assert_eq!(client.delete_freeze(odd).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_declaration_that_has_ended_may_be_applied_again_and_not_changed() {
    let world = World::new();
    let mut client = client(&world);
    let tonight = v1::FreezeSpec { ends: at(60), ..spec("tonight") };
    let first = v1::ApplyFreezeRequest { options: options("q-1"), ..apply(tonight.clone()) };
    client.apply_freeze(first.clone()).await.unwrap();
    world.memory.advance(DurationMs::from_secs(120));
    assert!(!client.apply_freeze(apply(tonight.clone())).await.unwrap().into_inner().changed);
    let other = v1::FreezeSpec { reason: "another".into(), ..tonight };
    let refused = problem(&client.apply_freeze(apply(other)).await.unwrap_err());
    assert!(refused.what.starts_with("bad_field:spec.ends: "), "{}", refused.what);
    // A request whose answer was lost gets it, whatever has become of the freeze.
    let delete = v1::DeleteFreezeRequest { name: "tonight".into(), ..Default::default() };
    client.delete_freeze(delete).await.unwrap();
    client.apply_freeze(first).await.unwrap();
}

#[tokio::test]
async fn what_is_frozen_is_neither_planned_nor_drained() {
    let world = World::new().with_ledger().await;
    let mut client = client(&world);
    let mut operations = OperationServiceClient::new(world.as_role("operator"));
    let rolling = v1::RollingSpec { group: "ledger".into(), ..Default::default() };
    let work = v1::WorkSpec { kind: Some(v1::work_spec::Kind::Rolling(rolling)), max_failures: 0 };
    let plan = || v1::CreatePlanRequest { work: Some(work.clone()), options: None };
    let one = Some(v1::Selector { names: vec!["node2".into()], ..Default::default() });
    applied(&mut client, v1::FreezeSpec { selector: one, ends: at(3_600), ..spec("one") }).await;
    let notes = operations.create_plan(plan()).await.unwrap().into_inner().plan.unwrap().notes;
    let warning = notes.iter().find(|note| note.contains("frozen")).unwrap();
    assert!(warning.starts_with("node2 is frozen: its step waits until one ends, 20"), "{warning}");
    applied(&mut client, spec("all")).await;
    let refused = problem(&operations.create_plan(plan()).await.unwrap_err());
    assert_eq!((refused.reason.as_str(), refused.exit_code()), ("FREEZE", 3));
    assert_eq!(refused.what, "freeze all: the books are closed (until it is deleted)");
    assert!(refused.why.iter().any(|(_, text)| text.starts_with("user:operator since ")), "{refused:?}");
    assert_eq!(refused.hint, "quorate freeze show all");
    let mut fleet = FleetServiceClient::new(world.as_role("operator"));
    let drain = v1::DrainNodeRequest { name: "node3".into(), options: None };
    assert_eq!(problem(&fleet.drain_node(drain.clone()).await.unwrap_err()).reason, "FREEZE");
    let explain = v1::ExplainOperationRequest { name: "nodes/node3".into() };
    let explained = operations.explain_operation(explain).await.unwrap().into_inner();
    assert_eq!(explained.reason, "FREEZE", "{explained:?}");
    client.delete_freeze(v1::DeleteFreezeRequest { name: "all".into(), ..Default::default() }).await.unwrap();
    fleet.drain_node(drain).await.unwrap();
}
