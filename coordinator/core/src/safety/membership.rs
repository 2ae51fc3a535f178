//! Whether the voters of a group may become others now, and whether the application has made them so.
//!
//! Until the others are seen to list a member (or not to list it any more) nobody can tell by which set the application
//! counts: so long the larger requirement of the two is asked for, of this change and of everybody else's. Nothing is moved on
//! a hook's word, and who is not heard lists nobody.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use quorate_model::observe::LISTED_MAX;
use quorate_model::{
    InstanceId, InstanceRole, MembershipVerb, NodeName, ProbeKind, ProbeReading, QuorumPolicy, Reason,
    Refusal, StepKind, Timestamp,
};

use super::availability::{Evidence, availability, member, probe_limit};
use super::quorum::required;
use super::{fence, freeze, window};
use crate::expand;
use crate::state::operation::{Operation, Step};
use crate::state::plan::{Goal, MembershipGate};
use crate::state::{Group, State};

/// Voters that may fail once a member has left, where nobody says another number.
pub const SPARE_DEFAULT: u32 = 1;

/// What is asked of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// Who joins or leaves.
    pub node: &'a NodeName,
    /// Which of both.
    pub verb: MembershipVerb,
    /// Voters that may fail once a member has left, if the caller says so.
    pub spare: Option<u32>,
}

/// How many there are, are needed and are up, before and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// Voters before.
    pub before: u32,
    /// Voters after.
    pub after: u32,
    /// Needed before.
    pub needed_before: u32,
    /// Needed after.
    pub needed_after: u32,
    /// Of the voters before, those that are up.
    pub up: u32,
    /// Of the voters after, those that are up; who joins counts as soon as it has proved itself.
    pub left: u32,
    /// Voters that must be able to fail afterwards.
    pub spare: u32,
}

impl Numbers {
    /// What is asked for until it is known which set counts.
    #[must_use]
    pub fn larger(&self) -> u32 {
        self.needed_before.max(self.needed_after)
    }

    /// Whether a voter may leave: the change needs those that count today, all that comes after it those that are left.
    #[must_use]
    pub fn may_leave(&self) -> bool {
        self.after > 0
            && self.up >= self.larger()
            && self.left >= self.needed_after.saturating_add(self.spare)
    }

    /// Whether a voter may be added. It may take long until it serves: those that are there must do without it, unless there is
    /// only one of them, who can never be enough for two.
    #[must_use]
    pub fn may_join(&self) -> bool {
        let alone = self.before <= 1 && self.up >= self.needed_before;
        let with_it = self.up.saturating_add(1);
        (alone || self.up >= self.larger()) && with_it >= self.needed_after.saturating_add(self.spare)
    }
}

/// The change that an operation is for, and of which group.
#[must_use]
pub fn of(operation: &Operation) -> Option<(&quorate_model::GroupName, Change<'_>)> {
    match &operation.request.goal {
        Goal::Membership { group, node, change, spare } => {
            Some((group, Change { node, verb: *change, spare: *spare }))
        }
        Goal::Rollout { .. }
        | Goal::Run { .. }
        | Goal::Backup { .. }
        | Goal::Rotate { .. }
        | Goal::Verify { .. }
        | Goal::Failover { .. }
        | Goal::Rejoin { .. }
        | Goal::Rebuild { .. }
        | Goal::Host { .. } => None,
    }
}

/// Whether a step tells the application of a change of members.
#[must_use]
pub const fn is_told(kind: StepKind) -> bool {
    matches!(kind, StepKind::Join | StepKind::Leave)
}

