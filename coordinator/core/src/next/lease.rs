//! Leases of the primary role: the first one of a group, and those that nobody renews any more.

use alloc::vec::Vec;

use quorate_model::Timestamp;

use crate::command::{Command, LeaseCommand};
use crate::observations::Observations;
use crate::safety::Evidence;
use crate::safety::lease::{adoptable, live, may_be_good};
use crate::state::{Group, State};

pub(super) fn next(state: &State, obs: &Observations, now: Timestamp, due: &mut Vec<Command>) {
    let mut groups = state.groups.values().filter(|group| group.spec.failover.is_some()).peekable();
    if groups.peek().is_none() {
        return;
    }
    let evidence = Evidence::from_observations(obs);
    let adopt = |group: &Group| {
        let node = adoptable(state, group, &evidence, now)?;
        Some(LeaseCommand::Adopt { group: group.spec.name.clone(), node })
    };
    due.extend(groups.filter_map(|group| adopt(group).or_else(|| expire(obs, group))).map(Command::Lease));
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
