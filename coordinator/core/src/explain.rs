//! Why something waits or was refused, and who holds what.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use quorate_model::{
    DurationMs, ExecutionId, GroupName, NodeName, ObligationState, OperationId, OperationState, Refusal,
    StepState, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::apply::step::{begins, guard, in_order};
use crate::observations::Observations;
use crate::safety::{Evidence, approval, availability, fence, freeze, gate, window};
use crate::state::operation::Step;
use crate::state::{Execution, Grant, Group, Node, Obligation, Operation, State};

/// An answer to "why?".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// What the id is: `operations/r-…`, `nodes/node3`, `groups/ledger`, …
    pub subject: String,
    /// Its state, one word.
    pub state: String,
    /// One sentence.
    pub headline: String,
    /// Facts, subject and text.
    pub facts: Vec<(String, String)>,
    /// What would refuse its next step now, if anything.
    pub refusal: Option<Refusal>,
    /// What to do; empty when nothing is.
    pub hint: String,
}

/// Why the thing with this id waits, or how it ended; none when there is no such thing. `id` may be the last part of a
/// resource name: an operation, execution, node or group.
#[must_use]
pub fn explain(state: &State, obs: &Observations, id: &str, now: Timestamp) -> Option<Explanation> {
    let id = id.rsplit('/').next().unwrap_or(id);
    let found = OperationId::new(id).ok().and_then(|id| state.operations.get(&id));
    if let Some(found) = found {
        return Some(operation(state, obs, found, now));
    }
    if let Some(found) = ExecutionId::new(id).ok().and_then(|id| state.executions.get(&id)) {
        return Some(execution(state, found));
    }
    if let Some(found) = GroupName::new(id).ok().and_then(|name| state.groups.get(&name)) {
        return Some(group(state, obs, found, now));
    }
    NodeName::new(id)
        .ok()
        .and_then(|name| state.nodes.by_name.get(&name))
        .map(|found| node(state, obs, found, now))
}

fn fact(subject: impl Into<String>, text: impl Into<String>) -> (String, String) {
    (subject.into(), text.into())
}

fn operation(state: &State, obs: &Observations, found: &Operation, now: Timestamp) -> Explanation {
    let evidence = Evidence::from_observations(obs);
    let mut facts = Vec::new();
    let count = |wanted: StepState| found.steps.iter().filter(|s| s.state == wanted).count();
    facts.push(fact(
        "steps",
        format!(
            "{} done, {} running, {} to come, {} failed, {} skipped",
            count(StepState::Succeeded),
            count(StepState::Running),
            count(StepState::Pending),
            count(StepState::Failed),
            count(StepState::Skipped)
        ),
    ));
    for condition in &found.conditions {
        let lasting = now.since(condition.since);
        facts.push(fact(
            format!("blocked {}", condition.reason),
            format!("{} (for {lasting})", condition.message),
        ));
    }
    if let Some(asked) = &found.approval {
        let told = |want| approval::told(found, asked, want);
        facts.extend(asked.wants.iter().map(|want| fact(format!("policy {}", want.policy), told(want))));
    }
    for (index, step) in found.indexed().filter(|(_, s)| s.state == StepState::Running) {
        facts.push(fact(format!("step {index} on {}", step.node), doing_now(state, obs, found, index, now)));
    }
    for grant in state.grants.values().filter(|g| g.operation == found.id) {
        facts.push(fact("holds", format!("grant {} on {}", grant.epoch, grant.instance)));
    }
    for owed in owed(state, &found.id) {
        facts.push(owed);
    }
    let refused = in_order(found)
        .into_iter()
        .filter_map(|index| found.step(index))
        .filter(|step| begins(found, step).is_ok())
        .find_map(|step| Some((step, guard(state, found, step, &evidence, now)?)));
    if let Some((step, refusal)) = &refused {
        facts.push(fact("waits", refusal.what()));
        facts.extend(refusal.why());
        facts.extend(holders(state, found, step));
    }
    let unapproved = approval::approved(found).filter(|_| found.state == OperationState::AwaitingApproval);
    let refusal = unapproved.or_else(|| refused.map(|(_, refusal)| refusal));
    let headline = headline(found, refusal.as_ref(), gated(state, obs, found, now));
    let hint = refusal
        .as_ref()
        .map(Refusal::hint)
        .or_else(|| decides(found))
        .or_else(|| found.failure.as_ref().map(|failure| failure.reason.what_to_do().to_string()));
    Explanation {
        subject: format!("operations/{}", found.id),
        state: found.state.as_str().to_string(),
        headline,
        facts,
        refusal,
        hint: hint.unwrap_or_default(),
    }
}

