//! What the host's own journal says of an execution: `journalctl QUORATE_OPERATION=…` shows its whole life on this host,
//! also when no coordinator can be asked.
//!
//! Must never: decide anything, or be needed. The record is the runner's journal ([`super::journal`]).

use quorate_common::telemetry::sanitize;
use quorate_model::{ExecutionId, ExecutionState};
use tracing::Span;

use super::journal::Entry;

fn service(entry: &Entry) -> &str {
    entry.assignment.action.service().map_or("", |name| name.as_str())
}

/// What is said while it runs names it too.
pub(super) fn span(id: &ExecutionId, entry: &Entry) -> Span {
    let assignment = &entry.assignment;
    tracing::info_span!("execution", execution = %id, operation = %assignment.operation, service = service(entry))
}

/// The host took it on; it may wait for its turn.
pub(super) fn accepted(id: &ExecutionId, entry: &Entry) {
    let assignment = &entry.assignment;
    tracing::info!(
        execution = %id, operation = %assignment.operation, service = service(entry), epoch = assignment.epoch.0,
        "{} accepted", assignment.action.kind(),
    );
}

/// The intent is durable: from here on it may have its effect.
pub(super) fn begins(id: &ExecutionId, entry: &Entry) {
    let assignment = &entry.assignment;
    tracing::info!(
        execution = %id, operation = %assignment.operation, service = service(entry),
        "{} begins", assignment.action.kind(),
    );
}

/// Its end is durable.
pub(super) fn ended(id: &ExecutionId, entry: &Entry) {
    let assignment = &entry.assignment;
    let Some(end) = &entry.end else { return };
    let (kind, operation) = (assignment.action.kind(), &assignment.operation);
    if end.state == ExecutionState::Succeeded {
        tracing::info!(execution = %id, %operation, service = service(entry), "{kind} succeeded");
        return;
    }
    let reason = end.reason.map(|reason| reason.to_string()).unwrap_or_default();
    let message = end.outcome.as_ref().map(|outcome| outcome.message.as_str()).unwrap_or_default();
    tracing::warn!(
        execution = %id, %operation, service = service(entry), reason,
        "{kind} ended {}: {}", end.state, sanitize(message),
    );
}
