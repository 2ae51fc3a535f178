//! Releases in a plan: how one is installed, which one was before, who has it already.

use alloc::format;
use alloc::string::String;

use quorate_model::config::CONFIG_MAX_BYTES;
use quorate_model::{
    ActionKind, ActionSpec, ConfigName, Install, InstanceId, InstanceState, NodeName, OnFailure, Reason,
    Refusal, Release, SecretVerb, ServiceName, StepKind,
};

use super::targets::lacks;
use super::{Target, actions, secrets};
use crate::observations::Observations;
use crate::state::plan::{PlanRequest, PlanStep};
use crate::state::release::Releases;
use crate::state::{Group, ReleaseRequest, Service, State};

/// The release with how its service is installed.
pub(super) fn installed(
    service: &Service,
    config: Option<&ConfigName>,
    wanted: &ReleaseRequest,
) -> Result<Release, Refusal> {
    if let Some(config) = config {
        let found = service.spec.configs.iter().find(|spec| spec.name == *config).ok_or_else(|| {
            lacks(&service.spec.name, &format!("config {config}"))
                .with_hint("declare under `configs` where it lies and who checks it, then plan again")
        })?;
        if wanted.size > CONFIG_MAX_BYTES {
            let what = format!("{} bytes are too many for a configuration file", wanted.size);
            return Err(Refusal::new(Reason::InvalidArgument, what)
                .with_hint(format!("at most {CONFIG_MAX_BYTES} bytes; anything larger is a release")));
        }
        return Ok(wanted.with(Install::Config(found.clone())));
    }
    let install = service.spec.install.clone().ok_or_else(|| {
        lacks(&service.spec.name, "install")
            .with_hint("declare under `install` how its program comes onto a host, then plan again")
    })?;
    Ok(wanted.with(install))
}

/// The release to go back to: the newest that a rollout has brought, while a member was given another one since then; else the
/// one before it. A member that never got the newest is no reason to bring it there.
pub(super) fn before(
    state: &State,
    group: &Group,
    service: &Service,
    config: Option<&ConfigName>,
) -> Result<Release, Refusal> {
    let none_yet = Releases::new();
    let known = match config {
        Some(config) => service.configs.get(config).unwrap_or(&none_yet),
        None => &service.releases,
    };
    let name = &service.spec.name;
    let none = |what: String| {
        Refusal::new(Reason::NotFound, what).with_hint(format!("quorate rollout history {}", group.spec.name))
    };
    let Some(last) = known.last() else {
        return Err(none(format!("no release of {name} is recorded")));
    };
    let newest = &last.release;
    let members = group.spec.voters.iter().chain(&group.spec.learners);
    let strays = members
        .filter_map(|node| in_use(state, name, config, node))
        .any(|used| used.artifact != newest.artifact && used.since > last.at);
    if strays {
        return installed(service, config, newest);
    }
    let earlier = known.iter().rev().map(|known| &known.release);
    match earlier.into_iter().find(|release| release.artifact != newest.artifact) {
        Some(release) => installed(service, config, release),
        None => Err(none(format!("no release of {name} before {} is recorded", newest.version))),
    }
}

fn in_use<'a>(
    state: &'a State,
    service: &ServiceName,
    config: Option<&ConfigName>,
    node: &NodeName,
) -> Option<&'a crate::state::InstanceRelease> {
    let id = InstanceId { node: node.clone(), service: service.clone() };
    let instance = state.instances.get(&id)?;
    match config {
        Some(config) => instance.configs.get(config),
        None => instance.release.as_ref(),
    }
}

/// Whether the instance has the release already, and is healthy with it.
pub(super) fn has(state: &State, obs: &Observations, target: &Target, release: &Release) -> bool {
    let Some(service) = target.action.service() else { return false };
    let id = InstanceId { node: target.node.clone(), service: service.clone() };
    let serves = obs.instances.get(&id).is_some_and(|seen| seen.observed == InstanceState::Healthy);
    let config = release.config().map(|spec| &spec.name);
    serves
        && in_use(state, service, config, &target.node).is_some_and(|used| used.artifact == release.artifact)
}

