//! Probes: one named measurement of health each, as a service declares it. Running them is the agent's work.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::alert::AlertMatcher;
use crate::id::ProbeName;
use crate::number::Millionths;
use crate::time::DurationMs;

words! {
    /// How a JSON value is compared.
    pub enum Comparison {
        /// Equal.
        Eq = "==",
        /// Not equal.
        Ne = "!=",
        /// Less.
        Lt = "<",
        /// Less or equal.
        Le = "<=",
        /// Greater.
        Gt = ">",
        /// Greater or equal.
        Ge = ">=",
    }
}

/// One comparison on a JSON answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JsonCheck {
    /// Dotted path into the document, array indexes as numbers: `status.peers.0.state`.
    pub path: String,
    /// The comparison.
    pub op: Comparison,
    /// The value to compare with, as JSON text: `"ok"`, `10`, `true`.
    pub value: String,
}

/// How to find one member in a JSON membership document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembershipPaths {
    /// Dotted path of the array of members.
    pub members: String,
    /// Field of a member that names it.
    pub key: String,
    /// What that field holds for this instance, as text.
    pub this: String,
    /// Field with the role (`leader`, `voter`, `learner`, any case).
    pub role: String,
    /// Field, a boolean, that says whether the member serves; empty when there is none.
    #[serde(default)]
    pub serving: String,
    /// Field with the lag, a number; empty when there is none.
    #[serde(default)]
    pub lag: String,
    /// Largest lag that still counts as caught up.
    #[serde(default)]
    pub max_lag: u64,
    /// Field with the position in the application's own log, a number that only grows; empty when there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub position: String,
}

/// One comparison with a number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetricCheck {
    /// The comparison.
    pub op: Comparison,
    /// The number to compare with.
    pub value: Millionths,
}

/// How far a metric may have moved from where it was before a change. At least one side is limited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline {
    /// Most percent above the value before; none for no limit upwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_increase_percent: Option<u32>,
    /// Most percent below the value before; none for no limit downwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_decrease_percent: Option<u32>,
    /// A difference of at most this much is always within: percent of a value near zero mean nothing.
    #[serde(default)]
    pub min_absolute: Millionths,
}

/// Which number of a Prometheus page is read, and what is asked of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetricProbe {
    /// `http://host:port/path`.
    pub url: String,
    /// Name of the metric, as a sample line begins.
    pub metric: String,
    /// Labels that the series must have, with exactly these values; it may have others.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The number is a counter: what is measured is its increase per second between two readings.
    #[serde(default)]
    pub rate: bool,
    /// What must hold of the value; without it the probe passes when the value could be read.
    #[serde(default)]
    pub condition: Option<MetricCheck>,
    /// What a gate asks of the value, compared with the one before the change.
    #[serde(default)]
    pub baseline: Option<Baseline>,
}

/// What is asked of the certificate that a server shows. Whether somebody trusts its issuer is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateProbe {
    /// `host:port` of a TLS 1.3 server.
    pub address: String,
    /// The name that it must be for; also told to the server.
    pub server_name: String,
    /// It must be valid for at least this long from now on.
    #[serde(default, skip_serializing_if = "DurationMs::is_zero")]
    pub min_remaining: DurationMs,
    /// A PEM file on the instance's own host: its first certificate must be the one that is shown; empty for none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub file: String,
}

/// Which alerts must not fire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertsProbe {
    /// `http://host:port`, and a path if Alertmanager is served below one.
    pub url: String,
    /// Which alerts: all of these must hold of one. At least one, or a stranger's alert would hold every gate.
    pub matchers: Vec<AlertMatcher>,
}

