//! Changes of plans, operations and their steps.

use alloc::string::String;
use alloc::vec::Vec;

use quorate_model::{
    ConditionReason, ExecutionId, InstanceReading, OperationId, OperationState, PlanId, ProbeReading,
};
use serde::{Deserialize, Serialize};

use crate::hash::Hash;
use crate::state::plan::Plan;

/// Changes of plans and operations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationCommand {
    /// Keeps a computed plan; its hash is checked. Answer: `Plan`.
    StorePlan {
        /// The plan.
        plan: Plan,
    },
    /// Starts a stored plan; what it touches must not have moved. Answer: `Operation`.
    Create {
        /// Minted.
        id: OperationId,
        /// Which plan.
        plan: PlanId,
        /// The hash the caller saw; none when it did not look.
        hash: Option<Hash>,
    },
    /// Stores a plan and starts it at once. Answer: `Operation`.
    Start {
        /// Minted.
        id: OperationId,
        /// The plan.
        plan: Plan,
    },
    /// Lets lanes that are at work finish with their gates, then waits.
    Pause {
        /// Which.
        id: OperationId,
    },
    /// Goes on.
    Resume {
        /// Which.
        id: OperationId,
    },
    /// Lets actions in flight finish, skips the rest.
    Cancel {
        /// Which.
        id: OperationId,
    },
    /// Lets the wave after one that waits for its promotion begin.
    Promote {
        /// Which.
        id: OperationId,
        /// All waves that are still to be promoted, those to come as well.
        all: bool,
    },
    /// Approves its plan; the last approval that it needs lets it begin. Refused when what the plan touches has changed.
    Approve {
        /// Which.
        id: OperationId,
        /// The hash of the plan that was looked at.
        plan: Hash,
        /// Why, one line.
        reason: String,
    },
    /// Says no, which ends it: nothing was begun.
    Reject {
        /// Which.
        id: OperationId,
        /// The hash of the plan that was looked at.
        plan: Hash,
        /// Why, one line.
        reason: String,
    },
    /// Its approvals can come no more, by the ticker: their time is over, or what its plan touches has changed.
    Lapse {
        /// Which.
        id: OperationId,
    },
    /// Says why it waits, by the ticker; replaces the condition that was there.
    SetCondition {
        /// Which.
        id: OperationId,
        /// The code.
        reason: ConditionReason,
        /// One line.
        message: String,
    },
    /// It waits no more, by the ticker.
    ClearCondition {
        /// Which.
        id: OperationId,
    },
    /// Its active time is over, by the ticker: it fails at a safe stop.
    DeadlinePassed {
        /// Which.
        id: OperationId,
    },
    /// Reaches PAUSED, ROLLING_BACK or a terminal state, by the ticker; refused while anything is still owed.
    Settle {
        /// Which.
        id: OperationId,
        /// The state.
        state: OperationState,
    },
}

/// Changes of steps; all by the leader's ticker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepCommand {
    /// Begins an action: safety runs again on the evidence, then an execution and, for a disruptive one, a grant are made.
    /// Answer: `Execution`.
    Start {
        /// Whose.
        operation: OperationId,
        /// Which step, by index.
        step: u32,
        /// Minted.
        execution: ExecutionId,
        /// Readings of all declared voters of the groups it touches.
        evidence: Vec<InstanceReading>,
    },
    /// Begins to watch a gate.
    OpenGate {
        /// Whose.
        operation: OperationId,
        /// Which step, by index.
        step: u32,
        /// The voters of its group, for a gate that wants the lease of their primary back.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        evidence: Vec<InstanceReading>,
    },
    /// A gate passed, on these readings.
    PassGate {
        /// Whose.
        operation: OperationId,
        /// Which step, by index.
        step: u32,
        /// What it rests on.
        readings: Vec<ProbeReading>,
        /// Readings of all declared voters of its groups, for a gate that asks for their margin.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        evidence: Vec<InstanceReading>,
    },
    /// An instance that is looked at after its wave has turned bad: the gate fails at once.
    FailGate {
        /// Whose.
        operation: OperationId,
        /// Which step, by index.
        step: u32,
        /// What it rests on.
        reading: InstanceReading,
    },
    /// A step's deadline passed: a gate fails, an action's outcome becomes unknown.
    DeadlinePassed {
        /// Whose.
        operation: OperationId,
        /// Which step, by index.
        step: u32,
        /// The last readings, for a gate.
        readings: Vec<ProbeReading>,
        /// What is missing, one line.
        message: String,
    },
}
