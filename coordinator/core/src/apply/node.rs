//! Hosts: connection, cordon, drain, labels, removal.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use quorate_model::{
    Drain, DurationMs, ExecutionId, ExecutionState, InstanceId, InstanceReading, NodeName, NodeStatus,
    Principal, Reason, Refusal,
};

use super::{Context, Effect, execution, identity, validate};
use crate::command::NodeCommand;
use crate::safety::{Ask, Evidence, budget, freeze, window};
use crate::state::{Cordon, Node, State};

pub(super) fn apply(
    state: &mut State,
    context: &Context<'_>,
    command: &NodeCommand,
) -> Result<Effect, Refusal> {
    match command {
        NodeCommand::SetStatus { node, status } => set_status(state, context, node, *status),
        NodeCommand::Cordon { node, reason } => cordon(state, context, node, reason),
        NodeCommand::Uncordon { node } => uncordon(state, context, node),
        NodeCommand::Drain { node, reason, evidence } => drain(state, context, node, reason, evidence),
        NodeCommand::Drained { node } => drained(state, context, node),
        NodeCommand::Undrain { node } => undrain(state, context, node),
        NodeCommand::SetLabels { node, labels } => relabel(state, context, node, |_| labels.clone()),
        NodeCommand::UpdateLabels { node, set, remove } => relabel(state, context, node, |labels| {
            let mut labels = labels.clone();
            labels.retain(|key, _| !remove.contains(key));
            labels.extend(set.clone());
            labels
        }),
        NodeCommand::Remove { node } => remove(state, context, node),
    }
}

type Labels = BTreeMap<String, String>;

/// The new labels are made from those that are there now: two callers who change different ones both get their way.
fn relabel(
    state: &mut State,
    context: &Context<'_>,
    node: &NodeName,
    make: impl FnOnce(&Labels) -> Labels,
) -> Result<Effect, Refusal> {
    let found = present(state, node)?;
    let labels = make(&found.labels);
    validate::labels(&labels)?;
    if found.labels == labels {
        return Ok(Effect::unchanged(context.done()));
    }
    let count = labels.len();
    found.labels = labels;
    found.revision = context.revision;
    Ok(Effect::changed(context.done(), resource(node), format!("{count} labels")))
}

fn resource(node: &NodeName) -> String {
    format!("nodes/{node}")
}

fn present<'a>(state: &'a mut State, node: &NodeName) -> Result<&'a mut Node, Refusal> {
    state
        .nodes
        .by_name
        .get_mut(node)
        .filter(|n| n.status != NodeStatus::Removed)
        .ok_or_else(|| Refusal::new(Reason::NotFound, format!("there is no node {node}")))
}

fn set_status(
    state: &mut State,
    context: &Context<'_>,
    node: &NodeName,
    status: NodeStatus,
) -> Result<Effect, Refusal> {
    match status {
        NodeStatus::Ready | NodeStatus::Disconnected | NodeStatus::Down => {}
        NodeStatus::Pending | NodeStatus::Removed => {
            return Err(validate::bad("status: only READY, DISCONNECTED and DOWN are set"));
        }
    }
    let found = present(state, node)?;
    if found.status == status {
        return Ok(Effect::unchanged(context.done()));
    }
    let change = format!("{} -> {status}", found.status);
    found.status = status;
    found.status_since = context.now;
    Ok(Effect::changed(context.done(), resource(node), change))
}

fn cordon(
    state: &mut State,
    context: &Context<'_>,
    node: &NodeName,
    reason: &str,
) -> Result<Effect, Refusal> {
    validate::text("reason", reason)?;
    let found = present(state, node)?;
    let owner = context.principal.clone();
    if let Some(held) = &found.cordon {
        if held.owner == owner && held.reason == reason {
            return Ok(Effect::unchanged(context.done()));
        }
        if held.owner != owner {
            return Err(Refusal::new(
                Reason::NodeCordoned,
                format!("{node} is cordoned already by {}", held.owner),
            )
            .with_detail("reason", held.reason.clone()));
        }
    }
    found.cordon = Some(Cordon { owner, reason: reason.into(), since: context.now, by_drain: false });
    found.revision = context.revision;
    Ok(Effect::changed(context.done(), resource(node), reason))
}

