//! Windows: declared, told their openings, announced, forgotten.

use alloc::format;

use quorate_model::window::ANNOUNCE_EARLIEST;
use quorate_model::{DurationMs, Occurrence, Reason, Refusal, Revision, Timestamp, WindowName, WindowSpec};

use super::known_workloads;
use crate::apply::declared::expected;
use crate::apply::{Context, Effect};
use crate::state::calendar::{OPENINGS_MAX, WINDOWS_MAX};
use crate::state::{State, Window};

fn none(name: &WindowName) -> Refusal {
    Refusal::new(Reason::NotFound, format!("there is no window {name}"))
}

pub(super) fn put(
    state: &mut State,
    context: &Context<'_>,
    spec: &WindowSpec,
    expect: Option<Revision>,
) -> Result<Effect, Refusal> {
    let name = &spec.name;
    let known = state.windows.get(name);
    expected(&format!("window {name}"), expect, known.map(|w| w.revision))?;
    spec.check()
        .map_err(|invalid| Refusal::new(invalid.reason(), format!("{}: {invalid}", invalid.field())))?;
    if known.is_some_and(|window| window.spec == *spec) {
        return Ok(Effect::unchanged(context.done()));
    }
    known_workloads(state, &spec.services)?;
    if known.is_none() && state.windows.len() >= WINDOWS_MAX {
        return Err(Refusal::new(Reason::LimitReached, format!("there are {WINDOWS_MAX} windows already"))
            .with_hint("delete those that nobody needs: quorate window list"));
    }
    let window = Window {
        spec: spec.clone(),
        applied_by: context.principal.clone(),
        created_at: known.map_or(context.now, |window| window.created_at),
        revision: context.revision,
        until: None,
        openings: alloc::vec::Vec::new(),
        // Kept: an opening that stays where it was is not announced again because its owner has changed.
        announced: known.map(|window| window.announced.clone()).unwrap_or_default(),
    };
    state.windows.insert(name.clone(), window);
    Ok(Effect::changed(context.done(), format!("windows/{name}"), spec.reason.clone()))
}

pub(super) fn delete(
    state: &mut State,
    context: &Context<'_>,
    name: &WindowName,
    expect: Option<Revision>,
) -> Result<Effect, Refusal> {
    let known = state.windows.get(name).ok_or_else(|| none(name))?;
    expected(&format!("window {name}"), expect, Some(known.revision))?;
    state.windows.remove(name);
    Ok(Effect::changed(context.done(), format!("windows/{name}"), "deleted"))
}

pub(super) fn set_openings(
    state: &mut State,
    context: &Context<'_>,
    name: &WindowName,
    revision: Revision,
    until: Timestamp,
    openings: &[Occurrence],
) -> Result<Effect, Refusal> {
    let window = state.windows.get_mut(name).ok_or_else(|| none(name))?;
    if window.revision != revision {
        let text = format!("window {name} has been declared anew since its openings were worked out");
        return Err(Refusal::new(Reason::WrongState, text));
    }
    if openings.len() > OPENINGS_MAX {
        return Err(Refusal::new(
            Reason::LimitReached,
            format!("window {name}: more than {OPENINGS_MAX} openings"),
        ));
    }
    let bad = |why: &str| Refusal::new(Reason::InvalidArgument, format!("openings of window {name}: {why}"));
    if openings.iter().any(|opening| opening.end <= opening.start) {
        return Err(bad("one ends before it begins"));
    }
    let pairs = openings.iter().zip(openings.iter().skip(1));
    if pairs.into_iter().any(|(one, next)| next.start <= one.end) {
        return Err(bad("they are not in order and apart"));
    }
    if openings.last().is_some_and(|last| last.end > until) {
        return Err(bad("one lies beyond what is known"));
    }
    if window.until == Some(until) && window.openings == openings {
        return Ok(Effect::unchanged(context.done()));
    }
    window.until = Some(until);
    window.openings = openings.to_vec();
    // What is over, or does not open any more.
    let now = context.now;
    window.announced.retain(|start, _| *start > now && openings.iter().any(|o| o.start == *start));
    let details = format!("{} openings until {}", openings.len(), until.utc());
    Ok(Effect::changed(context.done(), format!("windows/{name}"), details))
}

pub(super) fn announce(
    state: &mut State,
    context: &Context<'_>,
    name: &WindowName,
    start: Timestamp,
    before: DurationMs,
) -> Result<Effect, Refusal> {
    let window = state.windows.get_mut(name).ok_or_else(|| none(name))?;
    let wrong = |what: &str| Refusal::new(Reason::WrongState, format!("window {name}: {what}"));
    let Some(opening) = window.upcoming(context.now).find(|opening| opening.start == start).copied() else {
        return Err(wrong("no such opening is to come"));
    };
    // Once each, whoever leads; and none that came before the last one.
    if window.announced.get(&start).is_some_and(|last| *last <= before) || before > ANNOUNCE_EARLIEST {
        return Err(wrong("that is announced already"));
    }
    window.announced.insert(start, before);
    let now = context.now;
    window.announced.retain(|start, _| *start > now);
    let (left, length, reason) = (start.since(now), opening.length(), &window.spec.reason);
    let details = format!("opens in {left}, {}, for {length}: {reason}", start.utc());
    Ok(Effect::changed(context.done(), format!("windows/{name}"), details))
}
