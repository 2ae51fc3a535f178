//! Nodes heard, missed, gone; drains that have come to their end.

use alloc::vec::Vec;

use quorate_model::{Drain, NodeStatus, Timestamp};

use crate::command::{Command, NodeCommand};
use crate::observations::Observations;
use crate::state::{Execution, Node, State};

pub(super) fn next(state: &State, obs: &Observations, now: Timestamp, due: &mut Vec<Command>) {
    for node in state.nodes.all_present() {
        if let Some(status) = status(state, obs, node, now).filter(|status| *status != node.status) {
            due.push(Command::Node(NodeCommand::SetStatus { node: node.name.clone(), status }));
        }
        if node.drain == Drain::Draining && !state.open_executions(&node.name).any(Execution::is_mutating) {
            due.push(Command::Node(NodeCommand::Drained { node: node.name.clone() }));
        }
    }
}

/// The status that the last heartbeat gives, or none while nobody can say. A new leader begins every clock afresh: a node
/// that it has not heard yet is not missed before the grace, counted from when it began to lead, is over.
fn status(state: &State, obs: &Observations, node: &Node, now: Timestamp) -> Option<NodeStatus> {
    let heard = obs.nodes.get(&node.name).map_or(Timestamp::ZERO, |seen| seen.heard);
    if heard > Timestamp::ZERO && now.since(heard) < state.settings.disconnected_after {
        return Some(NodeStatus::Ready);
    }
    match node.status {
        // Enrolled and never heard: it is not missed.
        NodeStatus::Pending | NodeStatus::Removed => return None,
        NodeStatus::Ready | NodeStatus::Disconnected | NodeStatus::Down => {}
    }
    let silent = now.since(heard.max(obs.leading_since));
    if silent >= state.settings.down_after {
        Some(NodeStatus::Down)
    } else if silent >= state.settings.disconnected_after && node.status == NodeStatus::Ready {
        Some(NodeStatus::Disconnected)
    } else {
        None
    }
}
