//! What is wrong with this node, as typed conditions. Pure.

use std::collections::BTreeMap;

use quorate_model::node::{Facts, NodeCondition};
use quorate_model::{DurationMs, Timestamp};

use super::hub::HelperState;

/// A clock that is further off makes grants and windows mean something else here (reliability.md: 1 s of skew is budgeted).
const SKEW_MAX_MS: u64 = 1_000;
/// A file system with less than this part free is nearly full.
const DISK_FREE_PERCENT: u64 = 10;
/// …unless it has this much free: a tenth of a large disk is a lot of room.
const DISK_FREE_BYTES: u64 = 5 << 30;
/// Memory with less than this part available is nearly used up.
const MEMORY_FREE_PERCENT: u64 = 5;

/// What is looked at.
pub(super) struct View<'a> {
    pub(super) helper: &'a HelperState,
    pub(super) offset_ms: Option<i64>,
    pub(super) facts: Option<&'a Facts>,
    pub(super) memory_available_bytes: Option<u64>,
    pub(super) now: Timestamp,
    pub(super) renew_at: Timestamp,
    pub(super) expires: Timestamp,
}

/// Everything that holds.
pub(super) fn conditions(view: &View<'_>) -> BTreeMap<NodeCondition, String> {
    let mut found = BTreeMap::new();
    match view.helper {
        HelperState::Away(why) => {
            found.insert(NodeCondition::HelperUnreachable, why.clone());
        }
        HelperState::There(status) => {
            if let Some(why) = &status.journal_lost {
                found.insert(NodeCondition::JournalLost, why.clone());
            }
        }
    }
    if let Some(offset) = view.offset_ms.filter(|offset| offset.unsigned_abs() > SKEW_MAX_MS) {
        let text = format!("this clock is {offset} ms from the coordinator's, {SKEW_MAX_MS} ms is the limit");
        found.insert(NodeCondition::ClockSkewed, text);
    }
    // A grace of a twelfth of the life: a renewal that is under way is no news.
    let life = view.expires.since(view.renew_at);
    if view.now >= view.renew_at.plus(DurationMs(life.0 / 4)) {
        let left = view.expires.since(view.now);
        found.insert(NodeCondition::CertificateExpiring, format!("it was not renewed and ends in {left}"));
    }
    if let Some(facts) = view.facts {
        let full: Vec<String> = facts
            .disks
            .iter()
            .filter(|disk| {
                let tight = disk.available_bytes < DISK_FREE_BYTES
                    && disk.available_bytes.saturating_mul(100)
                        < disk.size_bytes.saturating_mul(DISK_FREE_PERCENT);
                let inodes = disk.inodes > 0
                    && disk.inodes_free.saturating_mul(100) < disk.inodes.saturating_mul(DISK_FREE_PERCENT);
                tight || inodes
            })
            .map(|disk| format!("{} has {} MiB free", disk.mount, disk.available_bytes >> 20))
            .take(8)
            .collect();
        if !full.is_empty() {
            found.insert(NodeCondition::DiskPressure, full.join(", "));
        }
        if let Some(available) = view.memory_available_bytes
            && available.saturating_mul(100) < facts.memory_bytes.saturating_mul(MEMORY_FREE_PERCENT)
        {
            let text = format!("{} MiB of {} MiB are available", available >> 20, facts.memory_bytes >> 20);
            found.insert(NodeCondition::MemoryPressure, text);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use quorate_model::node::Disk;

    use super::*;

    #[test]
    fn each_condition_has_its_line() {
        let away = HelperState::Away("no socket".into());
        let mut facts = Facts { memory_bytes: 1_000 << 20, ..Facts::default() };
        facts.disks.push(Disk {
            mount: "/".into(),
            size_bytes: 100 << 20,
            available_bytes: 9 << 20,
            ..Disk::default()
        });
        let mut view = View {
            helper: &away,
            offset_ms: Some(-1_001),
            facts: Some(&facts),
            memory_available_bytes: Some(10 << 20),
            now: Timestamp(950),
            renew_at: Timestamp(600),
            expires: Timestamp(900),
        };
        let all = conditions(&view);
        assert_eq!(
            all.keys().copied().collect::<Vec<_>>(),
            [
                NodeCondition::ClockSkewed,
                NodeCondition::DiskPressure,
                NodeCondition::MemoryPressure,
                NodeCondition::CertificateExpiring,
                NodeCondition::HelperUnreachable,
            ]
        );
        view.now = Timestamp(660);
        view.offset_ms = Some(1_000);
        assert!(!conditions(&view).contains_key(&NodeCondition::CertificateExpiring));
        assert!(!conditions(&view).contains_key(&NodeCondition::ClockSkewed));
    }
}
