//! Operations: steps that may begin, gates that have passed, deadlines, ends.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use quorate_model::{
    ConditionReason, ExecutionId, ExecutionState, InstanceId, InstanceReading, Listed, NodeName,
    OperationState, ProbeName, ProbeReading, Reason, Refusal, RiskClass, StepState, Timestamp,
};

use super::failover;
use crate::apply::operation::{approval, settle};
use crate::apply::step::{ahead_of, begins, guard, in_order};
use crate::command::{Command, OperationCommand, StepCommand};
use crate::observations::Observations;
use crate::safety::approval::waits_for;
use crate::safety::{Evidence, gate, handover, membership, rebuild};
use crate::state::State;
use crate::state::operation::{Operation, Step};
use crate::state::plan::GateSpec;

/// What one round has proposed already: a second step must not rest on a budget that the first one takes.
struct Round {
    disturbed: bool,
    nodes: BTreeSet<NodeName>,
}

pub(super) fn next(
    state: &State,
    obs: &Observations,
    now: Timestamp,
    mint: &mut dyn FnMut() -> u64,
    due: &mut Vec<Command>,
) {
    let evidence = Evidence::from_observations(obs);
    let mut round = Round { disturbed: false, nodes: BTreeSet::new() };
    let mut open: Vec<&Operation> = state.operations.values().filter(|o| !o.state.is_terminal()).collect();
    // In turns: whoever was served longest ago gets the budget, so that a backup of a minute does not wait for a rollout of
    // hours. Who was never served queues since it was made. A bad release is taken back before anything else is changed.
    let forward = |o: &Operation| o.state != OperationState::RollingBack;
    open.sort_by_key(|o| (forward(o), o.last_started().unwrap_or(o.created_at), o.created_at, &o.id));
    for operation in open {
        one(state, obs, now, mint, operation, &evidence, &mut round, due);
    }
}

fn push(due: &mut Vec<Command>, command: OperationCommand) {
    due.push(Command::Operation(Box::new(command)));
}

#[expect(
    clippy::too_many_arguments,
    reason = "one round over one operation; a struct would only rename them"
)]
fn one(
    state: &State,
    obs: &Observations,
    now: Timestamp,
    mint: &mut dyn FnMut() -> u64,
    operation: &Operation,
    evidence: &Evidence<'_>,
    round: &mut Round,
    due: &mut Vec<Command>,
) {
    let id = || operation.id.clone();
    if let Some(reached) = settle::due(state, &operation.id) {
        push(due, OperationCommand::Settle { id: id(), state: reached });
        return;
    }
    if approval::lapsed(state, operation, now).is_some() {
        push(due, OperationCommand::Lapse { id: id() });
        return;
    }
    let late = operation.request.deadline.is_some_and(|limit| operation.active.at(now) > limit);
    if late && operation.failure.is_none() && operation.state != OperationState::Canceling {
        push(due, OperationCommand::DeadlinePassed { id: id() });
        return;
    }
    for (index, step) in operation.indexed().filter(|(_, step)| step.state == StepState::Running) {
        due.extend(running(state, obs, now, operation, (index, step), evidence));
    }
    let mut wanted = unresolved(state, operation).or_else(|| waits_for_somebody(operation));
    let turns = in_order(operation);
    for (index, step) in turns.iter().filter_map(|index| Some((*index, operation.step(*index)?))) {
        if begins(operation, step).is_err() {
            continue;
        }
        match begin(state, obs, now, mint, operation, (index, step), evidence, round) {
            Ok(command) => {
                due.extend(command);
                // One new step per operation and round: lanes are counted in the state, and the next round is near.
                return;
            }
            Err(refusal) => {
                if let Some(command) = failover::given_up(state, obs, operation, (index, step), &refusal, now)
                {
                    due.push(command);
                    return;
                }
                wanted = wanted.or_else(|| Some(condition_of(&refusal)));
            }
        }
    }
    match (wanted, operation.conditions.first()) {
        (Some((reason, message)), held)
            if held.is_none_or(|c| c.reason != reason || c.message != message) =>
        {
            push(due, OperationCommand::SetCondition { id: id(), reason, message });
        }
        (None, Some(_)) => push(due, OperationCommand::ClearCondition { id: id() }),
        (Some(_), _) | (None, None) => {}
    }
}

