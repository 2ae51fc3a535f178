//! GroupService: services, groups, and the quorum arithmetic.

use quorate_common::wire::Invalid;
use quorate_common::wire::group::read_group;
use quorate_common::wire::invalid::each;
use quorate_common::wire::limits::SELECTOR_NAMES_MAX;
use quorate_common::wire::service::read_service;
use quorate_common::wire::text::read_name;
use quorate_core::Command;
use quorate_core::command::DeclaredCommand;
use quorate_model::{GroupName, NodeName, ServiceName};
use quorate_proto::v1;
use quorate_proto::v1::group_service_server::GroupService;
use tonic::{Request, Response, Status};

use super::caller::Caller;
use super::context::{Api, Served};
use super::page::Page;
use super::status::Failure;
use super::view::group as view;

/// Services or groups on one page when the request says none (proto).
const PAGE: u32 = 200;

impl Api {
    fn service_view(&self, name: &ServiceName) -> Result<(v1::Service, u64), Failure> {
        self.look_around(|state, obs, now| {
            let none = || Failure::not_found("service", name.as_str(), state.revision.0);
            let found = state.services.get(name).ok_or_else(none)?;
            Ok((view::service(state, obs, found, now), state.revision.0))
        })
    }

    fn group_view(&self, name: &GroupName) -> Result<(v1::Group, u64), Failure> {
        self.look_around(|state, obs, now| {
            let none = || Failure::not_found("group", name.as_str(), state.revision.0);
            let found = state.groups.get(name).ok_or_else(none)?;
            Ok((view::group(state, obs, found, now), state.revision.0))
        })
    }

    async fn apply_service(
        &self,
        caller: &Caller,
        request: v1::ApplyServiceRequest,
    ) -> Result<Served<v1::ApplyServiceResponse>, Failure> {
        let v1::ApplyServiceRequest { spec, options } = request;
        let change = self.change(caller, options)?;
        let spec = spec.ok_or_else(|| Invalid::missing("spec"))?;
        let spec = read_service(spec).map_err(|i| i.within("spec"))?;
        let name = spec.name.clone();
        self.backend().linearize().await?;
        let before = self.look(|state| state.services.get(&name).map(|s| s.spec.clone()));
        let changed = before.as_ref() != Some(&spec);
        let command = DeclaredCommand::ApplyService { spec, expect: None };
        let (index, _) = self.propose(caller, &change, Command::Declared(Box::new(command))).await?;
        let service = self.service_view(&name).ok().map(|(service, _)| service);
        Ok(Served { message: v1::ApplyServiceResponse { service, changed }, index })
    }

    async fn apply_group(
        &self,
        caller: &Caller,
        request: v1::ApplyGroupRequest,
    ) -> Result<Served<v1::ApplyGroupResponse>, Failure> {
        let v1::ApplyGroupRequest { spec, options, with_service } = request;
        let change = self.change(caller, options)?;
        let spec = spec.ok_or_else(|| Invalid::missing("spec"))?;
        let spec = read_group(spec).map_err(|i| i.within("spec"))?;
        let service = with_service.map(read_service).transpose().map_err(|i| i.within("with_service"))?;
        if service.as_ref().is_some_and(|service| !change.validate_only || service.name != spec.service) {
            let why = "it is the service of this group, and goes with options.validate_only";
            return Err(Invalid::new("with_service", why).into());
        }
        let name = spec.name.clone();
        self.backend().linearize().await?;
        let before = self.look(|state| state.groups.get(&name).map(|g| g.spec.clone()));
        let changed = before.as_ref() != Some(&spec);
        let command = Command::Declared(Box::new(DeclaredCommand::ApplyGroup { spec, expect: None }));
        let (index, _) = if change.validate_only {
            let first = service.map(|spec| DeclaredCommand::ApplyService { spec, expect: None });
            let first = first.map(|command| Command::Declared(Box::new(command)));
            self.try_out(caller, &change, first.into_iter().chain([command])).await?
        } else {
            self.propose(caller, &change, command).await?
        };
        let group = self.group_view(&name).ok().map(|(group, _)| group);
        Ok(Served { message: v1::ApplyGroupResponse { group, changed }, index })
    }

    async fn quorum(
        &self,
        consistency: i32,
        down: &[NodeName],
        with_own: bool,
    ) -> Result<(Vec<v1::QuorumLine>, u64), Failure> {
        self.fresh(consistency).await?;
        let members = if with_own { self.backend().members().await } else { Vec::new() };
        self.look_around(|state, obs, now| {
            if let Some(unknown) = down.iter().find(|n| state.nodes.present(n).is_none()) {
                return Err(Failure::not_found("node", unknown.as_str(), state.revision.0));
            }
            let groups = state.groups.values().map(|g| view::quorum_line(state, obs, g, down, now));
            let own = with_own.then(|| view::own_line(state, &members));
            Ok((own.into_iter().chain(groups).collect(), state.revision.0))
        })
    }
}

