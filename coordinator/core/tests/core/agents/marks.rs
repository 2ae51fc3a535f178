//! What an action leaves on a host: the release in use, and the undos that are owed.

use quorate_core::command::{Command, ObligationCommand};
use quorate_model::{
    ActionSpec, ExecutionId, InstanceId, NodeName, ObligationId, ObligationState, ReleaseReceipt,
};

use super::Fleet;

impl Fleet {
    /// What an agent tells of the release in use afterwards.
    pub(super) fn receipt(&self, name: &NodeName, action: &ActionSpec) -> Option<ReleaseReceipt> {
        let (ActionSpec::ArtifactActivate { service, .. } | ActionSpec::ArtifactRevert { service, .. }) =
            action
        else {
            return None;
        };
        let id = InstanceId { node: name.clone(), service: service.clone() };
        let truth = &self.truth[&id];
        let file = action.release().is_some_and(|release| release.config().is_some());
        let used = if file { &truth.file } else { &truth.used };
        let (version, artifact) = used.clone().unwrap_or_default();
        Some(ReleaseReceipt {
            version,
            artifact,
            previous: String::new(),
            signed_by: String::new(),
            replaces: String::new(),
        })
    }

    /// What an action makes of the release in use.
    pub(super) fn install(&mut self, instance: &InstanceId, action: &ActionSpec) {
        let truth = self.truth.get_mut(instance).unwrap();
        match action {
            ActionSpec::ArtifactActivate { release, .. } if release.config().is_some() => {
                let new = (release.version.to_string(), release.artifact.to_string());
                truth.file_before = truth.file.replace(new);
            }
            ActionSpec::ArtifactRevert { release, .. } if release.config().is_some() => {
                let digest = release.artifact.as_str();
                if truth.file.as_ref().is_some_and(|(_, used)| used == digest) {
                    truth.file = truth.file_before.take();
                }
            }
            ActionSpec::ArtifactActivate { release, .. } => {
                let new = (release.version.to_string(), release.artifact.to_string());
                truth.before = truth.used.replace(new);
            }
            ActionSpec::ArtifactRevert { release, .. }
                if truth.used.as_ref().is_some_and(|(_, digest)| *digest == release.artifact.as_str()) =>
            {
                truth.used = truth.before.take();
            }
            _ => {}
        }
    }

    /// Whether an undo is one that this fleet knows of.
    pub(super) fn owes(&self, id: &ObligationId) -> bool {
        [&self.out, &self.told, &self.unconfirmed].iter().any(|owed| owed.values().any(|owed| owed == id))
    }

    /// A drain, an announcement and a configuration file owe their undo before they begin.
    pub(super) fn take_out(
        &mut self,
        name: &NodeName,
        execution: &ExecutionId,
        action: &quorate_model::ActionSpec,
    ) {
        let (service, what) = match action {
            ActionSpec::TrafficDrain { service, .. } => (service, "restore"),
            ActionSpec::MaintenanceEnter { service, .. } => (service, "maintenance"),
            ActionSpec::ArtifactActivate { service, release } if release.config().is_some() => {
                (service, "config")
            }
            _ => return,
        };
        let id = ObligationId::new(format!("{execution}:{what}")).unwrap();
        let instance = InstanceId { node: name.clone(), service: service.clone() };
        let (owed, what) = match what {
            "restore" => (&mut self.out, format!("put {instance} back into its pool")),
            "config" => (&mut self.unconfirmed, format!("put the file of {instance} back as it was")),
            _ => (&mut self.told, format!("end the maintenance of {instance}")),
        };
        let older = owed.insert(instance.clone(), id.clone());
        let command = ObligationCommand::Open {
            id: id.clone(),
            node: name.clone(),
            execution: execution.clone(),
            what,
            due_at: self.world.now.plus(quorate_model::DurationMs::from_secs(600)),
        };
        let answer = self.world.system(Command::Obligation(command));
        assert!(answer.refusal().is_none(), "{answer:?}");
        if let Some(older) = older {
            self.close(name, older, ObligationState::Discharged);
        }
    }

    /// What was owed is done.
    pub(super) fn put_back(&mut self, name: &NodeName, instance: &InstanceId, action: &ActionSpec) {
        let owed = match action {
            ActionSpec::TrafficRestore { .. } => self.out.remove(instance),
            ActionSpec::MaintenanceExit { .. } => self.told.remove(instance),
            ActionSpec::ConfigConfirm { .. } => self.unconfirmed.remove(instance),
            ActionSpec::ArtifactRevert { release, .. } if release.config().is_some() => {
                self.unconfirmed.remove(instance)
            }
            _ => None,
        };
        if let Some(owed) = owed {
            self.close(name, owed, ObligationState::Discharged);
        }
    }

    pub(super) fn close(&mut self, name: &NodeName, id: ObligationId, state: ObligationState) {
        let unconfirmed = self.unconfirmed.iter().find(|(_, owed)| **owed == id);
        if state == ObligationState::ExpiredDischarged
            && let Some(truth) = unconfirmed.and_then(|(instance, _)| self.truth.get_mut(instance))
        {
            truth.file = truth.file_before.take();
        }
        self.unconfirmed.retain(|_, owed| *owed != id);
        self.out.retain(|_, owed| *owed != id);
        self.told.retain(|_, owed| *owed != id);
        let command = ObligationCommand::Close { id, node: name.clone(), state };
        let answer = self.world.system(Command::Obligation(command));
        assert!(answer.refusal().is_none(), "{answer:?}");
    }
}
