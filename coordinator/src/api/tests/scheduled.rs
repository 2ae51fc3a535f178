//! Schedules: declared, shown, paused, deleted. What becomes of their runs is tested where they are proposed.

use quorate_proto::v1;
use quorate_proto::v1::schedule_service_client::ScheduleServiceClient;
use quorate_proto::v1::schedule_spec::When;
use quorate_proto::v1::work_spec::Kind;
use tonic::Code;

use super::world::{As, World, dry, options, problem};

type Client = ScheduleServiceClient<As>;

fn client(world: &World) -> Client {
    ScheduleServiceClient::new(world.as_role("operator"))
}

fn restart(group: &str) -> v1::WorkSpec {
    let rolling =
        v1::RollingSpec { group: group.into(), kind: v1::RollingKind::Restart as i32, ..Default::default() };
    v1::WorkSpec { kind: Some(Kind::Rolling(rolling)), max_failures: 0 }
}

/// `NOW` is 2027-01-15T08:00:00Z, a Friday: the first run is tomorrow, 02:00 UTC.
fn spec(name: &str) -> v1::ScheduleSpec {
    v1::ScheduleSpec {
        name: name.into(),
        zone: "Europe/Berlin".into(),
        when: Some(When::Cron("0 3 * * 6".into())),
        work: Some(restart("ledger")),
        overlap: v1::ScheduleOverlap::Skip as i32,
        missed: v1::ScheduleMissed::RunOnce as i32,
        reason: "memory grows".into(),
        ..Default::default()
    }
}

fn apply(spec: v1::ScheduleSpec) -> v1::ApplyScheduleRequest {
    v1::ApplyScheduleRequest { spec: Some(spec), ..Default::default() }
}

async fn got(client: &mut Client, name: &str) -> v1::Schedule {
    let request = v1::GetScheduleRequest { name: name.into(), consistency: 0 };
    client.get_schedule(request).await.unwrap().into_inner().schedule.unwrap()
}

#[tokio::test]
async fn a_schedule_is_declared_shown_paused_and_deleted() {
    let world = World::new().with_ledger().await;
    let mut client = client(&world);
    let lower = v1::ScheduleSpec { zone: "europe/berlin".into(), ..spec("weekly") };
    let answer = client.apply_schedule(apply(lower.clone())).await.unwrap().into_inner();
    assert!(answer.changed);
    let shown = answer.schedule.unwrap();
    assert_eq!(shown.spec, Some(spec("weekly")), "the zone is written as it is known");
    assert_eq!((shown.next.len(), shown.runs.len()), (5, 0));
    assert_eq!(shown.next[0].local, "2027-01-16T03:00:00+01:00[Europe/Berlin]");
    assert!(!client.apply_schedule(apply(lower)).await.unwrap().into_inner().changed);
    let pause = v1::PauseScheduleRequest { name: "weekly".into(), options: dry() };
    client.pause_schedule(pause.clone()).await.unwrap();
    assert_eq!(got(&mut client, "weekly").await, shown, "a dry run changes nothing");
    let pause = v1::PauseScheduleRequest { options: None, ..pause };
    let paused = client.pause_schedule(pause).await.unwrap().into_inner().schedule.unwrap();
    assert!(paused.spec.as_ref().unwrap().paused && paused.next.is_empty() && paused.etag != shown.etag);
    let resume = v1::ResumeScheduleRequest { name: "weekly".into(), options: None };
    let resumed = client.resume_schedule(resume).await.unwrap().into_inner().schedule.unwrap();
    assert_eq!(resumed.spec, Some(spec("weekly")));
    client.apply_schedule(apply(spec("daily"))).await.unwrap();
    let list = v1::ListSchedulesRequest { page_size: 1, ..Default::default() };
    let page = client.list_schedules(list.clone()).await.unwrap().into_inner();
    assert_eq!(page.schedules[0].name, "daily");
    let list = v1::ListSchedulesRequest { page_token: page.next_page_token, ..list };
    assert_eq!(client.list_schedules(list).await.unwrap().into_inner().schedules, [resumed]);
    let delete = v1::DeleteScheduleRequest { name: "weekly".into(), ..Default::default() };
    client.delete_schedule(delete.clone()).await.unwrap();
    assert_eq!(client.delete_schedule(delete).await.unwrap_err().code(), Code::NotFound);
    let missing = v1::PauseScheduleRequest { name: "weekly".into(), options: options("q-9") };
    assert_eq!(client.pause_schedule(missing).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn what_is_wrong_is_named_and_changes_nothing() {
    let world = World::new().with_ledger().await;
    let mut client = client(&world);
    let cron = |text: &str| Some(When::Cron(text.into()));
    for (field, bad) in [
        ("spec.reason", v1::ScheduleSpec { reason: String::new(), ..spec("s") }),
        ("spec.name", spec("")),
        ("spec.zone", v1::ScheduleSpec { zone: "Europe/Berln".into(), ..spec("s") }),
        ("spec.when", v1::ScheduleSpec { when: None, ..spec("s") }),
        ("spec.cron", v1::ScheduleSpec { when: cron("0 25 * * 6"), ..spec("s") }),
        ("spec.cron", v1::ScheduleSpec { when: cron("0 3 30 2 *"), ..spec("s") }),
        ("spec.start", v1::ScheduleSpec { when: Some(When::Start("2027-01-14T10:00".into())), ..spec("s") }),
        ("spec.work", v1::ScheduleSpec { work: None, ..spec("s") }),
        ("spec.work.kind", v1::ScheduleSpec { work: Some(v1::WorkSpec::default()), ..spec("s") }),
        ("spec.overlap", v1::ScheduleSpec { overlap: 9, ..spec("s") }),
    ] {
        let refused = problem(&client.apply_schedule(apply(bad)).await.unwrap_err());
        assert_eq!(refused.exit_code(), 2, "{field}: {refused:?}");
        assert!(refused.what.starts_with(&format!("bad_field:{field}: ")), "{field}: {}", refused.what);
    }
    let dry_run = v1::ApplyScheduleRequest { options: dry(), ..apply(spec("s")) };
    let tried = client.apply_schedule(dry_run).await.unwrap().into_inner();
    assert_eq!((tried.changed, tried.schedule), (true, None));
    assert!(world.memory.state.lock().unwrap().schedules.is_empty());
    let mut viewer = ScheduleServiceClient::new(world.as_role("viewer"));
    let refused = viewer.apply_schedule(apply(spec("s"))).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn work_that_cannot_be_planned_yet_is_a_warning() {
    let world = World::new().with_ledger().await;
    let mut client = client(&world);
    let early = v1::ScheduleSpec { work: Some(restart("lodger")), ..spec("early") };
    let answer = client.apply_schedule(apply(early)).await.unwrap().into_inner();
    assert!(answer.changed && answer.schedule.is_some());
    assert!(
        matches!(answer.warnings.as_slice(), [text] if text.contains("NOT_FOUND")),
        "{:?}",
        answer.warnings
    );
    // What can never be planned is refused.
    let mut work = restart("ledger");
    let Some(Kind::Rolling(rolling)) = &mut work.kind else { unreachable!("it is rolling") };
    rolling.max_unavailable = 10_000;
    let nonsense = v1::ScheduleSpec { work: Some(work), ..spec("nonsense") };
    let refused = problem(&client.apply_schedule(apply(nonsense)).await.unwrap_err());
    assert_eq!(refused.exit_code(), 2, "{refused:?}");
    let state = world.memory.state.lock().unwrap();
    assert_eq!(state.schedules.len(), 1);
}
