//! A schedule: declared, run, missed, paused, forgotten.

use quorate_core::command::{Attempt, ScheduleCommand};
use quorate_model::{MissedPolicy, Overlap, ScheduleName, ScheduleSpec};

use super::*;

pub(super) fn scheduled(log: &mut Log) {
    let name = ScheduleName::new("weekly").unwrap();
    let spec = ScheduleSpec {
        name: name.clone(),
        zone: ZoneName::new("Europe/Berlin").unwrap(),
        when: Recurrence::Cron { expr: "*/5 3 * * 6".into() },
        overlap: Overlap::CancelOther,
        missed: MissedPolicy::RunOnce,
        paused: false,
        owner: "the desk".into(),
        reason: "memory grows".into(),
    };
    let goal = Goal::Rollout { group: group("ledger"), change: Change::Restart };
    let work = PlanRequest::new(goal, Principal::Schedule { name: name.clone() });
    let command = |command| Command::Schedule(Box::new(command));
    log.user(command(ScheduleCommand::Apply {
        spec,
        work: Box::new(work.clone()),
        expect: Some(Revision(0)),
    }));
    let plan = Box::new(log.plan_of(900, &work));
    let (due, first) = (log.now(), operation_id("r-9"));
    let start = Some(Attempt::Start { id: first.clone(), plan });
    let refusal = quorate_model::Refusal::new(Reason::Freeze, "everything is frozen");
    let fires = [(due, 0, start), (log.now().plus(DurationMs(1_000)), 2, None)];
    for (due, passed, attempt) in fires {
        let revision = log.state.schedules[&name].revision;
        let name = name.clone();
        let fire = ScheduleCommand::Fire { name, revision, due, passed, attempt };
        log.add(Principal::System, command(fire));
    }
    log.operation(OperationCommand::Settle { id: first, state: OperationState::Canceled });
    let schedule = &log.state.schedules[&name];
    let (revision, due) = (schedule.revision, schedule.waiting.unwrap());
    let attempt = Some(Attempt::Refused { refusal });
    let fire = ScheduleCommand::Fire { name: name.clone(), revision, due, passed: 0, attempt };
    log.add(Principal::System, command(fire));
    let plan = Box::new(log.plan_of(950, &work));
    let by_hand = operation_id("r-9h");
    let attempt = Some(Attempt::Start { id: by_hand.clone(), plan });
    log.user(command(ScheduleCommand::Run { name: name.clone(), revision, attempt }));
    log.user(command(ScheduleCommand::Run { name: name.clone(), revision, attempt: None }));
    log.operation(OperationCommand::Settle { id: by_hand, state: OperationState::Canceled });
    log.user(command(ScheduleCommand::SetPaused { name: name.clone(), paused: true }));
    log.user(command(ScheduleCommand::Delete { name, expect: None }));
    // One stays.
    let name = ScheduleName::new("nightly").unwrap();
    let spec = ScheduleSpec {
        name: name.clone(),
        zone: ZoneName::new("UTC").unwrap(),
        when: Recurrence::Once { start: LocalTime::new("2026-12-24T22:00").unwrap() },
        overlap: Overlap::Skip,
        missed: MissedPolicy::Skip,
        paused: true,
        owner: String::new(),
        reason: "as agreed".into(),
    };
    let goal = Goal::Rotate { service: service("ledger"), nodes: Selector::node("node1") };
    let work = PlanRequest::new(goal, Principal::Schedule { name });
    log.user(command(ScheduleCommand::Apply { spec, work: Box::new(work), expect: None }));
}
