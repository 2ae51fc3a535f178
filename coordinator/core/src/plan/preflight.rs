//! The look at a host before an instance is worked on there: the head of a lane that restarts, reloads or changes it,
//! or runs a hook for it.
//!
//! Only of services that declare it: a plan of any other is what it was in every release before. Going back has none, because a
//! rollback must not wait for a host to be in good order, nor has a stop or a start.

use alloc::format;

use quorate_model::{ActionKind, ActionSpec, DurationMs, PreflightSpec, Reason, Refusal, StepKind};

use super::Target;
use super::targets::Job;
use crate::observations::Observations;
use crate::state::State;
use crate::state::plan::{Change, Goal, PlanRequest, PlanStep};

/// Longest time of all checks: an address that does not answer, the package tools at work.
const DEADLINE: DurationMs = DurationMs::from_secs(60);

/// Whether a lane around an action of this kind begins with it.
pub(super) const fn is_led(kind: StepKind) -> bool {
    match kind {
        StepKind::Restart
        | StepKind::Quarantine
        | StepKind::Reload
        | StepKind::Activate
        | StepKind::RunOnce
        | StepKind::Hook => true,
        StepKind::Status
        | StepKind::Start
        | StepKind::Stop
        | StepKind::Backup
        | StepKind::Verify
        | StepKind::Rotate
        | StepKind::Facts
        | StepKind::Diagnose
        | StepKind::Stage
        | StepKind::Revert
        | StepKind::Drain
        | StepKind::Restore
        | StepKind::Confirm
        | StepKind::EnterMaintenance
        | StepKind::ExitMaintenance
        // The host was looked at when its new secret came.
        | StepKind::Retire
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

/// Whether the work takes back what an earlier rollout brought.
const fn goes_back(goal: &Goal) -> bool {
    match goal {
        Goal::Rollout { change, .. } => match change {
            Change::Undo | Change::ConfigUndo { .. } => true,
            Change::Restart
            | Change::Reload
            | Change::Run { .. }
            | Change::Release(_)
            | Change::Secret { .. }
            | Change::Config { .. }
            | Change::ConfigDiff { .. } => false,
        },
        Goal::Run { .. }
        | Goal::Backup { .. }
        | Goal::Rotate { .. }
        | Goal::Membership { .. }
        | Goal::Failover { .. }
        | Goal::Rejoin { .. }
        | Goal::Rebuild { .. }
        | Goal::Verify { .. }
        | Goal::Host { .. } => false,
    }
}

fn of<'a>(state: &'a State, request: &PlanRequest, target: &Target) -> Option<&'a PreflightSpec> {
    let wanted = state.services.get(target.action.service()?)?.spec.preflight.as_ref();
    // A start alone has none: it brings back what served here. Who joins has never served here.
    let joins = target.kind == StepKind::Start && matches!(request.goal, Goal::Membership { .. });
    wanted.filter(|_| (is_led(target.kind) || joins) && !goes_back(&request.goal))
}

/// The look before it, where there is one.
pub(super) fn step(state: &State, request: &PlanRequest, target: &Target) -> Option<PlanStep> {
    let action = ActionSpec::HostPreflight {
        service: target.action.service()?.clone(),
        preflight: of(state, request, target)?.clone(),
        ahead_of: target.action.kind(),
        release: target.action.release().cloned(),
        backup: request.backup_first,
    };
    Some(PlanStep {
        node: target.node.clone(),
        kind: StepKind::Preflight,
        action: Some(action),
        gate: None,
        disruptive: false,
        deadline: request.step_deadline.unwrap_or(DEADLINE),
        quorum: alloc::vec::Vec::new(),
        undo: None,
        note: alloc::string::String::new(),
    })
}

/// An agent that cannot look is not asked to do what comes after.
pub(super) fn check_capabilities(
    state: &State,
    obs: &Observations,
    request: &PlanRequest,
    job: &Job,
) -> Result<(), Refusal> {
    let lacks = |target: &&Target| {
        let seen = obs.nodes.get(&target.node);
        of(state, request, target).is_some()
            && seen.is_some_and(|s| {
                !s.capabilities.is_empty() && !s.capabilities.contains(&ActionKind::HostPreflight)
            })
    };
    match job.targets.iter().find(lacks) {
        None => Ok(()),
        Some(target) => Err(Refusal::new(
            Reason::ActionUnsupported,
            format!("the agent on {} has no {}", target.node, ActionKind::HostPreflight),
        )),
    }
}
