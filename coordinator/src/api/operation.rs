//! OperationService: plan, start, watch, pause, resume, cancel, promote, explain; the releases that rollouts brought; the
//! door of approvals.

use quorate_common::wire::Invalid;
use quorate_common::wire::enums::read_operation_kind;
use quorate_common::wire::text::read_name;
use quorate_core::command::OperationCommand;
use quorate_core::state::ServiceRelease;
use quorate_core::{Answer, Command, explain};
use quorate_model::{ConfigName, GroupName, OperationId, PlanId};
use quorate_proto::v1;
use quorate_proto::v1::operation_service_server::OperationService;
use tonic::{Request, Response, Status};

use super::caller::Caller;
use super::context::{Api, Served};
use super::page::{Page, newest_first};
use super::planning;
use super::status::Failure;
use super::view::operation::{COLLECTION, operation as show, release as show_release};
use super::view::plan::plan as show_plan;
use super::watch::{self, OperationStream};

/// Plans or operations on one page when the request says none (proto).
const PAGE: u32 = 50;

/// An id, with or without `operations/`.
pub(super) fn read_operation_name(name: &str) -> Result<OperationId, Invalid> {
    read_name("name", name.strip_prefix(COLLECTION).unwrap_or(name).to_owned())
}

impl Api {
    pub(super) fn operation_view(&self, id: &OperationId) -> Result<(v1::Operation, u64), Failure> {
        self.look(|state| {
            let none = || Failure::not_found("operation", id.as_str(), state.revision.0);
            let found = state.operations.get(id).ok_or_else(none)?;
            Ok((show(state, found, true), state.revision.0))
        })
    }

    pub(super) fn plan_view(&self, id: &PlanId) -> Result<(v1::Plan, u64), Failure> {
        self.look(|state| {
            let none = || Failure::not_found("plan", id.as_str(), state.revision.0);
            let found = state.plans.get(id).ok_or_else(none)?;
            Ok((show_plan(found), state.revision.0))
        })
    }

    async fn list_plans(
        &self,
        request: v1::ListPlansRequest,
    ) -> Result<Served<v1::ListPlansResponse>, Failure> {
        let v1::ListPlansRequest { page_size, page_token, consistency } = request;
        let page = Page::read(page_size, &page_token, PAGE)?;
        self.fresh(consistency).await?;
        Ok(self.look(|state| {
            let key = |p: &&quorate_core::Plan| newest_first(p.created_at.0, p.id.as_str());
            let mut plans: Vec<_> = state.plans.values().collect();
            plans.sort_by_key(key);
            let (plans, next_page_token) = page.cut(plans.into_iter(), key);
            let plans = plans.into_iter().map(show_plan).collect();
            Served { message: v1::ListPlansResponse { plans, next_page_token }, index: state.revision.0 }
        }))
    }

    async fn list_operations(
        &self,
        request: v1::ListOperationsRequest,
    ) -> Result<Served<v1::ListOperationsResponse>, Failure> {
        let v1::ListOperationsRequest { page_size, page_token, consistency, kind } = request;
        let page = Page::read(page_size, &page_token, PAGE)?;
        let kind = if kind == 0 { None } else { Some(read_operation_kind("kind", kind)?) };
        self.fresh(consistency).await?;
        Ok(self.look(|state| {
            let key = |o: &&quorate_core::state::Operation| newest_first(o.created_at.0, o.id.as_str());
            let mut found: Vec<_> =
                state.operations.values().filter(|o| kind.is_none_or(|k| o.kind == k)).collect();
            found.sort_by_key(key);
            let (found, next_page_token) = page.cut(found.into_iter(), key);
            let operations = found.into_iter().map(|o| show(state, o, false)).collect();
            let message = v1::ListOperationsResponse { operations, next_page_token };
            Served { message, index: state.revision.0 }
        }))
    }

    pub(super) async fn steer(
        &self,
        caller: &Caller,
        name: &str,
        options: Option<v1::ChangeOptions>,
        command: impl FnOnce(OperationId) -> OperationCommand,
    ) -> Result<(Option<v1::Operation>, u64), Failure> {
        let change = self.change(caller, options)?;
        let id = read_operation_name(name)?;
        let command = Command::Operation(Box::new(command(id.clone())));
        let (index, answer) = self.propose(caller, &change, command).await?;
        debug_assert!(!matches!(answer, Answer::Refused(_)), "a refusal is a failure");
        Ok((Some(self.operation_view(&id)?.0), index))
    }

