//! The primary role of a group is moved: its lease is over, then somebody else is promoted, then clients are led there.
//!
//! Who takes over is chosen here, and looked at again when it is promoted: the standby that is furthest, in another zone than the
//! old primary where both are as far. A switchover brings the old primary back as a standby where the group says how; a primary
//! that is lost stays stopped, and going back is another plan.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cmp::Reverse;

use quorate_model::{
    ActionKind, ActionSpec, DurationMs, FailoverSpec, GroupName, HookName, LeaseTimes, NodeName,
    OperationKind, Principal, Reason, Refusal, StepKind, Timestamp,
};

use super::draft::Draft;
use super::targets::{Job, Target};
use super::{actions, finish, is_disruptive, windows};
use crate::desired::peer_of;
use crate::observations::Observations;
use crate::safety::failover::{
    Move, Suspicion, behind, fresh_position, instance, last_position, moving, serves_not, suspicion, too_far,
    unfit,
};
use crate::safety::{Evidence, fence, freeze, lease};
use crate::state::plan::{GateSpec, Goal, LeaseGate, LeaseWants, Plan, PlanRequest, PlanStep, PlanWave};
use crate::state::{Group, PrimaryLease, State};

/// The label by which two nodes are in one zone.
const ZONE: &str = "zone";

/// What has to be planned now, because the primary of a group is lost and its role is moved without being asked.
#[must_use]
pub fn due(state: &State, obs: &Observations, now: Timestamp) -> Vec<PlanRequest> {
    let lost = |group: &Group| match suspicion(state, obs, group, now) {
        Suspicion::Confirmed { why } => {
            let goal = Goal::Failover { group: group.spec.name.clone(), to: None, planned: false };
            let mut request = PlanRequest::new(goal, Principal::System);
            request.reason = why;
            Some(request)
        }
        Suspicion::None | Suspicion::Suspected { .. } => None,
    };
    state.groups.values().filter(|group| group.primary.is_some()).filter_map(lost).collect()
}

/// Everything that a move of the role rests on.
struct Draw<'a> {
    state: &'a State,
    obs: &'a Observations,
    request: &'a PlanRequest,
    group: &'a Group,
    spec: &'a FailoverSpec,
    asked: Move<'a>,
    /// Who holds the role, or held it last.
    last: &'a PrimaryLease,
    /// The last that is known of its position.
    position: Option<u64>,
}

pub(super) fn plan(
    state: &State,
    obs: &Observations,
    request: &PlanRequest,
    name: &GroupName,
    now: Timestamp,
    mint: &mut dyn FnMut() -> u64,
) -> Result<Plan, Refusal> {
    let group = state
        .groups
        .get(name)
        .ok_or_else(|| Refusal::new(Reason::NotFound, format!("there is no group {name}")))?;
    let readings = obs.of_voters(group);
    let evidence = Evidence::from_readings(&readings);
    let draw = draw(state, obs, request, group, &evidence)?;
    draw.check_now(&evidence, now)?;
    let heir = draw.choose(&evidence, now)?;
    let target = Target { node: heir.clone(), kind: StepKind::Promote, action: draw.promote() };
    let job = Job {
        kind: OperationKind::Failover,
        service: Some(group.spec.service.clone()),
        group: Some(name.clone()),
        targets: Vec::from([target]),
        release: None,
        copies: BTreeMap::new(),
    };
    let mut draft = Draft::new(state, obs, request, now);
    draft.check_capabilities(&job)?;
    draw.check_hooks(&heir)?;
    draft.waves = draw.waves(&heir)?;
    draft.warn(draw.warnings(&heir, &evidence, now));
    if draw.asked.planned {
        draft.warn(windows::fit(state, &draft.waves, now)?);
    }
    finish(state, request, now, mint, job, draft)
}

fn draw<'a>(
    state: &'a State,
    obs: &'a Observations,
    request: &'a PlanRequest,
    group: &'a Group,
    evidence: &Evidence<'_>,
) -> Result<Draw<'a>, Refusal> {
    let Goal::Failover { to, planned, .. } = &request.goal else {
        return Err(Refusal::new(Reason::Internal, "no move of a primary role"));
    };
    let name = &group.spec.name;
    let spec = group.spec.failover.as_ref().ok_or_else(|| {
        Refusal::new(Reason::InvalidArgument, format!("group {name} declares no failover"))
            .with_hint("declare how its role is held and moved: quorate group apply")
    })?;
    moving(state, name).map_or(Ok(()), Err)?;
    let last = group.primary.as_ref().ok_or_else(|| {
        Refusal::new(Reason::PrimaryLease, format!("nobody has been seen to lead {name} alone yet"))
            .with_hint("start its primary: who leads alone gets the first lease")
    })?;
    let asked = Move { to: to.as_ref(), planned: *planned };
    let position = last_position(evidence, &instance(group, &last.node));
    Ok(Draw { state, obs, request, group, spec, asked, last, position })
}

