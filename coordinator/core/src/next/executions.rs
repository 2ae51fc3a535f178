//! Executions whose agent is gone. One that nobody took up in time needs no command: its agent refuses it, because its grant
//! has expired, and only the agent can say that nothing was done.

use alloc::vec::Vec;

use quorate_model::{ExecutionState, NodeStatus, Reason, Timestamp};

use crate::command::{Command, ExecutionCommand};
use crate::state::State;

pub(super) fn next(state: &State, now: Timestamp, due: &mut Vec<Command>) {
    for execution in state.all_open_executions() {
        let id = || execution.id.clone();
        let away = state.nodes.present(&execution.node).is_none_or(|node| match node.status {
            NodeStatus::Disconnected | NodeStatus::Down => {
                now.since(node.status_since) >= state.settings.unknown_after
            }
            NodeStatus::Ready | NodeStatus::Pending => false,
            NodeStatus::Removed => true,
        });
        if away && execution.state != ExecutionState::Unknown {
            let reason = Reason::AgentDisconnected;
            due.push(command(ExecutionCommand::MarkUnknown { execution: id(), reason }));
        }
    }
}

fn command(command: ExecutionCommand) -> Command {
    Command::Execution(alloc::boxed::Box::new(command))
}
