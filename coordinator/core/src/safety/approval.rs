//! Approvals: whether what the policies ask for has been given, for this very plan.
//!
//! What an operation needs is settled when it is made, and looked at again wherever one of its steps begins: the state that it
//! is in is not what it rests on. Its rollback, and nothing else, follows from what was approved and needs no more.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use quorate_model::{
    AccessRole, ActionSpec, ApprovalState, NodeName, OperationKind, Principal, Reason, Refusal,
};

use super::cover;
use crate::state::approval::{Approval, Want};
use crate::state::plan::Plan;
use crate::state::{Operation, Policy, State};

/// The policies that cover a plan, by name: its kind, and any of its actions by risk, node and service.
pub fn covering<'a>(state: &'a State, plan: &'a Plan) -> impl Iterator<Item = &'a Policy> {
    let actions = || plan.steps().filter_map(|(_, step)| Some((&step.node, step.action.as_ref()?)));
    state.policies.values().filter(move |policy| {
        kind(policy, plan.kind) && actions().any(|(node, action)| covers(state, policy, node, action))
    })
}

fn kind(policy: &Policy, kind: OperationKind) -> bool {
    policy.spec.kinds.is_empty() || policy.spec.kinds.contains(&kind)
}

fn covers(state: &State, policy: &Policy, node: &NodeName, action: &ActionSpec) -> bool {
    action.risk() >= policy.spec.least()
        && cover::node(state, policy.spec.selector.as_ref(), node)
        && cover::service(state, &policy.spec.services, node, action.service())
}

/// The best access of somebody by the certificates that are listed now.
#[must_use]
pub fn access(state: &State, principal: &Principal) -> Option<AccessRole> {
    let listed = state.identities.values().filter(|i| i.principal == *principal && i.revoked_at.is_none());
    listed.filter_map(|i| i.access).max()
}

/// Whether somebody has asked for an operation: who started it, who made its plan, and who declared the schedule that did.
#[must_use]
pub fn asked(operation: &Operation, principal: &Principal) -> bool {
    let on_behalf = operation.approval.as_ref().and_then(|approval| approval.on_behalf.as_ref());
    operation.created_by == *principal
        || operation.request.principal == *principal
        || on_behalf == Some(principal)
}

/// What of it is not satisfied, with how many approvals are missing. Those of who asked for the operation count for nothing.
#[must_use]
pub fn missing<'a>(operation: &Operation, approval: &'a Approval) -> Vec<(&'a Want, u32)> {
    let others: Vec<_> = approval.decisions.iter().filter(|d| !asked(operation, &d.by)).cloned().collect();
    let wants = approval.wants.iter().map(|want| (want, want.missing(&others, &operation.plan_hash)));
    wants.filter(|(_, missing)| *missing > 0).collect()
}

/// Nothing of an operation begins before all approvals of its plan are there.
#[must_use]
pub fn approved(operation: &Operation) -> Option<Refusal> {
    let approval = operation.approval.as_ref()?;
    let text = match approval.state {
        ApprovalState::Rejected => String::from("it was rejected"),
        ApprovalState::Expired => String::from("its approvals were not given in time"),
        // Counted and not believed: the state is for those who read it.
        ApprovalState::Pending | ApprovalState::Approved => waits_for(operation)?,
    };
    let mut refusal = Refusal::new(Reason::ApprovalRequired, format!("{}: {text}", operation.id));
    for want in &approval.wants {
        refusal = refusal.with_detail(format!("policy {}", want.policy), told(operation, approval, want));
    }
    Some(refusal.with_hint(format!("quorate approval approve {}", operation.id)))
}

/// One line for what an operation still waits for; nothing when all approvals are there. It holds moments and no ages.
#[must_use]
pub fn waits_for(operation: &Operation) -> Option<String> {
    let approval = operation.approval.as_ref()?;
    let missing = missing(operation, approval);
    if missing.is_empty() {
        return None;
    }
    let parts: Vec<String> = missing
        .iter()
        .map(|(want, count)| format!("{count} by {} ({})", want.approvers, want.policy))
        .collect();
    let until = approval.expires_at.utc();
    Some(format!("approvals are missing until {until}: {}", parts.join("; ")))
}

/// One line for what a policy asks for, and who has given it.
#[must_use]
pub fn told(operation: &Operation, approval: &Approval, want: &Want) -> String {
    let given = want.given(&approval.decisions, &operation.plan_hash);
    let names: Vec<String> =
        given.iter().filter(|by| !asked(operation, by)).map(|by| format!("{by}")).collect();
    let by = if names.is_empty() { String::from("nobody yet") } else { names.join(", ") };
    format!("{} needed by {}, approved by {by}: {}", want.approvals, want.approvers, want.reason)
}
