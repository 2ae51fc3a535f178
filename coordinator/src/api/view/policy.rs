//! Policies, and the approvals that operations wait for.

use quorate_common::wire::calendar::write_etag;
use quorate_common::wire::enums::write_approval_state;
use quorate_common::wire::policy::write_policy;
use quorate_common::wire::time::write_timestamp;
use quorate_core::safety::approval::missing;
use quorate_core::state::approval::{Approval, Decision, Want};
use quorate_core::state::{Operation, Policy};
use quorate_proto::v1;

use super::operation::COLLECTION;

/// A policy as declared.
pub(crate) fn policy(policy: &Policy) -> v1::Policy {
    let Policy { spec, applied_by, created_at, revision } = policy;
    v1::Policy {
        name: spec.name.as_str().to_owned(),
        spec: Some(write_policy(spec)),
        applied_by: applied_by.to_string(),
        created: write_timestamp(*created_at),
        revision: revision.0,
        etag: write_etag(*revision),
    }
}

/// The approval that an operation needs; none when no policy covers it.
pub(crate) fn approval(operation: &Operation) -> Option<v1::Approval> {
    let approval = operation.approval.as_ref()?;
    let Approval { state, wants, decisions, expires_at, on_behalf } = approval;
    let left = missing(operation, approval);
    let count = |want: &Want| left.iter().find(|(w, _)| w.policy == want.policy).map_or(0, |(_, n)| *n);
    let mut requested_by = vec![operation.created_by.to_string()];
    for other in [Some(&operation.request.principal), on_behalf.as_ref()].into_iter().flatten() {
        let other = other.to_string();
        if !requested_by.contains(&other) {
            requested_by.push(other);
        }
    }
    Some(v1::Approval {
        operation: format!("{COLLECTION}{}", operation.id),
        title: operation.title.clone(),
        state: write_approval_state(*state) as i32,
        plan_id: operation.plan.as_str().to_owned(),
        plan_hash: operation.plan_hash.to_string(),
        requested_by,
        reason: operation.request.reason.clone(),
        created: write_timestamp(operation.created_at),
        expires: write_timestamp(*expires_at),
        wants: wants.iter().map(|one| want(one, count(one))).collect(),
        decisions: decisions.iter().map(decision).collect(),
    })
}

fn want(want: &Want, missing: u32) -> v1::ApprovalWant {
    let Want { policy, approvals, approvers, reason } = want;
    v1::ApprovalWant {
        policy: policy.as_str().to_owned(),
        approvals: *approvals,
        approvers: approvers.to_string(),
        missing,
        reason: reason.clone(),
    }
}

fn decision(decision: &Decision) -> v1::ApprovalDecision {
    let Decision { by, access: _, approved, plan: _, reason, at } = decision;
    v1::ApprovalDecision {
        by: by.to_string(),
        approved: *approved,
        reason: reason.clone(),
        at: write_timestamp(*at),
    }
}
