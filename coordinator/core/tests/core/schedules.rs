//! Schedules: a run makes one operation at most, whoever leads and however often it is proposed; overlap, missed runs, rights.

use std::collections::BTreeMap;

use proptest::prelude::*;
use quorate_core::Answer;
use quorate_core::command::{Attempt, Command, Entry, IdentityCommand, OperationCommand, ScheduleCommand};
use quorate_core::plan::plan;
use quorate_core::state::plan::{Change, Goal, PlanRequest};
use quorate_core::state::schedule::{RUNS_MAX, Run, SCHEDULES_MAX};
use quorate_model::{
    DurationMs, MissedPolicy, OperationId, OperationState, Overlap, Principal, Reason, Recurrence, Revision,
    RunResult, ScheduleName, ScheduleSpec, Timestamp, UserName, ZoneName,
};

use crate::agents::Fleet;
use crate::world::{START, admin, group, policy, spec as service_spec};

fn name(text: &str) -> ScheduleName {
    ScheduleName::new(text).unwrap()
}

fn secs(count: u64) -> DurationMs {
    DurationMs::from_secs(count)
}

fn reason(answer: &Answer) -> Option<Reason> {
    answer.refusal().map(quorate_model::Refusal::reason)
}

fn wrap(command: ScheduleCommand) -> Command {
    Command::Schedule(Box::new(command))
}

fn spec(text: &str) -> ScheduleSpec {
    ScheduleSpec {
        name: name(text),
        zone: ZoneName::new("UTC").unwrap(),
        when: Recurrence::Cron { expr: "* * * * *".into() },
        overlap: Overlap::Skip,
        missed: MissedPolicy::Skip,
        paused: false,
        owner: String::new(),
        reason: "memory grows".into(),
    }
}

fn work(of: &ScheduleName) -> PlanRequest {
    let goal = Goal::Rollout { group: group("ledger"), change: Change::Restart };
    PlanRequest::new(goal, Principal::Schedule { name: of.clone() })
}

fn apply_of(spec: ScheduleSpec, expect: Option<u64>) -> Command {
    let work = work(&spec.name);
    wrap(ScheduleCommand::Apply { spec, work: Box::new(work), expect: expect.map(Revision) })
}

fn fleet() -> Fleet {
    let mut fleet = Fleet::new();
    fleet.world.fleet(3);
    fleet.world.declare(service_spec("ledger"));
    fleet.bring_up("ledger");
    fleet.world.group("ledger", "ledger", policy("majority"), &["node1", "node2", "node3"]);
    fleet.tick();
    fleet
}

/// What a leader proposes for a run, of the declaration as it is.
fn fire_of(fleet: &mut Fleet, of: &str, due: Timestamp, id: &str) -> Command {
    // What it knows is fresh, whatever the test has done to the clock.
    fleet.observe();
    let world = &mut fleet.world;
    let schedule = &world.state.schedules[&name(of)];
    let (revision, mut minted) = (schedule.revision, world.minted);
    let made = plan(&world.state, &world.obs, &schedule.work, world.now, &mut || {
        minted += 1;
        minted
    });
    world.minted = minted;
    let attempt = Some(match made {
        Ok(plan) => Attempt::Start { id: OperationId::new(id).unwrap(), plan: Box::new(plan) },
        Err(refusal) => Attempt::Refused { refusal },
    });
    wrap(ScheduleCommand::Fire { name: name(of), revision, due, passed: 0, attempt })
}

fn fire(fleet: &mut Fleet, of: &str, due: Timestamp, id: &str) -> Answer {
    let command = fire_of(fleet, of, due, id);
    fleet.world.system(command)
}

fn runs(fleet: &Fleet, of: &str) -> Vec<Run> {
    fleet.world.state.schedules[&name(of)].runs.iter().cloned().collect()
}

