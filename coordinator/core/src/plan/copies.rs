//! The copy of an instance that is stored before a rollout disturbs it, where one is asked for.
//!
//! It is the backup that its service declares, with a pause where that has one. When it fails, its lane ends with nothing
//! changed. Going back stores none: what it would hold is what is being left.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use quorate_model::backup::{BackupPolicy, BackupState};
use quorate_model::{ActionKind, ActionSpec, BackupId, InstanceId, NodeName, Reason, Refusal, StepKind};

use super::targets::{Job, lacks};
use super::{Target, actions};
use crate::observations::Observations;
use crate::state::plan::{Change, Goal, PlanRequest, PlanStep};
use crate::state::{Backup, State};

/// Refuses a copy where nothing is changed afterwards that it could bring back.
pub(super) fn check(request: &PlanRequest) -> Result<(), Refusal> {
    let fits = match &request.goal {
        Goal::Rollout { change, .. } => match change {
            Change::Restart
            | Change::Run { .. }
            | Change::Release(_)
            | Change::Undo
            | Change::Config { .. }
            | Change::ConfigUndo { .. } => true,
            // A copy may hold what is secret: a rotation stores none.
            Change::Secret { .. } | Change::Reload | Change::ConfigDiff { .. } => false,
        },
        Goal::Run { .. }
        | Goal::Backup { .. }
        | Goal::Rotate { .. }
        | Goal::Membership { .. }
        | Goal::Failover { .. }
        | Goal::Rejoin { .. }
        | Goal::Rebuild { .. }
        | Goal::Verify { .. }
        | Goal::Host { .. } => false,
    };
    if fits || !request.backup_first {
        return Ok(());
    }
    let what = "backup_first: only rolling restarts, releases and hooks have a copy stored before";
    Err(Refusal::new(Reason::InvalidArgument, what))
}

fn policy<'a>(state: &'a State, target: &Target) -> Option<&'a BackupPolicy> {
    state.services.get(target.action.service()?)?.spec.backup.as_ref()
}

/// An id for the copy of each instance.
pub(super) fn name_all(
    state: &State,
    request: &PlanRequest,
    job: &mut Job,
    mint: &mut dyn FnMut() -> u64,
) -> Result<(), Refusal> {
    if !request.backup_first {
        return Ok(());
    }
    if let Some(service) = &job.service
        && job.targets.iter().any(|target| policy(state, target).is_none())
    {
        return Err(lacks(service, "backup"));
    }
    let mut copies = BTreeMap::new();
    for target in &job.targets {
        let id = BackupId::new(quorate_model::minted("b", mint()))
            .map_err(|e| Refusal::new(Reason::Internal, format!("{e}")))?;
        copies.insert(target.node.clone(), id);
    }
    job.copies = copies;
    Ok(())
}

/// The copy before it, where one is asked for. A node that is worked on twice, because a release is migrated from there, has it
/// before the first time: `left` are the ones that no step stores yet.
pub(super) fn step(
    state: &State,
    request: &PlanRequest,
    target: &Target,
    left: &mut BTreeMap<NodeName, BackupId>,
) -> Option<PlanStep> {
    let backup = left.remove(&target.node)?;
    let note = format!("backup {backup}");
    let (service, policy) = (target.action.service()?.clone(), policy(state, target)?.clone());
    let action = ActionSpec::BackupCreate { service, backup, policy };
    let copy = Target { node: target.node.clone(), kind: StepKind::Backup, action };
    // The longest time of a step is meant for what disturbs; a copy takes as long as there is data.
    let patient = PlanRequest { step_deadline: None, ..request.clone() };
    Some(PlanStep { note, ..actions::action(state, &patient, &copy) })
}

/// An agent that cannot store a copy is not asked to do what comes after.
pub(super) fn check_capabilities(obs: &Observations, job: &Job) -> Result<(), Refusal> {
    let lacks = |node: &&NodeName| {
        obs.nodes.get(*node).is_some_and(|seen| {
            !seen.capabilities.is_empty() && !seen.capabilities.contains(&ActionKind::BackupCreate)
        })
    };
    match job.targets.iter().map(|t| &t.node).filter(|node| job.copies.contains_key(*node)).find(lacks) {
        None => Ok(()),
        Some(node) => Err(Refusal::new(
            Reason::ActionUnsupported,
            format!("the agent on {node} has no {}", ActionKind::BackupCreate),
        )),
    }
}

/// For a rollout that goes back: the newest copy of each instance that an earlier rollout has stored, because going back to a
/// release does not bring its data back.
pub(super) fn known(state: &State, request: &PlanRequest, job: &Job) -> Vec<String> {
    if !matches!(&request.goal, Goal::Rollout { change: Change::Undo, .. }) {
        return Vec::new();
    }
    let is_copy = |backup: &&Backup| {
        let operation = backup.operation.as_ref().and_then(|id| state.operations.get(id));
        let written =
            matches!(backup.state, BackupState::Written | BackupState::Verified | BackupState::Drilled);
        written && operation.is_some_and(|operation| operation.request.backup_first)
    };
    let of = |target: &Target| {
        let instance = InstanceId { node: target.node.clone(), service: target.action.service()?.clone() };
        let copies = state.backups.values().filter(|b| b.instance == instance).filter(is_copy);
        let newest = copies.max_by_key(|backup| backup.created_at)?;
        Some(format!(
            "{}: its data from before a rollout is backup {} of {}; it is not put back",
            target.node,
            newest.id,
            newest.created_at.utc()
        ))
    };
    job.targets.iter().filter_map(of).collect()
}
