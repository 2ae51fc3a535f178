//! How a plan fits into the windows that cover what it disturbs.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use quorate_model::{DurationMs, NodeName, Reason, Refusal, Timestamp, WindowName};

use crate::apply::step::doing;
use crate::safety::window::{covering, is_undo};
use crate::state::plan::{PlanStep, PlanWave};
use crate::state::{State, Window};

/// A step that a window may hold.
fn is_held(step: &PlanStep) -> bool {
    step.disruptive && !is_undo(step.kind)
}

/// The windows that cover a step.
fn windows<'a>(state: &'a State, step: &'a PlanStep) -> impl Iterator<Item = &'a Window> {
    let service = step.action.as_ref().and_then(|action| action.service());
    covering(state, &step.node, service).filter(|_| is_held(step))
}

/// The longest that a window is ever open, as far as is known.
fn longest(window: &Window, now: Timestamp) -> DurationMs {
    let known = window.known(now).map(quorate_model::Occurrence::length).max();
    known.unwrap_or_default().max(window.spec.duration)
}

/// The longest time of each node's steps in a wave.
fn lanes(wave: &PlanWave) -> BTreeMap<&NodeName, DurationMs> {
    let mut lanes: BTreeMap<&NodeName, DurationMs> = BTreeMap::new();
    for step in &wave.steps {
        let lane = lanes.entry(&step.node).or_default();
        *lane = lane.plus(step.deadline);
    }
    lanes
}

/// How much of a plan fits into each window that covers some of it, one sentence each. Counted by deadlines, wave after wave,
/// because that is what a step is held to when it starts; most steps are over long before.
///
/// # Errors
/// When a step takes longer than any window that covers it is ever open: the plan would wait there for ever.
pub(super) fn fit(state: &State, waves: &[PlanWave], now: Timestamp) -> Result<Vec<String>, Refusal> {
    let mut found: BTreeMap<&WindowName, &Window> = BTreeMap::new();
    for wave in waves {
        let lanes = lanes(wave);
        for step in &wave.steps {
            let needs = lanes.get(&step.node).copied().unwrap_or_default();
            never(state, step, needs, now)?;
            found.extend(windows(state, step).map(|window| (&window.spec.name, window)));
        }
    }
    Ok(found.into_values().map(|window| told(state, waves, window, now)).collect())
}

fn never(state: &State, step: &PlanStep, needs: DurationMs, now: Timestamp) -> Result<(), Refusal> {
    let widest = windows(state, step).max_by_key(|window| longest(window, now));
    let Some(window) = widest.filter(|window| longest(window, now) < needs) else { return Ok(()) };
    let short = needs.minus(longest(window, now));
    let (doing, name) = (doing(step.kind), &window.spec.name);
    let what =
        format!("{doing} {} may take {needs}: {short} longer than window {name} is ever open", step.node);
    Err(Refusal::new(Reason::WindowClosed, what)
        .with_hint("set shorter deadlines, or a longer window: quorate window list"))
}

fn told(state: &State, waves: &[PlanWave], window: &Window, now: Timestamp) -> String {
    let name = &window.spec.name;
    let opening = window.known(now).next();
    let room = opening.map(|o| o.end.since(o.start.max(now))).unwrap_or_default();
    let (mut before, mut fits, mut all) = (DurationMs::ZERO, 0_usize, 0_usize);
    for wave in waves {
        let lanes = lanes(wave);
        let covered = |step: &&PlanStep| windows(state, step).any(|w| w.spec.name == *name);
        for step in wave.steps.iter().filter(covered) {
            all = all.saturating_add(1);
            let needs = lanes.get(&step.node).copied().unwrap_or_default();
            if before.plus(needs) <= room {
                fits = fits.saturating_add(1);
            }
        }
        before = before.plus(lanes.values().copied().max().unwrap_or_default());
    }
    let when = match opening {
        Some(opening) if opening.start <= now => format!("open until {}", opening.end.utc()),
        Some(opening) => format!("closed until {}, then open for {}", opening.start.utc(), opening.length()),
        None => "closed, and no opening is known".into(),
    };
    format!("window {name}: {when}; {fits} of {all} steps fit")
}
