//! Fake hosts: instances that go down and come back, agents that do what `desired` says and report.

use std::collections::{BTreeMap, BTreeSet};

use quorate_core::command::{Command, Entry, ExecutionCommand, Report};
use quorate_core::desired::peer_of;
use quorate_core::next::next;
use quorate_core::observations::NodeObservation;
use quorate_core::{Answer, desired};
use quorate_model::{
    ActionKind, ActionOutcome, ActionSpec, ExecutionId, ExecutionState, InstanceId, InstanceReading,
    InstanceRole, InstanceState, Listed, Millionths, NodeName, ObligationId, ObligationState, Principal,
    ProbeName, ProbeReading, Reason, Sync, Timestamp,
};

use crate::world::{World, node, service};

mod data;
mod leases;
mod marks;

pub(crate) const TICK_MS: u64 = 500;
/// How long an action keeps its instance down.
const ACTION_MS: u64 = 2_000;
/// How long an instance needs until its probes pass again.
const RECOVER_MS: u64 = 1_500;

/// The truth about one instance.
#[derive(Clone)]
pub(crate) struct Truth {
    pub(crate) up: bool,
    up_since: Timestamp,
    healthy_from: Timestamp,
    pub(crate) starts: u32,
    /// Version and digest in use, and what was before it.
    pub(crate) used: Option<(String, String)>,
    before: Option<(String, String)>,
    /// The content of its configuration file, if a rollout has brought one.
    pub(crate) file: Option<(String, String)>,
    file_before: Option<(String, String)>,
}

/// What a host is made to do.
#[derive(Default)]
pub(crate) struct Mischief {
    /// Agents that cannot be heard.
    pub(crate) deaf: BTreeSet<NodeName>,
    /// Hosts whose instance does not get healthy after its next restart.
    pub(crate) sick: BTreeSet<NodeName>,
    /// Hosts whose actions never end.
    pub(crate) hang: BTreeSet<NodeName>,
    /// Agents that lost track of the action in flight.
    pub(crate) amnesia: BTreeSet<NodeName>,
    /// Hosts whose instance has more errors after its next restart.
    pub(crate) worse: BTreeSet<NodeName>,
    /// An alert of its instance fires.
    pub(crate) firing: BTreeSet<NodeName>,
    /// Hosts whose metrics page cannot be read until its instance is restarted.
    pub(crate) mute: BTreeSet<NodeName>,
    /// Agents that take no new work up.
    pub(crate) slow: BTreeSet<NodeName>,
    /// Hosts that cannot stage an artifact.
    pub(crate) full: BTreeSet<NodeName>,
    /// Hosts whose policy refuses everything.
    pub(crate) strict: BTreeSet<NodeName>,
    /// Hosts whose hooks say that they failed.
    pub(crate) broken: BTreeSet<NodeName>,
    /// Hosts that a pre-flight finds not ready.
    pub(crate) unready: BTreeSet<NodeName>,
    /// Hosts whose instance does not get healthy after it was taken back.
    pub(crate) stuck: BTreeSet<NodeName>,
}

pub(crate) struct Fleet {
    pub(crate) world: World,
    pub(crate) truth: BTreeMap<InstanceId, Truth>,
    pub(crate) leader: NodeName,
    /// Whom the application takes for its members; everybody where nobody asks.
    pub(crate) members: Option<BTreeSet<NodeName>>,
    pub(crate) mischief: Mischief,
    /// Leases of primaries.
    pub(crate) leases: leases::Leases,
    begun: BTreeMap<ExecutionId, Timestamp>,
    /// What is out of its pool, and the undo that is owed for it.
    out: BTreeMap<InstanceId, ObligationId>,
    /// What is told that it is worked on, and the undo that is owed for it.
    told: BTreeMap<InstanceId, ObligationId>,
    /// Whose configuration file nobody has confirmed yet, and the undo that is owed for it.
    unconfirmed: BTreeMap<InstanceId, ObligationId>,
    pub(crate) results: BTreeMap<ExecutionId, ExecutionState>,
    /// Every run of a hook: where, which, for which release.
    pub(crate) ran: Vec<(NodeName, String, String)>,
    /// The sets of folders that are aside, by node.
    pub(crate) aside: BTreeSet<(NodeName, String)>,
    /// The fewest voters that served at once, per group.
    pub(crate) least: BTreeMap<String, usize>,
}

