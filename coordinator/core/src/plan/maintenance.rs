//! What an instance is told while it is worked on: the file is there before anything is taken from it, and goes once its gate has
//! shown that it serves and it has its traffic back. Verify first, then clear: an instance that does not come back keeps it until
//! a rollback has mended it, its operation has ended, or its host takes it away alone.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use quorate_model::{
    ActionKind, ActionSpec, DurationMs, MaintenanceSpec, Reason, Refusal, SilenceSpec, StepKind,
};

use super::targets::Job;
use super::{Target, actions, traffic};
use crate::expand;
use crate::observations::Observations;
use crate::state::State;
use crate::state::plan::{PlanRequest, PlanStep};

/// Longest time to write or remove a file.
const DEADLINE: DurationMs = DurationMs::from_secs(60);
/// On top of a lane's own steps, before its host takes the file away alone: a change of leader, a busy fleet.
const LANE_SLACK: DurationMs = DurationMs::from_secs(300);

/// Whether an instance is told of an action of this kind. What it is told must end: a stop has no gate that would.
const fn is_told(kind: StepKind) -> bool {
    match kind {
        StepKind::Restart | StepKind::Activate | StepKind::Retire | StepKind::Revert => true,
        StepKind::Status
        | StepKind::Start
        | StepKind::Stop
        | StepKind::Reload
        | StepKind::Backup
        | StepKind::Verify
        | StepKind::Rotate
        | StepKind::Facts
        | StepKind::Diagnose
        | StepKind::Stage
        | StepKind::Drain
        | StepKind::Restore
        | StepKind::Confirm
        | StepKind::RunOnce
        | StepKind::Hook
        | StepKind::Handover
        | StepKind::Join
        | StepKind::Leave
        | StepKind::Promote
        | StepKind::Switch
        | StepKind::Rejoin
        | StepKind::Quarantine
        | StepKind::EnterMaintenance
        | StepKind::ExitMaintenance
        | StepKind::Preflight
        | StepKind::Gate => false,
    }
}

fn of<'a>(state: &'a State, target: &Target) -> Option<&'a MaintenanceSpec> {
    state.services.get(target.action.service()?)?.spec.maintenance.as_ref().filter(|_| is_told(target.kind))
}

/// Which alerts are silenced, and where: for people.
fn silences(maintenance: &MaintenanceSpec) -> Option<String> {
    let SilenceSpec { url, matchers, required } = maintenance.silence.as_ref()?;
    let matchers: Vec<String> = matchers.iter().map(ToString::to_string).collect();
    let needed = if *required { ", or nothing is disturbed" } else { "" };
    Some(format!("silences {{{}}} at {url}{needed}", matchers.join(",")))
}

/// What a job silences, for the notes of its plan: each service once, as it is declared.
pub(super) fn notes(state: &State, job: &Job) -> Vec<String> {
    let told = |target: &Target| {
        let what = of(state, target).and_then(silences)?;
        Some(format!("{}: while an instance is worked on, {what}", target.action.service()?))
    };
    let each: BTreeSet<String> = job.targets.iter().filter_map(told).collect();
    each.into_iter().collect()
}

fn step(request: &PlanRequest, target: &Target, kind: StepKind, action: ActionSpec) -> PlanStep {
    PlanStep {
        node: target.node.clone(),
        kind,
        disruptive: super::is_disruptive(&action),
        action: Some(action),
        gate: None,
        deadline: request.step_deadline.unwrap_or(DEADLINE),
        quorum: Vec::new(),
        undo: None,
        note: String::new(),
    }
}

/// The announcement before it, where there is one.
pub(super) fn enter(state: &State, request: &PlanRequest, target: &Target) -> Option<PlanStep> {
    let maintenance = of(state, target)?.clone();
    let exit_within = maintenance.lease.unwrap_or_else(|| lane(state, request, target));
    let service = target.action.service()?.clone();
    let reason = request.reason.clone();
    let action = ActionSpec::MaintenanceEnter { service, maintenance, exit_within, reason };
    let spec = &state.services.get(action.service()?)?.spec;
    let filled = expand::action(&action, spec, &target.node);
    let told = if let ActionSpec::MaintenanceEnter { maintenance, .. } = &filled {
        silences(maintenance)
    } else {
        None
    };
    let note = told.unwrap_or_default();
    Some(PlanStep { note, ..step(request, target, StepKind::EnterMaintenance, action) })
}

/// The longest time that a lane may be at work from the announcement on.
fn lane(state: &State, request: &PlanRequest, target: &Target) -> DurationMs {
    let around = [
        traffic::drain(state, request, target),
        actions::gate(state, request, target),
        traffic::restore(state, request, target),
        exit(state, request, target),
    ];
    let own = actions::action(state, request, target).deadline.plus(DEADLINE).plus(LANE_SLACK);
    around.into_iter().flatten().fold(own, |sum, step| sum.plus(step.deadline))
}

/// Its end after the gate and the traffic, where there is one.
pub(super) fn exit(state: &State, request: &PlanRequest, target: &Target) -> Option<PlanStep> {
    let maintenance = of(state, target)?.clone();
    let action = ActionSpec::MaintenanceExit { service: target.action.service()?.clone(), maintenance };
    Some(step(request, target, StepKind::ExitMaintenance, action))
}

/// An agent that cannot tell an instance is not asked to work on it.
pub(super) fn check_capabilities(state: &State, obs: &Observations, job: &Job) -> Result<(), Refusal> {
    for target in job.targets.iter().filter(|target| of(state, target).is_some()) {
        let Some(seen) = obs.nodes.get(&target.node).filter(|seen| !seen.capabilities.is_empty()) else {
            continue;
        };
        let needed = [ActionKind::MaintenanceEnter, ActionKind::MaintenanceExit];
        if let Some(kind) = needed.iter().find(|kind| !seen.capabilities.contains(kind)) {
            return Err(Refusal::new(
                Reason::ActionUnsupported,
                format!("the agent {} on {} has no {kind}", seen.agent_version, target.node),
            ));
        }
    }
    Ok(())
}
