//! Alarms.

use quorate_core::command::AlarmCommand;
use quorate_model::{AlarmLevel, MissingVoter, OutReason};

use super::*;

/// Raised, taken back, and raised again: the state that is kept holds one.
pub(super) fn alarms(log: &mut Log) {
    let missing = |number: u32, why: OutReason, since: Option<Timestamp>| MissingVoter {
        node: node(&format!("node{number}")),
        why,
        since,
    };
    let since = Some(log.now());
    let known = missing(2, OutReason::Stopped, since);
    let steps = [
        (AlarmLevel::Warning, 2, vec![known.clone()]),
        (AlarmLevel::None, 3, vec![]),
        (AlarmLevel::Critical, 1, vec![known, missing(3, OutReason::Unknown, None)]),
    ];
    for (level, available, missing) in steps {
        let ledger = group("ledger");
        let revision = log.state.groups[&ledger].revision;
        let command = AlarmCommand::Set { group: ledger, revision, level, available, missing };
        log.add(Principal::System, Command::Alarm(command));
    }
}
