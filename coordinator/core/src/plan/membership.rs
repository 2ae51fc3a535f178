//! A member joins a group, or leaves it: step after step, each of them on one node.
//!
//! Who joins is started and looked at before anybody counts it; who leaves has handed over and serves nobody before it is
//! removed, and is stopped only when the others do not list it any more. The application is told by another member, and what
//! it made of that is read from the members' own lists.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use quorate_model::{
    ActionKind, ActionSpec, DurationMs, GroupName, InstanceId, InstanceRole, InstanceState, MembershipSpec,
    MembershipVerb, NodeName, OnFailure, OperationKind, Reason, Refusal, StepKind, Timestamp,
};

use super::draft::Draft;
use super::targets::{Job, Target};
use super::{actions, finish, handover, is_disruptive, preflight, traffic, windows};
use crate::observations::Observations;
use crate::safety::availability::{availability, has_membership_probe};
use crate::safety::membership::{self, Change, Numbers};
use crate::safety::{Ask, Evidence, budget, fence, freeze};
use crate::state::plan::{GateSpec, Goal, MembershipGate, Plan, PlanRequest, PlanStep, PlanWave, QuorumLine};
use crate::state::{Group, Service, State};

/// Everything that a change of members rests on.
struct Draw<'a> {
    state: &'a State,
    obs: &'a Observations,
    request: &'a PlanRequest,
    group: &'a Group,
    service: &'a Service,
    spec: &'a MembershipSpec,
    change: Change<'a>,
    /// The member that tells the application.
    teller: NodeName,
    seen: Numbers,
}

pub(super) fn plan(
    state: &State,
    obs: &Observations,
    request: &PlanRequest,
    group: &GroupName,
    now: Timestamp,
    mint: &mut dyn FnMut() -> u64,
) -> Result<Plan, Refusal> {
    let request = PlanRequest { on_failure: OnFailure::Rollback, ..request.clone() };
    let draw = draw(state, obs, &request, group, now)?;
    let target = draw.target();
    let job = Job {
        kind: OperationKind::Membership,
        service: Some(draw.service.spec.name.clone()),
        group: Some(group.clone()),
        targets: Vec::from([target]),
        release: None,
        copies: BTreeMap::new(),
    };
    let mut draft = Draft::new(state, obs, &request, now);
    draft.check_freezes(&job)?;
    draft.check_capabilities(&job)?;
    traffic::check_capabilities(state, obs, &job)?;
    preflight::check_capabilities(state, obs, &request, &job)?;
    handover::check_capabilities(state, obs, &job)?;
    draw.check_teller()?;
    draft.waves = match draw.change.verb {
        MembershipVerb::Add => draw.join(&job)?,
        MembershipVerb::Remove => draw.leave(&job, now)?,
    };
    draft.warn(draw.warnings());
    draft.warn(windows::fit(state, &draft.waves, now)?);
    finish(state, &request, now, mint, job, draft)
}

/// Who and what it is about, or why it cannot be now.
fn draw<'a>(
    state: &'a State,
    obs: &'a Observations,
    request: &'a PlanRequest,
    name: &GroupName,
    now: Timestamp,
) -> Result<Draw<'a>, Refusal> {
    let Goal::Membership { node, change: verb, spare, .. } = &request.goal else {
        return Err(Refusal::new(Reason::Internal, "no change of members"));
    };
    let group = state
        .groups
        .get(name)
        .ok_or_else(|| Refusal::new(Reason::NotFound, format!("there is no group {name}")))?;
    let change = Change { node, verb: *verb, spare: *spare };
    if let Some(refusal) = fence::reachable(state, node) {
        return Err(refusal);
    }
    let invalid = |what: String| Refusal::new(Reason::InvalidArgument, what);
    let spec = group.spec.membership.as_ref().ok_or_else(|| {
        invalid(format!("group {name} declares no membership")).with_hint(
            "declare the hooks that add and remove a member, or change the voters by quorate group apply",
        )
    })?;
    let service = state.services.get(&group.spec.service).filter(|s| has_membership_probe(&s.spec));
    let service =
        service.ok_or_else(|| invalid(format!("service {} has no membership probe", group.spec.service)))?;
    let labels = state.nodes.present(node).map(|found| &found.labels);
    if !labels.is_some_and(|labels| service.spec.nodes.matches(node.as_str(), labels)) {
        let what = format!("service {} has no instance on {node}", service.spec.name);
        return Err(Refusal::new(Reason::Conflict, what));
    }
    let busy = |o: &&crate::state::Operation| {
        !o.state.is_terminal() && membership::of(o).is_some_and(|(group, _)| group == name)
    };
    if let Some(operation) = state.operations.values().find(busy) {
        let what = format!("{} changes the members of group {name}", operation.id);
        return Err(Refusal::new(Reason::Conflict, what)
            .with_hint(format!("quorate operation show {}", operation.id)));
    }
    if let Some(refusal) =
        fence::eligible(state, node).or_else(|| freeze::unfrozen(state, node, Some(&service.spec.name), now))
    {
        return Err(refusal);
    }
    let evidence = Evidence::from_observations(obs);
    if let Some(refusal) = membership::refuses(state, group, &change, &evidence, now) {
        return Err(refusal);
    }
    let seen = membership::numbers(state, group, &change, &evidence, now);
    let teller = teller(state, group, node, &evidence, now)?;
    Ok(Draw { state, obs, request, group, service, spec, change, teller, seen })
}

