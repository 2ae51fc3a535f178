//! Executions, the grants that allow them, and the undos they owe.

use alloc::string::String;
use alloc::vec::Vec;

use quorate_model::{
    ActionOutcome, ActionSpec, DurationMs, Epoch, ExecutionId, ExecutionState, GroupName, InstanceId,
    NodeName, ObligationId, ObligationState, OperationId, Reason, RiskClass, Timestamp,
};
use serde::{Deserialize, Serialize};

/// Discharged obligations kept as history.
pub const OBLIGATIONS_KEPT: usize = 1_000;
/// Executions kept; beyond it the oldest finished operations go before their time. About 1 KiB each.
pub const EXECUTIONS_MAX: usize = 20_000;
/// Most open obligations.
pub const OBLIGATIONS_OPEN_MAX: usize = 10_000;
/// Most open obligations of one node: it does a handful of things at a time, and must not take the room of others (I-33).
pub const OBLIGATIONS_PER_NODE_MAX: usize = 64;

/// One run of one action on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Execution {
    /// Its id; the agent's journal is keyed by it.
    pub id: ExecutionId,
    /// Whose.
    pub operation: OperationId,
    /// Which step of it.
    pub step: u32,
    /// Where.
    pub node: NodeName,
    /// What.
    pub action: ActionSpec,
    /// The instance it works on, if any.
    pub instance: Option<InstanceId>,
    /// It holds, or held, a grant: while it is not final its instance counts as out.
    pub disruptive: bool,
    /// Fencing number.
    pub epoch: Epoch,
    /// Its life.
    pub state: ExecutionState,
    /// When it was decided.
    pub created_at: Timestamp,
    /// The agent must begin before.
    pub begin_before: Timestamp,
    /// Longest time on the node once begun.
    pub deadline: DurationMs,
    /// When its state last changed.
    pub updated_at: Timestamp,
    /// It should stop, or not begin.
    pub cancel: bool,
    /// Why it was rejected or is unknown.
    pub reason: Option<Reason>,
    /// What it gave back.
    pub outcome: Option<ActionOutcome>,
}

impl Execution {
    /// Whether it may change something on its node.
    #[must_use]
    pub fn is_mutating(&self) -> bool {
        self.action.risk() != RiskClass::Read
    }
}

/// A lease to disturb one instance, taken from the budget of its groups. Held until its lane is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Its fencing number.
    pub epoch: Epoch,
    /// Who holds it.
    pub operation: OperationId,
    /// For which step.
    pub step: u32,
    /// For which execution.
    pub execution: ExecutionId,
    /// Which instance it allows to disturb.
    pub instance: InstanceId,
    /// Whose budget it takes from.
    pub groups: Vec<GroupName>,
    /// When it was handed out.
    pub issued_at: Timestamp,
    /// The agent refuses to begin after this. The budget itself stays taken until the lane is over.
    pub expires_at: Timestamp,
}

/// An undo that is owed for a temporary state; the agent does it alone when the coordinators are gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obligation {
    /// Its id.
    pub id: ObligationId,
    /// Where.
    pub node: NodeName,
    /// The execution that owes it.
    pub execution: ExecutionId,
    /// The operation that owes it.
    pub operation: Option<OperationId>,
    /// What is owed, one line.
    pub what: String,
    /// The agent does it by itself after this.
    pub due_at: Timestamp,
    /// Its life.
    pub state: ObligationState,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// When its state last changed.
    pub updated_at: Timestamp,
}
