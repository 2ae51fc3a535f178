//! Plans and operations: stored, started, paused, canceled, settled.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use quorate_model::{
    ConditionReason, ExecutionState, ObligationState, OperationId, OperationState, Reason, Refusal, Revision,
    StepState, WaveState,
};

use super::{Answer, Context, Effect, failover, membership, migration, rebuild, step, validate};
use crate::command::OperationCommand;
use crate::state::operation::{ActiveTime, Condition, Failure, OPEN_MAX, Operation, Step, Wave, is_over};
use crate::state::plan::{Goal, Plan, PlanWave, Resource, STEPS_MAX};
use crate::state::{Obligation, State};

pub(crate) mod approval;
mod promote;
mod rollback;
pub(crate) mod settle;

pub(super) fn apply(
    state: &mut State,
    context: &Context<'_>,
    command: &OperationCommand,
) -> Result<Effect, Refusal> {
    match command {
        OperationCommand::StorePlan { plan } => {
            store(state, plan)?;
            let answer = Answer::Plan { revision: context.revision, plan: plan.id.clone() };
            Ok(Effect::changed(answer, format!("plans/{}", plan.id), plan.summary.clone()))
        }
        OperationCommand::Create { id, plan, hash } => {
            let found = state
                .plans
                .get(plan)
                .ok_or_else(|| Refusal::new(Reason::NotFound, format!("there is no plan {plan}")))?;
            if hash.is_some_and(|seen| seen != found.hash) {
                return Err(Refusal::new(Reason::StalePlan, format!("plan {plan} is not the one you saw")));
            }
            let plan = found.clone();
            create(state, context, id, &plan)
        }
        OperationCommand::Start { id, plan } => start(state, context, id, plan),
        OperationCommand::Pause { id } => pause(state, context, id),
        OperationCommand::Resume { id } => resume(state, context, id),
        OperationCommand::Cancel { id } => cancel(state, context, id),
        OperationCommand::Promote { id, all } => promote::apply(state, context, id, *all),
        OperationCommand::Approve { id, plan, reason } => {
            approval::approve(state, context, id, *plan, reason)
        }
        OperationCommand::Reject { id, plan, reason } => approval::reject(state, context, id, *plan, reason),
        OperationCommand::Lapse { id } => approval::lapse(state, context, id),
        OperationCommand::SetCondition { id, reason, message } => {
            set_condition(state, context, id, *reason, message)
        }
        OperationCommand::ClearCondition { id } => {
            let operation = open(state, id)?;
            if operation.conditions.is_empty() {
                return Ok(Effect::unchanged(context.done()));
            }
            operation.conditions.clear();
            step::tidy(operation, context);
            Ok(changed(context, id, "waits no more"))
        }
        OperationCommand::DeadlinePassed { id } => {
            let operation = open(state, id)?;
            if operation.failure.is_some() {
                return Ok(Effect::unchanged(context.done()));
            }
            let message = String::from("the operation took longer than its deadline");
            operation.failure = Some(Failure { reason: Reason::DeadlineExceeded, message });
            operation.conditions.clear();
            step::tidy(operation, context);
            Ok(changed(context, id, "its deadline passed"))
        }
        OperationCommand::Settle { id, state: reached } => settle::apply(state, context, id, *reached),
    }
}

/// Stores a plan and makes its operation.
pub(super) fn start(
    state: &mut State,
    context: &Context<'_>,
    id: &OperationId,
    plan: &Plan,
) -> Result<Effect, Refusal> {
    room(state, id)?;
    fresh(state, plan)?;
    store(state, plan)?;
    create(state, context, id, plan)
}

fn changed(context: &Context<'_>, id: &OperationId, details: impl Into<String>) -> Effect {
    Effect::changed(context.done(), format!("operations/{id}"), details).of(id)
}

/// An operation that is not terminal.
fn open<'a>(state: &'a mut State, id: &OperationId) -> Result<&'a mut Operation, Refusal> {
    match state.operations.get_mut(id) {
        None => Err(Refusal::new(Reason::NotFound, format!("there is no operation {id}"))),
        Some(found) if found.state.is_terminal() => {
            Err(Refusal::new(Reason::WrongState, format!("{id} is {}", found.state)))
        }
        Some(found) => Ok(found),
    }
}

