//! Whether a former primary may come back, and what keeps it from being started before.
//!
//! Started as it is it would lead again, beside whoever leads now. It is a standby once it is seen to be one, whoever made it so.

use alloc::format;

use quorate_model::{
    ActionSpec, GroupName, InstanceRole, InstanceState, NodeName, Reason, Refusal, ServiceName, StepKind,
    StepState, Timestamp,
};

use super::super::availability::{Evidence, is_current};
use super::super::{fence, lease};
use super::instance;
use crate::state::operation::Operation;
use crate::state::plan::Goal;
use crate::state::{Group, State};

/// The return that an operation is for: of which group, and who comes back.
#[must_use]
pub fn of(operation: &Operation) -> Option<(&GroupName, &NodeName)> {
    match &operation.request.goal {
        Goal::Rejoin { group, node } => Some((group, node)),
        Goal::Rollout { .. }
        | Goal::Run { .. }
        | Goal::Backup { .. }
        | Goal::Rotate { .. }
        | Goal::Membership { .. }
        | Goal::Failover { .. }
        | Goal::Rebuild { .. }
        | Goal::Verify { .. }
        | Goal::Host { .. } => None,
    }
}

/// Whether a member is seen to be a standby of whoever got the last lease.
#[must_use]
pub fn is_back(
    state: &State,
    group: &Group,
    node: &NodeName,
    evidence: &Evidence<'_>,
    now: Timestamp,
) -> bool {
    let Some(lease) = &group.primary else { return false };
    evidence.get(&instance(group, node)).is_some_and(|reading| {
        reading.role == InstanceRole::Standby
            && reading.observed == InstanceState::Healthy
            // What was read of it before may be from a time when it had not led yet.
            && reading.at > lease.granted_at
            && is_current(state, reading, now)
    })
}

/// The service that an action starts, or may start.
const fn started(action: &ActionSpec) -> Option<&ServiceName> {
    match action {
        ActionSpec::ServiceStart { service }
        | ActionSpec::ServiceRestart { service }
        | ActionSpec::ArtifactActivate { service, .. }
        | ActionSpec::ArtifactRevert { service, .. } => Some(service),
        // What runs while these are done ran before; they start nothing that did not. A promotion has a lease of its own.
        ActionSpec::ServiceStatus { .. }
        | ActionSpec::ServiceStop { .. }
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
        | ActionSpec::HostDiagnose => None,
    }
}

/// Why an action would start something that leads beside the primary, or without a lease.
#[must_use]
pub fn starts_refuses(state: &State, node: &NodeName, action: &ActionSpec) -> Option<Refusal> {
    let service = started(action)?;
    let declared = |group: &&Group| group.spec.failover.is_some() && group.spec.service == *service;
    state.groups.values().filter(declared).find_map(|group| {
        let (name, last) = (&group.spec.name, group.primary.as_ref()?);
        if group.former.contains(node) {
            let what = format!(
                "{node} may have led {name} before {} did: started as it is, it would lead again",
                last.node
            );
            let hint = format!("quorate failover rejoin {name} {node}");
            return Some(Refusal::new(Reason::PrimaryLease, what).with_hint(hint));
        }
        // Not under a lease that lives either: a start that comes late would find it over.
        (last.node == *node).then(|| {
            let what = format!(
                "{node} led {name} last: it leads again under a new lease, and is not started otherwise"
            );
            let hint = format!("quorate failover switchover {name} --lost --to {node}");
            Refusal::new(Reason::PrimaryLease, what)
                .with_detail("lease", format!("epoch {}, {}", last.epoch, last.state))
                .with_hint(hint)
        })
    })
}

/// Why a step may not start what it starts; one that its own operation has made a standby may be.
#[must_use]
pub fn start_refuses(
    state: &State,
    operation: &Operation,
    node: &NodeName,
    action: &ActionSpec,
) -> Option<Refusal> {
    let made = operation.steps.iter().any(|step| {
        step.kind == StepKind::Rejoin && step.node == *node && step.state == StepState::Succeeded
    });
    if made { None } else { starts_refuses(state, node, action) }
}

/// Why a member may not come back now: somebody else must lead for certain and be seen to serve, and it must be stopped.
#[must_use]
pub fn refuses(
    state: &State,
    group: &Group,
    node: &NodeName,
    evidence: &Evidence<'_>,
    now: Timestamp,
) -> Option<Refusal> {
    let name = &group.spec.name;
    if !group.spec.voters.contains(node) {
        return Some(Refusal::new(Reason::NotFound, format!("{node} is no voter of {name}")));
    }
    let leads = lease::live(group).is_some_and(|lease| lease.node == *node);
    if leads {
        let what = format!("{node} holds the primary role of {name}");
        return Some(Refusal::new(Reason::NothingToChange, what));
    }
    if let Some(refusal) = fence::reachable(state, node)
        .or_else(|| lease::disturb_refuses(state, group, &[], "bringing back", evidence, now))
    {
        return Some(refusal);
    }
    let id = instance(group, node);
    let Some(reading) = evidence.get(&id).filter(|reading| is_current(state, reading, now)) else {
        return Some(Refusal::new(Reason::EvidenceStale, format!("how {id} stands is not known")));
    };
    match reading.observed {
        InstanceState::Stopped | InstanceState::Failed => None,
        InstanceState::Healthy if reading.role == InstanceRole::Standby => {
            Some(Refusal::new(Reason::NothingToChange, format!("{id} is a standby already")))
        }
        InstanceState::Healthy
        | InstanceState::Unknown
        | InstanceState::Starting
        | InstanceState::Running
        | InstanceState::Soaking
        | InstanceState::Unhealthy
        | InstanceState::Stopping => {
            let what = format!("{id} is {}: it comes back from a stop", reading.observed);
            let hint = format!("quorate service stop {} --node {node}", id.service);
            Some(Refusal::new(Reason::WrongState, what).with_hint(hint))
        }
    }
}
