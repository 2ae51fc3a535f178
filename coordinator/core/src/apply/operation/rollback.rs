//! Rollback: what was put to use is taken back, in reverse order, one instance after the other.
//!
//! The waves are made here and not planned: they follow from the steps that were begun, the same on every replica. Each of
//! them asks the quorum when it begins, as every disruptive step does. There is no canary, no hold and no promotion on the way
//! back. What may take long (nobody is heard on the host, or nobody knows what its action did) goes last, so that it does not
//! keep the others waiting.

use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Reverse;

use quorate_model::{
    ActionKind, ExecutionState, NodeName, OnFailure, OperationId, Refusal, StepKind, StepState, WaveState,
};

use crate::apply::step::goes_ahead;
use crate::apply::validate;
use crate::safety::membership::is_told;
use crate::safety::{fence, membership, rebuild};
use crate::state::State;
use crate::state::operation::{Operation, Step, Wave};
use crate::state::plan::{GateSpec, Goal, Plan};

/// What a wave of a rollback is called.
const LABEL: &str = "rollback";

/// The guards of a plan that says how it advances: what it asks for can be meant, and what takes a step back works on the same
/// service.
pub(super) fn check(plan: &Plan) -> Result<(), Refusal> {
    if let Some((field, text)) = plan.request.waves.flaw() {
        return Err(validate::bad(alloc::format!("waves.{field}: {text}")));
    }
    let odd = plan.steps().filter_map(|(_, s)| Some((s, s.undo.as_ref()?))).any(|(s, undo)| {
        let service = s.action.as_ref().and_then(|action| action.service());
        let fits = matches!(
            (s.kind, undo.kind()),
            (
                StepKind::Activate,
                ActionKind::ArtifactRevert | ActionKind::ConfigRevert | ActionKind::SecretRevert,
            ) | (StepKind::RunOnce | StepKind::Join | StepKind::Leave, ActionKind::ExecRun)
                | (StepKind::Start, ActionKind::ServiceStop)
                | (StepKind::Quarantine, ActionKind::DataRevert)
        );
        !fits || undo.service() != service
    });
    if odd {
        return Err(validate::bad("waves: what takes a step back does not belong to it"));
    }
    let installs = match &plan.request.goal {
        Goal::Rollout { change, .. } => change.installs(),
        Goal::Membership { .. } | Goal::Rebuild { .. } => true,
        Goal::Run { .. }
        | Goal::Backup { .. }
        | Goal::Rotate { .. }
        | Goal::Verify { .. }
        | Goal::Failover { .. }
        | Goal::Rejoin { .. }
        | Goal::Host { .. } => false,
    };
    let lacks = plan.steps().any(|(_, s)| s.kind == StepKind::Activate && s.undo.is_none());
    if plan.request.on_failure == OnFailure::Rollback && (!installs || lacks) {
        return Err(validate::bad("on_failure: nothing takes the change back"));
    }
    // Lanes of their own are for waves that disturb nobody: the others share one budget.
    let wide = plan
        .waves
        .iter()
        .any(|w| w.parallel.is_some_and(|lanes| lanes == 0 || w.steps.iter().any(|s| s.disruptive)));
    if wide {
        return Err(validate::bad("waves: a wave that disturbs has lanes of its own"));
    }
    Ok(())
}

/// The steps that are to be taken back, in the order of that. One that its agent refused before doing anything is not, nor one
/// whose node is gone; but what an application was told is taken back by another member.
pub(super) fn owed(state: &State, operation: &Operation) -> Vec<u32> {
    let state_of = |step: &Step| Some(state.executions.get(step.execution.as_ref()?)?.state);
    if rebuild::of(operation).is_some() {
        return rebuilt(state, operation);
    }
    let mut owed: Vec<(bool, Reverse<_>, u32)> = operation
        .indexed()
        .filter(|(_, s)| s.undo.is_some() && s.started_at.is_some())
        .filter(|(_, s)| state_of(s) != Some(ExecutionState::Rejected))
        .filter(|(_, s)| state.nodes.present(&s.node).is_some() || is_told(s.kind))
        .map(|(index, s)| {
            let slow =
                state_of(s) == Some(ExecutionState::Unknown) || fence::reachable(state, &s.node).is_some();
            (slow, Reverse(s.grant), index)
        })
        .collect();
    owed.sort_unstable();
    owed.into_iter().map(|(_, _, index)| index).collect()
}

/// A member that was stopped to be rebuilt is brought back, whatever came of its data.
fn rebuilt(state: &State, operation: &Operation) -> Vec<u32> {
    let stopped = operation.steps.iter().any(|s| s.kind == StepKind::Stop && was_begun(state, s));
    let present = |s: &&Step| stopped && state.nodes.present(&s.node).is_some();
    operation
        .indexed()
        .filter(|(_, s)| s.kind == StepKind::Quarantine && present(s))
        .map(|(index, _)| index)
        .collect()
}