fn store(state: &mut State, plan: &Plan) -> Result<(), Refusal> {
    if state.plans.contains_key(&plan.id) {
        return Err(Refusal::new(Reason::AlreadyExists, format!("there is a plan {} already", plan.id)));
    }
    if plan.hash != plan.computed_hash() {
        return Err(validate::bad("hash: it is not the hash of the plan"));
    }
    let steps = plan.steps().count();
    if steps == 0 || steps > STEPS_MAX {
        return Err(validate::bad(format!("waves: {steps} steps, expected 1 to {STEPS_MAX}")));
    }
    let odd = plan.steps().any(|(_, s)| s.action.is_some() == s.gate.is_some());
    // A step may claim to be harmless only if its action is: the plan does not decide what disturbs.
    let claims = plan.steps().any(|(_, s)| {
        s.disruptive != s.action.as_ref().is_some_and(|a| a.risk() > quorate_model::RiskClass::Safe)
    });
    if odd || claims || plan.parallel == 0 || plan.waves.iter().any(|w| w.steps.is_empty()) {
        return Err(validate::bad("waves: a step is neither action nor gate, or a wave is empty"));
    }
    rollback::check(plan)?;
    migration::check(plan)?;
    membership::check(plan)?;
    failover::check(plan)?;
    rebuild::check(state, plan)?;
    crate::safety::rotation::check(plan)?;
    state.plans.insert(plan.id.clone(), plan.clone());
    Ok(())
}

fn room(state: &State, id: &OperationId) -> Result<(), Refusal> {
    if state.operations.contains_key(id) {
        return Err(Refusal::new(Reason::AlreadyExists, format!("there is an operation {id} already")));
    }
    if state.operations.values().filter(|o| !o.state.is_terminal()).count() >= OPEN_MAX {
        return Err(Refusal::new(Reason::LimitReached, format!("{OPEN_MAX} operations are open already")));
    }
    Ok(())
}

/// What the plan rests on must be as it was.
fn fresh(state: &State, plan: &Plan) -> Result<(), Refusal> {
    for touch in &plan.touches {
        let (name, now): (String, Option<Revision>) = match &touch.resource {
            Resource::Group(name) => (format!("group {name}"), state.groups.get(name).map(|g| g.revision)),
            Resource::Service(name) => {
                (format!("service {name}"), state.services.get(name).map(|s| s.revision))
            }
            Resource::Node(name) => (format!("node {name}"), state.nodes.present(name).map(|n| n.revision)),
        };
        if now != Some(touch.revision) {
            let what = match now {
                None => format!("{name} is gone since the plan was made"),
                Some(at) => format!("{name} changed at revision {at}, after the plan at {}", plan.base),
            };
            return Err(Refusal::new(Reason::StalePlan, what));
        }
    }
    Ok(())
}

fn create(
    state: &mut State,
    context: &Context<'_>,
    id: &OperationId,
    plan: &Plan,
) -> Result<Effect, Refusal> {
    room(state, id)?;
    fresh(state, plan)?;
    if let Goal::Membership { group, .. } = &plan.request.goal {
        membership::unchanging(state, group)?;
    }
    failover::unmoved(state, plan)?;
    let steps = plan.steps().map(|(wave, s)| Step {
        wave: u32::try_from(wave).unwrap_or(u32::MAX),
        node: s.node.clone(),
        kind: s.kind,
        action: s.action.clone(),
        gate: s.gate.clone(),
        disruptive: s.disruptive,
        deadline: s.deadline,
        state: StepState::Pending,
        attempts: 0,
        started_at: None,
        ended_at: None,
        execution: None,
        grant: None,
        readings: Vec::new(),
        before: Vec::new(),
        failure: None,
        undo: s.undo.clone(),
    });
    let mut operation = Operation {
        id: id.clone(),
        kind: plan.kind,
        plan: plan.id.clone(),
        plan_hash: plan.hash,
        request: plan.request.clone(),
        title: plan.title.clone(),
        state: OperationState::Queued,
        conditions: Vec::new(),
        failure: None,
        parallel: plan.parallel,
        failures: 0,
        unreachable: 0,
        forgiven: 0,
        halted: None,
        rollback_from: None,
        approval: approval::needed(state, context, plan),
        waves: plan.waves.iter().map(wave).collect(),
        steps: steps.collect(),
        created_by: context.principal.clone(),
        created_at: context.now,
        started_at: None,
        ended_at: None,
        active: ActiveTime::default(),
        revision: context.revision,
    };
    approval::hold(&mut operation, context);
    step::tidy(&mut operation, context);
    state.operations.insert(id.clone(), operation);
    failover::created(state, context, id, plan);
    let answer = Answer::Operation { revision: context.revision, operation: id.clone() };
    let details = format!("plan {} {}", plan.id, plan.summary);
    Ok(Effect::changed(answer, format!("operations/{id}"), details).of(id))
}

fn wave(planned: &PlanWave) -> Wave {
    Wave {
        label: planned.label.clone(),
        state: WaveState::Pending,
        hold: planned.hold,
        promote: planned.promote,
        promoted_at: None,
        parallel: planned.parallel,
    }
}

