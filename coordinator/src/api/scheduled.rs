//! Schedules as ScheduleService serves them.
//!
//! Whether there is such a zone and such a day is judged here, before the proposal, as for windows. The work is planned once, in
//! the schedule's name, and what that meets is told as warnings: it is the state at the first run that counts.

use quorate_common::wire::Invalid;
use quorate_common::wire::calendar::read_etag;
use quorate_common::wire::schedule::read_schedule;
use quorate_common::wire::text::read_name;
use quorate_core::command::{Attempt, ScheduleCommand};
use quorate_core::safety::schedule::{Verdict, by_hand};
use quorate_core::{Answer, Command, PlanRequest};
use quorate_model::{Principal, Reason, Revision, ScheduleName, ScheduleSpec};
use quorate_proto::v1;

use super::caller::Caller;
use super::context::{Api, Change, Served};
use super::page::Page;
use super::planning;
use super::status::Failure;
use super::view::plan::plan as show_plan;
use super::view::schedule::{next, schedule as show};
use crate::zones::{self, Nonsense, moments};

/// Schedules on one page when the request says none (proto): all there may be.
const PAGE: u32 = 200;

fn invalid(nonsense: Nonsense) -> Invalid {
    let Nonsense { field, why } = nonsense;
    Invalid::new(field, why).within("spec")
}

fn wrap(command: ScheduleCommand) -> Command {
    Command::Schedule(Box::new(command))
}

impl Api {
    fn schedule_view(&self, name: &ScheduleName) -> Result<(v1::Schedule, u64), Failure> {
        let (mut shown, spec, index) = self.look(|state| {
            let none = || Failure::not_found("schedule", name.as_str(), state.revision.0);
            let found = state.schedules.get(name).ok_or_else(none)?;
            Ok::<_, Failure>((show(state, found), found.spec.clone(), state.revision.0))
        })?;
        shown.next = next(&spec, self.backend().now());
        Ok((shown, index))
    }

    pub(super) async fn list_schedules(
        &self,
        request: v1::ListSchedulesRequest,
    ) -> Result<Served<v1::ListSchedulesResponse>, Failure> {
        let v1::ListSchedulesRequest { page_size, page_token, consistency } = request;
        let page = Page::read(page_size, &page_token, PAGE)?;
        self.fresh(consistency).await?;
        let (found, next_page_token, index) = self.look(|state| {
            let key = |s: &&quorate_core::state::Schedule| s.spec.name.as_str().to_owned();
            let (found, next_page_token) = page.cut(state.schedules.values(), key);
            let found: Vec<_> = found.into_iter().map(|s| (show(state, s), s.spec.clone())).collect();
            (found, next_page_token, state.revision.0)
        });
        let now = self.backend().now();
        let with_next = |(schedule, spec): (v1::Schedule, ScheduleSpec)| v1::Schedule {
            next: next(&spec, now),
            ..schedule
        };
        let schedules = found.into_iter().map(with_next).collect();
        Ok(Served { message: v1::ListSchedulesResponse { schedules, next_page_token }, index })
    }

    pub(super) async fn get_schedule(
        &self,
        request: v1::GetScheduleRequest,
    ) -> Result<Served<v1::GetScheduleResponse>, Failure> {
        let v1::GetScheduleRequest { name, consistency } = request;
        let name = read_name("name", name)?;
        self.fresh(consistency).await?;
        let (schedule, index) = self.schedule_view(&name)?;
        Ok(Served { message: v1::GetScheduleResponse { schedule: Some(schedule) }, index })
    }

    pub(super) async fn apply_schedule(
        &self,
        caller: &Caller,
        request: v1::ApplyScheduleRequest,
    ) -> Result<Served<v1::ApplyScheduleResponse>, Failure> {
        let v1::ApplyScheduleRequest { spec, options, etag } = request;
        let change = self.change(caller, options)?;
        let spec = spec.ok_or_else(|| Invalid::missing("spec"))?;
        let (mut spec, work) = read_schedule(spec).map_err(|i| i.within("spec"))?;
        spec.zone = zones::written(&spec.zone).map_err(invalid)?;
        let expect = read_etag("etag", &etag)?;
        let name = spec.name.clone();
        self.backend().linearize().await?;
        let own = Principal::Schedule { name: name.clone() };
        let work = planning::scheduled(self, work, &own, &spec.reason).map_err(|i| i.within("spec"))?;
        let changed = self.look(|state| {
            state.schedules.get(&name).is_none_or(|known| {
                known.spec != spec || known.work != work || known.applied_by != caller.principal
            })
        });
        let command =
            wrap(ScheduleCommand::Apply { spec: spec.clone(), work: Box::new(work.clone()), expect });
        let mut warnings = Vec::new();
        // As for freezes: what was declared when its day was still to come may be applied again, and so may a request whose
        // answer was lost.
        if changed && self.given(caller, &change, &command)?.is_none() {
            moments::check(&spec, self.backend().now()).map_err(invalid)?;
            warnings = self.rehearse(&work).await?;
        }
        let (index, _) = self.propose(caller, &change, command).await?;
        let schedule = self.schedule_view(&name).ok().map(|(schedule, _)| schedule);
        Ok(Served { message: v1::ApplyScheduleResponse { schedule, changed, warnings }, index })
    }

