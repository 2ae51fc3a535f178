//! Calls that change nothing, and calls that were denied, counted for the audit.
//!
//! Every change is in the audit by itself. Reads and denials are many: they are counted per caller, method and code, and
//! the counts become audit records every ten seconds. The shell drains them and proposes what comes out.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use quorate_common::wire::text::printable;
use quorate_core::state::audit::{AUDIT_BATCH_MAX, AuditDraft, AuditResult};
use quorate_model::{DurationMs, Principal, Timestamp};

/// Time between two drains.
pub const DRAIN_INTERVAL: DurationMs = DurationMs::from_secs(10);
/// Most different counts between two drains; about 300 bytes each. What does not fit is summed up in one record, so that a
/// flood of made-up names fills neither memory nor the log.
const KEYS_MAX: usize = 1_024;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    event_type: &'static str,
    principal: Principal,
    client_ip: String,
    action: String,
    reason: &'static str,
    details: String,
}

#[derive(Debug, Default)]
struct Counts {
    by_key: BTreeMap<Key, u64>,
    beyond: u64,
}

/// The counts since the last drain.
#[derive(Debug, Default)]
pub struct Ledger {
    counts: Mutex<Counts>,
}

/// What to count.
#[derive(Clone, Debug)]
pub struct Event<'a> {
    /// `read`, `auth` or `authz`.
    pub event_type: &'static str,
    /// Who; the control plane itself when nobody is known.
    pub principal: &'a Principal,
    /// From where.
    pub client_ip: &'a str,
    /// `Service/Method`.
    pub action: &'a str,
    /// Stable code; empty when it went well.
    pub reason: &'static str,
    /// The exact cause of a denial.
    pub details: &'a str,
}

impl Ledger {
    /// Counts one.
    pub fn count(&self, event: &Event<'_>) {
        let key = Key {
            event_type: event.event_type,
            principal: event.principal.clone(),
            client_ip: event.client_ip.to_owned(),
            action: printable(event.action, 128),
            reason: event.reason,
            details: printable(event.details, 256),
        };
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.by_key.get_mut(&key) {
            *count = count.saturating_add(1);
        } else if counts.by_key.len() < KEYS_MAX {
            counts.by_key.insert(key, 1);
        } else {
            counts.beyond = counts.beyond.saturating_add(1);
        }
    }

    /// Takes what was counted, in batches that each fit one `AuditCommand::Append`.
    #[must_use]
    pub fn drain(&self, now: Timestamp) -> Vec<Vec<AuditDraft>> {
        let Counts { by_key, beyond } =
            std::mem::take(&mut *self.counts.lock().unwrap_or_else(PoisonError::into_inner));
        let mut drafts: Vec<AuditDraft> =
            by_key.into_iter().map(|(key, count)| draft(key, count, now)).collect();
        if beyond > 0 {
            let key = Key {
                event_type: "read",
                principal: Principal::System,
                client_ip: String::new(),
                action: "other calls".into(),
                reason: "LIMIT_REACHED",
                details: "more different callers and calls than are counted apart".into(),
            };
            drafts.push(draft(key, beyond, now));
        }
        drafts.chunks(AUDIT_BATCH_MAX).map(<[AuditDraft]>::to_vec).collect()
    }
}

fn draft(key: Key, count: u64, at: Timestamp) -> AuditDraft {
    let Key { event_type, principal, client_ip, action, reason, details } = key;
    let denied = event_type != "read";
    let result = match (denied, reason.is_empty()) {
        (true, _) => AuditResult::Denied,
        (false, true) => AuditResult::Ok,
        (false, false) => AuditResult::Failed,
    };
    let times = if count == 1 { "once".to_owned() } else { format!("{count} times") };
    let details = if details.is_empty() { times } else { format!("{details}, {times}") };
    AuditDraft {
        at,
        event_type: event_type.to_owned(),
        client_ip,
        principal,
        action,
        resource: String::new(),
        result,
        reason: reason.to_owned(),
        details,
        request_id: None,
        operation: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event<'a>(client_ip: &'a str, principal: &'a Principal) -> Event<'a> {
        Event { event_type: "read", principal, client_ip, action: "F/ListNodes", reason: "", details: "" }
    }

    #[test]
    fn the_same_call_is_one_record_with_its_count() {
        let ledger = Ledger::default();
        for _ in 0..7 {
            ledger.count(&event("10.0.0.1", &Principal::System));
        }
        let batches = ledger.drain(Timestamp(5));
        assert_eq!(batches.len(), 1);
        assert_eq!((batches[0].len(), batches[0][0].details.as_str()), (1, "7 times"));
        assert!(ledger.drain(Timestamp(6)).is_empty(), "drained once");
    }

    #[test]
    fn a_flood_is_bounded_and_nothing_goes_uncounted() {
        let ledger = Ledger::default();
        for n in 0..5_000 {
            ledger.count(&event(&format!("10.0.{}.{}", n / 256, n % 256), &Principal::System));
        }
        let drafts: Vec<_> = ledger.drain(Timestamp(5)).concat();
        assert_eq!(drafts.len(), KEYS_MAX + 1);
        assert_eq!(
            drafts[KEYS_MAX].details,
            format!("more different callers and calls than are counted apart, {} times", 5_000 - KEYS_MAX)
        );
    }

    #[test]
    fn denials_say_so() {
        let ledger = Ledger::default();
        ledger.count(&Event {
            event_type: "authz",
            reason: "NOT_ALLOWED",
            ..event("::1", &Principal::System)
        });
        assert_eq!(ledger.drain(Timestamp(1))[0][0].result, AuditResult::Denied);
    }
}
