//! The verdicts: specification and answer in, reading out. Pure.

use quorate_model::observe::{LISTED_KEY_MAX_BYTES, LISTED_MAX};
use quorate_model::probe::{JsonCheck, MembershipPaths};
use quorate_model::service::UnitStatus;
use quorate_model::{InstanceRole, Listed};
use serde_json::Value;

use super::{Reading, json};
use crate::host::fetch::HttpAnswer;

/// Longest detail of a reading, in characters: one line of a screen.
const DETAIL_MAX_CHARS: usize = 200;

/// Text made fit for a terminal and a log: one line, bounded, nothing invisible.
#[must_use]
pub(super) fn one_line(text: &str) -> String {
    quorate_common::telemetry::sanitize_to(text, DETAIL_MAX_CHARS).to_string()
}

/// Judges an HTTP probe.
#[must_use]
pub fn judge_http(status: &[u16], body_contains: &str, checks: &[JsonCheck], answer: &HttpAnswer) -> Reading {
    let accepted = if status.is_empty() { answer.status == 200 } else { status.contains(&answer.status) };
    let mut reading = if !accepted {
        Reading::new(false, &format!("status {}", answer.status))
    } else if !contains(&answer.body, body_contains.as_bytes()) {
        Reading::new(false, &format!("status {}, the body does not contain {body_contains:?}", answer.status))
    } else {
        judge_json(checks, answer)
    };
    if reading.value.is_empty() {
        reading.value = answer.status.to_string();
    }
    reading.status = Some(answer.status);
    reading
}

fn contains(body: &[u8], text: &[u8]) -> bool {
    text.is_empty() || body.windows(text.len()).any(|w| w == text)
}

fn judge_json(checks: &[JsonCheck], answer: &HttpAnswer) -> Reading {
    let status = answer.status;
    if checks.is_empty() {
        return Reading::new(true, &format!("status {status}"));
    }
    let document: Value = match serde_json::from_slice(&answer.body) {
        Ok(document) => document,
        Err(e) => return Reading::new(false, &format!("status {status}, the body is no JSON: {e}")),
    };
    let mut told = String::new();
    let mut value = String::new();
    for check in checks {
        let op = check.op;
        let Ok(want) = serde_json::from_str::<Value>(&check.value) else {
            return Reading::new(
                false,
                &format!("{:?} in the probe of {} is no JSON value", check.value, check.path),
            );
        };
        let Some(seen) = json::at(&document, &check.path) else {
            return Reading::new(false, &format!("there is no {} in the answer", check.path));
        };
        value = seen.to_string();
        let holds = match json::holds(seen, op, &want) {
            Some(holds) => holds,
            None => {
                return Reading::new(
                    false,
                    &format!("{} = {value} can not be compared by {op} {want}", check.path),
                );
            }
        };
        if !holds {
            let mut reading = Reading::new(false, &format!("{} = {value}, wanted {op} {want}", check.path));
            reading.value = one_line(&value);
            return reading;
        }
        if !told.is_empty() {
            told.push_str(", ");
        }
        told.push_str(&format!("{} = {value}", check.path));
    }
    let mut reading = Reading::new(true, &told);
    reading.value = one_line(&value);
    reading
}

/// The role a word means, in any case.
#[must_use]
pub fn role_of(word: &str) -> InstanceRole {
    match word.to_ascii_lowercase().as_str() {
        "leader" => InstanceRole::Leader,
        "voter" | "follower" | "candidate" => InstanceRole::Voter,
        "learner" | "nonvoter" | "non-voter" => InstanceRole::Learner,
        "primary" | "master" => InstanceRole::Primary,
        "standby" | "secondary" | "replica" => InstanceRole::Standby,
        "observer" | "witness" => InstanceRole::Observer,
        _ => InstanceRole::Unknown,
    }
}

/// Judges the answer of a server that tells of its members.
#[must_use]
pub fn judge_membership(paths: &MembershipPaths, answer: &HttpAnswer) -> Reading {
    if answer.status != 200 {
        return Reading::new(false, &format!("status {}", answer.status));
    }
    judge_members(paths, &answer.body)
}

/// Judges a membership document: this member is in it, serves, and lags no more than it may. Its role is told, not judged:
/// whether a learner counts is the group's matter.
#[must_use]
pub fn judge_members(paths: &MembershipPaths, document: &[u8]) -> Reading {
    let fail = |text: &str| Reading::new(false, text);
    let document: Value = match serde_json::from_slice(document) {
        Ok(document) => document,
        Err(e) => return fail(&format!("the answer is no JSON: {e}")),
    };
    let Some(Value::Array(members)) = json::at(&document, &paths.members) else {
        return fail(&format!("there is no array {:?} in the answer", paths.members));
    };
    let key = |member: &Value| json::at(member, &paths.key).and_then(json::text);
    let role = |member: &Value| {
        json::at(member, &paths.role).and_then(json::text).map_or(InstanceRole::Unknown, |w| role_of(&w))
    };
    let leads = |m: &&Value| matches!(role(m), InstanceRole::Leader | InstanceRole::Primary);
    let leader = members.iter().find(leads).and_then(key).map(|k| one_line(&k)).unwrap_or_default();
    let mut mine = members.iter().filter(|m| key(m).as_deref() == Some(paths.this.as_str()));
    let mut reading = match (mine.next(), mine.next()) {
        (None, _) => fail(&format!("{} is not among {} members", paths.this, members.len())),
        (Some(_), Some(_)) => fail(&format!("{} is there more than once", paths.this)),
        (Some(member), None) => judge_member(paths, member, role(member)),
    };
    reading.leader = leader;
    reading.listed = listed(members, key, role);
    reading
}

