//! An execution as the journal has it, as the machine needs it, and as it is told.

use quorate_model::session::{Assignment, ExecutionReport};
use quorate_model::{ActionKind, Epoch, ExecutionId, ExecutionState, Reason, RiskClass};
use sha2::{Digest as _, Sha256};

use super::journal::{Entry, Tombstone, digest_of};
use super::machine::{Digest, Offer};
use super::work::end;
use crate::host::clock;

/// Where it stands.
pub(super) fn report(id: &ExecutionId, entry: &Entry) -> ExecutionReport {
    let (state, reason, outcome) = match (&entry.end, &entry.intent) {
        (Some(end), _) => (end.state, end.reason, end.outcome.clone()),
        (None, Some(_)) => (ExecutionState::Running, None, None),
        (None, None) => (ExecutionState::Accepted, None, None),
    };
    let epoch = entry.assignment.epoch;
    ExecutionReport { execution: id.clone(), state, reason, outcome, at: entry.at, epoch }
}

/// How it ended, long ago.
pub(super) fn report_of_tombstone(id: &ExecutionId, stone: &Tombstone) -> ExecutionReport {
    ExecutionReport {
        execution: id.clone(),
        state: stone.state,
        reason: None,
        outcome: None,
        at: stone.at,
        epoch: stone.epoch,
    }
}

/// Another request has this id.
pub(super) fn conflict(id: ExecutionId, epoch: Epoch) -> ExecutionReport {
    let message = "this node has run another request under this id".to_owned();
    let refused = end(ExecutionState::Rejected, Some(Reason::RequestIdConflict), message, None);
    ExecutionReport {
        execution: id,
        state: refused.state,
        reason: refused.reason,
        outcome: refused.outcome,
        at: clock::now(),
        epoch,
    }
}

/// What the machine needs to know of it.
pub(super) fn offer(id: &ExecutionId, entry: &Entry, refused: Option<(Reason, String)>) -> Offer {
    Offer {
        id: id.clone(),
        epoch: entry.assignment.epoch,
        digest: digest_of(&entry.digest),
        read: entry.assignment.action.risk() == RiskClass::Read,
        begin_before: entry.begin_before,
        refused,
    }
}

/// What is asked for, without what may differ between two deliveries of the same: the grant's remaining life.
pub(super) fn digest(assignment: &Assignment) -> Digest {
    let Assignment { execution: _, operation, epoch, grant_remaining: _, deadline, action, disruptive } =
        assignment;
    let kind: ActionKind = action.kind();
    let text = serde_json::to_vec(&(operation, epoch, deadline, kind, action, disruptive));
    // Our own types with string keys always have a JSON form; if not, nothing matches and the id conflicts.
    Sha256::digest(text.unwrap_or_default()).into()
}
