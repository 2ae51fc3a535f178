//! A metric compared with itself: after a change, and before it.
//!
//! Must never: let a value pass that has nothing to be compared with. A number that nobody recorded proves nothing.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use quorate_model::probe::Baseline;
use quorate_model::{InstanceId, Millionths, ProbeReading, Timestamp};

use crate::safety::availability::{Evidence, probe_limit};
use crate::state::State;
use crate::state::operation::{Before, Operation, Step};
use crate::state::plan::{GateBaseline, GateProbe, GateSpec};

/// The probes that the gate behind a step compares with their values before it; none when no gate follows at once.
pub fn compared(operation: &Operation, index: u32) -> impl Iterator<Item = &GateProbe> {
    let own = operation.step(index);
    let behind = operation
        .indexed()
        .find(|(i, s)| *i > index && own.is_some_and(|own| s.wave == own.wave && s.node == own.node));
    let gate = behind.and_then(|(_, step)| step.gate.as_ref());
    gate.into_iter().flat_map(|gate| gate.probes.iter()).filter(|probe| probe.baseline.is_some())
}

/// What is to be remembered of a step that begins now: the value of each compared probe, seen by the instance's own node in
/// a fresh reading that passed and is newer than the last disturbance. What is not shown so is left out, and its gate will
/// say so.
#[must_use]
pub fn recorded(
    state: &State,
    operation: &Operation,
    index: u32,
    instance: &InstanceId,
    evidence: &Evidence<'_>,
    now: Timestamp,
) -> Vec<Before> {
    let disturbed = state.instances.get(instance).map_or(Timestamp::ZERO, |i| i.disturbed_at);
    let counts = |probe: &GateProbe, r: &ProbeReading| {
        r.probe == probe.name
            && r.instance == *instance
            && r.from == instance.node
            && r.ok
            && r.at > disturbed
            && now.since(r.at) <= probe_limit(state, &instance.service, &probe.name, probe.interval)
    };
    let Some(seen) = evidence.get(instance) else { return Vec::new() };
    let before = |probe: &GateProbe| {
        let reading = seen.probes.iter().find(|r| counts(probe, r))?;
        Some(Before { probe: probe.name.clone(), value: reading.value?, at: reading.at })
    };
    compared(operation, index).filter_map(before).collect()
}

/// What was recorded for the gate at `index`: by the last action before it on its node.
#[must_use]
pub fn before(operation: &Operation, index: u32) -> &[Before] {
    let Some(gate) = operation.step(index) else { return &[] };
    let mine = |step: &Step| step.wave == gate.wave && step.node == gate.node && step.action.is_some();
    let action = operation.indexed().filter(|(i, step)| *i < index && mine(step)).last();
    action.map_or(&[], |(_, step)| step.before.as_slice())
}

/// The value that a probe had before.
#[must_use]
pub fn value_before(before: &[Before], reading: &ProbeReading) -> Option<Millionths> {
    before.iter().find(|b| b.probe == reading.probe).map(|b| b.value)
}

/// Whether a value is within its limits. Percent are of the size of the value before; what cannot be computed is not within.
#[must_use]
pub fn within(limits: &Baseline, before: Millionths, after: Millionths) -> bool {
    let (before, after) = (i128::from(before.0), i128::from(after.0));
    let allows = |percent: Option<u32>, change: Option<i128>| {
        let Some(percent) = percent else { return Some(true) };
        let change = change?;
        let share = before.checked_abs()?.checked_mul(i128::from(percent))?;
        Some(change <= i128::from(limits.min_absolute.0) || change.checked_mul(100)? <= share)
    };
    allows(limits.max_increase_percent, after.checked_sub(before)) == Some(true)
        && allows(limits.max_decrease_percent, before.checked_sub(after)) == Some(true)
}

