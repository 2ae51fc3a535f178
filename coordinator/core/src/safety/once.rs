//! What is run once for a release: whether it may be run, or was.
//!
//! The record of a service says it, whichever operation asks: nothing that may have been run is run again by itself.

use alloc::format;
use alloc::string::String;

use quorate_model::{ActionSpec, HookName, MigrationChoice, Reason, Refusal, ServiceName, StepKind, Version};

use crate::state::operation::{Operation, Step};
use crate::state::release::{Migrated, Migration};
use crate::state::{Service, State};

/// What a step runs once, if it does.
fn run_once(step: &Step) -> Option<(&ServiceName, &HookName, &Version)> {
    let ActionSpec::ExecRun { service, hook, once: true, release: Some(version), targets: _ } =
        step.action.as_ref()?
    else {
        return None;
    };
    (step.kind == StepKind::RunOnce).then_some((service, hook, version))
}

fn known<'a>(state: &'a State, service: &ServiceName, version: &Version) -> Option<&'a Migration> {
    state.services.get(service)?.migration(version)
}

/// Why the run-once hook of a version may not be run, by what is known of it.
#[must_use]
pub fn refuses(
    service: &Service,
    hook: &HookName,
    version: &Version,
    choice: MigrationChoice,
) -> Option<Refusal> {
    let Migration { state, node, execution, operation, .. } = service.migration(version)?;
    let (what, hint) = match (state, choice) {
        (Migrated::Begun, _) => (
            format!("{hook} runs for {version} on {node} now, by {operation}"),
            format!("quorate operation show {operation}"),
        ),
        (Migrated::Unknown, MigrationChoice::Auto) => (
            format!("nobody can tell what {hook} did for {version} on {node} ({execution}, by {operation})"),
            format!("look at {execution} and at what it did on {node}, then say --migrate skip or again"),
        ),
        (Migrated::Done | Migrated::Failed, _)
        | (Migrated::Unknown, MigrationChoice::Skip | MigrationChoice::Again) => return None,
    };
    Some(Refusal::new(Reason::ExecutionUnknown, what).with_hint(hint))
}

/// Why a step that is run once may not begin.
#[must_use]
pub fn settled(state: &State, operation: &Operation, step: &Step) -> Option<Refusal> {
    let (service, hook, version) = run_once(step)?;
    refuses(state.services.get(service)?, hook, version, operation.request.migration)
}

/// Why a step that is run once need not begin: another operation has done it since the plan was made.
#[must_use]
pub fn is_needless(state: &State, operation: &Operation, step: &Step) -> Option<String> {
    let (service, hook, version) = run_once(step)?;
    let found = known(state, service, version)?;
    let done = found.state == Migrated::Done && operation.request.migration == MigrationChoice::Auto;
    done.then(|| format!("{hook} was run for {version} already: {} on {}", found.execution, found.node))
}
