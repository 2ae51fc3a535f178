//! Probes.

use std::collections::BTreeMap;

use quorate_model::alert::{ALERT_MATCHERS_MAX, AlertMatcher};
use quorate_model::probe::{
    AlertsProbe, Baseline, CertificateProbe, JsonCheck, MembershipPaths, MetricCheck, MetricProbe,
};
use quorate_model::{Comparison, DurationMs, Millionths, ProbeKind, ProbeSpec};
use quorate_proto::v1;
use v1::probe_spec::Kind;

use super::Invalid;
use super::invalid::{at_most, each};
use super::limits::{
    ARGV_MAX, CHECKS_MAX, EXPRESSION_MAX_BYTES, INCREASE_PERCENT_MAX, SERIES_LABELS_MAX, SPEC_TEXT_MAX_BYTES,
    STATUS_CODES_MAX,
};
use super::number::{read_number, write_number};
use super::text::{read_filled, read_name, read_text};
use super::time::{read_duration_or, write_duration};

/// Time between readings when the message says none (proto).
const INTERVAL: DurationMs = DurationMs(1_000);
/// Longest time of one reading when the message says none (proto).
const TIMEOUT: DurationMs = DurationMs(1_000);
/// Consecutive passes when the message says none (proto).
const PASSES: u32 = 3;
/// Shortest interval: faster than this a probe is load.
const INTERVAL_MIN: DurationMs = DurationMs(100);
/// Longest interval: a reading is fresh for two of them, and an older one says nothing.
const INTERVAL_MAX: DurationMs = DurationMs::from_secs(3_600);
/// Most passes that may be asked for; with the interval it bounds a gate.
const PASSES_MAX: u32 = 1_000;

/// A probe of a service.
///
/// # Errors
/// [`Invalid`] with the field.
pub fn read_probe(message: v1::ProbeSpec) -> Result<ProbeSpec, Invalid> {
    let v1::ProbeSpec { name, interval, timeout, passes, from_peer, kind } = message;
    let name = read_name("name", name)?;
    let interval = read_duration_or("interval", interval, INTERVAL)?;
    let timeout = read_duration_or("timeout", timeout, TIMEOUT)?;
    if !(INTERVAL_MIN..=INTERVAL_MAX).contains(&interval) {
        return Err(Invalid::new("interval", format!("it must be {INTERVAL_MIN} to {INTERVAL_MAX}")));
    }
    if timeout > INTERVAL_MAX {
        return Err(Invalid::new("timeout", format!("it must be at most {INTERVAL_MAX}")));
    }
    if passes > PASSES_MAX {
        return Err(Invalid::new("passes", format!("it must be at most {PASSES_MAX}")));
    }
    let kind = match kind.ok_or_else(|| Invalid::missing("kind"))? {
        Kind::Http(http) => read_http(http).map_err(|i| i.within("http"))?,
        Kind::Tcp(v1::TcpProbe { address }) => {
            ProbeKind::Tcp { address: read_filled("tcp.address", address, SPEC_TEXT_MAX_BYTES)? }
        }
        Kind::Exec(v1::ExecProbe { argv }) => {
            if argv.is_empty() {
                return Err(Invalid::missing("exec.argv"));
            }
            ProbeKind::Exec { argv: read_argv("exec.argv", argv)? }
        }
        Kind::UnitSoak(v1::UnitSoakProbe { min_up }) => {
            let min_up = read_duration_or("unit_soak.min_up", min_up, DurationMs::ZERO)?;
            ProbeKind::UnitSoak { min_up }
        }
        Kind::Membership(probe) => read_membership(probe).map_err(|i| i.within("membership"))?,
        Kind::Metric(probe) => ProbeKind::Metric(read_metric(probe).map_err(|i| i.within("metric"))?),
        Kind::Certificate(probe) => {
            ProbeKind::Certificate(read_certificate(probe).map_err(|i| i.within("certificate"))?)
        }
        Kind::Alerts(probe) => ProbeKind::Alerts(read_alerts(probe).map_err(|i| i.within("alerts"))?),
        // What it names is checked with the service, which knows the other probes.
        Kind::Expression(v1::ExpressionProbe { expr }) => {
            ProbeKind::Expression { expr: read_filled("expression.expr", expr, EXPRESSION_MAX_BYTES)? }
        }
    };
    if from_peer && kind.is_local() {
        return Err(Invalid::new("from_peer", "this kind of probe runs on the node itself only"));
    }
    let passes = if passes == 0 { PASSES } else { passes };
    Ok(ProbeSpec { name, kind, interval, timeout, passes, from_peer })
}

