//! The hash-chained log: every change, every refusal, and summaries of reads and denied calls.
//!
//! Each record's hash covers the one before it and every field of the record, so that an edit, a deletion or a reordering
//! is found at the first bad record. The head's hash is what an auditor keeps elsewhere.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

use quorate_model::{OperationId, Principal, RequestId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::hash::{Hash, Hasher};

/// Records kept in memory; about 400 bytes each.
pub const AUDIT_MAX: usize = 20_000;
/// Longest text field of a record, in bytes; longer is cut at a character.
pub const AUDIT_TEXT_MAX_BYTES: usize = 512;
/// Most records appended by one command.
pub const AUDIT_BATCH_MAX: usize = 256;

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuditResult {
    /// Done.
    #[serde(rename = "OK")]
    Ok,
    /// Refused; nothing was changed.
    #[serde(rename = "REFUSED")]
    Refused,
    /// The caller may not.
    #[serde(rename = "DENIED")]
    Denied,
    /// It went wrong.
    #[serde(rename = "FAILED")]
    Failed,
}

impl AuditResult {
    /// The stable word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Refused => "REFUSED",
            Self::Denied => "DENIED",
            Self::Failed => "FAILED",
        }
    }
}

/// A record before it gets its place in the chain (procedures.md Q1 names the fields).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditDraft {
    /// When.
    pub at: Timestamp,
    /// `change`, `refusal`, `read`, `auth`, `authz`, `connection`, `agent`.
    pub event_type: String,
    /// Address of the caller; empty when it is the control plane itself.
    pub client_ip: String,
    /// Who.
    pub principal: Principal,
    /// What, for example `node.cordon`.
    pub action: String,
    /// On what, for example `nodes/node3`.
    pub resource: String,
    /// How it ended.
    pub result: AuditResult,
    /// The stable code of a refusal, or the caller's own reason.
    pub reason: String,
    /// One line.
    pub details: String,
    /// The caller's id of the request.
    pub request_id: Option<RequestId>,
    /// The operation it belongs to.
    pub operation: Option<OperationId>,
}

/// One entry of the hash-chained log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// Its place, from 1, without gaps.
    pub seq: u64,
    /// What it says.
    pub what: AuditDraft,
    /// sha256 over the hash before it and everything above.
    pub hash: Hash,
}

/// The last record that is no longer kept: the chain goes on from here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// Its place; 0 when nothing was trimmed.
    pub seq: u64,
    /// Its hash; zeros when nothing was trimmed.
    pub hash: Hash,
}

/// The hash-chained log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// Where the kept part begins.
    pub anchor: Anchor,
    /// The last record.
    pub head: Anchor,
    /// Kept records, oldest first.
    pub records: VecDeque<AuditRecord>,
}

impl Audit {
    /// Appends one record and trims the oldest.
    pub fn append(&mut self, mut what: AuditDraft) {
        for text in [
            &mut what.event_type,
            &mut what.client_ip,
            &mut what.action,
            &mut what.resource,
            &mut what.reason,
            &mut what.details,
        ] {
            clean(text);
        }
        let seq = self.head.seq.saturating_add(1);
        let hash = chain(&self.head.hash, seq, &what);
        self.head = Anchor { seq, hash };
        self.records.push_back(AuditRecord { seq, what, hash });
        while self.records.len() > AUDIT_MAX {
            if let Some(old) = self.records.pop_front() {
                self.anchor = Anchor { seq: old.seq, hash: old.hash };
            }
        }
    }
}

/// Cuts at a character and replaces control characters: a name in a log must not forge a line (log injection).
fn clean(text: &mut String) {
    if text.len() > AUDIT_TEXT_MAX_BYTES {
        let end = (0..=AUDIT_TEXT_MAX_BYTES).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        text.truncate(end);
    }
    if text.chars().any(char::is_control) {
        *text = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    }
}

/// The hash of a record: length-prefixed fields in a fixed order, written out by hand so that no library's encoding is part
/// of the proof.
#[must_use]
pub fn chain(previous: &Hash, seq: u64, what: &AuditDraft) -> Hash {
    // Every field is taken apart: a new one must be hashed too.
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
    let mut hasher = Hasher::new("quorate audit 1");
    hasher.bytes(&previous.0);
    hasher.bytes(&seq.to_be_bytes());
    hasher.bytes(&at.0.to_be_bytes());
    hasher.text(event_type);
    hasher.text(client_ip);
    hasher.text(&alloc::format!("{principal}"));
    hasher.text(action);
    hasher.text(resource);
    hasher.text(result.as_str());
    hasher.text(reason);
    hasher.text(details);
    hasher.text(request_id.as_ref().map_or("", RequestId::as_str));
    hasher.text(operation.as_ref().map_or("", OperationId::as_str));
    hasher.finish()
}

/// Checks a run of records that begins right after `anchor`.
///
/// # Errors
/// The place of the first record that is missing, moved, or was edited.
pub fn verify(records: &[AuditRecord], anchor: Anchor) -> Result<(), u64> {
    let mut last = anchor;
    for record in records {
        let expected = last.seq.saturating_add(1);
        if record.seq != expected || chain(&last.hash, record.seq, &record.what) != record.hash {
            return Err(expected);
        }
        last = Anchor { seq: record.seq, hash: record.hash };
    }
    Ok(())
}

/// Checks what is kept, up to the head.
///
/// # Errors
/// The place of the first bad record.
pub fn verify_kept(audit: &Audit) -> Result<(), u64> {
    let records: Vec<AuditRecord> = audit.records.iter().cloned().collect();
    verify(&records, audit.anchor)?;
    let last = records.last().map_or(audit.anchor, |r| Anchor { seq: r.seq, hash: r.hash });
    if last == audit.head { Ok(()) } else { Err(last.seq.saturating_add(1)) }
}
