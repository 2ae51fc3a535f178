//! What a request chooses: instances, and the action for each.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

use quorate_model::backup::BackupState;
use quorate_model::{
    ActionSpec, BackupId, GroupName, NodeName, OperationKind, Reason, Refusal, Release, Selector,
    ServiceName, StepKind,
};

use super::{migrate, releases, secrets};
use crate::state::plan::{Change, Goal, HostVerb, PlanRequest, Verb};
use crate::state::{Service, State};

/// Most backups verified by one plan.
const VERIFY_MAX: usize = 1_000;

/// One thing to do on one node.
pub(super) struct Target {
    pub(super) node: NodeName,
    pub(super) kind: StepKind,
    pub(super) action: ActionSpec,
}

/// Everything to do.
pub(super) struct Job {
    pub(super) kind: OperationKind,
    pub(super) service: Option<ServiceName>,
    pub(super) group: Option<GroupName>,
    pub(super) targets: Vec<Target>,
    /// What is brought onto every host before the first is disturbed.
    pub(super) release: Option<Release>,
    /// The copies that are stored before, by node.
    pub(super) copies: BTreeMap<NodeName, BackupId>,
}

pub(super) fn of(
    state: &State,
    request: &PlanRequest,
    mint: &mut dyn FnMut() -> u64,
) -> Result<Job, Refusal> {
    match &request.goal {
        Goal::Rollout { group, change } => rollout(state, group, change, mint),
        Goal::Run { service, nodes, verb } => {
            let found = declared(state, service)?;
            let targets = chosen(state, found, nodes)?
                .into_iter()
                .map(|node| {
                    let (kind, action) = run(*verb, service);
                    Target { node, kind, action }
                })
                .collect();
            Ok(Job {
                kind: OperationKind::Run,
                service: Some(service.clone()),
                group: None,
                targets,
                release: None,
                copies: BTreeMap::new(),
            })
        }
        Goal::Backup { service, nodes } => backup(state, service, nodes, mint),
        Goal::Rotate { service, nodes } => {
            let found = declared(state, service)?;
            let Some(policy) = &found.spec.log_rotation else { return Err(lacks(service, "log_rotation")) };
            let targets = chosen(state, found, nodes)?
                .into_iter()
                .map(|node| Target {
                    node,
                    kind: StepKind::Rotate,
                    action: ActionSpec::LogRotate { service: service.clone(), policy: policy.clone() },
                })
                .collect();
            Ok(Job {
                kind: OperationKind::Rotation,
                service: Some(service.clone()),
                group: None,
                targets,
                release: None,
                copies: BTreeMap::new(),
            })
        }
        Goal::Membership { .. } | Goal::Failover { .. } | Goal::Rejoin { .. } | Goal::Rebuild { .. } => {
            Err(Refusal::new(Reason::Internal, "it is planned on its own"))
        }
        Goal::Verify { backups } => verify(state, backups),
        Goal::Host { nodes, verb } => host(state, nodes, *verb),
    }
}

fn declared<'a>(state: &'a State, name: &ServiceName) -> Result<&'a Service, Refusal> {
    state
        .services
        .get(name)
        .ok_or_else(|| Refusal::new(Reason::NotFound, format!("there is no service {name}")))
}

pub(super) fn lacks(service: &ServiceName, field: &str) -> Refusal {
    Refusal::new(Reason::InvalidArgument, format!("service {service} declares no {field}"))
}

fn empty() -> Refusal {
    Refusal::new(Reason::EmptySelector, "the selector chooses nothing")
}

/// Nodes that carry the service and are chosen.
fn chosen(state: &State, service: &Service, nodes: &Selector) -> Result<Vec<NodeName>, Refusal> {
    let chosen: Vec<NodeName> = state
        .nodes
        .all_present()
        .filter(|n| service.spec.nodes.matches(n.name.as_str(), &n.labels))
        .filter(|n| nodes.matches(n.name.as_str(), &n.labels))
        .map(|n| n.name.clone())
        .collect();
    if chosen.is_empty() { Err(empty()) } else { Ok(chosen) }
}

fn run(verb: Verb, service: &ServiceName) -> (StepKind, ActionSpec) {
    let service = service.clone();
    match verb {
        Verb::Status => (StepKind::Status, ActionSpec::ServiceStatus { service }),
        Verb::Start => (StepKind::Start, ActionSpec::ServiceStart { service }),
        Verb::Stop => (StepKind::Stop, ActionSpec::ServiceStop { service }),
        Verb::Restart => (StepKind::Restart, ActionSpec::ServiceRestart { service }),
        Verb::Reload => (StepKind::Reload, ActionSpec::ServiceReload { service }),
    }
}