/// Whether a step was handed to its agent, and not refused there before anything was done.
fn was_begun(state: &State, step: &Step) -> bool {
    let execution = step.execution.as_ref().and_then(|id| state.executions.get(id));
    step.started_at.is_some() && execution.is_none_or(|e| e.state != ExecutionState::Rejected)
}

/// Whether no data was put aside: a host that would not do that need not be asked to put it back, only to start its service.
fn is_untouched(state: &State, operation: &Operation) -> bool {
    !operation.steps.iter().any(|s| s.kind == StepKind::Quarantine && was_begun(state, s))
}

/// Appends its waves.
pub(super) fn begin(state: &mut State, id: &OperationId) {
    let Some(operation) = state.operations.get(id) else { return };
    let owed = owed(state, operation);
    let elsewhere: Vec<Option<NodeName>> =
        owed.iter().map(|index| another(state, operation, *index)).collect();
    let untouched = is_untouched(state, operation);
    let Some(operation) = state.operations.get_mut(id) else { return };
    let from = u32::try_from(operation.waves.len()).unwrap_or(u32::MAX);
    operation.rollback_from = Some(from);
    for (wave, (index, on)) in (from..).zip(owed.into_iter().zip(elsewhere)) {
        let Some(done) = operation.step(index).cloned() else { continue };
        let lane: Vec<Step> = operation
            .steps
            .iter()
            // What is taken back is confirmed by nobody, and nothing gets ready for it.
            .filter(|s| {
                let around = goes_ahead(s.kind)
                    || s.kind == StepKind::Confirm
                    // Somebody else's file must not keep what is bad in use; one of ours lies there until the end.
                    || s.kind == StepKind::EnterMaintenance;
                // Who was to join need not have caught up when it is removed again.
                let proves = is_told(done.kind) && s.gate.as_ref().is_some_and(|g| g.membership.is_none());
                let aside = s.kind == StepKind::Quarantine && untouched;
                s.wave == done.wave && s.node == done.node && !s.is_hold() && !around && !proves && !aside
            })
            .cloned()
            .collect();
        let on = on.unwrap_or_else(|| done.node.clone());
        // What stands around the action stands around its undo: out of the pool, proved to serve, back in the pool.
        operation.steps.extend(lane.iter().map(|step| {
            let mut back = fresh(step, wave);
            back.node.clone_from(&on);
            if let Some(gate) = &mut back.gate {
                turn(gate, &on);
                // What is taken back was wrong before, and its group is how it is because of that.
                gate.margin = false;
                gate.probes.iter_mut().for_each(|probe| probe.baseline = None);
            }
            if step.undo.is_some() {
                // A stop disturbs where the start that it takes back did not.
                let disruptive = step.disruptive || step.kind == StepKind::Start;
                Step { kind: undoing(step.kind), action: step.undo.clone(), disruptive, ..back }
            } else {
                back
            }
        }));
        operation.waves.push(Wave {
            label: String::from(LABEL),
            state: WaveState::Pending,
            hold: quorate_model::DurationMs::ZERO,
            promote: false,
            promoted_at: None,
            parallel: None,
        });
    }
}

/// What the step that takes back one of this kind is.
const fn undoing(kind: StepKind) -> StepKind {
    match kind {
        StepKind::RunOnce => StepKind::Hook,
        StepKind::Join => StepKind::Leave,
        StepKind::Leave => StepKind::Join,
        StepKind::Start => StepKind::Stop,
        StepKind::Status
        | StepKind::Stop
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
        | StepKind::Drain
        | StepKind::Restore
        | StepKind::Confirm
        | StepKind::Retire
        | StepKind::Hook
        | StepKind::EnterMaintenance
        | StepKind::ExitMaintenance
        | StepKind::Preflight
        | StepKind::Handover
        | StepKind::Promote
        | StepKind::Switch
        | StepKind::Rejoin
        | StepKind::Quarantine
        | StepKind::Gate => StepKind::Revert,
    }
}

/// Another member that can take back a change of members, where the one that made it is not heard any more.
fn another(state: &State, operation: &Operation, index: u32) -> Option<NodeName> {
    let step = operation.step(index).filter(|step| is_told(step.kind))?;
    fence::reachable(state, &step.node)?;
    let (name, change) = membership::of(operation)?;
    let group = state.groups.get(name)?;
    let heard = |node: &&NodeName| *node != change.node && fence::reachable(state, node).is_none();
    group.spec.voters.iter().find(heard).cloned()
}

/// A gate that asked for a change of members asks for the opposite, of those that are left.
fn turn(gate: &mut GateSpec, on: &NodeName) {
    let Some(membership) = &mut gate.membership else { return };
    membership.listed = !membership.listed;
    membership.moves = false;
    gate.instance.node.clone_from(on);
    gate.probes.clear();
    gate.caught_up = false;
}

/// The same step, not begun.
fn fresh(step: &Step, wave: u32) -> Step {
    Step {
        wave,
        state: StepState::Pending,
        attempts: 0,
        started_at: None,
        ended_at: None,
        execution: None,
        grant: None,
        readings: Vec::new(),
        failure: None,
        undo: None,
        ..step.clone()
    }
}
