//! FailoverService: who holds the primary role of a group, and the end of a hold-down. The role is moved by an operation.

use quorate_common::wire::text::read_name;
use quorate_core::Command;
use quorate_core::command::LeaseCommand;
use quorate_model::GroupName;
use quorate_proto::v1;
use quorate_proto::v1::failover_service_server::FailoverService;
use tonic::{Request, Response, Status};

use super::caller::Caller;
use super::context::{Api, Served};
use super::page::Page;
use super::status::Failure;
use super::view::failover::failover as show;

/// Groups on one page when the request says none (proto).
const PAGE: u32 = 200;

impl Api {
    fn failover_view(&self, name: &GroupName) -> Result<(v1::Failover, u64), Failure> {
        self.look_around(|state, obs, now| {
            let none = || Failure::not_found("group", name.as_str(), state.revision.0);
            let found = state.groups.get(name).ok_or_else(none)?;
            Ok((show(state, obs, found, now), state.revision.0))
        })
    }

    async fn list_failovers(
        &self,
        request: v1::ListFailoversRequest,
    ) -> Result<Served<v1::ListFailoversResponse>, Failure> {
        let v1::ListFailoversRequest { page_size, page_token, consistency } = request;
        let page = Page::read(page_size, &page_token, PAGE)?;
        self.fresh(consistency).await?;
        Ok(self.look_around(|state, obs, now| {
            let key = |g: &&quorate_core::state::Group| g.spec.name.as_str().to_owned();
            let declared = state.groups.values().filter(|g| g.spec.failover.is_some() || g.primary.is_some());
            let (groups, next_page_token) = page.cut(declared, key);
            let failovers = groups.into_iter().map(|g| show(state, obs, g, now)).collect();
            let message = v1::ListFailoversResponse { failovers, next_page_token };
            Served { message, index: state.revision.0 }
        }))
    }

    async fn acknowledge_failover(
        &self,
        caller: &Caller,
        request: v1::AcknowledgeFailoverRequest,
    ) -> Result<Served<v1::AcknowledgeFailoverResponse>, Failure> {
        let v1::AcknowledgeFailoverRequest { group, options } = request;
        let change = self.change(caller, options)?;
        let group: GroupName = read_name("group", group)?;
        let command = Command::Lease(LeaseCommand::Acknowledge { group: group.clone() });
        let (index, _) = self.propose(caller, &change, command).await?;
        let failover = self.failover_view(&group).ok().map(|(failover, _)| failover);
        Ok(Served { message: v1::AcknowledgeFailoverResponse { failover }, index })
    }
}

#[tonic::async_trait]
impl FailoverService for Api {
    async fn list_failovers(
        &self,
        request: Request<v1::ListFailoversRequest>,
    ) -> Result<Response<v1::ListFailoversResponse>, Status> {
        self.serve(request, |api, _, m| async move { api.list_failovers(m).await }).await
    }

    async fn get_failover(
        &self,
        request: Request<v1::GetFailoverRequest>,
    ) -> Result<Response<v1::GetFailoverResponse>, Status> {
        self.serve(request, |api, _, m| async move {
            let v1::GetFailoverRequest { group, consistency } = m;
            let group = read_name("group", group)?;
            api.fresh(consistency).await?;
            let (failover, index) = api.failover_view(&group)?;
            Ok(Served { message: v1::GetFailoverResponse { failover: Some(failover) }, index })
        })
        .await
    }

    async fn acknowledge_failover(
        &self,
        request: Request<v1::AcknowledgeFailoverRequest>,
    ) -> Result<Response<v1::AcknowledgeFailoverResponse>, Status> {
        self.serve(request, |api, caller, m| async move { api.acknowledge_failover(&caller, m).await }).await
    }
}
