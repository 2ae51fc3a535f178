//! Leases of the primary role: the first one of a group, those that nobody renews any more, and who has come back since.

use alloc::vec::Vec;

use quorate_model::{ActionKind, NodeName, Timestamp};

use crate::command::{Command, LeaseCommand};
use crate::observations::Observations;
use crate::safety::Evidence;
use crate::safety::failover::rejoin;
use crate::safety::lease::{adoptable, live, may_be_good};
use crate::state::{Group, State};

pub(super) fn next(state: &State, obs: &Observations, now: Timestamp, due: &mut Vec<Command>) {
    let mut groups = state.groups.values().filter(|group| group.spec.failover.is_some()).peekable();
    if groups.peek().is_none() {
        return;
    }
    let evidence = Evidence::from_observations(obs);
    let adopt = |group: &Group| {
        let node = adoptable(state, group, &evidence, now).filter(|node| keeps_leases(obs, node))?;
        Some(LeaseCommand::Adopt { group: group.spec.name.clone(), node })
    };
    let one = |group: &Group| {
        adopt(group).or_else(|| expire(obs, group)).or_else(|| back(state, group, &evidence, now))
    };
    due.extend(groups.filter_map(one).map(Command::Lease));
}

/// A former primary that is seen to be a standby, whoever has made it one.
fn back(state: &State, group: &Group, evidence: &Evidence<'_>, now: Timestamp) -> Option<LeaseCommand> {
    let node = group.former.iter().find(|node| rejoin::is_back(state, group, node, evidence, now))?;
    Some(LeaseCommand::Rejoined { group: group.spec.name.clone(), node: node.clone() })
}

/// An agent that cannot promote is from before there were leases: it would never keep to one.
fn keeps_leases(obs: &Observations, node: &NodeName) -> bool {
    obs.nodes.get(node).is_some_and(|seen| seen.capabilities.contains(&ActionKind::RolePromote))
}

fn expire(obs: &Observations, group: &Group) -> Option<LeaseCommand> {
    let lease = live(group)?;
    let silence = obs.leases.get(&group.spec.name).filter(|silence| silence.epoch == lease.epoch)?;
    may_be_good(lease, silence.silent_for, silence.leads_for).is_none().then(|| LeaseCommand::Expire {
        group: group.spec.name.clone(),
        epoch: lease.epoch,
        lead: silence.lead,
        silent_for: silence.silent_for,
        leads_for: silence.leads_for,
    })
}