/// What is due of a running step.
fn running(
    state: &State,
    obs: &Observations,
    now: Timestamp,
    operation: &Operation,
    (index, step): (u32, &Step),
    evidence: &Evidence<'_>,
) -> Option<Command> {
    let started = step.started_at.unwrap_or(now);
    if handover::awaited(state, step).is_some() {
        return handed_over(state, obs, now, operation, (index, step), evidence);
    }
    let Some(spec) = &step.gate else {
        let settings = &state.settings;
        let limit = step.deadline.plus(settings.grant_life).plus(settings.execution_slack);
        return (now.since(started) > limit).then(|| {
            Command::Step(StepCommand::DeadlinePassed {
                operation: operation.id.clone(),
                step: index,
                readings: Vec::new(),
                message: format!("no outcome within {limit}"),
            })
        });
    };
    let readings = || readings_for(evidence.get(&spec.instance), spec);
    if let Some(reading) = evidence.get(&spec.instance).filter(|r| gate::turned(spec, r, started).is_some()) {
        let reading = InstanceReading { probes: readings(), ..reading.clone() };
        let operation = operation.id.clone();
        return Some(Command::Step(StepCommand::FailGate { operation, step: index, reading }));
    }
    let missing =
        gate::missing(state, operation, index, evidence, now).or_else(|| gate::held(spec, started, now));
    match missing {
        None => Some(Command::Step(StepCommand::PassGate {
            operation: operation.id.clone(),
            step: index,
            readings: readings(),
            evidence: gate_evidence(state, obs, spec),
        })),
        Some(message) if now.since(started.max(fresh_from(obs, started))) > step.deadline => {
            Some(Command::Step(StepCommand::DeadlinePassed {
                operation: operation.id.clone(),
                step: index,
                readings: readings(),
                message,
            }))
        }
        Some(_) => None,
    }
}

/// What is due of a hand-over whose hook is done.
fn handed_over(
    state: &State,
    obs: &Observations,
    now: Timestamp,
    operation: &Operation,
    (index, step): (u32, &Step),
    evidence: &Evidence<'_>,
) -> Option<Command> {
    let operation = operation.id.clone();
    let started = fresh_from(obs, step.started_at.unwrap_or(now));
    match (handover::missing(state, step, evidence, now), handover::instance(step)) {
        (None, Some(instance)) => Some(Command::Step(StepCommand::PassGate {
            operation,
            step: index,
            readings: Vec::new(),
            evidence: readings_of(state, obs, &instance),
        })),
        (Some(message), _) if now.since(started) > step.deadline => {
            let readings = Vec::new();
            Some(Command::Step(StepCommand::DeadlinePassed { operation, step: index, readings, message }))
        }
        (Some(_) | None, _) => None,
    }
}

/// A leader that took over after a gate began has seen nothing of it yet: its patience begins with its lead.
fn fresh_from(obs: &Observations, started: Timestamp) -> Timestamp {
    obs.leading_since.max(started)
}

/// The readings that a gate rests on, and no others.
fn readings_for(reading: Option<&InstanceReading>, spec: &crate::state::plan::GateSpec) -> Vec<ProbeReading> {
    let Some(reading) = reading else { return Vec::new() };
    let named = |r: &&ProbeReading| spec.probes.iter().any(|probe| probe.name == r.probe);
    // Whom it lists is asked of others, and apart.
    let short = |r: &ProbeReading| ProbeReading { listed: Vec::new(), ..r.clone() };
    reading.probes.iter().filter(named).map(short).collect()
}

/// An execution of this operation whose outcome is not known now.
fn unresolved(state: &State, operation: &Operation) -> Option<(ConditionReason, String)> {
    let execution = operation
        .steps
        .iter()
        .filter(|step| step.state == StepState::Running)
        .filter_map(|step| state.executions.get(step.execution.as_ref()?))
        .find(|execution| execution.state == ExecutionState::Unknown)?;
    let text = format!("the outcome of {} on {} is not known", execution.action.kind(), execution.node);
    Some((ConditionReason::ExecutionUnknown, text))
}