impl Fleet {
    pub(crate) fn new() -> Self {
        Self {
            world: World::new(),
            truth: BTreeMap::new(),
            leader: node("node1"),
            members: None,
            mischief: Mischief::default(),
            leases: leases::Leases::default(),
            begun: BTreeMap::new(),
            out: BTreeMap::new(),
            told: BTreeMap::new(),
            unconfirmed: BTreeMap::new(),
            results: BTreeMap::new(),
            ran: Vec::new(),
            aside: BTreeSet::new(),
            least: BTreeMap::new(),
        }
    }

    /// Brings every instance of a service up, long ago.
    pub(crate) fn bring_up(&mut self, name: &str) {
        let long_ago = Timestamp(self.world.now.0 - 3_600_000);
        for node in self.world.state.nodes.by_name.keys() {
            let id = InstanceId { node: node.clone(), service: service(name) };
            let (up_since, healthy_from) = (long_ago, long_ago);
            let (used, before, file, file_before) = (None, None, None, None);
            let truth =
                Truth { up: true, up_since, healthy_from, starts: 0, used, before, file, file_before };
            self.truth.insert(id, truth);
        }
    }

    pub(crate) fn set_up(&mut self, node: &str, name: &str, up: bool) {
        let id = InstanceId { node: crate::world::node(node), service: service(name) };
        let now = self.world.now;
        let truth = self.truth.get_mut(&id).unwrap();
        truth.up = up;
        if up {
            truth.up_since = now;
            truth.healthy_from = now;
        }
    }

    /// A new leader: everything observed is gone.
    pub(crate) fn change_leader(&mut self) {
        self.world.obs = quorate_core::Observations {
            leading_since: self.world.now,
            ..quorate_core::Observations::default()
        };
        if !self.leases.primaries.is_empty() {
            self.lead();
        }
    }

    /// One round: agents work and report, the leader looks, the ticker proposes, everything twice.
    pub(crate) fn tick(&mut self) {
        self.world.now = Timestamp(self.world.now.0 + i64::try_from(TICK_MS).unwrap());
        self.work();
        self.keep_leases();
        self.observe();
        let (now, mut minted) = (self.world.now, self.world.minted);
        let due = next(&self.world.state, &self.world.obs, now, &mut || {
            minted += 1;
            minted
        });
        self.world.minted = minted;
        for command in due {
            let first = self.world.system(command.clone());
            let executions = self.world.state.executions.len();
            let epoch = self.world.state.epoch;
            let second = self.world.system(command.clone());
            // Proposed twice around a leader change: the second time nothing more happens.
            let harmless = match &second {
                Answer::Refused(refusal) => {
                    first.refusal().is_some()
                        || matches!(refusal.reason(), Reason::WrongState | Reason::AlreadyExists)
                }
                Answer::Done { .. } => true,
                _ => false,
            };
            assert!(harmless, "{command:?} twice: {first:?}, {second:?}");
            assert_eq!((executions, epoch), (self.world.state.executions.len(), self.world.state.epoch));
        }
        self.fail_over();
        self.count();
        self.world.tell();
    }

    fn count(&mut self) {
        for group in self.world.state.groups.values() {
            let serving = |node: &&NodeName| {
                let id = InstanceId { node: (*node).clone(), service: group.spec.service.clone() };
                self.truth.get(&id).is_some_and(|t| t.up && t.healthy_from <= self.world.now)
            };
            let up = group.spec.voters.iter().filter(serving).count();
            let least = self.least.entry(group.spec.name.to_string()).or_insert(up);
            *least = up.min(*least);
        }
    }

