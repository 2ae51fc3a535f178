//! The hand-over before an instance that may lead is disturbed.
//!
//! It stands in every lane of a service that declares one, because who leads when the lane begins is not known now; in the lane
//! of one that does not lead then it ends at once. A rollback has none: it must not wait for anybody.

use alloc::collections::BTreeSet;
use alloc::format;

use quorate_model::{ActionKind, ActionSpec, HandoverSpec, NodeName, Reason, Refusal, StepKind};

use super::Target;
use super::targets::Job;
use crate::observations::Observations;
use crate::state::State;
use crate::state::plan::PlanStep;

/// Whether who leads hands over before a step of this kind.
const fn is_disturbed(kind: StepKind) -> bool {
    match kind {
        StepKind::Stop
        | StepKind::Quarantine
        | StepKind::Restart
        | StepKind::Activate
        | StepKind::Retire
        | StepKind::Revert
        | StepKind::Hook => true,
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

fn of<'a>(state: &'a State, target: &Target) -> Option<&'a HandoverSpec> {
    let wanted = state.services.get(target.action.service()?)?.spec.handover.as_ref();
    wanted.filter(|_| is_disturbed(target.kind))
}

/// The hand-over before it, where there is one and somebody else could lead: `stopping` are those that will not be there.
pub(super) fn step(state: &State, target: &Target, stopping: &BTreeSet<NodeName>) -> Option<PlanStep> {
    let handover = of(state, target)?;
    let service = target.action.service()?;
    let other = |node: &NodeName| *node != target.node && !stopping.contains(node);
    let could = state
        .groups_of(service, &target.node)
        .any(|group| group.spec.voters.contains(&target.node) && group.spec.voters.iter().any(other));
    if !could {
        return None;
    }
    let action = ActionSpec::ExecRun {
        service: service.clone(),
        hook: handover.hook.clone(),
        once: false,
        release: None,
        targets: alloc::vec::Vec::new(),
    };
    Some(PlanStep {
        node: target.node.clone(),
        kind: StepKind::Handover,
        disruptive: super::is_disruptive(&action),
        action: Some(action),
        gate: None,
        deadline: handover.timeout,
        quorum: alloc::vec::Vec::new(),
        undo: None,
        note: format!("{}, if it leads then", handover.hook),
    })
}

/// An agent that cannot run a hook is not asked to do what comes after.
pub(super) fn check_capabilities(state: &State, obs: &Observations, job: &Job) -> Result<(), Refusal> {
    let lacks = |target: &&Target| {
        let seen = obs.nodes.get(&target.node);
        let told = seen.filter(|seen| !seen.capabilities.is_empty());
        of(state, target).is_some() && told.is_some_and(|s| !s.capabilities.contains(&ActionKind::ExecRun))
    };
    match job.targets.iter().find(lacks) {
        None => Ok(()),
        Some(target) => Err(Refusal::new(
            Reason::ActionUnsupported,
            format!("the agent on {} has no {}", target.node, ActionKind::ExecRun),
        )),
    }
}
