//! Alarms whose level has changed.
//!
//! Whoever has just begun to lead, and a group that has just been declared, get as long as a node has before it is DOWN, and as
//! a reading is good for: what was not heard yet raises nothing until then. A change of leader is no failure of a voter.

use alloc::vec::Vec;

use quorate_model::Timestamp;

use crate::command::{AlarmCommand, Command};
use crate::observations::Observations;
use crate::safety::Evidence;
use crate::safety::alarm::alarm;
use crate::safety::availability::freshness_limit;
use crate::state::{Group, State};

/// Most alarms of one round: when everything is lost at once, what else is due must get through too.
const SET_AT_ONCE: usize = 64;

pub(super) fn next(state: &State, obs: &Observations, now: Timestamp, due: &mut Vec<Command>) {
    if state.groups.is_empty() {
        return;
    }
    let evidence = Evidence::from_observations(obs);
    let changed = state.groups.values().filter_map(|group| change(state, obs, group, &evidence, now));
    due.extend(changed.take(SET_AT_ONCE).map(Command::Alarm));
}

fn change(
    state: &State,
    obs: &Observations,
    group: &Group,
    evidence: &Evidence<'_>,
    now: Timestamp,
) -> Option<AlarmCommand> {
    let found = alarm(state, group, evidence, now);
    let held = group.alarm_level();
    let level = found.due(held, is_settled(state, obs, group, now));
    let mut missing = found.missing;
    missing.truncate(AlarmCommand::MISSING_MAX);
    (level != held).then(|| AlarmCommand::Set {
        group: group.spec.name.clone(),
        revision: group.revision,
        level,
        available: found.available,
        missing,
    })
}

fn is_settled(state: &State, obs: &Observations, group: &Group, now: Timestamp) -> bool {
    let patience = state.settings.down_after.max(freshness_limit(state, &group.spec.service));
    now.since(obs.leading_since.max(group.created_at)) > patience
}
