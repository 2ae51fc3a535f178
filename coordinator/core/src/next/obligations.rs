//! Undos that are waited for longer, because the operation that they belong to lives.
//!
//! What is extended is decided and kept by the coordinators together: one that has lost the others extends nothing, and the host
//! does the undo at its time.

use alloc::vec::Vec;

use quorate_model::{NodeStatus, ObligationState, Timestamp};

use crate::command::{Command, ObligationCommand};
use crate::state::{State, traffic};

/// Each is extended when half of its time is over, counted on the coordinators' clocks from when it was opened or extended last.
pub(super) fn next(state: &State, now: Timestamp, due: &mut Vec<Command>) {
    let open = state.obligations.values().filter(|o| o.state == ObligationState::Open);
    for obligation in open {
        let heard =
            state.nodes.present(&obligation.node).is_some_and(|node| node.status == NodeStatus::Ready);
        let Some(lease) = traffic::lease(state, obligation).filter(|_| heard) else { continue };
        if now.since(obligation.updated_at).0.saturating_mul(2) >= lease.0 {
            due.push(Command::Obligation(ObligationCommand::Extend { id: obligation.id.clone() }));
        }
    }
}