impl Draw<'_> {
    /// A switchover begins from a primary that is well, and in no freeze; a primary that is lost waits for neither.
    fn check_now(&self, evidence: &Evidence<'_>, now: Timestamp) -> Result<(), Refusal> {
        if !self.asked.planned {
            return Ok(());
        }
        let service = Some(&self.group.spec.service);
        let frozen =
            self.group.spec.voters.iter().find_map(|node| freeze::unfrozen(self.state, node, service, now));
        frozen.or_else(|| serves_not(self.state, self.group, evidence, now)).map_or(Ok(()), Err)
    }

    /// Who takes over: whoever is named, or the best of those that are fit. Who led last is the last resort, once its lease is over.
    fn choose(&self, evidence: &Evidence<'_>, now: Timestamp) -> Result<NodeName, Refusal> {
        let others = self.group.spec.voters.iter().filter(|node| **node != self.last.node);
        let again = Some(&self.last.node).filter(|_| lease::live(self.group).is_none());
        let all: Vec<&NodeName> = match self.asked.to {
            Some(to) if *to == self.last.node && again.is_none() => {
                let what = format!("{to} holds the primary role of {} already", self.group.spec.name);
                return Err(Refusal::new(Reason::NothingToChange, what));
            }
            Some(to) => Vec::from([to]),
            None => others.chain(again).collect(),
        };
        let mut refused = None;
        let mut fit: Vec<&NodeName> = Vec::new();
        for node in all {
            match self.refuses(node, evidence, now) {
                None => fit.push(node),
                Some(refusal) => drop(refused.get_or_insert(refusal)),
            }
        }
        fit.sort_by_key(|node| {
            let same_zone = self.zone(node).is_some_and(|zone| self.zone(&self.last.node) == Some(zone));
            (**node == self.last.node, Reverse(self.own(node, evidence, now)), same_zone, *node)
        });
        match (fit.first(), refused) {
            (Some(node), _) => Ok((*node).clone()),
            (None, Some(refusal)) => Err(refusal),
            (None, None) => Err(Refusal::new(Reason::Internal, "the group has no other voter")),
        }
    }

    fn refuses(&self, node: &NodeName, evidence: &Evidence<'_>, now: Timestamp) -> Option<Refusal> {
        let cordoned = fence::eligible(self.state, node).filter(|_| self.asked.to.is_none());
        let last = match self.asked.planned {
            true => fresh_position(self.state, evidence, &instance(self.group, &self.last.node), now),
            false => self.position,
        };
        cordoned
            .or_else(|| unfit(self.state, self.group, node, None, evidence, now))
            .or_else(|| too_far(self.spec, self.asked, node, last, self.own(node, evidence, now)))
    }

    /// How far a node has come. Who led last lacks nothing of its own.
    fn own(&self, node: &NodeName, evidence: &Evidence<'_>, now: Timestamp) -> Option<u64> {
        if *node == self.last.node {
            // Its log ends where it ends, and nobody has more.
            return Some(self.position.unwrap_or(0));
        }
        fresh_position(self.state, evidence, &instance(self.group, node), now)
    }

    fn zone(&self, node: &NodeName) -> Option<&String> {
        self.state.nodes.present(node)?.labels.get(ZONE)
    }

    fn promote(&self) -> ActionSpec {
        ActionSpec::RolePromote {
            service: self.group.spec.service.clone(),
            group: self.group.spec.name.clone(),
            hook: self.spec.promote.clone(),
        }
    }

    /// An agent that cannot run a hook is not asked to.
    fn check_hooks(&self, heir: &NodeName) -> Result<(), Refusal> {
        let rejoins = self.rejoins().is_some();
        let asked = [(heir, self.spec.switch.is_some()), (&self.last.node, rejoins)];
        let lacks = |node: &NodeName| {
            let told = self.obs.nodes.get(node).filter(|seen| !seen.capabilities.is_empty());
            told.is_some_and(|seen| !seen.capabilities.contains(&ActionKind::ExecRun))
        };
        match asked.into_iter().find(|(node, asked)| *asked && lacks(node)) {
            None => Ok(()),
            Some((node, _)) => {
                let what = format!("the agent on {node} has no {}", ActionKind::ExecRun);
                Err(Refusal::new(Reason::ActionUnsupported, what))
            }
        }
    }

    /// The hook that makes a standby of the old primary, where it is to come back.
    fn rejoins(&self) -> Option<&HookName> {
        self.spec.rejoin.as_ref().filter(|_| self.asked.planned)
    }

    fn waves(&self, heir: &NodeName) -> Result<Vec<PlanWave>, Refusal> {
        let name = &self.group.spec.name;
        let wants = |wants| LeaseGate { group: name.clone(), wants };
        let fence = LeaseWants::Over { holder: self.last.node.clone(), position: self.position };
        let silence = LeaseTimes::of(self.last.ttl).silence();
        let fence = PlanStep {
            deadline: silence.plus(self.spec.timeout),
            ..self.gate(heir, &self.last.node, wants(fence))
        };
        let mut promote = Vec::new();
        if self.asked.planned {
            promote.push(self.gate(heir, heir, wants(LeaseWants::Reached { node: heir.clone() })));
        }
        promote.push(self.act(heir, StepKind::Promote, self.promote(), &self.spec.promote));
        let held = || wants(LeaseWants::Held { node: heir.clone() });
        let mut switch = Vec::new();
        if let Some(hook) = &self.spec.switch {
            switch.push(self.act(heir, StepKind::Switch, self.hook(hook, None), hook));
        }
        switch.push(self.proof(heir, held())?);
        let mut waves =
            Vec::from([wave("fence", Vec::from([fence])), wave("promote", promote), wave("switch", switch)]);
        if let Some(hook) = self.rejoins().filter(|_| *heir != self.last.node) {
            let from = &self.last.node;
            let service = self.group.spec.service.clone();
            let start = Target {
                node: from.clone(),
                kind: StepKind::Start,
                action: ActionSpec::ServiceStart { service },
            };
            let rejoin = Vec::from([
                self.act(from, StepKind::Rejoin, self.hook(hook, Some(heir)), hook),
                actions::action(self.state, self.request, &start),
                self.proof(from, held())?,
            ]);
            waves.push(wave("rejoin", rejoin));
        }
        Ok(waves)
    }

    fn hook(&self, hook: &HookName, told: Option<&NodeName>) -> ActionSpec {
        ActionSpec::ExecRun {
            service: self.group.spec.service.clone(),
            hook: hook.clone(),
            once: false,
            release: None,
            targets: told.into_iter().cloned().collect(),
        }
    }

    fn act(&self, node: &NodeName, kind: StepKind, action: ActionSpec, hook: &HookName) -> PlanStep {
        PlanStep {
            node: node.clone(),
            kind,
            disruptive: is_disruptive(&action),
            action: Some(action),
            gate: None,
            deadline: self.spec.timeout,
            quorum: Vec::new(),
            undo: None,
            note: hook.to_string(),
        }
    }

    /// A gate that asks for nothing but the lease, and for how far a standby has come.
    fn gate(&self, node: &NodeName, of: &NodeName, lease: LeaseGate) -> PlanStep {
        let note = match &lease.wants {
            LeaseWants::Over { holder, .. } => format!("{holder} leads no more"),
            LeaseWants::Reached { node } => format!("{node} lacks nothing"),
            LeaseWants::Held { node } => format!("{node} leads"),
        };
        let gate = GateSpec {
            instance: instance(self.group, of),
            soak: DurationMs::ZERO,
            probes: Vec::new(),
            caught_up: false,
            hold: DurationMs::ZERO,
            margin: false,
            membership: None,
            lease: Some(lease),
        };
        PlanStep {
            node: node.clone(),
            kind: StepKind::Gate,
            action: None,
            gate: Some(gate),
            disruptive: false,
            deadline: self.spec.timeout,
            quorum: Vec::new(),
            undo: None,
            note,
        }
    }

    /// The gate of any start, from another node too where there is one, and what the lease says on top.
    fn proof(&self, node: &NodeName, lease: LeaseGate) -> Result<PlanStep, Refusal> {
        let service = self.group.spec.service.clone();
        let target = Target {
            node: node.clone(),
            kind: StepKind::Start,
            action: ActionSpec::ServiceStart { service },
        };
        let step = actions::gate(self.state, self.request, &target)
            .ok_or_else(|| Refusal::new(Reason::Internal, "a start without a gate"))?;
        let note =
            if *node == self.last.node { format!("{node} is a standby") } else { format!("{node} leads") };
        // The host of a primary that is lost is no witness to wait for.
        let witness =
            peer_of(self.state, node).is_some_and(|peer| self.asked.planned || *peer != self.last.node);
        let gate = step.gate.map(|mut gate| {
            gate.probes.iter_mut().for_each(|probe| probe.from_peer &= witness);
            GateSpec { lease: Some(lease), ..gate }
        });
        Ok(PlanStep { gate, note, deadline: self.spec.timeout.max(step.deadline), ..step })
    }

    fn warnings(&self, heir: &NodeName, evidence: &Evidence<'_>, now: Timestamp) -> Vec<String> {
        let (name, from) = (&self.group.spec.name, &self.last.node);
        let mut warnings =
            Vec::from([format!("{name}: nobody leads from when {from} stops until {heir} does")]);
        match behind(self.position, self.own(heir, evidence, now)) {
            None => {
                warnings.push(format!("{name}: what is lost is not known: how far {heir} has come is not"))
            }
            Some(0) => {}
            Some(_) if self.asked.planned => {}
            Some(lag) => {
                warnings.push(format!("{name}: {heir} lacks {lag} of what {from} had, which may be lost"))
            }
        }
        if *heir != *from && self.rejoins().is_none() {
            warnings.push(format!("{from} stays stopped: started as it is, it would lead beside {heir}"));
        }
        warnings
    }
}

fn wave(label: &str, steps: Vec<PlanStep>) -> PlanWave {
    PlanWave { label: label.to_string(), steps, hold: DurationMs::ZERO, promote: false, parallel: None }
}
