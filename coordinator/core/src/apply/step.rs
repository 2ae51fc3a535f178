//! Steps: begun only after safety said yes at this very entry, ended by their execution, their gate or their deadline.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use quorate_model::service::DesiredState;
use quorate_model::{
    ActionSpec, ExecutionId, ExecutionState, GroupName, InstanceId, InstanceReading, NodeName, OperationId,
    OperationState, ProbeReading, Reason, Refusal, RiskClass, StepKind, StepState,
};

use super::{Answer, Context, Effect, backup, failover as moves, membership as members, migration, validate};
use crate::command::StepCommand;
use crate::safety::{
    Ask, Evidence, approval, budget, disturb_all, failover, fence, gate, handover, membership, once, rebuild,
    rotation, window,
};
use crate::state::operation::{Before, Failure, Operation, Step, is_over};
use crate::state::{Execution, Grant, State};

mod end;
mod failing;
mod watched;

pub(super) use end::{abandon_node, end, execution_ended, is_waiting, lost_track, release_lanes, tidy};

/// Times a step is begun again after its agent refused it before doing anything.
const ATTEMPTS_MAX: u32 = 3;

pub(super) fn apply(
    state: &mut State,
    context: &Context<'_>,
    command: &StepCommand,
) -> Result<Effect, Refusal> {
    match command {
        StepCommand::Start { operation, step, execution, evidence } => {
            start(state, context, (operation, *step), execution, evidence)
        }
        StepCommand::OpenGate { operation, step, evidence } => {
            watched::open_gate(state, context, (operation, *step), evidence)
        }
        StepCommand::PassGate { operation, step, readings, evidence } => {
            watched::pass_gate(state, context, (operation, *step), readings, evidence)
        }
        StepCommand::FailGate { operation, step, reading } => {
            watched::fail_gate(state, context, operation, *step, reading)
        }
        StepCommand::DeadlinePassed { operation, step, readings, message } => {
            deadline_passed(state, context, operation, *step, readings, message)
        }
    }
}

fn wrong(what: impl Into<String>) -> Refusal {
    Refusal::new(Reason::WrongState, what)
}

fn find<'a>(state: &'a State, id: &OperationId, index: u32) -> Result<(&'a Operation, &'a Step), Refusal> {
    let operation = state
        .operations
        .get(id)
        .ok_or_else(|| Refusal::new(Reason::NotFound, format!("there is no operation {id}")))?;
    let step = operation
        .step(index)
        .ok_or_else(|| Refusal::new(Reason::NotFound, format!("{id} has no step {index}")))?;
    Ok((operation, step))
}

/// One node's steps in the wave that is at work.
#[derive(Default)]
struct Lane {
    begun: bool,
    left: bool,
    stuck: bool,
    ready: Option<u32>,
}

/// The steps that the order of the plan lets begin now: of the first wave that is not over, the next step of every node that
/// is at work, and of every other node while a lane is free. One pass, because plans reach thousands of steps.
pub(crate) fn in_order(operation: &Operation) -> Vec<u32> {
    let Some(wave) = operation.steps.iter().filter(|s| !is_over(s.state)).map(|s| s.wave).min() else {
        return Vec::new();
    };
    let mut lanes: BTreeMap<&NodeName, Lane> = BTreeMap::new();
    for (index, step) in operation.indexed().filter(|(_, s)| s.wave == wave) {
        let lane = lanes.entry(&step.node).or_default();
        lane.begun |= step.started_at.is_some();
        lane.left |= !is_over(step.state);
        if !lane.stuck && step.state != StepState::Succeeded && !handover::was_needless(step) {
            lane.stuck = true;
            lane.ready = matches!(step.state, StepState::Pending | StepState::Blocked).then_some(index);
        }
    }
    let open = lanes.values().filter(|lane| lane.begun && lane.left).count();
    let own = usize::try_from(wave).ok().and_then(|wave| operation.waves.get(wave)?.parallel);
    let free = u32::try_from(open).is_ok_and(|open| open < own.unwrap_or(operation.parallel));
    let mut due: Vec<u32> =
        lanes.values().filter(|lane| lane.begun || free).filter_map(|lane| lane.ready).collect();
    due.sort_unstable();
    due
}

