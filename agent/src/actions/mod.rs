//! The typed actions of this agent: the registry, then one folder per action with `plan.rs` (pure) beside `exec.rs`.
//!
//! Job: do one [`ActionSpec`] completely, or fail with a typed reason and leave nothing half done.
//! Must never: decide whether the action is allowed (grants, epochs and the host's policy are the runner's), reach a shell,
//! follow a symbolic link out of an allowed root, or keep a temporary state that no obligation covers.
//!
//! **Architecture Invariant:** `plan.rs` knows neither `host` nor tokio: what is seen goes in, steps come out. So every
//! choice can be tested, and `exec.rs` has none to make. The machine is touched through `crate::host` alone.

mod backup;
pub(crate) mod config;
mod context;
mod data;
mod diagnose;
mod error;
mod hook;
mod job;
pub(crate) mod maintenance;
mod ports;
mod preflight;
mod release;
mod role;
mod rotate;
mod secret;
mod service;
#[cfg(test)]
mod testing;
pub(crate) mod traffic;

use self::release::exec::Goal;
pub use context::{
    ActionContext, Clock, FactsSource, HookReport, HookRunner, Kept, LeaseKeeper, LeaseNow, Leaving, Limits,
    ObligationKeeper, Programs, Progress, ServiceDriver, ServiceHandle, Services, Silencing, Stopped, Told,
    Undo,
};
pub use error::{ActionError, PortError};
pub(crate) use ports::host_driver;
pub use ports::{HostClock, HostFacts, HostPrograms, HostServices, NoLeases};
pub(crate) use preflight::{REACHED, Reached};
use quorate_model::{ActionKind, ActionOutcome, ActionSpec, RiskClass};
pub use traffic::Balancers;

/// One line of the catalogue that an agent advertises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActionInfo {
    /// Its name.
    pub kind: ActionKind,
    /// Grows when its input or meaning changes; a plan refuses a node whose version is too low.
    pub version: u32,
    /// The highest class it can have; the request decides ([`ActionSpec::risk`]).
    pub risk: RiskClass,
    /// What goes in, for people.
    pub input: &'static str,
    /// What it does, one sentence.
    pub summary: &'static str,
}

/// Every action of this agent, in the order of the vocabulary.
#[must_use]
pub fn catalogue() -> Vec<ActionInfo> {
    ActionKind::ALL.iter().map(|kind| info(*kind)).collect()
}

