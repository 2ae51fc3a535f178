//! Gates: when has an instance proved that it is back.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use quorate_model::{
    DurationMs, InstanceReading, InstanceRole, InstanceState, ProbeReading, StepState, Sync, Timestamp,
};

use super::availability::{Evidence, freshness_limit, probe_limit};
use super::{failover, membership};
use crate::state::State;
use crate::state::operation::{Before, Operation};
use crate::state::plan::{GateProbe, GateSpec, LeaseWants};

mod baseline;
mod margin;

pub use baseline::{before, compared, recorded, value_before, verdicts, within, words};
pub use margin::margin_missing;

/// From when readings count for a gate: the end of the last step before it on its node, else its own beginning.
#[must_use]
pub fn counts_from(operation: &Operation, index: u32) -> Timestamp {
    let Some(gate) = operation.step(index) else { return Timestamp::ZERO };
    let before = operation
        .indexed()
        .filter(|(i, s)| *i < index && s.wave == gate.wave && s.node == gate.node)
        .filter(|(_, s)| s.state == StepState::Succeeded)
        .filter_map(|(_, s)| s.ended_at)
        .max();
    before.or(gate.started_at).unwrap_or(Timestamp::ZERO)
}

/// Which probe has not passed often enough since then, if any: k consecutive passes, the first of them later than `since`,
/// from the instance's own node and, where asked, from another one. Where the gate compares with `before`, every value that
/// it rests on must be within its limits.
#[must_use]
pub fn probes_missing(
    gate: &GateSpec,
    before: &[Before],
    readings: &[ProbeReading],
    since: Timestamp,
) -> Option<String> {
    gate.probes.iter().find_map(|probe| {
        let own = |reading: &&ProbeReading| reading.from == gate.instance.node;
        let of = || readings.iter().filter(|r| r.instance == gate.instance && r.probe == probe.name);
        let sides = [("itself", true), ("another node", false)];
        sides.into_iter().filter(|(_, itself)| *itself || probe.from_peer).find_map(|(from, itself)| {
            let side = || of().filter(|r| own(r) == itself);
            let mut stable = side().filter(|reading| is_stable(probe, reading, since)).peekable();
            if stable.peek().is_none() {
                return Some(progress(probe, side().next(), from));
            }
            // Whoever sees it worse stops it: a better view of the same number proves nothing.
            let why = stable.find_map(|reading| baseline::exceeded(probe, reading, before))?;
            Some(format!("{} from {from}: {why}", probe.name))
        })
    })
}

/// What a gate that looks on for a while still misses of its time, if anything; it was opened at `opened`.
#[must_use]
pub fn held(gate: &GateSpec, opened: Timestamp, now: Timestamp) -> Option<String> {
    // No ages in the text: one that changes every second would be proposed every second.
    (now.since(opened) < gate.hold).then(|| format!("{} is looked at for {}", gate.instance, gate.hold))
}

/// How an instance has turned bad since a gate that looks on was opened, if it has: a reading newer than that shows it out,
/// or run anew. What is only not known is no proof.
#[must_use]
pub fn turned(gate: &GateSpec, reading: &InstanceReading, opened: Timestamp) -> Option<String> {
    if gate.hold.is_zero() || reading.instance != gate.instance || reading.at <= opened {
        return None;
    }
    let anew = reading.up_since > opened;
    match reading.observed {
        InstanceState::Stopping | InstanceState::Stopped | InstanceState::Failed => {
            Some(format!("{} turned {}", gate.instance, reading.observed))
        }
        // One probe that fails once is no proof; failing as often in a row as it would have to pass is.
        InstanceState::Unhealthy if reading.failing => {
            Some(format!("{} turned {}", gate.instance, reading.observed))
        }
        InstanceState::Starting
        | InstanceState::Running
        | InstanceState::Soaking
        | InstanceState::Healthy
        | InstanceState::Unhealthy => anew.then(|| format!("{} was started anew", gate.instance)),
        InstanceState::Unknown => None,
    }
}