#[tonic::async_trait]
impl GroupService for Api {
    async fn list_services(
        &self,
        request: Request<v1::ListServicesRequest>,
    ) -> Result<Response<v1::ListServicesResponse>, Status> {
        self.serve(request, |api, _, m| async move {
            let v1::ListServicesRequest { page_size, page_token, consistency } = m;
            let page = Page::read(page_size, &page_token, PAGE)?;
            api.fresh(consistency).await?;
            Ok(api.look_around(|state, obs, now| {
                let key = |s: &&quorate_core::state::Service| s.spec.name.as_str().to_owned();
                let (services, next_page_token) = page.cut(state.services.values(), key);
                let services = services.into_iter().map(|s| view::service(state, obs, s, now)).collect();
                let message = v1::ListServicesResponse { services, next_page_token };
                Served { message, index: state.revision.0 }
            }))
        })
        .await
    }

    async fn get_service(
        &self,
        request: Request<v1::GetServiceRequest>,
    ) -> Result<Response<v1::GetServiceResponse>, Status> {
        self.serve(request, |api, _, m| async move {
            let v1::GetServiceRequest { name, consistency } = m;
            let name = read_name("name", name)?;
            api.fresh(consistency).await?;
            let (service, index) = api.service_view(&name)?;
            Ok(Served { message: v1::GetServiceResponse { service: Some(service) }, index })
        })
        .await
    }

    async fn apply_service(
        &self,
        request: Request<v1::ApplyServiceRequest>,
    ) -> Result<Response<v1::ApplyServiceResponse>, Status> {
        self.serve(request, |api, caller, m| async move { api.apply_service(&caller, m).await }).await
    }

    async fn delete_service(
        &self,
        request: Request<v1::DeleteServiceRequest>,
    ) -> Result<Response<v1::DeleteServiceResponse>, Status> {
        self.serve(request, |api, caller, m| async move {
            let v1::DeleteServiceRequest { name, options } = m;
            let change = api.change(&caller, options)?;
            let command = DeclaredCommand::DeleteService { name: read_name("name", name)? };
            let (index, _) = api.propose(&caller, &change, Command::Declared(Box::new(command))).await?;
            Ok(Served { message: v1::DeleteServiceResponse {}, index })
        })
        .await
    }

    async fn list_groups(
        &self,
        request: Request<v1::ListGroupsRequest>,
    ) -> Result<Response<v1::ListGroupsResponse>, Status> {
        self.serve(request, |api, _, m| async move {
            let v1::ListGroupsRequest { page_size, page_token, consistency } = m;
            let page = Page::read(page_size, &page_token, PAGE)?;
            api.fresh(consistency).await?;
            Ok(api.look_around(|state, obs, now| {
                let key = |g: &&quorate_core::state::Group| g.spec.name.as_str().to_owned();
                let (groups, next_page_token) = page.cut(state.groups.values(), key);
                let groups = groups.into_iter().map(|g| view::group(state, obs, g, now)).collect();
                let message = v1::ListGroupsResponse { groups, next_page_token };
                Served { message, index: state.revision.0 }
            }))
        })
        .await
    }

    async fn get_group(
        &self,
        request: Request<v1::GetGroupRequest>,
    ) -> Result<Response<v1::GetGroupResponse>, Status> {
        self.serve(request, |api, _, m| async move {
            let v1::GetGroupRequest { name, consistency } = m;
            let name = read_name("name", name)?;
            api.fresh(consistency).await?;
            let (group, index) = api.group_view(&name)?;
            Ok(Served { message: v1::GetGroupResponse { group: Some(group) }, index })
        })
        .await
    }

    async fn apply_group(
        &self,
        request: Request<v1::ApplyGroupRequest>,
    ) -> Result<Response<v1::ApplyGroupResponse>, Status> {
        self.serve(request, |api, caller, m| async move { api.apply_group(&caller, m).await }).await
    }

    async fn delete_group(
        &self,
        request: Request<v1::DeleteGroupRequest>,
    ) -> Result<Response<v1::DeleteGroupResponse>, Status> {
        self.serve(request, |api, caller, m| async move {
            let v1::DeleteGroupRequest { name, options } = m;
            let change = api.change(&caller, options)?;
            let command = DeclaredCommand::DeleteGroup { name: read_name("name", name)? };
            let (index, _) = api.propose(&caller, &change, Command::Declared(Box::new(command))).await?;
            Ok(Served { message: v1::DeleteGroupResponse {}, index })
        })
        .await
    }

    async fn get_quorum(
        &self,
        request: Request<v1::GetQuorumRequest>,
    ) -> Result<Response<v1::GetQuorumResponse>, Status> {
        self.serve(request, |api, _, m| async move {
            let v1::GetQuorumRequest { consistency } = m;
            let (groups, index) = api.quorum(consistency, &[], true).await?;
            Ok(Served { message: v1::GetQuorumResponse { groups }, index })
        })
        .await
    }

    async fn check_quorum(
        &self,
        request: Request<v1::CheckQuorumRequest>,
    ) -> Result<Response<v1::CheckQuorumResponse>, Status> {
        self.serve(request, |api, _, m| async move {
            let v1::CheckQuorumRequest { down, consistency } = m;
            let node = |text| read_name::<NodeName>("", text);
            let down = each("down", down, SELECTOR_NAMES_MAX, node)?;
            let (groups, index) = api.quorum(consistency, &down, false).await?;
            Ok(Served { message: v1::CheckQuorumResponse { groups }, index })
        })
        .await
    }
}
