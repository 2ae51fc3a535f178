//! Policies: declared and forgotten.
//!
//! Who may do that is asked where the call comes in: to loosen what holds others is an administrator's work. Neither change
//! reaches an operation that waits already, which keeps what it was asked for.

use alloc::format;

use quorate_model::{PolicyName, PolicySpec, Reason, Refusal, Revision};

use super::calendar::known_workloads;
use super::declared::expected;
use super::{Context, Effect};
use crate::command::PolicyCommand;
use crate::state::approval::POLICIES_MAX;
use crate::state::{Policy, State};

pub(super) fn apply(
    state: &mut State,
    context: &Context<'_>,
    command: &PolicyCommand,
) -> Result<Effect, Refusal> {
    match command {
        PolicyCommand::Apply { spec, expect } => put(state, context, spec, *expect),
        PolicyCommand::Delete { name, expect } => delete(state, context, name, *expect),
    }
}

fn put(
    state: &mut State,
    context: &Context<'_>,
    spec: &PolicySpec,
    expect: Option<Revision>,
) -> Result<Effect, Refusal> {
    let name = &spec.name;
    let known = state.policies.get(name);
    expected(&format!("policy {name}"), expect, known.map(|p| p.revision))?;
    spec.check()
        .map_err(|invalid| Refusal::new(invalid.reason(), format!("{}: {invalid}", invalid.field())))?;
    if known.is_some_and(|policy| policy.spec == *spec) {
        return Ok(Effect::unchanged(context.done()));
    }
    known_workloads(state, &spec.services)?;
    if known.is_none() && state.policies.len() >= POLICIES_MAX {
        return Err(Refusal::new(Reason::LimitReached, format!("there are {POLICIES_MAX} policies already"))
            .with_hint("delete those that nobody needs: quorate policy list"));
    }
    let policy = Policy {
        spec: spec.clone(),
        applied_by: context.principal.clone(),
        created_at: known.map_or(context.now, |policy| policy.created_at),
        revision: context.revision,
    };
    state.policies.insert(name.clone(), policy);
    Ok(Effect::changed(context.done(), format!("policies/{name}"), spec.reason.clone()))
}

fn delete(
    state: &mut State,
    context: &Context<'_>,
    name: &PolicyName,
    expect: Option<Revision>,
) -> Result<Effect, Refusal> {
    let Some(known) = state.policies.get(name) else {
        return Err(Refusal::new(Reason::NotFound, format!("there is no policy {name}")));
    };
    expected(&format!("policy {name}"), expect, Some(known.revision))?;
    state.policies.remove(name);
    Ok(Effect::changed(context.done(), format!("policies/{name}"), "deleted"))
}
