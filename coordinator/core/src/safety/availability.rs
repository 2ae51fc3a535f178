//! Which declared voters are available now, and why the others are out.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use quorate_model::{
    Drain, DurationMs, GroupState, InstanceId, InstanceReading, InstanceRole, InstanceState, NodeName,
    NodeStatus, OutMember, OutReason, ProbeKind, ProbeName, ProbeSpec, ServiceName, ServiceSpec, StepKind,
    Sync, Timestamp,
};

use super::quorum::required;
use crate::observations::Observations;
use crate::state::{Execution, Grant, Group, State};

/// Readings that a decision rests on.
#[derive(Clone, Debug, Default)]
pub struct Evidence<'a>(BTreeMap<&'a InstanceId, &'a InstanceReading>);

impl<'a> Evidence<'a> {
    /// From readings that came with a command. Of two readings of one instance the older counts: nobody can make a stale
    /// reading fresh by adding a second one.
    #[must_use]
    pub fn from_readings(readings: &'a [InstanceReading]) -> Self {
        let mut map: BTreeMap<&InstanceId, &InstanceReading> = BTreeMap::new();
        for reading in readings {
            map.entry(&reading.instance)
                .and_modify(|kept| {
                    if reading.at < kept.at {
                        *kept = reading;
                    }
                })
                .or_insert(reading);
        }
        Self(map)
    }

    /// From the leader's memory.
    #[must_use]
    pub fn from_observations(obs: &'a Observations) -> Self {
        Self(obs.instances.values().map(|reading| (&reading.instance, reading)).collect())
    }

    /// The reading of one instance.
    #[must_use]
    pub fn get(&self, id: &InstanceId) -> Option<&'a InstanceReading> {
        self.0.get(id).copied()
    }
}

/// One declared voter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoterStatus {
    /// Where.
    pub node: NodeName,
    /// Why it does not count, or none when it is available.
    pub out: Option<OutMember>,
    /// We work on it, or do not know whether we do: it counts against `max_unavailable`.
    pub ours: bool,
    /// Disturbing it costs nothing: a fresh reading shows that it does not serve or has no vote, or the budget has paid for it
    /// already. One whose health is only not shown (nothing fresh, too few passes yet, lagging, out of a peer's sight) is not
    /// spent: it counts as out, and may serve all the same.
    pub spent: bool,
    /// Role in its reading.
    pub role: InstanceRole,
    /// State in its reading.
    pub observed: InstanceState,
    /// Sync in its reading.
    pub sync: Sync,
}

impl VoterStatus {
    /// Whether it counts.
    #[must_use]
    pub const fn is_available(&self) -> bool {
        self.out.is_none()
    }
}

/// How a group stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Availability {
    /// Declared voters, in declared order.
    pub voters: Vec<VoterStatus>,
    /// How many must be available.
    pub required: u32,
    /// How many are.
    pub up: u32,
    /// Margin to keep on top.
    pub spare_wanted: u32,
}

impl Availability {
    /// Available minus required; negative when quorum is lost.
    #[must_use]
    pub fn margin(&self) -> i64 {
        i64::from(self.up).saturating_sub(i64::from(self.required))
    }

    /// Those that are out.
    #[must_use]
    pub fn out(&self) -> Vec<OutMember> {
        self.voters.iter().filter_map(|voter| voter.out.clone()).collect()
    }

    /// The state to show.
    #[must_use]
    pub fn state(&self) -> GroupState {
        let margin = self.margin();
        let unknown = |voter: &VoterStatus| {
            voter.out.as_ref().is_some_and(|out| matches!(out.why, OutReason::Unknown | OutReason::Stale))
        };
        if !self.voters.is_empty() && self.voters.iter().all(unknown) {
            GroupState::Unknown
        } else if margin < 0 {
            GroupState::QuorumLost
        } else if margin == 0 || margin < i64::from(self.spare_wanted) {
            GroupState::AtRisk
        } else {
            GroupState::Healthy
        }
    }
}