/// The limits in words: `at most +50% or +0.05, at least -20% or -0.05`.
#[must_use]
pub fn words(limits: &Baseline) -> String {
    let side = |word: &str, sign: &str, percent: Option<u32>| {
        let percent = percent?;
        let or = match limits.min_absolute {
            Millionths::ZERO => String::new(),
            least => format!(" or {sign}{least}"),
        };
        Some(format!("{word} {sign}{percent}%{or}"))
    };
    let sides = [
        side("at most", "+", limits.max_increase_percent),
        side("at least", "-", limits.max_decrease_percent),
    ];
    sides.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// `0.8/s, before 0.1/s, at most +50%`.
fn told(baseline: &GateBaseline, before: Millionths, after: Millionths) -> String {
    let unit = if baseline.rate { "/s" } else { "" };
    format!("{after}{unit}, before {before}{unit}, {}", words(&baseline.limits))
}

/// Why a reading that passed by itself is not within the limits, if it is not.
pub(super) fn exceeded(probe: &GateProbe, reading: &ProbeReading, before: &[Before]) -> Option<String> {
    let baseline = probe.baseline.as_ref()?;
    let Some(value) = reading.value else { return Some("its reading has no value".into()) };
    let Some(before) = value_before(before, reading) else {
        return Some(
            "there is no value from before the step: the probe did not pass then. See that it passes, and do the \
             change again, or apply the service without its baseline"
                .into(),
        );
    };
    let ok = within(&baseline.limits, before, value);
    (!ok).then(|| told(baseline, before, value))
}

/// Readings as a gate judged them: those of a compared probe say both values, and have failed when they are not within.
#[must_use]
pub fn verdicts(gate: &GateSpec, before: &[Before], readings: &[ProbeReading]) -> Vec<ProbeReading> {
    let judged = |reading: &ProbeReading| {
        let mut judged = reading.clone();
        let probe = gate.probes.iter().find(|p| p.name == reading.probe);
        let Some(baseline) = probe.and_then(|p| p.baseline.as_ref()).filter(|_| reading.ok) else {
            return judged;
        };
        if let Some(why) = probe.and_then(|probe| exceeded(probe, reading, before)) {
            (judged.ok, judged.detail) = (false, why);
        } else if let (Some(then), Some(now)) = (value_before(before, reading), reading.value) {
            judged.detail = told(baseline, then, now);
        }
        judged
    };
    readings.iter().map(judged).collect()
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use proptest::prelude::*;

    use super::*;

    fn limits(up: Option<u32>, down: Option<u32>, least: i64) -> Baseline {
        Baseline { max_increase_percent: up, max_decrease_percent: down, min_absolute: Millionths(least) }
    }

    #[test]
    fn a_change_is_measured_against_what_was_before() {
        let half = limits(Some(50), None, 0);
        for (before, after, ok) in [
            (100_000, 150_000, true),
            (100_000, 150_001, false),
            (100_000, 0, true),
            (0, 0, true),
            (0, 1, false),
            // Of its size: the way up from -10 by half of it ends at -5.
            (-10, -5, true),
            (-10, -4, false),
            (i64::MIN, i64::MAX, false),
            (i64::MAX, i64::MIN, true),
        ] {
            assert_eq!(within(&half, Millionths(before), Millionths(after)), ok, "{before} to {after}");
        }
        assert!(within(&limits(Some(50), None, 5), Millionths(0), Millionths(5)));
        assert!(!within(&limits(None, Some(20), 0), Millionths(100), Millionths(79)));
        assert!(within(&limits(None, Some(20), 0), Millionths(100), Millionths(1_000)));
    }

    #[test]
    fn limits_read_as_people_say_them() {
        assert_eq!(words(&limits(Some(50), None, 0)), "at most +50%");
        let both = words(&limits(Some(50), Some(20), 50_000));
        assert_eq!(both.to_string(), "at most +50% or +0.05, at least -20% or -0.05");
    }

    proptest! {
        #[test]
        fn it_is_what_wide_arithmetic_says(
            before in any::<i64>(), after in any::<i64>(),
            up in proptest::option::of(0_u32..=100_000), down in proptest::option::of(0_u32..=100), least in 0..i64::MAX,
        ) {
            let (b, a) = (i128::from(before), i128::from(after));
            let side = |percent: Option<u32>, change: i128| percent.is_none_or(|percent| {
                change <= i128::from(least) || change * 100 <= b.abs() * i128::from(percent)
            });
            let wanted = side(up, a - b) && side(down, b - a);
            prop_assert_eq!(within(&limits(up, down, least), Millionths(before), Millionths(after)), wanted);
        }

        #[test]
        fn what_is_nearer_is_not_worse(before in any::<i64>(), after in any::<i64>(), up in 0_u32..=1_000, down in 0_u32..=100) {
            let limits = limits(Some(up), Some(down), 0);
            let between = Millionths(i64::midpoint(before, after));
            if within(&limits, Millionths(before), Millionths(after)) {
                prop_assert!(within(&limits, Millionths(before), between));
                prop_assert!(within(&limits, Millionths(before), Millionths(before)));
            }
        }
    }
}
