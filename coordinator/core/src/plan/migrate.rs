//! Hooks in a plan: the one that is run once for a release, and where; upkeep on every member.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use quorate_model::{
    ActionKind, ActionSpec, DurationMs, HookName, MigrateSpec, MigrateWhen, MigrationChoice, Reason, Refusal,
    ServiceName, StepKind, Version,
};

use super::Target;
use super::targets::{Job, lacks};
use crate::observations::Observations;
use crate::safety::once;
use crate::state::plan::{Change, Goal, PlanRequest};
use crate::state::release::Migrated;
use crate::state::{Service, State};

/// The one step that is run once.
pub(super) struct Once {
    pub(super) target: Target,
    pub(super) deadline: DurationMs,
    pub(super) undo: Option<ActionSpec>,
    pub(super) note: String,
}

/// What is run once around the waves of a rollout.
#[derive(Default)]
pub(super) struct Around {
    pub(super) before: Option<Once>,
    pub(super) after: Option<Once>,
    pub(super) notes: Vec<String>,
}

/// The upkeep of one member: it may be run again when its outcome is lost.
pub(super) fn hook(service: &ServiceName, hook: &HookName) -> ActionSpec {
    let (service, hook) = (service.clone(), hook.clone());
    ActionSpec::ExecRun { service, hook, once: false, release: None, targets: Vec::new() }
}

/// What is run once around the waves of a job. `out` and `up` are its targets in order: the first one is upgraded first.
pub(super) fn of(
    state: &State,
    obs: &Observations,
    request: &PlanRequest,
    job: &Job,
    out: &[&Target],
    up: &[&Target],
) -> Result<Around, Refusal> {
    let Some(service) = job.service.as_ref().and_then(|name| state.services.get(name)) else {
        return Ok(Around::default());
    };
    let Goal::Rollout { change, .. } = &request.goal else { return Ok(Around::default()) };
    let (Some(migrate), Some(release)) = (&service.spec.migrate, &job.release) else {
        return match request.migration {
            MigrationChoice::Auto => Ok(Around::default()),
            MigrationChoice::Skip | MigrationChoice::Again => Err(lacks(&service.spec.name, "migrate")),
        };
    };
    if matches!(change, Change::Undo) {
        let note = format!("{} is not run: going back changes programs, not what was migrated", migrate.hook);
        return Ok(Around { notes: Vec::from([note]), ..Around::default() });
    }
    if let Some(note) = spared(service, migrate, &release.version, request.migration)? {
        return Ok(Around { notes: Vec::from([note]), ..Around::default() });
    }
    let target = match migrate.when {
        MigrateWhen::Before => up.first().or(out.first()),
        MigrateWhen::After => up.last().or(out.last()),
    };
    let Some(target) = target else { return Ok(Around::default()) };
    check_capability(obs, target)?;
    let once = step(service, migrate, &release.version, target);
    let notes = Vec::from([told(migrate, target)]);
    Ok(match migrate.when {
        MigrateWhen::Before => Around { before: Some(once), after: None, notes },
        MigrateWhen::After => Around { before: None, after: Some(once), notes },
    })
}

/// Why it is not run, when it need not be.
///
/// # Errors
/// When nobody can tell whether it was.
fn spared(
    service: &Service,
    migrate: &MigrateSpec,
    version: &Version,
    choice: MigrationChoice,
) -> Result<Option<String>, Refusal> {
    let hook = &migrate.hook;
    if choice == MigrationChoice::Skip {
        return Ok(Some(format!("{hook} is not run for {version}, as asked")));
    }
    if let Some(refusal) = once::refuses(service, hook, version, choice) {
        return Err(refusal);
    }
    let done = service.migration(version).filter(|known| known.state == Migrated::Done);
    Ok(done.filter(|_| choice == MigrationChoice::Auto).map(|known| {
        format!("{hook} is not run again for {version}: {} by {} did", known.execution, known.operation)
    }))
}

fn step(service: &Service, migrate: &MigrateSpec, version: &Version, target: &Target) -> Once {
    let run = |hook: &HookName| ActionSpec::ExecRun {
        service: service.spec.name.clone(),
        hook: hook.clone(),
        once: true,
        release: Some(version.clone()),
        targets: Vec::new(),
    };
    Once {
        target: Target { node: target.node.clone(), kind: StepKind::RunOnce, action: run(&migrate.hook) },
        deadline: migrate.timeout,
        undo: migrate.undo.as_ref().map(run),
        note: format!("{}, once for {version}", migrate.hook),
    }
}

fn told(migrate: &MigrateSpec, target: &Target) -> String {
    let when = match migrate.when {
        MigrateWhen::Before => "before the first member is upgraded",
        MigrateWhen::After => "when every member is upgraded",
    };
    let back = match &migrate.undo {
        Some(undo) => format!("a rollback takes it back with {undo}"),
        None => String::from("a rollback does not take it back"),
    };
    format!("{} is run once, on {}, {when}; {back}", migrate.hook, target.node)
}

/// An agent that has told what it can do, and cannot do this, is not asked.
fn check_capability(obs: &Observations, target: &Target) -> Result<(), Refusal> {
    let seen = obs.nodes.get(&target.node).filter(|seen| !seen.capabilities.is_empty());
    match seen.filter(|seen| !seen.capabilities.contains(&ActionKind::ExecRun)) {
        Some(seen) => Err(Refusal::new(
            Reason::ActionUnsupported,
            format!("the agent {} on {} has no {}", seen.agent_version, target.node, ActionKind::ExecRun),
        )),
        None => Ok(()),
    }
}
