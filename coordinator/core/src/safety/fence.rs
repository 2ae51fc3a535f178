//! Guards on one node: is it there, may it be worked on, does somebody else work on it.

use alloc::format;

use quorate_model::{NodeName, NodeStatus, OperationId, Reason, Refusal};

use crate::state::State;

/// The node must be enrolled, its agent heard.
#[must_use]
pub fn reachable(state: &State, node: &NodeName) -> Option<Refusal> {
    let Some(found) = state.nodes.present(node) else {
        return Some(Refusal::new(Reason::NotFound, format!("there is no node {node}")));
    };
    match found.status {
        NodeStatus::Ready => None,
        NodeStatus::Pending | NodeStatus::Disconnected | NodeStatus::Down | NodeStatus::Removed => {
            Some(Refusal::new(
                Reason::AgentDisconnected,
                format!("the agent of {node} is not heard ({})", found.status),
            ))
        }
    }
}

/// No new disruptive work on a cordoned node.
#[must_use]
pub fn eligible(state: &State, node: &NodeName) -> Option<Refusal> {
    let cordon = state.nodes.present(node)?.cordon.as_ref()?;
    Some(
        Refusal::new(Reason::NodeCordoned, format!("{node} is cordoned by {}", cordon.owner))
            .with_detail("reason", cordon.reason.clone())
            .with_hint(format!("quorate node uncordon {node}")),
    )
}

/// Mutating work on one node is serialised (I-18): another operation's grant, or any mutating execution that may still have
/// an effect, holds the node. An execution that is UNKNOWN and whose operation has ended holds it no longer, or nobody could
/// ever repair the host; its instance still counts as out.
#[must_use]
pub fn free(state: &State, node: &NodeName, operation: Option<&OperationId>) -> Option<Refusal> {
    let lease = |holder: &OperationId| Refusal::NodeLease { node: node.clone(), holder: holder.clone() };
    let granted = state.grants.values().find(|g| g.instance.node == *node && operation != Some(&g.operation));
    if let Some(grant) = granted {
        return Some(lease(&grant.operation));
    }
    let holds = |id: &OperationId| state.operations.get(id).is_some_and(|o| !o.state.is_terminal());
    state
        .open_executions(node)
        .find(|e| {
            e.is_mutating() && (e.state != quorate_model::ExecutionState::Unknown || holds(&e.operation))
        })
        .map(|execution| lease(&execution.operation))
}