/// The declared voters after a change.
#[must_use]
pub fn voters_after(group: &Group, change: &Change<'_>) -> Vec<NodeName> {
    let others = group.spec.voters.iter().filter(|node| *node != change.node);
    let joins = (change.verb == MembershipVerb::Add).then_some(change.node);
    others.chain(joins).cloned().collect()
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// How the group stands before and after.
#[must_use]
pub fn numbers(
    state: &State,
    group: &Group,
    change: &Change<'_>,
    evidence: &Evidence<'_>,
    now: Timestamp,
) -> Numbers {
    let stands = availability(state, group, evidence, now);
    let (before, after) = (count(stands.voters.len()), count(voters_after(group, change).len()));
    let rest = stands.voters.iter().filter(|v| v.is_available() && v.node != *change.node).count();
    let wanted = match change.verb {
        MembershipVerb::Add => 0,
        MembershipVerb::Remove => change.spare.unwrap_or(SPARE_DEFAULT),
    };
    Numbers {
        before,
        after,
        needed_before: required(&group.spec.policy, before),
        needed_after: required(&group.spec.policy, after),
        up: stands.up,
        left: count(rest),
        spare: wanted.max(group.spec.spare_wanted),
    }
}

/// Why a node's membership of a group may not be changed now.
#[must_use]
pub fn refuses(
    state: &State,
    group: &Group,
    change: &Change<'_>,
    evidence: &Evidence<'_>,
    now: Timestamp,
) -> Option<Refusal> {
    let (node, name) = (change.node, &group.spec.name);
    let votes = group.spec.voters.contains(node);
    match (change.verb, votes) {
        (MembershipVerb::Add, true) => {
            return Some(Refusal::new(
                Reason::NothingToChange,
                format!("{node} is a voter of {name} already"),
            ));
        }
        (MembershipVerb::Remove, false) => {
            return Some(Refusal::new(Reason::NotFound, format!("{node} is no voter of {name}")));
        }
        (MembershipVerb::Add, false) | (MembershipVerb::Remove, true) => {}
    }
    if group.spec.policy == QuorumPolicy::PrimaryStandby {
        let what = format!("{name} is a primary and its standby: neither joins nor leaves");
        return Some(Refusal::new(Reason::PrimaryLease, what));
    }
    let seen = numbers(state, group, change, evidence, now);
    if usize::try_from(seen.after).is_ok_and(|after| after > LISTED_MAX) {
        let what = format!("{name} would have {} voters; a membership probe tells {LISTED_MAX}", seen.after);
        return Some(Refusal::new(Reason::LimitReached, what));
    }
    let may = match change.verb {
        MembershipVerb::Add => seen.may_join(),
        MembershipVerb::Remove => seen.may_leave(),
    };
    (!may).then(|| too_few(state, group, change, &seen, evidence, now))
}

fn too_few(
    state: &State,
    group: &Group,
    change: &Change<'_>,
    seen: &Numbers,
    evidence: &Evidence<'_>,
    now: Timestamp,
) -> Refusal {
    let (node, name) = (change.node, &group.spec.name);
    let Numbers { before, after, needed_before, needed_after, up, left, spare } = *seen;
    let margin = |have: u32, needs: u32| i64::from(have).saturating_sub(i64::from(needs));
    let (what, with) = match change.verb {
        MembershipVerb::Remove if after == 0 => (format!("{node} is the last voter of {name}"), left),
        MembershipVerb::Remove if left < needed_after => {
            (format!("without {node} group {name} would have no quorum"), left)
        }
        MembershipVerb::Remove if up < seen.larger() => {
            (format!("group {name} has too few voters up to let {node} leave"), left)
        }
        MembershipVerb::Remove => (format!("without {node} group {name} would have too few to spare"), left),
        MembershipVerb::Add => {
            (format!("group {name} has too few voters up to let {node} join"), up.saturating_add(1))
        }
    };
    let word = match change.verb {
        MembershipVerb::Remove => "without",
        MembershipVerb::Add => "with",
    };
    let now_line =
        format!("{before} voters, {up} up, needs {needed_before}, margin {}", margin(up, needed_before));
    let then = format!(
        "{after} voters, {with} up, needs {needed_after}, margin {}, wanted {spare}",
        margin(with, needed_after)
    );
    let mut refusal = Refusal::new(Reason::QuorumMargin, what)
        .with_detail("now", now_line)
        .with_detail(format!("{word} {node}"), then)
        .with_detail("until it is seen", format!("needs {}, the larger of both", seen.larger()));
    let stands = availability(state, group, evidence, now);
    let out = stands.out();
    for gone in out.iter().filter(|gone| gone.node != *node) {
        refusal = refusal.with_detail("already out", format!("{} ({})", gone.node, gone.why));
    }
    let others_out = out.iter().find(|gone| gone.node != *node);
    let hint = match (others_out, change.verb) {
        (Some(gone), _) => format!("bring {} back first", gone.node),
        (None, MembershipVerb::Remove) if after > 0 && left >= needed_after && up >= seen.larger() => {
            String::from("add another member first, or say --spare 0 if no failure needs to be survived")
        }
        (None, MembershipVerb::Remove | MembershipVerb::Add) => String::from("add another member first"),
    };
    refusal.with_hint(hint)
}

/// Why the application may not be told of a change now. What takes one back asks for nothing but its node.
#[must_use]
pub fn hook_refuses(
    state: &State,
    operation: &Operation,
    step: &Step,
    evidence: &Evidence<'_>,
    now: Timestamp,
) -> Option<Refusal> {
    let own = Some(&operation.id);
    if let Some(refusal) = fence::free(state, &step.node, own) {
        return Some(refusal);
    }
    if operation.rollback_from.is_some() {
        return None;
    }
    let Some((name, change)) = of(operation) else {
        return Some(Refusal::new(Reason::Internal, "a change of members without a group"));
    };
    let Some(group) = state.groups.get(name) else {
        return Some(Refusal::new(Reason::NotFound, format!("there is no group {name}")));
    };
    let instance = InstanceId { node: change.node.clone(), service: group.spec.service.clone() };
    let needs = operation.lane_needs(step.wave, &step.node);
    fence::reachable(state, change.node)
        .or_else(|| fence::free(state, change.node, own))
        .or_else(|| fence::eligible(state, change.node))
        .or_else(|| freeze::begins(state, &instance, own, now))
        .or_else(|| window::begins(state, &instance, own, needs, now))
        .or_else(|| refuses(state, group, &change, evidence, now))
}

/// The instance that a step disturbs: that of its node, but for a change of members, where it is who joins or leaves.
#[must_use]
pub fn disturbed(operation: &Operation, step: &Step) -> Option<InstanceId> {
    let service = step.action.as_ref()?.service()?.clone();
    let node = match of(operation) {
        Some((_, change)) if is_told(step.kind) => change.node.clone(),
        Some(_) | None => step.node.clone(),
    };
    Some(InstanceId { node, service })
}

/// Whether a role has a vote.
const fn has_vote(role: InstanceRole) -> bool {
    match role {
        InstanceRole::Leader | InstanceRole::Voter | InstanceRole::Primary | InstanceRole::Standby => true,
        InstanceRole::Unknown | InstanceRole::Learner | InstanceRole::Observer => false,
    }
}

/// What an instance's own membership probe last read, if that is fresh and newer than `since`.
fn told<'a>(
    state: &State,
    id: &InstanceId,
    evidence: &Evidence<'a>,
    (since, now): (Timestamp, Timestamp),
) -> Option<&'a ProbeReading> {
    let spec = &state.services.get(&id.service)?.spec;
    let probe = spec.probes.iter().find(|probe| matches!(probe.kind, ProbeKind::Membership { .. }))?;
    let own = |r: &&ProbeReading| r.probe == probe.name && r.from == id.node && r.instance == *id;
    let reading = evidence.get(id)?.probes.iter().find(own)?;
    let limit = probe_limit(state, &id.service, &probe.name, probe.interval);
    (reading.at > since && now.since(reading.at) <= limit && !reading.listed.is_empty()).then_some(reading)
}

