//! Schedules: declared, paused, due, forgotten.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use quorate_model::{
    OperationId, Principal, Reason, Refusal, Revision, RunResult, ScheduleName, ScheduleSpec, Timestamp,
};

use super::declared::expected;
use super::{Answer, Context, Effect, operation, validate};
use crate::command::{Attempt, ScheduleCommand};
use crate::safety::schedule::{Verdict, by_hand, judge};
use crate::state::plan::{Plan, PlanRequest};
use crate::state::schedule::{Run, SCHEDULES_MAX};
use crate::state::{Schedule, State};

/// Longest text kept of a run that made no operation.
const TEXT_MAX: usize = 512;

pub(super) fn apply(
    state: &mut State,
    context: &Context<'_>,
    command: &ScheduleCommand,
) -> Result<Effect, Refusal> {
    match command {
        ScheduleCommand::Apply { spec, work, expect } => put(state, context, spec, work, *expect),
        ScheduleCommand::Delete { name, expect } => delete(state, context, name, *expect),
        ScheduleCommand::SetPaused { name, paused } => set_paused(state, context, name, *paused),
        ScheduleCommand::Run { name, revision, attempt } => {
            let verdict = by_hand(state, as_of(state, name, *revision)?)?;
            run_now(state, context, name, verdict, attempt.as_ref())
        }
        ScheduleCommand::Fire { name, revision, due, passed, attempt } => {
            let verdict = judge(state, as_of(state, name, *revision)?, *due, context.now)?;
            let waited = state.schedules.get(name).filter(|schedule| schedule.waiting == Some(*due));
            let by = waited.and_then(|schedule| schedule.waiting_by.clone());
            let fire = Fire { name, due: *due, passed: *passed, by: by.as_ref() };
            fire.settle(state, context, verdict, attempt.as_ref())
        }
    }
}

/// A schedule as it was when a run of it was worked out.
fn as_of<'a>(state: &'a State, name: &ScheduleName, revision: Revision) -> Result<&'a Schedule, Refusal> {
    let found = state.schedules.get(name).ok_or_else(|| none(name))?;
    if found.revision == revision {
        return Ok(found);
    }
    let text = format!("schedule {name} has been declared anew since that run was worked out");
    Err(Refusal::new(Reason::WrongState, text))
}

/// A run by hand: whoever asks for it has started it, and what does not begin is told to them and not noted.
fn run_now(
    state: &mut State,
    context: &Context<'_>,
    name: &ScheduleName,
    verdict: Verdict,
    attempt: Option<&Attempt>,
) -> Result<Effect, Refusal> {
    let fire = Fire { name, due: context.now, passed: 0, by: Some(context.principal) };
    match (verdict, attempt) {
        (Verdict::Start, Some(Attempt::Start { id, plan })) => {
            fire.check(state, plan)?;
            let answer = operation::start(state, context, id, plan)?.answer;
            Ok(fire.started(state, context, id, answer))
        }
        (Verdict::Wait { operation, cancel }, _) => Ok(fire.wait(state, context, &operation, cancel)),
        (Verdict::Denied(refusal), _) => Err(refusal),
        (Verdict::Start, Some(Attempt::Refused { refusal })) => Err(refusal.clone()),
        (Verdict::Start, None) | (Verdict::Missed | Verdict::Skip { .. }, _) => {
            let what = format!("schedule {name}: the run may begin, but was not planned");
            Err(Refusal::new(Reason::WrongState, what))
        }
    }
}

fn none(name: &ScheduleName) -> Refusal {
    Refusal::new(Reason::NotFound, format!("there is no schedule {name}"))
}

fn resource(name: &ScheduleName) -> String {
    format!("schedules/{name}")
}