/// What a probe does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeKind {
    /// HTTP GET; no redirect is followed; the body is read up to 1 MiB.
    Http {
        /// `http://host:port/path`.
        url: String,
        /// Accepted status codes; empty means 200 alone.
        #[serde(default)]
        status: Vec<u16>,
        /// Text the body must contain; empty for none.
        #[serde(default)]
        body_contains: String,
        /// Comparisons that must all hold.
        #[serde(default)]
        json: Vec<JsonCheck>,
    },
    /// A TCP connection is accepted.
    Tcp {
        /// `host:port`.
        address: String,
    },
    /// A program, run by the node itself if its policy lists it; exit code 0 passes.
    Exec {
        /// Program and arguments; never a shell.
        argv: Vec<String>,
    },
    /// The instance's unit is active, without a restart, for a time.
    UnitSoak {
        /// How long it must have been up without a restart.
        min_up: DurationMs,
    },
    /// The member's place in a JSON membership document.
    Membership {
        /// `http://host:port/path`; empty where a program tells.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        url: String,
        /// Program and arguments that print the document, run as those of `Exec`; empty where a URL is asked.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        argv: Vec<String>,
        /// Where things are in the document.
        paths: MembershipPaths,
    },
    /// One number of a Prometheus text page; exactly one series must match.
    Metric(MetricProbe),
    /// A TLS handshake, and a look at the certificate that the server shows. Gates ask for it; how the instance stands does not
    /// rest on it, for it serves all the same while its certificate is about to be renewed.
    Certificate(CertificateProbe),
    /// No alert that is chosen fires, as an Alertmanager tells. Gates ask for it; how the instance stands does not rest on it: an
    /// alert tells of what was, and who cannot be asked for alerts says nothing of the instance.
    Alerts(AlertsProbe),
    /// A CEL expression over the newest readings of the instance's other probes; it must be `true`.
    Expression {
        /// `probes.errors.value < 1.0 && probes.health.pass`.
        expr: String,
    },
}

impl ProbeKind {
    /// How far the value may have moved, where a gate is to compare it.
    #[must_use]
    pub const fn baseline(&self) -> Option<&Baseline> {
        match self {
            Self::Metric(MetricProbe { baseline, .. }) => baseline.as_ref(),
            Self::Http { .. }
            | Self::Tcp { .. }
            | Self::Exec { .. }
            | Self::UnitSoak { .. }
            | Self::Membership { .. }
            | Self::Certificate(_)
            | Self::Alerts(_)
            | Self::Expression { .. } => None,
        }
    }

    /// Whether an instance that it does not pass counts as one that does not do its work.
    #[must_use]
    pub const fn tells_health(&self) -> bool {
        match self {
            Self::Certificate(_) | Self::Alerts(_) => false,
            Self::Http { .. }
            | Self::Tcp { .. }
            | Self::Exec { .. }
            | Self::UnitSoak { .. }
            | Self::Membership { .. }
            | Self::Metric(_)
            | Self::Expression { .. } => true,
        }
    }

    /// Whether only the instance's own node can run it.
    #[must_use]
    pub const fn is_local(&self) -> bool {
        match self {
            Self::Exec { .. } | Self::UnitSoak { .. } => true,
            Self::Certificate(CertificateProbe { file, .. }) => !file.is_empty(),
            Self::Membership { argv, .. } => !argv.is_empty(),
            Self::Http { .. }
            | Self::Tcp { .. }
            | Self::Metric(_)
            | Self::Alerts(_)
            | Self::Expression { .. } => false,
        }
    }
}

/// A probe of a service, run against each instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeSpec {
    /// Its name, unique in the service.
    pub name: ProbeName,
    /// What it does. Texts may hold `${node}`, `${service}` and the instance's own variables; `desired` fills them in.
    pub kind: ProbeKind,
    /// Time between two readings.
    pub interval: DurationMs,
    /// Longest time one reading may take.
    pub timeout: DurationMs,
    /// Consecutive passes that make it stable.
    pub passes: u32,
    /// Also run by one other node, which must agree before a gate passes. Not for `Exec` and `UnitSoak`, nor for
    /// `Certificate` with a file or `Membership` with a program.
    #[serde(default)]
    pub from_peer: bool,
}
