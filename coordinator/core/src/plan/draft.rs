//! A plan in the making: who is left out, how wide a wave may be, what each step does to each group.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use quorate_model::{
    BackupId, DurationMs, GroupName, NodeName, NodeStatus, OutReason, QuorumPolicy, Reason, Refusal,
    RiskClass, StepKind, Timestamp,
};

use super::stand::{Stand, allowed, line, no_margin};
use super::targets::{Job, Target};
use super::{
    PARALLEL_DEFAULT, actions, copies, handover, maintenance, migrate, order, preflight, releases, secrets,
    traffic, waves, zones,
};
use crate::apply::step::doing;
use crate::observations::Observations;
use crate::safety::availability::availability;
use crate::safety::{Evidence, freeze, lease};
use crate::state::plan::{PlanRequest, PlanStep, PlanWave};
use crate::state::{Group, State};

/// A plan in the making.
pub(super) struct Draft<'a> {
    state: &'a State,
    obs: &'a Observations,
    request: &'a PlanRequest,
    now: Timestamp,
    pub(super) waves: Vec<PlanWave>,
    pub(super) parallel: u32,
    pub(super) skipped: usize,
    warnings: Vec<String>,
    /// The copies that no step stores yet.
    copies: BTreeMap<NodeName, BackupId>,
    /// The nodes whose instance is stopped, and stays so.
    stopping: BTreeSet<NodeName>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(
        state: &'a State,
        obs: &'a Observations,
        request: &'a PlanRequest,
        now: Timestamp,
    ) -> Self {
        Self {
            state,
            obs,
            request,
            now,
            waves: Vec::new(),
            parallel: 1,
            skipped: 0,
            warnings: Vec::new(),
            copies: BTreeMap::new(),
            stopping: BTreeSet::new(),
        }
    }

    /// Refuses what could not begin with anything now: every target is frozen. Looked at before the quorum, because nothing is
    /// wrong with the fleet.
    pub(super) fn check_freezes(&self, job: &Job) -> Result<(), Refusal> {
        let mut first = None;
        for target in &job.targets {
            let Some(refusal) = self.frozen(target) else { return Ok(()) };
            first.get_or_insert(refusal);
        }
        first.map_or(Ok(()), Err)
    }

    /// Why a target may not be disturbed now, if a freeze covers it.
    fn frozen(&self, target: &Target) -> Option<Refusal> {
        if !super::is_disruptive(&target.action) {
            return None;
        }
        freeze::unfrozen(self.state, &target.node, target.action.service(), self.now)
    }

    /// What else must be known before.
    pub(super) fn warn(&mut self, warnings: Vec<String>) {
        self.warnings.extend(warnings);
    }

    /// What will wait for the end of a freeze.
    fn warn_of_freezes(&mut self, job: &Job) {
        for target in job.targets.iter().filter(|t| super::is_disruptive(&t.action)) {
            let found = freeze::covering(self.state, &target.node, target.action.service(), self.now);
            let Some(spec) = found.map(|freeze| &freeze.spec) else { continue };
            let end = spec.ends.map_or_else(|| "is deleted".to_string(), |at| format!("ends, {}", at.utc()));
            self.warnings
                .push(format!("{} is frozen: its step waits until {} {end}", target.node, spec.name));
        }
    }

    /// Instances that have the release already, and are healthy with it, are left out.
    pub(super) fn leave_out_done(&mut self, job: &mut Job) -> Result<(), Refusal> {
        let Some(release) = job.release.clone() else { return Ok(()) };
        let (state, obs) = (self.state, self.obs);
        let (done, left): (Vec<Target>, Vec<Target>) =
            job.targets.drain(..).partition(|target| releases::has(state, obs, target, &release));
        job.targets = left;
        if job.targets.is_empty() {
            let whose = job.group.as_ref().map_or("", GroupName::as_str);
            let what = format!("every member of {whose} runs {} already", release.version);
            return Err(Refusal::new(Reason::NothingToChange, what).with_hint("there is nothing to change"));
        }
        self.skipped = self.skipped.saturating_add(done.len());
        self.warnings.extend(done.iter().map(|target| releases::skipped(target, &release)));
        Ok(())
    }

    /// Nodes whose agent is not heard are left out, in words; a plan of nobody is refused. The quorum is looked at first:
    /// it is the better answer when both hold.
    pub(super) fn leave_out_unheard(&mut self, job: &mut Job) -> Result<(), Refusal> {
        if disturbs(job) {
            self.check_margin(job)?;
        }
        let state = self.state;
        let heard =
            |node: &NodeName| state.nodes.present(node).is_some_and(|n| n.status == NodeStatus::Ready);
        let mut gone: Vec<NodeName> = Vec::new();
        job.targets.retain(|target| {
            let keep = heard(&target.node);
            if !keep {
                gone.push(target.node.clone());
            }
            keep
        });
        if job.targets.is_empty() {
            let names: Vec<&str> = gone.iter().map(NodeName::as_str).collect();
            return Err(Refusal::new(
                Reason::AgentDisconnected,
                format!("no agent is heard on {}", names.join(", ")),
            ));
        }
        self.skipped = self.skipped.saturating_add(gone.len());
        self.warnings.extend(gone.iter().map(|node| format!("{node} is skipped: its agent is not heard")));
        let cordoned =
            job.targets.iter().filter_map(|t| state.nodes.present(&t.node)).filter(|n| n.cordon.is_some());
        if disturbs(job) {
            self.warnings.extend(
                cordoned.map(|n| format!("{} is cordoned: its step waits until that is lifted", n.name)),
            );
        }
        self.warn_of_freezes(job);
        Ok(())
    }

    /// An agent that has told what it can do, and cannot do this, is not asked.
    pub(super) fn check_capabilities(&self, job: &Job) -> Result<(), Refusal> {
        for target in &job.targets {
            let Some(seen) = self.obs.nodes.get(&target.node).filter(|seen| !seen.capabilities.is_empty())
            else {
                continue;
            };
            let needed = releases::needed(self.request, target);
            if let Some(kind) = needed.into_iter().find(|kind| !seen.capabilities.contains(kind)) {
                return Err(Refusal::new(
                    Reason::ActionUnsupported,
                    format!("the agent {} on {} has no {kind}", seen.agent_version, target.node),
                ));
            }
        }
        Ok(())
    }

    /// The groups that the job's instances belong to.
    fn stands(&self, job: &Job) -> Vec<Stand<'a>> {
        let Some(service) = &job.service else { return Vec::new() };
        let evidence = Evidence::from_observations(self.obs);
        let state = self.state;
        let touched = |group: &&Group| {
            group.spec.service == *service
                && job
                    .targets
                    .iter()
                    .any(|t| group.spec.voters.contains(&t.node) || group.spec.learners.contains(&t.node))
        };
        state
            .groups
            .values()
            .filter(touched)
            .map(|group| {
                let now_up = availability(state, group, &evidence, self.now);
                let back = |node: &NodeName| {
                    state.grants.values().any(|g| g.instance.node == *node && g.instance.service == *service)
                };
                let counts = now_up.voters.iter().filter(|v| {
                    v.is_available()
                        || (v.out.as_ref().is_some_and(|o| o.why == OutReason::Granted) && back(&v.node))
                });
                let up: BTreeSet<NodeName> = counts.map(|v| v.node.clone()).collect();
                let idle = now_up.voters.iter().filter(|v| v.spent && !up.contains(&v.node));
                let spent = idle.map(|v| v.node.clone()).collect();
                Stand { group, up, spent, now_up }
            })
            .collect()
    }

    /// Refuses to work on all members of a group at once, however wide its quorum: nobody means that. One at a time is the
    /// least there is, and what is left out is the default.
    pub(super) fn check_width(&self, job: &Job) -> Result<(), Refusal> {
        let wished = self.request.max_unavailable;
        if wished <= 1 || !disturbs(job) {
            return Ok(());
        }
        for stand in self.stands(job) {
            let spec = &stand.group.spec;
            let members = spec.voters.len().saturating_add(spec.learners.len());
            if usize::try_from(wished).is_ok_and(|wished| wished >= members) {
                return Err(Refusal::new(
                    Reason::InvalidArgument,
                    format!(
                        "max_unavailable: {wished} at once is all of {}, which has {members} members",
                        spec.name
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Refuses what cannot start at all: a member that is up must be spared, and none can be.
    fn check_margin(&self, job: &Job) -> Result<(), Refusal> {
        let Some(kind) = job.targets.first().map(|t| t.kind) else { return Ok(()) };
        for stand in self.stands(job) {
            let taken: Vec<NodeName> = job
                .targets
                .iter()
                .filter(|t| super::is_disruptive(&t.action) && stand.takes(&t.node))
                .map(|t| t.node.clone())
                .collect();
            if stand.group.spec.policy == QuorumPolicy::PrimaryStandby {
                let all: Vec<NodeName> = job.targets.iter().map(|t| t.node.clone()).collect();
                let evidence = Evidence::from_observations(self.obs);
                let refusal =
                    lease::disturb_refuses(self.state, stand.group, &all, doing(kind), &evidence, self.now);
                refusal.map_or(Ok(()), Err)?;
            }
            // What is stopped stays down: all of it counts at once. Anything else comes back before the next wave.
            let nodes = if kind == StepKind::Stop { taken } else { taken.into_iter().take(1).collect() };
            let cost = nodes.iter().filter(|node| stand.up.contains(*node)).count();
            // A release goes to the members that are out first, and they are back before the others are worked on: it may be
            // the very thing that brings them back.
            let mends = |t: &&Target| job.release.is_some() && stand.spent.contains(&t.node);
            let mended = u32::try_from(job.targets.iter().filter(mends).count()).unwrap_or(u32::MAX);
            let up = stand.up().saturating_add(mended);
            let after = up.saturating_sub(u32::try_from(cost).unwrap_or(u32::MAX));
            if !nodes.is_empty() && after < stand.floor() {
                return Err(no_margin(&stand, kind, nodes, after));
            }
        }
        Ok(())
    }

    /// Waves, widest that every group allows.
    pub(super) fn build(&mut self, job: &Job) -> Result<(), Refusal> {
        self.copies = job.copies.clone();
        let stopping = job.targets.iter().filter(|t| t.kind == StepKind::Stop);
        self.stopping = stopping.map(|t| t.node.clone()).collect();
        let disruptive = disturbs(job);
        let members = u32::try_from(job.targets.len()).unwrap_or(u32::MAX);
        let wished = match (self.request.max_unavailable, disruptive) {
            (0, true) => waves::widest(&self.request.waves, members),
            (0, false) => PARALLEL_DEFAULT,
            (wished, _) => wished,
        };
        let stands = self.stands(job);
        self.parallel = if disruptive { allowed(&stands, job, wished) } else { wished };
        let mutes = job.targets.iter().all(|t| t.action.risk() == RiskClass::Read);
        if !disruptive && (mutes || !gated(self.state, self.request, job)) {
            // Nothing is disturbed: one wave, as many lanes at once as asked for.
            self.wave(job.targets.iter(), &stands, "", &mut 0);
            return Ok(());
        }
        self.warnings.extend(waves::narrowed(&self.request.waves, members, self.parallel));
        self.stage(job);
        self.warnings.extend(secrets::resumed(&job.targets));
        let first = job.targets.first();
        self.warnings.extend(first.and_then(|t| releases::impatient(self.state, self.request, t)));
        let mut stopped = 0;
        let is_out = |t: &&Target| {
            disruptive
                && stands.iter().any(|s| s.spent.contains(&t.node))
                && stands.iter().all(|s| !s.takes(&t.node))
        };
        let (out, up): (Vec<&Target>, Vec<&Target>) = job.targets.iter().partition(is_out);
        let width = usize::try_from(self.parallel).unwrap_or(1).max(1);
        let (sizes, up) = self.zoned(job, &out, up);
        let migration = migrate::of(self.state, self.obs, self.request, job, &out, &up)?;
        self.warnings.extend(migration.notes);
        self.warnings.extend(maintenance::notes(self.state, job));
        self.once(migration.before, &stands);
        let first = self.waves.len();
        for chunk in out.chunks(width) {
            self.wave(chunk.iter().copied(), &stands, "already out", &mut stopped);
        }
        let mut rest = up.as_slice();
        for cut in waves::cut(&self.request.waves, &sizes, self.parallel) {
            let (chunk, later) = rest.split_at_checked(cut.size).unwrap_or((rest, &[]));
            rest = later;
            let leader = disruptive && chunk.iter().any(|t| self.leads(job, &t.node));
            let label = if leader && cut.label.is_empty() { "leader" } else { cut.label };
            self.wave(chunk.iter().copied(), &stands, label, &mut stopped);
        }
        self.between(first);
        self.once(migration.after, &stands);
        Ok(())
    }

    /// The targets that are up, in order, and how many of them each zone has.
    fn zoned<'t>(
        &mut self,
        job: &Job,
        out: &[&'t Target],
        up: Vec<&'t Target>,
    ) -> (Vec<usize>, Vec<&'t Target>) {
        let label = self.request.waves.zone_label.as_deref();
        let zones::Zones { mut parts, notes } = zones::split(self.state, self.obs, label, up);
        self.warnings.extend(notes);
        if label.is_some() && !out.is_empty() {
            self.warnings.push("what is out already goes before every zone".to_string());
        }
        if let Some(first) = parts.first_mut() {
            self.canary_first(job, first);
        }
        (parts.iter().map(Vec::len).collect(), parts.into_iter().flatten().collect())
    }

    /// A wave of the one step that is run once, what goes ahead of it, and its gate.
    fn once(&mut self, target: Option<migrate::Once>, stands: &[Stand<'_>]) {
        let Some(migrate::Once { target, deadline, undo, note }) = target else { return };
        self.wave(core::iter::once(&target), stands, "migrate", &mut 0);
        let is_it = |step: &&mut PlanStep| step.kind == StepKind::RunOnce;
        let step = self.waves.last_mut().and_then(|wave| wave.steps.iter_mut().find(is_it));
        if let Some(step) = step {
            step.deadline = deadline;
            step.undo = undo;
            step.note = note;
        }
    }

    /// Every host has the checked artifact before the first one is disturbed.
    fn stage(&mut self, job: &Job) {
        let stage = |target| releases::stage(self.state, self.request, target);
        let steps: Vec<_> = job.targets.iter().filter_map(stage).collect();
        if !steps.is_empty() {
            let parallel = Some(PARALLEL_DEFAULT);
            let label = "stage".to_string();
            self.waves.push(PlanWave { label, steps, hold: DurationMs::ZERO, promote: false, parallel });
        }
    }

    /// A canary is a voter that follows, where there is one: it goes to the front.
    fn canary_first(&self, job: &Job, up: &mut Vec<&Target>) {
        let (Some(service), true) = (&job.service, self.request.waves.canary > 0) else { return };
        let (state, obs) = (self.state, self.obs);
        let canary = usize::try_from(self.request.waves.canary).unwrap_or(usize::MAX);
        let (mut first, mut later) = (Vec::new(), Vec::new());
        for target in up.drain(..) {
            let fits = first.len() < canary && order::follows(state, obs, service, &target.node);
            if fits { first.push(target) } else { later.push(target) }
        }
        up.extend(first.into_iter().chain(later));
    }

    /// What lies between two waves: a gate that looks on for a while, and a person's word. Nothing comes after the last.
    fn between(&mut self, first: usize) {
        let policy = &self.request.waves;
        let last = self.waves.len().saturating_sub(1);
        for (index, wave) in self.waves.iter_mut().enumerate().skip(first) {
            wave.promote = waves::promotes(policy, &wave.label, index == last);
            if policy.hold.is_zero() || index == last {
                continue;
            }
            wave.hold = policy.hold;
            let (mut steps, mut waiting): (Vec<PlanStep>, Option<PlanStep>) = (Vec::new(), None);
            for step in wave.steps.drain(..) {
                steps.extend(waiting.take_if(|_| !actions::ends_lane(step.kind)));
                waiting = actions::hold(self.request, &step).or(waiting);
                steps.push(step);
            }
            steps.extend(waiting);
            wave.steps = steps;
        }
    }

    fn leads(&self, job: &Job, node: &NodeName) -> bool {
        job.service.as_ref().is_some_and(|service| order::leads(self.state, self.obs, service, node))
    }

    fn wave<'t>(
        &mut self,
        targets: impl Iterator<Item = &'t Target> + Clone,
        stands: &[Stand<'_>],
        label: &str,
        stopped: &mut u32,
    ) {
        let mut steps = Vec::new();
        for target in targets.clone() {
            let mut step = actions::action(self.state, self.request, target);
            if step.disruptive {
                step.quorum =
                    stands.iter().filter_map(|s| line(s, target, targets.clone(), *stopped)).collect();
            }
            steps.extend(preflight::step(self.state, self.request, target));
            steps.extend(copies::step(self.state, self.request, target, &mut self.copies));
            steps.extend(handover::step(self.state, target, &self.stopping));
            steps.extend(maintenance::enter(self.state, self.request, target));
            steps.extend(traffic::drain(self.state, self.request, target));
            steps.push(step);
            steps.extend(actions::gate(self.state, self.request, target));
            steps.extend(releases::confirm(self.state, self.request, target));
            steps.extend(traffic::restore(self.state, self.request, target));
            steps.extend(maintenance::exit(self.state, self.request, target));
        }
        let gone =
            targets.filter(|t| t.kind == StepKind::Stop && stands.iter().any(|s| s.up.contains(&t.node)));
        *stopped = stopped.saturating_add(u32::try_from(gone.count()).unwrap_or(u32::MAX));
        let label = label.to_string();
        self.waves.push(PlanWave { label, steps, hold: DurationMs::ZERO, promote: false, parallel: None });
    }

    /// Everything to be known before, with the sentence about the last failure.
    pub(super) fn all_warnings(&self) -> Vec<String> {
        let mut warnings = self.warnings.clone();
        let mut tight: BTreeMap<&GroupName, ()> = BTreeMap::new();
        for line in self.waves.iter().flat_map(|w| &w.steps).flat_map(|s| &s.quorum) {
            if line.spare == 0 && line.required > 0 && line.up_during < line.voters {
                tight.insert(&line.group, ());
            }
        }
        warnings.extend(tight.keys().map(|group| {
            format!("{group}: one more failure during any wave stops writes until that node is back")
        }));
        warnings
    }
}

fn disturbs(job: &Job) -> bool {
    job.targets.iter().any(|t| super::is_disruptive(&t.action))
}

fn gated(state: &State, request: &PlanRequest, job: &Job) -> bool {
    job.targets.iter().any(|t| actions::gate(state, request, t).is_some())
}
