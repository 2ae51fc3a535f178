//! The alerts probe: whether an Alertmanager knows of an alert that fires. Pure; `exec.rs` asks.
//!
//! Must never: take silence for good news. Whatever is not Alertmanager's own answer to this question says that nobody could
//! look, and nothing of the instance.

use std::collections::BTreeSet;

use quorate_model::Millionths;
use quorate_model::maintenance::SILENCED_BY;
use quorate_model::probe::AlertsProbe;
use serde::Deserialize;

use super::Reading;
use crate::host::fetch::{HttpAnswer, escape};

/// Names of alerts that a detail tells; the line has 200 characters.
const NAMES_SHOWN: usize = 5;
/// Longest name that is told whole: so many of them, and how many more there are, fit into that line.
const NAME_MAX_CHARS: usize = 30;

/// Most silences that are looked at in one round: more than that hide something from everybody.
const SILENCES_MAX: usize = 32;

/// What is read of an alert; it has more.
#[derive(Deserialize)]
pub(super) struct Alert {
    labels: Labels,
    #[serde(default)]
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(default)]
    silenced_by: Vec<String>,
}

impl Alert {
    /// Whether somebody knows of it: what only an operation has silenced, nobody has looked at.
    fn is_known(&self, ours: &BTreeSet<String>) -> bool {
        self.status.silenced_by.iter().any(|silence| !ours.contains(silence))
    }
}

/// What is read of a silence.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Silence {
    #[serde(default)]
    created_by: String,
}

#[derive(Deserialize)]
struct Labels {
    #[serde(default)]
    alertname: String,
}

/// What is asked for: alerts that fire and that no other alert inhibits. Those that are silenced are asked for, too: a silence of
/// an operation must not make its own gate pass.
pub(super) fn url(wanted: &AlertsProbe) -> String {
    let AlertsProbe { url, matchers } = wanted;
    let base = url.trim_end_matches('/');
    let mut asked = format!("{base}/api/v2/alerts?active=true&silenced=true&inhibited=false");
    for matcher in matchers {
        asked.push_str("&filter=");
        escape(&mut asked, &matcher.to_string());
    }
    asked
}

/// Where a silence is told.
pub(super) fn silence_url(wanted: &AlertsProbe, silence: &str) -> String {
    let mut asked = format!("{}/api/v2/silence/", wanted.url.trim_end_matches('/'));
    escape(&mut asked, silence);
    asked
}

/// The alerts that came; a reading that saw nothing when none can be told.
pub(super) fn read(answer: &HttpAnswer) -> Result<Vec<Alert>, Reading> {
    match answer.status {
        200 => {}
        400 => {
            let why = String::from_utf8_lossy(&answer.body);
            return Err(Reading::blind(&format!("Alertmanager refuses the matchers: {why}")));
        }
        404 | 410 => {
            let status = answer.status;
            let why = format!("status {status}: there is no Alertmanager API v2 at this URL");
            return Err(Reading::blind(&why));
        }
        status => return Err(Reading::blind(&format!("status {status}: Alertmanager did not answer"))),
    }
    serde_json::from_slice(&answer.body)
        .map_err(|e| Reading::blind(&format!("this is no list of alerts: {e}")))
}

/// The silences that hide any of them, to be asked whose they are.
pub(super) fn silences(alerts: &[Alert]) -> Result<BTreeSet<String>, String> {
    let all: BTreeSet<String> =
        alerts.iter().flat_map(|alert| alert.status.silenced_by.iter().cloned()).collect();
    if all.len() > SILENCES_MAX {
        return Err(format!("more than {SILENCES_MAX} silences hide these alerts"));
    }
    Ok(all)
}

/// Whether a silence is one that an operation has set. One that is gone meanwhile is nobody's: the next round sees it.
pub(super) fn is_ours(answer: &HttpAnswer) -> Result<bool, String> {
    match answer.status {
        200 => {}
        404 => return Ok(true),
        status => return Err(format!("status {status}: Alertmanager did not tell whose a silence is")),
    }
    let silence: Silence =
        serde_json::from_slice(&answer.body).map_err(|e| format!("this is no silence: {e}"))?;
    Ok(silence.created_by == SILENCED_BY)
}

/// Judges what came. `ours` are the silences that operations have set.
pub(super) fn judge(alerts: &[Alert], ours: &BTreeSet<String>) -> Reading {
    let alerts: Vec<&Alert> = alerts.iter().filter(|alert| !alert.is_known(ours)).collect();
    let mut reading = match alerts.len() {
        0 => Reading::new(true, "no alert fires"),
        1 => Reading::new(false, &format!("1 alert fires: {}", names(&alerts))),
        many => Reading::new(false, &format!("{many} alerts fire: {}", names(&alerts))),
    };
    let count = i64::try_from(alerts.len()).unwrap_or(i64::MAX);
    reading.value = count.to_string();
    reading.number = Some(Millionths(count.saturating_mul(1_000_000)));
    reading
}

/// Each name once, in their order, and how many more there are.
fn names(alerts: &[&Alert]) -> String {
    let names: BTreeSet<&str> = alerts.iter().map(|a| a.labels.alertname.as_str()).collect();
    let told = |name: &&str| match *name {
        "" => "(without a name)".to_owned(),
        name => name.chars().take(NAME_MAX_CHARS).collect(),
    };
    let shown: Vec<String> = names.iter().take(NAMES_SHOWN).map(told).collect();
    let more = names.len().saturating_sub(NAMES_SHOWN);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{}{more}", shown.join(", "))
}
