//! Folds what was seen of one instance into one reading.

use alloc::vec::Vec;

use quorate_model::service::UnitStatus;
use quorate_model::{
    InstanceId, InstanceReading, InstanceRole, InstanceState, ProbeKind, ProbeReading, ProbeSpec,
    ServiceSpec, Sync, Timestamp,
};

/// What is known of an instance, from its unit's state (with the time it was read at) and the newest reading of each probe by
/// each node. Pure, so that every coordinator folds the same; anything that is missing makes it less than healthy.
#[must_use]
pub fn fold(
    spec: &ServiceSpec,
    instance: &InstanceId,
    unit: Option<(&UnitStatus, Timestamp)>,
    probes: Vec<ProbeReading>,
) -> InstanceReading {
    let own = |probe: &ProbeSpec| {
        probes.iter().find(|r| r.probe == probe.name && r.from == instance.node && r.instance == *instance)
    };
    let observed = unit.map_or(InstanceState::Unknown, |(status, _)| match status.active.as_str() {
        "active" | "reloading" => by_probes(spec, own),
        "activating" => InstanceState::Starting,
        "deactivating" => InstanceState::Stopping,
        "inactive" => InstanceState::Stopped,
        "failed" => InstanceState::Failed,
        _ => InstanceState::Unknown,
    });
    let runs = unit.filter(|(status, _)| matches!(status.active.as_str(), "active" | "reloading"));
    let (role, sync) = membership(spec, own);
    // The oldest of what it rests on: nothing is fresher than its stalest part.
    let oldest = spec.probes.iter().filter_map(own).map(|r| r.at).chain(unit.map(|(_, at)| at)).min();
    // Of a unit that does not run, only the unit's own state matters; its probes may long have been silent.
    let at = match runs {
        Some(_) => oldest,
        None => unit.map(|(_, at)| at),
    };
    InstanceReading {
        instance: instance.clone(),
        observed,
        role,
        sync,
        up_since: runs.map_or(Timestamp::ZERO, |(status, _)| status.since),
        at: at.unwrap_or(Timestamp::ZERO),
        probes,
    }
}

/// A unit that runs is as healthy as its declared probes, seen from its own node.
fn by_probes<'a>(spec: &ServiceSpec, own: impl Fn(&ProbeSpec) -> Option<&'a ProbeReading>) -> InstanceState {
    let mut folded = InstanceState::Healthy;
    for probe in &spec.probes {
        let soaks = match probe.kind {
            ProbeKind::UnitSoak { .. } => true,
            ProbeKind::Http { .. }
            | ProbeKind::Tcp { .. }
            | ProbeKind::Exec { .. }
            | ProbeKind::Membership { .. } => false,
        };
        match own(probe) {
            // Not looked at yet: it runs, and that is all.
            None => return InstanceState::Running,
            Some(reading) if !reading.ok && !soaks => return InstanceState::Unhealthy,
            Some(reading) if !reading.ok || reading.passes < probe.passes => folded = InstanceState::Soaking,
            Some(_) => {}
        }
    }
    folded
}

/// Role and sync as the membership probe saw them.
fn membership<'a>(
    spec: &ServiceSpec,
    own: impl Fn(&ProbeSpec) -> Option<&'a ProbeReading>,
) -> (InstanceRole, Sync) {
    for probe in &spec.probes {
        let ProbeKind::Membership { paths, .. } = &probe.kind else { continue };
        let Some(reading) = own(probe) else { return (InstanceRole::Unknown, Sync::Unknown) };
        let behind = reading.lag.is_some_and(|lag| lag > paths.max_lag);
        let sync = if reading.ok && !behind { Sync::CaughtUp } else { Sync::Lagging };
        return (reading.role, sync);
    }
    (InstanceRole::Unknown, Sync::Unknown)
}

#[cfg(test)]
mod tests;
