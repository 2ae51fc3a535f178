//! The look at a host before an instance is worked on there: the head of a lane that restarts, reloads or changes it.
//!
//! Only of services that declare it: a plan of any other is what it was in every release before. Going back has none, because a
//! rollback must not wait for a host to be in good order, nor has a stop or a start.

use alloc::format;

use quorate_model::{ActionKind, ActionSpec, DurationMs, PreflightSpec, Reason, Refusal, StepKind};

use super::Target;
use super::targets::Job;
use crate::observations::Observations;
use crate::state::State;
use crate::state::plan::{PlanRequest, PlanStep};

/// Longest time of all checks: an address that does not answer, the package tools at work.
const DEADLINE: DurationMs = DurationMs::from_secs(60);

/// Whether a lane around an action of this kind begins with it.
pub(super) const fn is_led(kind: StepKind) -> bool {
    match kind {
        StepKind::Restart | StepKind::Reload | StepKind::Activate => true,
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
        | StepKind::Preflight
        | StepKind::Gate => false,
    }
}

fn of<'a>(state: &'a State, target: &Target) -> Option<&'a PreflightSpec> {
    state.services.get(target.action.service()?)?.spec.preflight.as_ref().filter(|_| is_led(target.kind))
}

/// The look before it, where there is one.
pub(super) fn step(state: &State, request: &PlanRequest, target: &Target) -> Option<PlanStep> {
    let action = ActionSpec::HostPreflight {
        service: target.action.service()?.clone(),
        preflight: of(state, target)?.clone(),
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
pub(super) fn check_capabilities(state: &State, obs: &Observations, job: &Job) -> Result<(), Refusal> {
    let lacks = |target: &&Target| {
        let seen = obs.nodes.get(&target.node);
        of(state, target).is_some()
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
