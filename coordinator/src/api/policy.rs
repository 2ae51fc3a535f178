//! PolicyService, and the approvals that OperationService serves.
//!
//! To declare, change or delete a policy is an administrator's work: whoever may loosen what holds others is trusted with
//! everything. To approve is an operator's, within what the policies say.

use quorate_common::wire::Invalid;
use quorate_common::wire::calendar::read_etag;
use quorate_common::wire::enums::read_approval_state;
use quorate_common::wire::policy::read_policy;
use quorate_common::wire::text::read_name;
use quorate_core::command::{OperationCommand, PolicyCommand};
use quorate_core::{Command, Hash};
use quorate_model::PolicyName;
use quorate_proto::v1;
use quorate_proto::v1::policy_service_server::PolicyService;
use tonic::{Request, Response, Status};

use super::caller::Caller;
use super::context::{Api, Served};
use super::page::{Page, newest_first};
use super::status::Failure;
use super::view::policy::{approval as show_approval, policy as show};

/// Policies on one page when the request says none (proto): all there may be.
const PAGE: u32 = 200;
/// Approvals on one page when the request says none (proto).
const APPROVALS_PAGE: u32 = 50;

/// The hash of a plan, as it is shown.
pub(super) fn read_hash(field: &str, text: &str) -> Result<Hash, Invalid> {
    if text.is_empty() {
        return Err(Invalid::missing(field));
    }
    Hash::from_hex(text).ok_or_else(|| Invalid::new(field, "expected the 64 hex digits of a plan's hash"))
}

impl Api {
    fn policy_view(&self, name: &PolicyName) -> Result<(v1::Policy, u64), Failure> {
        self.look(|state| {
            let none = || Failure::not_found("policy", name.as_str(), state.revision.0);
            let found = state.policies.get(name).ok_or_else(none)?;
            Ok((show(found), state.revision.0))
        })
    }

    async fn list_policies(
        &self,
        request: v1::ListPoliciesRequest,
    ) -> Result<Served<v1::ListPoliciesResponse>, Failure> {
        let v1::ListPoliciesRequest { page_size, page_token, consistency } = request;
        let page = Page::read(page_size, &page_token, PAGE)?;
        self.fresh(consistency).await?;
        Ok(self.look(|state| {
            let key = |p: &&quorate_core::state::Policy| p.spec.name.as_str().to_owned();
            let (policies, next_page_token) = page.cut(state.policies.values(), key);
            let policies = policies.into_iter().map(show).collect();
            let message = v1::ListPoliciesResponse { policies, next_page_token };
            Served { message, index: state.revision.0 }
        }))
    }

    async fn apply_policy(
        &self,
        caller: &Caller,
        request: v1::ApplyPolicyRequest,
    ) -> Result<Served<v1::ApplyPolicyResponse>, Failure> {
        let v1::ApplyPolicyRequest { spec, options, etag } = request;
        let change = self.change(caller, options)?;
        let spec = spec.ok_or_else(|| Invalid::missing("spec"))?;
        let spec = read_policy(spec).map_err(|i| i.within("spec"))?;
        let expect = read_etag("etag", &etag)?;
        let name = spec.name.clone();
        self.backend().linearize().await?;
        let before = self.look(|state| state.policies.get(&name).map(|p| p.spec.clone()));
        let changed = before.as_ref() != Some(&spec);
        let command = Command::Policy(Box::new(PolicyCommand::Apply { spec, expect }));
        let (index, _) = self.propose(caller, &change, command).await?;
        let policy = self.policy_view(&name).ok().map(|(policy, _)| policy);
        Ok(Served { message: v1::ApplyPolicyResponse { policy, changed }, index })
    }

    pub(super) async fn approve_operation(
        &self,
        caller: &Caller,
        request: v1::ApproveOperationRequest,
    ) -> Result<Served<v1::ApproveOperationResponse>, Failure> {
        let v1::ApproveOperationRequest { name, plan_hash, options } = request;
        let (plan, reason) = (read_hash("plan_hash", &plan_hash)?, reason_of(options.as_ref()));
        let command = |id| OperationCommand::Approve { id, plan, reason };
        let (operation, index) = self.steer(caller, &name, options, command).await?;
        Ok(Served { message: v1::ApproveOperationResponse { operation }, index })
    }

