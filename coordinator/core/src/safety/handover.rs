//! Who leads hands over before it is disturbed.
//!
//! Whether an instance leads is judged when its lane begins, not when it was planned, by readings that are fresh then; and the
//! hook's word that it has handed over proves nothing: another member has to be seen to lead. What is not known stands still.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use quorate_model::service::HANDOVER_TARGETS_MAX;
use quorate_model::{
    ActionSpec, ExecutionState, InstanceId, InstanceReading, InstanceRole, NodeName, Reason, Refusal,
    StepKind, StepState, Timestamp,
};

use super::availability::{Evidence, does_not_serve, is_current, member};
use super::lease::is_lead;
use crate::state::operation::{Operation, Step};
use crate::state::{Group, State};

/// Whether an instance leads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leads {
    Yes,
    No,
    Unknown,
}

/// The instance that a hand-over's step is about; none for any other step.
#[must_use]
pub fn instance(step: &Step) -> Option<InstanceId> {
    let service = step.action.as_ref().filter(|_| step.kind == StepKind::Handover)?.service()?;
    Some(InstanceId { node: step.node.clone(), service: service.clone() })
}

/// The groups in which an instance has a vote: only there it can lead.
fn voted<'a>(state: &'a State, instance: &'a InstanceId) -> impl Iterator<Item = &'a Group> {
    let votes = |group: &&Group| group.spec.voters.contains(&instance.node);
    state.groups_of(&instance.service, &instance.node).filter(votes)
}

fn leads(state: &State, instance: &InstanceId, evidence: &Evidence<'_>, now: Timestamp) -> Leads {
    if voted(state, instance).next().is_none() {
        return Leads::No;
    }
    match evidence.get(instance).filter(|reading| is_current(state, reading, now)) {
        // One that is out has nothing that it could hand over.
        Some(reading) if does_not_serve(reading) => Leads::No,
        Some(reading) if is_lead(reading.role) => Leads::Yes,
        Some(InstanceReading { role: InstanceRole::Unknown, .. }) | None => Leads::Unknown,
        Some(_) => Leads::No,
    }
}

/// Who may take over: voters of the same groups that count as available.
fn heirs(state: &State, instance: &InstanceId, evidence: &Evidence<'_>, now: Timestamp) -> Vec<NodeName> {
    let fits = |node: &NodeName| {
        let id = InstanceId { node: node.clone(), service: instance.service.clone() };
        *node != instance.node && member(state, &id, evidence, now).is_available()
    };
    let Some(group) = voted(state, instance).next() else { return Vec::new() };
    let everywhere = |node: &&NodeName| voted(state, instance).all(|g| g.spec.voters.contains(*node));
    let heirs = group.spec.voters.iter().filter(everywhere).filter(|node| fits(node));
    heirs.take(HANDOVER_TARGETS_MAX).cloned().collect()
}

/// Why a hand-over may not begin: nobody can tell whether it leads, or nobody may take over from it.
#[must_use]
pub fn refuses(state: &State, step: &Step, evidence: &Evidence<'_>, now: Timestamp) -> Option<Refusal> {
    let instance = instance(step)?;
    match leads(state, &instance, evidence, now) {
        Leads::No => None,
        Leads::Unknown => {
            Some(Refusal::new(Reason::EvidenceStale, format!("whether {instance} leads is not known")))
        }
        Leads::Yes if heirs(state, &instance, evidence, now).is_empty() => {
            let what = format!("{instance} leads, and no other member may take over");
            Some(Refusal::new(Reason::WrongState, what))
        }
        Leads::Yes => None,
    }
}

/// Whether there is nothing to hand over, as is shown by a fresh reading.
#[must_use]
pub fn is_needless(state: &State, step: &Step, evidence: &Evidence<'_>, now: Timestamp) -> bool {
    instance(step).is_some_and(|instance| leads(state, &instance, evidence, now) == Leads::No)
}

/// Whether a step was a hand-over with nothing to hand over: its lane goes on.
#[must_use]
pub fn was_needless(step: &Step) -> bool {
    step.kind == StepKind::Handover && step.state == StepState::Skipped
}