fn pause(state: &mut State, context: &Context<'_>, id: &OperationId) -> Result<Effect, Refusal> {
    let operation = open(state, id)?;
    match operation.state {
        OperationState::Pausing | OperationState::Paused => return Ok(Effect::unchanged(context.done())),
        OperationState::Queued | OperationState::Running | OperationState::RollingBack => {}
        OperationState::Pending
        | OperationState::Planned
        | OperationState::AwaitingApproval
        | OperationState::Canceling
        | OperationState::Succeeded
        | OperationState::Failed
        | OperationState::Canceled
        | OperationState::RolledBack => {
            return Err(Refusal::new(Reason::WrongState, format!("{id} is {}", operation.state)));
        }
    }
    operation.state = OperationState::Pausing;
    operation.conditions.clear();
    step::tidy(operation, context);
    Ok(changed(context, id, "pausing"))
}

fn resume(state: &mut State, context: &Context<'_>, id: &OperationId) -> Result<Effect, Refusal> {
    let operation = open(state, id)?;
    match operation.state {
        OperationState::Queued | OperationState::Running | OperationState::RollingBack => {
            return Ok(Effect::unchanged(context.done()));
        }
        OperationState::Pausing | OperationState::Paused => {}
        OperationState::Pending
        | OperationState::Planned
        | OperationState::AwaitingApproval
        | OperationState::Canceling
        | OperationState::Succeeded
        | OperationState::Failed
        | OperationState::Canceled
        | OperationState::RolledBack => {
            return Err(Refusal::new(Reason::WrongState, format!("{id} is {}", operation.state)));
        }
    }
    operation.state = match (operation.rollback_from, operation.started_at) {
        (Some(_), _) => OperationState::RollingBack,
        (None, Some(_)) => OperationState::Running,
        (None, None) => OperationState::Queued,
    };
    if operation.halted.take().is_some() {
        // Whoever resumes has seen what failed: it counts against the budget no longer.
        operation.forgiven = operation.failures.saturating_add(operation.unreachable);
        operation.conditions.clear();
    }
    step::tidy(operation, context);
    Ok(changed(context, id, "resumed"))
}

/// A rollback is not canceled in passing: what it has not taken back yet would stay behind. Paused first, it can be.
pub(super) fn cancel(state: &mut State, context: &Context<'_>, id: &OperationId) -> Result<Effect, Refusal> {
    let operation = open(state, id)?;
    if operation.state == OperationState::Canceling {
        return Ok(Effect::unchanged(context.done()));
    }
    if operation.state == OperationState::RollingBack {
        let what = format!("{id} is {}; a rollback is paused before it is canceled", operation.state);
        return Err(Refusal::new(Reason::WrongState, what)
            .with_hint(format!("let it end, or: quorate rollout pause {id}")));
    }
    if operation.is_between() {
        let what = format!("{id} has told the application, and has not seen yet what it made of it");
        return Err(Refusal::new(Reason::WrongState, what)
            .with_hint("let it end: what is not seen in time is taken back by itself"));
    }
    if operation.is_rebuilding() {
        let what = format!("{id} has stopped a member, and its data may be aside");
        return Err(Refusal::new(Reason::WrongState, what)
            .with_hint("let it end: what fails of it is taken back by itself"));
    }
    operation.state = OperationState::Canceling;
    operation.conditions.clear();
    for step in &mut operation.steps {
        // Actions in flight end by themselves; gates and everything not begun do not happen.
        if step.action.is_none() || step.state != StepState::Running {
            skip(step, context);
        }
    }
    step::tidy(operation, context);
    for execution in state.executions.values_mut().filter(|e| e.operation == *id) {
        if execution.state == ExecutionState::Pending {
            execution.cancel = true;
        }
    }
    step::release_lanes(state, id);
    failover::follow(state, context, id);
    Ok(changed(context, id, "canceling"))
}

fn skip(step: &mut Step, context: &Context<'_>) {
    if !is_over(step.state) {
        step.state = StepState::Skipped;
        step.ended_at = Some(context.now);
    }
}

fn set_condition(
    state: &mut State,
    context: &Context<'_>,
    id: &OperationId,
    reason: ConditionReason,
    message: &str,
) -> Result<Effect, Refusal> {
    let operation = open(state, id)?;
    let mut message = String::from(message);
    validate::cut(&mut message, 512);
    if let Some(held) = operation.conditions.iter_mut().find(|c| c.reason == reason) {
        // A new text for the same reason is no event.
        held.message = message;
        return Ok(Effect::unchanged(context.done()));
    }
    let details = format!("{reason}: {message}");
    operation.conditions = Vec::from([Condition { reason, message, since: context.now }]);
    step::tidy(operation, context);
    Ok(changed(context, id, details))
}

/// Whether an operation still owes an undo.
pub(super) fn owes(state: &State, id: &OperationId) -> bool {
    owed(state, id).next().is_some()
}

/// The undos that an operation still owes. A node that was removed has taken its debts with it.
fn owed<'a>(state: &'a State, id: &'a OperationId) -> impl Iterator<Item = &'a Obligation> {
    state.obligations.values().filter(move |o| {
        o.operation.as_ref() == Some(id)
            && matches!(o.state, ObligationState::Open | ObligationState::Failed)
            && state.nodes.present(&o.node).is_some()
    })
}
