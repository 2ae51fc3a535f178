//! Whether a member's data may be put aside: only where the others are known to have it.
//!
//! What is wrong with one copy is found by comparing it with others, and that does not say which of them is right. So nobody's word
//! for a copy counts here, but the others': enough of them, fresh, healthy and caught up, to be the quorum of the whole group without
//! the member. Who is not heard has nothing. It is asked when it is planned, when the member is taken away, and once more when its
//! data is to go: the others may have been lost meanwhile.

use alloc::format;
use alloc::string::String;

use quorate_model::{
    DurationMs, GroupName, NodeName, QuorumPolicy, Reason, Refusal, StepKind, StepState, Timestamp,
};

use super::availability::{Evidence, availability, has_membership_probe};
use crate::state::operation::{Operation, Step};
use crate::state::plan::Goal;
use crate::state::{Group, State};

/// How long a member that is stopped already waits for the others to be enough again before it is brought back with the data that it
/// has: it may be the last to have it.
const PATIENCE: DurationMs = DurationMs::from_secs(30);

/// How a group stands without one of its members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// Declared voters.
    pub voters: u32,
    /// Voters beside the member.
    pub others: u32,
    /// Those of them that are up, healthy and caught up.
    pub up: u32,
    /// Voters that the whole group needs.
    pub needed: u32,
    /// Voters that are wanted beyond that. Told, and not asked for: a member that is out already leaves the others as they are.
    pub spare: u32,
}

impl Numbers {
    /// Whether the others have what the member has. Somebody else must be there, whatever is needed.
    #[must_use]
    pub fn may(&self) -> bool {
        self.others > 0 && self.up >= self.needed.max(1)
    }

    /// How many more than needed there are.
    fn margin(&self) -> i64 {
        i64::from(self.up).saturating_sub(i64::from(self.needed.max(1)))
    }
}

