//! The one budget of a group, shared by every cause.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use quorate_model::{
    Drain, DurationMs, GroupName, InstanceId, NodeName, OperationId, OutReason, QuorumPolicy, Refusal,
    Timestamp,
};

use super::availability::{Availability, Evidence, availability, freshness_limit, is_ours};
use super::{fence, freeze, lease, window};
use crate::state::{Group, State};

/// What a stop is called in [`Ask::doing`].
pub(crate) const STOPPING: &str = "stopping";

/// Who wants to disturb, and how.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// `restarting`, `stopping`, `draining`, …: for the refusal.
    pub doing: &'a str,
    /// The operation that asks; its own grant on a node does not hold it up.
    pub operation: Option<&'a OperationId>,
    /// Most members of a group that we may have out at once, for all causes together; none for no such limit.
    pub max_unavailable: Option<u32>,
    /// How long a window must still be open: until all is over that begins now; none for an undo, which no window holds.
    pub needs: Option<DurationMs>,
}

/// Whether the members of one group on these nodes may be disturbed together now. Arithmetic only; see [`disturb_all`] for
/// the guards on nodes.
///
/// The available ones among them are taken from those that are up; what is left must hold quorum and the spare wanted. A
/// member that a fresh reading shows to be out costs nothing. One of which nothing is known is neither up nor free to take:
/// it may serve, so those that are known to be up must be enough without it.
#[must_use]
pub fn disturb(
    state: &State,
    group: &Group,
    nodes: &[NodeName],
    ask: &Ask<'_>,
    evidence: &Evidence<'_>,
    now: Timestamp,
) -> Option<Refusal> {
    if let Some(refusal) = over_limit(state, group, nodes, ask) {
        return Some(refusal);
    }
    if group.spec.policy == QuorumPolicy::PrimaryStandby
        && let Some(refusal) = lease::disturb_refuses(state, group, nodes, ask.doing, evidence, now)
    {
        return Some(refusal);
    }
    let now_up = availability(state, group, evidence, now);
    let cost = now_up.voters.iter().filter(|v| v.is_available() && nodes.contains(&v.node)).count();
    let cost = u32::try_from(cost).unwrap_or(u32::MAX);
    let after = now_up.up.saturating_sub(cost);
    let is_free = now_up.voters.iter().all(|v| v.spent || !nodes.contains(&v.node));
    if is_free || after >= now_up.required.saturating_add(group.spec.spare_wanted) {
        return None;
    }
    Some(no_margin(state, group, nodes, ask, &now_up, after, evidence, now))
}

#[expect(clippy::too_many_arguments, reason = "a refusal carries every number behind it")]
fn no_margin(
    state: &State,
    group: &Group,
    nodes: &[NodeName],
    ask: &Ask<'_>,
    now_up: &Availability,
    after: u32,
    evidence: &Evidence<'_>,
    now: Timestamp,
) -> Refusal {
    // If the quorum would hold but for readings that are missing, say so: the way out is another one.
    let stale = now_up.voters.iter().filter(|v| {
        !nodes.contains(&v.node)
            && v.out.as_ref().is_some_and(|out| matches!(out.why, OutReason::Stale | OutReason::Unknown))
    });
    let unsure = u32::try_from(stale.clone().count()).unwrap_or(u32::MAX);
    let needed = now_up.required.saturating_add(group.spec.spare_wanted);
    if after.saturating_add(unsure) >= needed
        && let Some(voter) = stale.clone().next()
    {
        let id = InstanceId { node: voter.node.clone(), service: group.spec.service.clone() };
        return Refusal::EvidenceStale {
            node: voter.node.clone(),
            age: evidence.get(&id).map(|reading| now.since(reading.at)),
            limit: freshness_limit(state, &group.spec.service),
        };
    }
    Refusal::QuorumMargin {
        doing: ask.doing.to_string(),
        nodes: nodes.to_vec(),
        group: group.spec.name.clone(),
        voters: u32::try_from(now_up.voters.len()).unwrap_or(u32::MAX),
        up: now_up.up,
        after,
        required: now_up.required,
        spare: group.spec.spare_wanted,
        already_out: now_up.out(),
    }
}