fn read_argv(field: &str, argv: Vec<String>) -> Result<Vec<String>, Invalid> {
    each(field, argv, ARGV_MAX, |text| read_text("", text, SPEC_TEXT_MAX_BYTES))
}

fn read_url(field: &str, url: String) -> Result<String, Invalid> {
    let url = read_filled(field, url, SPEC_TEXT_MAX_BYTES)?;
    if url.contains(char::is_whitespace) {
        return Err(Invalid::new(field, "it holds white space"));
    }
    if url.starts_with("http://") || url.starts_with("https://") {
        Ok(url)
    } else {
        Err(Invalid::new(field, "it must begin with http:// or https://"))
    }
}

fn read_http(message: v1::HttpProbe) -> Result<ProbeKind, Invalid> {
    let v1::HttpProbe { url, status, body_contains, json } = message;
    let code = |code: u32| match u16::try_from(code) {
        Ok(code @ 100..=599) => Ok(code),
        _ => Err(Invalid::new("", "it is not an HTTP status code")),
    };
    Ok(ProbeKind::Http {
        url: read_url("url", url)?,
        status: each("status", status, STATUS_CODES_MAX, code)?,
        body_contains: read_text("body_contains", body_contains, SPEC_TEXT_MAX_BYTES)?,
        json: each("json", json, CHECKS_MAX, read_check)?,
    })
}

fn read_check(message: v1::JsonCheck) -> Result<JsonCheck, Invalid> {
    let v1::JsonCheck { path, op, value } = message;
    let op = read_op(&op)?;
    let value = read_filled("value", value, SPEC_TEXT_MAX_BYTES)?;
    if serde_json::from_str::<serde_json::Value>(&value).is_err() {
        return Err(Invalid::new("value", "it is not JSON text; a string needs its quotes"));
    }
    Ok(JsonCheck { path: read_filled("path", path, SPEC_TEXT_MAX_BYTES)?, op, value })
}

fn read_membership(message: v1::MembershipProbe) -> Result<ProbeKind, Invalid> {
    let v1::MembershipProbe { url, members, key, this, role, serving, lag, max_lag, position, argv } =
        message;
    if !argv.is_empty() && !url.is_empty() {
        return Err(Invalid::new("argv", "there is a url already; exactly one of them tells"));
    }
    let filled = |field, text| read_filled(field, text, SPEC_TEXT_MAX_BYTES);
    let paths = MembershipPaths {
        members: filled("members", members)?,
        key: filled("key", key)?,
        this: filled("this", this)?,
        role: filled("role", role)?,
        serving: read_text("serving", serving, SPEC_TEXT_MAX_BYTES)?,
        lag: read_text("lag", lag, SPEC_TEXT_MAX_BYTES)?,
        max_lag,
        position: read_text("position", position, SPEC_TEXT_MAX_BYTES)?,
    };
    let url = if argv.is_empty() { read_url("url", url)? } else { url };
    Ok(ProbeKind::Membership { url, argv: read_argv("argv", argv)?, paths })
}

fn read_op(op: &str) -> Result<Comparison, Invalid> {
    Comparison::parse(op).ok_or_else(|| Invalid::new("op", "it must be one of == != < <= > >="))
}

