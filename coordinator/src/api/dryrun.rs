//! Tries a change on a copy of the state: the very same checks as the real one, and no trace.

use quorate_core::state::{Audit, Dedupe};
use quorate_core::{Answer, Entry, State, apply};

/// The answer the entry would get now. The audit and the kept answers, by far the largest parts, are not copied; the request
/// id is taken off, because a dry run must neither use it up nor be answered by it.
#[must_use]
pub(crate) fn try_out(state: &State, mut entry: Entry) -> Answer {
    entry.request_id = None;
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
        plans: state.plans.clone(),
        operations: state.operations.clone(),
        executions: state.executions.clone(),
        open: state.open.clone(),
        grants: state.grants.clone(),
        obligations: state.obligations.clone(),
        backups: state.backups.clone(),
        instances: state.instances.clone(),
        dedupe: Dedupe::default(),
        audit: Audit::default(),
        epoch: state.epoch,
    };
    let index = state.revision.0.saturating_add(1);
    apply(&mut copy, index, &entry)
}