    async fn list_releases(
        &self,
        request: v1::ListReleasesRequest,
    ) -> Result<Served<v1::ListReleasesResponse>, Failure> {
        let v1::ListReleasesRequest { group, page_size, page_token, consistency, config } = request;
        let name: GroupName = read_name("group", group)?;
        let config: Option<ConfigName> =
            if config.is_empty() { None } else { Some(read_name("config", config)?) };
        let page = Page::read(page_size, &page_token, PAGE)?;
        self.fresh(consistency).await?;
        self.look(|state| {
            let none = || Failure::not_found("group", name.as_str(), state.revision.0);
            let group = state.groups.get(&name).ok_or_else(none)?;
            let service = state.services.get(&group.spec.service);
            let known = service.and_then(|s| match &config {
                Some(config) => s.configs.get(config),
                None => Some(&s.releases),
            });
            let known = known.map_or(&[][..], Vec::as_slice);
            let key = |r: &&ServiceRelease| newest_first(r.at.0, r.operation.as_str());
            let mut found: Vec<_> = known.iter().collect();
            found.sort_by_key(key);
            let (found, next_page_token) = page.cut(found.into_iter(), key);
            let releases = found.into_iter().map(show_release).collect();
            let message = v1::ListReleasesResponse { releases, next_page_token };
            Ok(Served { message, index: state.revision.0 })
        })
    }

    async fn explain_operation(
        &self,
        request: v1::ExplainOperationRequest,
    ) -> Result<Served<v1::ExplainOperationResponse>, Failure> {
        let v1::ExplainOperationRequest { name } = request;
        // Not only operations: `quorate explain` takes the id of a node, group or execution, too.
        let id: OperationId = read_name("name", name.rsplit('/').next().unwrap_or_default().to_owned())?;
        self.backend().linearize().await?;
        let (found, index) =
            self.look_around(|state, obs, now| (explain(state, obs, id.as_str(), now), state.revision.0));
        let none = || Failure::not_found("operation, node or group", id.as_str(), index);
        let found = found.ok_or_else(none)?;
        let reason = found.refusal.as_ref().map(|r| r.reason().as_str().to_owned()).unwrap_or_default();
        let why =
            found.facts.into_iter().map(|(subject, text)| v1::RefusalDetail { subject, text }).collect();
        let message = v1::ExplainOperationResponse { summary: found.headline, why, hint: found.hint, reason };
        Ok(Served { message, index })
    }
}

#[tonic::async_trait]
impl OperationService for Api {
    async fn create_plan(
        &self,
        request: Request<v1::CreatePlanRequest>,
    ) -> Result<Response<v1::CreatePlanResponse>, Status> {
        self.serve(request, |api, caller, m| async move { planning::create_plan(&api, &caller, m).await })
            .await
    }

    async fn get_plan(
        &self,
        request: Request<v1::GetPlanRequest>,
    ) -> Result<Response<v1::GetPlanResponse>, Status> {
        self.serve(request, |api, _, m| async move {
            let v1::GetPlanRequest { plan_id, consistency } = m;
            let id = read_name("plan_id", plan_id)?;
            api.fresh(consistency).await?;
            let (plan, index) = api.plan_view(&id)?;
            Ok(Served { message: v1::GetPlanResponse { plan: Some(plan) }, index })
        })
        .await
    }

    async fn list_plans(
        &self,
        request: Request<v1::ListPlansRequest>,
    ) -> Result<Response<v1::ListPlansResponse>, Status> {
        self.serve(request, |api, _, m| async move { api.list_plans(m).await }).await
    }

    async fn create_operation(
        &self,
        request: Request<v1::CreateOperationRequest>,
    ) -> Result<Response<v1::CreateOperationResponse>, Status> {
        self.serve(
            request,
            |api, caller, m| async move { planning::create_operation(&api, &caller, m).await },
        )
        .await
    }

