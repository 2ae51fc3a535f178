//! Checks of probes.

use alloc::format;
use alloc::string::String;

use quorate_model::alert::{ALERT_MATCHERS_MAX, AlertMatcher};
use quorate_model::probe::{AlertsProbe, CertificateProbe, MembershipPaths, MetricProbe};
use quorate_model::{DurationMs, Millionths, ProbeKind, ProbeSpec, Refusal};

use super::{bad, limited, span};
use crate::state::declared::SPEC_TEXT_MAX_BYTES;
use crate::state::node::LABEL_MAX_BYTES;

/// Most words of a program and its arguments.
const ARGV_MAX: usize = 64;
/// Most labels that choose a metric's series.
const SERIES_LABELS_MAX: usize = 16;
/// Largest increase of a metric that may be asked for: a thousandfold. More is no limit.
const INCREASE_PERCENT_MAX: u32 = 100_000;
/// Longest time that a certificate may be asked to be valid: none lasts longer that anybody renews.
const REMAINING_MAX: DurationMs = DurationMs::from_secs(366 * 24 * 3_600);

pub(super) fn check(probe: &ProbeSpec) -> Result<(), Refusal> {
    let field = |part: &str| format!("probes.{}.{part}", probe.name);
    span(&field("interval"), probe.interval)?;
    span(&field("timeout"), probe.timeout)?;
    if probe.passes == 0 || probe.passes > 100 {
        return Err(bad(format!("{}: expected 1 to 100", field("passes"))));
    }
    let long = |part: &str, value: &str| limited(&field(part), value, SPEC_TEXT_MAX_BYTES);
    match &probe.kind {
        ProbeKind::Http { url, status, body_contains, json } => {
            long("url", url)?;
            long("body_contains", body_contains)?;
            if !url.starts_with("http://") && !url.starts_with("https://") {
                return Err(bad(format!("{}: expected http:// or https://", field("url"))));
            }
            if status.len() > 16 || json.len() > 16 {
                return Err(bad(format!("{}: more than 16 conditions", field("kind"))));
            }
            for check in json {
                long("json", &check.path)?;
                long("json", &check.value)?;
            }
        }
        ProbeKind::Tcp { address } => long("address", address)?,
        ProbeKind::Exec { argv } => program(probe, argv)?,
        ProbeKind::UnitSoak { min_up } => {
            span(&field("min_up"), *min_up)?;
            if probe.from_peer {
                return Err(bad(format!("{}: a unit cannot be looked at from a peer", field("from_peer"))));
            }
        }
        ProbeKind::Membership { url, argv, paths } => membership(probe, url, argv, paths)?,
        ProbeKind::Metric(wanted) => metric(probe, wanted)?,
        ProbeKind::Certificate(wanted) => certificate(probe, wanted)?,
        ProbeKind::Alerts(wanted) => alerts(probe, wanted)?,
        ProbeKind::Expression { expr } => {
            limited(&field("expr"), expr, SPEC_TEXT_MAX_BYTES)?;
            if expr.is_empty() {
                return Err(bad(format!("{}: an expression is needed", field("expr"))));
            }
        }
    }
    Ok(())
}

fn program(probe: &ProbeSpec, argv: &[String]) -> Result<(), Refusal> {
    let field = format!("probes.{}.argv", probe.name);
    if argv.is_empty() || argv.len() > ARGV_MAX || probe.from_peer {
        return Err(bad(format!("{field}: expected 1 to {ARGV_MAX} words, never from a peer")));
    }
    argv.iter().try_for_each(|word| limited(&field, word, SPEC_TEXT_MAX_BYTES))
}

fn membership(probe: &ProbeSpec, url: &str, argv: &[String], paths: &MembershipPaths) -> Result<(), Refusal> {
    let field = |part: &str| format!("probes.{}.{part}", probe.name);
    let MembershipPaths { members, key, this, role, serving, lag, max_lag: _, position } = paths;
    for value in [url, members, key, this, role, serving, lag, position] {
        limited(&field("paths"), value, SPEC_TEXT_MAX_BYTES)?;
    }
    if key.is_empty() || this.is_empty() {
        return Err(bad(format!("{}: key and this are needed", field("paths"))));
    }
    match (url.is_empty(), argv.is_empty()) {
        (true, false) => program(probe, argv),
        (false, false) => Err(bad(format!("{}: exactly one of url and argv tells", field("argv")))),
        (_, true) => Ok(()),
    }
}

