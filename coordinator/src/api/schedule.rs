//! ScheduleService: freezes, and the door of windows and schedules.

use quorate_common::wire::Invalid;
use quorate_common::wire::calendar::{read_etag, read_freeze};
use quorate_common::wire::text::read_name;
use quorate_core::Command;
use quorate_core::command::CalendarCommand;
use quorate_model::FreezeName;
use quorate_proto::v1;
use quorate_proto::v1::schedule_service_server::ScheduleService;
use tonic::{Request, Response, Status};

use super::caller::Caller;
use super::context::{Api, Served};
use super::page::Page;
use super::status::Failure;
use super::view::calendar::freeze as show;

/// Freezes on one page when the request says none (proto): all there may be.
const PAGE: u32 = 200;

impl Api {
    fn freeze_view(&self, name: &FreezeName) -> Result<(v1::Freeze, u64), Failure> {
        let now = self.backend().now();
        self.look(|state| {
            let none = || Failure::not_found("freeze", name.as_str(), state.revision.0);
            let found = state.freezes.get(name).ok_or_else(none)?;
            Ok((show(found, now), state.revision.0))
        })
    }

    async fn list_freezes(
        &self,
        request: v1::ListFreezesRequest,
    ) -> Result<Served<v1::ListFreezesResponse>, Failure> {
        let v1::ListFreezesRequest { page_size, page_token, consistency } = request;
        let page = Page::read(page_size, &page_token, PAGE)?;
        self.fresh(consistency).await?;
        let now = self.backend().now();
        Ok(self.look(|state| {
            let key = |f: &&quorate_core::state::Freeze| f.spec.name.as_str().to_owned();
            let (freezes, next_page_token) = page.cut(state.freezes.values(), key);
            let freezes = freezes.into_iter().map(|f| show(f, now)).collect();
            Served { message: v1::ListFreezesResponse { freezes, next_page_token }, index: state.revision.0 }
        }))
    }

    async fn apply_freeze(
        &self,
        caller: &Caller,
        request: v1::ApplyFreezeRequest,
    ) -> Result<Served<v1::ApplyFreezeResponse>, Failure> {
        let v1::ApplyFreezeRequest { spec, options, etag } = request;
        let change = self.change(caller, options)?;
        let spec = spec.ok_or_else(|| Invalid::missing("spec"))?;
        let spec = read_freeze(spec).map_err(|i| i.within("spec"))?;
        let expect = read_etag("etag", &etag)?;
        let name = spec.name.clone();
        self.backend().linearize().await?;
        let before = self.look(|state| state.freezes.get(&name).map(|f| f.spec.clone()));
        let changed = before.as_ref() != Some(&spec);
        let command =
            Command::Calendar(Box::new(CalendarCommand::ApplyFreeze { spec: spec.clone(), expect }));
        // A slip in the date would hold nothing. Judged here, because time is not looked at while applying; a file that
        // declared it when it was still to come may be applied again, and so may a request whose answer was lost.
        let is_past = spec.ends.is_some_and(|ends| ends <= self.backend().now());
        if is_past && changed && self.given(caller, &change, &command)?.is_none() {
            return Err(Invalid::new("spec.ends", "it is in the past: the freeze would hold nothing").into());
        }
        let (index, _) = self.propose(caller, &change, command).await?;
        let freeze = self.freeze_view(&name).ok().map(|(freeze, _)| freeze);
        Ok(Served { message: v1::ApplyFreezeResponse { freeze, changed }, index })
    }
}

#[tonic::async_trait]
impl ScheduleService for Api {
    async fn list_freezes(
        &self,
        request: Request<v1::ListFreezesRequest>,
    ) -> Result<Response<v1::ListFreezesResponse>, Status> {
        self.serve(request, |api, _, m| async move { api.list_freezes(m).await }).await
    }

    async fn get_freeze(
        &self,
        request: Request<v1::GetFreezeRequest>,
    ) -> Result<Response<v1::GetFreezeResponse>, Status> {
        self.serve(request, |api, _, m| async move {
            let v1::GetFreezeRequest { name, consistency } = m;
            let name = read_name("name", name)?;
            api.fresh(consistency).await?;
            let (freeze, index) = api.freeze_view(&name)?;
            Ok(Served { message: v1::GetFreezeResponse { freeze: Some(freeze) }, index })
        })
        .await
    }

