//! Leases of the primary role: handed out only while nobody holds one, and taken for over only on proof.
//!
//! **Architecture Invariant:** of one group at most one lease is not over. It is over when its host has said so, or when nobody
//! can have renewed it for its time to live and a margin: by then its host has stopped by itself what led.

use alloc::format;
use alloc::string::String;

use quorate_model::{
    Epoch, GroupName, GroupSpec, LeaseState, LeaseTimes, NodeName, OperationId, Principal, QuorumPolicy,
    Reason, Refusal,
};

use super::{Context, Effect, failover, validate};
use crate::command::LeaseCommand;
use crate::safety::lease::{self, held, live};
use crate::state::{PrimaryLease, State};

/// Longest line that is kept of how a lease ended, in bytes.
const MESSAGE_MAX_BYTES: usize = 512;

pub(super) fn apply(
    state: &mut State,
    context: &Context<'_>,
    command: &LeaseCommand,
) -> Result<Effect, Refusal> {
    match command {
        LeaseCommand::Lead { lead } => {
            if *lead == 0 {
                return Err(validate::bad("lead: it is zero"));
            }
            state.cluster.lease_lead = *lead;
            Ok(Effect::unchanged(context.done()))
        }
        LeaseCommand::Adopt { group, node } => {
            if state.groups.get(group).is_some_and(|found| found.primary.is_some()) {
                return Err(wrong(format!("{group} had a lease before: its role is moved by an operation")));
            }
            lease::grant_refuses(state, group, node).map_or(Ok(()), Err)?;
            let epoch = Epoch(state.epoch.0.saturating_add(1));
            state.epoch = epoch;
            grant(state, context, group, node, epoch, true);
            Ok(changed(context, group, format!("{node} leads already, epoch {epoch}")))
        }
        LeaseCommand::Confirm { group, epoch } => confirm(state, context, group, *epoch),
        LeaseCommand::Release { group, epoch, message } => release(state, context, group, *epoch, message),
        LeaseCommand::Acknowledge { group } => failover::acknowledge(state, context, group),
        LeaseCommand::Expire { group, epoch, lead, silent_for, leads_for } => {
            let lease = current(state, group, *epoch)?;
            if *lead != state.cluster.lease_lead {
                return Err(wrong(format!("another member has answered renewals of {group} since")));
            }
            lease::may_be_good(lease, *silent_for, *leads_for).map_or(Ok(()), Err)?;
            let (proved, needed) = (silent_for.min(leads_for), LeaseTimes::of(lease.ttl).silence());
            let message = format!("not renewed for {proved}, needs {needed}");
            end(state, context, group, LeaseState::Expired, &message);
            Ok(changed(context, group, format!("epoch {epoch} expired: {message}")))
        }
    }
}

fn wrong(what: String) -> Refusal {
    Refusal::new(Reason::WrongState, what)
}

fn changed(context: &Context<'_>, group: &GroupName, details: String) -> Effect {
    Effect::changed(context.done(), format!("groups/{group}"), details)
}

/// Hands a lease out; what may be is looked at before.
pub(super) fn grant(
    state: &mut State,
    context: &Context<'_>,
    name: &GroupName,
    node: &NodeName,
    epoch: Epoch,
    adopted: bool,
) {
    let Some(group) = state.groups.get_mut(name) else { return };
    let Some(ttl) = group.spec.failover.as_ref().map(|spec| spec.ttl) else { return };
    group.primary = Some(PrimaryLease {
        node: node.clone(),
        epoch,
        ttl,
        state: LeaseState::Requested,
        since: context.now,
        granted_at: context.now,
        adopted,
        recalled: None,
        message: String::new(),
    });
}

/// The lease of this epoch, if it is not over.
fn current<'a>(state: &'a State, name: &GroupName, epoch: Epoch) -> Result<&'a PrimaryLease, Refusal> {
    let Some(group) = state.groups.get(name) else {
        return Err(Refusal::new(Reason::NotFound, format!("there is no group {name}")));
    };
    match &group.primary {
        Some(lease) if lease.epoch == epoch && !lease.state.is_over() => Ok(lease),
        Some(lease) => Err(wrong(format!("the lease of {name} is epoch {}, {}", lease.epoch, lease.state))),
        None => Err(wrong(format!("{name} has no lease"))),
    }
}

fn confirm(
    state: &mut State,
    context: &Context<'_>,
    name: &GroupName,
    epoch: Epoch,
) -> Result<Effect, Refusal> {
    let lease = current(state, name, epoch)?;
    if lease.state == LeaseState::Held {
        return Ok(Effect::unchanged(context.done()));
    }
    let node = lease.node.clone();
    if let Some(lease) = state.groups.get_mut(name).and_then(|group| group.primary.as_mut()) {
        lease.state = LeaseState::Held;
        lease.since = context.now;
    }
    Ok(changed(context, name, format!("{node} holds epoch {epoch}")))
}

fn release(
    state: &mut State,
    context: &Context<'_>,
    name: &GroupName,
    epoch: Epoch,
    message: &str,
) -> Result<Effect, Refusal> {
    let node = current(state, name, epoch)?.node.clone();
    if let Principal::Agent { node: from } = context.principal
        && *from != node
    {
        return Err(Refusal::new(Reason::NotAllowed, format!("the lease of {name} is not one of {from}")));
    }
    end(state, context, name, LeaseState::Released, message);
    Ok(changed(context, name, format!("{node} gave epoch {epoch} back: {message}")))
}

fn end(state: &mut State, context: &Context<'_>, name: &GroupName, reached: LeaseState, message: &str) {
    let Some(lease) = state.groups.get_mut(name).and_then(|group| group.primary.as_mut()) else { return };
    lease.state = reached;
    lease.since = context.now;
    lease.message = String::from(message);
    validate::cut(&mut lease.message, MESSAGE_MAX_BYTES);
}

/// An operation wants the role back: its host learns of it with the rest of its work.
pub(super) fn recall(state: &mut State, name: &GroupName, operation: &OperationId) {
    let lease = state.groups.get_mut(name).and_then(|group| group.primary.as_mut());
    if let Some(lease) = lease.filter(|lease| !lease.state.is_over()) {
        lease.recalled.get_or_insert_with(|| operation.clone());
    }
}

/// A declaration keeps what a lease that is not over rests on.
pub(super) fn kept(state: &State, spec: &GroupSpec) -> Result<(), Refusal> {
    let Some(group) = state.groups.get(&spec.name) else { return Ok(()) };
    let Some(lease) = live(group) else { return Ok(()) };
    let fits = spec.failover.is_some()
        && spec.policy == QuorumPolicy::PrimaryStandby
        && spec.service == group.spec.service
        && spec.voters.contains(&lease.node);
    if fits { Ok(()) } else { Err(held(&spec.name, lease)) }
}

/// What may not be while somebody holds the role.
pub(super) fn over(state: &State, name: &GroupName) -> Result<(), Refusal> {
    state.groups.get(name).and_then(live).map_or(Ok(()), |lease| Err(held(name, lease)))
}
