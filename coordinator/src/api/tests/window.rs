//! Windows: declared, shown, opening, holding, deleted.

use quorate_core::Command;
use quorate_core::command::CalendarCommand;
use quorate_model::{DurationMs, Timestamp, WindowName};
use quorate_proto::v1;
use quorate_proto::v1::fleet_service_client::FleetServiceClient;
use quorate_proto::v1::operation_service_client::OperationServiceClient;
use quorate_proto::v1::schedule_service_client::ScheduleServiceClient;
use quorate_proto::v1::window_spec::When;
use tonic::Code;

use super::world::{As, NOW, World, dry, options, problem};
use crate::zones;

type Client = ScheduleServiceClient<As>;

fn secs(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

fn cron(expr: &str) -> Option<When> {
    Some(When::Cron(expr.into()))
}

/// `NOW` is 2027-01-15T08:00:00Z, a Friday: the first opening is tomorrow, 21:00 UTC.
fn spec(name: &str) -> v1::WindowSpec {
    v1::WindowSpec {
        name: name.into(),
        zone: "Europe/Berlin".into(),
        when: cron("0 22 * * 6"),
        duration: Some(secs(4 * 3_600)),
        announce: vec![secs(86_400)],
        reason: "agreed with the exchange".into(),
        ..Default::default()
    }
}

fn apply(spec: v1::WindowSpec) -> v1::ApplyWindowRequest {
    v1::ApplyWindowRequest { spec: Some(spec), ..Default::default() }
}

async fn applied(client: &mut Client, spec: v1::WindowSpec) -> v1::Window {
    client.apply_window(apply(spec)).await.unwrap().into_inner().window.unwrap()
}

async fn got(client: &mut Client, name: &str) -> v1::Window {
    let request = v1::GetWindowRequest { name: name.into(), consistency: 0 };
    client.get_window(request).await.unwrap().into_inner().window.unwrap()
}

fn client(world: &World) -> Client {
    ScheduleServiceClient::new(world.as_role("operator"))
}

/// What the leader does of itself.
fn open(world: &World, name: &str) {
    let name = WindowName::new(name).unwrap();
    let (spec, revision) = {
        let state = world.memory.state.lock().unwrap();
        let window = &state.windows[&name];
        (window.spec.clone(), window.revision)
    };
    let found = zones::openings(&spec, Timestamp(NOW)).unwrap();
    let command = CalendarCommand::SetOpenings { name, revision, until: found.until, openings: found.list };
    let answer = world.memory.system(Command::Calendar(Box::new(command)));
    assert!(answer.refusal().is_none(), "{answer:?}");
}

#[tokio::test]
async fn a_window_is_declared_shown_and_deleted() {
    let world = World::new().with_ledger().await;
    let mut client = client(&world);
    let full = v1::WindowSpec {
        selector: Some(v1::Selector { names: vec!["node1".into()], ..Default::default() }),
        services: vec!["ledger".into()],
        owner: "the exchange desk".into(),
        zone: "europe/berlin".into(),
        ..spec("saturdays")
    };
    let window = applied(&mut client, full.clone()).await;
    assert_eq!((window.state(), window.known_until), (v1::WindowState::Closed, None), "not known yet");
    let wanted = v1::WindowSpec { zone: "Europe/Berlin".into(), ..full.clone() };
    assert_eq!(window.spec, Some(wanted), "the zone is written as it is known");
    open(&world, "saturdays");
    let shown = got(&mut client, "saturdays").await;
    assert_eq!((shown.state(), shown.openings.len()), (v1::WindowState::Upcoming, 5));
    let first = &shown.openings[0];
    assert_eq!(first.local_start, "2027-01-16T22:00:00+01:00[Europe/Berlin]");
    assert_eq!(first.local_end, "2027-01-17T02:00:00+01:00[Europe/Berlin]");
    assert_eq!(first.start.unwrap().seconds, NOW / 1_000 + 37 * 3_600);
    assert!(!client.apply_window(apply(full)).await.unwrap().into_inner().changed);

    let christmas =
        v1::WindowSpec { when: Some(When::Start("2027-12-24T22:00".into())), ..spec("christmas") };
    applied(&mut client, christmas).await;
    let list = v1::ListWindowsRequest { page_size: 1, ..Default::default() };
    let page = client.list_windows(list.clone()).await.unwrap().into_inner();
    assert_eq!(page.windows[0].name, "christmas");
    let list = v1::ListWindowsRequest { page_token: page.next_page_token, ..list };
    assert_eq!(client.list_windows(list).await.unwrap().into_inner().windows, [shown]);

    let metric = |count: u32| {
        let text = world.api.metrics().render(&world.api).unwrap();
        assert!(text.contains(&format!("\nquorate_coordinator_windows_open {count}\n")), "{text}");
    };
    metric(0);
    world.memory.advance(DurationMs::from_secs(37 * 3_600));
    assert_eq!(got(&mut client, "saturdays").await.state(), v1::WindowState::Open);
    metric(1);
    world.memory.advance(DurationMs::from_secs(4 * 3_600 - 599));
    assert_eq!(got(&mut client, "saturdays").await.state(), v1::WindowState::Closing);
    world.memory.advance(DurationMs::from_secs(599));
    assert_eq!(got(&mut client, "saturdays").await.state(), v1::WindowState::Upcoming);
    let delete = v1::DeleteWindowRequest { name: "saturdays".into(), ..Default::default() };
    client.delete_window(delete.clone()).await.unwrap();
    assert_eq!(client.delete_window(delete).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn what_is_wrong_is_named_and_changes_nothing() {
    let world = World::new().with_ledger().await;
    let mut client = client(&world);
    for (field, bad) in [
        ("spec.reason", v1::WindowSpec { reason: String::new(), ..spec("w") }),
        ("spec.name", spec("")),
        ("spec.selector", v1::WindowSpec { selector: Some(v1::Selector::default()), ..spec("w") }),
        ("spec.zone", v1::WindowSpec { zone: "Europe/Berln".into(), ..spec("w") }),
        ("spec.zone", v1::WindowSpec { zone: "../passwd".into(), ..spec("w") }),
        ("spec.when", v1::WindowSpec { when: None, ..spec("w") }),
        ("spec.cron", v1::WindowSpec { when: cron("0 25 * * 6"), ..spec("w") }),
        ("spec.cron", v1::WindowSpec { when: cron("0 22 30 2 *"), ..spec("w") }),
        ("spec.start", v1::WindowSpec { when: Some(When::Start("2027-02-30T10:00".into())), ..spec("w") }),
        ("spec.start", v1::WindowSpec { when: Some(When::Start("2027-01-14T10:00".into())), ..spec("w") }),
        ("spec.duration", v1::WindowSpec { duration: None, ..spec("w") }),
        ("spec.services[0]", v1::WindowSpec { services: vec!["a b".into()], ..spec("w") }),
    ] {
        let refused = problem(&client.apply_window(apply(bad)).await.unwrap_err());
        assert_eq!(refused.exit_code(), 2, "{field}: {refused:?}");
        assert!(refused.what.starts_with(&format!("bad_field:{field}: ")), "{field}: {}", refused.what);
    }
    let slip = v1::WindowSpec { zone: "Europe/Berln".into(), ..spec("w") };
    let refused = problem(&client.apply_window(apply(slip)).await.unwrap_err());
    assert!(refused.what.contains("did you mean Europe/Berlin"), "{}", refused.what);
    let unknown = v1::WindowSpec { services: vec!["lodger".into()], ..spec("w") };
    let refused = problem(&client.apply_window(apply(unknown)).await.unwrap_err());
    assert_eq!((refused.reason.as_str(), refused.exit_code()), ("NOT_FOUND", 6));
    let nothing = v1::ApplyWindowRequest::default();
    assert_eq!(client.apply_window(nothing).await.unwrap_err().code(), Code::InvalidArgument);
    let dry_run = v1::ApplyWindowRequest { options: dry(), ..apply(spec("w")) };
    let tried = client.apply_window(dry_run).await.unwrap().into_inner();
    assert_eq!((tried.changed, tried.window), (true, None));
    assert!(world.memory.state.lock().unwrap().windows.is_empty());
    let mut viewer = ScheduleServiceClient::new(world.as_role("viewer"));
    assert_eq!(viewer.apply_window(apply(spec("w"))).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn an_etag_guards_against_somebody_elses_change() {
    let world = World::new();
    let mut client = client(&world);
    let fresh = v1::ApplyWindowRequest { etag: "0".into(), ..apply(spec("w")) };
    let seen = client.apply_window(fresh.clone()).await.unwrap().into_inner().window.unwrap();
    let twice = v1::ApplyWindowRequest {
        spec: Some(v1::WindowSpec { reason: "another".into(), ..spec("w") }),
        ..fresh
    };
    assert_eq!(problem(&client.apply_window(twice).await.unwrap_err()).reason, "STALE_PLAN");
    // Openings are no change of the declaration.
    open(&world, "w");
    assert_eq!(got(&mut client, "w").await.etag, seen.etag);
    let changed = v1::WindowSpec { reason: "longer".into(), ..spec("w") };
    let right = v1::ApplyWindowRequest { etag: seen.etag.clone(), ..apply(changed) };
    let now = client.apply_window(right).await.unwrap().into_inner().window.unwrap();
    let delete = |etag: &str| v1::DeleteWindowRequest {
        name: "w".into(),
        etag: etag.into(),
        options: options(&format!("delete-{etag}")),
    };
    assert_eq!(problem(&client.delete_window(delete(&seen.etag)).await.unwrap_err()).exit_code(), 3);
    client.delete_window(delete(&now.etag)).await.unwrap();
}

#[tokio::test]
async fn a_day_that_is_over_may_be_applied_again_and_not_changed() {
    let world = World::new();
    let mut client = client(&world);
    let tonight = v1::WindowSpec { when: Some(When::Start("2027-01-15T22:00".into())), ..spec("tonight") };
    let first = v1::ApplyWindowRequest { options: options("q-1"), ..apply(tonight.clone()) };
    client.apply_window(first.clone()).await.unwrap();
    world.memory.advance(DurationMs::from_secs(20 * 3_600));
    assert!(!client.apply_window(apply(tonight.clone())).await.unwrap().into_inner().changed);
    let other = v1::WindowSpec { reason: "another".into(), ..tonight };
    let refused = problem(&client.apply_window(apply(other)).await.unwrap_err());
    assert!(refused.what.starts_with("bad_field:spec.start: "), "{}", refused.what);
    // A request whose answer was lost gets it, whatever has become of the window.
    let delete = v1::DeleteWindowRequest { name: "tonight".into(), ..Default::default() };
    client.delete_window(delete).await.unwrap();
    client.apply_window(first).await.unwrap();
}

#[tokio::test]
async fn a_plan_waits_for_its_window_and_a_drain_is_refused() {
    let world = World::new().with_ledger().await;
    let mut client = client(&world);
    let mut operations = OperationServiceClient::new(world.as_role("operator"));
    let rolling = v1::RollingSpec { group: "ledger".into(), ..Default::default() };
    let work = v1::WorkSpec { kind: Some(v1::work_spec::Kind::Rolling(rolling)), max_failures: 0 };
    let plan = || v1::CreatePlanRequest { work: Some(work.clone()), options: None };
    applied(&mut client, v1::WindowSpec { owner: "the desk".into(), ..spec("saturdays") }).await;
    open(&world, "saturdays");
    let notes = operations.create_plan(plan()).await.unwrap().into_inner().plan.unwrap().notes;
    let told = "window saturdays: closed until 2027-01-16T21:00:00Z, then open for 4h; 3 of 3 steps fit";
    assert!(notes.iter().any(|note| note == told), "{notes:?}");
    let mut fleet = FleetServiceClient::new(world.as_role("operator"));
    let drain = v1::DrainNodeRequest { name: "node3".into(), options: None };
    let refused = problem(&fleet.drain_node(drain.clone()).await.unwrap_err());
    assert_eq!((refused.reason.as_str(), refused.exit_code()), ("WINDOW_CLOSED", 3));
    assert_eq!(refused.what, "window saturdays is closed (opens 2027-01-16T21:00:00Z)");
    assert!(refused.why.contains(&("owner".to_owned(), "the desk".to_owned())), "{refused:?}");
    assert_eq!(refused.hint, "quorate window show saturdays");
    let explain = v1::ExplainOperationRequest { name: "nodes/node3".into() };
    let explained = operations.explain_operation(explain).await.unwrap().into_inner();
    assert_eq!(explained.reason, "WINDOW_CLOSED", "{explained:?}");
    let fact = explained.why.iter().find(|fact| fact.subject == "window").unwrap();
    assert_eq!(fact.text, "saturdays is UPCOMING: opens 2027-01-16T21:00:00Z for 4h");
    // Too short for any of it.
    let short = v1::WindowSpec { duration: Some(secs(60)), ..spec("saturdays") };
    applied(&mut client, short).await;
    let refused = problem(&operations.create_plan(plan()).await.unwrap_err());
    assert_eq!(refused.reason, "WINDOW_CLOSED", "{refused:?}");
    client
        .delete_window(v1::DeleteWindowRequest { name: "saturdays".into(), ..Default::default() })
        .await
        .unwrap();
    fleet.drain_node(drain).await.unwrap();
}
