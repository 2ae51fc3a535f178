//! The catalogue of backups.

use alloc::string::String;

use quorate_model::backup::{BackupReceipt, BackupState};
use quorate_model::{BackupId, ExecutionId, InstanceId, OperationId, Timestamp};
use serde::{Deserialize, Serialize};

/// Backups listed; the oldest that is not the last good one of its instance goes first.
pub const BACKUPS_MAX: usize = 10_000;

/// One stored, hashed copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    /// Its id.
    pub id: BackupId,
    /// Of what, and on which node it lies.
    pub instance: InstanceId,
    /// Which operation made it.
    pub operation: Option<OperationId>,
    /// Which execution made it.
    pub execution: Option<ExecutionId>,
    /// Its life.
    pub state: BackupState,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it was written.
    pub written_at: Option<Timestamp>,
    /// When it was last read again in full.
    pub verified_at: Option<Timestamp>,
    /// What was stored.
    pub receipt: Option<BackupReceipt>,
    /// Why it failed, one line.
    pub message: String,
}