/// `schedule NAME overlap=SKIP missed=SKIP`: a rolling restart of ledger.
pub(crate) fn declare(fleet: &mut Fleet, of: &str, options: &[&str]) -> Answer {
    let option = |name: &str| options.iter().find_map(|word| word.strip_prefix(name));
    let overlap = Overlap::parse(option("overlap=").unwrap_or("SKIP")).unwrap();
    let missed = MissedPolicy::parse(option("missed=").unwrap_or("SKIP")).unwrap();
    let paused = options.contains(&"paused");
    fleet.world.user(apply_of(ScheduleSpec { overlap, missed, paused, ..spec(of) }, None))
}

/// `due NAME 5s r-1`: the leader plans and proposes the run that was due so long ago; `due NAME waiting r-1` the one that waits.
pub(crate) fn due(fleet: &mut Fleet, of: &str, ago: &str, id: &str) -> Answer {
    let waiting = fleet.world.state.schedules[&name(of)].waiting;
    let due = match ago.strip_suffix('s') {
        Some(ago) => fleet.world.now.minus(secs(ago.parse().unwrap())),
        None => waiting.unwrap(),
    };
    fire(fleet, of, due, id)
}

/// `runs NAME`: what became of them.
pub(crate) fn told(fleet: &Fleet, of: &str) -> Vec<String> {
    let line = |run: &Run| {
        let due = run.due.since(START).0 / 1_000;
        let made = run.operation.as_ref().map_or("", OperationId::as_str);
        let why = run.reason.map_or("", Reason::as_str);
        let text = format!("  due {due}s {} {made} {why} {}", run.result, run.text);
        text.split_whitespace().fold(String::from(" "), |line, word| line + " " + word)
    };
    runs(fleet, of).iter().map(line).collect()
}

#[test]
fn a_run_makes_one_operation_however_often_it_is_proposed() {
    let mut fleet = fleet();
    declare(&mut fleet, "s", &["overlap=ALLOW_ALL"]);
    let declared = fleet.world.now;
    fleet.world.now = declared.plus(secs(10));
    let due = declared.plus(secs(5));
    // Two leaders have planned the same run.
    let (one, other) = (fire_of(&mut fleet, "s", due, "r-1"), fire_of(&mut fleet, "s", due, "r-2"));
    assert!(matches!(fleet.world.system(one.clone()), Answer::Operation { .. }));
    for again in [one, other] {
        assert_eq!(reason(&fleet.world.system(again)), Some(Reason::WrongState));
    }
    // Older than what is settled, not due yet, due before it was declared.
    for due in [declared.plus(secs(4)), declared.plus(secs(11)), declared, declared.minus(secs(1))] {
        assert_eq!(reason(&fire(&mut fleet, "s", due, "r-3")), Some(Reason::WrongState));
    }
    let state = &fleet.world.state;
    assert_eq!(state.operations.len(), 1);
    let operation = state.operations.values().next().unwrap();
    assert_eq!(operation.created_by.to_string(), "schedule:s");
    assert_eq!(operation.request.principal, operation.created_by);
    assert_eq!(runs(&fleet, "s").len(), 1);
    assert_eq!(state.schedules[&name("s")].counts, BTreeMap::from([(RunResult::Started, 1)]));
    // Declared anew, what was due before is of the old declaration.
    declare(&mut fleet, "s", &["overlap=SKIP"]);
    let stale = fire(&mut fleet, "s", declared.plus(secs(6)), "r-4");
    assert_eq!(reason(&stale), Some(Reason::WrongState));
}

#[test]
fn a_run_of_another_declaration_is_refused() {
    let mut fleet = fleet();
    declare(&mut fleet, "s", &[]);
    fleet.world.now = fleet.world.now.plus(secs(10));
    let due = fleet.world.now;
    let old = fire_of(&mut fleet, "s", due, "r-1");
    declare(&mut fleet, "s", &["overlap=ALLOW_ALL"]);
    fleet.world.now = due.plus(secs(1));
    let before = fleet.world.state.schedules.clone();
    assert_eq!(reason(&fleet.world.system(old)), Some(Reason::WrongState));
    // A plan of something else is not started in its name.
    let mut foreign = fire_of(&mut fleet, "s", due.plus(secs(1)), "r-1");
    let Command::Schedule(command) = &mut foreign else { unreachable!("it was wrapped") };
    let ScheduleCommand::Fire { attempt: Some(Attempt::Start { plan, .. }), .. } = &mut **command else {
        panic!("it was planned")
    };
    plan.request.max_failures = 7;
    assert_eq!(reason(&fleet.world.system(foreign)), Some(Reason::WrongState));
    assert_eq!(fleet.world.state.schedules, before, "a refusal leaves no trace");
    assert!(fleet.world.state.operations.is_empty());
}

