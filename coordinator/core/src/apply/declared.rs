//! Declarations: services and groups.

use alloc::format;
use alloc::vec::Vec;

use quorate_model::{GroupName, GroupSpec, Reason, Refusal, Revision, ServiceName, ServiceSpec};

use super::{Context, Effect, calendar, failover, lease, membership, validate};
use crate::command::DeclaredCommand;
use crate::state::declared::{GROUPS_MAX, SERVICES_MAX};
use crate::state::{Group, Service, State};

pub(super) fn apply(
    state: &mut State,
    context: &Context<'_>,
    command: &DeclaredCommand,
) -> Result<Effect, Refusal> {
    match command {
        DeclaredCommand::ApplyService { spec, expect } => put_service(state, context, spec, *expect),
        DeclaredCommand::DeleteService { name } => delete_service(state, context, name),
        DeclaredCommand::ApplyGroup { spec, expect } => put_group(state, context, spec, *expect),
        DeclaredCommand::DeleteGroup { name } => delete_group(state, context, name),
    }
}

/// Refuses an answer to a question that has changed meanwhile.
pub(super) fn expected(what: &str, expect: Option<Revision>, found: Option<Revision>) -> Result<(), Refusal> {
    match expect {
        Some(seen) if seen != found.unwrap_or(Revision(0)) => {
            let now = found.unwrap_or(Revision(0));
            Err(Refusal::new(Reason::StalePlan, format!("{what} is at revision {now}, not {seen}")))
        }
        _ => Ok(()),
    }
}

fn put_service(
    state: &mut State,
    context: &Context<'_>,
    spec: &ServiceSpec,
    expect: Option<Revision>,
) -> Result<Effect, Refusal> {
    let name = &spec.name;
    let known = state.services.get(name);
    expected(&format!("service {name}"), expect, known.map(|s| s.revision))?;
    validate::service(spec)?;
    if known.is_some_and(|service| service.spec == *spec) {
        return Ok(Effect::unchanged(context.done()));
    }
    if known.is_none() && state.services.len() >= SERVICES_MAX {
        return Err(Refusal::new(Reason::LimitReached, format!("there are {SERVICES_MAX} services already")));
    }
    let created_at = known.map_or(context.now, |service| service.created_at);
    for group in state.groups.values().filter(|group| group.spec.service == *name) {
        let astray = group.spec.voters.iter().chain(&group.spec.learners).find(|node| {
            state.nodes.present(node).is_some_and(|n| !spec.nodes.matches(node.as_str(), &n.labels))
        });
        if let Some(node) = astray {
            return Err(Refusal::new(
                Reason::Conflict,
                format!("nodes: {node} is a member of group {} and would have no instance", group.spec.name),
            ));
        }
    }
    let releases = known.map(|service| service.releases.clone()).unwrap_or_default();
    let configs = known.map(|service| service.configs.clone()).unwrap_or_default();
    let migrations = known.map(|service| service.migrations.clone()).unwrap_or_default();
    let revision = context.revision;
    let service = Service { spec: spec.clone(), created_at, revision, releases, configs, migrations };
    state.services.insert(name.clone(), service);
    Ok(Effect::changed(context.done(), format!("services/{name}"), format!("{} probes", spec.probes.len())))
}

fn delete_service(state: &mut State, context: &Context<'_>, name: &ServiceName) -> Result<Effect, Refusal> {
    if !state.services.contains_key(name) {
        return Err(Refusal::new(Reason::NotFound, format!("there is no service {name}")));
    }
    if let Some(group) = state.groups.values().find(|group| group.spec.service == *name) {
        return Err(Refusal::new(Reason::Conflict, format!("group {} uses service {name}", group.spec.name))
            .with_hint(format!("quorate group delete {}", group.spec.name)));
    }
    let busy = state.operations.values().find(|operation| {
        !operation.state.is_terminal()
            && operation.steps.iter().any(|s| s.action.as_ref().and_then(|a| a.service()) == Some(name))
    });
    if let Some(operation) = busy {
        return Err(Refusal::new(Reason::Conflict, format!("{} works on service {name}", operation.id)));
    }
    calendar::unnamed(state, name.as_str(), context.now)?;
    state.services.remove(name);
    for services in state.instances.0.values_mut() {
        services.remove(name);
    }
    Ok(Effect::changed(context.done(), format!("services/{name}"), "deleted"))
}

/// Changing who votes while a grant is held would move the floor under the work: refused until the lane is over.
fn ungranted(state: &State, name: &GroupName) -> Result<(), Refusal> {
    match state.grants.values().find(|grant| grant.groups.contains(name)) {
        Some(grant) => Err(Refusal::new(
            Reason::Conflict,
            format!("{} works on {} in group {name}", grant.operation, grant.instance),
        )),
        None => Ok(()),
    }
}

fn put_group(
    state: &mut State,
    context: &Context<'_>,
    spec: &GroupSpec,
    expect: Option<Revision>,
) -> Result<Effect, Refusal> {
    let name = &spec.name;
    let known = state.groups.get(name);
    expected(&format!("group {name}"), expect, known.map(|g| g.revision))?;
    validate::group(state, spec)?;
    if known.is_some_and(|group| group.spec == *spec) {
        return Ok(Effect::unchanged(context.done()));
    }
    if known.is_none() && state.groups.len() >= GROUPS_MAX {
        return Err(Refusal::new(Reason::LimitReached, format!("there are {GROUPS_MAX} groups already")));
    }
    ungranted(state, name)?;
    membership::unchanging(state, name)?;
    lease::kept(state, spec)?;
    failover::unmoving(state, name)?;
    let created_at = known.map_or(context.now, |group| group.created_at);
    // It stands until somebody has looked at the voters as they are declared now.
    let alarm = known.and_then(|group| group.alarm.clone());
    let primary = known.and_then(|group| group.primary.clone());
    let failovers = known.map_or_else(Vec::new, |group| group.failovers.clone());
    let revision = context.revision;
    let group = Group { spec: spec.clone(), created_at, revision, alarm, pending: None, primary, failovers };
    state.groups.insert(name.clone(), group);
    let details = format!("{} voters, {}", spec.voters.len(), spec.policy.kind());
    Ok(Effect::changed(context.done(), format!("groups/{name}"), details))
}

fn delete_group(state: &mut State, context: &Context<'_>, name: &GroupName) -> Result<Effect, Refusal> {
    if !state.groups.contains_key(name) {
        return Err(Refusal::new(Reason::NotFound, format!("there is no group {name}")));
    }
    ungranted(state, name)?;
    membership::unchanging(state, name)?;
    lease::over(state, name)?;
    failover::unmoving(state, name)?;
    calendar::unnamed(state, name.as_str(), context.now)?;
    state.groups.remove(name);
    Ok(Effect::changed(context.done(), format!("groups/{name}"), "deleted"))
}
