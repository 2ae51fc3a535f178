//! When a secret may be removed: every member works with the one after it, and has for long enough.
//!
//! Must never: count a member that was skipped, failed or came later as one that has confirmed, or let the grace be shorter
//! because somebody else leads now: it is counted from what is recorded.

use alloc::collections::BTreeSet;
use alloc::format;

use quorate_model::{
    ActionSpec, NodeName, Reason, Refusal, SecretSpec, SecretVerb, StepKind, StepState, Timestamp,
};

use crate::state::State;
use crate::state::operation::{Operation, Step};
use crate::state::plan::{Change, Goal, Plan};

fn secret_of(action: Option<&ActionSpec>, wanted: SecretVerb) -> Option<&SecretSpec> {
    let ActionSpec::Secret { secret, verb, .. } = action? else { return None };
    (*verb == wanted).then_some(secret)
}

/// Why a step of a wave that removes a secret may not begin yet, if it may not.
#[must_use]
pub fn retirable(state: &State, operation: &Operation, step: &Step, now: Timestamp) -> Option<Refusal> {
    // A whole lane waits: nobody is taken out of a pool for a removal that may not begin.
    let retires = |s: &&Step| s.wave == step.wave && s.kind == StepKind::Retire;
    let retire = operation.steps.iter().find(retires)?;
    let wrong = |what| Some(Refusal::new(Reason::WrongState, what));
    let Some(secret) = secret_of(retire.action.as_ref(), SecretVerb::Retire) else {
        return wrong("it does not say which secret is to be retired".into());
    };
    let name = &secret.name;
    let Goal::Rollout { group, .. } = &operation.request.goal else {
        return wrong(format!("{name} is retired by a rotation of its group alone"));
    };
    let Some(group) = state.groups.get(group) else {
        return wrong(format!("{name}: there is no group {group} any more"));
    };
    let mut confirmed: BTreeSet<&NodeName> = BTreeSet::new();
    let mut last = Timestamp::ZERO;
    for step in &operation.steps {
        let is =
            secret_of(step.action.as_ref(), SecretVerb::Confirm).is_some_and(|other| other.name == *name);
        if let (true, StepState::Succeeded, Some(at)) = (is, step.state, step.ended_at) {
            confirmed.insert(&step.node);
            last = last.max(at);
        }
    }
    let mut members = group.spec.voters.iter().chain(&group.spec.learners);
    if let Some(node) = members.find(|node| !confirmed.contains(*node)) {
        return wrong(format!("{node} has not confirmed the new {name}: the one before stays valid"));
    }
    let due = last.plus(secret.grace);
    (now < due).then(|| {
        let what = format!("every member has confirmed the new {name}; both are valid until {}", due.utc());
        Refusal::new(Reason::WrongState, what)
    })
}

/// The guards of a plan with a rotation: each member whose secret is put in place confirms it, and nothing is retired in the wave
/// that does either.
///
/// # Errors
/// What is missing.
pub fn check(plan: &Plan) -> Result<(), Refusal> {
    let mut installed: BTreeSet<&NodeName> = BTreeSet::new();
    let mut confirmed: BTreeSet<&NodeName> = BTreeSet::new();
    let (mut last, mut first) = (0, usize::MAX);
    let mut any = false;
    for (wave, step) in plan.steps() {
        let Some(ActionSpec::Secret { verb, .. }) = &step.action else { continue };
        any = true;
        match verb {
            SecretVerb::Install => drop(installed.insert(&step.node)),
            SecretVerb::Confirm => {
                confirmed.insert(&step.node);
                last = last.max(wave);
            }
            SecretVerb::Retire => first = first.min(wave),
            SecretVerb::Stage | SecretVerb::Revert => {}
        }
    }
    let rotates = matches!(&plan.request.goal, Goal::Rollout { change: Change::Secret { .. }, .. });
    let tolerant = plan.request.max_failures > 0;
    if any && (!rotates || tolerant || installed != confirmed || first <= last) {
        return Err(Refusal::new(
            Reason::InvalidArgument,
            "waves: a secret is retired once every member has confirmed the new one, and not before",
        ));
    }
    Ok(())
}