/// Whether a step of this kind takes away an instance that serves until then.
const fn takes_away(kind: StepKind) -> bool {
    match kind {
        StepKind::Drain
        | StepKind::Stop
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
        | StepKind::Quarantine
        | StepKind::Gate => false,
    }
}

/// Why an instance may not be taken away yet, although its lane found nothing to hand over when it began: whether it leads by now is
/// not known. What the lane did meanwhile made older readings worth nothing.
#[must_use]
pub fn unsure_by_now(
    state: &State,
    operation: &Operation,
    step: &Step,
    evidence: &Evidence<'_>,
    now: Timestamp,
) -> Option<Refusal> {
    let lane = |s: &&Step| s.wave == step.wave && s.node == step.node;
    let skipped = operation.steps.iter().filter(lane).find(|s| was_needless(s));
    let instance = instance(skipped.filter(|_| takes_away(step.kind))?)?;
    let unsure = leads(state, &instance, evidence, now) == Leads::Unknown;
    unsure
        .then(|| Refusal::new(Reason::EvidenceStale, format!("whether {instance} leads by now is not known")))
}

/// The hand-over of a lane that had nothing to hand over when the lane began, where `index` would disturb an instance that
/// leads by now.
#[must_use]
pub fn leads_by_now(
    state: &State,
    operation: &Operation,
    index: u32,
    evidence: &Evidence<'_>,
    now: Timestamp,
) -> Option<u32> {
    let step = operation.step(index).filter(|step| takes_away(step.kind))?;
    let ahead = |(i, s): &(u32, &Step)| *i < index && s.wave == step.wave && s.node == step.node;
    let (earlier, skipped) = operation.indexed().filter(ahead).find(|(_, s)| was_needless(s))?;
    let leads = leads(state, &instance(skipped)?, evidence, now);
    (leads == Leads::Yes).then_some(earlier)
}

/// The action of a step as it is handed to its node: a hand-over's hook is told who may take over.
#[must_use]
pub fn told(
    state: &State,
    step: &Step,
    action: ActionSpec,
    evidence: &Evidence<'_>,
    now: Timestamp,
) -> ActionSpec {
    match (instance(step), action) {
        (Some(instance), ActionSpec::ExecRun { service, hook, once, release, targets: _ }) => {
            let targets = heirs(state, &instance, evidence, now);
            ActionSpec::ExecRun { service, hook, once, release, targets }
        }
        (_, action) => action,
    }
}

/// When the hook of a hand-over was done, for one that waits until it is seen.
#[must_use]
pub fn awaited(state: &State, step: &Step) -> Option<Timestamp> {
    let waits = step.kind == StepKind::Handover && step.state == StepState::Running;
    let execution = state.executions.get(step.execution.as_ref().filter(|_| waits)?)?;
    (execution.state == ExecutionState::Succeeded).then_some(execution.updated_at)
}

/// What is still missing until an instance has handed over, if anything: it is seen not to lead, and another voter that serves
/// is seen to lead, both after the hook.
#[must_use]
pub fn missing(state: &State, step: &Step, evidence: &Evidence<'_>, now: Timestamp) -> Option<String> {
    let (Some(instance), Some(since)) = (instance(step), awaited(state, step)) else {
        return Some(String::from("its hook is not done"));
    };
    let current = |id: &InstanceId| {
        evidence.get(id).filter(|reading| reading.at > since && is_current(state, reading, now))
    };
    match current(&instance) {
        None => return Some(format!("no reading of {instance} since its hook")),
        Some(reading) if is_lead(reading.role) => return Some(format!("{instance} leads as before")),
        Some(_) => {}
    }
    let led = |group: &&Group| {
        group.spec.voters.iter().filter(|node| **node != instance.node).any(|node| {
            let id = InstanceId { node: node.clone(), service: instance.service.clone() };
            let leads = current(&id).is_some_and(|reading| is_lead(reading.role));
            leads && member(state, &id, evidence, now).is_available()
        })
    };
    let leaderless = voted(state, &instance).find(|group| !led(group))?;
    Some(format!("no other member of {} is seen to lead", leaderless.spec.name))
}
