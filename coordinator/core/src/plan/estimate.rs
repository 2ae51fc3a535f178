//! How long a plan will take, from how long such steps took before.
//!
//! It is told and decides nothing: what must fit a window fits it by its deadlines. The history is that of the operations that
//! are kept, so that nothing more has to be replicated for it.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Reverse;

use quorate_model::{ActionSpec, DurationMs, NodeName, ServiceName, StepKind, StepState};

use crate::state::State;
use crate::state::operation::{Operation, Step};
use crate::state::plan::{Estimate, GateSpec, PlanStep, PlanWave};

/// Steps of one kind that are looked at.
const KEPT: usize = 20;
/// Operations that are looked at, newest first.
const OPERATIONS_MAX: usize = 200;

/// What steps are compared by: what they do, and to which service.
type Key<'a> = (StepKind, Option<&'a ServiceName>);

fn key<'a>(kind: StepKind, action: Option<&'a ActionSpec>, gate: Option<&'a GateSpec>) -> Key<'a> {
    (kind, action.and_then(ActionSpec::service).or(gate.map(|gate| &gate.instance.service)))
}

fn planned(step: &PlanStep) -> Key<'_> {
    key(step.kind, step.action.as_ref(), step.gate.as_ref())
}

fn took(step: &Step) -> Option<DurationMs> {
    let over = step.state == StepState::Succeeded && !step.is_hold();
    Some(step.ended_at.filter(|_| over)?.since(step.started_at?))
}

/// How long the newest steps of each wanted kind took.
fn history<'a>(state: &'a State, wanted: &BTreeMap<Key<'_>, ()>) -> BTreeMap<Key<'a>, Vec<DurationMs>> {
    let mut newest: Vec<&Operation> = state.operations.values().collect();
    newest.sort_by_key(|operation| Reverse((operation.created_at, &operation.id)));
    let mut found: BTreeMap<Key<'a>, Vec<DurationMs>> = BTreeMap::new();
    for step in newest.into_iter().take(OPERATIONS_MAX).flat_map(|operation| operation.steps.iter().rev()) {
        let Some(took) = took(step) else { continue };
        let key = key(step.kind, step.action.as_ref(), step.gate.as_ref());
        if wanted.contains_key(&key) {
            let spans = found.entry(key).or_default();
            if spans.len() < KEPT {
                spans.push(took);
            }
        }
    }
    found
}

fn median(spans: &[DurationMs]) -> Option<DurationMs> {
    let mut sorted = spans.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len().checked_div(2)?).copied()
}

/// The time of a wave whose lanes are so long, with so many at work at once.
fn side_by_side(lanes: impl Iterator<Item = DurationMs>, width: usize) -> DurationMs {
    let mut busy: Vec<DurationMs> = alloc::vec![DurationMs::ZERO; width.max(1)];
    for lane in lanes {
        if let Some(first) = busy.iter_mut().min() {
            *first = first.plus(lane);
        }
    }
    busy.into_iter().max().unwrap_or(DurationMs::ZERO)
}

fn all(waves: &[PlanWave], parallel: u32, span: impl Fn(&PlanStep) -> DurationMs) -> DurationMs {
    waves.iter().fold(DurationMs::ZERO, |sum, wave| {
        let mut lanes: BTreeMap<&NodeName, DurationMs> = BTreeMap::new();
        for step in &wave.steps {
            let lane = lanes.entry(&step.node).or_insert(DurationMs::ZERO);
            *lane = lane.plus(span(step));
        }
        let width = usize::try_from(wave.parallel.unwrap_or(parallel)).unwrap_or(1);
        sum.plus(side_by_side(lanes.into_values(), width.min(wave.steps.len())))
    })
}

/// How long waves will take, so many lanes at once.
pub(super) fn of(state: &State, waves: &[PlanWave], parallel: u32) -> Estimate {
    let steps = || waves.iter().flat_map(|wave| &wave.steps);
    let hold = |step: &PlanStep| step.gate.as_ref().map_or(DurationMs::ZERO, |gate| gate.hold);
    let mut wanted: BTreeMap<Key<'_>, ()> = BTreeMap::new();
    for step in steps().filter(|step| hold(step).is_zero()) {
        wanted.insert(planned(step), ());
    }
    let known = history(state, &wanted);
    let typical = |step: &PlanStep| known.get(&planned(step)).and_then(|spans| median(spans));
    // A hand-over that nobody needed yet takes no time.
    let missing = wanted.keys().find(|key| key.0 != StepKind::Handover && !known.contains_key(*key));
    let at_most = all(waves, parallel, |step| step.deadline);
    let Some((kind, service)) = missing else {
        let least = wanted.keys().filter_map(|key| known.get(key)).map(Vec::len).min().unwrap_or(0);
        let span = |step: &PlanStep| match hold(step) {
            DurationMs::ZERO => typical(step).unwrap_or(DurationMs::ZERO),
            hold => hold,
        };
        let basis = format!("the median of the newest steps of each kind, {least} or more of them");
        return Estimate { typical: Some(all(waves, parallel, span)), at_most, basis };
    };
    let whose = service.map_or_else(String::new, |service| format!(" of {service}"));
    Estimate { typical: None, at_most, basis: format!("no history of {kind}{whose}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> DurationMs {
        DurationMs(millis)
    }

    #[test]
    fn one_that_took_long_once_does_not_move_the_median() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[ms(5)]), Some(ms(5)));
        assert_eq!(median(&[ms(900_000), ms(4), ms(6)]), Some(ms(6)));
    }

    #[test]
    fn lanes_side_by_side_take_as_long_as_the_longest_column() {
        let lanes = || [ms(4), ms(4), ms(4), ms(10)].into_iter();
        assert_eq!(side_by_side(lanes(), 1), ms(22));
        assert_eq!(side_by_side(lanes(), 2), ms(14));
        assert_eq!(side_by_side(lanes(), 9), ms(10));
        assert_eq!(side_by_side(core::iter::empty(), 0), DurationMs::ZERO);
    }
}