/// What a person can do when the operation waits for one.
fn decides(found: &Operation) -> Option<String> {
    let id = &found.id;
    if found.halted.is_some() {
        return Some(format!("look at what failed, then quorate rollout resume {id}, or abort it"));
    }
    found.promotable().map(|_| format!("quorate rollout promote {id}"))
}

/// The first node whose gate is not through, with what it still misses.
fn gated(state: &State, obs: &Observations, found: &Operation, now: Timestamp) -> Option<String> {
    let running = found.indexed().filter(|(_, step)| step.state == StepState::Running);
    running.into_iter().find_map(|(index, step)| {
        let missing = missing(state, obs, found, index, now)?;
        Some(format!("{}: {missing}", step.node))
    })
}

/// What the gate of a step still misses; nothing when it has none or everything holds.
fn missing(
    state: &State,
    obs: &Observations,
    found: &Operation,
    index: u32,
    now: Timestamp,
) -> Option<String> {
    let step = found.step(index)?;
    let gate = step.gate.as_ref()?;
    gate::missing(state, found, index, &Evidence::from_observations(obs), now)
        .or_else(|| gate::held(gate, step.started_at.unwrap_or(now), now))
}

fn headline(found: &Operation, refusal: Option<&Refusal>, gated: Option<String>) -> String {
    let title = &found.title;
    match (&found.failure, refusal, found.state) {
        (_, _, OperationState::Succeeded) => format!("{title} has succeeded"),
        (Some(failure), _, OperationState::Canceled) => {
            format!("{title} was canceled: {}", failure.message)
        }
        (None, _, OperationState::Canceled) => format!("{title} was canceled"),
        (Some(failure), _, OperationState::RolledBack) => {
            format!("{title} was rolled back: {}", failure.message)
        }
        (Some(failure), _, OperationState::RollingBack) => {
            format!("{title} is rolled back: {}", failure.message)
        }
        (Some(failure), _, _) => format!("{title} failed: {}", failure.message),
        (None, _, OperationState::Paused | OperationState::Pausing) if found.halted.is_some() => {
            let message = found.halted.as_ref().map_or("", |halted| halted.message.as_str());
            format!("{title} pauses for a failure: {message}")
        }
        (None, _, OperationState::Paused) => format!("{title} is paused until it is resumed"),
        (None, _, OperationState::Pausing) => format!("{title} pauses once the node at work is back"),
        (None, _, OperationState::Canceling) => format!("{title} stops once the action in flight has ended"),
        (None, None, _) if found.promotable().is_some() => {
            let number = found.promotable().unwrap_or_default().saturating_add(1);
            format!("{title} waits: wave {number} is to be promoted")
        }
        (None, Some(refusal), _) => format!("{title} waits: {}", refusal.what()),
        (None, None, _) if found.has_running_step() => match gated {
            Some(missing) => format!("{title} waits for {missing}"),
            None => format!("{title} is at work"),
        },
        (None, None, _) => format!("{title} goes on at the next round"),
    }
}

/// What a running step is doing: its execution's state, or what its gate still misses.
fn doing_now(state: &State, obs: &Observations, found: &Operation, index: u32, now: Timestamp) -> String {
    let Some(step) = found.step(index) else { return String::new() };
    let lasting = step.started_at.map(|at| now.since(at)).unwrap_or_default();
    if step.gate.is_some() {
        let text = missing(state, obs, found, index, now).unwrap_or_else(|| "everything holds".to_string());
        return format!("gate, for {lasting}: {text}");
    }
    let at = step.execution.as_ref().and_then(|id| state.executions.get(id));
    match at {
        Some(execution) => format!("{} is {}, for {lasting}", execution.action.kind(), execution.state),
        None => format!("for {lasting}"),
    }
}

/// What others hold of the budget of the groups that a step touches.
fn holders(state: &State, found: &Operation, step: &Step) -> Vec<(String, String)> {
    let Some(service) = step.action.as_ref().and_then(|action| action.service()) else { return Vec::new() };
    let groups: Vec<&GroupName> = state.groups_of(service, &step.node).map(|g| &g.spec.name).collect();
    let others = state.grants.values().filter(|grant| {
        grant.operation != found.id && grant.groups.iter().any(|name| groups.contains(&name))
    });
    let told = |grant: &Grant| {
        let title = state.operations.get(&grant.operation).map(|o| o.title.as_str()).unwrap_or_default();
        fact("held by", format!("{} ({title}), at work on {}", grant.operation, grant.instance))
    };
    others.map(told).collect()
}

