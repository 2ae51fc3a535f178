//! Tries changes on a copy of the state: the very same checks as the real ones, and no trace.

use quorate_core::state::{Audit, Dedupe};
use quorate_core::{Answer, Entry, State, apply};

/// The answer that the last of the entries would get now, or the first refusal. The audit and the kept answers, by far the
/// largest parts, are not copied; request ids are taken off, because a dry run must neither use one up nor be answered by it.
#[must_use]
pub(crate) fn try_out(state: &State, entries: &[Entry]) -> Answer {
    let mut copy = State {
        cluster: state.cluster.clone(),
        clock: state.clock,
        revision: state.revision,
        settings: state.settings.clone(),
        nodes: state.nodes.clone(),
        members: state.members.clone(),
        identities: state.identities.clone(),
        users: state.users.clone(),
        tokens: state.tokens.clone(),
        services: state.services.clone(),
        groups: state.groups.clone(),
        freezes: state.freezes.clone(),
        windows: state.windows.clone(),
        policies: state.policies.clone(),
        schedules: state.schedules.clone(),
        plans: state.plans.clone(),
        operations: state.operations.clone(),
        executions: state.executions.clone(),
        open: state.open.clone(),
        grants: state.grants.clone(),
        obligations: state.obligations.clone(),
        backups: state.backups.clone(),
        artifacts: state.artifacts.clone(),
        instances: state.instances.clone(),
        dedupe: Dedupe::default(),
        audit: Audit::default(),
        epoch: state.epoch,
    };
    let mut answer = Answer::Done { revision: state.revision };
    for entry in entries {
        let index = copy.revision.0.saturating_add(1);
        answer = apply(&mut copy, index, &Entry { request_id: None, ..entry.clone() });
        if answer.refusal().is_some() {
            break;
        }
    }
    answer
}