/// The group and the node whose data an operation puts aside, if it does.
#[must_use]
pub fn of(operation: &Operation) -> Option<(&GroupName, &NodeName)> {
    match &operation.request.goal {
        Goal::Rebuild { group, node } => Some((group, node)),
        Goal::Rollout { .. }
        | Goal::Run { .. }
        | Goal::Backup { .. }
        | Goal::Rotate { .. }
        | Goal::Membership { .. }
        | Goal::Failover { .. }
        | Goal::Rejoin { .. }
        | Goal::Verify { .. }
        | Goal::Host { .. } => None,
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// How the group stands without the node.
#[must_use]
pub fn numbers(
    state: &State,
    group: &Group,
    node: &NodeName,
    evidence: &Evidence<'_>,
    now: Timestamp,
) -> Numbers {
    let stands = availability(state, group, evidence, now);
    let others = || stands.voters.iter().filter(|voter| voter.node != *node);
    Numbers {
        voters: count(stands.voters.len()),
        others: count(others().count()),
        up: count(others().filter(|voter| voter.is_available()).count()),
        needed: stands.required,
        spare: group.spec.spare_wanted,
    }
}

/// Why a member's data may not be put aside now.
#[must_use]
pub fn refuses(
    state: &State,
    group: &Group,
    node: &NodeName,
    evidence: &Evidence<'_>,
    now: Timestamp,
) -> Option<Refusal> {
    let name = &group.spec.name;
    if !group.spec.voters.contains(node) && !group.spec.learners.contains(node) {
        return Some(Refusal::new(Reason::NotFound, format!("{node} is no member of {name}")));
    }
    if group.spec.policy == QuorumPolicy::PrimaryStandby {
        let what = format!("{name} is a primary and its standby: neither is rebuilt from the other here");
        return Some(Refusal::new(Reason::PrimaryLease, what));
    }
    let service = state.services.get(&group.spec.service);
    if !service.is_some_and(|service| has_membership_probe(&service.spec)) {
        let what =
            format!("service {} has no membership probe: who has caught up is not known", group.spec.service);
        return Some(Refusal::new(Reason::InvalidArgument, what));
    }
    let seen = numbers(state, group, node, evidence, now);
    (!seen.may()).then(|| too_few(state, group, node, &seen, evidence, now))
}

fn too_few(
    state: &State,
    group: &Group,
    node: &NodeName,
    seen: &Numbers,
    evidence: &Evidence<'_>,
    now: Timestamp,
) -> Refusal {
    let name = &group.spec.name;
    let Numbers { voters, others, up, needed, spare } = *seen;
    let stands = availability(state, group, evidence, now);
    let what = if others == 0 {
        format!("{node} is the only voter of {name}: nobody else has its data")
    } else {
        format!("the others of {name} are no quorum without {node}: it may have the last good copy")
    };
    let mut refusal = Refusal::new(Reason::QuorumMargin, what)
        .with_detail(
            "now",
            format!("{voters} voters, {} up, needs {needed}, margin {}", stands.up, stands.margin()),
        )
        .with_detail(
            format!("without {node}"),
            format!(
                "{up} of {others} others up and caught up, needs {needed}, margin {}, wanted spare {spare}",
                seen.margin()
            ),
        );
    let out = stands.out();
    for gone in out.iter().filter(|gone| gone.node != *node) {
        refusal = refusal.with_detail("already out", format!("{} ({})", gone.node, gone.why));
    }
    let hint = match out.iter().find(|gone| gone.node != *node) {
        Some(gone) => format!("bring {} back first; nothing of {node} was touched", gone.node),
        None => String::from("take a backup, and add another member first"),
    };
    refusal.with_hint(hint)
}

/// Whether a step takes the member away, or its data: from the first of them on the others are asked for.
const fn asks(kind: StepKind) -> bool {
    match kind {
        StepKind::Handover | StepKind::Drain | StepKind::Stop | StepKind::Quarantine => true,
        StepKind::Status
        | StepKind::Start
        | StepKind::Restart
        | StepKind::Reload
        | StepKind::Backup
        | StepKind::Verify
        | StepKind::Rotate
        | StepKind::Facts
        | StepKind::Diagnose
        | StepKind::Stage
        | StepKind::Activate
        | StepKind::Revert
        | StepKind::Restore
        | StepKind::Confirm
        | StepKind::Retire
        | StepKind::RunOnce
        | StepKind::Hook
        | StepKind::EnterMaintenance
        | StepKind::ExitMaintenance
        | StepKind::Preflight
        | StepKind::Join
        | StepKind::Leave
        | StepKind::Promote
        | StepKind::Switch
        | StepKind::Rejoin
        | StepKind::Gate => false,
    }
}

/// Why a step of a rebuilding may not begin now. What takes it back asks nobody.
#[must_use]
pub fn step_refuses(
    state: &State,
    operation: &Operation,
    step: &Step,
    evidence: &Evidence<'_>,
    now: Timestamp,
) -> Option<Refusal> {
    let (name, node) = of(operation).filter(|_| operation.rollback_from.is_none() && asks(step.kind))?;
    match state.groups.get(name) {
        Some(group) => refuses(state, group, node, evidence, now),
        None => Some(Refusal::new(Reason::NotFound, format!("there is no group {name}"))),
    }
}

/// Whether a member that is stopped has waited long enough to have its data put aside: it is brought back as it was.
#[must_use]
pub fn gives_up(operation: &Operation, step: &Step, now: Timestamp) -> bool {
    if step.kind != StepKind::Quarantine || operation.rollback_from.is_some() {
        return false;
    }
    let stopped = operation.steps.iter().find(|s| {
        s.kind == StepKind::Stop
            && s.wave == step.wave
            && s.node == step.node
            && s.state == StepState::Succeeded
    });
    stopped.and_then(|s| s.ended_at).is_some_and(|at| now.since(at) >= PATIENCE)
}

#[cfg(test)]
mod tests {
    use quorate_model::BftRounding;

    use super::*;
    use crate::safety::quorum::required;

    /// Every size that is run, every set of voters that have the data, everybody as the one whose data goes: what is allowed leaves
    /// the quorum of the whole group among the others, and at least one of them.
    #[test]
    fn nobody_is_rebuilt_but_from_a_quorum_of_others() {
        let policies = [
            QuorumPolicy::Majority,
            QuorumPolicy::Bft { rounding: BftRounding::CeilTwoThirds },
            QuorumPolicy::Bft { rounding: BftRounding::FloorTwoThirdsPlusOne },
            QuorumPolicy::MinAvailable { count: 2 },
            QuorumPolicy::MinAvailablePercent { percent: 51 },
            QuorumPolicy::None,
        ];
        let (mut allowed, mut refused) = (0, 0);
        for policy in policies {
            for size in 1..=7_u32 {
                for mask in 0..1_u32 << size {
                    for one in 0..size {
                        let up = (mask & !(1 << one)).count_ones();
                        let needed = required(&policy, size);
                        let seen = Numbers { voters: size, others: size - 1, up, needed, spare: 1 };
                        let safe = size > 1 && up > 0 && up >= needed;
                        assert_eq!(seen.may(), safe, "{policy:?} {size} up {mask:b} -{one}");
                        if safe { allowed += 1 } else { refused += 1 }
                    }
                }
            }
        }
        assert!(allowed > 0 && refused > 0);
    }

    #[test]
    fn one_and_two_voters_of_a_majority_are_never_rebuilt() {
        for size in 1..=2 {
            let needed = required(&QuorumPolicy::Majority, size);
            let seen = Numbers { voters: size, others: size - 1, up: size - 1, needed, spare: 0 };
            assert!(!seen.may(), "{size}");
        }
    }
}