#[test]
fn a_run_that_is_late_by_more_than_the_grace_was_missed() {
    for (missed, late, wanted) in [
        ("SKIP", 60, RunResult::Started),
        ("SKIP", 61, RunResult::Missed),
        ("RUN_ONCE", 61, RunResult::Started),
        ("RUN_ONCE", 100_000, RunResult::Started),
    ] {
        let mut fleet = fleet();
        declare(&mut fleet, "s", &[&format!("missed={missed}")]);
        let due = fleet.world.now.plus(secs(5));
        fleet.world.now = due.plus(secs(late));
        assert_eq!(reason(&fire(&mut fleet, "s", due, "r-1")), None);
        let last = runs(&fleet, "s").pop().unwrap();
        assert_eq!((last.result, last.due), (wanted, due), "{missed} {late}");
        assert_eq!(reason(&fire(&mut fleet, "s", due, "r-2")), Some(Reason::WrongState));
    }
}

#[test]
fn what_is_due_while_it_is_paused_is_never_made_up_for() {
    let mut fleet = fleet();
    declare(&mut fleet, "s", &["missed=RUN_ONCE"]);
    let began = fleet.world.now;
    let pause = |paused| wrap(ScheduleCommand::SetPaused { name: name("s"), paused });
    fleet.world.must(pause(true));
    fleet.world.now = began.plus(secs(10));
    let due = began.plus(secs(5));
    assert_eq!(reason(&fire(&mut fleet, "s", due, "r-1")), Some(Reason::WrongState));
    fleet.world.must(pause(false));
    assert_eq!(reason(&fire(&mut fleet, "s", due, "r-1")), Some(Reason::WrongState));
    let revision = fleet.world.state.schedules[&name("s")].revision;
    fleet.world.must(pause(false));
    assert_eq!(fleet.world.state.schedules[&name("s")].revision, revision, "it was so already");
    fleet.world.now = began.plus(secs(12));
    assert_eq!(reason(&fire(&mut fleet, "s", began.plus(secs(11)), "r-1")), None);
    assert_eq!(runs(&fleet, "s").len(), 1);
    let missing = wrap(ScheduleCommand::SetPaused { name: name("t"), paused: true });
    assert_eq!(reason(&fleet.world.user(missing)), Some(Reason::NotFound));
}

#[test]
fn a_run_that_waits_is_left_out_when_its_schedule_changes() {
    for change in ["pause", "apply"] {
        let mut fleet = fleet();
        declare(&mut fleet, "s", &["overlap=BUFFER_ONE"]);
        let began = fleet.world.now;
        fleet.world.now = began.plus(secs(10));
        fire(&mut fleet, "s", began.plus(secs(5)), "r-1");
        fire(&mut fleet, "s", began.plus(secs(6)), "r-2");
        assert_eq!(fleet.world.state.schedules[&name("s")].waiting, Some(began.plus(secs(6))));
        if change == "pause" {
            fleet.world.must(wrap(ScheduleCommand::SetPaused { name: name("s"), paused: true }));
        } else {
            declare(&mut fleet, "s", &["overlap=SKIP"]);
        }
        assert_eq!(fleet.world.state.schedules[&name("s")].waiting, None);
        assert_eq!(runs(&fleet, "s")[1].result, RunResult::Skipped, "{change}");
    }
}