fn read_metric(message: v1::MetricProbe) -> Result<MetricProbe, Invalid> {
    let v1::MetricProbe { url, metric, labels, rate, condition, baseline } = message;
    at_most("labels", labels.len(), SERIES_LABELS_MAX)?;
    let mut wanted = BTreeMap::new();
    for (key, value) in labels {
        let key = read_filled("labels", key, SPEC_TEXT_MAX_BYTES)?;
        wanted.insert(key, read_text("labels", value, SPEC_TEXT_MAX_BYTES)?);
    }
    let read_condition = |v1::MetricCondition { op, value }| {
        Ok(MetricCheck { op: read_op(&op)?, value: read_number("value", value)? })
    };
    Ok(MetricProbe {
        url: read_url("url", url)?,
        metric: read_filled("metric", metric, SPEC_TEXT_MAX_BYTES)?,
        labels: wanted,
        rate,
        condition: condition.map(read_condition).transpose().map_err(|i: Invalid| i.within("condition"))?,
        baseline: baseline.map(read_baseline).transpose().map_err(|i| i.within("baseline"))?,
    })
}

fn read_certificate(message: v1::CertificateProbe) -> Result<CertificateProbe, Invalid> {
    let v1::CertificateProbe { address, server_name, min_remaining, file } = message;
    let file = read_text("file", file, SPEC_TEXT_MAX_BYTES)?;
    if !file.is_empty() && !file.starts_with(['/', '$']) {
        return Err(Invalid::new("file", "it must be an absolute path"));
    }
    Ok(CertificateProbe {
        address: read_filled("address", address, SPEC_TEXT_MAX_BYTES)?,
        server_name: read_filled("server_name", server_name, SPEC_TEXT_MAX_BYTES)?,
        min_remaining: read_duration_or("min_remaining", min_remaining, DurationMs::ZERO)?,
        file,
    })
}

fn write_certificate(probe: &CertificateProbe) -> v1::CertificateProbe {
    let CertificateProbe { address, server_name, min_remaining, file } = probe.clone();
    let min_remaining = (!min_remaining.is_zero()).then(|| write_duration(min_remaining));
    v1::CertificateProbe { address, server_name, min_remaining, file }
}

fn read_alerts(message: v1::AlertsProbe) -> Result<AlertsProbe, Invalid> {
    let v1::AlertsProbe { url, matchers } = message;
    Ok(AlertsProbe { url: read_alertmanager(url)?, matchers: read_matchers(matchers)? })
}

/// Where an Alertmanager is. Nobody speaks TLS to it, and what is asked for is added to the URL.
pub(super) fn read_alertmanager(url: String) -> Result<String, Invalid> {
    let url = read_url("url", url)?;
    if !url.starts_with("http://") || url.contains(['?', '#']) {
        return Err(Invalid::new("url", "it must begin with http:// and have no query"));
    }
    Ok(url)
}

/// Which alerts are meant, in the field `matchers`.
pub(super) fn read_matchers(matchers: Vec<String>) -> Result<Vec<AlertMatcher>, Invalid> {
    if matchers.is_empty() {
        return Err(Invalid::missing("matchers"));
    }
    let read = |text: String| {
        let text = read_filled("", text, SPEC_TEXT_MAX_BYTES)?;
        AlertMatcher::parse(&text).map_err(|why| Invalid::new("", why))
    };
    each("matchers", matchers, ALERT_MATCHERS_MAX, read)
}

fn write_alerts(probe: &AlertsProbe) -> v1::AlertsProbe {
    let AlertsProbe { url, matchers } = probe;
    v1::AlertsProbe { url: url.clone(), matchers: matchers.iter().map(ToString::to_string).collect() }
}

fn read_baseline(message: v1::MetricBaseline) -> Result<Baseline, Invalid> {
    let v1::MetricBaseline { max_increase_percent, max_decrease_percent, min_absolute } = message;
    if max_increase_percent.is_none() && max_decrease_percent.is_none() {
        return Err(Invalid::new("max_increase_percent", "a baseline limits at least one side"));
    }
    if max_increase_percent.is_some_and(|percent| percent > INCREASE_PERCENT_MAX) {
        let why = format!("it must be at most {INCREASE_PERCENT_MAX}");
        return Err(Invalid::new("max_increase_percent", why));
    }
    if max_decrease_percent.is_some_and(|percent| percent > 100) {
        return Err(Invalid::new("max_decrease_percent", "it must be at most 100"));
    }
    let min_absolute = read_number("min_absolute", min_absolute)?;
    if min_absolute < Millionths::ZERO {
        return Err(Invalid::new("min_absolute", "it must not be negative"));
    }
    Ok(Baseline { max_increase_percent, max_decrease_percent, min_absolute })
}

