//! Who goes first: what is out already, then learners, then followers by name, the leader last.

use quorate_model::{InstanceId, InstanceRole, NodeName, ServiceName};

use super::Target;
use crate::observations::Observations;
use crate::state::State;

/// The rank of who leads.
const LEADS: u8 = 3;
/// The rank of a voter that does not.
const FOLLOWS: u8 = 2;

/// The rank of one member; lower goes earlier.
fn rank(state: &State, obs: &Observations, service: &ServiceName, node: &NodeName) -> u8 {
    let id = InstanceId { node: node.clone(), service: service.clone() };
    let role = obs
        .instances
        .get(&id)
        .map(|reading| reading.role)
        .or_else(|| state.instances.get(&id).map(|known| known.role))
        .unwrap_or(InstanceRole::Unknown);
    let learns = state.groups_of(service, node).all(|group| !group.spec.voters.contains(node));
    match role {
        InstanceRole::Leader | InstanceRole::Primary => LEADS,
        _ if learns => 0,
        InstanceRole::Learner | InstanceRole::Observer => 1,
        InstanceRole::Unknown | InstanceRole::Voter | InstanceRole::Standby => FOLLOWS,
    }
}

/// Whether a member leads, as far as it is known: it goes last.
pub(super) fn leads(state: &State, obs: &Observations, service: &ServiceName, node: &NodeName) -> bool {
    rank(state, obs, service, node) == LEADS
}

/// Whether a member learns, as far as it is known: it goes first.
pub(super) fn learns(state: &State, obs: &Observations, service: &ServiceName, node: &NodeName) -> bool {
    rank(state, obs, service, node) < FOLLOWS
}

/// Whether a member follows as a voter, as far as it is known: what a canary should be, because a learner proves less.
pub(super) fn follows(state: &State, obs: &Observations, service: &ServiceName, node: &NodeName) -> bool {
    rank(state, obs, service, node) == FOLLOWS
}

/// Sorts the targets of a service.
pub(super) fn sort(state: &State, obs: &Observations, service: &Option<ServiceName>, targets: &mut [Target]) {
    let Some(service) = service else { return };
    targets.sort_by_cached_key(|target| (rank(state, obs, service, &target.node), target.node.clone()));
}
