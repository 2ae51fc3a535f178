//! The closed catalogue of typed actions: what an agent can be asked to do.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::backup::{BackupPolicy, LogRotation};
use crate::data::DataVerb;
use crate::id::{BackupId, GroupName, HookName, NodeName, QuarantineId, RotationId, ServiceName, Version};
use crate::maintenance::MaintenanceSpec;
use crate::preflight::PreflightSpec;
use crate::release::{Install, Release};
use crate::secret::{SecretSpec, SecretVerb};
use crate::time::DurationMs;
use crate::traffic::TrafficSpec;

pub use crate::outcome::{ActionOutcome, Finding, OUTPUT_TAIL_MAX_BYTES};

words! {
    /// An action's name, as in the catalogue.
    pub enum ActionKind {
        /// State of a unit.
        ServiceStatus = "service.status",
        /// Start a unit.
        ServiceStart = "service.start",
        /// Stop a unit.
        ServiceStop = "service.stop",
        /// Stop and start a unit.
        ServiceRestart = "service.restart",
        /// Make a unit read its configuration again.
        ServiceReload = "service.reload",
        /// Store a copy.
        BackupCreate = "backup.create",
        /// Read a copy again and check every file.
        BackupVerify = "backup.verify",
        /// Rotate logs.
        LogRotate = "log.rotate",
        /// Bring a release's artifact onto the host, checked and ready.
        ArtifactStage = "artifact.stage",
        /// Make a staged binary or archive the one in use.
        ArtifactActivate = "artifact.activate",
        /// Back to what was in use before a release.
        ArtifactRevert = "artifact.revert",
        /// Install a staged package at its exact version.
        PackageInstall = "package.install",
        /// Check a configuration file on its host and show what it would change.
        ConfigValidate = "config.validate",
        /// Put a checked configuration file to use, for a time.
        ConfigApply = "config.apply",
        /// Put the previous configuration file back.
        ConfigRevert = "config.revert",
        /// Keep a configuration file that was put to use.
        ConfigConfirm = "config.confirm",
        /// Take the next secret from its source and look at it.
        SecretStage = "secret.stage",
        /// Put a secret in place, and the one before beside it.
        SecretInstall = "secret.install",
        /// Show that a service works with a new secret.
        SecretConfirm = "secret.confirm",
        /// Remove the secret from before.
        SecretRetire = "secret.retire",
        /// Put the secret from before in place again.
        SecretRevert = "secret.revert",
        /// Put an instance's data aside.
        DataQuarantine = "data.quarantine",
        /// Put data that was put aside back.
        DataRevert = "data.revert",
        /// Take an instance out of its load balancer.
        TrafficDrain = "traffic.drain",
        /// Put an instance back into its load balancer.
        TrafficRestore = "traffic.restore",
        /// Run a hook that the host declares.
        ExecRun = "exec.run",
        /// Make an instance the primary.
        RolePromote = "role.promote",
        /// Tell an instance that it is worked on.
        MaintenanceEnter = "maintenance.enter",
        /// Tell an instance that it is worked on no longer.
        MaintenanceExit = "maintenance.exit",
        /// Whether a host is ready for the work on an instance.
        HostPreflight = "host.preflight",
        /// Facts about the host.
        HostFacts = "host.facts",
        /// Findings about the host.
        HostDiagnose = "host.diagnose",
    }
}

words! {
    /// What an action may do to others.
    pub enum RiskClass {
        /// Changes nothing.
        Read = "READ",
        /// Changes nothing that serves.
        Safe = "SAFE",
        /// Needs a disruption grant.
        Disruptive = "DISRUPTIVE",
        /// Needs a grant, an approval and proof elsewhere.
        Destructive = "DESTRUCTIVE",
    }
}