fn write_metric(probe: &MetricProbe) -> v1::MetricProbe {
    let MetricProbe { url, metric, labels, rate, condition, baseline } = probe;
    let condition = condition.as_ref().map(|MetricCheck { op, value }| v1::MetricCondition {
        op: op.as_str().to_owned(),
        value: write_number(*value),
    });
    let baseline = baseline.as_ref().map(|limits| {
        let Baseline { max_increase_percent, max_decrease_percent, min_absolute } = limits;
        v1::MetricBaseline {
            max_increase_percent: *max_increase_percent,
            max_decrease_percent: *max_decrease_percent,
            min_absolute: write_number(*min_absolute),
        }
    });
    let (url, metric, labels) = (url.clone(), metric.clone(), labels.clone());
    v1::MetricProbe { url, metric, labels, rate: *rate, condition, baseline }
}

/// As a message.
#[must_use]
pub fn write_probe(probe: &ProbeSpec) -> v1::ProbeSpec {
    let ProbeSpec { name, kind, interval, timeout, passes, from_peer } = probe;
    let kind = match kind {
        ProbeKind::Http { url, status, body_contains, json } => Kind::Http(v1::HttpProbe {
            url: url.clone(),
            status: status.iter().map(|code| u32::from(*code)).collect(),
            body_contains: body_contains.clone(),
            json: json.iter().map(write_check).collect(),
        }),
        ProbeKind::Tcp { address } => Kind::Tcp(v1::TcpProbe { address: address.clone() }),
        ProbeKind::Exec { argv } => Kind::Exec(v1::ExecProbe { argv: argv.clone() }),
        ProbeKind::UnitSoak { min_up } => {
            Kind::UnitSoak(v1::UnitSoakProbe { min_up: Some(write_duration(*min_up)) })
        }
        ProbeKind::Membership { url, argv, paths } => {
            let MembershipPaths { members, key, this, role, serving, lag, max_lag, position } = paths.clone();
            Kind::Membership(v1::MembershipProbe {
                url: url.clone(),
                members,
                key,
                this,
                role,
                serving,
                lag,
                max_lag,
                position,
                argv: argv.clone(),
            })
        }
        ProbeKind::Metric(metric) => Kind::Metric(write_metric(metric)),
        ProbeKind::Certificate(probe) => Kind::Certificate(write_certificate(probe)),
        ProbeKind::Alerts(probe) => Kind::Alerts(write_alerts(probe)),
        ProbeKind::Expression { expr } => Kind::Expression(v1::ExpressionProbe { expr: expr.clone() }),
    };
    v1::ProbeSpec {
        name: name.as_str().to_owned(),
        interval: Some(write_duration(*interval)),
        timeout: Some(write_duration(*timeout)),
        passes: *passes,
        from_peer: *from_peer,
        kind: Some(kind),
    }
}