    async fn apply_freeze(
        &self,
        request: Request<v1::ApplyFreezeRequest>,
    ) -> Result<Response<v1::ApplyFreezeResponse>, Status> {
        self.serve(request, |api, caller, m| async move { api.apply_freeze(&caller, m).await }).await
    }

    async fn delete_freeze(
        &self,
        request: Request<v1::DeleteFreezeRequest>,
    ) -> Result<Response<v1::DeleteFreezeResponse>, Status> {
        self.serve(request, |api, caller, m| async move {
            let v1::DeleteFreezeRequest { name, options, etag } = m;
            let change = api.change(&caller, options)?;
            let (name, expect) = (read_name("name", name)?, read_etag("etag", &etag)?);
            let command = Command::Calendar(Box::new(CalendarCommand::DeleteFreeze { name, expect }));
            let (index, _) = api.propose(&caller, &change, command).await?;
            Ok(Served { message: v1::DeleteFreezeResponse {}, index })
        })
        .await
    }

    async fn list_windows(
        &self,
        request: Request<v1::ListWindowsRequest>,
    ) -> Result<Response<v1::ListWindowsResponse>, Status> {
        self.serve(request, |api, _, m| async move { api.list_windows(m).await }).await
    }

    async fn get_window(
        &self,
        request: Request<v1::GetWindowRequest>,
    ) -> Result<Response<v1::GetWindowResponse>, Status> {
        self.serve(request, |api, _, m| async move { api.get_window(m).await }).await
    }

    async fn apply_window(
        &self,
        request: Request<v1::ApplyWindowRequest>,
    ) -> Result<Response<v1::ApplyWindowResponse>, Status> {
        self.serve(request, |api, caller, m| async move { api.apply_window(&caller, m).await }).await
    }

    async fn delete_window(
        &self,
        request: Request<v1::DeleteWindowRequest>,
    ) -> Result<Response<v1::DeleteWindowResponse>, Status> {
        self.serve(request, |api, caller, m| async move { api.delete_window(&caller, m).await }).await
    }

    async fn list_schedules(
        &self,
        request: Request<v1::ListSchedulesRequest>,
    ) -> Result<Response<v1::ListSchedulesResponse>, Status> {
        self.serve(request, |api, _, m| async move { api.list_schedules(m).await }).await
    }

    async fn get_schedule(
        &self,
        request: Request<v1::GetScheduleRequest>,
    ) -> Result<Response<v1::GetScheduleResponse>, Status> {
        self.serve(request, |api, _, m| async move { api.get_schedule(m).await }).await
    }

    async fn apply_schedule(
        &self,
        request: Request<v1::ApplyScheduleRequest>,
    ) -> Result<Response<v1::ApplyScheduleResponse>, Status> {
        self.serve(request, |api, caller, m| async move { api.apply_schedule(&caller, m).await }).await
    }

    async fn delete_schedule(
        &self,
        request: Request<v1::DeleteScheduleRequest>,
    ) -> Result<Response<v1::DeleteScheduleResponse>, Status> {
        self.serve(request, |api, caller, m| async move { api.delete_schedule(&caller, m).await }).await
    }

    async fn pause_schedule(
        &self,
        request: Request<v1::PauseScheduleRequest>,
    ) -> Result<Response<v1::PauseScheduleResponse>, Status> {
        self.serve(request, |api, caller, m| async move { api.pause_schedule(&caller, m).await }).await
    }

    async fn resume_schedule(
        &self,
        request: Request<v1::ResumeScheduleRequest>,
    ) -> Result<Response<v1::ResumeScheduleResponse>, Status> {
        self.serve(request, |api, caller, m| async move { api.resume_schedule(&caller, m).await }).await
    }

    async fn run_schedule(
        &self,
        request: Request<v1::RunScheduleRequest>,
    ) -> Result<Response<v1::RunScheduleResponse>, Status> {
        self.serve(request, |api, caller, m| async move { api.run_schedule(&caller, m).await }).await
    }
}