/// One line of the catalogue.
#[must_use]
pub const fn info(kind: ActionKind) -> ActionInfo {
    let (risk, input, summary) = match kind {
        ActionKind::ServiceStatus => (RiskClass::Read, "service", "State of a unit."),
        ActionKind::ServiceStart => (RiskClass::Safe, "service", "Start a unit; done when it runs already."),
        ActionKind::ServiceStop => {
            (RiskClass::Disruptive, "service", "Stop a unit within its deadline; escalation is recorded.")
        }
        ActionKind::ServiceRestart => {
            (RiskClass::Disruptive, "service", "Stop, start, and prove that a new run exists.")
        }
        ActionKind::ServiceReload => {
            (RiskClass::Disruptive, "service", "Make a unit read its configuration again.")
        }
        ActionKind::BackupCreate => (
            RiskClass::Disruptive,
            "service, backup id, policy (paths, exclude, pause, resume, pause limit, level)",
            "Store a verified copy with a manifest; disruptive only when it pauses.",
        ),
        ActionKind::BackupVerify => {
            (RiskClass::Safe, "backup id, sha256", "Read a copy again and check every file.")
        }
        ActionKind::LogRotate => (
            RiskClass::Disruptive,
            "service, policy (paths, size, age, keep, compress, mode, owner, copytruncate, reload)",
            "Rotate logs without losing a byte; disruptive only when it reloads.",
        ),
        ActionKind::ArtifactStage => release::STAGE,
        ActionKind::ArtifactActivate => release::ACTIVATE,
        ActionKind::ArtifactRevert => release::REVERT,
        ActionKind::PackageInstall => release::INSTALL,
        ActionKind::ConfigValidate => config::VALIDATE,
        ActionKind::ConfigApply => config::APPLY,
        ActionKind::ConfigRevert => config::REVERT,
        ActionKind::ConfigConfirm => config::CONFIRM,
        ActionKind::SecretStage => secret::STAGE,
        ActionKind::SecretInstall => secret::INSTALL,
        ActionKind::SecretConfirm => secret::CONFIRM,
        ActionKind::SecretRetire => secret::RETIRE,
        ActionKind::SecretRevert => secret::REVERT,
        ActionKind::DataQuarantine => data::QUARANTINE,
        ActionKind::DataRevert => data::REVERT,
        ActionKind::TrafficDrain => (
            RiskClass::Disruptive,
            "service, traffic (balancer, pool, server, timeout, minimum), time until it is put back",
            "Take an instance out of its load balancer and wait until it has no connection.",
        ),
        ActionKind::TrafficRestore => (
            RiskClass::Disruptive,
            "service, traffic",
            "Put a healthy instance back into its load balancer and wait until it serves there.",
        ),
        ActionKind::ExecRun => (
            RiskClass::Disruptive,
            "service, hook, whether it is run once, release, who may take over",
            "Run a hook that this host declares and lets be run this way.",
        ),
        ActionKind::RolePromote => (
            RiskClass::Disruptive,
            "service, group, hook",
            "Make an instance the primary, under a lease of this execution's own epoch that lives.",
        ),
        ActionKind::MaintenanceEnter => maintenance::ENTER,
        ActionKind::MaintenanceExit => maintenance::EXIT,
        ActionKind::HostPreflight => preflight::LOOK,
        ActionKind::HostFacts => (RiskClass::Read, "nothing", "Facts about the host."),
        ActionKind::HostDiagnose => (RiskClass::Read, "nothing", "Walk the host and tell what looks wrong."),
    };
    ActionInfo { kind, version: 1, risk, input, summary }
}

/// Does one action to its end.
///
/// It ends soon after `context.cancel` is canceled or its deadline passes, with everything temporary undone. The caller
/// should not drop the future: what is owed then waits for the obligation's deadline.
///
/// # Errors
/// [`ActionError`]; its `reason()`, `state()` and `into_outcome()` are what to report.
pub async fn execute(context: &ActionContext, spec: &ActionSpec) -> Result<ActionOutcome, ActionError> {
    let begun = context.clock.monotonic();
    context.check("waiting to begin")?;
    let mut outcome = dispatch(context, spec).await?;
    outcome.took = context.clock.monotonic().minus(begun);
    Ok(outcome)
}

/// Brings a release to its end that this very execution began before a crash, when its time is over: the service may be down by
/// our hand. What it had not begun is late and stays undone.
///
/// # Errors
/// As [`execute`].
pub async fn finish(context: &ActionContext, spec: &ActionSpec) -> Result<ActionOutcome, ActionError> {
    match spec {
        // The file from before comes back by itself, so that nothing is left down.
        ActionSpec::ArtifactActivate { release, .. } if release.config().is_some() => {
            Err(ActionError::DeadlineExceeded("waiting to put the file in place"))
        }
        ActionSpec::ArtifactRevert { service, release } if release.config().is_some() => {
            config::exec::revert(context, service, release, true).await
        }
        ActionSpec::Secret { service, secret, rotation, verb, resumes } => {
            let turn = (rotation, resumes.as_ref());
            secret::exec::part(context, service, secret, turn, (*verb, true)).await
        }
        ActionSpec::Data { service, paths, quarantine, verb } => {
            data::exec::part(context, service, paths, (quarantine, *verb), true).await
        }
        ActionSpec::ArtifactActivate { service, release } => {
            release::exec::change(context, service, release, Goal::Activate, true).await
        }
        ActionSpec::ArtifactRevert { service, release } => {
            release::exec::change(context, service, release, Goal::Revert, true).await
        }
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
        | ActionSpec::TrafficDrain { .. }
        | ActionSpec::TrafficRestore { .. }
        | ActionSpec::ExecRun { .. }
        | ActionSpec::RolePromote { .. }
        | ActionSpec::MaintenanceEnter { .. }
        | ActionSpec::MaintenanceExit { .. }
        | ActionSpec::HostPreflight { .. }
        | ActionSpec::HostFacts
        | ActionSpec::HostDiagnose => Err(ActionError::Unsupported(spec.kind())),
    }
}