/// Another member that serves: the one that leads, where it is another.
fn teller(
    state: &State,
    group: &Group,
    node: &NodeName,
    evidence: &Evidence<'_>,
    now: Timestamp,
) -> Result<NodeName, Refusal> {
    let stands = availability(state, group, evidence, now);
    let mut others: Vec<_> = stands.voters.iter().filter(|v| v.is_available() && v.node != *node).collect();
    others.sort_by_key(|v| !matches!(v.role, InstanceRole::Leader | InstanceRole::Primary));
    others.first().map(|v| v.node.clone()).ok_or_else(|| {
        let what = format!("no other member of {} is up to tell the application", group.spec.name);
        Refusal::new(Reason::QuorumMargin, what)
    })
}

impl Draw<'_> {
    fn target(&self) -> Target {
        let service = self.service.spec.name.clone();
        let (kind, action) = match self.change.verb {
            MembershipVerb::Add => (StepKind::Start, ActionSpec::ServiceStart { service }),
            MembershipVerb::Remove => (StepKind::Stop, ActionSpec::ServiceStop { service }),
        };
        Target { node: self.change.node.clone(), kind, action }
    }

    fn instance(&self, node: &NodeName) -> InstanceId {
        InstanceId { node: node.clone(), service: self.service.spec.name.clone() }
    }

    /// An agent that cannot run a hook is not asked to tell the application.
    fn check_teller(&self) -> Result<(), Refusal> {
        let told = self.obs.nodes.get(&self.teller).filter(|seen| !seen.capabilities.is_empty());
        if told.is_none_or(|seen| seen.capabilities.contains(&ActionKind::ExecRun)) {
            return Ok(());
        }
        let what = format!("the agent on {} has no {}", self.teller, ActionKind::ExecRun);
        Err(Refusal::new(Reason::ActionUnsupported, what))
    }

    fn tell(&self, verb: MembershipVerb) -> ActionSpec {
        let hook = match verb {
            MembershipVerb::Add => &self.spec.add,
            MembershipVerb::Remove => &self.spec.remove,
        };
        ActionSpec::ExecRun {
            service: self.service.spec.name.clone(),
            hook: hook.clone(),
            once: false,
            release: None,
            targets: Vec::from([self.change.node.clone()]),
        }
    }

    /// The call of the application, with what takes it back.
    fn told(&self) -> PlanStep {
        let verb = self.change.verb;
        let (kind, hook) = match verb {
            MembershipVerb::Add => (StepKind::Join, &self.spec.add),
            MembershipVerb::Remove => (StepKind::Leave, &self.spec.remove),
        };
        let action = self.tell(verb);
        let Numbers { before, up, left, .. } = self.seen;
        let during = match verb {
            MembershipVerb::Add => up,
            MembershipVerb::Remove => left,
        };
        let required = self.seen.larger();
        let line = QuorumLine {
            group: self.group.spec.name.clone(),
            voters: before,
            required,
            up_before: up,
            up_during: during,
            spare: during.saturating_sub(required),
        };
        PlanStep {
            node: self.teller.clone(),
            kind,
            disruptive: is_disruptive(&action),
            action: Some(action),
            gate: None,
            deadline: self.spec.timeout,
            quorum: Vec::from([line]),
            undo: Some(self.tell(verb.inverse())),
            note: format!("{hook} for {}", self.change.node),
        }
    }

    /// What the others list, as a gate of the member that has told the application.
    fn seen_by_others(&self, instance: &NodeName, moves: bool) -> PlanStep {
        let gate = GateSpec {
            instance: self.instance(instance),
            soak: DurationMs::ZERO,
            probes: Vec::new(),
            caught_up: false,
            hold: DurationMs::ZERO,
            margin: false,
            membership: Some(MembershipGate {
                group: self.group.spec.name.clone(),
                node: self.change.node.clone(),
                listed: self.change.verb == MembershipVerb::Add,
                moves,
            }),
            lease: None,
        };
        PlanStep {
            node: self.teller.clone(),
            kind: StepKind::Gate,
            action: None,
            gate: Some(gate),
            disruptive: false,
            deadline: self.spec.timeout,
            quorum: Vec::new(),
            undo: None,
            note: String::new(),
        }
    }

    /// Looked at, started; told; caught up, and listed with a vote: then it counts. At last its traffic.
    fn join(&self, job: &Job) -> Result<Vec<PlanWave>, Refusal> {
        let target = job.targets.first().ok_or_else(|| Refusal::new(Reason::Internal, "nobody joins"))?;
        let mut start = actions::action(self.state, self.request, target);
        if !self.runs() {
            start.undo = Some(ActionSpec::ServiceStop { service: self.service.spec.name.clone() });
        }
        let mut first: Vec<PlanStep> = Vec::new();
        first.extend(preflight::step(self.state, self.request, target));
        first.push(start);
        let mut second = Vec::from([self.told()]);
        // The node that told the application looks on: it is one lane with one undo.
        let proof = actions::gate(self.state, self.request, target);
        second.extend(proof.map(|gate| PlanStep { node: self.teller.clone(), ..gate }));
        second.push(self.seen_by_others(self.change.node, true));
        let mut waves = Vec::from([wave("start", first), wave("join", second)]);
        let third: Vec<PlanStep> = traffic::restore(self.state, self.request, target).into_iter().collect();
        if !third.is_empty() {
            waves.push(wave("traffic", third));
        }
        Ok(waves)
    }

    /// Handed over and drained; told; not listed any more: then it counts no longer. At last it is stopped.
    fn leave(&self, job: &Job, now: Timestamp) -> Result<Vec<PlanWave>, Refusal> {
        let target = job.targets.first().ok_or_else(|| Refusal::new(Reason::Internal, "nobody leaves"))?;
        let mut first: Vec<PlanStep> = Vec::new();
        first.extend(handover::step(self.state, target, &BTreeSet::new()));
        first.extend(traffic::drain(self.state, self.request, target));
        if first.iter().any(|step| step.disruptive) {
            self.check_budget(now)?;
        }
        let second = Vec::from([self.told(), self.seen_by_others(&self.teller, true)]);
        let third = Vec::from([actions::action(self.state, self.request, target)]);
        let fourth = Vec::from([self.seen_by_others(&self.teller, false)]);
        let all = [("hand over", first), ("leave", second), ("stop", third), ("verify", fourth)];
        let kept = all.into_iter().filter(|(_, steps)| !steps.is_empty());
        Ok(kept.map(|(label, steps)| wave(label, steps)).collect())
    }

    /// What goes before takes the member out while it still counts.
    fn check_budget(&self, now: Timestamp) -> Result<(), Refusal> {
        let ask = Ask { doing: "draining", operation: None, max_unavailable: None, needs: None };
        let evidence = Evidence::from_observations(self.obs);
        let nodes = core::slice::from_ref(self.change.node);
        budget::disturb(self.state, self.group, nodes, &ask, &evidence, now).map_or(Ok(()), Err)
    }

    /// Whether its instance runs already: then nothing that fails stops it.
    fn runs(&self) -> bool {
        let found = self.obs.instances.get(&self.instance(self.change.node));
        found.is_some_and(|reading| match reading.observed {
            InstanceState::Running
            | InstanceState::Soaking
            | InstanceState::Healthy
            | InstanceState::Unhealthy
            | InstanceState::Starting => true,
            InstanceState::Unknown
            | InstanceState::Stopping
            | InstanceState::Stopped
            | InstanceState::Failed => false,
        })
    }

    fn warnings(&self) -> Vec<String> {
        let Numbers { before, after, needed_before, needed_after, .. } = self.seen;
        let name = &self.group.spec.name;
        let mut warnings = Vec::from([format!(
            "{name}: {before} voters need {needed_before}, {after} will need {needed_after}; until it is seen \
             {} are asked for",
            self.seen.larger()
        )]);
        if after <= needed_after {
            warnings.push(format!("{name}: with {after} voters none may fail"));
        }
        if self.change.verb == MembershipVerb::Remove {
            let node = self.change.node;
            warnings.push(format!("{node} keeps its identity: quorate node remove {node} revokes it"));
        }
        warnings
    }
}

fn wave(label: &str, steps: Vec<PlanStep>) -> PlanWave {
    PlanWave { label: label.to_string(), steps, hold: DurationMs::ZERO, promote: false, parallel: None }
}