fn put(
    state: &mut State,
    context: &Context<'_>,
    spec: &ScheduleSpec,
    work: &PlanRequest,
    expect: Option<Revision>,
) -> Result<Effect, Refusal> {
    let name = &spec.name;
    let known = state.schedules.get(name);
    expected(&format!("schedule {name}"), expect, known.map(|s| s.revision))?;
    spec.check().map_err(|invalid| {
        Refusal::new(Reason::InvalidArgument, format!("{}: {invalid}", invalid.field()))
    })?;
    if work.principal != (Principal::Schedule { name: name.clone() }) {
        return Err(validate::bad("work: it is not asked in the name of the schedule"));
    }
    if known.is_some_and(|s| s.spec == *spec && s.work == *work && s.applied_by == *context.principal) {
        return Ok(Effect::unchanged(context.done()));
    }
    if known.is_none() && state.schedules.len() >= SCHEDULES_MAX {
        return Err(Refusal::new(
            Reason::LimitReached,
            format!("there are {SCHEDULES_MAX} schedules already"),
        )
        .with_hint("delete those that nobody needs: quorate schedule list"));
    }
    let mut schedule = Schedule {
        spec: spec.clone(),
        work: work.clone(),
        applied_by: context.principal.clone(),
        created_at: known.map_or(context.now, |s| s.created_at),
        revision: context.revision,
        fired: context.now,
        waiting: known.and_then(|s| s.waiting),
        waiting_by: known.and_then(|s| s.waiting_by.clone()),
        runs: known.map_or_else(VecDeque::new, |s| s.runs.clone()),
        counts: known.map_or_else(BTreeMap::new, |s| s.counts.clone()),
    };
    leave_out(&mut schedule, context, "the schedule was declared anew while it waited");
    state.schedules.insert(name.clone(), schedule);
    Ok(Effect::changed(context.done(), resource(name), spec.reason.clone()))
}

fn delete(
    state: &mut State,
    context: &Context<'_>,
    name: &ScheduleName,
    expect: Option<Revision>,
) -> Result<Effect, Refusal> {
    let known = state.schedules.get(name).ok_or_else(|| none(name))?;
    expected(&format!("schedule {name}"), expect, Some(known.revision))?;
    state.schedules.remove(name);
    Ok(Effect::changed(context.done(), resource(name), "deleted"))
}

fn set_paused(
    state: &mut State,
    context: &Context<'_>,
    name: &ScheduleName,
    paused: bool,
) -> Result<Effect, Refusal> {
    let schedule = state.schedules.get_mut(name).ok_or_else(|| none(name))?;
    if schedule.spec.paused == paused {
        return Ok(Effect::unchanged(context.done()));
    }
    schedule.spec.paused = paused;
    schedule.applied_by = context.principal.clone();
    schedule.revision = context.revision;
    // What was due while it was paused is not made up for, and what becomes due from now on is.
    schedule.fired = context.now;
    leave_out(schedule, context, "the schedule was paused while it waited");
    Ok(Effect::changed(context.done(), resource(name), if paused { "paused" } else { "resumed" }))
}

/// The run that waits belonged to what the schedule was.
fn leave_out(schedule: &mut Schedule, context: &Context<'_>, why: &str) {
    let by = schedule.waiting_by.take();
    if let Some(due) = schedule.waiting.take() {
        let text = String::from(why);
        let result = RunResult::Skipped;
        schedule.note(Run {
            due,
            at: context.now,
            result,
            operation: None,
            reason: None,
            text,
            passed: 0,
            by,
        });
    }
}

/// A run that is due, or that somebody asks for.
struct Fire<'a> {
    name: &'a ScheduleName,
    due: Timestamp,
    passed: u32,
    /// Who runs it by hand, or has asked for the run that waited: nothing that is due is settled by that.
    by: Option<&'a Principal>,
}