/// `max_unavailable`: those we work on already, learners too, and the new ones.
fn over_limit(state: &State, group: &Group, nodes: &[NodeName], ask: &Ask<'_>) -> Option<Refusal> {
    let limit = ask.max_unavailable?;
    let members = group.spec.voters.iter().chain(&group.spec.learners);
    let mut busy: BTreeSet<&NodeName> = BTreeSet::new();
    let mut all: BTreeSet<&NodeName> = BTreeSet::new();
    for node in members {
        let id = InstanceId { node: node.clone(), service: group.spec.service.clone() };
        if is_ours(state, &id) {
            busy.insert(node);
            all.insert(node);
        }
        if nodes.contains(node) {
            all.insert(node);
        }
    }
    let fits = u32::try_from(all.len()).is_ok_and(|count| count <= limit);
    // Work on those that are counted already does not add to the count.
    if fits || all.len() == busy.len() {
        return None;
    }
    Some(Refusal::MaxUnavailable {
        group: group.spec.name.clone(),
        limit,
        busy: busy.into_iter().cloned().collect(),
    })
}

/// Every guard for disturbing these instances together: each node reachable, unfrozen, within its window, eligible and free, and each group that
/// any of them belongs to within its budget. The first refusal is given.
#[must_use]
pub fn disturb_all(
    state: &State,
    instances: &[InstanceId],
    ask: &Ask<'_>,
    evidence: &Evidence<'_>,
    now: Timestamp,
) -> Option<Refusal> {
    for instance in instances {
        let node = &instance.node;
        let guard = fence::reachable(state, node)
            .or_else(|| freeze::begins(state, instance, ask.operation, now))
            .or_else(|| window::begins(state, instance, ask.operation, ask.needs?, now))
            .or_else(|| fence::eligible(state, node).filter(|_| !empties(state, node, ask)))
            .or_else(|| fence::free(state, node, ask.operation));
        if guard.is_some() {
            return guard;
        }
    }
    within_budgets(state, instances, ask, evidence, now)
}

/// Stopping what is left on a draining node is what the drain is for: its cordon does not stand in the way, and its voters
/// are out of every count already.
fn empties(state: &State, node: &NodeName, ask: &Ask<'_>) -> bool {
    let drained = state.nodes.present(node).is_some_and(|found| match found.drain {
        Drain::Draining | Drain::Drained => true,
        Drain::None => false,
    });
    drained && ask.doing == STOPPING
}

/// Each group that any of these instances belongs to is within its budget.
#[must_use]
pub fn within_budgets(
    state: &State,
    instances: &[InstanceId],
    ask: &Ask<'_>,
    evidence: &Evidence<'_>,
    now: Timestamp,
) -> Option<Refusal> {
    let mut groups: BTreeSet<&GroupName> = BTreeSet::new();
    for instance in instances {
        groups.extend(state.groups_of(&instance.service, &instance.node).map(|group| &group.spec.name));
    }
    groups.into_iter().find_map(|name| {
        let group = state.groups.get(name)?;
        let nodes: Vec<NodeName> = instances
            .iter()
            .filter(|instance| instance.service == group.spec.service)
            .map(|instance| instance.node.clone())
            .collect();
        disturb(state, group, &nodes, ask, evidence, now)
    })
}

/// What would be left of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DownCheck {
    /// Which group.
    pub group: GroupName,
    /// Its policy's word.
    pub kind: String,
    /// Declared voters.
    pub voters: u32,
    /// Available if those nodes were down.
    pub available: u32,
    /// Needed.
    pub required: u32,
    /// Whether that is enough.
    pub ok: bool,
}

/// What would be left of every group if these nodes were down (`quorate quorum check --down`).
#[must_use]
pub fn check_down(
    state: &State,
    nodes: &[NodeName],
    evidence: &Evidence<'_>,
    now: Timestamp,
) -> Vec<DownCheck> {
    let check = |group: &Group| {
        let stand = availability(state, group, evidence, now);
        let left = stand.voters.iter().filter(|v| v.is_available() && !nodes.contains(&v.node)).count();
        let available = u32::try_from(left).unwrap_or(u32::MAX);
        DownCheck {
            group: group.spec.name.clone(),
            kind: group.spec.policy.kind().to_string(),
            voters: u32::try_from(stand.voters.len()).unwrap_or(u32::MAX),
            available,
            required: stand.required,
            ok: available >= stand.required,
        }
    };
    state.groups.values().map(check).collect()
}
