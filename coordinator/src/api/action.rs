//! ActionService: the catalogue.

use quorate_model::{ActionKind, RiskClass};
use quorate_proto::v1;
use quorate_proto::v1::action_service_server::ActionService;
use tonic::{Request, Response, Status};

use super::context::{Api, Served};

/// Risk at its worst.
const fn worst(kind: ActionKind) -> RiskClass {
    match kind {
        ActionKind::ServiceStatus
        | ActionKind::HostPreflight
        | ActionKind::HostFacts
        | ActionKind::HostDiagnose => RiskClass::Read,
        ActionKind::ServiceStart
        | ActionKind::BackupVerify
        | ActionKind::ArtifactStage
        | ActionKind::ConfigValidate
        | ActionKind::ConfigConfirm
        | ActionKind::SecretStage
        | ActionKind::SecretConfirm => RiskClass::Safe,
        ActionKind::ServiceStop
        | ActionKind::ServiceRestart
        | ActionKind::ServiceReload
        | ActionKind::BackupCreate
        | ActionKind::LogRotate
        | ActionKind::ArtifactActivate
        | ActionKind::ArtifactRevert
        | ActionKind::PackageInstall
        | ActionKind::ConfigApply
        | ActionKind::ConfigRevert
        | ActionKind::SecretInstall
        | ActionKind::SecretRetire
        | ActionKind::SecretRevert
        | ActionKind::DataRevert
        | ActionKind::TrafficDrain
        | ActionKind::TrafficRestore
        | ActionKind::RolePromote
        | ActionKind::ExecRun
        | ActionKind::MaintenanceEnter
        | ActionKind::MaintenanceExit => RiskClass::Disruptive,
        ActionKind::DataQuarantine => RiskClass::Destructive,
    }
}

/// What each does, one line.
const fn about(kind: ActionKind) -> &'static str {
    match kind {
        ActionKind::ServiceStatus => "State of a service's unit.",
        ActionKind::ServiceStart => "Start a service and wait until its unit is active.",
        ActionKind::ServiceStop => "Stop a service; SIGKILL only after its deadline.",
        ActionKind::ServiceRestart => "Stop and start a service.",
        ActionKind::ServiceReload => "Make a service read its configuration again.",
        ActionKind::BackupCreate => "Store a hashed copy; disruptive when writes are paused for it.",
        ActionKind::BackupVerify => "Read a stored copy again and check every file.",
        ActionKind::LogRotate => "Rotate logs; disruptive when the service is reloaded after it.",
        ActionKind::ArtifactStage => "Bring a release onto a host, its digest and signature verified.",
        ActionKind::ArtifactActivate => "Stop a service, switch to a staged release, start it.",
        ActionKind::ArtifactRevert => "Switch a service back to what was in use before a release.",
        ActionKind::PackageInstall => {
            "Install a staged Debian package at its exact version, and nothing else."
        }
        ActionKind::ConfigValidate => {
            "Check a configuration file on its host, and show what it would change."
        }
        ActionKind::ConfigApply => {
            "Put a checked configuration file in place; it goes back by itself unless it is confirmed."
        }
        ActionKind::ConfigRevert => "Put the configuration file from before back.",
        ActionKind::ConfigConfirm => "Keep a configuration file that was put in place.",
        ActionKind::SecretStage => "Take the next secret from its source and look at it.",
        ActionKind::SecretInstall => "Put a secret in place, and the one in use beside it: both are valid.",
        ActionKind::SecretConfirm => "Show that a service works with a new secret.",
        ActionKind::SecretRetire => "Remove the secret from before, once every member has confirmed.",
        ActionKind::SecretRevert => "Put the secret from before in place, and the new one beside it.",
        ActionKind::DataQuarantine => {
            "Put the folders of a stopped instance aside, for a copy from the others; nothing is removed."
        }
        ActionKind::DataRevert => "Put folders that were put aside back.",
        ActionKind::TrafficDrain => {
            "Take an instance out of its load balancer and wait for its connections to end."
        }
        ActionKind::TrafficRestore => "Put an instance back into its load balancer once it is fit to serve.",
        ActionKind::RolePromote => "Make an instance the primary of its group, under a lease that lives.",
        ActionKind::ExecRun => "Run a hook that the host declares and lets be run this way.",
        ActionKind::MaintenanceEnter => {
            "Tell an instance by a file that it is worked on, for a limited time."
        }
        ActionKind::MaintenanceExit => "Tell an instance that it is worked on no longer.",
        ActionKind::HostPreflight => "Look at all that the work on an instance needs, before it begins.",
        ActionKind::HostFacts => "Facts about the host.",
        ActionKind::HostDiagnose => "Findings about the host.",
    }
}

#[tonic::async_trait]
impl ActionService for Api {
    async fn list_actions(
        &self,
        request: Request<v1::ListActionsRequest>,
    ) -> Result<Response<v1::ListActionsResponse>, Status> {
        self.serve(request, |api, _, m| async move {
            let v1::ListActionsRequest {} = m;
            Ok(api.look_around(|state, obs, _| {
                let nodes = |kind: &ActionKind| {
                    obs.nodes.values().filter(|node| node.capabilities.contains(kind)).count()
                };
                let mut actions: Vec<v1::Action> = ActionKind::ALL
                    .iter()
                    .map(|kind| {
                        let (risk, description) = (worst(*kind), about(*kind));
                        v1::Action {
                            name: kind.as_str().to_owned(),
                            risk: risk.as_str().to_owned(),
                            description: description.to_owned(),
                            nodes: u32::try_from(nodes(kind)).unwrap_or(u32::MAX),
                        }
                    })
                    .collect();
                actions.sort_by(|a, b| a.name.cmp(&b.name));
                Served { message: v1::ListActionsResponse { actions }, index: state.revision.0 }
            }))
        })
        .await
    }
}
