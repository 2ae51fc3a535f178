//! The calendar: freezes; windows in the file beside it.

use alloc::format;

use quorate_model::{
    FreezeName, FreezeSpec, FreezeState, Reason, Refusal, Revision, Timestamp, WorkloadName,
};

use super::declared::expected;
use super::{Context, Effect};
use crate::command::CalendarCommand;
use crate::state::calendar::FREEZES_MAX;
use crate::state::{Freeze, State};

mod window;

pub(super) fn apply(
    state: &mut State,
    context: &Context<'_>,
    command: &CalendarCommand,
) -> Result<Effect, Refusal> {
    match command {
        CalendarCommand::ApplyFreeze { spec, expect } => put_freeze(state, context, spec, *expect),
        CalendarCommand::DeleteFreeze { name, expect } => delete_freeze(state, context, name, *expect),
        CalendarCommand::ApplyWindow { spec, expect } => window::put(state, context, spec, *expect),
        CalendarCommand::DeleteWindow { name, expect } => window::delete(state, context, name, *expect),
        CalendarCommand::SetOpenings { name, revision, until, openings } => {
            window::set_openings(state, context, name, *revision, *until, openings)
        }
        CalendarCommand::Announce { window, start, before } => {
            window::announce(state, context, window, *start, *before)
        }
    }
}

/// A freeze, a window or a policy of a service that is misspelt would hold nothing, and nobody would notice.
pub(super) fn known_workloads(state: &State, services: &[WorkloadName]) -> Result<(), Refusal> {
    let known = |name: &str| {
        state.services.keys().any(|service| service.as_str() == name)
            || state.groups.keys().any(|group| group.as_str() == name)
    };
    match services.iter().find(|name| !known(name.as_str())) {
        Some(name) => {
            Err(Refusal::new(Reason::NotFound, format!("services: there is no service or group {name}")))
        }
        None => Ok(()),
    }
}

/// What a freeze names is not deleted under it: it would thaw what its owner wants left alone, and nobody would be asked.
pub(super) fn unnamed(state: &State, name: &str, now: Timestamp) -> Result<(), Refusal> {
    let names = |spec: &FreezeSpec| match spec.state(now) {
        FreezeState::Upcoming | FreezeState::Active => spec.services.iter().any(|n| n.as_str() == name),
        FreezeState::Ended => false,
    };
    match state.freezes.values().find(|freeze| names(&freeze.spec)) {
        Some(freeze) => {
            Err(Refusal::new(Reason::Conflict, format!("freeze {} names {name}", freeze.spec.name))
                .with_hint(format!("quorate freeze delete {}", freeze.spec.name)))
        }
        None => Ok(()),
    }
}

fn put_freeze(
    state: &mut State,
    context: &Context<'_>,
    spec: &FreezeSpec,
    expect: Option<Revision>,
) -> Result<Effect, Refusal> {
    let name = &spec.name;
    let known = state.freezes.get(name);
    expected(&format!("freeze {name}"), expect, known.map(|f| f.revision))?;
    spec.check()
        .map_err(|invalid| Refusal::new(invalid.reason(), format!("{}: {invalid}", invalid.field())))?;
    if known.is_some_and(|freeze| freeze.spec == *spec) {
        return Ok(Effect::unchanged(context.done()));
    }
    known_workloads(state, &spec.services)?;
    if known.is_none() && state.freezes.len() >= FREEZES_MAX {
        return Err(Refusal::new(Reason::LimitReached, format!("there are {FREEZES_MAX} freezes already"))
            .with_hint("delete those that have ended: quorate freeze list"));
    }
    let freeze = Freeze {
        spec: spec.clone(),
        applied_by: context.principal.clone(),
        created_at: known.map_or(context.now, |freeze| freeze.created_at),
        revision: context.revision,
    };
    state.freezes.insert(name.clone(), freeze);
    Ok(Effect::changed(context.done(), format!("freezes/{name}"), spec.reason.clone()))
}

fn delete_freeze(
    state: &mut State,
    context: &Context<'_>,
    name: &FreezeName,
    expect: Option<Revision>,
) -> Result<Effect, Refusal> {
    let Some(known) = state.freezes.get(name) else {
        return Err(Refusal::new(Reason::NotFound, format!("there is no freeze {name}")));
    };
    expected(&format!("freeze {name}"), expect, Some(known.revision))?;
    state.freezes.remove(name);
    Ok(Effect::changed(context.done(), format!("freezes/{name}"), "deleted"))
}