fn check_order(operation: &Operation, index: u32) -> Result<(), Refusal> {
    if in_order(operation).contains(&index) {
        Ok(())
    } else {
        Err(wrong(format!("it is not the turn of step {index} of {}", operation.id)))
    }
}

/// What the step would be called in a refusal.
pub(crate) const fn doing(kind: StepKind) -> &'static str {
    match kind {
        StepKind::Status => "looking at",
        StepKind::Start => "starting",
        StepKind::Stop => budget::STOPPING,
        StepKind::Restart => "restarting",
        StepKind::Reload => "reloading",
        StepKind::Backup => "backing up",
        StepKind::Verify => "verifying a backup of",
        StepKind::Rotate => "rotating the logs of",
        StepKind::Stage => "staging a release of",
        StepKind::Activate => "upgrading",
        StepKind::Revert => "reverting",
        StepKind::Facts => "reading the facts of",
        StepKind::Diagnose => "diagnosing",
        StepKind::Drain => "draining",
        StepKind::Restore => "putting traffic back on",
        StepKind::Confirm => "confirming the configuration of",
        StepKind::Retire => "retiring a secret of",
        StepKind::RunOnce => "migrating from",
        StepKind::Hook => "running a hook on",
        StepKind::EnterMaintenance => "announcing maintenance of",
        StepKind::ExitMaintenance => "ending the maintenance of",
        StepKind::Preflight => "looking ahead at",
        StepKind::Handover => "handing over from",
        StepKind::Join => "adding a member from",
        StepKind::Leave => "removing a member from",
        StepKind::Promote => "promoting",
        StepKind::Switch => "leading clients to",
        StepKind::Rejoin => "making a standby of",
        StepKind::Quarantine => "putting the data aside of",
        StepKind::Gate => "watching",
    }
}

/// Whether a step only gets ready for a change: its failure says nothing of the change, and on the way back there is nothing to
/// get ready.
pub(crate) const fn goes_ahead(kind: StepKind) -> bool {
    match kind {
        StepKind::Preflight | StepKind::Backup | StepKind::Handover => true,
        StepKind::Status
        | StepKind::Start
        | StepKind::Stop
        | StepKind::Restart
        | StepKind::Reload
        | StepKind::Verify
        | StepKind::Rotate
        | StepKind::Facts
        | StepKind::Diagnose
        | StepKind::Stage
        | StepKind::Activate
        | StepKind::Revert
        | StepKind::Drain
        | StepKind::Restore
        | StepKind::Confirm
        | StepKind::Retire
        | StepKind::RunOnce
        | StepKind::Hook
        | StepKind::EnterMaintenance
        | StepKind::ExitMaintenance
        | StepKind::Join
        | StepKind::Leave
        | StepKind::Promote
        | StepKind::Switch
        | StepKind::Rejoin
        | StepKind::Quarantine
        | StepKind::Gate => false,
    }
}

/// The disturbance that a step only goes ahead of, if it does: it asks what that will ask, so that nothing is looked at and stored
/// for work that may not begin now.
pub(crate) fn ahead_of<'a>(operation: &'a Operation, step: &Step) -> Option<&'a Step> {
    let goes_ahead = !step.disruptive && goes_ahead(step.kind);
    let lane = |s: &&Step| s.wave == step.wave && s.node == step.node;
    operation.steps.iter().filter(|_| goes_ahead).filter(lane).find(|s| s.disruptive)
}