/// The largest age of a verdict on an instance of this service that a decision may rest on: two intervals of the slowest probe
/// that tells health, and the slack (I-12). A probe that tells no health, a certificate that is looked at every hour, makes no
/// old verdict a fresh one. An expression is as old as what it rests on, and may be as much older when it is told.
#[must_use]
pub fn freshness_limit(state: &State, service: &ServiceName) -> DurationMs {
    let settings = &state.settings;
    let spec = state.services.get(service).map(|s| &s.spec);
    let health = || spec.into_iter().flat_map(|spec| &spec.probes).filter(|p| p.kind.tells_health());
    let interval = health().map(|probe| probe.interval).max().unwrap_or(settings.default_interval);
    let below = health().filter_map(|probe| below(spec?, probe)).max().unwrap_or(DurationMs::ZERO);
    interval.plus(interval).plus(below).plus(settings.freshness_slack)
}

/// The largest age of one probe's reading that a decision may rest on: two of its own intervals and the slack, however slow or
/// fast the others are.
#[must_use]
pub fn probe_limit(
    state: &State,
    service: &ServiceName,
    name: &ProbeName,
    interval: DurationMs,
) -> DurationMs {
    let spec = state.services.get(service).map(|s| &s.spec);
    let probe = spec.and_then(|spec| spec.probes.iter().find(|probe| probe.name == *name));
    let below = probe.and_then(|probe| below(spec?, probe)).unwrap_or(DurationMs::ZERO);
    interval.plus(interval).plus(below).plus(state.settings.freshness_slack)
}

/// How old what an expression rests on may be when it is told: the longest interval of the probes that it names, each as
/// `probes.NAME` or `probes["NAME"]`, with no letter of a name after it.
fn below(spec: &ServiceSpec, probe: &ProbeSpec) -> Option<DurationMs> {
    match &probe.kind {
        ProbeKind::Expression { expr } => {
            let named = spec.probes.iter().filter(|other| names(expr, other.name.as_str()));
            named.map(|other| other.interval).max()
        }
        ProbeKind::Http { .. }
        | ProbeKind::Tcp { .. }
        | ProbeKind::Exec { .. }
        | ProbeKind::UnitSoak { .. }
        | ProbeKind::Membership { .. }
        | ProbeKind::Certificate(_)
        | ProbeKind::Alerts(_)
        | ProbeKind::Metric(_) => None,
    }
}

/// Whether an expression names this probe.
fn names(expr: &str, probe: &str) -> bool {
    let ends = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    let begins = |before: &str| ["probes.", "probes[\"", "probes['"].iter().any(|way| before.ends_with(way));
    expr.match_indices(probe).any(|(at, found)| {
        let (before, rest) = (expr.get(..at), expr.get(at.saturating_add(found.len())..));
        before.is_some_and(begins) && rest.is_some_and(ends)
    })
}

/// Whether a membership probe tells how far an instance has caught up.
#[must_use]
pub fn has_membership_probe(spec: &ServiceSpec) -> bool {
    spec.probes.iter().any(|probe| match probe.kind {
        ProbeKind::Membership { .. } => true,
        ProbeKind::Http { .. }
        | ProbeKind::Tcp { .. }
        | ProbeKind::Exec { .. }
        | ProbeKind::UnitSoak { .. }
        | ProbeKind::Metric(_)
        | ProbeKind::Certificate(_)
        | ProbeKind::Alerts(_)
        | ProbeKind::Expression { .. } => false,
    })
}

/// Whether an execution still counts against the budget: it may disturb, and its end is not known.
#[must_use]
pub fn is_disturbing(execution: &Execution) -> bool {
    execution.disruptive && !execution.state.is_final()
}

/// Whether we work on an instance, or do not know whether we do.
#[must_use]
pub fn is_ours(state: &State, instance: &InstanceId) -> bool {
    state.grants.values().any(|grant| grant.instance == *instance)
        || state.all_open_executions().any(|e| is_disturbing(e) && e.instance.as_ref() == Some(instance))
}