async fn dispatch(context: &ActionContext, spec: &ActionSpec) -> Result<ActionOutcome, ActionError> {
    match spec {
        ActionSpec::ServiceStatus { service } => service::exec::status(context, service).await,
        ActionSpec::ServiceStart { service } => service::exec::start(context, service).await,
        ActionSpec::ServiceStop { service } => service::exec::stop(context, service).await,
        ActionSpec::ServiceRestart { service } => service::exec::restart(context, service).await,
        ActionSpec::ServiceReload { service } => service::exec::reload(context, service).await,
        ActionSpec::BackupCreate { service, backup, policy } => {
            backup::exec::create(context, service, backup, policy).await
        }
        ActionSpec::BackupVerify { backup, sha256 } => backup::exec::check(context, backup, sha256).await,
        ActionSpec::LogRotate { service, policy } => rotate::exec::rotate(context, service, policy).await,
        ActionSpec::ArtifactStage { service, release } if release.config().is_some() => {
            config::validate::validate(context, service, release).await
        }
        ActionSpec::ArtifactActivate { service, release } if release.config().is_some() => {
            config::exec::apply(context, service, release).await
        }
        ActionSpec::ArtifactRevert { service, release } if release.config().is_some() => {
            config::exec::revert(context, service, release, false).await
        }
        ActionSpec::ConfigConfirm { service, release } => {
            config::exec::confirm(context, service, release).await
        }
        ActionSpec::Secret { service, secret, rotation, verb, resumes } => {
            let turn = (rotation, resumes.as_ref());
            secret::exec::part(context, service, secret, turn, (*verb, false)).await
        }
        ActionSpec::Data { service, paths, quarantine, verb } => {
            data::exec::part(context, service, paths, (quarantine, *verb), false).await
        }
        ActionSpec::ArtifactStage { service, release } => {
            release::stage::stage(context, service, release).await
        }
        ActionSpec::ArtifactActivate { service, release } => {
            release::exec::change(context, service, release, Goal::Activate, false).await
        }
        ActionSpec::ArtifactRevert { service, release } => {
            release::exec::change(context, service, release, Goal::Revert, false).await
        }
        ActionSpec::TrafficDrain { service, traffic, restore_within } => {
            traffic::exec::drain(context, service, traffic, *restore_within).await
        }
        ActionSpec::TrafficRestore { service, traffic } => {
            traffic::exec::restore(context, service, traffic).await
        }
        ActionSpec::ExecRun { service, hook, once: _, release, targets } => {
            let told = Told { release: release.as_ref(), targets, until: None };
            hook::exec::run(context, service, hook, told).await
        }
        ActionSpec::RolePromote { service, group, hook } => {
            role::exec::promote(context, service, group, hook).await
        }
        ActionSpec::MaintenanceEnter { service, maintenance, exit_within, reason } => {
            maintenance::enter(context, service, maintenance, *exit_within, reason).await
        }
        ActionSpec::MaintenanceExit { service, maintenance } => {
            maintenance::exit(context, service, maintenance).await
        }
        ActionSpec::HostPreflight { service, preflight, ahead_of: _, release, backup } => {
            preflight::exec::look(context, service, preflight, release.as_ref(), *backup).await
        }
        ActionSpec::HostFacts => diagnose::exec::facts(context).await,
        ActionSpec::HostDiagnose => diagnose::exec::diagnose(context).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_in_the_catalogue_once_and_its_class_is_the_highest_a_request_can_have() {
        let all = catalogue();
        assert_eq!(all.iter().map(|info| info.kind).collect::<Vec<_>>(), ActionKind::ALL);
        let service = testing::service_name();
        let requests = [
            ActionSpec::ServiceStart { service: service.clone() },
            ActionSpec::ServiceRestart { service },
            ActionSpec::HostDiagnose,
        ];
        for spec in requests {
            assert!(spec.risk() <= info(spec.kind()).risk, "{spec:?}");
        }
        assert!(
            all.iter().all(|info| info.version > 0 && !info.input.is_empty() && info.summary.ends_with('.'))
        );
    }
}