/// What names an instance in the lists of its group.
pub(crate) fn key(state: &State, group: &Group, node: &NodeName) -> Option<String> {
    let spec = &state.services.get(&group.spec.service)?.spec;
    spec.probes.iter().find_map(|probe| match &probe.kind {
        ProbeKind::Membership { paths, .. } => Some(expand::text(&paths.this, spec, node)),
        ProbeKind::Http { .. }
        | ProbeKind::Tcp { .. }
        | ProbeKind::Exec { .. }
        | ProbeKind::UnitSoak { .. }
        | ProbeKind::Metric(_)
        | ProbeKind::Certificate(_)
        | ProbeKind::Alerts(_)
        | ProbeKind::Expression { .. } => None,
    })
}

/// What is missing until the others list a member, or list it no more; and, where the vote moves with it, until the group stands
/// with its new voters. Every other voter that is up must say so, and they must be enough to decide.
#[must_use]
pub fn missing(
    state: &State,
    gate: &MembershipGate,
    since: Timestamp,
    evidence: &Evidence<'_>,
    now: Timestamp,
) -> Option<String> {
    let Some(group) = state.groups.get(&gate.group) else { return Some(format!("{} is gone", gate.group)) };
    let Some(key) = key(state, group, &gate.node) else {
        return Some(format!("{} has no membership probe", group.spec.service));
    };
    let others: Vec<&NodeName> = group.spec.voters.iter().filter(|node| **node != gate.node).collect();
    let mut said = 0_u32;
    for other in &others {
        let id = InstanceId { node: (*other).clone(), service: group.spec.service.clone() };
        if !member(state, &id, evidence, now).is_available() {
            continue;
        }
        let Some(reading) = told(state, &id, evidence, (since, now)) else {
            return Some(format!("whom {other} lists since then is not known"));
        };
        let found = reading.listed.iter().find(|listed| listed.key == key).map(|listed| listed.role);
        match (gate.listed, found) {
            (true, Some(role)) if has_vote(role) => {}
            (false, None) => {}
            (true, Some(role)) => return Some(format!("{other} lists {} as {role}", gate.node)),
            (true, None) => return Some(format!("{other} does not list {} yet", gate.node)),
            (false, Some(_)) => return Some(format!("{other} lists {} still", gate.node)),
        }
        said = said.saturating_add(1);
    }
    let needed = required(&group.spec.policy, count(others.len())).max(1);
    if said < needed {
        return Some(format!("{said} voters of {} are up to say so, needs {needed}", group.spec.name));
    }
    unsettled(state, gate, group, evidence, now)
}