/// The readings that a gate may rest on: each by its own probe's interval.
fn fresh(state: &State, gate: &GateSpec, readings: &[ProbeReading], now: Timestamp) -> Vec<ProbeReading> {
    let is_fresh = |reading: &&ProbeReading| {
        let of = gate.probes.iter().find(|probe| probe.name == reading.probe);
        of.is_some_and(|probe| {
            let limit = probe_limit(state, &gate.instance.service, &probe.name, probe.interval);
            now.since(reading.at) <= limit
        })
    };
    readings.iter().filter(is_fresh).cloned().collect()
}

fn is_stable(probe: &GateProbe, reading: &ProbeReading, since: Timestamp) -> bool {
    let spread = probe.interval.0.saturating_mul(u64::from(probe.passes.saturating_sub(1)));
    reading.ok && reading.passes >= probe.passes && reading.at.minus(DurationMs(spread)) > since
}

fn progress(probe: &GateProbe, reading: Option<&ProbeReading>, from: &str) -> String {
    match reading {
        None => format!("{} has no reading from {from}", probe.name),
        Some(reading) if reading.ok => {
            format!(
                "{} passed {} of {} from {from}",
                probe.name,
                reading.passes.min(probe.passes),
                probe.passes
            )
        }
        Some(reading) => format!("{} fails from {from}: {}", probe.name, reading.detail),
    }
}

/// What the gate still misses at `now`, if anything: a fresh reading newer than `since`, healthy, caught up, up for long
/// enough, every probe stable, and its groups at their margin. Nothing for what is no gate.
#[must_use]
pub fn missing(
    state: &State,
    operation: &Operation,
    index: u32,
    evidence: &Evidence<'_>,
    now: Timestamp,
) -> Option<String> {
    let gate = operation.step(index)?.gate.as_ref()?;
    let since = counts_from(operation, index);
    if gate.lease.as_ref().is_some_and(|lease| !matches!(lease.wants, LeaseWants::Held { .. })) {
        // Nobody leads, and who led need not be heard.
        return unleased(state, operation, gate, since, evidence, now);
    }
    let Some(reading) = evidence.get(&gate.instance) else {
        return Some(format!("nothing is known of {}", gate.instance));
    };
    if now.since(reading.at) > freshness_limit(state, &gate.instance.service) || reading.at <= since {
        return Some(format!("no reading of {} since the step", gate.instance));
    }
    let fresh = fresh(state, gate, &reading.probes, now);
    if let Some(missing) = probes_missing(gate, before(operation, index), &fresh, since) {
        return Some(missing);
    }
    if reading.observed != InstanceState::Healthy {
        return Some(format!("{} is {}", gate.instance, reading.observed));
    }
    if gate.caught_up && reading.sync != Sync::CaughtUp {
        return Some(format!("{} is {}", gate.instance, reading.sync));
    }
    let votes = |group: &crate::state::Group| group.spec.voters.contains(&gate.instance.node);
    let declared = state.groups_of(&gate.instance.service, &gate.instance.node).any(votes);
    if declared && matches!(reading.role, InstanceRole::Learner | InstanceRole::Observer) {
        return Some(format!("{} is {}, not a voter again", gate.instance, reading.role));
    }
    if reading.up_since == Timestamp::ZERO || now.since(reading.up_since) < gate.soak {
        return Some(format!("{} has not been up for {} yet", gate.instance, gate.soak));
    }
    margin_missing(state, operation, index, gate, evidence, now)
        .or_else(|| unlisted(state, gate, since, evidence, now))
        .or_else(|| unleased(state, operation, gate, since, evidence, now))
}

/// What the lease of a group's primary still lacks for a gate that asks for it.
#[must_use]
pub fn unleased(
    state: &State,
    operation: &Operation,
    gate: &GateSpec,
    since: Timestamp,
    evidence: &Evidence<'_>,
    now: Timestamp,
) -> Option<String> {
    failover::missing(state, operation, gate.lease.as_ref()?, (&gate.instance, since), evidence, now)
}

/// What the lists of a group's members still lack for a gate that asks for them.
#[must_use]
pub fn unlisted(
    state: &State,
    gate: &GateSpec,
    since: Timestamp,
    evidence: &Evidence<'_>,
    now: Timestamp,
) -> Option<String> {
    membership::missing(state, gate.membership.as_ref()?, since, evidence, now)
}