    /// What the work would meet now. Only what can never be planned is refused: the rest may be different when it is due.
    async fn rehearse(&self, work: &PlanRequest) -> Result<Vec<String>, Failure> {
        let failure = match planning::compute(self, work).await {
            Ok(plan) => return Ok(plan.warnings),
            Err(failure) => failure,
        };
        match failure {
            Failure::RefusedAt { refusal, .. } if refusal.reason() != Reason::InvalidArgument => {
                Ok(vec![format!("it could not be started now: {} ({})", refusal.what(), refusal.reason())])
            }
            failure => Err(failure),
        }
    }

    pub(super) async fn delete_schedule(
        &self,
        caller: &Caller,
        request: v1::DeleteScheduleRequest,
    ) -> Result<Served<v1::DeleteScheduleResponse>, Failure> {
        let v1::DeleteScheduleRequest { name, options, etag } = request;
        let change = self.change(caller, options)?;
        let (name, expect) = (read_name("name", name)?, read_etag("etag", &etag)?);
        let command = wrap(ScheduleCommand::Delete { name, expect });
        let (index, _) = self.propose(caller, &change, command).await?;
        Ok(Served { message: v1::DeleteScheduleResponse {}, index })
    }

    async fn set_paused(
        &self,
        caller: &Caller,
        change: &Change,
        name: String,
        paused: bool,
    ) -> Result<(Option<v1::Schedule>, u64), Failure> {
        let name: ScheduleName = read_name("name", name)?;
        let command = wrap(ScheduleCommand::SetPaused { name: name.clone(), paused });
        let (index, _) = self.propose(caller, change, command).await?;
        Ok((self.schedule_view(&name).ok().map(|(schedule, _)| schedule), index))
    }

    pub(super) async fn pause_schedule(
        &self,
        caller: &Caller,
        request: v1::PauseScheduleRequest,
    ) -> Result<Served<v1::PauseScheduleResponse>, Failure> {
        let v1::PauseScheduleRequest { name, options } = request;
        let change = self.change(caller, options)?;
        let (schedule, index) = self.set_paused(caller, &change, name, true).await?;
        Ok(Served { message: v1::PauseScheduleResponse { schedule }, index })
    }

    pub(super) async fn resume_schedule(
        &self,
        caller: &Caller,
        request: v1::ResumeScheduleRequest,
    ) -> Result<Served<v1::ResumeScheduleResponse>, Failure> {
        let v1::ResumeScheduleRequest { name, options } = request;
        let change = self.change(caller, options)?;
        let (schedule, index) = self.set_paused(caller, &change, name, false).await?;
        Ok(Served { message: v1::ResumeScheduleResponse { schedule }, index })
    }

    pub(super) async fn run_schedule(
        &self,
        caller: &Caller,
        request: v1::RunScheduleRequest,
    ) -> Result<Served<v1::RunScheduleResponse>, Failure> {
        let v1::RunScheduleRequest { name, options } = request;
        let change = self.change(caller, options)?;
        let name: ScheduleName = read_name("name", name)?;
        let run = |revision, attempt| wrap(ScheduleCommand::Run { name: name.clone(), revision, attempt });
        if let Some(answer) = self.given(caller, &change, &run(Revision(0), None))? {
            return self.run_view(&name, &answer, None);
        }
        self.backend().linearize().await?;
        let (work, revision, verdict) = self.look(|state| {
            let none = || Failure::not_found("schedule", name.as_str(), state.revision.0);
            let found = state.schedules.get(&name).ok_or_else(none)?;
            let verdict = by_hand(state, found)
                .map_err(|refusal| Failure::RefusedAt { refusal, index: state.revision.0 })?;
            Ok::<_, Failure>((found.work.clone(), found.revision, verdict))
        })?;
        let plan = match verdict {
            Verdict::Start => Some(planning::compute(self, &work).await?),
            Verdict::Wait { .. } | Verdict::Skip { .. } | Verdict::Missed | Verdict::Denied(_) => None,
        };
        let shown = plan.as_ref().map(show_plan);
        let attempt = match plan {
            Some(plan) => Some(Attempt::Start { id: planning::new_operation(self)?, plan: Box::new(plan) }),
            None => None,
        };
        let (index, answer) = self.propose(caller, &change, run(revision, attempt)).await?;
        if change.validate_only {
            let schedule = Some(self.schedule_view(&name)?.0);
            return Ok(Served {
                message: v1::RunScheduleResponse { operation: None, plan: shown, schedule },
                index,
            });
        }
        self.run_view(&name, &answer, shown)
    }

    /// What became of a run by hand.
    fn run_view(
        &self,
        name: &ScheduleName,
        answer: &Answer,
        plan: Option<v1::Plan>,
    ) -> Result<Served<v1::RunScheduleResponse>, Failure> {
        let (schedule, index) = self.schedule_view(name)?;
        let operation = match answer {
            Answer::Operation { operation, .. } => Some(self.operation_view(operation)?.0),
            _ => None,
        };
        // It was planned, and waits all the same: something has begun meanwhile.
        let plan = plan.filter(|_| operation.is_some());
        Ok(Served { message: v1::RunScheduleResponse { operation, plan, schedule: Some(schedule) }, index })
    }
}
