//! The catalogue of backups.

use quorate_common::wire::backup::write_receipt;
use quorate_common::wire::enums::write_backup_state;
use quorate_common::wire::time::write_timestamp;
use quorate_core::state::Backup;
use quorate_proto::v1;

/// One stored copy.
pub(crate) fn backup(backup: &Backup) -> v1::Backup {
    let Backup {
        id,
        instance,
        operation,
        execution: _,
        state,
        created_at,
        written_at: _,
        verified_at,
        receipt,
        message,
    } = backup;
    v1::Backup {
        backup_id: id.as_str().to_owned(),
        node: instance.node.as_str().to_owned(),
        service: instance.service.as_str().to_owned(),
        state: write_backup_state(*state) as i32,
        created: write_timestamp(*created_at),
        verified: verified_at.and_then(write_timestamp),
        receipt: receipt.as_ref().map(write_receipt),
        operation: operation.as_ref().map(|id| id.as_str().to_owned()).unwrap_or_default(),
        message: message.clone(),
    }
}