    /// Agents do what is desired of them.
    fn work(&mut self) {
        let nodes: Vec<NodeName> = self.world.state.nodes.all_present().map(|n| n.name.clone()).collect();
        for name in nodes {
            let hears = !self.mischief.deaf.contains(&name);
            self.finish(&name);
            if !hears {
                continue;
            }
            let wanted = desired(&self.world.state, &name);
            let discharge: Vec<ObligationId> =
                wanted.discharge.into_iter().filter(|id| self.owes(id)).collect();
            for id in discharge {
                self.close(&name, id, ObligationState::ExpiredDischarged);
            }
            for id in wanted.left_out {
                self.close(&name, id, ObligationState::Discharged);
            }
            for execution in wanted.executions {
                let id = execution.id.clone();
                let said = if let Some(result) = self.results.get(&id) {
                    *result
                } else if self.begun.contains_key(&id) {
                    ExecutionState::Running
                } else if execution.cancel {
                    ExecutionState::Canceled
                } else if execution.begin_before < self.world.now {
                    ExecutionState::Rejected
                } else if self.mischief.slow.contains(&name) {
                    continue;
                } else if self.mischief.strict.contains(&name) {
                    ExecutionState::Rejected
                } else {
                    self.begun.insert(id.clone(), self.world.now);
                    self.begin(&name, &execution.action);
                    self.take_out(&name, &id, &execution.action);
                    ExecutionState::Accepted
                };
                let late = execution.begin_before < self.world.now;
                let ahead = execution.action.kind() == ActionKind::HostPreflight;
                let why = match (late, ahead && !self.mischief.strict.contains(&name)) {
                    (true, _) => Reason::GrantExpired,
                    (false, true) => Reason::PreflightFailed,
                    (false, false) => Reason::PolicyDenied,
                };
                let reason = (said == ExecutionState::Rejected).then_some(why);
                let outcome = said.is_final().then(|| ActionOutcome {
                    message: said.as_str().to_lowercase(),
                    backup: (execution.action.kind() == ActionKind::BackupCreate).then(Default::default),
                    release: self.receipt(&name, &execution.action),
                    exit_code: exit_code(&execution.action, said),
                    ..ActionOutcome::default()
                });
                let report = Report {
                    execution: id,
                    node: name.clone(),
                    epoch: execution.epoch,
                    state: said,
                    reason,
                    outcome,
                };
                let command = Command::Execution(Box::new(ExecutionCommand::Report(report)));
                let principal = Principal::Agent { node: name.clone() };
                let entry = Entry::new(self.world.now, principal, None, command);
                let answer = self.world.commit(&entry);
                assert!(answer.refusal().is_none(), "{answer:?}");
            }
        }
    }

    fn begin(&mut self, name: &NodeName, action: &quorate_model::ActionSpec) {
        if let ActionSpec::ExecRun { hook, release, targets, .. } = action {
            let told: Vec<&str> =
                release.iter().map(|r| r.as_str()).chain(targets.iter().map(|t| t.as_str())).collect();
            self.ran.push((name.clone(), hook.to_string(), told.join(" ")));
        }
        let Some(on) = action.service() else { return };
        let id = InstanceId { node: name.clone(), service: on.clone() };
        if matches!(
            action.kind(),
            ActionKind::ServiceRestart
                | ActionKind::ServiceStop
                | ActionKind::ArtifactActivate
                | ActionKind::ArtifactRevert
                | ActionKind::ConfigApply
                | ActionKind::ConfigRevert
                | ActionKind::SecretInstall
                | ActionKind::SecretRetire
                | ActionKind::SecretRevert
        ) || matches!(action, ActionSpec::BackupCreate { policy, .. } if policy.pause.is_some())
        {
            self.truth.get_mut(&id).unwrap().up = false;
        }
    }

