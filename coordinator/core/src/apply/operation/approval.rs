//! Approvals: what an operation needs, what was decided, and its end when it is not given.
//!
//! What is needed is settled when the operation is made, by the policies that are declared then. A decision is bound to the
//! operation and to the hash of its plan, and once what the plan rests on has changed it cannot be given any more: whoever
//! still wants it plans again and asks again.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use quorate_model::{
    ApprovalState, ConditionReason, OperationId, OperationState, Principal, Reason, Refusal, Timestamp,
};

use super::{changed, fresh, open, skip};
use crate::apply::{Context, Effect, failover, step, validate};
use crate::hash::Hash;
use crate::safety::approval::{access, asked, covering, missing, waits_for};
use crate::state::State;
use crate::state::approval::{Approval, Decision, Want};
use crate::state::operation::{Condition, Failure, Operation};
use crate::state::plan::Plan;

/// Longest reason of a decision in bytes.
const REASON_MAX_BYTES: usize = 512;

/// What the policies that are declared now ask of an operation with this plan.
pub(super) fn needed(state: &State, context: &Context<'_>, plan: &Plan) -> Option<Approval> {
    let mut wants = Vec::new();
    let mut expires_at: Option<Timestamp> = None;
    for policy in covering(state, plan) {
        let spec = &policy.spec;
        wants.push(Want {
            policy: spec.name.clone(),
            approvals: spec.approvals,
            approvers: spec.approvers.clone(),
            reason: spec.reason.clone(),
        });
        let until = context.now.plus(spec.expires);
        expires_at = Some(expires_at.map_or(until, |first| first.min(until)));
    }
    // Run by hand or when it was due: it is the work of who declared it, too.
    let on_behalf = match &plan.request.principal {
        Principal::Schedule { name } => state.schedules.get(name).map(|schedule| schedule.applied_by.clone()),
        Principal::User { .. }
        | Principal::System
        | Principal::Coordinator { .. }
        | Principal::Agent { .. } => None,
    };
    let (state, decisions) = (ApprovalState::Pending, Vec::new());
    Some(Approval { state, wants, decisions, expires_at: expires_at?, on_behalf })
}

/// An operation that needs approval waits for it instead of queueing.
pub(super) fn hold(operation: &mut Operation, context: &Context<'_>) {
    let Some(message) = waits_for(operation) else { return };
    operation.state = OperationState::AwaitingApproval;
    let since = operation.conditions.first().map_or(context.now, |held| held.since);
    operation.conditions = Vec::from([Condition { reason: ConditionReason::Approval, message, since }]);
}

/// The operation and its approval, when this caller may decide on this plan now.
fn deciding<'a>(
    state: &'a State,
    context: &Context<'_>,
    id: &OperationId,
    plan: Hash,
    reason: &str,
) -> Result<(&'a Operation, &'a Approval), Refusal> {
    let operation = state
        .operations
        .get(id)
        .ok_or_else(|| Refusal::new(Reason::NotFound, format!("there is no operation {id}")))?;
    let waits = operation.state == OperationState::AwaitingApproval;
    let Some(approval) = operation.approval.as_ref().filter(|_| waits) else {
        let what = format!("{id} is {} and waits for no approval", operation.state);
        return Err(Refusal::new(Reason::WrongState, what));
    };
    if plan != operation.plan_hash {
        let what = format!("{id} has another plan than the one you saw");
        return Err(Refusal::new(Reason::StalePlan, what)
            .with_detail("its plan", format!("{} {}", operation.plan, operation.plan_hash))
            .with_hint(format!("look at it: quorate approval list; quorate operation show {id}")));
    }
    if reason.trim().is_empty() {
        return Err(validate::bad("reason: it is missing; the decision is kept with it"));
    }
    if reason.len() > REASON_MAX_BYTES || reason.chars().any(char::is_control) {
        return Err(validate::bad(format!("reason: expected one line of at most {REASON_MAX_BYTES} bytes")));
    }
    let denied = |what: String| {
        let mut refusal = Refusal::new(Reason::ApproverRefused, what);
        for want in &approval.wants {
            refusal = refusal.with_detail(format!("policy {}", want.policy), format!("{}", want.approvers));
        }
        refusal
    };
    if asked(operation, context.principal) {
        return Err(denied(format!("{} asked for {id}; somebody else decides", context.principal)));
    }
    let has = access(state, context.principal);
    if !approval.wants.iter().any(|want| want.counts(context.principal, has)) {
        return Err(denied(format!("no policy that covers {id} lets {} decide", context.principal)));
    }
    if context.now >= approval.expires_at {
        let what = format!("the approvals of {id} were due until {}", approval.expires_at.utc());
        return Err(Refusal::new(Reason::ApprovalExpired, what));
    }
    Ok((operation, approval))
}

