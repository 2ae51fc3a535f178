//! The lease of a primary: who may get it, when it is over, and what may be disturbed under it.
//!
//! Missing data means no: who is not heard may lead, and a lease of which nothing is known may be good.

use alloc::format;
use alloc::string::ToString;

use quorate_model::{
    DurationMs, GroupName, InstanceId, InstanceReading, InstanceRole, InstanceState, LeaseState, LeaseTimes,
    NodeName, NodeStatus, Reason, Refusal, Timestamp,
};

use super::availability::{Evidence, is_current, member};
use crate::state::{Group, PrimaryLease, State};

/// The lease of a group that is not over.
#[must_use]
pub fn live(group: &Group) -> Option<&PrimaryLease> {
    group.primary.as_ref().filter(|lease| !lease.state.is_over())
}

/// Whether an instance is seen to lead.
#[must_use]
pub const fn is_lead(role: InstanceRole) -> bool {
    match role {
        InstanceRole::Leader | InstanceRole::Primary => true,
        InstanceRole::Unknown
        | InstanceRole::Voter
        | InstanceRole::Learner
        | InstanceRole::Standby
        | InstanceRole::Observer => false,
    }
}

/// Why a node may not get the lease of a group now.
#[must_use]
pub fn grant_refuses(state: &State, name: &GroupName, node: &NodeName) -> Option<Refusal> {
    let Some(group) = state.groups.get(name) else {
        return Some(Refusal::new(Reason::NotFound, format!("there is no group {name}")));
    };
    if group.spec.failover.is_none() {
        return Some(Refusal::new(Reason::WrongState, format!("group {name} declares no failover")));
    }
    if !group.spec.voters.contains(node) {
        return Some(Refusal::new(Reason::NotFound, format!("{node} is no voter of {name}")));
    }
    if state.nodes.present(node).is_none() {
        return Some(Refusal::new(Reason::NotFound, format!("there is no node {node}")));
    }
    live(group).map(|lease| held(name, lease))
}

/// Somebody holds the role.
#[must_use]
pub fn held(name: &GroupName, lease: &PrimaryLease) -> Refusal {
    let what = format!("{} holds the primary role of {name}", lease.node);
    Refusal::new(Reason::PrimaryLease, what)
        .with_detail("lease", format!("epoch {}, {}", lease.epoch, lease.state))
        .with_hint(format!("quorate failover status {name}"))
}

/// Why a lease may not be taken for over, of which nobody answered a renewal for so long.
#[must_use]
pub fn may_be_good(lease: &PrimaryLease, silent_for: DurationMs, leads_for: DurationMs) -> Option<Refusal> {
    if lease.adopted && lease.state == LeaseState::Requested {
        let what = format!("the host {} has never kept to its lease: nothing makes it stop", lease.node);
        return Some(Refusal::new(Reason::PrimaryLease, what));
    }
    let needed = LeaseTimes::of(lease.ttl).silence();
    (silent_for.min(leads_for) < needed).then(|| {
        Refusal::new(Reason::PrimaryLease, format!("the lease of {} may still be good", lease.node))
            .with_detail("not renewed for", silent_for.to_string())
            .with_detail("led for", leads_for.to_string())
            .with_detail("needs", needed.to_string())
    })
}

/// What one voter tells of its role.
enum Told {
    Leads,
    LeadsNot,
    Nothing,
}

fn told(state: &State, id: &InstanceId, evidence: &Evidence<'_>, now: Timestamp) -> Told {
    let status = state.nodes.present(&id.node).map(|node| node.status);
    if status == Some(NodeStatus::Down) {
        return Told::LeadsNot;
    }
    match evidence.get(id).filter(|reading| is_current(state, reading, now)) {
        Some(InstanceReading { observed: InstanceState::Stopped | InstanceState::Failed, .. }) => {
            Told::LeadsNot
        }
        Some(reading) if is_lead(reading.role) => Told::Leads,
        Some(InstanceReading { role: InstanceRole::Unknown, .. }) | None => Told::Nothing,
        Some(_) => Told::LeadsNot,
    }
}

/// Who gets the first lease of a group: the only voter that is seen to lead, and serves, while each other one is seen not to.
#[must_use]
pub fn adoptable(state: &State, group: &Group, evidence: &Evidence<'_>, now: Timestamp) -> Option<NodeName> {
    if group.spec.failover.is_none() || group.primary.is_some() {
        return None;
    }
    let id = |node: &NodeName| InstanceId { node: node.clone(), service: group.spec.service.clone() };
    let mut leads = None;
    for node in &group.spec.voters {
        match told(state, &id(node), evidence, now) {
            Told::Leads if leads.is_some() => return None,
            Told::Leads => leads = Some(node),
            Told::LeadsNot => {}
            Told::Nothing => return None,
        }
    }
    leads.filter(|node| member(state, &id(node), evidence, now).is_available()).cloned()
}

/// Why members of a primary and its standby may not be disturbed now: who holds the role never, the other one only while the
/// role is held for certain and its holder is seen to serve.
#[must_use]
pub fn disturb_refuses(
    state: &State,
    group: &Group,
    nodes: &[NodeName],
    doing: &str,
    evidence: &Evidence<'_>,
    now: Timestamp,
) -> Option<Refusal> {
    let name = &group.spec.name;
    let refuse = |what| Some(Refusal::new(Reason::PrimaryLease, what));
    if group.spec.failover.is_none() {
        return refuse(format!("{doing} a member of {name}, a primary and its standby"));
    }
    let Some(lease) = live(group) else {
        return refuse(match &group.primary {
            None => format!("nobody has been seen to lead {name} alone yet"),
            Some(last) => format!("nobody holds the primary role of {name}: {} was the last", last.node),
        });
    };
    let PrimaryLease { node, epoch, state: stands, recalled, .. } = lease;
    if nodes.contains(node) {
        let refusal = refuse(format!("{doing} {node}, which holds the primary role of {name}"));
        return refusal.map(|refusal| refusal.with_hint(format!("quorate failover switchover {name}")));
    }
    if *stands != LeaseState::Held || recalled.is_some() {
        let wanted = if recalled.is_some() { ", wanted back" } else { "" };
        return refuse(format!("{node} does not hold the primary role of {name} for certain"))
            .map(|refusal| refusal.with_detail("lease", format!("epoch {epoch}, {stands}{wanted}")));
    }
    let id = InstanceId { node: node.clone(), service: group.spec.service.clone() };
    let seen = member(state, &id, evidence, now);
    match seen.out {
        Some(out) => refuse(format!("the primary {node} of {name} is {}", out.why)),
        None if !is_lead(seen.role) => refuse(format!("{node} is not seen to lead {name}")),
        None => None,
    }
}
