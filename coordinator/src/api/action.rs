//! ActionService: the catalogue.

use quorate_model::{ActionKind, RiskClass};
use quorate_proto::v1;
use quorate_proto::v1::action_service_server::ActionService;
use tonic::{Request, Response, Status};

use super::context::{Api, Served};

/// Risk at its worst and one line, for the catalogue.
const fn about(kind: ActionKind) -> (RiskClass, &'static str) {
    match kind {
        ActionKind::ServiceStatus => (RiskClass::Read, "State of a service's unit."),
        ActionKind::ServiceStart => (RiskClass::Safe, "Start a service and wait until its unit is active."),
        ActionKind::ServiceStop => {
            (RiskClass::Disruptive, "Stop a service; SIGKILL only after its deadline.")
        }
        ActionKind::ServiceRestart => (RiskClass::Disruptive, "Stop and start a service."),
        ActionKind::ServiceReload => (RiskClass::Disruptive, "Make a service read its configuration again."),
        ActionKind::BackupCreate => {
            (RiskClass::Disruptive, "Store a hashed copy; disruptive when writes are paused for it.")
        }
        ActionKind::BackupVerify => (RiskClass::Safe, "Read a stored copy again and check every file."),
        ActionKind::LogRotate => {
            (RiskClass::Disruptive, "Rotate logs; disruptive when the service is reloaded after it.")
        }
        ActionKind::ArtifactStage => {
            (RiskClass::Safe, "Bring a release onto a host, its digest and signature verified.")
        }
        ActionKind::ArtifactActivate => {
            (RiskClass::Disruptive, "Stop a service, switch to a staged release, start it.")
        }
        ActionKind::ArtifactRevert => {
            (RiskClass::Disruptive, "Switch a service back to what was in use before a release.")
        }
        ActionKind::PackageInstall => {
            (RiskClass::Disruptive, "Install a staged Debian package at its exact version, and nothing else.")
        }
        ActionKind::ConfigValidate => {
            (RiskClass::Safe, "Check a configuration file on its host, and show what it would change.")
        }
        ActionKind::ConfigApply => (
            RiskClass::Disruptive,
            "Put a checked configuration file in place; it goes back by itself unless it is confirmed.",
        ),
        ActionKind::ConfigRevert => (RiskClass::Disruptive, "Put the configuration file from before back."),
        ActionKind::ConfigConfirm => (RiskClass::Safe, "Keep a configuration file that was put in place."),
        ActionKind::SecretStage => (RiskClass::Safe, "Take the next secret from its source and look at it."),
        ActionKind::SecretInstall => {
            (RiskClass::Disruptive, "Put a secret in place, and the one in use beside it: both are valid.")
        }
        ActionKind::SecretConfirm => (RiskClass::Safe, "Show that a service works with a new secret."),
        ActionKind::SecretRetire => {
            (RiskClass::Disruptive, "Remove the secret from before, once every member has confirmed.")
        }
        ActionKind::SecretRevert => {
            (RiskClass::Disruptive, "Put the secret from before in place, and the new one beside it.")
        }
        ActionKind::DataQuarantine => (
            RiskClass::Destructive,
            "Put the folders of a stopped instance aside, for a copy from the others; nothing is removed.",
        ),
        ActionKind::DataRevert => (RiskClass::Disruptive, "Put folders that were put aside back."),
        ActionKind::TrafficDrain => (
            RiskClass::Disruptive,
            "Take an instance out of its load balancer and wait for its connections to end.",
        ),
        ActionKind::TrafficRestore => {
            (RiskClass::Disruptive, "Put an instance back into its load balancer once it is fit to serve.")
        }
        ActionKind::RolePromote => {
            (RiskClass::Disruptive, "Make an instance the primary of its group, under a lease that lives.")
        }
        ActionKind::ExecRun => {
            (RiskClass::Disruptive, "Run a hook that the host declares and lets be run this way.")
        }
        ActionKind::MaintenanceEnter => {
            (RiskClass::Disruptive, "Tell an instance by a file that it is worked on, for a limited time.")
        }
        ActionKind::MaintenanceExit => {
            (RiskClass::Disruptive, "Tell an instance that it is worked on no longer.")
        }
        ActionKind::HostPreflight => {
            (RiskClass::Read, "Look at all that the work on an instance needs, before it begins.")
        }
        ActionKind::HostFacts => (RiskClass::Read, "Facts about the host."),
        ActionKind::HostDiagnose => (RiskClass::Read, "Findings about the host."),
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
                        let (risk, description) = about(*kind);
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
