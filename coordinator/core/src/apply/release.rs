//! Releases: what each instance was given, as its agent tells, and what a service had before.

use quorate_model::{
    ActionOutcome, ActionSpec, ConfigName, Digest, ExecutionId, ExecutionState, OperationId, Release, Version,
};

use super::Context;
use crate::state::plan::Goal;
use crate::state::release::{InstanceRelease, RELEASES_MAX, ReleaseRequest, ServiceRelease};
use crate::state::{Execution, Operation, State};

/// An action has ended: what it put to use, or went back to, is remembered. When its agent cannot tell how it ended, what is
/// in use is not known any more.
pub(super) fn ended(
    state: &mut State,
    context: &Context<'_>,
    done: &Execution,
    reached: ExecutionState,
    outcome: Option<&ActionOutcome>,
) {
    let found = match (&done.action, reached) {
        (_, ExecutionState::Rejected | ExecutionState::Canceled) => return,
        (ActionSpec::ArtifactActivate { release, .. }, ExecutionState::Succeeded) => {
            Some((release.version.clone(), release.artifact.clone()))
        }
        (ActionSpec::ArtifactRevert { .. }, ExecutionState::Succeeded) => told(outcome),
        (ActionSpec::ArtifactActivate { .. } | ActionSpec::ArtifactRevert { .. }, _) => None,
        (
            ActionSpec::ServiceStatus { .. }
            | ActionSpec::ServiceStart { .. }
            | ActionSpec::ServiceStop { .. }
            | ActionSpec::ServiceRestart { .. }
            | ActionSpec::ServiceReload { .. }
            | ActionSpec::BackupCreate { .. }
            | ActionSpec::BackupVerify { .. }
            | ActionSpec::LogRotate { .. }
            | ActionSpec::ArtifactStage { .. }
            | ActionSpec::ConfigConfirm { .. }
            | ActionSpec::Secret { .. }
            | ActionSpec::Data { .. }
            | ActionSpec::TrafficDrain { .. }
            | ActionSpec::TrafficRestore { .. }
            | ActionSpec::ExecRun { .. }
            | ActionSpec::RolePromote { .. }
            | ActionSpec::MaintenanceEnter { .. }
            | ActionSpec::MaintenanceExit { .. }
            | ActionSpec::HostPreflight { .. }
            | ActionSpec::HostFacts
            | ActionSpec::HostDiagnose,
            _,
        ) => return,
    };
    let Some(instance) = &done.instance else { return };
    let (since, operation) = (context.now, done.operation.clone());
    let used = found.map(|(version, artifact)| InstanceRelease { version, artifact, since, operation });
    let entry = state.instances.entry(instance);
    match (config_of(&done.action), used) {
        (None, used) => entry.release = used,
        (Some(config), Some(used)) => drop(entry.configs.insert(config.clone(), used)),
        (Some(config), None) => drop(entry.configs.remove(config)),
    }
}

/// The configuration file that an action is about.
fn config_of(action: &ActionSpec) -> Option<&ConfigName> {
    Some(&action.release()?.config()?.name)
}

/// A host has put the file from before back by itself: which one that is was not told.
pub(super) fn put_back_alone(state: &mut State, execution: &ExecutionId) {
    let Some(done) = state.executions.get(execution) else { return };
    let (Some(config), Some(instance)) = (config_of(&done.action), &done.instance) else { return };
    let (config, instance) = (config.clone(), instance.clone());
    let entry = state.instances.entry(&instance);
    if entry.configs.get(&config).is_some_and(|used| used.operation == done.operation) {
        entry.configs.remove(&config);
    }
}

/// What an agent says is in use; none when it is none of ours.
fn told(outcome: Option<&ActionOutcome>) -> Option<(Version, Digest)> {
    let receipt = outcome?.release.as_ref()?;
    Some((Version::new(receipt.version.as_str()).ok()?, Digest::new(receipt.artifact.as_str()).ok()?))
}

/// A rollout has succeeded: its release is the newest of its service. The oldest is forgotten.
pub(super) fn settled(state: &mut State, context: &Context<'_>, id: &OperationId) {
    let Some(operation) = state.operations.get(id) else { return };
    let Some((service, release)) = brought(operation) else { return };
    let config = release.config().map(|spec| spec.name.clone());
    let release = ReleaseRequest {
        version: release.version.clone(),
        artifact: release.artifact.clone(),
        size: release.size,
        signature: release.signature.clone(),
    };
    let Some(service) = state.services.get_mut(service) else { return };
    let known = match config {
        Some(config) => service.configs.entry(config).or_default(),
        None => &mut service.releases,
    };
    if known.last().is_some_and(|newest| newest.release == release) {
        return;
    }
    known.push(ServiceRelease { release, at: context.now, operation: id.clone() });
    let surplus = known.len().saturating_sub(RELEASES_MAX);
    known.drain(..surplus);
}

/// The release that an operation brought, and to which service.
fn brought(operation: &Operation) -> Option<(&quorate_model::ServiceName, &Release)> {
    match &operation.request.goal {
        Goal::Rollout { change, .. } if change.installs() => {}
        Goal::Rollout { .. }
        | Goal::Run { .. }
        | Goal::Backup { .. }
        | Goal::Rotate { .. }
        | Goal::Membership { .. }
        | Goal::Failover { .. }
        | Goal::Rejoin { .. }
        | Goal::Rebuild { .. }
        | Goal::Verify { .. }
        | Goal::Host { .. } => return None,
    }
    operation.steps.iter().find_map(|step| match step.action.as_ref()? {
        ActionSpec::ArtifactActivate { service, release } => Some((service, release)),
        ActionSpec::ServiceStatus { .. }
        | ActionSpec::ServiceStart { .. }
        | ActionSpec::ServiceStop { .. }
        | ActionSpec::ServiceRestart { .. }
        | ActionSpec::ServiceReload { .. }
        | ActionSpec::BackupCreate { .. }
        | ActionSpec::BackupVerify { .. }
        | ActionSpec::LogRotate { .. }
        | ActionSpec::ArtifactStage { .. }
        | ActionSpec::ConfigConfirm { .. }
        | ActionSpec::Secret { .. }
        | ActionSpec::Data { .. }
        | ActionSpec::ArtifactRevert { .. }
        | ActionSpec::TrafficDrain { .. }
        | ActionSpec::TrafficRestore { .. }
        | ActionSpec::ExecRun { .. }
        | ActionSpec::RolePromote { .. }
        | ActionSpec::MaintenanceEnter { .. }
        | ActionSpec::MaintenanceExit { .. }
        | ActionSpec::HostPreflight { .. }
        | ActionSpec::HostFacts
        | ActionSpec::HostDiagnose => None,
    })
}