/// Why the declared voters may not become what the application says they are: they would not stand.
fn unsettled(
    state: &State,
    gate: &MembershipGate,
    group: &Group,
    evidence: &Evidence<'_>,
    now: Timestamp,
) -> Option<String> {
    if !gate.moves {
        return None;
    }
    let verb = if gate.listed { MembershipVerb::Add } else { MembershipVerb::Remove };
    let seen = numbers(state, group, &Change { node: &gate.node, verb, spare: None }, evidence, now);
    // Who joins has proved itself by the gate before; who leaves has left, whatever was wanted to spare.
    let (up, needs) = match verb {
        MembershipVerb::Add => (seen.up.saturating_add(1), seen.larger()),
        MembershipVerb::Remove => (seen.left, seen.needed_after),
    };
    (up < needs).then(|| format!("{} would have {up} of {} up, needs {needs}", group.spec.name, seen.after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_model::BftRounding;

    fn policies() -> [QuorumPolicy; 6] {
        [
            QuorumPolicy::Majority,
            QuorumPolicy::Bft { rounding: BftRounding::CeilTwoThirds },
            QuorumPolicy::Bft { rounding: BftRounding::FloorTwoThirdsPlusOne },
            QuorumPolicy::MinAvailable { count: 2 },
            QuorumPolicy::MinAvailablePercent { percent: 51 },
            QuorumPolicy::None,
        ]
    }

    fn with(
        policy: &QuorumPolicy,
        (before, after): (u32, u32),
        (up, left): (u32, u32),
        spare: u32,
    ) -> Numbers {
        let (needed_before, needed_after) = (required(policy, before), required(policy, after));
        Numbers { before, after, needed_before, needed_after, up, left, spare }
    }

    /// Every size that is run, every set of voters that are up, everybody as the one that leaves, every spare: what is allowed
    /// holds quorum before, after, and whichever set counts meanwhile; and one more failure than is to be spared is refused.
    #[test]
    fn nobody_leaves_below_what_is_needed_at_any_size() {
        let mut allowed = 0;
        for policy in policies() {
            for size in 1..=7_u32 {
                for mask in 0..1_u32 << size {
                    for leaving in 0..size {
                        for spare in 0..=2 {
                            let up = mask.count_ones();
                            let left = (mask & !(1 << leaving)).count_ones();
                            let seen = with(&policy, (size, size - 1), (up, left), spare);
                            let (old, new) = (required(&policy, size), required(&policy, size - 1));
                            let safe =
                                size > 1 && up >= old && up >= new && left >= new && left - new >= spare;
                            assert_eq!(seen.may_leave(), safe, "{policy:?} {size} up {mask:b} -{leaving}");
                            allowed += u32::from(safe);
                        }
                    }
                }
            }
        }
        assert!(allowed > 0, "nothing was ever allowed");
    }

    /// A member that joins is not counted before it serves: until then the larger set must stand without it.
    #[test]
    fn nobody_joins_where_the_larger_set_would_not_stand_without_it() {
        for policy in policies() {
            for size in 1..=7_u32 {
                for up in 0..=size {
                    let seen = with(&policy, (size, size + 1), (up, up), 0);
                    let stands = up >= required(&policy, size) && up >= required(&policy, size + 1);
                    let alone = size == 1 && up >= required(&policy, 1) && up + 1 >= required(&policy, 2);
                    assert_eq!(seen.may_join(), stands || alone, "{policy:?} {size} up {up}");
                }
            }
        }
    }

    #[test]
    fn three_to_two_is_refused_for_the_spare_alone() {
        let seen = |spare| with(&QuorumPolicy::Majority, (3, 2), (3, 2), spare);
        assert!(!seen(SPARE_DEFAULT).may_leave() && seen(0).may_leave());
        assert!(with(&QuorumPolicy::Majority, (4, 3), (4, 3), SPARE_DEFAULT).may_leave());
        assert!(!with(&QuorumPolicy::Majority, (3, 2), (2, 1), 0).may_leave(), "one is down");
        assert!(with(&QuorumPolicy::Majority, (3, 2), (2, 2), 0).may_leave(), "the one that is down");
    }
}
