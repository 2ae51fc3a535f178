//! Changes of executions, obligations, backups, and the audit.

use alloc::string::String;
use alloc::vec::Vec;

use quorate_model::backup::{BackupReceipt, BackupState};
use quorate_model::{
    ActionOutcome, BackupId, Epoch, ExecutionId, ExecutionState, InstanceId, NodeName, ObligationId,
    ObligationState, Reason, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::state::audit::AuditDraft;

/// What an agent says about an execution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Which.
    pub execution: ExecutionId,
    /// The node it came from; must be the execution's own.
    pub node: NodeName,
    /// The epoch it was sent with; must be the execution's own.
    pub epoch: Epoch,
    /// ACCEPTED, RUNNING, UNKNOWN or a final state.
    pub state: ExecutionState,
    /// Why it was rejected or is unknown.
    pub reason: Option<Reason>,
    /// What it gave back, for a final state.
    pub outcome: Option<ActionOutcome>,
}

/// Changes of executions.
#[expect(clippy::large_enum_variant, reason = "`Command` holds it in a box already")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecutionCommand {
    /// What its agent says. The first final state stands; a different second one is ignored and audited.
    Report(Report),
    /// Its outcome cannot be told now, by the ticker: the agent is gone, or its deadline passed.
    MarkUnknown {
        /// Which.
        execution: ExecutionId,
        /// Why.
        reason: Reason,
    },
    /// It should stop, or not begin.
    Cancel {
        /// Which.
        execution: ExecutionId,
    },
    /// An operator has looked at the host: an UNKNOWN one becomes LOST and no longer counts as out.
    Resolve {
        /// Which.
        execution: ExecutionId,
        /// What was found, one line.
        note: String,
    },
}

/// Changes of obligations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObligationCommand {
    /// An agent owes an undo.
    Open {
        /// Its id, minted by the agent.
        id: ObligationId,
        /// Where.
        node: NodeName,
        /// The execution that owes it.
        execution: ExecutionId,
        /// What is owed, one line.
        what: String,
        /// The agent does it by itself after this.
        due_at: Timestamp,
    },
    /// It was done, or was tried and not done.
    Close {
        /// Which.
        id: ObligationId,
        /// Where.
        node: NodeName,
        /// DISCHARGED, EXPIRED_DISCHARGED or FAILED; FAILED stays owed.
        state: ObligationState,
    },
    /// Its operation lives, and the agent waits a whole time longer.
    Extend {
        /// Which.
        id: ObligationId,
    },
}

/// Changes of the catalogue of backups. Executions that store or verify a copy enter it by themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackupCommand {
    /// A copy that an agent found on its disk and the catalogue does not list.
    Record {
        /// Its id.
        id: BackupId,
        /// Of what.
        instance: InstanceId,
        /// What lies there.
        receipt: BackupReceipt,
    },
    /// A copy was read again, has expired, or is gone.
    SetState {
        /// Which.
        id: BackupId,
        /// VERIFIED, FAILED, EXPIRED or DELETED.
        state: BackupState,
        /// Why, one line.
        message: String,
    },
}

/// The hash-chained log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditCommand {
    /// Reads, denied calls and connections, in batches.
    Append {
        /// What happened.
        records: Vec<AuditDraft>,
    },
}
