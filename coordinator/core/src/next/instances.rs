//! Transitions of what is seen of instances.

use alloc::vec::Vec;

use quorate_model::{InstanceReading, InstanceRole, InstanceState, Sync, Timestamp};

use crate::command::{Command, InstanceChange, InstanceCommand};
use crate::observations::Observations;
use crate::safety::availability::freshness_limit;
use crate::state::State;

pub(super) fn next(state: &State, obs: &Observations, now: Timestamp, due: &mut Vec<Command>) {
    let mut changes: Vec<InstanceChange> =
        obs.instances.values().filter_map(|reading| change(state, reading, now)).collect();
    forgotten(state, obs, now, &mut changes);
    while !changes.is_empty() {
        let rest = changes.split_off(changes.len().min(InstanceCommand::BATCH_MAX));
        due.push(Command::Instance(InstanceCommand::Transition { changes }));
        changes = rest;
    }
}

fn change(state: &State, reading: &InstanceReading, now: Timestamp) -> Option<InstanceChange> {
    let id = &reading.instance;
    if state.nodes.present(&id.node).is_none() || !state.services.contains_key(&id.service) {
        return None;
    }
    let old = now.since(reading.at) > freshness_limit(state, &id.service);
    let (observed, role, sync) = if old {
        (InstanceState::Unknown, InstanceRole::Unknown, Sync::Unknown)
    } else {
        (reading.observed, reading.role, reading.sync)
    };
    let known = state.instances.get(id);
    let same = known.is_some_and(|k| k.observed == observed && k.role == role && k.sync == sync);
    let before = !old && known.is_some_and(|k| reading.at <= k.disturbed_at);
    let nothing = before || known.is_none() && observed == InstanceState::Unknown;
    (!same && !nothing).then(|| InstanceChange {
        instance: id.clone(),
        observed,
        role,
        sync,
        at: if old { now } else { reading.at },
    })
}

/// Instances that the state holds for seen and this leader has no reading of, once its own grace is over.
fn forgotten(state: &State, obs: &Observations, now: Timestamp, changes: &mut Vec<InstanceChange>) {
    for (node, services) in &state.instances.0 {
        for (service, known) in services {
            let id = quorate_model::InstanceId { node: node.clone(), service: service.clone() };
            let late = now.since(obs.leading_since) > freshness_limit(state, service);
            if late && known.observed != InstanceState::Unknown && !obs.instances.contains_key(&id) {
                changes.push(InstanceChange {
                    instance: id,
                    observed: InstanceState::Unknown,
                    role: InstanceRole::Unknown,
                    sync: Sync::Unknown,
                    at: now,
                });
            }
        }
    }
}
