//! Plans.

use std::collections::BTreeMap;

use quorate_common::wire::enums::{write_operation_kind, write_step_kind};
use quorate_common::wire::time::{write_duration, write_timestamp};
use quorate_core::safety::gate::words;
use quorate_core::state::Plan;
use quorate_core::state::plan::{
    GateProbe, GateSpec, Goal, LeaseGate, LeaseWants, MembershipGate, PlanStep, PlanWave, QuorumLine,
};
use quorate_model::StepKind;
use quorate_proto::v1;

use crate::api::work::write_work;

/// What stands around an action is no change of its own, and a host that is only given an artifact is not changed by that.
const fn stands_around(kind: StepKind, backup_first: bool, rebuilds: bool) -> bool {
    match kind {
        StepKind::Gate
        | StepKind::Stage
        | StepKind::Drain
        | StepKind::Restore
        | StepKind::Preflight
        | StepKind::Handover
        | StepKind::Join
        | StepKind::Leave
        | StepKind::Switch
        | StepKind::Rejoin
        | StepKind::Confirm
        // Of a member that is changed already.
        | StepKind::Retire
        | StepKind::EnterMaintenance
        | StepKind::ExitMaintenance
        | StepKind::RunOnce => true,
        StepKind::Backup => backup_first,
        // Both are part of putting the data aside.
        StepKind::Stop | StepKind::Start => rebuilds,
        StepKind::Status
        | StepKind::Promote
        | StepKind::Quarantine
        | StepKind::Restart
        | StepKind::Reload
        | StepKind::Verify
        | StepKind::Rotate
        | StepKind::Facts
        | StepKind::Diagnose
        | StepKind::Activate
        | StepKind::Revert
        | StepKind::Hook => false,
    }
}

/// A plan as stored.
pub(crate) fn plan(plan: &Plan) -> v1::Plan {
    let Plan {
        id,
        hash,
        kind,
        request,
        created_at,
        base,
        touches: _,
        waves,
        parallel: _,
        title,
        warnings,
        summary,
        estimate,
    } = plan;
    let rebuilds = matches!(request.goal, Goal::Rebuild { .. });
    let around = |kind| stands_around(kind, request.backup_first, rebuilds);
    let actions = waves.iter().flat_map(|w| &w.steps).filter(|s| !around(s.kind));
    let mut notes = warnings.clone();
    notes.push(summary.clone());
    let mut index = 0;
    let mut numbered = Vec::new();
    for (number, one) in (1_u32..).zip(waves) {
        numbered.push(wave(number, one, &mut index));
    }
    v1::Plan {
        plan_id: id.as_str().to_owned(),
        hash: hash.to_string(),
        revision: base.0,
        kind: write_operation_kind(*kind) as i32,
        work: Some(write_work(request)),
        waves: numbered,
        created: write_timestamp(*created_at),
        created_by: request.principal.to_string(),
        title: title.clone(),
        to_change: u32::try_from(actions.count()).unwrap_or(u32::MAX),
        to_skip: skipped(summary),
        notes,
        estimate: estimate.as_ref().map(|estimate| v1::PlanEstimate {
            typical: estimate.typical.map(write_duration),
            at_most: Some(write_duration(estimate.at_most)),
            basis: estimate.basis.clone(),
        }),
    }
}

fn wave(number: u32, wave: &PlanWave, index: &mut u32) -> v1::Wave {
    let PlanWave { label, steps, hold, promote, parallel: _ } = wave;
    // The least spare of any step is what the wave does to the group.
    let mut lines: BTreeMap<&str, &QuorumLine> = BTreeMap::new();
    for line in steps.iter().flat_map(|step| &step.quorum) {
        lines
            .entry(line.group.as_str())
            .and_modify(|kept| {
                if line.up_during < kept.up_during {
                    *kept = line;
                }
            })
            .or_insert(line);
    }
    v1::Wave {
        number,
        steps: steps
            .iter()
            .map(|one| {
                let shown = step(number, *index, one);
                *index = index.saturating_add(1);
                shown
            })
            .collect(),
        quorum: lines.into_values().map(quorum).collect(),
        label: label.clone(),
        hold: (!hold.is_zero()).then(|| write_duration(*hold)),
        promote: *promote,
    }
}

