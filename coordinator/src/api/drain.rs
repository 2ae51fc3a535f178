//! Draining a node: cordon it, take its voters out of every count, stop its instances. And the inverse.
//!
//! Everything that may refuse is asked before anything is changed: the stops are planned, then the drain itself is proposed
//! with the readings it rests on. Only a stop that cannot be started after that (a quorum lost in the same second) undoes the
//! drain again.

use std::collections::BTreeSet;

use quorate_common::wire::text::read_name;
use quorate_core::command::NodeCommand;
use quorate_core::state::plan::{Goal, Verb};
use quorate_core::{Command, Observations, PlanRequest, State};
use quorate_model::service::DesiredState;
use quorate_model::{Drain, InstanceId, InstanceReading, NodeName, RequestId, Selector, ServiceName};
use quorate_proto::v1;
use sha2::{Digest, Sha256};

use super::caller::Caller;
use super::context::{Api, Change, Served};
use super::planning;
use super::status::Failure;
use super::view::node::Depth;

/// A request id for one of several entries of one request: repeated with it, they are the same entries.
fn derived(id: &RequestId, part: &str) -> Result<RequestId, Failure> {
    let plain = format!("{id}.{part}");
    RequestId::new(plain.clone())
        .or_else(|_| {
            let digest = Sha256::digest(plain.as_bytes());
            RequestId::new(quorate_common::tls::hex(&digest))
        })
        .map_err(|_| Failure::Internal("a digest is no request id"))
}

fn part(change: &Change, name: &str) -> Result<Change, Failure> {
    Ok(Change {
        request_id: derived(&change.request_id, name)?,
        reason: change.reason.clone(),
        validate_only: change.validate_only,
    })
}

fn run(caller: &Caller, change: &Change, service: &ServiceName, node: &NodeName, verb: Verb) -> PlanRequest {
    let goal = Goal::Run { service: service.clone(), nodes: Selector::node(node.as_str()), verb };
    let mut request = PlanRequest::new(goal, caller.principal.clone());
    request.reason.clone_from(&change.reason);
    request
}

fn not_there(state: &State, node: &NodeName) -> Failure {
    Failure::not_found("node", node.as_str(), state.revision.0)
}

/// Services that belong on the node and should run there.
fn running_on(state: &State, node: &NodeName) -> Result<Vec<ServiceName>, Failure> {
    let found = state.nodes.present(node).ok_or_else(|| not_there(state, node))?;
    let belongs = state.services.values().filter(|s| s.spec.nodes.matches(node.as_str(), &found.labels));
    let wanted = belongs.map(|s| s.spec.name.clone()).filter(|service| {
        let id = InstanceId { node: node.clone(), service: service.clone() };
        state.instances.get(&id).is_none_or(|i| i.desired == DesiredState::Running)
    });
    Ok(wanted.collect())
}

/// Readings of every voter of every group that has a member on the node.
fn evidence(state: &State, obs: &Observations, node: &NodeName) -> Vec<InstanceReading> {
    let groups = state.groups.values().filter(|g| g.spec.voters.contains(node));
    let voters: BTreeSet<InstanceId> = groups
        .flat_map(|g| {
            let service = &g.spec.service;
            g.spec.voters.iter().map(move |n| InstanceId { node: n.clone(), service: service.clone() })
        })
        .collect();
    voters.iter().filter_map(|id| obs.instances.get(id).cloned()).collect()
}

