//! Verdicts on numbers: metrics, and expressions over the readings of other probes. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_common::expression::{Expression, Field, Seen};
use quorate_common::wire::number::from_float;
use quorate_model::probe::{MetricCheck, MetricProbe};
use quorate_model::{Comparison, Millionths, ProbeKind, ProbeName, Timestamp};

use super::plan::one_line;
use super::schedule::{Latest, ProbeKey, Scheduled};
use super::{Reading, page};
use crate::host::fetch::HttpAnswer;

/// Largest document that is kept for expressions, in bytes: sixteen of them may be added up by one.
const DOCUMENT_MAX_BYTES: usize = 32 * 1024;

/// A counter as it stood, and when, in microseconds of the monotonic clock.
pub(super) type Counted = (f64, u64);
/// The newest readings of an instance's other probes.
pub(super) type Others = BTreeMap<ProbeName, Reading>;

/// Judges a metric. `before` is the counter as the last reading found it; the second part is what the next one needs.
pub(super) fn judge_metric(
    probe: &MetricProbe,
    answer: &HttpAnswer,
    before: Option<Counted>,
    now_us: u64,
) -> (Reading, Option<Counted>) {
    let MetricProbe { url: _, metric, labels, rate, condition, baseline: _ } = probe;
    if answer.status != 200 {
        return (Reading::new(false, &format!("status {}", answer.status)), None);
    }
    let found = match page::number(&answer.body, metric, labels) {
        Ok(found) => found,
        Err(why) => return (Reading::new(false, &why), None),
    };
    if !rate {
        return (judge_number(metric, from_float(found), "", condition.as_ref()), None);
    }
    if !found.is_finite() || found < 0.0 {
        return (Reading::new(false, &format!("{metric} is {found}, which no counter is")), None);
    }
    let counted = Some((found, now_us));
    let Some((last, at)) = before else {
        // Neither passed nor failed: it takes two to tell.
        return (Reading::blind(&format!("{metric} was read once, a rate needs two readings")), counted);
    };
    #[expect(clippy::cast_precision_loss, reason = "microseconds between two readings")]
    let seconds = now_us.saturating_sub(at) as f64 / 1e6;
    // A counter that is smaller than it was began again at zero.
    let increase = if found < last { found } else { found - last };
    let value = if seconds > 0.0 { from_float(increase / seconds) } else { None };
    (judge_number(metric, value, "/s", condition.as_ref()), counted)
}

fn judge_number(metric: &str, value: Option<Millionths>, unit: &str, check: Option<&MetricCheck>) -> Reading {
    let Some(value) = value else {
        return Reading::new(false, &format!("{metric} is no number that can be carried"));
    };
    let holds = check.is_none_or(|MetricCheck { op, value: wanted }| match op {
        Comparison::Eq => value == *wanted,
        Comparison::Ne => value != *wanted,
        Comparison::Lt => value < *wanted,
        Comparison::Le => value <= *wanted,
        Comparison::Gt => value > *wanted,
        Comparison::Ge => value >= *wanted,
    });
    let text = match check {
        Some(MetricCheck { op, value: wanted }) if !holds => {
            format!("{metric} = {value}{unit}, wanted {op} {wanted}")
        }
        Some(_) | None => format!("{metric} = {value}{unit}"),
    };
    let mut reading = Reading::new(holds, &text);
    reading.number = Some(value);
    reading.value = one_line(&value.to_string());
    reading
}

/// The document of an answer, when it is one and not too large to be kept.
pub(super) fn document(answer: &HttpAnswer) -> Option<Arc<serde_json::Value>> {
    let body = Some(&answer.body).filter(|body| body.len() <= DOCUMENT_MAX_BYTES)?;
    serde_json::from_slice(body).ok().map(Arc::new)
}

/// Judges an expression. It is as old as the oldest reading that it looks at: a fresh verdict on old readings proves nothing of now.
pub(super) fn judge_expression(expr: &str, others: &Others, now: Timestamp) -> Reading {
    let read = match Expression::parse(expr) {
        Ok(read) => read,
        Err(wrong) => return Reading::new(false, &format!("the expression: {wrong}")),
    };
    let mut seen = BTreeMap::new();
    let mut oldest = now;
    for (name, _) in read.uses() {
        let found = ProbeName::new(name.as_str()).ok().and_then(|name| others.get(&name));
        let Some(reading) = found else {
            return Reading::blind(&format!("there is no reading of {name} yet"));
        };
        oldest = oldest.min(reading.at);
        let age_ms = now.since(reading.at).0;
        let known = Seen {
            pass: reading.ok,
            age_ms,
            value: reading.number,
            status: reading.status,
            body: reading.body.clone(),
        };
        seen.insert(name.clone(), known);
    }
    let mut reading = match read.evaluate(&seen) {
        Ok(true) => Reading::new(true, "it holds"),
        Ok(false) => Reading::new(false, &format!("it does not hold: {}", facts(&seen))),
        Err(why) => Reading::new(false, &format!("it cannot be told: {why}")),
    };
    reading.at = oldest;
    reading
}

/// What an expression was told, for people: `errors 0.8, health passes`.
fn facts(seen: &BTreeMap<String, Seen>) -> String {
    let fact = |(name, seen): (&String, &Seen)| match (seen.value, seen.pass) {
        (Some(value), _) => format!("{name} {value}"),
        (None, true) => format!("{name} passes"),
        (None, false) => format!("{name} fails"),
    };
    seen.iter().map(fact).collect::<Vec<_>>().join(", ")
}

/// The newest readings of the other probes of an instance.
pub(super) fn others(results: &BTreeMap<ProbeKey, Latest>, own: &ProbeKey) -> Others {
    let beside =
        |key: &ProbeKey| key.node == own.node && key.service == own.service && key.probe != own.probe;
    let found = results.iter().filter(|(key, _)| beside(key));
    found.map(|(key, latest)| (key.probe.clone(), latest.reading.clone())).collect()
}

/// Marks the probes whose documents an expression asks for.
pub(super) fn keep_bodies(set: &mut BTreeMap<ProbeKey, Scheduled>) {
    let mut wanted = Vec::new();
    for (key, scheduled) in set.iter() {
        let ProbeKind::Expression { expr } = &scheduled.spec.kind else { continue };
        let Ok(read) = Expression::parse(expr) else { continue };
        let bodies = read.uses().iter().filter(|(_, field)| *field == Field::Body);
        let names = bodies.filter_map(|(name, _)| ProbeName::new(name.as_str()).ok());
        wanted.extend(names.map(|probe| ProbeKey { probe, ..key.clone() }));
    }
    for scheduled in set.values_mut() {
        scheduled.target.keep_body = wanted.contains(&scheduled.target.key);
    }
}
