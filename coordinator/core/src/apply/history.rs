//! What is kept and for how long: answers to repeated requests, finished operations, plans, identities.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use quorate_model::{
    DurationMs, ObligationState, OperationId, OperationState, PlanId, Reason, Refusal, Timestamp,
};

use super::Answer;
use crate::command::Entry;
use crate::hash::Hash;
use crate::state::dedupe::{DEDUPE_MAX, Dedupe, Given};
use crate::state::execution::{EXECUTIONS_MAX, OBLIGATIONS_KEPT};
use crate::state::operation::TERMINAL_MAX;
use crate::state::plan::PLANS_MAX;
use crate::state::{State, backup::BACKUPS_MAX};

/// A used, revoked or expired thing stays visible for this long.
const LINGER: DurationMs = DurationMs::from_secs(24 * 3_600);

/// Whether an entry was answered before.
pub(super) enum Recalled {
    /// Yes: this is the answer.
    Again(Answer),
    /// No: the digest of what is asked, when the caller gave a request id.
    New(Option<Hash>),
}

/// Looks the entry's request id up.
pub(super) fn recall(state: &State, entry: &Entry) -> Recalled {
    let Some(request) = &entry.request_id else { return Recalled::New(None) };
    let intent = entry.command.intent();
    match state.dedupe.lookup(&entry.principal, request) {
        None => Recalled::New(Some(intent)),
        Some(given) if given.intent == intent => Recalled::Again(given.answer.clone()),
        Some(_) => Recalled::Again(Answer::Refused(Refusal::new(
            Reason::RequestIdConflict,
            alloc::format!("request id {request} was used before for something else"),
        ))),
    }
}

/// Keeps the answer for a repeated request, refusals too: whoever wants to try anew takes a new id.
pub(super) fn remember(
    state: &mut State,
    entry: &Entry,
    intent: Option<Hash>,
    now: Timestamp,
    answer: &Answer,
) {
    let (Some(request), Some(intent)) = (&entry.request_id, intent) else { return };
    let key = Dedupe::key(&entry.principal, request);
    state.dedupe.given.insert(key, Given { at: now, intent, answer: answer.clone() });
    state.dedupe.order.push_back(key);
}

/// Forgets answers past their life, or beyond the limit, oldest first.
pub(super) fn forget_answers(state: &mut State, now: Timestamp) {
    let horizon = now.minus(state.settings.dedupe_life);
    let dedupe = &mut state.dedupe;
    while let Some(key) = dedupe.order.front() {
        let old = dedupe.given.get(key).is_none_or(|given| given.at < horizon);
        if !old && dedupe.order.len() <= DEDUPE_MAX {
            break;
        }
        dedupe.given.remove(key);
        dedupe.order.pop_front();
    }
}

/// Drops history beyond its limits. Only at every 64th entry: it looks at everything, and a limit may be passed by 64.
pub(super) fn prune(state: &mut State, now: Timestamp) {
    if !state.revision.0.is_multiple_of(64) {
        return;
    }
    prune_operations(state);
    // What is still to be approved is compared with its plan: those are as few as open operations may be.
    let waiting = state.operations.values().filter(|o| o.state == OperationState::AwaitingApproval);
    let kept: BTreeSet<PlanId> = waiting.map(|o| o.plan.clone()).collect();
    while state.plans.len() > PLANS_MAX.saturating_add(kept.len()) {
        let free = state.plans.values().filter(|p| !kept.contains(&p.id));
        let oldest = free.min_by_key(|p| (p.created_at, p.id.clone())).map(|p| p.id.clone());
        let Some(id) = oldest else { break };
        state.plans.remove(&id);
    }
    while state.backups.len() > BACKUPS_MAX {
        let oldest =
            state.backups.values().min_by_key(|b| (b.created_at, b.id.clone())).map(|b| b.id.clone());
        let Some(id) = oldest else { break };
        state.backups.remove(&id);
    }
    let horizon = now.minus(LINGER);
    state.identities.retain(|_, identity| identity.not_after >= horizon);
    state.tokens.retain(|_, token| token.expires_at >= horizon);
    let closed = |state: ObligationState| match state {
        ObligationState::Discharged | ObligationState::ExpiredDischarged => true,
        ObligationState::Open | ObligationState::Failed => false,
    };
    let mut over =
        state.obligations.values().filter(|o| closed(o.state)).count().saturating_sub(OBLIGATIONS_KEPT);
    if over > 0 {
        let mut old: Vec<_> = state
            .obligations
            .values()
            .filter(|o| closed(o.state))
            .map(|o| (o.updated_at, o.id.clone()))
            .collect();
        old.sort();
        for (_, id) in old {
            if over == 0 {
                break;
            }
            state.obligations.remove(&id);
            over = over.saturating_sub(1);
        }
    }
}

/// Terminal operations beyond the limit go, oldest first, with their executions; one with an execution whose outcome is not
/// known stays, because its instance still counts as out.
fn prune_operations(state: &mut State) {
    let terminal = state.operations.values().filter(|o| o.state.is_terminal()).count();
    let many = state.executions.len() > EXECUTIONS_MAX;
    if terminal <= TERMINAL_MAX && !many {
        return;
    }
    let unresolved =
        |id: &OperationId| state.all_open_executions().any(|execution| execution.operation == *id);
    let mut old: Vec<_> = state
        .operations
        .values()
        .filter(|o| o.state.is_terminal() && !unresolved(&o.id))
        .map(|o| (o.ended_at, o.id.clone()))
        .collect();
    old.sort();
    let mut over = terminal.saturating_sub(TERMINAL_MAX);
    for (_, id) in old {
        if over == 0 && state.executions.len() <= EXECUTIONS_MAX {
            break;
        }
        over = over.saturating_sub(1);
        state.operations.remove(&id);
        state.executions.retain(|_, execution| execution.operation != id);
    }
}