fn step(wave: u32, index: u32, step: &PlanStep) -> v1::Step {
    v1::Step {
        node: step.node.as_str().to_owned(),
        kind: write_step_kind(step.kind) as i32,
        state: v1::StepState::Pending as i32,
        wave,
        index,
        deadline: Some(write_duration(step.deadline)),
        message: step.gate.as_ref().map_or_else(|| step.note.clone(), gate),
        ..Default::default()
    }
}

/// What a gate asks of the lease of a primary.
fn lease_gate(gate: &LeaseGate) -> String {
    let LeaseGate { group, wants } = gate;
    match wants {
        LeaseWants::Over { holder, .. } => format!("{holder} holds the primary role of {group} no more"),
        LeaseWants::Reached { node } => format!("{node} has all that is known of the old primary"),
        LeaseWants::Held { node } => format!("{node} holds the primary role of {group}"),
    }
}

/// What a gate asks for, one line.
fn gate(gate: &GateSpec) -> String {
    let GateSpec { instance: _, soak, probes, caught_up, hold, margin, membership, lease } = gate;
    let mut parts = Vec::new();
    if !hold.is_zero() {
        parts.push(format!("healthy for {hold}"));
    }
    if soak.0 > 0 {
        parts.push(format!("up {soak} without a restart"));
    }
    for GateProbe { name, passes, interval: _, from_peer, baseline } in probes {
        let peer = if *from_peer { ", a peer agrees" } else { "" };
        let moved =
            baseline.as_ref().map(|b| format!(", {} of before", words(&b.limits))).unwrap_or_default();
        parts.push(format!("{name} {passes}x{peer}{moved}"));
    }
    if *caught_up {
        parts.push("caught up".to_owned());
    }
    if *margin {
        parts.push("the group at its margin".to_owned());
    }
    if let Some(MembershipGate { group, node, listed, moves }) = membership {
        let seen = if *listed { "a voter" } else { "no member" };
        parts.push(format!("the others list {node} as {seen}"));
        if *moves {
            parts.push(format!("then the voters of {group} are changed"));
        }
    }
    parts.extend(lease.as_ref().map(lease_gate));
    parts.join("; ")
}

fn quorum(line: &QuorumLine) -> v1::WaveQuorum {
    let QuorumLine { group, voters, required, up_before: _, up_during, spare: _ } = line;
    let spare = i64::from(*up_during) - i64::from(*required);
    v1::WaveQuorum {
        group: group.as_str().to_owned(),
        voters: *voters,
        up: *up_during,
        required: *required,
        spare: i32::try_from(spare).unwrap_or(i32::MIN),
    }
}

/// The stored plan holds only what it will do; how many nodes it leaves alone stands in its last, countable sentence.
fn skipped(summary: &str) -> u32 {
    let words: Vec<&str> = summary.split_whitespace().collect();
    let place = words.windows(3).find(|w| w[1..] == ["to", "skip"]);
    place.and_then(|w| w[0].parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use quorate_model::{DurationMs, InstanceId, NodeName, ServiceName};

    use super::*;

    #[test]
    fn a_gate_says_what_it_asks_for() {
        let name = |n: &str| quorate_model::ProbeName::new(n).unwrap();
        let probe = |n: &str, from_peer| GateProbe {
            name: name(n),
            passes: 3,
            interval: DurationMs(300),
            from_peer,
            baseline: None,
        };
        let spec = GateSpec {
            instance: InstanceId {
                node: NodeName::new("node1").unwrap(),
                service: ServiceName::new("ledger").unwrap(),
            },
            soak: DurationMs(1_000),
            probes: vec![probe("health", true), probe("soak", false)],
            caught_up: true,
            hold: DurationMs::ZERO,
            margin: true,
            membership: None,
            lease: None,
        };
        let wanted =
            "up 1s without a restart; health 3x, a peer agrees; soak 3x; caught up; the group at its margin";
        assert_eq!(gate(&spec), wanted);
    }

    #[test]
    fn the_countable_sentence_is_counted() {
        assert_eq!(skipped("3 to change, 2 to skip"), 2);
        assert_eq!(skipped(""), 0);
    }
}
