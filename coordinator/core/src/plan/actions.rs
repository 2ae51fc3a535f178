//! One target's steps: the action with its deadline, and the gate that proves the instance is back.

use alloc::string::String;

use quorate_model::probe::MetricProbe;
use quorate_model::{DurationMs, InstanceId, ProbeKind, ProbeSpec, ServiceSpec, StepKind};

use super::{Target, releases};
use crate::safety::availability::has_membership_probe;
use crate::state::plan::{GateBaseline, GateProbe, GateSpec, Goal, PlanRequest, PlanStep};
use crate::state::{Settings, State};

/// Longest default time of a backup or of reading one again.
const BACKUP_DEADLINE: DurationMs = DurationMs::from_secs(3_600);
/// Longest default time of a log rotation.
const ROTATE_DEADLINE: DurationMs = DurationMs::from_secs(600);
/// Longest default time until an artifact is on a host, checked and laid out.
const STAGE_DEADLINE: DurationMs = DurationMs::from_secs(900);
/// Longest default time of a package's own scripts, the wait for dpkg's lock included; on top of stop and start.
const INSTALL_DEADLINE: DurationMs = DurationMs::from_secs(300);
/// Longest default time of a hook; the host's own limit is never longer.
const HOOK_DEADLINE: DurationMs = DurationMs::from_secs(3_600);
/// Longest default time until folders are renamed and what lies in them is counted.
const QUARANTINE_DEADLINE: DurationMs = DurationMs::from_secs(120);
/// Longest default time of anything that only looks.
const LOOK_DEADLINE: DurationMs = DurationMs::from_secs(60);
/// On top of a service's own stop and start timeouts.
const SERVICE_SLACK: DurationMs = DurationMs::from_secs(15);

fn deadline(kind: StepKind, spec: Option<&ServiceSpec>) -> DurationMs {
    let stop = spec.map_or(LOOK_DEADLINE, |s| s.stop_timeout);
    let start = spec.map_or(LOOK_DEADLINE, |s| s.start_timeout);
    match kind {
        StepKind::Start => start.plus(SERVICE_SLACK),
        StepKind::Stop => stop.plus(SERVICE_SLACK),
        StepKind::Restart | StepKind::Retire => stop.plus(start).plus(SERVICE_SLACK),
        StepKind::Reload => start.plus(SERVICE_SLACK),
        StepKind::Backup | StepKind::Verify => BACKUP_DEADLINE,
        StepKind::Rotate => ROTATE_DEADLINE,
        StepKind::Quarantine => QUARANTINE_DEADLINE,
        StepKind::Stage => STAGE_DEADLINE,
        // A migration brings its own time.
        StepKind::RunOnce | StepKind::Hook => HOOK_DEADLINE,
        StepKind::Activate | StepKind::Revert => stop.plus(start).plus(INSTALL_DEADLINE).plus(SERVICE_SLACK),
        // A look before, a drain and its way back stand around an action and bring their own time.
        StepKind::Status
        | StepKind::Facts
        | StepKind::Diagnose
        | StepKind::Drain
        | StepKind::Restore
        | StepKind::Confirm
        | StepKind::EnterMaintenance
        | StepKind::ExitMaintenance
        | StepKind::Preflight
        | StepKind::Handover
        | StepKind::Join
        | StepKind::Leave
        | StepKind::Promote
        | StepKind::Switch
        | StepKind::Rejoin
        | StepKind::Gate => LOOK_DEADLINE,
    }
}

/// Whether a step of this kind is followed by a gate: it must be seen that the instance serves again.
fn is_gated(kind: StepKind, disruptive: bool) -> bool {
    match kind {
        StepKind::Start
        | StepKind::Restart
        | StepKind::Reload
        | StepKind::Activate
        | StepKind::Revert
        | StepKind::Retire
        | StepKind::Quarantine
        | StepKind::RunOnce
        | StepKind::Hook => true,
        StepKind::Backup | StepKind::Rotate => disruptive,
        StepKind::Stop
        | StepKind::Status
        | StepKind::Verify
        | StepKind::Stage
        | StepKind::Facts
        | StepKind::Diagnose
        | StepKind::Drain
        | StepKind::Restore
        | StepKind::Confirm
        | StepKind::EnterMaintenance
        | StepKind::ExitMaintenance
        | StepKind::Preflight
        | StepKind::Handover
        | StepKind::Join
        | StepKind::Leave
        | StepKind::Promote
        | StepKind::Switch
        | StepKind::Rejoin
        | StepKind::Gate => false,
    }
}

/// Whether a step only ends what stood around an action. What is looked at for a while is looked at as it serves: out of
/// maintenance, and back in its load balancer's pool; and nothing that goes back by itself waits so long for its word.
pub(super) const fn ends_lane(kind: StepKind) -> bool {
    matches!(kind, StepKind::Restore | StepKind::ExitMaintenance | StepKind::Confirm)
}