fn write_check(check: &JsonCheck) -> v1::JsonCheck {
    let JsonCheck { path, op, value } = check;
    v1::JsonCheck { path: path.clone(), op: op.as_str().to_owned(), value: value.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(url: &str) -> v1::ProbeSpec {
        let probe = v1::HttpProbe { url: url.into(), ..Default::default() };
        v1::ProbeSpec { name: "serving".into(), kind: Some(Kind::Http(probe)), ..Default::default() }
    }

    #[test]
    fn defaults_are_those_of_the_proto() {
        let probe = read_probe(http("http://${node}:8080/health")).unwrap();
        assert_eq!((probe.interval, probe.timeout, probe.passes), (INTERVAL, TIMEOUT, PASSES));
    }

    #[test]
    fn every_kind_comes_back() {
        let check = v1::JsonCheck { path: "status.0".into(), op: "<=".into(), value: "10".into() };
        let membership = v1::MembershipProbe {
            url: "http://h:1/nodes".into(),
            members: "nodes".into(),
            key: "id".into(),
            this: "${node}".into(),
            role: "role".into(),
            serving: "serving".into(),
            lag: "lag".into(),
            max_lag: 10,
            position: "lsn".into(),
            argv: Vec::new(),
        };
        let program = v1::MembershipProbe {
            url: String::new(),
            argv: vec!["/usr/lib/pair/status".into(), "${port}".into()],
            ..membership.clone()
        };
        let min_up = Some(write_duration(DurationMs(1_500)));
        let kinds = [
            Kind::Http(v1::HttpProbe {
                url: "http://h:1/x".into(),
                status: vec![200, 204],
                body_contains: "ok".into(),
                json: vec![check],
            }),
            Kind::Tcp(v1::TcpProbe { address: "h:1".into() }),
            Kind::Exec(v1::ExecProbe { argv: vec!["/bin/true".into(), String::new()] }),
            Kind::UnitSoak(v1::UnitSoakProbe { min_up }),
            Kind::Membership(membership),
            Kind::Membership(program),
            Kind::Metric(metric()),
            Kind::Certificate(certificate()),
            Kind::Certificate(v1::CertificateProbe {
                file: String::new(),
                min_remaining: None,
                ..certificate()
            }),
            Kind::Alerts(alerts()),
            Kind::Expression(v1::ExpressionProbe { expr: "probes.up.pass".into() }),
        ];
        for kind in kinds {
            let probe = read_probe(v1::ProbeSpec { kind: Some(kind), ..http("http://h") }).unwrap();
            assert_eq!(read_probe(write_probe(&probe)), Ok(probe));
        }
    }

    #[test]
    fn a_membership_is_told_by_a_url_or_by_a_program_here() {
        let read = |from_peer, url: &str, argv: &[&str]| {
            let probe = v1::MembershipProbe {
                url: url.into(),
                argv: argv.iter().map(|word| (*word).to_owned()).collect(),
                members: "members".into(),
                key: "node".into(),
                this: "${node}".into(),
                role: "role".into(),
                ..Default::default()
            };
            let kind = Some(Kind::Membership(probe));
            read_probe(v1::ProbeSpec { kind, from_peer, ..http("http://h") }).map_err(|i| i.field)
        };
        assert!(read(true, "http://h/members", &[]).is_ok() && read(false, "", &["/bin/status"]).is_ok());
        assert_eq!(read(false, "", &[]), Err("membership.url".into()));
        assert_eq!(read(false, "http://h/members", &["/bin/status"]), Err("membership.argv".into()));
        assert_eq!(read(false, "", &["x"; 65]), Err("membership.argv".into()));
        assert_eq!(read(true, "", &["/bin/status"]), Err("from_peer".into()));
    }

    fn certificate() -> v1::CertificateProbe {
        v1::CertificateProbe {
            address: "${node}:8443".into(),
            server_name: "ledger.example".into(),
            min_remaining: Some(write_duration(DurationMs::from_secs(7 * 86_400))),
            file: "/etc/ledger/tls.pem".into(),
        }
    }

    #[test]
    fn a_certificate_is_looked_at_by_a_name_and_its_file_on_its_own_host() {
        let field = |from_peer, change: fn(&mut v1::CertificateProbe)| {
            let mut probe = certificate();
            change(&mut probe);
            let kind = Some(Kind::Certificate(probe));
            read_probe(v1::ProbeSpec { kind, from_peer, ..http("http://h") }).map_err(|i| i.field)
        };
        assert_eq!(field(false, |c| c.address.clear()), Err("certificate.address".into()));
        assert_eq!(field(false, |c| c.server_name.clear()), Err("certificate.server_name".into()));
        assert_eq!(field(false, |c| c.file = "tls.pem".into()), Err("certificate.file".into()));
        assert_eq!(field(true, |_| ()), Err("from_peer".into()));
        assert!(field(true, |c| c.file.clear()).is_ok());
    }

    fn alerts() -> v1::AlertsProbe {
        v1::AlertsProbe {
            url: "http://h:9093/alerts".into(),
            matchers: vec!["severity=critical".into(), "instance=~\"${node}:.*\"".into()],
        }
    }

    #[test]
    fn alerts_are_asked_for_over_http_and_by_a_matcher() {
        let field = |change: fn(&mut v1::AlertsProbe)| {
            let mut probe = alerts();
            change(&mut probe);
            let kind = Some(Kind::Alerts(probe));
            read_probe(v1::ProbeSpec { kind, from_peer: true, ..http("http://h") }).map_err(|i| i.field)
        };
        assert!(field(|_| ()).is_ok());
        assert_eq!(field(|a| a.url = "https://h:9093".into()), Err("alerts.url".into()));
        assert_eq!(field(|a| a.url.push_str("/?silenced=true")), Err("alerts.url".into()));
        assert_eq!(field(|a| a.matchers.clear()), Err("alerts.matchers".into()));
        assert_eq!(field(|a| a.matchers.push("critical".into())), Err("alerts.matchers[2]".into()));
        assert_eq!(field(|a| a.matchers = vec!["a=b".into(); 17]), Err("alerts.matchers".into()));
    }

    fn metric() -> v1::MetricProbe {
        v1::MetricProbe {
            url: "http://h:1/metrics".into(),
            metric: "errors_total".into(),
            labels: BTreeMap::from([("code".to_owned(), "500".to_owned())]),
            rate: true,
            condition: Some(v1::MetricCondition { op: "<".into(), value: 0.8 }),
            baseline: Some(v1::MetricBaseline {
                max_increase_percent: Some(50),
                max_decrease_percent: None,
                min_absolute: 0.05,
            }),
        }
    }

    #[test]
    fn a_metric_that_says_nothing_is_refused() {
        let field = |change: fn(&mut v1::MetricProbe)| {
            let mut probe = metric();
            change(&mut probe);
            read_probe(v1::ProbeSpec { kind: Some(Kind::Metric(probe)), ..http("http://h") })
                .unwrap_err()
                .field
        };
        assert_eq!(field(|m| m.metric.clear()), "metric.metric");
        assert_eq!(field(|m| m.url = "ftp://h".into()), "metric.url");
        assert_eq!(field(|m| m.condition.as_mut().unwrap().op = "~".into()), "metric.condition.op");
        assert_eq!(field(|m| m.condition.as_mut().unwrap().value = f64::NAN), "metric.condition.value");
        let none = |m: &mut v1::MetricProbe| m.baseline = Some(v1::MetricBaseline::default());
        assert_eq!(field(none), "metric.baseline.max_increase_percent");
        let more = |m: &mut v1::MetricProbe| m.baseline.as_mut().unwrap().max_decrease_percent = Some(101);
        assert_eq!(field(more), "metric.baseline.max_decrease_percent");
        let below = |m: &mut v1::MetricProbe| m.baseline.as_mut().unwrap().min_absolute = -1.0;
        assert_eq!(field(below), "metric.baseline.min_absolute");
        let many = |m: &mut v1::MetricProbe| {
            m.labels = (0..17).map(|n| (format!("l{n}"), String::new())).collect();
        };
        assert_eq!(field(many), "metric.labels");
    }

    #[test]
    fn bad_probes_name_their_field() {
        let field = |probe| read_probe(probe).unwrap_err().field;
        assert_eq!(field(v1::ProbeSpec { kind: None, ..http("http://h") }), "kind");
        assert_eq!(field(http("file:///etc/shadow")), "http.url");
        assert_eq!(field(http("http://h/\r\nX: y")), "http.url");
        assert_eq!(field(v1::ProbeSpec { name: "Bad Name".into(), ..http("http://h") }), "name");
        assert_eq!(field(v1::ProbeSpec { passes: 1_001, ..http("http://h") }), "passes");
        let fast = Some(prost_types::Duration { seconds: 0, nanos: 1 });
        assert_eq!(field(v1::ProbeSpec { interval: fast, ..http("http://h") }), "interval");
        let exec = Some(Kind::Exec(v1::ExecProbe { argv: vec!["/bin/true".into()] }));
        assert_eq!(field(v1::ProbeSpec { kind: exec, from_peer: true, ..http("http://h") }), "from_peer");
    }
}