    pub(super) async fn reject_operation(
        &self,
        caller: &Caller,
        request: v1::RejectOperationRequest,
    ) -> Result<Served<v1::RejectOperationResponse>, Failure> {
        let v1::RejectOperationRequest { name, plan_hash, options } = request;
        let (plan, reason) = (read_hash("plan_hash", &plan_hash)?, reason_of(options.as_ref()));
        let command = |id| OperationCommand::Reject { id, plan, reason };
        let (operation, index) = self.steer(caller, &name, options, command).await?;
        Ok(Served { message: v1::RejectOperationResponse { operation }, index })
    }

    pub(super) async fn list_approvals(
        &self,
        request: v1::ListApprovalsRequest,
    ) -> Result<Served<v1::ListApprovalsResponse>, Failure> {
        let v1::ListApprovalsRequest { page_size, page_token, consistency, state: wanted } = request;
        let page = Page::read(page_size, &page_token, APPROVALS_PAGE)?;
        let wanted = if wanted == 0 { None } else { Some(read_approval_state("state", wanted)?) };
        self.fresh(consistency).await?;
        Ok(self.look(|state| {
            let key = |o: &&quorate_core::state::Operation| newest_first(o.created_at.0, o.id.as_str());
            let fits = |o: &&quorate_core::state::Operation| {
                // One that was canceled while it waited is not waiting any more.
                let at = o.approval.as_ref().map(|a| a.state);
                let over = o.state.is_terminal() && at == Some(quorate_model::ApprovalState::Pending);
                at.is_some() && wanted.is_none_or(|wanted| at == Some(wanted) && !over)
            };
            let mut found: Vec<_> = state.operations.values().filter(fits).collect();
            found.sort_by_key(key);
            let (found, next_page_token) = page.cut(found.into_iter(), key);
            let approvals = found.into_iter().filter_map(show_approval).collect();
            let message = v1::ListApprovalsResponse { approvals, next_page_token };
            Served { message, index: state.revision.0 }
        }))
    }
}

/// The reason of a change is the reason of the decision; the state holds it, where the audit holds that of others.
fn reason_of(options: Option<&v1::ChangeOptions>) -> String {
    options.map(|options| options.reason.clone()).unwrap_or_default()
}

#[tonic::async_trait]
impl PolicyService for Api {
    async fn list_policies(
        &self,
        request: Request<v1::ListPoliciesRequest>,
    ) -> Result<Response<v1::ListPoliciesResponse>, Status> {
        self.serve(request, |api, _, m| async move { api.list_policies(m).await }).await
    }

    async fn get_policy(
        &self,
        request: Request<v1::GetPolicyRequest>,
    ) -> Result<Response<v1::GetPolicyResponse>, Status> {
        self.serve(request, |api, _, m| async move {
            let v1::GetPolicyRequest { name, consistency } = m;
            let name = read_name("name", name)?;
            api.fresh(consistency).await?;
            let (policy, index) = api.policy_view(&name)?;
            Ok(Served { message: v1::GetPolicyResponse { policy: Some(policy) }, index })
        })
        .await
    }

    async fn apply_policy(
        &self,
        request: Request<v1::ApplyPolicyRequest>,
    ) -> Result<Response<v1::ApplyPolicyResponse>, Status> {
        self.serve(request, |api, caller, m| async move { api.apply_policy(&caller, m).await }).await
    }

    async fn delete_policy(
        &self,
        request: Request<v1::DeletePolicyRequest>,
    ) -> Result<Response<v1::DeletePolicyResponse>, Status> {
        self.serve(request, |api, caller, m| async move {
            let v1::DeletePolicyRequest { name, options, etag } = m;
            let change = api.change(&caller, options)?;
            let (name, expect) = (read_name("name", name)?, read_etag("etag", &etag)?);
            let command = Command::Policy(Box::new(PolicyCommand::Delete { name, expect }));
            let (index, _) = api.propose(&caller, &change, command).await?;
            Ok(Served { message: v1::DeletePolicyResponse {}, index })
        })
        .await
    }
}
