//! The guards of a plan that puts a member's data aside: all of it on one node, in one lane that can be taken back.

use quorate_model::{ActionSpec, DataVerb, OnFailure, Refusal, StepKind};

use super::validate;
use crate::state::State;
use crate::state::plan::{Goal, Plan, PlanStep};

/// Data is put aside only for this purpose, only what its service declares, and only between a stop and a start whose gate asks
/// whether it has caught up.
pub(super) fn check(state: &State, plan: &Plan) -> Result<(), Refusal> {
    let odd = || Err(validate::bad("waves: a step does not belong to the rebuilding of a member"));
    let touches =
        |s: &PlanStep| s.kind == StepKind::Quarantine || matches!(s.action, Some(ActionSpec::Data { .. }));
    let Goal::Rebuild { group, node } = &plan.request.goal else {
        return if plan.steps().any(|(_, s)| touches(s)) { odd() } else { Ok(()) };
    };
    let Some(found) = state.groups.get(group) else { return odd() };
    let declared = state.services.get(&found.spec.service).and_then(|s| s.spec.data.as_ref());
    let once = plan.request.on_failure == OnFailure::Rollback && plan.request.max_failures == 0;
    if plan.waves.len() != 1 || !once || plan.steps().any(|(_, s)| s.node != *node) {
        return odd();
    }
    let of_service =
        |s: &PlanStep| s.action.as_ref().and_then(ActionSpec::service) == Some(&found.spec.service);
    let steps: alloc::vec::Vec<&PlanStep> = plan.steps().map(|(_, s)| s).collect();
    let Some(at) = steps.iter().position(|s| touches(s)) else { return odd() };
    let around = |from: usize| steps.get(at.saturating_add(from)).copied();
    let before = at.checked_sub(1).and_then(|before| steps.get(before)).copied();
    let in_order = before.is_some_and(|s| s.kind == StepKind::Stop && of_service(s))
        && around(1).is_some_and(|s| s.kind == StepKind::Start && of_service(s))
        && around(2).is_some_and(|s| s.gate.as_ref().is_some_and(|gate| gate.caught_up));
    let once = steps.iter().filter(|s| touches(s) || s.undo.is_some()).count() == 1;
    let fits = around(0).is_some_and(|s| match (&s.action, &s.undo) {
        (
            Some(ActionSpec::Data { service, paths, quarantine, verb: DataVerb::Quarantine }),
            Some(ActionSpec::Data { service: other, paths: back, quarantine: same, verb: DataVerb::Revert }),
        ) => {
            let own = declared.is_some_and(|data| data.paths == *paths) && *service == found.spec.service;
            s.kind == StepKind::Quarantine && own && (other, back, same) == (service, paths, quarantine)
        }
        _ => false,
    });
    if in_order && once && fits { Ok(()) } else { odd() }
}