#[test]
fn a_run_that_somebody_asked_for_is_theirs_though_it_waits() {
    let mut fleet = fleet();
    declare(&mut fleet, "s", &["overlap=BUFFER_ONE"]);
    let began = fleet.world.now;
    fleet.world.now = began.plus(secs(10));
    let first = fire(&mut fleet, "s", began.plus(secs(5)), "r-1");
    assert!(first.refusal().is_none(), "{first:?}");
    fleet.tick();
    let schedule = &fleet.world.state.schedules[&name("s")];
    let (revision, fired) = (schedule.revision, schedule.fired);
    let answer = fleet.world.user(wrap(ScheduleCommand::Run { name: name("s"), revision, attempt: None }));
    assert!(answer.refusal().is_none(), "{answer:?}");
    let schedule = &fleet.world.state.schedules[&name("s")];
    assert_eq!((schedule.waiting_by.as_ref(), schedule.waiting.is_some()), (Some(&admin()), true));
    fleet.world.user(Command::Operation(Box::new(OperationCommand::Cancel {
        id: OperationId::new("r-1").unwrap(),
    })));
    for _ in 0..200 {
        fleet.tick();
    }
    let waiting = fleet.world.state.schedules[&name("s")].waiting.unwrap();
    let begun = fire(&mut fleet, "s", waiting, "r-2");
    assert!(begun.refusal().is_none(), "{begun:?}");
    let schedule = &fleet.world.state.schedules[&name("s")];
    let last = schedule.runs.back().unwrap();
    assert_eq!(
        (last.operation.as_ref().map(OperationId::as_str), last.by.as_ref()),
        (Some("r-2"), Some(&admin()))
    );
    assert_eq!((schedule.waiting_by.as_ref(), schedule.waiting), (None, None));
    assert_eq!(schedule.fired, fired, "nothing that is due is settled by it");
}

#[test]
fn a_schedule_has_the_rights_of_whoever_declared_it() {
    let mut fleet = fleet();
    declare(&mut fleet, "s", &[]);
    let began = fleet.world.now;
    let user = UserName::new("ann").unwrap();
    assert_eq!(admin(), Principal::User { name: user.clone() });
    let answer = fleet.world.system(Command::Identity(IdentityCommand::RemoveUser { name: user }));
    assert_eq!(reason(&answer), None);
    fleet.world.now = began.plus(secs(10));
    assert_eq!(reason(&fire(&mut fleet, "s", began.plus(secs(5)), "r-1")), None);
    assert!(fleet.world.state.operations.is_empty());
    let last = runs(&fleet, "s").pop().unwrap();
    assert_eq!((last.result, last.reason), (RunResult::Refused, Some(Reason::NotAllowed)));
}

#[test]
fn the_newest_runs_are_kept_and_all_are_counted() {
    let mut fleet = fleet();
    declare(&mut fleet, "s", &[]);
    for number in 0..15 {
        fleet.world.now = fleet.world.now.plus(secs(2));
        let due = fleet.world.now;
        fire(&mut fleet, "s", due, &format!("r-{number}"));
    }
    assert_eq!(runs(&fleet, "s").len(), RUNS_MAX);
    let counts = &fleet.world.state.schedules[&name("s")].counts;
    assert_eq!(counts[&RunResult::Started] + counts[&RunResult::Skipped], 15, "{counts:?}");
}