/// One typed request to an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionSpec {
    /// `service.status`.
    ServiceStatus {
        /// Which.
        service: ServiceName,
    },
    /// `service.start`.
    ServiceStart {
        /// Which.
        service: ServiceName,
    },
    /// `service.stop`.
    ServiceStop {
        /// Which.
        service: ServiceName,
    },
    /// `service.restart`.
    ServiceRestart {
        /// Which.
        service: ServiceName,
    },
    /// `service.reload`.
    ServiceReload {
        /// Which.
        service: ServiceName,
    },
    /// `backup.create`.
    BackupCreate {
        /// Which instance.
        service: ServiceName,
        /// Its id in the catalogue and its file name on the node.
        backup: BackupId,
        /// What and how.
        policy: BackupPolicy,
    },
    /// `backup.verify`.
    BackupVerify {
        /// Which copy.
        backup: BackupId,
        /// The archive's sha256 by the catalogue.
        sha256: String,
    },
    /// `log.rotate`.
    LogRotate {
        /// Whose logs; reloaded afterwards if the policy says so.
        service: ServiceName,
        /// What and how.
        policy: LogRotation,
    },
    /// `artifact.stage`, or `config.validate` of a configuration file: fetch, verify digest and signature, lay out beside what is in use; nothing that serves changes.
    ArtifactStage {
        /// Which instance.
        service: ServiceName,
        /// What.
        release: Release,
    },
    /// `artifact.activate` (a binary or an archive), `package.install` or `config.apply`: stop, switch to the staged release, start. What was in
    /// use before is kept and remembered on the host.
    ArtifactActivate {
        /// Which instance.
        service: ServiceName,
        /// What.
        release: Release,
    },
    /// `artifact.revert` or `config.revert`: if this release is in use, stop, switch back to what was in use before it, start; if not, only make sure
    /// that the service runs.
    ArtifactRevert {
        /// Which instance.
        service: ServiceName,
        /// The release to leave.
        release: Release,
    },
    /// `config.confirm`: the configuration file stays. Until then its host puts the previous one back by itself.
    ConfigConfirm {
        /// Which instance.
        service: ServiceName,
        /// The file that is in use.
        release: Release,
    },
    /// `secret.stage`, `secret.install`, `secret.confirm`, `secret.retire` or `secret.revert`: one part of a rotation in two
    /// phases. No content is in it.
    Secret {
        /// Which instance.
        service: ServiceName,
        /// Which secret, and where it lies.
        secret: SecretSpec,
        /// Which rotation.
        rotation: RotationId,
        /// Which part.
        verb: SecretVerb,
        /// The rotation that stopped after its first removal and that this one goes on with: a member that has finished that
        /// one and is given the same secret again has it already.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resumes: Option<RotationId>,
    },
    /// `data.quarantine` or `data.revert`: the folders of a stopped instance are renamed, all of them or none. Nothing is
    /// removed.
    Data {
        /// Which instance.
        service: ServiceName,
        /// Its folders.
        paths: Vec<String>,
        /// What they are called by while they are aside; the same again ends the same.
        quarantine: QuarantineId,
        /// Which way.
        verb: DataVerb,
    },
    /// `traffic.drain`: no new connection for the instance, then wait until it has none. Whatever happens afterwards, it is put
    /// back once it is healthy.
    TrafficDrain {
        /// Which instance.
        service: ServiceName,
        /// Where and how.
        traffic: TrafficSpec,
        /// The host puts it back by itself after this time, when it is healthy and nobody else has.
        restore_within: DurationMs,
    },
    /// `traffic.restore`: new connections again, and wait until the balancer says that it serves.
    TrafficRestore {
        /// Which instance.
        service: ServiceName,
        /// Where and how.
        traffic: TrafficSpec,
    },
    /// `exec.run`: one hook that the host itself declares and lets be run this way; never a caller's text.
    ExecRun {
        /// For which instance.
        service: ServiceName,
        /// Which.
        hook: HookName,
        /// Nobody runs it a second time by himself: when its outcome is lost, it is told as unknown.
        once: bool,
        /// The release it is run for, told to the hook; none when it is for none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        release: Option<Version>,
        /// The members that may take over from this one, told to the hook; empty when it hands nothing over.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        targets: Vec<NodeName>,
    },
    /// `role.promote`: the instance becomes the primary, under a lease of the assignment's own epoch and while that lives.
    RolePromote {
        /// Which instance.
        service: ServiceName,
        /// Whose primary.
        group: GroupName,
        /// The hook that does it; told a second time it changes nothing.
        hook: HookName,
    },
    /// `maintenance.enter`: the file is there until it is taken away again, by its host alone if need be.
    MaintenanceEnter {
        /// Which instance.
        service: ServiceName,
        /// Where.
        maintenance: MaintenanceSpec,
        /// The host takes it away by itself after this time.
        exit_within: DurationMs,
        /// Why, one line.
        reason: String,
    },
    /// `maintenance.exit`: takes the file away, if it is ours.
    MaintenanceExit {
        /// Which instance.
        service: ServiceName,
        /// Where.
        maintenance: MaintenanceSpec,
    },
    /// `host.preflight`: looks at all that the work on an instance needs, and changes nothing.
    HostPreflight {
        /// Which instance.
        service: ServiceName,
        /// What is looked at.
        preflight: PreflightSpec,
        /// The action that it goes ahead of: the host must allow it.
        ahead_of: ActionKind,
        /// What is put to use then, if something is: it needs room.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        release: Option<Release>,
        /// A copy is stored before: its folder needs room.
        #[serde(default, skip_serializing_if = "core::ops::Not::not")]
        backup: bool,
    },
    /// `host.facts`.
    HostFacts,
    /// `host.diagnose`.
    HostDiagnose,
}