impl Fire<'_> {
    fn settle(
        &self,
        state: &mut State,
        context: &Context<'_>,
        verdict: Verdict,
        attempt: Option<&Attempt>,
    ) -> Result<Effect, Refusal> {
        match verdict {
            Verdict::Start => match attempt {
                Some(Attempt::Start { id, plan }) => self.start(state, context, id, plan),
                Some(Attempt::Refused { refusal }) => Ok(self.refused(state, context, refusal)),
                None => {
                    let what = format!("schedule {}: the run may begin, but was not planned", self.name);
                    Err(Refusal::new(Reason::WrongState, what))
                }
            },
            Verdict::Denied(refusal) => Ok(self.refused(state, context, &refusal)),
            Verdict::Missed => {
                let text = String::from("nobody was there when it was due");
                Ok(self.noted(state, context, self.run(context, RunResult::Missed, text)))
            }
            Verdict::Skip { operation } => {
                let text = format!("{operation} was not over");
                Ok(self.noted(state, context, self.run(context, RunResult::Skipped, text)))
            }
            Verdict::Wait { operation, cancel } => Ok(self.wait(state, context, &operation, cancel)),
        }
    }

    fn run(&self, context: &Context<'_>, result: RunResult, mut text: String) -> Run {
        validate::cut(&mut text, TEXT_MAX);
        let (due, at, passed) = (self.due, context.now, self.passed);
        Run { due, at, result, operation: None, reason: None, text, passed, by: self.by.cloned() }
    }

    /// Plan and operation are made as for anybody else, in the name of the schedule.
    fn start(
        &self,
        state: &mut State,
        context: &Context<'_>,
        id: &OperationId,
        plan: &Plan,
    ) -> Result<Effect, Refusal> {
        self.check(state, plan)?;
        let own = Context {
            now: context.now,
            revision: context.revision,
            principal: &Principal::Schedule { name: self.name.clone() },
        };
        let made = operation::start(state, &own, id, plan);
        let answer = match made {
            Ok(effect) => effect.answer,
            // It was planned a moment ago, and something moved since: it is planned anew.
            Err(refusal) if is_passing(refusal.reason()) => {
                let what = format!("schedule {}: {}", self.name, refusal.what());
                return Err(Refusal::new(Reason::WrongState, what));
            }
            Err(refusal) => return Ok(self.refused(state, context, &refusal)),
        };
        Ok(self.started(state, context, id, answer))
    }

    fn check(&self, state: &State, plan: &Plan) -> Result<(), Refusal> {
        let asked = state.schedules.get(self.name).map(|schedule| &schedule.work);
        if asked == Some(&plan.request) {
            return Ok(());
        }
        Err(Refusal::new(Reason::WrongState, "the plan is not the one of the schedule"))
    }

    fn started(&self, state: &mut State, context: &Context<'_>, id: &OperationId, answer: Answer) -> Effect {
        let mut run = self.run(context, RunResult::Started, String::new());
        run.operation = Some(id.clone());
        let mut effect = self.noted(state, context, run).of(id);
        effect.answer = answer;
        effect
    }

    fn refused(&self, state: &mut State, context: &Context<'_>, refusal: &Refusal) -> Effect {
        let mut run = self.run(context, RunResult::Refused, refusal.what());
        run.reason = Some(refusal.reason());
        self.noted(state, context, run)
    }

    /// Everything up to this run is settled.
    fn noted(&self, state: &mut State, context: &Context<'_>, run: Run) -> Effect {
        let mut details = format!("{} {}", self.due.utc(), run.result);
        for part in [
            run.operation.as_ref().map(OperationId::as_str),
            run.reason.map(Reason::as_str),
            Some(run.text.as_str()).filter(|text| !text.is_empty()),
        ]
        .into_iter()
        .flatten()
        {
            details = format!("{details} {part}");
        }
        if run.passed > 0 {
            details = format!("{details} ({} before it were missed)", run.passed);
        }
        if let Some(by) = self.by.filter(|by| *by != context.principal) {
            details = format!("{details}, asked for by {by}");
        }
        if let Some(schedule) = state.schedules.get_mut(self.name) {
            if self.by.is_none() {
                schedule.fired = schedule.fired.max(self.due);
            }
            if schedule.waiting == Some(self.due) {
                (schedule.waiting, schedule.waiting_by) = (None, None);
            }
            schedule.note(run);
        }
        Effect::changed(context.done(), resource(self.name), details)
    }

    /// It begins when the operation is over; of those that wait for a cancelation, the newest does.
    fn wait(
        &self,
        state: &mut State,
        context: &Context<'_>,
        operation: &OperationId,
        cancel: bool,
    ) -> Effect {
        if cancel {
            let open: Vec<OperationId> = state.open_of(self.name).map(|o| o.id.clone()).collect();
            for id in open {
                // A rollback is brought to its end: the run waits for it, too.
                let _ = operation::cancel(state, context, &id);
            }
        }
        if let Some(schedule) = state.schedules.get_mut(self.name) {
            leave_out(schedule, context, "a newer run took its place while it waited");
            if self.by.is_none() {
                schedule.fired = self.due;
            }
            (schedule.waiting, schedule.waiting_by) = (Some(self.due), self.by.cloned());
        }
        let doing = if cancel { "cancels" } else { "waits for" };
        let details = format!("{} {doing} {operation}", self.due.utc());
        Effect::changed(context.done(), resource(self.name), details).of(operation)
    }
}

/// Whether a plan made anew may do better. What repeats itself is noted, or it would be tried for ever.
const fn is_passing(reason: Reason) -> bool {
    matches!(reason, Reason::StalePlan | Reason::AlreadyExists)
}