pub(super) fn approve(
    state: &mut State,
    context: &Context<'_>,
    id: &OperationId,
    plan: Hash,
    reason: &str,
) -> Result<Effect, Refusal> {
    let (operation, approval) = deciding(state, context, id, plan, reason)?;
    if let Some(failure) = stale(state, operation) {
        return Err(Refusal::new(failure.reason, failure.message)
            .with_hint("plan again and look at the difference; the new operation is approved anew"));
    }
    if approval.decisions.iter().any(|d| d.by == *context.principal) {
        return Ok(Effect::unchanged(context.done()));
    }
    let has = access(state, context.principal);
    let open_wants = missing(operation, approval);
    if !open_wants.iter().any(|(want, _)| want.counts(context.principal, has)) {
        let what = format!("{id} has the approvals that {} could give", context.principal);
        return Err(Refusal::new(Reason::WrongState, what));
    }
    decide(state, context, id, (true, plan, reason));
    let operation = open(state, id)?;
    let left = waits_for(operation);
    if left.is_some() {
        hold(operation, context);
    } else {
        operation.state = OperationState::Queued;
        operation.conditions.clear();
        if let Some(approval) = &mut operation.approval {
            approval.state = ApprovalState::Approved;
        }
    }
    step::tidy(operation, context);
    let rest = left.unwrap_or_else(|| String::from("all approvals are there"));
    Ok(changed(context, id, format!("plan {plan} approved: {reason}; {rest}")))
}

pub(super) fn reject(
    state: &mut State,
    context: &Context<'_>,
    id: &OperationId,
    plan: Hash,
    reason: &str,
) -> Result<Effect, Refusal> {
    let _ = deciding(state, context, id, plan, reason)?;
    decide(state, context, id, (false, plan, reason));
    let message = format!("rejected by {}: {reason}", context.principal);
    let failure = Failure { reason: Reason::ApprovalRejected, message };
    let details = failure.message.clone();
    finish(state, context, id, (ApprovalState::Rejected, OperationState::Canceled), failure)?;
    Ok(changed(context, id, details))
}

pub(super) fn lapse(state: &mut State, context: &Context<'_>, id: &OperationId) -> Result<Effect, Refusal> {
    let operation = open(state, id)?.clone();
    let Some(failure) = lapsed(state, &operation, context.now) else {
        return Err(Refusal::new(Reason::WrongState, format!("{id} may still be approved, or need not be")));
    };
    let details = failure.message.clone();
    finish(state, context, id, (ApprovalState::Expired, OperationState::Failed), failure)?;
    Ok(changed(context, id, details))
}

/// Why an operation that waits for its approvals cannot get them any more, if so.
pub(crate) fn lapsed(state: &State, operation: &Operation, now: Timestamp) -> Option<Failure> {
    if operation.state != OperationState::AwaitingApproval {
        return None;
    }
    let late = operation.approval.as_ref().is_none_or(|approval| now >= approval.expires_at);
    if late {
        let message = String::from("its approvals were not given in time");
        return Some(Failure { reason: Reason::ApprovalExpired, message });
    }
    stale(state, operation)
}

/// What an approval would rest on has changed. A plan that is not kept any more cannot be compared.
fn stale(state: &State, operation: &Operation) -> Option<Failure> {
    let refusal = match state.plans.get(&operation.plan) {
        Some(plan) if plan.hash == operation.plan_hash => fresh(state, plan).err()?,
        Some(_) | None => Refusal::new(Reason::StalePlan, "its plan is not kept any more"),
    };
    Some(Failure { reason: refusal.reason(), message: refusal.what() })
}

fn decide(state: &mut State, context: &Context<'_>, id: &OperationId, what: (bool, Hash, &str)) {
    let (approved, plan, reason) = what;
    let access = match context.principal {
        Principal::User { .. } => access(state, context.principal),
        Principal::System
        | Principal::Coordinator { .. }
        | Principal::Agent { .. }
        | Principal::Schedule { .. } => None,
    };
    let by = context.principal.clone();
    let decision = Decision { by, access, approved, plan, reason: String::from(reason), at: context.now };
    if let Some(approval) = state.operations.get_mut(id).and_then(|o| o.approval.as_mut()) {
        approval.decisions.push(decision);
    }
}

/// Its end before it has begun: nothing is in flight, and nothing is owed.
fn finish(
    state: &mut State,
    context: &Context<'_>,
    id: &OperationId,
    (reached, ended): (ApprovalState, OperationState),
    failure: Failure,
) -> Result<(), Refusal> {
    let operation = open(state, id)?;
    if let Some(approval) = &mut operation.approval {
        approval.state = reached;
    }
    operation.state = ended;
    operation.failure = Some(failure);
    operation.conditions.clear();
    operation.ended_at = Some(context.now);
    for step in &mut operation.steps {
        skip(step, context);
    }
    step::tidy(operation, context);
    failover::follow(state, context, id);
    Ok(())
}