impl ActionSpec {
    /// Its name in the catalogue.
    #[must_use]
    pub const fn kind(&self) -> ActionKind {
        match self {
            Self::ServiceStatus { .. } => ActionKind::ServiceStatus,
            Self::ServiceStart { .. } => ActionKind::ServiceStart,
            Self::ServiceStop { .. } => ActionKind::ServiceStop,
            Self::ServiceRestart { .. } => ActionKind::ServiceRestart,
            Self::ServiceReload { .. } => ActionKind::ServiceReload,
            Self::BackupCreate { .. } => ActionKind::BackupCreate,
            Self::BackupVerify { .. } => ActionKind::BackupVerify,
            Self::LogRotate { .. } => ActionKind::LogRotate,
            Self::ArtifactStage { release, .. } => match release.install {
                Install::Binary { .. } | Install::Archive { .. } | Install::Package { .. } => {
                    ActionKind::ArtifactStage
                }
                Install::Config(_) => ActionKind::ConfigValidate,
            },
            Self::ArtifactActivate { release, .. } => match release.install {
                Install::Binary { .. } | Install::Archive { .. } => ActionKind::ArtifactActivate,
                Install::Package { .. } => ActionKind::PackageInstall,
                Install::Config(_) => ActionKind::ConfigApply,
            },
            Self::ArtifactRevert { release, .. } => match release.install {
                Install::Binary { .. } | Install::Archive { .. } | Install::Package { .. } => {
                    ActionKind::ArtifactRevert
                }
                Install::Config(_) => ActionKind::ConfigRevert,
            },
            Self::ConfigConfirm { .. } => ActionKind::ConfigConfirm,
            Self::Secret { verb, .. } => match verb {
                SecretVerb::Stage => ActionKind::SecretStage,
                SecretVerb::Install => ActionKind::SecretInstall,
                SecretVerb::Confirm => ActionKind::SecretConfirm,
                SecretVerb::Retire => ActionKind::SecretRetire,
                SecretVerb::Revert => ActionKind::SecretRevert,
            },
            Self::Data { verb, .. } => match verb {
                DataVerb::Quarantine => ActionKind::DataQuarantine,
                DataVerb::Revert => ActionKind::DataRevert,
            },
            Self::TrafficDrain { .. } => ActionKind::TrafficDrain,
            Self::TrafficRestore { .. } => ActionKind::TrafficRestore,
            Self::ExecRun { .. } => ActionKind::ExecRun,
            Self::RolePromote { .. } => ActionKind::RolePromote,
            Self::MaintenanceEnter { .. } => ActionKind::MaintenanceEnter,
            Self::MaintenanceExit { .. } => ActionKind::MaintenanceExit,
            Self::HostPreflight { .. } => ActionKind::HostPreflight,
            Self::HostFacts => ActionKind::HostFacts,
            Self::HostDiagnose => ActionKind::HostDiagnose,
        }
    }

