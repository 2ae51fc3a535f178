//! The alerts probe: whether an Alertmanager knows of an alert that fires. Pure; `exec.rs` asks.
//!
//! Must never: take silence for good news. Whatever is not Alertmanager's own answer to this question says that nobody could
//! look, and nothing of the instance.

use std::fmt::Write as _;

use quorate_model::Millionths;
use quorate_model::probe::AlertsProbe;
use serde::Deserialize;

use super::Reading;
use super::plan::HttpAnswer;

/// Names of alerts that a detail tells; the line has 200 characters.
const NAMES_SHOWN: usize = 5;
/// Longest name that is told whole: so many of them, and how many more there are, fit into that line.
const NAME_MAX_CHARS: usize = 30;

/// What is read of an alert; it has more.
#[derive(Deserialize)]
struct Alert {
    labels: Labels,
}

#[derive(Deserialize)]
struct Labels {
    #[serde(default)]
    alertname: String,
}

/// What is asked for: alerts that fire, that nobody has silenced and that no other alert inhibits.
pub(super) fn url(wanted: &AlertsProbe) -> String {
    let AlertsProbe { url, matchers } = wanted;
    let base = url.trim_end_matches('/');
    let mut asked = format!("{base}/api/v2/alerts?active=true&silenced=false&inhibited=false");
    for matcher in matchers {
        asked.push_str("&filter=");
        for byte in matcher.to_string().bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                asked.push(char::from(byte));
            } else {
                // Writing to a String does not fail.
                let _ = write!(asked, "%{byte:02X}");
            }
        }
    }
    asked
}

/// Judges what came.
pub(super) fn judge(answer: &HttpAnswer) -> Reading {
    match answer.status {
        200 => {}
        400 => {
            let why = String::from_utf8_lossy(&answer.body);
            return Reading::blind(&format!("Alertmanager refuses the matchers: {why}"));
        }
        404 | 410 => {
            let status = answer.status;
            return Reading::blind(&format!("status {status}: there is no Alertmanager API v2 at this URL"));
        }
        status => return Reading::blind(&format!("status {status}: Alertmanager did not answer")),
    }
    let alerts: Vec<Alert> = match serde_json::from_slice(&answer.body) {
        Ok(alerts) => alerts,
        Err(e) => return Reading::blind(&format!("this is no list of alerts: {e}")),
    };
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
fn names(alerts: &[Alert]) -> String {
    let names: std::collections::BTreeSet<&str> =
        alerts.iter().map(|a| a.labels.alertname.as_str()).collect();
    let told = |name: &&str| match *name {
        "" => "(without a name)".to_owned(),
        name => name.chars().take(NAME_MAX_CHARS).collect(),
    };
    let shown: Vec<String> = names.iter().take(NAMES_SHOWN).map(told).collect();
    let more = names.len().saturating_sub(NAMES_SHOWN);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{}{more}", shown.join(", "))
}