/// Every guard of a step that is due: order is not looked at here.
pub(crate) fn guard(
    state: &State,
    operation: &Operation,
    step: &Step,
    evidence: &Evidence<'_>,
    now: quorate_model::Timestamp,
) -> Option<Refusal> {
    if let Some(refusal) = fence::reachable(state, &step.node) {
        return Some(refusal);
    }
    let step = ahead_of(operation, step).unwrap_or(step);
    if let Some(refusal) = once::settled(state, operation, step) {
        return Some(refusal);
    }
    if let Some(refusal) = rotation::retirable(state, operation, step, now) {
        return Some(refusal);
    }
    if let Some(refusal) = handover::refuses(state, step, evidence, now)
        .or_else(|| handover::unsure_by_now(state, operation, step, evidence, now))
    {
        return Some(refusal);
    }
    if let Some(refusal) = rebuild::step_refuses(state, operation, step, evidence, now) {
        return Some(refusal);
    }
    if membership::is_told(step.kind) {
        return membership::hook_refuses(state, operation, step, evidence, now);
    }
    if failover::is_moving(step.kind) {
        return failover::refuses(state, operation, step, evidence, now);
    }
    let action = step.action.as_ref()?;
    if let Some(refusal) = failover::rejoin::start_refuses(state, operation, &step.node, action) {
        return Some(refusal);
    }
    match (step.disruptive, action.risk()) {
        (false, RiskClass::Read) => None,
        (false, _) => fence::free(state, &step.node, Some(&operation.id)),
        // The end of a lane that has its grant: no margin and no cordon keeps a proved instance out of its pool.
        (true, _) if matches!(step.kind, StepKind::Restore | StepKind::ExitMaintenance) => {
            fence::free(state, &step.node, Some(&operation.id))
        }
        (true, _) => {
            let Some(service) = action.service() else {
                return Some(Refusal::new(Reason::Internal, "a disruptive step without a service"));
            };
            let instance = InstanceId { node: step.node.clone(), service: service.clone() };
            let ask = Ask {
                doing: doing(step.kind),
                operation: Some(&operation.id),
                max_unavailable: Some(operation.parallel),
                needs: (!window::is_undo(step.kind) && operation.rollback_from.is_none())
                    .then(|| operation.lane_needs(step.wave, &step.node)),
            };
            disturb_all(state, core::slice::from_ref(&instance), &ask, evidence, now)
        }
    }
}

/// Whether the operation's state lets a step begin: a lane that was begun goes on to its end while pausing or failing, and no
/// wave begins before the one ahead of it is promoted.
pub(crate) fn begins(operation: &Operation, step: &Step) -> Result<(), Refusal> {
    // Asked here too, and not of the state only. What takes back follows from what was approved.
    if operation.rollback_from.is_none()
        && let Some(refusal) = approval::approved(operation)
    {
        return Err(refusal);
    }
    let lane = operation.lane_is_open(step.wave, &step.node);
    let may = match operation.state {
        OperationState::Queued | OperationState::Running => lane || operation.failure.is_none(),
        OperationState::Pausing => lane,
        OperationState::RollingBack => operation.rollback_from.is_some_and(|from| step.wave >= from),
        OperationState::Pending
        | OperationState::Planned
        | OperationState::AwaitingApproval
        | OperationState::Paused
        | OperationState::Canceling
        | OperationState::Succeeded
        | OperationState::Failed
        | OperationState::Canceled
        | OperationState::RolledBack => false,
    };
    if !may {
        return Err(wrong(format!("{} is {} and begins nothing", operation.id, operation.state)));
    }
    match operation.unpromoted_before(step.wave) {
        Some(wave) => {
            let number = wave.saturating_add(1);
            Err(wrong(format!("wave {number} of {} is not promoted", operation.id)))
        }
        None => Ok(()),
    }
}