fn certificate(probe: &ProbeSpec, wanted: &CertificateProbe) -> Result<(), Refusal> {
    let field = |part: &str| format!("probes.{}.{part}", probe.name);
    let CertificateProbe { address, server_name, min_remaining, file } = wanted;
    for (part, value) in [("address", address), ("server_name", server_name), ("file", file)] {
        limited(&field(part), value, SPEC_TEXT_MAX_BYTES)?;
    }
    if address.is_empty() || server_name.is_empty() {
        return Err(bad(format!("{}: address and server_name are needed", field("certificate"))));
    }
    if *min_remaining > REMAINING_MAX {
        return Err(bad(format!("{}: at most {REMAINING_MAX}", field("min_remaining"))));
    }
    if probe.from_peer && !file.is_empty() {
        return Err(bad(format!("{}: a file cannot be read from a peer", field("from_peer"))));
    }
    Ok(())
}

fn alerts(probe: &ProbeSpec, wanted: &AlertsProbe) -> Result<(), Refusal> {
    check_alertmanager(&format!("probes.{}", probe.name), &wanted.url, &wanted.matchers)
}

/// Where an Alertmanager is, and which of its alerts are meant.
pub(super) fn check_alertmanager(of: &str, url: &str, matchers: &[AlertMatcher]) -> Result<(), Refusal> {
    let field = |part: &str| format!("{of}.{part}");
    limited(&field("url"), url, SPEC_TEXT_MAX_BYTES)?;
    if !url.starts_with("http://") || url.contains(['?', '#']) {
        return Err(bad(format!("{}: expected http:// and no query", field("url"))));
    }
    if matchers.is_empty() || matchers.len() > ALERT_MATCHERS_MAX {
        return Err(bad(format!("{}: expected 1 to {ALERT_MATCHERS_MAX}", field("matchers"))));
    }
    for matcher in matchers {
        limited(&field("matchers"), &matcher.label, LABEL_MAX_BYTES)?;
        limited(&field("matchers"), &matcher.value, SPEC_TEXT_MAX_BYTES)?;
        if !matcher.is_plain() {
            return Err(bad(format!("{}: {:?} is no label", field("matchers"), matcher.label)));
        }
    }
    Ok(())
}

fn metric(probe: &ProbeSpec, metric: &MetricProbe) -> Result<(), Refusal> {
    let field = |part: &str| format!("probes.{}.{part}", probe.name);
    let long = |part: &str, value: &str| limited(&field(part), value, SPEC_TEXT_MAX_BYTES);
    let MetricProbe { url, metric, labels, rate: _, condition: _, baseline } = metric;
    long("url", url)?;
    long("metric", metric)?;
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err(bad(format!("{}: expected http:// or https://", field("url"))));
    }
    if metric.is_empty() || labels.len() > SERIES_LABELS_MAX {
        return Err(bad(format!("{}: a name, and at most {SERIES_LABELS_MAX} labels", field("metric"))));
    }
    for (key, value) in labels {
        long("labels", key)?;
        long("labels", value)?;
    }
    let Some(limits) = baseline else { return Ok(()) };
    let (up, down) = (limits.max_increase_percent, limits.max_decrease_percent);
    if up.is_none() && down.is_none() {
        return Err(bad(format!("{}: at least one side has a limit", field("baseline"))));
    }
    if up.is_some_and(|percent| percent > INCREASE_PERCENT_MAX) || down.is_some_and(|percent| percent > 100) {
        return Err(bad(format!(
            "{}: at most {INCREASE_PERCENT_MAX} percent up and 100 down",
            field("baseline")
        )));
    }
    if limits.min_absolute < Millionths::ZERO {
        return Err(bad(format!("{}: min_absolute is not negative", field("baseline"))));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use quorate_model::ProbeName;

    use super::*;

    fn told(url: &str, argv: Vec<String>, from_peer: bool) -> Result<(), Refusal> {
        let paths = MembershipPaths {
            members: "members".into(),
            key: "node".into(),
            this: "${node}".into(),
            role: "role".into(),
            serving: String::new(),
            lag: String::new(),
            max_lag: 0,
            position: "position".into(),
        };
        check(&ProbeSpec {
            name: ProbeName::new("members").unwrap(),
            kind: ProbeKind::Membership { url: url.into(), argv, paths },
            interval: DurationMs::from_secs(1),
            timeout: DurationMs::from_secs(1),
            passes: 1,
            from_peer,
        })
    }

    #[test]
    fn exactly_one_of_a_url_and_a_program_tells_of_the_members_and_the_program_only_at_home() {
        let program = || vec!["/usr/lib/pair/status".into()];
        assert!(told("http://h/members", vec![], true).is_ok());
        assert!(told("", program(), false).is_ok());
        assert!(told("http://h/members", program(), false).is_err());
        assert!(told("", program(), true).is_err());
        assert!(told("", vec!["x".into(); 65], false).is_err());
        assert!(told("", vec!["x".repeat(SPEC_TEXT_MAX_BYTES + 1)], false).is_err());
    }
}