/// How many voters of a group must be available. While they change, nobody can tell by which set the application counts: the larger
/// requirement of the two is asked for.
#[must_use]
pub fn needed(group: &Group) -> u32 {
    let of =
        |voters: &[NodeName]| required(&group.spec.policy, u32::try_from(voters.len()).unwrap_or(u32::MAX));
    let now = of(&group.spec.voters);
    group.pending.as_ref().map_or(now, |pending| now.max(of(&pending.voters)))
}

/// Every declared voter of a group, available or out, and the count.
#[must_use]
pub fn availability(state: &State, group: &Group, evidence: &Evidence<'_>, now: Timestamp) -> Availability {
    let voters: Vec<VoterStatus> = group
        .spec
        .voters
        .iter()
        .map(|node| {
            let id = InstanceId { node: node.clone(), service: group.spec.service.clone() };
            member(state, &id, evidence, now)
        })
        .collect();
    let up = u32::try_from(voters.iter().filter(|v| v.is_available()).count()).unwrap_or(u32::MAX);
    Availability { required: needed(group), spare_wanted: group.spec.spare_wanted, up, voters }
}

/// One instance, judged as a voter.
#[must_use]
pub fn member(state: &State, id: &InstanceId, evidence: &Evidence<'_>, now: Timestamp) -> VoterStatus {
    let reading = evidence.get(id);
    let ours = is_ours(state, id);
    let out = why_out(state, id, reading, ours, now).map(|(why, since)| OutMember {
        node: id.node.clone(),
        why,
        lasting: since.filter(|at| *at > Timestamp::ZERO).map(|at| now.since(at)),
    });
    let paid = state.grants.values().any(|grant| grant.instance == *id && takes_away(state, grant));
    let current = reading.filter(|r| is_current(state, r, now));
    let shown = is_ready(state, &id.node)
        && match current {
            Some(reading) => does_not_serve(reading),
            None => stopped_by_us(state, id, now).is_some(),
        };
    VoterStatus {
        node: id.node.clone(),
        spent: out.is_some() && (paid || shown),
        out,
        ours,
        role: reading.map_or(InstanceRole::Unknown, |r| r.role),
        observed: reading.map_or(InstanceState::Unknown, |r| r.observed),
        sync: reading.map_or(Sync::Unknown, |r| r.sync),
    }
}

/// Whether a grant stands behind what takes its instance away, and not only behind what goes before: a member that hands over, is
/// told that it is worked on or is taken out of its pool still serves its group, and others may be lost meanwhile. The budget is
/// asked again before it goes.
fn takes_away(state: &State, grant: &Grant) -> bool {
    let step = state.operations.get(&grant.operation).and_then(|operation| operation.step(grant.step));
    // A grant has its step: one that had none would be of work that nobody can name, and that counts as done.
    step.is_none_or(|step| match step.kind {
        StepKind::Handover
        | StepKind::EnterMaintenance
        | StepKind::Drain
        | StepKind::Restore
        | StepKind::ExitMaintenance
        // Who takes over serves on; who led before is stopped already.
        | StepKind::Promote
        | StepKind::Switch
        | StepKind::Rejoin => false,
        StepKind::Status
        | StepKind::Start
        | StepKind::Stop
        | StepKind::Restart
        | StepKind::Reload
        | StepKind::Backup
        | StepKind::Verify
        | StepKind::Rotate
        | StepKind::Facts
        | StepKind::Diagnose
        | StepKind::Stage
        | StepKind::Activate
        | StepKind::Revert
        | StepKind::Confirm
        | StepKind::Retire
        | StepKind::RunOnce
        | StepKind::Hook
        | StepKind::Preflight
        | StepKind::Join
        | StepKind::Leave
        | StepKind::Quarantine
        | StepKind::Gate => true,
    })
}

/// Whether a reading shows that an instance serves nobody: its unit is not active, its own node sees it failing, or it has no
/// vote. Never because something is missing: agents that were just restarted have no passes to show of members that serve.
pub(super) fn does_not_serve(reading: &InstanceReading) -> bool {
    let idle = match reading.observed {
        InstanceState::Stopped
        | InstanceState::Stopping
        | InstanceState::Failed
        | InstanceState::Starting => true,
        InstanceState::Unhealthy => reading.failing,
        InstanceState::Healthy | InstanceState::Running | InstanceState::Soaking | InstanceState::Unknown => {
            false
        }
    };
    idle || matches!(reading.role, InstanceRole::Learner | InstanceRole::Observer)
}

