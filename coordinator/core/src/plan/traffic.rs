//! The steps around a disturbance of an instance behind a load balancer: out of the pool before it, back after its gate.

use alloc::format;

use quorate_model::{ActionKind, ActionSpec, DurationMs, Reason, Refusal, StepKind, TrafficSpec};

use super::targets::Job;
use super::{Target, actions};
use crate::observations::Observations;
use crate::state::State;
use crate::state::plan::{PlanRequest, PlanStep};

/// On top of the service's own wait for connections: telling every balancer, and the undo when the wait was in vain.
const DRAIN_SLACK: DurationMs = DurationMs::from_secs(60);
/// Longest default time until every balancer says that an instance serves: its checks must pass as often as it wants.
const RESTORE_DEADLINE: DurationMs = DurationMs::from_secs(120);
/// On top of a lane's own steps, before its host puts the instance back alone: a change of leader, a busy fleet.
const LANE_SLACK: DurationMs = DurationMs::from_secs(300);

/// Whether connections must have ended before a step of this kind.
const fn is_drained(kind: StepKind) -> bool {
    match kind {
        StepKind::Stop
        | StepKind::Quarantine
        | StepKind::Restart
        | StepKind::Activate
        | StepKind::Revert
        | StepKind::Retire => true,
        StepKind::Start
        | StepKind::Status
        | StepKind::Reload
        | StepKind::Backup
        | StepKind::Verify
        | StepKind::Rotate
        | StepKind::Stage
        | StepKind::Facts
        | StepKind::Diagnose
        | StepKind::Drain
        | StepKind::Restore
        | StepKind::Confirm
        | StepKind::RunOnce
        | StepKind::Hook
        | StepKind::EnterMaintenance
        | StepKind::ExitMaintenance
        | StepKind::Preflight
        | StepKind::Handover
        | StepKind::Join
        | StepKind::Leave
        | StepKind::Promote
        | StepKind::Switch
        | StepKind::Rejoin
        | StepKind::Gate => false,
    }
}

/// Whether the instance belongs into its pool after a step of this kind. A start is what brings one back that was stopped or
/// left out.
const fn is_restored(kind: StepKind) -> bool {
    match kind {
        StepKind::Start
        | StepKind::Quarantine
        | StepKind::Restart
        | StepKind::Activate
        | StepKind::Revert
        | StepKind::Retire => true,
        StepKind::Stop
        | StepKind::Status
        | StepKind::Reload
        | StepKind::Backup
        | StepKind::Verify
        | StepKind::Rotate
        | StepKind::Stage
        | StepKind::Facts
        | StepKind::Diagnose
        | StepKind::Drain
        | StepKind::Restore
        | StepKind::Confirm
        | StepKind::RunOnce
        | StepKind::Hook
        | StepKind::EnterMaintenance
        | StepKind::ExitMaintenance
        | StepKind::Preflight
        | StepKind::Handover
        | StepKind::Join
        | StepKind::Leave
        | StepKind::Promote
        | StepKind::Switch
        | StepKind::Rejoin
        | StepKind::Gate => false,
    }
}

fn of<'a>(state: &'a State, target: &Target) -> Option<&'a TrafficSpec> {
    state.services.get(target.action.service()?)?.spec.traffic.as_ref()
}

fn step(target: &Target, kind: StepKind, action: ActionSpec, deadline: DurationMs) -> PlanStep {
    PlanStep {
        node: target.node.clone(),
        kind,
        disruptive: super::is_disruptive(&action),
        action: Some(action),
        gate: None,
        deadline,
        quorum: alloc::vec::Vec::new(),
        undo: None,
        note: alloc::string::String::new(),
    }
}

/// The drain before it, where there is one.
pub(super) fn drain(state: &State, request: &PlanRequest, target: &Target) -> Option<PlanStep> {
    let traffic = of(state, target).filter(|_| is_drained(target.kind))?;
    let service = target.action.service()?.clone();
    let deadline = request.step_deadline.unwrap_or_else(|| traffic.drain_timeout.plus(DRAIN_SLACK));
    let rest = [actions::gate(state, request, target), restore(state, request, target)];
    let restore_within = rest
        .into_iter()
        .flatten()
        .fold(deadline.plus(LANE_SLACK), |sum, step| sum.plus(step.deadline))
        .plus(actions::action(state, request, target).deadline);
    let action = ActionSpec::TrafficDrain { service, traffic: traffic.clone(), restore_within };
    Some(step(target, StepKind::Drain, action, deadline))
}

/// The way back after it, where there is one.
pub(super) fn restore(state: &State, request: &PlanRequest, target: &Target) -> Option<PlanStep> {
    let traffic = of(state, target).filter(|_| is_restored(target.kind))?;
    let service = target.action.service()?.clone();
    let deadline = request.step_deadline.unwrap_or(RESTORE_DEADLINE);
    let action = ActionSpec::TrafficRestore { service, traffic: traffic.clone() };
    Some(step(target, StepKind::Restore, action, deadline))
}

/// An agent that can restart a service and cannot drain it is not asked to do the one without the other.
pub(super) fn check_capabilities(state: &State, obs: &Observations, job: &Job) -> Result<(), Refusal> {
    for target in &job.targets {
        let needed = [
            (ActionKind::TrafficDrain, is_drained(target.kind)),
            (ActionKind::TrafficRestore, is_restored(target.kind)),
        ];
        let Some(seen) = obs.nodes.get(&target.node) else { continue };
        if of(state, target).is_none() || seen.capabilities.is_empty() {
            continue;
        }
        let lacking = needed.iter().find(|(kind, asked)| *asked && !seen.capabilities.contains(kind));
        if let Some((kind, _)) = lacking {
            return Err(Refusal::new(
                Reason::ActionUnsupported,
                format!("the agent {} on {} has no {kind}", seen.agent_version, target.node),
            ));
        }
    }
    Ok(())
}