#[test]
fn the_door_checks_first() {
    let mut fleet = fleet();
    let foreign =
        wrap(ScheduleCommand::Apply { spec: spec("s"), work: Box::new(work(&name("t"))), expect: None });
    let empty = ScheduleSpec { reason: String::new(), ..spec("s") };
    for (command, wanted) in [
        (foreign, Reason::InvalidArgument),
        (apply_of(empty, None), Reason::InvalidArgument),
        (apply_of(spec("s"), Some(7)), Reason::StalePlan),
        (wrap(ScheduleCommand::Delete { name: name("s"), expect: None }), Reason::NotFound),
    ] {
        assert_eq!(reason(&fleet.world.user(command)), Some(wanted));
        assert!(fleet.world.state.schedules.is_empty(), "a refusal leaves no trace");
    }
    assert_eq!(reason(&fleet.world.user(apply_of(spec("s"), Some(0)))), None);
    let first = fleet.world.state.schedules[&name("s")].clone();
    fleet.tick();
    assert_eq!(reason(&fleet.world.user(apply_of(spec("s"), None))), None);
    assert_eq!(fleet.world.state.schedules[&name("s")], first, "the same again is no change");
    for number in 1..SCHEDULES_MAX {
        assert_eq!(reason(&fleet.world.user(apply_of(spec(&format!("s{number}")), None))), None);
    }
    assert_eq!(reason(&fleet.world.user(apply_of(spec("more"), None))), Some(Reason::LimitReached));
    let delete = wrap(ScheduleCommand::Delete { name: name("s"), expect: Some(first.revision) });
    assert_eq!(reason(&fleet.world.user(delete)), None);
    assert_eq!(reason(&fleet.world.user(apply_of(spec("more"), None))), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is proposed, by whichever leader and in whatever order, a run never makes two operations.
    #[test]
    fn a_run_never_makes_two_operations(codes in prop::collection::vec((0_u8..10, any::<u8>(), any::<u8>()), 1..60)) {
        let mut fleet = fleet();
        let began = fleet.world.now;
        let mut made: BTreeMap<Timestamp, OperationId> = BTreeMap::new();
        let mut stale: Vec<(Timestamp, Command)> = Vec::new();
        let overlaps = ["SKIP", "BUFFER_ONE", "CANCEL_OTHER", "ALLOW_ALL"];
        declare(&mut fleet, "s", &[]);
        for (number, (kind, a, b)) in codes.into_iter().enumerate() {
            let due = began.plus(secs(u64::from(a % 32) * 7));
            let open = fleet.world.state.operations.values().find(|o| !o.state.is_terminal()).map(|o| o.id.clone());
            let (due, command) = match (kind, open) {
                (0, _) => {
                    fleet.world.now = fleet.world.now.plus(secs(u64::from(b % 40)));
                    continue;
                }
                (1, _) if b % 4 == 0 => {
                    let missed = if a & 1 == 0 { "missed=SKIP" } else { "missed=RUN_ONCE" };
                    let overlap = format!("overlap={}", overlaps[usize::from(a / 2 % 4)]);
                    declare(&mut fleet, "s", &[missed, &overlap]);
                    continue;
                }
                (2, _) if b % 4 == 0 => {
                    fleet.world.user(wrap(ScheduleCommand::SetPaused { name: name("s"), paused: a & 1 == 0 }));
                    continue;
                }
                (3, Some(id)) => {
                    fleet.world.user(Command::Operation(Box::new(OperationCommand::Cancel { id: id.clone() })));
                    let state = OperationState::Canceled;
                    fleet.world.system(Command::Operation(Box::new(OperationCommand::Settle { id, state })));
                    continue;
                }
                (4, _) if !stale.is_empty() => stale[usize::from(b) % stale.len()].clone(),
                (5 | 6, _) if fleet.world.state.schedules[&name("s")].waiting.is_some() => {
                    let due = fleet.world.state.schedules[&name("s")].waiting.unwrap();
                    (due, fire_of(&mut fleet, "s", due, &format!("r-{number}")))
                }
                _ => (due, fire_of(&mut fleet, "s", due, &format!("r-{number}"))),
            };
            let before = fleet.world.state.schedules.clone();
            let operations = fleet.world.state.operations.len();
            let answer = fleet.world.commit(&Entry::system(fleet.world.now, command.clone()));
            stale.push((due, command));
            match answer {
                Answer::Operation { operation, .. } => {
                    let twice = made.insert(due, operation);
                    prop_assert_eq!(twice, None, "the run due at {:?} made two", due);
                    prop_assert!(due > began && due <= fleet.world.now);
                }
                Answer::Refused(_) => prop_assert_eq!(&before, &fleet.world.state.schedules),
                _ => prop_assert_eq!(operations, fleet.world.state.operations.len()),
            }
            let (old, new) = (&before[&name("s")], &fleet.world.state.schedules[&name("s")]);
            prop_assert!(new.fired >= old.fired && new.runs.len() <= RUNS_MAX);
            crate::sequences::check(&fleet.world.state);
        }
        fleet.world.replicas_agree();
    }
}