fn is_ready(state: &State, node: &NodeName) -> bool {
    state.nodes.present(node).is_some_and(|found| found.status == NodeStatus::Ready)
}

/// Fresh, and newer than the last action that disturbed its instance.
pub(crate) fn is_current(state: &State, reading: &InstanceReading, now: Timestamp) -> bool {
    let id = &reading.instance;
    let is_fresh = now.since(reading.at) <= freshness_limit(state, &id.service);
    is_fresh && state.instances.get(id).is_none_or(|instance| reading.at > instance.disturbed_at)
}

/// When a stop of ours succeeded, if that is the last thing known of an instance. The agent's result is a reading like any
/// other, and ages like one.
fn stopped_by_us(state: &State, id: &InstanceId, now: Timestamp) -> Option<Timestamp> {
    let instance = state.instances.get(id)?;
    let is_last = instance.observed == InstanceState::Stopped
        && instance.disturbed_at > Timestamp::ZERO
        && instance.since >= instance.disturbed_at;
    (is_last && now.since(instance.since) <= freshness_limit(state, &id.service)).then_some(instance.since)
}

type Out = Option<(OutReason, Option<Timestamp>)>;

fn why_out(
    state: &State,
    id: &InstanceId,
    reading: Option<&InstanceReading>,
    ours: bool,
    now: Timestamp,
) -> Out {
    let Some(node) = state.nodes.by_name.get(&id.node) else { return Some((OutReason::Unreachable, None)) };
    match node.status {
        NodeStatus::Ready => {}
        NodeStatus::Pending => return Some((OutReason::Unknown, None)),
        NodeStatus::Disconnected | NodeStatus::Down | NodeStatus::Removed => {
            return Some((OutReason::Unreachable, Some(node.status_since)));
        }
    }
    if ours {
        return Some((OutReason::Granted, None));
    }
    match node.drain {
        Drain::None => {}
        Drain::Draining | Drain::Drained => return Some((OutReason::Drained, Some(node.drain_since))),
    }
    let decided = state.instances.get(id);
    let current = reading.filter(|r| is_current(state, r, now));
    if current.is_none()
        && let Some(at) = stopped_by_us(state, id, now)
    {
        return Some((OutReason::Stopped, Some(at)));
    }
    let Some(reading) = reading else { return Some((OutReason::Unknown, None)) };
    if current.is_none() {
        return Some((OutReason::Stale, Some(reading.at)));
    }
    // Since when: the last recorded transition into the very state that the reading shows.
    let since = decided.filter(|i| i.observed == reading.observed).map(|i| i.since);
    unhealthy(state, id, reading).map(|why| (why, since))
}

fn unhealthy(state: &State, id: &InstanceId, reading: &InstanceReading) -> Option<OutReason> {
    match reading.observed {
        InstanceState::Healthy => {}
        InstanceState::Unknown => return Some(OutReason::Unknown),
        InstanceState::Stopped | InstanceState::Stopping => return Some(OutReason::Stopped),
        InstanceState::Starting
        | InstanceState::Running
        | InstanceState::Soaking
        | InstanceState::Unhealthy
        | InstanceState::Failed => return Some(OutReason::Unhealthy),
    }
    match reading.role {
        // A declared voter that serves as a learner has not got its vote back yet.
        InstanceRole::Learner | InstanceRole::Observer => return Some(OutReason::Lagging),
        InstanceRole::Unknown
        | InstanceRole::Leader
        | InstanceRole::Voter
        | InstanceRole::Primary
        | InstanceRole::Standby => {}
    }
    match reading.sync {
        Sync::CaughtUp => None,
        Sync::Lagging => Some(OutReason::Lagging),
        // Without a membership probe nobody can tell; health alone has to do.
        Sync::Unknown => {
            let told = state.services.get(&id.service).is_none_or(|s| has_membership_probe(&s.spec));
            told.then_some(OutReason::Lagging)
        }
    }
}