/// Whom the document lists, as long as all of it can be told: half a list would say that the others are gone.
fn listed(
    members: &[Value],
    key: impl Fn(&Value) -> Option<String>,
    role: impl Fn(&Value) -> InstanceRole,
) -> Vec<Listed> {
    if members.len() > LISTED_MAX {
        return Vec::new();
    }
    let one = |member: &Value| {
        let key = key(member).filter(|key| key.len() <= LISTED_KEY_MAX_BYTES)?;
        Some(Listed { key, role: role(member) })
    };
    members.iter().map(one).collect::<Option<Vec<_>>>().unwrap_or_default()
}

fn judge_member(paths: &MembershipPaths, member: &Value, role: InstanceRole) -> Reading {
    let lag = if paths.lag.is_empty() { None } else { json::at(member, &paths.lag).and_then(json::count) };
    let serving = match paths.serving.as_str() {
        "" => Some(true),
        path => json::at(member, path).and_then(Value::as_bool),
    };
    let word = role.as_str().to_ascii_lowercase();
    let (ok, text) = match (serving, lag) {
        _ if role == InstanceRole::Unknown => (false, format!("its role at {:?} is not known", paths.role)),
        (None, _) => (false, format!("{word}, there is no boolean {:?}", paths.serving)),
        (Some(false), Some(lag)) => (false, format!("{word}, not serving, lag {lag}")),
        (Some(false), None) => (false, format!("{word}, not serving")),
        (Some(true), None) if !paths.lag.is_empty() => {
            (false, format!("{word}, there is no number {:?}", paths.lag))
        }
        (Some(true), None) => (true, format!("{word}, serving")),
        (Some(true), Some(lag)) if lag > paths.max_lag => {
            (false, format!("{word}, lag {lag} (at most {})", paths.max_lag))
        }
        (Some(true), Some(lag)) => (true, format!("{word}, serving, lag {lag}")),
    };
    let mut reading = Reading::new(ok, &text);
    (reading.role, reading.lag) = (role, lag);
    if !paths.position.is_empty() {
        reading.position = json::at(member, &paths.position).and_then(json::count);
    }
    reading.value = one_line(&word);
    reading
}

/// What a soak remembers of its unit: the run it first saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SoakStart {
    /// The run's identity: invocation id and start time.
    pub run: (String, u64),
    /// Restarts by the supervisor at that time.
    pub restarts: u32,
}

/// Judges a soak: active, the same run, no restart by the supervisor, for long enough. `up_ms` is how long this run has
/// been up. Returns what to remember for the next reading.
#[must_use]
pub fn judge_soak(
    min_up_ms: u64,
    before: Option<&SoakStart>,
    status: &UnitStatus,
    run: (String, u64),
    up_ms: u64,
) -> (Reading, Option<SoakStart>) {
    if !matches!(status.active.as_str(), "active" | "reloading") {
        let UnitStatus { active, sub, result, exit_status, .. } = status;
        let text = format!("{active} ({sub}), result {result}, exit status {exit_status}");
        return (Reading::new(false, &text), None);
    }
    let now = SoakStart { run, restarts: status.restarts };
    let changed = before.is_some_and(|b| b.run != now.run || b.restarts != now.restarts);
    let reading = if changed {
        Reading::new(false, &format!("a new run, restarts {}", status.restarts))
    } else if up_ms < min_up_ms {
        Reading::new(false, &format!("up for {up_ms} ms of {min_up_ms} ms"))
    } else {
        Reading::new(true, &format!("up for {} s, restarts {}", up_ms / 1_000, status.restarts))
    };
    let mut reading = reading;
    reading.value = up_ms.to_string();
    (reading, Some(now))
}

/// Judges a program's end.
#[must_use]
pub fn judge_exit(code: Option<i32>, how: &str, output: &str) -> Reading {
    let last = output.lines().map(str::trim).rfind(|l| !l.is_empty()).unwrap_or_default();
    let text = if last.is_empty() { how.to_owned() } else { format!("{how}: {last}") };
    let mut reading = Reading::new(code == Some(0), &text);
    reading.value = code.map(|c| c.to_string()).unwrap_or_default();
    reading
}
