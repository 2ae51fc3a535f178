//! What is seen of instances, and what their owners want.

use alloc::format;
use alloc::string::String;

use quorate_model::{Reason, Refusal};

use super::{Context, Effect};
use crate::command::{InstanceChange, InstanceCommand};
use crate::state::State;

pub(super) fn apply(
    state: &mut State,
    context: &Context<'_>,
    command: &InstanceCommand,
) -> Result<Effect, Refusal> {
    match command {
        InstanceCommand::Transition { changes } => {
            if changes.len() > InstanceCommand::BATCH_MAX {
                return Err(Refusal::new(Reason::LimitReached, "too many transitions at once"));
            }
            let mut said = String::new();
            for change in changes {
                transition(state, change, &mut said);
            }
            if said.is_empty() {
                return Ok(Effect::unchanged(context.done()));
            }
            Ok(Effect::changed(context.done(), "instances", said))
        }
        InstanceCommand::SetDesired { instance, desired } => {
            let known =
                state.services.get(&instance.service).zip(state.nodes.present(&instance.node)).is_some_and(
                    |(service, node)| service.spec.nodes.matches(node.name.as_str(), &node.labels),
                );
            if !known {
                return Err(Refusal::new(Reason::NotFound, format!("there is no instance {instance}")));
            }
            let entry = state.instances.entry(instance);
            if entry.desired == *desired {
                return Ok(Effect::unchanged(context.done()));
            }
            entry.desired = *desired;
            Ok(Effect::changed(context.done(), format!("instances/{instance}"), desired.as_str()))
        }
    }
}

/// Takes one transition over, if the instance exists and something is new.
fn transition(state: &mut State, change: &InstanceChange, said: &mut String) {
    let InstanceChange { instance, observed, role, sync, at } = change;
    if state.nodes.present(&instance.node).is_none() || !state.services.contains_key(&instance.service) {
        return;
    }
    let entry = state.instances.entry(instance);
    if *at <= entry.disturbed_at {
        // Seen before the end of the last action on it: says nothing about it now.
        return;
    }
    if entry.observed == *observed && entry.role == *role && entry.sync == *sync {
        return;
    }
    if entry.observed != *observed {
        entry.since = *at;
    }
    if !said.is_empty() {
        said.push_str(", ");
    }
    if entry.observed == *observed {
        said.push_str(&format!("{instance} is {role} {sync}"));
    } else {
        said.push_str(&format!("{instance} {} -> {observed}", entry.observed));
    }
    entry.observed = *observed;
    entry.role = *role;
    entry.sync = *sync;
}
