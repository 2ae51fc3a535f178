//! AdminService: the coordinators themselves.

use std::collections::BTreeMap;

use quorate_common::wire::time::write_timestamp;
use quorate_core::safety::{Evidence, availability, freeze};
use quorate_model::ObligationState;
use quorate_proto::v1;
use quorate_proto::v1::admin_service_server::AdminService;
use tonic::{Request, Response, Status};

use super::backend::RaftRole;
use super::context::{Api, Served};
use super::replica::SavedStream;
use super::view::member::members as show;

impl Api {
    /// Every member as this one sees it.
    pub(crate) async fn member_list(&self) -> (Vec<v1::Member>, u64) {
        let views = self.backend().members().await;
        self.look(|state| (show(state, &views), state.revision.0))
    }

    /// The whole in one answer.
    pub(crate) async fn whole(&self) -> (v1::GetStatusResponse, u64) {
        let views = self.backend().members().await;
        let up = views.iter().filter(|v| v.role != RaftRole::Down).count();
        let leader = self.health().leader;
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        self.look_around(|state, obs, now| {
            let mut nodes: BTreeMap<String, u32> = BTreeMap::new();
            for node in state.nodes.all_present() {
                *nodes.entry(node.status.as_str().to_owned()).or_default() += 1;
            }
            let evidence = Evidence::from_observations(obs);
            let mut groups: BTreeMap<String, u32> = BTreeMap::new();
            let mut alarms: BTreeMap<String, u32> = BTreeMap::new();
            for group in state.groups.values() {
                if let Some(raised) = &group.alarm {
                    *alarms.entry(raised.level.as_str().to_owned()).or_default() += 1;
                }
                let word = availability(state, group, &evidence, now).state().as_str();
                *groups.entry(word.to_owned()).or_default() += 1;
            }
            let open = |s: ObligationState| matches!(s, ObligationState::Open | ObligationState::Failed);
            let message = v1::GetStatusResponse {
                cluster_id: state.cluster.id.as_ref().map(|id| id.as_str().to_owned()).unwrap_or_default(),
                cluster_name: state.cluster.name.clone(),
                leader: leader
                    .and_then(|id| state.members.by_id.get(&id))
                    .map(|m| m.name.as_str().to_owned())
                    .unwrap_or_default(),
                members_up: count(up),
                members: count(state.members.present().count()),
                nodes,
                groups,
                operations_active: count(
                    state.operations.values().filter(|o| !o.state.is_terminal()).count(),
                ),
                obligations_open: count(state.obligations.values().filter(|o| open(o.state)).count()),
                index: state.revision.0,
                time: write_timestamp(now),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                level: state.settings.level,
                freezes_active: count(state.freezes.values().filter(|f| freeze::is_on(f, now)).count()),
                alarms,
            };
            (message, state.revision.0)
        })
    }
}

#[tonic::async_trait]
impl AdminService for Api {
    async fn list_members(
        &self,
        request: Request<v1::ListMembersRequest>,
    ) -> Result<Response<v1::ListMembersResponse>, Status> {
        self.serve(request, |api, _, m| async move {
            let v1::ListMembersRequest { consistency } = m;
            api.fresh(consistency).await?;
            let (members, index) = api.member_list().await;
            Ok(Served { message: v1::ListMembersResponse { members }, index })
        })
        .await
    }

    async fn transfer_leader(
        &self,
        request: Request<v1::TransferLeaderRequest>,
    ) -> Result<Response<v1::TransferLeaderResponse>, Status> {
        self.serve(request, |api, caller, m| async move { api.transfer_leader(&caller, m).await }).await
    }

    async fn remove_member(
        &self,
        request: Request<v1::RemoveMemberRequest>,
    ) -> Result<Response<v1::RemoveMemberResponse>, Status> {
        self.serve(request, |api, caller, m| async move { api.remove_member(&caller, m).await }).await
    }

    async fn promote_member(
        &self,
        request: Request<v1::PromoteMemberRequest>,
    ) -> Result<Response<v1::PromoteMemberResponse>, Status> {
        self.serve(request, |api, caller, m| async move { api.promote_member(&caller, m).await }).await
    }

    type SaveSnapshotStream = SavedStream;

    async fn save_snapshot(
        &self,
        request: Request<v1::SaveSnapshotRequest>,
    ) -> Result<Response<SavedStream>, Status> {
        self.serve(request, |api, caller, m| async move { api.save_snapshot(&caller, m).await }).await
    }

    async fn compare_state(
        &self,
        request: Request<v1::CompareStateRequest>,
    ) -> Result<Response<v1::CompareStateResponse>, Status> {
        self.serve(request, |api, _, m| async move {
            let v1::CompareStateRequest {} = m;
            api.compare_state().await
        })
        .await
    }

    async fn trigger_snapshot(
        &self,
        request: Request<v1::TriggerSnapshotRequest>,
    ) -> Result<Response<v1::TriggerSnapshotResponse>, Status> {
        self.serve(request, |api, caller, m| async move {
            let v1::TriggerSnapshotRequest { options } = m;
            let change = api.change(&caller, options)?;
            let revision = api.look(|state| state.revision.0);
            let index = if change.validate_only { revision } else { api.backend().snapshot().await? };
            // A snapshot changes nothing that is replicated; that somebody asked for one is in the audit like a read.
            let ledger = api.ledger();
            ledger.count(&super::ledger::Event {
                event_type: "read",
                principal: &caller.principal,
                client_ip: &caller.client_ip,
                action: "AdminService/TriggerSnapshot",
                reason: "",
                details: &change.reason,
            });
            Ok(Served { message: v1::TriggerSnapshotResponse { index }, index: revision })
        })
        .await
    }

    async fn get_status(
        &self,
        request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        self.serve(request, |api, _, m| async move {
            let v1::GetStatusRequest { consistency } = m;
            api.fresh(consistency).await?;
            let (message, index) = api.whole().await;
            Ok(Served { message, index })
        })
        .await
    }

    async fn get_caller(
        &self,
        request: Request<v1::GetCallerRequest>,
    ) -> Result<Response<v1::GetCallerResponse>, Status> {
        self.serve(request, |api, caller, m| async move {
            let v1::GetCallerRequest {} = m;
            let message = v1::GetCallerResponse {
                principal: caller.principal.to_string(),
                access_role: caller.access.map(|a| a.as_str().to_owned()).unwrap_or_default(),
                serial: caller.serial.as_str().to_owned(),
                expires: write_timestamp(caller.not_after),
            };
            Ok(Served { message, index: api.look(|state| state.revision.0) })
        })
        .await
    }
}
