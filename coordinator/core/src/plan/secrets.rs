//! Rotations in a plan: the new secret on every member, one after the other and each confirmed; then, after the grace, the one
//! before is removed in waves of the same shape.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use quorate_model::{
    ActionSpec, DurationMs, GroupName, Reason, Refusal, RotationId, SecretName, SecretVerb, StepKind,
    StepState,
};

use super::targets::{Job, lacks};
use crate::state::operation::{Operation, Step};
use crate::state::plan::{Change, Goal, PlanRequest, PlanStep, PlanWave};
use crate::state::{Service, State};

/// What a wave is called in which the secret from before is removed.
const LABEL: &str = "retire";

/// What stands around the first phase of a lane, and around its second.
const AROUND: [StepKind; 5] = [
    StepKind::Handover,
    StepKind::EnterMaintenance,
    StepKind::Drain,
    StepKind::Restore,
    StepKind::ExitMaintenance,
];

fn removals(operation: &Operation) -> impl Iterator<Item = &Step> {
    operation.steps.iter().filter(|step| step.kind == StepKind::Retire)
}

/// The last rotation of a secret of a group that removed it somewhere, if it ended before it had removed it everywhere: the next
/// one goes on with it. One that was finished is not gone on with: then every member refuses the secret that it has.
fn stopped(state: &State, group: &GroupName, name: &SecretName) -> Option<RotationId> {
    let rotates = |operation: &&Operation| {
        matches!(&operation.request.goal, Goal::Rollout { group: of, change: Change::Secret { secret } }
            if of == group && secret == name)
    };
    let began = |operation: &&Operation| removals(operation).any(|s| s.started_at.is_some());
    let last = state.operations.values().filter(rotates).filter(began);
    let last = last.max_by_key(|operation| (operation.created_at, &operation.id))?;
    if !last.state.is_terminal() || removals(last).all(|s| s.state == StepState::Succeeded) {
        return None;
    }
    removals(last).find_map(|step| {
        let ActionSpec::Secret { rotation, .. } = step.action.as_ref()? else { return None };
        Some(rotation.clone())
    })
}

/// What is said of a rotation that goes on with another one.
pub(super) fn resumed(targets: &[super::Target]) -> Option<String> {
    targets.iter().find_map(|target| {
        let ActionSpec::Secret { secret, resumes: Some(before), .. } = &target.action else { return None };
        let name = &secret.name;
        Some(format!(
            "{name} was removed somewhere by {before}, which stopped: this goes on, and is never rolled back"
        ))
    })
}

/// The action that puts the next secret of a service in place.
pub(super) fn install(
    state: &State,
    group: &GroupName,
    service: &Service,
    name: &SecretName,
    mint: &mut dyn FnMut() -> u64,
) -> Result<ActionSpec, Refusal> {
    let secret = service.spec.secrets.iter().find(|secret| secret.name == *name).ok_or_else(|| {
        lacks(&service.spec.name, &format!("secret {name}"))
            .with_hint("declare under `secrets` where it lies and what confirms it, then plan again")
    })?;
    let rotation = RotationId::new(quorate_model::minted("k", mint()))
        .map_err(|e| Refusal::new(Reason::Internal, format!("{e}")))?;
    let resumes = stopped(state, group, name);
    let (service, secret) = (service.spec.name.clone(), secret.clone());
    Ok(ActionSpec::Secret { service, secret, rotation, verb: SecretVerb::Install, resumes })
}

/// Another part of the rotation that an action is of, if it is of one.
pub(super) fn part(action: &ActionSpec, verb: SecretVerb) -> Option<ActionSpec> {
    let ActionSpec::Secret { service, secret, rotation, verb: _, resumes } = action else { return None };
    let (service, secret, rotation) = (service.clone(), secret.clone(), rotation.clone());
    Some(ActionSpec::Secret { service, secret, rotation, verb, resumes: resumes.clone() })
}

fn rotates(request: &PlanRequest) -> bool {
    matches!(&request.goal, Goal::Rollout { change: Change::Secret { .. }, .. })
}

/// No failure of a rotation is tolerated: a member that has not confirmed would be left without a secret that is valid.
pub(super) fn check(request: &PlanRequest) -> Result<(), Refusal> {
    if rotates(request) && request.max_failures > 0 {
        let what = "max_failures: a rotation retires nothing unless every member has confirmed";
        return Err(Refusal::new(Reason::InvalidArgument, what));
    }
    Ok(())
}

/// No member is left out, for the same reason.
pub(super) fn check_whole(job: &Job, members: usize) -> Result<(), Refusal> {
    let of_secret = |target: &super::Target| part(&target.action, SecretVerb::Install).is_some();
    if job.targets.len() < members && job.targets.iter().any(of_secret) {
        let missing = members.saturating_sub(job.targets.len());
        let what =
            format!("{missing} of {members} members can not be reached, and a rotation needs all of them");
        return Err(Refusal::new(Reason::AgentDisconnected, what)
            .with_hint("bring their agents back, or take the members out of the group"));
    }
    Ok(())
}

/// The second phase, made of the waves of the first: the same members in the same order, with what stands around each.
pub(super) fn retiring(waves: &[PlanWave]) -> Vec<PlanWave> {
    let retire = |step: &PlanStep| {
        let action = step.action.as_ref().and_then(|action| part(action, SecretVerb::Retire));
        if step.kind == StepKind::Activate && action.is_some() {
            return Some(PlanStep { kind: StepKind::Retire, action, undo: None, ..step.clone() });
        }
        let around =
            AROUND.contains(&step.kind) || step.gate.as_ref().is_some_and(|gate| gate.hold.is_zero());
        around.then(|| step.clone())
    };
    let installs = |wave: &&PlanWave| {
        let is = |s: &PlanStep| {
            s.kind == StepKind::Activate
                && s.action.as_ref().is_some_and(|action| part(action, SecretVerb::Install).is_some())
        };
        wave.steps.iter().any(is)
    };
    let wave = |wave: &PlanWave| PlanWave {
        label: LABEL.to_string(),
        steps: wave.steps.iter().filter_map(retire).collect(),
        hold: DurationMs::ZERO,
        promote: false,
        parallel: None,
    };
    waves.iter().filter(installs).map(wave).collect()
}