fn start(
    state: &mut State,
    context: &Context<'_>,
    (id, index): (&OperationId, u32),
    execution: &ExecutionId,
    evidence: &[InstanceReading],
) -> Result<Effect, Refusal> {
    let (operation, step) = find(state, id, index)?;
    begins(operation, step)?;
    if step.state != StepState::Pending && step.state != StepState::Blocked {
        return Err(wrong(format!("step {index} of {id} is {}", step.state)));
    }
    let Some(action) = step.action.clone() else { return Err(wrong("a gate is opened, not started")) };
    if state.executions.contains_key(execution) {
        return Err(Refusal::new(
            Reason::AlreadyExists,
            format!("there is an execution {execution} already"),
        ));
    }
    check_order(operation, index)?;
    if let Some(text) = once::is_needless(state, operation, step) {
        end(state, context, id, index, StepState::Skipped, None);
        return Ok(Effect::changed(context.done(), format!("operations/{id}"), text).of(id));
    }
    let evidence = Evidence::from_readings(evidence);
    if let Some(effect) = hand_over_first(state, context, (id, index), &evidence) {
        return Ok(effect);
    }
    let (operation, step) = find(state, id, index)?;
    if let Some(refusal) = guard(state, operation, step, &evidence, context.now) {
        if !rebuild::gives_up(operation, step, context.now) {
            return Err(refusal);
        }
        return Ok(end::given_up(state, context, (id, index), &refusal));
    }
    let action = handover::told(state, step, action, &evidence, context.now);
    let epoch = state.epoch.next();
    let instance = membership::disturbed(operation, step);
    let before = instance.as_ref().map_or_else(Vec::new, |instance| {
        gate::recorded(state, operation, index, instance, &evidence, context.now)
    });
    let made = Execution {
        id: execution.clone(),
        operation: id.clone(),
        step: index,
        node: step.node.clone(),
        action,
        instance,
        disruptive: step.disruptive,
        epoch,
        state: ExecutionState::Pending,
        created_at: context.now,
        begin_before: context.now.plus(state.settings.grant_life),
        deadline: step.deadline,
        updated_at: context.now,
        cancel: false,
        reason: None,
        outcome: None,
    };
    let details = format!("step {index} on {}: {} under epoch {epoch}", made.node, made.action.kind());
    state.epoch = epoch;
    want(state, &made);
    backup::begun(state, context, &made);
    migration::begun(state, context, &made);
    members::begun(state, &made);
    grant(state, context, &made);
    moves::granted(state, context, &made, &evidence);
    mark_started(state, context, &made, before);
    state.open.insert(execution.clone());
    state.executions.insert(execution.clone(), made);
    let answer = Answer::Execution { revision: context.revision, execution: execution.clone(), epoch };
    Ok(Effect::changed(answer, format!("executions/{execution}"), details).of(id))
}

/// What a lane's hand-over makes of a step that is to begin: there is nothing to hand over, or its instance leads by now and
/// hands over first.
fn hand_over_first(
    state: &mut State,
    context: &Context<'_>,
    (id, index): (&OperationId, u32),
    evidence: &Evidence<'_>,
) -> Option<Effect> {
    let operation = state.operations.get(id)?;
    let step = operation.step(index)?;
    let node = step.node.clone();
    let (changed, reached, details) = if handover::is_needless(state, step, evidence, context.now) {
        (index, StepState::Skipped, format!("step {index}: {node} does not lead and hands nothing over"))
    } else {
        let again = handover::leads_by_now(state, operation, index, evidence, context.now)?;
        (again, StepState::Pending, format!("step {again}: {node} leads by now and hands over first"))
    };
    let operation = state.operations.get_mut(id)?;
    let step = operation.step_mut(changed)?;
    step.state = reached;
    step.ended_at = (reached == StepState::Skipped).then_some(context.now);
    tidy(operation, context);
    Some(Effect::changed(context.done(), format!("operations/{id}"), details).of(id))
}