pub(super) async fn drain(
    api: &Api,
    caller: &Caller,
    request: v1::DrainNodeRequest,
) -> Result<Served<v1::DrainNodeResponse>, Failure> {
    let v1::DrainNodeRequest { name, options } = request;
    let change = api.change(caller, options)?;
    let name: NodeName = read_name("name", name)?;
    let is_drained = api.look(|s| s.nodes.present(&name).is_some_and(|n| n.drain != Drain::None));
    let services = api.look(|state| running_on(state, &name))?;
    // A drain that was asked for before has made its plans; what is left of them is started below.
    if !is_drained {
        for service in &services {
            planning::compute(api, &run(caller, &change, service, &name, Verb::Stop)).await?;
        }
    }
    let readings = api.look_around(|state, obs, _| evidence(state, obs, &name));
    let command =
        NodeCommand::Drain { node: name.clone(), reason: change.reason.clone(), evidence: readings };
    let (mut index, _) = api.propose(caller, &change, Command::Node(command)).await?;
    let mut operations = Vec::new();
    if !change.validate_only {
        for service in &services {
            let part = part(&change, &format!("stop.{service}"))?;
            match planning::start(api, caller, &part, run(caller, &change, service, &name, Verb::Stop)).await
            {
                Ok(started) => {
                    index = started.index;
                    operations.extend(started.message.operation.map(|o| o.name));
                }
                Err(failure) if operations.is_empty() && !is_drained => {
                    give_back(api, caller, &change, &name).await?;
                    return Err(failure);
                }
                Err(failure) => {
                    let what = format!("{name} is drained and {service} on it was not stopped: {failure}");
                    let hint = format!("quorate service stop {service} --node {name}");
                    return Err(planning::refuse(failure.reason(), what, hint));
                }
            }
        }
    }
    let (node, _) = api.node_view(&name, Depth::List)?;
    let operation = operations.first().cloned().unwrap_or_default();
    Ok(Served { message: v1::DrainNodeResponse { node: Some(node), operation, operations }, index })
}

/// Undoes the drain that has just been made.
async fn give_back(api: &Api, caller: &Caller, change: &Change, name: &NodeName) -> Result<(), Failure> {
    let undo = part(change, "undo")?;
    api.propose(caller, &undo, Command::Node(NodeCommand::Undrain { node: name.clone() })).await?;
    Ok(())
}

/// Services on the node that were stopped by the node's own name since it was cordoned for the drain.
fn stopped_by_drain(state: &State, node: &NodeName) -> Result<Vec<ServiceName>, Failure> {
    let found = state.nodes.present(node).ok_or_else(|| not_there(state, node))?;
    let Some(cordon) = &found.cordon else { return Ok(Vec::new()) };
    let only = Selector::node(node.as_str());
    let mut services = BTreeSet::new();
    for operation in state.operations.values().filter(|o| o.created_at >= cordon.since) {
        if let Goal::Run { service, nodes, verb: Verb::Stop } = &operation.request.goal
            && *nodes == only
        {
            let id = InstanceId { node: node.clone(), service: service.clone() };
            if state.instances.get(&id).is_some_and(|i| i.desired == DesiredState::Stopped) {
                services.insert(service.clone());
            }
        }
    }
    Ok(services.into_iter().collect())
}

pub(super) async fn undrain(
    api: &Api,
    caller: &Caller,
    request: v1::UndrainNodeRequest,
) -> Result<Served<v1::UndrainNodeResponse>, Failure> {
    let v1::UndrainNodeRequest { name, options } = request;
    let change = api.change(caller, options)?;
    let name: NodeName = read_name("name", name)?;
    let services = api.look(|state| stopped_by_drain(state, &name))?;
    for service in &services {
        planning::compute(api, &run(caller, &change, service, &name, Verb::Start)).await?;
    }
    let command = Command::Node(NodeCommand::Undrain { node: name.clone() });
    let (mut index, _) = api.propose(caller, &change, command).await?;
    let mut operations = Vec::new();
    if !change.validate_only {
        for service in &services {
            let part = part(&change, &format!("start.{service}"))?;
            let work = run(caller, &change, service, &name, Verb::Start);
            let started = planning::start(api, caller, &part, work).await.map_err(|failure| {
                let what =
                    format!("{name} is no longer drained and {service} on it was not started: {failure}");
                planning::refuse(
                    failure.reason(),
                    what,
                    format!("quorate service start {service} --node {name}"),
                )
            })?;
            index = started.index;
            operations.extend(started.message.operation.map(|o| o.name));
        }
    }
    let (node, _) = api.node_view(&name, Depth::List)?;
    let operation = operations.first().cloned().unwrap_or_default();
    Ok(Served { message: v1::UndrainNodeResponse { node: Some(node), operation, operations }, index })
}