    /// The service it works on, if any.
    #[must_use]
    pub const fn service(&self) -> Option<&ServiceName> {
        match self {
            Self::ServiceStatus { service }
            | Self::ServiceStart { service }
            | Self::ServiceStop { service }
            | Self::ServiceRestart { service }
            | Self::ServiceReload { service }
            | Self::BackupCreate { service, .. }
            | Self::LogRotate { service, .. }
            | Self::ArtifactStage { service, .. }
            | Self::ArtifactActivate { service, .. }
            | Self::ArtifactRevert { service, .. }
            | Self::ConfigConfirm { service, .. }
            | Self::Secret { service, .. }
            | Self::Data { service, .. }
            | Self::TrafficDrain { service, .. }
            | Self::TrafficRestore { service, .. }
            | Self::HostPreflight { service, .. }
            | Self::MaintenanceEnter { service, .. }
            | Self::MaintenanceExit { service, .. }
            | Self::RolePromote { service, .. }
            | Self::ExecRun { service, .. } => Some(service),
            Self::BackupVerify { .. } | Self::HostFacts | Self::HostDiagnose => None,
        }
    }

    /// The release it is about, if any.
    #[must_use]
    pub const fn release(&self) -> Option<&Release> {
        match self {
            Self::ArtifactStage { release, .. }
            | Self::ArtifactActivate { release, .. }
            | Self::ArtifactRevert { release, .. }
            | Self::ConfigConfirm { release, .. } => Some(release),
            Self::HostPreflight { release, .. } => release.as_ref(),
            Self::ServiceStatus { .. }
            | Self::ServiceStart { .. }
            | Self::ServiceStop { .. }
            | Self::ServiceRestart { .. }
            | Self::ServiceReload { .. }
            | Self::BackupCreate { .. }
            | Self::BackupVerify { .. }
            | Self::LogRotate { .. }
            | Self::Secret { .. }
            | Self::Data { .. }
            | Self::TrafficDrain { .. }
            | Self::TrafficRestore { .. }
            | Self::ExecRun { .. }
            | Self::RolePromote { .. }
            | Self::MaintenanceEnter { .. }
            | Self::MaintenanceExit { .. }
            | Self::HostFacts
            | Self::HostDiagnose => None,
        }
    }

    /// What it may do to others. A backup that pauses writes and a rotation that reloads disturb the instance.
    #[must_use]
    pub const fn risk(&self) -> RiskClass {
        match self {
            Self::ServiceStatus { .. }
            | Self::HostPreflight { .. }
            | Self::HostFacts
            | Self::HostDiagnose => RiskClass::Read,
            Self::ServiceStart { .. }
            | Self::BackupVerify { .. }
            | Self::ArtifactStage { .. }
            | Self::ConfigConfirm { .. } => RiskClass::Safe,
            Self::ServiceStop { .. }
            | Self::ServiceRestart { .. }
            | Self::ServiceReload { .. }
            | Self::ArtifactActivate { .. }
            | Self::ArtifactRevert { .. }
            | Self::TrafficDrain { .. }
            | Self::TrafficRestore { .. }
            | Self::MaintenanceEnter { .. }
            | Self::MaintenanceExit { .. }
            // What a hook does is not known here: the budget of its instance is taken for it.
            | Self::RolePromote { .. }
            | Self::ExecRun { .. } => RiskClass::Disruptive,
            Self::Secret { verb, .. } => match verb {
                SecretVerb::Stage | SecretVerb::Confirm => RiskClass::Safe,
                SecretVerb::Install | SecretVerb::Retire | SecretVerb::Revert => RiskClass::Disruptive,
            },
            // What is aside can be put back: but the copy of somebody else is trusted from here on.
            Self::Data { verb: DataVerb::Quarantine, .. } => RiskClass::Destructive,
            Self::Data { verb: DataVerb::Revert, .. } => RiskClass::Disruptive,
            Self::BackupCreate { policy, .. } => {
                if policy.pause.is_some() {
                    RiskClass::Disruptive
                } else {
                    RiskClass::Safe
                }
            }
            Self::LogRotate { policy, .. } => {
                if policy.reload {
                    RiskClass::Disruptive
                } else {
                    RiskClass::Safe
                }
            }
        }
    }
}