fn uncordon(state: &mut State, context: &Context<'_>, node: &NodeName) -> Result<Effect, Refusal> {
    let found = present(state, node)?;
    if found.drain != Drain::None {
        return Err(Refusal::new(Reason::WrongState, format!("{node} is drained"))
            .with_hint(format!("quorate node undrain {node}")));
    }
    if found.cordon.take().is_none() {
        return Ok(Effect::unchanged(context.done()));
    }
    found.revision = context.revision;
    Ok(Effect::changed(context.done(), resource(node), "eligible again"))
}

/// The instances on a node that belong to a group.
pub(super) fn grouped_instances(state: &State, node: &NodeName) -> Vec<InstanceId> {
    state
        .groups
        .values()
        .filter(|group| group.spec.voters.contains(node) || group.spec.learners.contains(node))
        .map(|group| InstanceId { node: node.clone(), service: group.spec.service.clone() })
        .collect()
}

fn drain(
    state: &mut State,
    context: &Context<'_>,
    node: &NodeName,
    reason: &str,
    evidence: &[InstanceReading],
) -> Result<Effect, Refusal> {
    validate::text("reason", reason)?;
    if present(state, node)?.drain != Drain::None {
        return Ok(Effect::unchanged(context.done()));
    }
    let held = freeze::unfrozen(state, node, None, context.now)
        .or_else(|| window::within(state, node, None, DurationMs::ZERO, context.now));
    if let Some(refusal) = held {
        return Err(refusal);
    }
    let ask = Ask { doing: "draining", operation: None, max_unavailable: None, needs: None };
    let instances = grouped_instances(state, node);
    let evidence = Evidence::from_readings(evidence);
    if let Some(refusal) = budget::within_budgets(state, &instances, &ask, &evidence, context.now) {
        return Err(refusal);
    }
    let found = present(state, node)?;
    if found.cordon.is_none() {
        found.cordon = Some(Cordon {
            owner: context.principal.clone(),
            reason: reason.into(),
            since: context.now,
            by_drain: true,
        });
    }
    found.drain = Drain::Draining;
    found.drain_since = context.now;
    found.revision = context.revision;
    Ok(Effect::changed(context.done(), resource(node), reason))
}

fn drained(state: &mut State, context: &Context<'_>, node: &NodeName) -> Result<Effect, Refusal> {
    let busy = state.open_executions(node).any(crate::state::Execution::is_mutating);
    let found = present(state, node)?;
    if found.drain != Drain::Draining || busy {
        return Err(Refusal::new(Reason::WrongState, format!("{node} is not draining, or work is left")));
    }
    found.drain = Drain::Drained;
    found.drain_since = context.now;
    Ok(Effect::changed(context.done(), resource(node), "no work left"))
}

fn undrain(state: &mut State, context: &Context<'_>, node: &NodeName) -> Result<Effect, Refusal> {
    let found = present(state, node)?;
    if found.drain == Drain::None {
        return Ok(Effect::unchanged(context.done()));
    }
    found.drain = Drain::None;
    found.drain_since = context.now;
    if found.cordon.as_ref().is_some_and(|cordon| cordon.by_drain) {
        found.cordon = None;
    }
    found.revision = context.revision;
    Ok(Effect::changed(context.done(), resource(node), "undrained"))
}

fn remove(state: &mut State, context: &Context<'_>, node: &NodeName) -> Result<Effect, Refusal> {
    let found = present(state, node)?;
    found.status = NodeStatus::Removed;
    found.status_since = context.now;
    found.revision = context.revision;
    let number = found.id;
    identity::revoke_all(state, context, &Principal::Agent { node: node.clone() });
    let lost: Vec<ExecutionId> = state.open_executions(node).map(|e| e.id.clone()).collect();
    for id in lost {
        execution::conclude(state, context, &id, ExecutionState::Lost, Some(Reason::IdentityRevoked), None);
    }
    // Its gates and later steps can never pass.
    super::step::abandon_node(state, context, node);
    state.instances.0.remove(node);
    Ok(Effect::changed(context.done(), resource(node), format!("number {number} is gone")))
}