fn rollout(
    state: &State,
    name: &GroupName,
    change: &Change,
    mint: &mut dyn FnMut() -> u64,
) -> Result<Job, Refusal> {
    let group = state
        .groups
        .get(name)
        .ok_or_else(|| Refusal::new(Reason::NotFound, format!("there is no group {name}")))?;
    let service = &group.spec.service;
    let release = match change {
        Change::Restart | Change::Reload | Change::Secret { .. } | Change::Run { .. } => None,
        Change::Release(wanted) => Some(releases::installed(declared(state, service)?, None, wanted)?),
        Change::Config { config, release } | Change::ConfigDiff { config, release } => {
            Some(releases::installed(declared(state, service)?, Some(config), release)?)
        }
        Change::Undo | Change::ConfigUndo { .. } => {
            Some(releases::before(state, group, declared(state, service)?, change.config())?)
        }
    };
    let rotated = match change {
        Change::Secret { secret } => {
            Some(secrets::install(state, name, declared(state, service)?, secret, mint)?)
        }
        Change::Restart
        | Change::Reload
        | Change::Run { .. }
        | Change::Release(_)
        | Change::Undo
        | Change::Config { .. }
        | Change::ConfigUndo { .. }
        | Change::ConfigDiff { .. } => None,
    };
    let target = |node: &NodeName| {
        if let Some(action) = &rotated {
            return Target { node: node.clone(), kind: StepKind::Activate, action: action.clone() };
        }
        let (kind, action) = match (&release, change) {
            (Some(release), Change::ConfigDiff { .. }) => {
                let (service, release) = (service.clone(), release.clone());
                (StepKind::Stage, ActionSpec::ArtifactStage { service, release })
            }
            (Some(release), _) => {
                let (service, release) = (service.clone(), release.clone());
                (StepKind::Activate, ActionSpec::ArtifactActivate { service, release })
            }
            (None, Change::Run { hook }) => (StepKind::Hook, migrate::hook(service, hook)),
            (None, Change::Reload) => run(Verb::Reload, service),
            (None, _) => run(Verb::Restart, service),
        };
        Target { node: node.clone(), kind, action }
    };
    let targets = group.spec.learners.iter().chain(&group.spec.voters).map(target).collect();
    // Who has the content already is compared all the same.
    let (kind, release) = match change {
        Change::ConfigDiff { .. } => (OperationKind::Run, None),
        Change::Restart
        | Change::Reload
        | Change::Secret { .. }
        | Change::Run { .. }
        | Change::Release(_)
        | Change::Undo
        | Change::Config { .. }
        | Change::ConfigUndo { .. } => (OperationKind::Rollout, release),
    };
    Ok(Job {
        kind,
        service: Some(service.clone()),
        group: Some(name.clone()),
        targets,
        release,
        copies: BTreeMap::new(),
    })
}

fn backup(
    state: &State,
    service: &ServiceName,
    nodes: &Selector,
    mint: &mut dyn FnMut() -> u64,
) -> Result<Job, Refusal> {
    let found = declared(state, service)?;
    let Some(policy) = &found.spec.backup else { return Err(lacks(service, "backup")) };
    let mut targets = Vec::new();
    for node in chosen(state, found, nodes)? {
        let backup = BackupId::new(quorate_model::minted("b", mint()))
            .map_err(|e| Refusal::new(Reason::Internal, format!("{e}")))?;
        let action = ActionSpec::BackupCreate { service: service.clone(), backup, policy: policy.clone() };
        targets.push(Target { node, kind: StepKind::Backup, action });
    }
    Ok(Job {
        kind: OperationKind::Backup,
        service: Some(service.clone()),
        group: None,
        targets,
        release: None,
        copies: BTreeMap::new(),
    })
}

fn verify(state: &State, backups: &[BackupId]) -> Result<Job, Refusal> {
    if backups.is_empty() {
        return Err(empty());
    }
    if backups.len() > VERIFY_MAX {
        return Err(Refusal::new(Reason::LimitReached, format!("more than {VERIFY_MAX} backups at once")));
    }
    let mut targets = Vec::new();
    for id in backups {
        let found = state
            .backups
            .get(id)
            .ok_or_else(|| Refusal::new(Reason::NotFound, format!("there is no backup {id}")))?;
        let gone = matches!(found.state, BackupState::Deleted | BackupState::Pending | BackupState::Running);
        let Some(receipt) = found.receipt.as_ref().filter(|_| !gone) else {
            return Err(Refusal::new(Reason::WrongState, format!("backup {id} is {}", found.state)));
        };
        let action = ActionSpec::BackupVerify { backup: id.clone(), sha256: receipt.sha256.clone() };
        targets.push(Target { node: found.instance.node.clone(), kind: StepKind::Verify, action });
    }
    Ok(Job {
        kind: OperationKind::Backup,
        service: None,
        group: None,
        targets,
        release: None,
        copies: BTreeMap::new(),
    })
}

fn host(state: &State, nodes: &Selector, verb: HostVerb) -> Result<Job, Refusal> {
    let (kind, action) = match verb {
        HostVerb::Facts => (StepKind::Facts, ActionSpec::HostFacts),
        HostVerb::Diagnose => (StepKind::Diagnose, ActionSpec::HostDiagnose),
    };
    let targets: Vec<Target> = state
        .nodes
        .all_present()
        .filter(|n| nodes.matches(n.name.as_str(), &n.labels))
        .map(|n| Target { node: n.name.clone(), kind, action: action.clone() })
        .collect();
    if targets.is_empty() {
        return Err(empty());
    }
    Ok(Job {
        kind: OperationKind::Run,
        service: None,
        group: None,
        targets,
        release: None,
        copies: BTreeMap::new(),
    })
}