/// The action's step, without its quorum lines.
pub(super) fn action(state: &State, request: &PlanRequest, target: &Target) -> PlanStep {
    let spec = target.action.service().and_then(|s| state.services.get(s)).map(|s| &s.spec);
    PlanStep {
        node: target.node.clone(),
        kind: target.kind,
        action: Some(target.action.clone()),
        gate: None,
        disruptive: super::is_disruptive(&target.action),
        deadline: request.step_deadline.unwrap_or_else(|| deadline(target.kind, spec)),
        quorum: alloc::vec::Vec::new(),
        undo: releases::undo(target),
        note: releases::note(state, target),
    }
}

/// The gate after it, where there is one.
pub(super) fn gate(state: &State, request: &PlanRequest, target: &Target) -> Option<PlanStep> {
    if !is_gated(target.kind, super::is_disruptive(&target.action)) {
        return None;
    }
    let name = target.action.service()?;
    let spec = &state.services.get(name)?.spec;
    let mut gate =
        gate_of(spec, target.kind, InstanceId { node: target.node.clone(), service: name.clone() });
    gate.margin = keeps_margin(&request.goal, target.kind);
    let deadline = request.gate_deadline.unwrap_or_else(|| patience(&state.settings, &gate));
    Some(PlanStep {
        node: target.node.clone(),
        kind: StepKind::Gate,
        action: None,
        gate: Some(gate),
        disruptive: false,
        deadline,
        quorum: alloc::vec::Vec::new(),
        undo: None,
        note: String::new(),
    })
}

/// The gate that looks on for a while before the next wave, made of the one that proves the instance is back. What may be
/// missing for a moment in that time (a reading, a peer) has the patience of any gate on top.
pub(super) fn hold(request: &PlanRequest, gate: &PlanStep) -> Option<PlanStep> {
    let spec = gate.gate.as_ref()?;
    let hold = request.waves.hold;
    let spec = GateSpec { hold, ..spec.clone() };
    Some(PlanStep { gate: Some(spec), deadline: gate.deadline.plus(hold), ..gate.clone() })
}

/// Whether the whole group must stand as it should before a rollout goes on. Not for work that somebody chose node by node, nor
/// for going back: that is how a group which does not stand is repaired.
fn keeps_margin(goal: &Goal, kind: StepKind) -> bool {
    match goal {
        Goal::Rollout { .. } => kind != StepKind::Revert,
        Goal::Run { .. }
        | Goal::Backup { .. }
        | Goal::Rotate { .. }
        | Goal::Membership { .. }
        | Goal::Failover { .. }
        | Goal::Rejoin { .. }
        | Goal::Rebuild { .. }
        | Goal::Verify { .. }
        | Goal::Host { .. } => false,
    }
}

/// What a gate compares with before the change. What is started had no value, and what is taken back was wrong before.
fn baseline_of(probe: &ProbeSpec, kind: StepKind) -> Option<GateBaseline> {
    match &probe.kind {
        ProbeKind::Metric(MetricProbe { baseline: Some(limits), rate, .. })
            if !matches!(kind, StepKind::Start | StepKind::Revert) =>
        {
            Some(GateBaseline { limits: limits.clone(), rate: *rate })
        }
        ProbeKind::Metric(_)
        | ProbeKind::Http { .. }
        | ProbeKind::Tcp { .. }
        | ProbeKind::Exec { .. }
        | ProbeKind::UnitSoak { .. }
        | ProbeKind::Membership { .. }
        | ProbeKind::Certificate(_)
        | ProbeKind::Alerts(_)
        | ProbeKind::Expression { .. } => None,
    }
}

fn gate_of(spec: &ServiceSpec, kind: StepKind, instance: InstanceId) -> GateSpec {
    let soak = spec.probes.iter().map(|probe| match &probe.kind {
        ProbeKind::UnitSoak { min_up } => *min_up,
        ProbeKind::Http { .. }
        | ProbeKind::Tcp { .. }
        | ProbeKind::Exec { .. }
        | ProbeKind::Membership { .. }
        | ProbeKind::Metric(_)
        | ProbeKind::Certificate(_)
        | ProbeKind::Alerts(_)
        | ProbeKind::Expression { .. } => DurationMs::ZERO,
    });
    GateSpec {
        instance,
        soak: soak.max().unwrap_or(DurationMs::ZERO),
        probes: spec
            .probes
            .iter()
            .map(|probe| GateProbe {
                name: probe.name.clone(),
                passes: probe.passes,
                interval: probe.interval,
                from_peer: probe.from_peer,
                baseline: baseline_of(probe, kind),
            })
            .collect(),
        caught_up: has_membership_probe(spec),
        hold: DurationMs::ZERO,
        margin: false,
        membership: None,
        lease: None,
    }
}

/// The setting, on top of what the gate needs at the very least when all goes well.
fn patience(settings: &Settings, gate: &GateSpec) -> DurationMs {
    let least =
        gate.probes.iter().map(|p| DurationMs(p.interval.0.saturating_mul(u64::from(p.passes)))).max();
    settings.gate_deadline.plus(gate.soak).plus(least.unwrap_or(DurationMs::ZERO))
}