/// Starting and stopping on purpose says what the owner wants.
fn want(state: &mut State, made: &Execution) {
    // A configuration file leaves a stopped service stopped.
    if made.action.release().is_some_and(|release| release.config().is_some()) {
        return;
    }
    let desired = match &made.action {
        ActionSpec::ServiceStart { .. }
        | ActionSpec::ServiceRestart { .. }
        | ActionSpec::ArtifactActivate { .. }
        | ActionSpec::ArtifactRevert { .. }
        | ActionSpec::RolePromote { .. } => DesiredState::Running,
        ActionSpec::ServiceStop { .. } => DesiredState::Stopped,
        ActionSpec::ServiceStatus { .. }
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
        | ActionSpec::MaintenanceEnter { .. }
        | ActionSpec::MaintenanceExit { .. }
        | ActionSpec::HostPreflight { .. }
        | ActionSpec::HostFacts
        | ActionSpec::HostDiagnose => return,
    };
    if let Some(instance) = &made.instance {
        state.instances.entry(instance).desired = desired;
    }
}

fn grant(state: &mut State, context: &Context<'_>, made: &Execution) {
    let (true, Some(instance)) = (made.disruptive, &made.instance) else { return };
    let groups: Vec<GroupName> =
        state.groups_of(&instance.service, &instance.node).map(|g| g.spec.name.clone()).collect();
    let grant = Grant {
        epoch: made.epoch,
        operation: made.operation.clone(),
        step: made.step,
        execution: made.id.clone(),
        instance: instance.clone(),
        groups,
        issued_at: context.now,
        expires_at: made.begin_before,
    };
    state.grants.insert(made.epoch, grant);
}

fn mark_started(state: &mut State, context: &Context<'_>, made: &Execution, before: Vec<Before>) {
    let Some(operation) = state.operations.get_mut(&made.operation) else { return };
    if operation.state == OperationState::Queued {
        operation.state = OperationState::Running;
    }
    operation.started_at.get_or_insert(context.now);
    operation.conditions.clear();
    if let Some(step) = operation.step_mut(made.step) {
        step.state = StepState::Running;
        step.started_at = Some(context.now);
        step.attempts = step.attempts.saturating_add(1);
        step.execution = Some(made.id.clone());
        step.grant = made.disruptive.then_some(made.epoch);
        step.failure = None;
        step.before = before;
    }
    tidy(operation, context);
    moves::follow(state, context, &made.operation);
}

fn deadline_passed(
    state: &mut State,
    context: &Context<'_>,
    id: &OperationId,
    index: u32,
    readings: &[ProbeReading],
    message: &str,
) -> Result<Effect, Refusal> {
    let (operation, step) = find(state, id, index)?;
    let given_up = failover::may_be_given_up(operation, step);
    if step.state != StepState::Running && !given_up {
        return Err(wrong(format!("step {index} of {id} is {}", step.state)));
    }
    let node = step.node.clone();
    let mut message = String::from(message);
    validate::cut(&mut message, 512);
    let details = format!("step {index} on {node}: {message}");
    if handover::awaited(state, step).is_some() || given_up {
        let failure = Failure { reason: Reason::GateFailed, message };
        end(state, context, id, index, StepState::Failed, Some(failure));
    } else if let Some(execution) = step.execution.clone() {
        if let Some(found) = state.executions.get_mut(&execution).filter(|e| !e.state.is_final()) {
            found.state = ExecutionState::Unknown;
            found.reason = Some(Reason::DeadlineExceeded);
            found.updated_at = context.now;
            found.cancel = true;
        }
        lost_track(state, context, &execution);
    } else {
        let judged = match &step.gate {
            Some(spec) => watched::kept(&gate::verdicts(spec, gate::before(operation, index), readings)),
            None => watched::kept(readings),
        };
        if let Some(step) = state.operations.get_mut(id).and_then(|o| o.step_mut(index)) {
            step.readings = judged;
        }
        let failure = Failure { reason: Reason::GateFailed, message };
        end(state, context, id, index, StepState::Failed, Some(failure));
    }
    Ok(Effect::changed(context.done(), format!("operations/{id}"), details).of(id))
}