/// The decision of a person that the operation waits for, if any.
fn waits_for_somebody(operation: &Operation) -> Option<(ConditionReason, String)> {
    if let Some(halted) = &operation.halted {
        return Some((ConditionReason::Failure, halted.message.clone()));
    }
    let index = match operation.state {
        OperationState::Queued | OperationState::Running => operation.promotable()?,
        OperationState::AwaitingApproval => {
            return waits_for(operation).map(|message| (ConditionReason::Approval, message));
        }
        OperationState::Pending
        | OperationState::Planned
        | OperationState::Pausing
        | OperationState::Paused
        | OperationState::RollingBack
        | OperationState::Canceling
        | OperationState::Succeeded
        | OperationState::Failed
        | OperationState::Canceled
        | OperationState::RolledBack => return None,
    };
    let label = operation.waves.get(usize::try_from(index).ok()?).map_or("", |wave| wave.label.as_str());
    let label = if label.is_empty() { String::new() } else { format!(" ({label})") };
    let number = index.saturating_add(1);
    Some((ConditionReason::Promotion, format!("wave {number}{label} is done and waits to be promoted")))
}

/// The command that begins a step, none when it has to wait for the next round, or why it may not begin.
#[expect(clippy::too_many_arguments, reason = "as above")]
fn begin(
    state: &State,
    obs: &Observations,
    now: Timestamp,
    mint: &mut dyn FnMut() -> u64,
    operation: &Operation,
    (index, step): (u32, &Step),
    evidence: &Evidence<'_>,
    round: &mut Round,
) -> Result<Option<Command>, Refusal> {
    let id = operation.id.clone();
    let Some(action) = &step.action else {
        return failover::open(state, obs, operation, (index, step), now).map(Some);
    };
    if let Some(refusal) = guard(state, operation, step, evidence, now)
        && !rebuild::gives_up(operation, step, now)
    {
        return Err(refusal);
    }
    let mutating = action.risk() != RiskClass::Read;
    if (step.disruptive && round.disturbed) || (mutating && !round.nodes.insert(step.node.clone())) {
        return Ok(None);
    }
    round.disturbed |= step.disruptive;
    let execution = ExecutionId::new(quorate_model::minted("x", mint()))
        .map_err(|e| Refusal::new(Reason::Internal, format!("{e}")))?;
    let evidence = evidence_of(state, obs, operation, (index, step));
    Ok(Some(Command::Step(StepCommand::Start { operation: id, step: index, execution, evidence })))
}

/// What a step begins on: how its groups stand, and the values that the gate behind it compares with.
fn evidence_of(
    state: &State,
    obs: &Observations,
    operation: &Operation,
    (index, step): (u32, &Step),
) -> Vec<InstanceReading> {
    let Some(service) = step.action.as_ref().and_then(|a| a.service()) else { return Vec::new() };
    let instance = InstanceId { node: step.node.clone(), service: service.clone() };
    if let Some(readings) = failover::evidence(state, obs, operation, step) {
        return readings;
    }
    let asks = step.disruptive || ahead_of(operation, step).is_some();
    let mut readings = if asks { readings_of(state, obs, &instance) } else { Vec::new() };
    let Some(found) = obs.instances.get(&instance) else { return readings };
    let compared: BTreeSet<&ProbeName> = gate::compared(operation, index).map(|probe| &probe.name).collect();
    if compared.is_empty() {
        return readings;
    }
    let own = |r: &&ProbeReading| r.from == instance.node && compared.contains(&r.probe);
    let short = |r: &ProbeReading| ProbeReading { detail: String::new(), ..r.clone() };
    let probes: Vec<ProbeReading> = found.probes.iter().filter(own).map(short).collect();
    match readings.iter_mut().find(|r| r.instance == instance) {
        Some(reading) => reading.probes = probes,
        None => readings.push(InstanceReading { probes, ..found.clone() }),
    }
    readings
}