    /// Actions whose time is over have their effect, whether anybody hears of it or not.
    fn finish(&mut self, name: &NodeName) {
        let due: Vec<_> = self
            .world
            .state
            .executions
            .values()
            .filter(|e| e.node == *name && !self.results.contains_key(&e.id))
            .filter(|e| self.begun.get(&e.id).is_some_and(|at| self.world.now.since(*at).0 >= ACTION_MS))
            .map(|e| (e.id.clone(), e.action.clone()))
            .collect();
        for (id, action) in due {
            if self.mischief.hang.contains(name) {
                continue;
            }
            if self.mischief.amnesia.remove(name) {
                self.results.insert(id, ExecutionState::Unknown);
                continue;
            }
            let refused = !self.may_promote(name, &id, &action);
            let (kind, mischief) = (action.kind(), &self.mischief);
            let hook =
                matches!(kind, ActionKind::ExecRun | ActionKind::SecretConfirm | ActionKind::RolePromote);
            let writes = matches!(
                kind,
                ActionKind::ArtifactStage
                    | ActionKind::ConfigValidate
                    | ActionKind::SecretStage
                    | ActionKind::BackupCreate
            );
            if hook && mischief.broken.contains(name) || writes && mischief.full.contains(name) || refused {
                self.results.insert(id, ExecutionState::Failed);
                continue;
            }
            if action.kind() == ActionKind::HostPreflight && self.mischief.unready.contains(name) {
                self.results.insert(id, ExecutionState::Rejected);
                continue;
            }
            self.results.insert(id, ExecutionState::Succeeded);
            crate::hooks::hand_over(self, name, &action);
            let Some(on) = action.service() else { continue };
            let instance = InstanceId { node: name.clone(), service: on.clone() };
            self.install(&instance, &action);
            self.put_back(name, &instance, &action);
            let back =
                matches!(action, ActionSpec::ArtifactRevert { .. }) || kind == ActionKind::SecretRevert;
            let sick = if back { &self.mischief.stuck } else { &self.mischief.sick };
            let sick = sick.contains(name);
            self.rename_data(&instance, &action);
            let truth = self.truth.get_mut(&instance).unwrap();
            if matches!(
                action.kind(),
                ActionKind::ServiceRestart
                    | ActionKind::ServiceStart
                    | ActionKind::RolePromote
                    | ActionKind::ArtifactActivate
                    | ActionKind::ArtifactRevert
                    | ActionKind::ConfigApply
                    | ActionKind::ConfigRevert
                    | ActionKind::SecretInstall
                    | ActionKind::SecretRetire
                    | ActionKind::SecretRevert
            ) || matches!(&action, ActionSpec::BackupCreate { policy, .. } if policy.pause.is_some())
            {
                truth.up = true;
                truth.starts += 1;
                truth.up_since = self.world.now;
                let never = 86_400_000;
                let wait = if sick { never } else { RECOVER_MS };
                truth.healthy_from = self.world.now.plus(quorate_model::DurationMs(wait));
            }
        }
    }

    /// The leader takes heartbeats and readings in.
    pub(crate) fn observe(&mut self) {
        let now = self.world.now;
        let names: Vec<NodeName> = self.world.state.nodes.all_present().map(|n| n.name.clone()).collect();
        for name in names.iter().filter(|n| !self.mischief.deaf.contains(*n)) {
            let seen = NodeObservation {
                heard: now,
                agent_version: "0.1.0".into(),
                capabilities: ActionKind::ALL.iter().copied().collect(),
            };
            self.world.obs.nodes.insert(name.clone(), seen);
            let on: Vec<_> = self.truth.iter().filter(|(id, _)| id.node == *name).collect();
            for (id, truth) in on {
                let reading = self.reading(id, truth, now);
                let told = reading.probes.iter().find(|r| r.position.is_some());
                if let Some(told) = told {
                    self.world.obs.positions.insert(id.clone(), told.clone());
                }
                self.world.obs.instances.insert(id.clone(), reading);
            }
        }
    }