/// `1.0.0 -> 1.1.0`; `?` for what is not known.
pub(super) fn note(state: &State, target: &Target) -> String {
    let ActionSpec::ArtifactActivate { service, release } = &target.action else { return String::new() };
    let config = release.config().map(|spec| &spec.name);
    let used = in_use(state, service, config, &target.node).map_or("?", |used| used.version.as_str());
    format!("{used} -> {}", release.version)
}

/// What takes the action of a target back, where something does.
pub(super) fn undo(target: &Target) -> Option<ActionSpec> {
    if let ActionSpec::Secret { verb: SecretVerb::Install, .. } = &target.action {
        return secrets::part(&target.action, SecretVerb::Revert);
    }
    let ActionSpec::ArtifactActivate { service, release } = &target.action else { return None };
    Some(ActionSpec::ArtifactRevert { service: service.clone(), release: release.clone() })
}

/// Every kind of action that the agent of a target must have.
pub(super) fn needed(request: &PlanRequest, target: &Target) -> alloc::vec::Vec<ActionKind> {
    let mut kinds = alloc::vec![target.action.kind()];
    if target.kind == StepKind::Activate {
        kinds.extend(staged(target).map(|stage| stage.kind()));
        kinds.extend(confirmed(target).map(|confirm| confirm.kind()));
        kinds.extend(secrets::part(&target.action, SecretVerb::Retire).map(|retire| retire.kind()));
        if request.on_failure == OnFailure::Rollback {
            kinds.extend(undo(target).map(|undo| undo.kind()));
        }
    }
    kinds
}

/// The step that brings the artifact of a target onto its host.
pub(super) fn stage(state: &State, request: &PlanRequest, target: &Target) -> Option<PlanStep> {
    let stage = Target { node: target.node.clone(), kind: StepKind::Stage, action: staged(target)? };
    // The longest time of a step is meant for what disturbs; an artifact may take longer to arrive.
    let patient = PlanRequest { step_deadline: None, ..request.clone() };
    Some(actions::action(state, &patient, &stage))
}

/// The action before the one of a target that brings its artifact in.
fn staged(target: &Target) -> Option<ActionSpec> {
    if let Some(stage) = secrets::part(&target.action, SecretVerb::Stage) {
        return Some(stage);
    }
    let ActionSpec::ArtifactActivate { service, release } = &target.action else { return None };
    Some(ActionSpec::ArtifactStage { service: service.clone(), release: release.clone() })
}

/// The action after the gate of a target that makes it last: only what goes back by itself needs one.
fn confirmed(target: &Target) -> Option<ActionSpec> {
    if let Some(confirm) = secrets::part(&target.action, SecretVerb::Confirm) {
        return Some(confirm);
    }
    let ActionSpec::ArtifactActivate { service, release } = &target.action else { return None };
    release.config()?;
    Some(ActionSpec::ConfigConfirm { service: service.clone(), release: release.clone() })
}

/// The step that makes a target's change last.
pub(super) fn confirm(state: &State, request: &PlanRequest, target: &Target) -> Option<PlanStep> {
    let confirm = Target { node: target.node.clone(), kind: StepKind::Confirm, action: confirmed(target)? };
    Some(actions::action(state, request, &confirm))
}

/// What is said of a file that may go back by itself while its gate still waits.
pub(super) fn impatient(state: &State, request: &PlanRequest, target: &Target) -> Option<String> {
    let config = target.action.release()?.config()?;
    let gate = actions::gate(state, request, target)?;
    let (confirm, wait) = (config.confirm, gate.deadline);
    let text =
        || format!("{} goes back by itself after {confirm}, and its gate may take {wait}", config.name);
    (confirm < wait).then(text)
}

/// What is said of an instance that is left alone.
pub(super) fn skipped(target: &Target, release: &Release) -> String {
    format!("{} is skipped: it runs {} already", target.node, release.version)
}