fn owed(state: &State, id: &OperationId) -> Vec<(String, String)> {
    let open = |o: &&Obligation| {
        o.operation.as_ref() == Some(id) && matches!(o.state, ObligationState::Open | ObligationState::Failed)
    };
    let told = |o: &Obligation| fact(format!("owed by {}", o.node), format!("{} ({})", o.what, o.state));
    state.obligations.values().filter(open).map(told).collect()
}

fn execution(state: &State, found: &Execution) -> Explanation {
    let mut facts = Vec::from([
        fact("operation", found.operation.as_str()),
        fact("node", found.node.as_str()),
        fact("action", found.action.kind().as_str()),
        fact("epoch", format!("{}", found.epoch)),
    ]);
    if let Some(outcome) = &found.outcome {
        facts.push(fact("outcome", outcome.message.clone()));
    }
    if let Some(grant) = state.grants.get(&found.epoch) {
        facts.push(fact("grant", format!("held on {}", grant.instance)));
    }
    let hint = found.reason.map(|reason| reason.what_to_do().to_string()).unwrap_or_default();
    Explanation {
        subject: format!("executions/{}", found.id),
        state: found.state.as_str().to_string(),
        headline: format!("{} on {} is {}", found.action.kind(), found.node, found.state),
        facts,
        refusal: None,
        hint,
    }
}

fn group(state: &State, obs: &Observations, found: &Group, now: Timestamp) -> Explanation {
    let evidence = Evidence::from_observations(obs);
    let stand = availability(state, found, &evidence, now);
    let mut facts = Vec::new();
    for out in stand.out() {
        let lasting = out.lasting.map(|d| format!(", for {d}")).unwrap_or_default();
        facts.push(fact(out.node.as_str(), format!("{}{lasting}", out.why)));
    }
    for grant in state.grants.values().filter(|g| g.groups.contains(&found.spec.name)) {
        facts.push(fact(
            "grant",
            format!("{} works on {} under epoch {}", grant.operation, grant.instance, grant.epoch),
        ));
    }
    let (up, required, voters) = (stand.up, stand.required, stand.voters.len());
    Explanation {
        subject: format!("groups/{}", found.spec.name),
        state: stand.state().as_str().to_string(),
        headline: format!("{up} of {voters} voters up, needs {required}, margin {}", stand.margin()),
        facts,
        refusal: None,
        hint: String::new(),
    }
}

fn node(state: &State, obs: &Observations, found: &Node, now: Timestamp) -> Explanation {
    let mut facts = Vec::new();
    let status = format!("for {}", now.since(found.status_since));
    facts.push(fact(found.status.as_str(), status));
    if let Some(seen) = obs.nodes.get(&found.name) {
        facts.push(fact("heard", format!("{} ago", now.since(seen.heard))));
    }
    if let Some(cordon) = state.cordoned(found) {
        let lasting = now.since(cordon.since);
        facts.push(fact("cordoned", format!("by {} for {lasting}: {}", cordon.owner, cordon.reason)));
    }
    if let Some(held) = freeze::covering(state, &found.name, None, now) {
        let (by, since, spec) = (&held.applied_by, held.since().utc(), &held.spec);
        facts.push(fact("frozen", format!("by {by} since {since}: {}: {}", spec.name, spec.reason)));
    }
    for covers in window::covering(state, &found.name, None) {
        let (word, name) = (covers.state(now), &covers.spec.name);
        let next = covers.upcoming(now).next();
        let when = match (covers.open(now), next) {
            (Some(opening), _) => format!("closes {}", opening.end.utc()),
            (None, Some(opening)) => format!("opens {} for {}", opening.start.utc(), opening.length()),
            (None, None) => "no opening is known".to_string(),
        };
        facts.push(fact("window", format!("{name} is {word}: {when}")));
    }
    for execution in state.open_executions(&found.name) {
        let text = format!("{} of {} is {}", execution.action.kind(), execution.operation, execution.state);
        facts.push(fact("work", text));
    }
    let refusal = fence::reachable(state, &found.name)
        .or_else(|| freeze::unfrozen(state, &found.name, None, now))
        .or_else(|| window::within(state, &found.name, None, DurationMs::ZERO, now))
        .or_else(|| fence::eligible(state, &found.name))
        .or_else(|| fence::free(state, &found.name, None));
    let headline = match &refusal {
        None => format!("{} may be worked on", found.name),
        Some(refusal) => refusal.what(),
    };
    Explanation {
        subject: format!("nodes/{}", found.name),
        state: found.status.as_str().to_string(),
        headline,
        facts,
        hint: refusal.as_ref().map(Refusal::hint).unwrap_or_default(),
        refusal,
    }
}
