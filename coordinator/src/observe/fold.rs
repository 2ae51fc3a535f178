//! One verdict per instance from its unit and its probes. Pure.

use quorate_model::service::UnitStatus;
use quorate_model::{
    DurationMs, InstanceId, InstanceReading, InstanceRole, InstanceState, ProbeKind, ProbeReading,
    ServiceSpec, Sync, Timestamp,
};

/// The unit as its own node last saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitSeen {
    /// `None` when nobody could look.
    pub unit: Option<UnitStatus>,
    /// Since when the current run is up; zero when it does not run.
    pub up_since: Timestamp,
    /// When it was looked at.
    pub at: Timestamp,
}

/// Folds what is known of an instance. `readings` are all readings of it, from itself and from peers; those older than the
/// current run say nothing about it and are left out.
#[must_use]
pub fn fold(
    spec: &ServiceSpec,
    instance: &InstanceId,
    seen: &UnitSeen,
    readings: &[ProbeReading],
) -> InstanceReading {
    let current: Vec<&ProbeReading> =
        readings.iter().filter(|r| r.at >= seen.up_since && is_told_still(spec, instance, seen, r)).collect();
    let own = |name: &quorate_model::ProbeName| {
        current.iter().find(|r| r.probe == *name && r.from == instance.node)
    };
    let (mut role, mut sync) = (InstanceRole::Unknown, Sync::Unknown);
    for probe in spec.probes.iter().filter(|p| matches!(p.kind, ProbeKind::Membership { .. })) {
        if let Some(reading) = own(&probe.name) {
            role = reading.role;
            sync = if reading.ok { Sync::CaughtUp } else { Sync::Lagging };
        }
    }
    let observed = match &seen.unit {
        None => InstanceState::Unknown,
        Some(unit) => unit_state(unit).unwrap_or_else(|| probed(spec, instance, &current)),
    };
    // The oldest reading it rests on: a verdict is as old as its weakest evidence. What tells no health is none.
    let rests = spec.probes.iter().filter(|p| p.kind.tells_health());
    let oldest = rests.filter_map(|p| own(&p.name)).map(|r| r.at).min();
    let runs = !matches!(observed, InstanceState::Stopped | InstanceState::Failed | InstanceState::Unknown);
    InstanceReading {
        instance: instance.clone(),
        observed,
        role: if runs { role } else { InstanceRole::Unknown },
        sync: if runs { sync } else { Sync::Unknown },
        up_since: seen.up_since,
        at: oldest.map_or(seen.at, |at| at.min(seen.at)),
        failing: observed == InstanceState::Unhealthy && is_failing(spec, instance, &current),
        probes: current.into_iter().cloned().collect(),
    }
}

/// Whether a peer's reading is one of a peer that still looks. A former peer, or one whose agent is gone, says nothing any
/// more; its last word must not stand for minutes. The node's own readings are judged by the verdict's age instead.
fn is_told_still(spec: &ServiceSpec, instance: &InstanceId, seen: &UnitSeen, reading: &ProbeReading) -> bool {
    if reading.from == instance.node {
        return true;
    }
    let Some(probe) = spec.probes.iter().find(|p| p.name == reading.probe) else { return false };
    // An expression is as old as what it rests on.
    let turn = |p: &quorate_model::ProbeSpec| p.interval.0.saturating_add(p.timeout.0);
    let below = match probe.kind {
        ProbeKind::Expression { .. } => spec.probes.iter().map(turn).max().unwrap_or(0),
        ProbeKind::Http { .. }
        | ProbeKind::Tcp { .. }
        | ProbeKind::Exec { .. }
        | ProbeKind::UnitSoak { .. }
        | ProbeKind::Membership { .. }
        | ProbeKind::Certificate(_)
        | ProbeKind::Alerts(_)
        | ProbeKind::Metric(_) => 0,
    };
    // Three missed turns, each as long as it may take.
    let limit = DurationMs(turn(probe).saturating_mul(3).saturating_add(below));
    seen.at.since(reading.at) <= limit
}

/// What the unit alone decides; `None` when it is active and the probes decide.
fn unit_state(unit: &UnitStatus) -> Option<InstanceState> {
    match unit.active.as_str() {
        "active" | "reloading" => None,
        "activating" => Some(InstanceState::Starting),
        "deactivating" => Some(InstanceState::Stopping),
        "inactive" => Some(InstanceState::Stopped),
        "failed" => Some(InstanceState::Failed),
        _ => Some(InstanceState::Unknown),
    }
}

/// The verdict of the probes on an active unit. A peer that stably sees a failure makes it unhealthy: a member that others
/// cannot reach does not count towards their quorum.
fn probed(spec: &ServiceSpec, instance: &InstanceId, current: &[&ProbeReading]) -> InstanceState {
    let mut verdict = InstanceState::Healthy;
    for probe in spec.probes.iter().filter(|probe| probe.kind.tells_health()) {
        let Some(own) = current.iter().find(|r| r.probe == probe.name && r.from == instance.node) else {
            return InstanceState::Running;
        };
        if !own.ok {
            return InstanceState::Unhealthy;
        }
        if own.passes < probe.passes.max(1) {
            verdict = InstanceState::Soaking;
        }
        let peer_fails = current.iter().any(|r| {
            r.probe == probe.name && r.from != instance.node && !r.ok && r.failures >= probe.passes.max(1)
        });
        if peer_fails {
            return InstanceState::Unhealthy;
        }
    }
    verdict
}

/// Whether its own node has stably seen that it does not serve. A lagging member, one that is up too short a time or whose
/// numbers are bad serves, and what a peer does not reach may serve others.
fn is_failing(spec: &ServiceSpec, instance: &InstanceId, current: &[&ProbeReading]) -> bool {
    spec.probes.iter().any(|probe| {
        let tells = match probe.kind {
            ProbeKind::Http { .. } | ProbeKind::Tcp { .. } | ProbeKind::Exec { .. } => true,
            ProbeKind::Membership { .. }
            | ProbeKind::UnitSoak { .. }
            | ProbeKind::Metric(_)
            | ProbeKind::Certificate(_)
            | ProbeKind::Alerts(_)
            | ProbeKind::Expression { .. } => false,
        };
        let own = current.iter().find(|r| r.probe == probe.name && r.from == instance.node);
        tells && own.is_some_and(|r| !r.ok && r.failures >= probe.passes.max(1))
    })
}
