//! Audit records.

use quorate_common::wire::time::write_timestamp;
use quorate_core::state::AuditRecord;
use quorate_core::state::audit::AuditDraft;
use quorate_model::Principal;
use quorate_proto::v1;

/// One record.
pub(crate) fn record(record: &AuditRecord) -> v1::AuditRecord {
    let AuditRecord { seq, what, hash } = record;
    let AuditDraft {
        at,
        event_type,
        client_ip,
        principal,
        action,
        resource,
        result,
        reason,
        details,
        request_id,
        operation,
    } = what;
    v1::AuditRecord {
        sequence: *seq,
        time: write_timestamp(*at),
        event_type: event_type.clone(),
        client_ip: client_ip.clone(),
        principal: show(principal),
        action: action.clone(),
        resource: resource.clone(),
        result: result.as_str().to_owned(),
        reason: reason.clone(),
        details: details.clone(),
        request_id: request_id.as_ref().map(|id| id.as_str().to_owned()).unwrap_or_default(),
        operation: operation.as_ref().map(|id| id.as_str().to_owned()).unwrap_or_default(),
        hash: hash.to_string(),
    }
}

fn show(principal: &Principal) -> String {
    principal.to_string()
}