    /// Whom an instance that is well lists, which fails on one that is not among them.
    fn listing(&self, member: ProbeReading, stranger: bool) -> ProbeReading {
        let listed = |node: &NodeName| Listed { key: node.to_string(), role: InstanceRole::Voter };
        let members = self.members.iter().filter(|_| member.ok).flatten();
        ProbeReading { ok: member.ok && !stranger, listed: members.map(listed).collect(), ..member }
    }

    fn reading(&self, id: &InstanceId, truth: &Truth, now: Timestamp) -> InstanceReading {
        let healthy = truth.up && truth.healthy_from <= now;
        let passes = now.since(truth.healthy_from).0 / TICK_MS + 1;
        let stranger = self.members.as_ref().is_some_and(|members| !members.contains(&id.node));
        let voter = if id.node == self.leader { InstanceRole::Leader } else { InstanceRole::Voter };
        let voter = self.pair_role(&id.node).unwrap_or(voter);
        let role = if stranger { InstanceRole::Learner } else { voter };
        let probe = |name: &str, from: &NodeName| ProbeReading {
            instance: id.clone(),
            from: from.clone(),
            probe: ProbeName::new(name).unwrap(),
            ok: healthy,
            passes: if healthy { u32::try_from(passes).unwrap_or(u32::MAX) } else { 0 },
            failures: u32::from(!healthy),
            detail: if healthy { "200".into() } else { "503".into() },
            role,
            lag: Some(0),
            value: None,
            listed: Vec::new(),
            position: None,
            at: now,
        };
        let position = self.leases.positions.get(&id.node).filter(|_| healthy).copied();
        let member = ProbeReading { position, ..probe("member", &id.node) };
        let mut probes = vec![probe("health", &id.node), self.listing(member, stranger)];
        let peer = peer_of(&self.world.state, &id.node).filter(|peer| !self.mischief.deaf.contains(*peer));
        probes.extend(peer.map(|peer| probe("health", peer)));
        let spec = self.world.state.services.get(&id.service).map(|s| &s.spec);
        let declared = |name: &str| spec.is_some_and(|s| s.probes.iter().any(|p| p.name.as_str() == name));
        if declared("quiet") {
            let fires = self.mischief.firing.contains(&id.node);
            let quiet = |from| match fires {
                true => ProbeReading {
                    ok: false,
                    passes: 0,
                    detail: "1 alert fires: Lags".into(),
                    ..probe("quiet", from)
                },
                false => ProbeReading { detail: "no alert fires".into(), ..probe("quiet", from) },
            };
            probes.extend([Some(&id.node), peer].into_iter().flatten().map(quiet));
        }
        if declared("errors") {
            let changed = truth.starts > 0;
            let value = if changed && self.mischief.worse.contains(&id.node) { 800_000 } else { 100_000 };
            let errors = probe("errors", &id.node);
            probes.push(match !changed && self.mischief.mute.contains(&id.node) {
                true => ProbeReading { ok: false, passes: 0, detail: "no such series".into(), ..errors },
                false => ProbeReading { value: healthy.then_some(Millionths(value)), ..errors },
            });
        }
        let observed = match (truth.up, healthy) {
            (false, _) => InstanceState::Stopped,
            (true, false) => InstanceState::Running,
            (true, true) if stranger => InstanceState::Unhealthy,
            (true, true) => InstanceState::Healthy,
        };
        InstanceReading {
            instance: id.clone(),
            observed,
            role,
            sync: if healthy && !stranger { Sync::CaughtUp } else { Sync::Unknown },
            up_since: if truth.up { truth.up_since } else { Timestamp::ZERO },
            at: now,
            probes,
            failing: false,
        }
    }
}

/// What a hook says of itself, when it has ended by itself.
fn exit_code(action: &ActionSpec, said: ExecutionState) -> Option<i32> {
    let ran = action.kind() == ActionKind::ExecRun;
    match said {
        ExecutionState::Succeeded if ran => Some(0),
        ExecutionState::Failed if ran => Some(1),
        _ => None,
    }
}