/// The readings of every member of an instance's groups, without the probes behind them.
fn readings_of(state: &State, obs: &Observations, instance: &InstanceId) -> Vec<InstanceReading> {
    let service = &instance.service;
    let mut nodes: BTreeSet<&NodeName> = BTreeSet::new();
    for group in state.groups_of(service, &instance.node) {
        nodes.extend(group.spec.voters.iter().chain(&group.spec.learners));
    }
    let reading = |node: &NodeName| {
        let id = InstanceId { node: node.clone(), service: service.clone() };
        let found = obs.instances.get(&id)?;
        Some(InstanceReading { probes: Vec::new(), ..found.clone() })
    };
    nodes.into_iter().filter_map(reading).collect()
}

/// What a gate rests on beside its own readings: how its groups stand, or whether their members list the one it asks for.
fn gate_evidence(state: &State, obs: &Observations, spec: &GateSpec) -> Vec<InstanceReading> {
    let mut readings = if spec.margin { readings_of(state, obs, &spec.instance) } else { Vec::new() };
    let leased = spec.lease.as_ref().and_then(|gate| state.groups.get(&gate.group));
    if let Some(group) = leased {
        return obs.of_voters(group);
    }
    let Some(gate) = &spec.membership else { return readings };
    let Some(group) = state.groups.get(&gate.group) else { return readings };
    let key = membership::key(state, group, &gate.node);
    // One line of a list shows that there is one: an entry of the log does not carry all lists of a large group.
    let few = |listed: &[Listed]| {
        let asked = listed.iter().find(|one| key.as_ref() == Some(&one.key));
        asked.or(listed.first()).cloned().into_iter().collect()
    };
    for node in &group.spec.voters {
        let id = InstanceId { node: node.clone(), service: group.spec.service.clone() };
        let Some(found) = obs.instances.get(&id) else { continue };
        let lists = |r: &&ProbeReading| r.from == *node && !r.listed.is_empty();
        let short =
            |r: &ProbeReading| ProbeReading { detail: String::new(), listed: few(&r.listed), ..r.clone() };
        let probes = found.probes.iter().filter(lists).map(short).collect();
        readings.retain(|r| r.instance != id);
        readings.push(InstanceReading { probes, ..found.clone() });
    }
    readings
}

/// A refusal as a condition. The text holds no ages: a text that changes every second would be proposed every second.
#[cfg_attr(
    not(test),
    expect(clippy::wildcard_enum_match_arm, reason = "codes of other layers; those of the guards are named")
)]
fn condition_of(refusal: &Refusal) -> (ConditionReason, String) {
    let reason = match refusal.reason() {
        Reason::QuorumMargin | Reason::MaxUnavailable => ConditionReason::QuorumMargin,
        Reason::NodeLease => ConditionReason::NodeLease,
        Reason::EvidenceStale => ConditionReason::EvidenceStale,
        Reason::NodeCordoned => ConditionReason::NodeCordoned,
        Reason::AgentDisconnected | Reason::NotFound => ConditionReason::AgentDisconnected,
        Reason::ExecutionUnknown => ConditionReason::ExecutionUnknown,
        Reason::Freeze => ConditionReason::Freeze,
        Reason::WindowClosed => ConditionReason::WindowClosed,
        _ => ConditionReason::Dependency,
    };
    let text = match refusal {
        Refusal::EvidenceStale { node, .. } => format!("nothing fresh is known of {node}"),
        Refusal::QuorumMargin { already_out, up, required, .. } => {
            let mut text = format!("{}: {up} up, needs {required}", refusal.what());
            for out in already_out {
                text = format!("{text}; {} is {}", out.node, out.why);
            }
            text
        }
        Refusal::MaxUnavailable { busy, .. } => {
            let mut text = refusal.what();
            for node in busy {
                text = format!("{text}; {node} is being worked on");
            }
            text
        }
        Refusal::NodeLease { .. } | Refusal::Other { .. } => refusal.what(),
    };
    (reason, text)
}