    async fn get_operation(
        &self,
        request: Request<v1::GetOperationRequest>,
    ) -> Result<Response<v1::GetOperationResponse>, Status> {
        self.serve(request, |api, _, m| async move {
            let v1::GetOperationRequest { name, consistency } = m;
            let id = read_operation_name(&name)?;
            api.fresh(consistency).await?;
            let (operation, index) = api.operation_view(&id)?;
            Ok(Served { message: v1::GetOperationResponse { operation: Some(operation) }, index })
        })
        .await
    }

    async fn list_operations(
        &self,
        request: Request<v1::ListOperationsRequest>,
    ) -> Result<Response<v1::ListOperationsResponse>, Status> {
        self.serve(request, |api, _, m| async move { api.list_operations(m).await }).await
    }

    type WatchOperationStream = OperationStream;

    async fn watch_operation(
        &self,
        request: Request<v1::WatchOperationRequest>,
    ) -> Result<Response<OperationStream>, Status> {
        watch::operation(self, request).await
    }

    async fn pause_operation(
        &self,
        request: Request<v1::PauseOperationRequest>,
    ) -> Result<Response<v1::PauseOperationResponse>, Status> {
        self.serve(request, |api, caller, m| async move {
            let v1::PauseOperationRequest { name, options } = m;
            let command = |id| OperationCommand::Pause { id };
            let (operation, index) = api.steer(&caller, &name, options, command).await?;
            Ok(Served { message: v1::PauseOperationResponse { operation }, index })
        })
        .await
    }

    async fn resume_operation(
        &self,
        request: Request<v1::ResumeOperationRequest>,
    ) -> Result<Response<v1::ResumeOperationResponse>, Status> {
        self.serve(request, |api, caller, m| async move {
            let v1::ResumeOperationRequest { name, options } = m;
            let command = |id| OperationCommand::Resume { id };
            let (operation, index) = api.steer(&caller, &name, options, command).await?;
            Ok(Served { message: v1::ResumeOperationResponse { operation }, index })
        })
        .await
    }

    async fn cancel_operation(
        &self,
        request: Request<v1::CancelOperationRequest>,
    ) -> Result<Response<v1::CancelOperationResponse>, Status> {
        self.serve(request, |api, caller, m| async move {
            let v1::CancelOperationRequest { name, options } = m;
            let command = |id| OperationCommand::Cancel { id };
            let (operation, index) = api.steer(&caller, &name, options, command).await?;
            Ok(Served { message: v1::CancelOperationResponse { operation }, index })
        })
        .await
    }

    async fn promote_operation(
        &self,
        request: Request<v1::PromoteOperationRequest>,
    ) -> Result<Response<v1::PromoteOperationResponse>, Status> {
        self.serve(request, |api, caller, m| async move {
            let v1::PromoteOperationRequest { name, all, options } = m;
            let command = |id| OperationCommand::Promote { id, all };
            let (operation, index) = api.steer(&caller, &name, options, command).await?;
            Ok(Served { message: v1::PromoteOperationResponse { operation }, index })
        })
        .await
    }

    async fn approve_operation(
        &self,
        request: Request<v1::ApproveOperationRequest>,
    ) -> Result<Response<v1::ApproveOperationResponse>, Status> {
        self.serve(request, |api, caller, m| async move { api.approve_operation(&caller, m).await }).await
    }

    async fn reject_operation(
        &self,
        request: Request<v1::RejectOperationRequest>,
    ) -> Result<Response<v1::RejectOperationResponse>, Status> {
        self.serve(request, |api, caller, m| async move { api.reject_operation(&caller, m).await }).await
    }

    async fn list_approvals(
        &self,
        request: Request<v1::ListApprovalsRequest>,
    ) -> Result<Response<v1::ListApprovalsResponse>, Status> {
        self.serve(request, |api, _, m| async move { api.list_approvals(m).await }).await
    }

    async fn list_releases(
        &self,
        request: Request<v1::ListReleasesRequest>,
    ) -> Result<Response<v1::ListReleasesResponse>, Status> {
        self.serve(request, |api, _, m| async move { api.list_releases(m).await }).await
    }

    async fn explain_operation(
        &self,
        request: Request<v1::ExplainOperationRequest>,
    ) -> Result<Response<v1::ExplainOperationResponse>, Status> {
        self.serve(request, |api, _, m| async move { api.explain_operation(m).await }).await
    }
}
