//! Alarms: the level of each group, and the line that says who is missing.
//!
//! What is found is taken as it is told, like a transition of an instance: nothing is allowed or refused because of it.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use quorate_model::{AlarmLevel, InstanceId, MissingVoter, Reason, Refusal};

use super::{Context, Effect, validate};
use crate::command::AlarmCommand;
use crate::safety::alarm::recorded_since;
use crate::safety::availability::needed;
use crate::state::declared::RaisedAlarm;
use crate::state::{Group, State};

pub(super) fn apply(
    state: &mut State,
    context: &Context<'_>,
    command: &AlarmCommand,
) -> Result<Effect, Refusal> {
    let AlarmCommand::Set { group: name, revision, level, available, missing } = command;
    let Some(group) = state.groups.get(name) else {
        return Err(Refusal::new(Reason::NotFound, format!("there is no group {name}")));
    };
    if missing.len() > AlarmCommand::MISSING_MAX {
        return Err(validate::bad("missing: too many are named"));
    }
    if group.revision != *revision {
        return Err(Refusal::new(Reason::WrongState, format!("group {name} was changed meanwhile")));
    }
    if missing.iter().any(|voter| !group.spec.voters.contains(&voter.node)) {
        return Err(validate::bad("missing: only declared voters can be missing"));
    }
    let held = group.alarm_level();
    if held == *level {
        return Ok(Effect::unchanged(context.done()));
    }
    let stand = told(state, group, *available, missing);
    let raised = match level {
        AlarmLevel::None => None,
        AlarmLevel::Warning | AlarmLevel::Critical => Some(RaisedAlarm { level: *level, since: context.now }),
    };
    if let Some(group) = state.groups.get_mut(name) {
        group.alarm = raised;
    }
    Ok(Effect::changed(context.done(), format!("groups/{name}"), format!("{held} -> {level}: {stand}")))
}

/// `1 of 3 up, needs 2; node2 stopped since 2026-11-25T10:00:00Z, node3 unknown`.
fn told(state: &State, group: &Group, available: u32, missing: &[MissingVoter]) -> String {
    let voters = u32::try_from(group.spec.voters.len()).unwrap_or(u32::MAX);
    let mut text = format!("{available} of {voters} up, needs {}", needed(group));
    // The transition that raised it was seen in the same round, and is recorded by now.
    let recorded = |voter: &MissingVoter| {
        let id = InstanceId { node: voter.node.clone(), service: group.spec.service.clone() };
        recorded_since(state, &id, voter.why)
    };
    let named: Vec<String> = missing
        .iter()
        .map(|voter| match voter.since.or_else(|| recorded(voter)) {
            Some(since) => format!("{} {} since {}", voter.node, voter.why, since.utc()),
            None => format!("{} {}", voter.node, voter.why),
        })
        .collect();
    if !named.is_empty() {
        text = format!("{text}; {}", named.join(", "));
    }
    let named = u32::try_from(missing.len()).unwrap_or(u32::MAX);
    match voters.saturating_sub(available).saturating_sub(named) {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}
