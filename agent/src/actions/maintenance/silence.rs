//! A silence at an Alertmanager (API v2): set before an instance is worked on, ended after it.
//!
//! Job: at most one silence of ours for one operation and instance is there, it names both, and it ends by itself if nobody
//! renews it. Must never: end a silence that somebody else has set, or believe that one is there which Alertmanager does not
//! show as active.

use std::time::Duration;

use http::Method;
use quorate_common::with_causes;
use quorate_model::alert::MatchOp;
use quorate_model::maintenance::SILENCED_BY;
use quorate_model::{DurationMs, InstanceId, OperationId, SilenceSpec, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;

use crate::host::fetch::{self, HttpAnswer, Question};

/// Longest wait for one answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Longest list of silences that is read: Alertmanager keeps those that have ended for days, some 400 bytes each.
const LIST_MAX_BYTES: usize = 16 * 1024 * 1024;
/// Most silences of ours that are ended at once; there is one, or a second one that a crash has left.
const OURS_MAX: usize = 16;
/// Longest reason in a silence's comment, in characters.
const REASON_MAX_CHARS: usize = 200;
/// How far Alertmanager's clock may be behind this one: a silence that begins in its future is not active.
const SKEW_MS: i64 = 24 * 3_600 * 1_000;

/// A silence is set for so long and renewed in time by its host: it ends soon after a host that has died.
pub(crate) const SPAN: DurationMs = DurationMs::from_secs(300);

/// As Alertmanager reads and writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Matcher {
    name: String,
    value: String,
    is_regex: bool,
    /// Older ones than 0.22 do not write it, and know equality only.
    #[serde(default = "yes")]
    is_equal: bool,
}

const fn yes() -> bool {
    true
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Wanted<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    matchers: Vec<Matcher>,
    starts_at: String,
    ends_at: String,
    created_by: &'a str,
    comment: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    id: String,
    status: Status,
    starts_at: String,
    #[serde(default)]
    created_by: String,
    #[serde(default)]
    comment: String,
}

#[derive(Debug, Deserialize)]
struct Status {
    state: String,
}

#[derive(Debug, Deserialize)]
struct Posted {
    #[serde(rename = "silenceID")]
    id: String,
}

/// What is there already.
#[derive(Debug)]
pub(crate) struct Seen(Option<Found>);

impl Seen {
    /// Whether there is one that has not ended. Nobody is silenced anew whose silence somebody has ended.
    pub(crate) const fn is_there(&self) -> bool {
        self.0.is_some()
    }

    /// What its comment says beside the mark.
    pub(crate) fn reason(&self, silence: &Silence<'_>) -> &str {
        let comment = self.0.as_ref().map_or("", |found| found.comment.as_str());
        comment.strip_prefix(&silence.mark).unwrap_or_default().trim()
    }
}

impl Found {
    fn has_ended(&self) -> bool {
        self.status.state == "expired"
    }
}

/// The silence of one instance for one operation.
pub(crate) struct Silence<'a> {
    spec: &'a SilenceSpec,
    /// Its comment begins so: by this it is found again, whoever has died meanwhile.
    mark: String,
}

impl<'a> Silence<'a> {
    pub(crate) fn new(spec: &'a SilenceSpec, operation: &OperationId, instance: &InstanceId) -> Self {
        Self { spec, mark: format!("{SILENCED_BY} {operation} {instance}:") }
    }

    /// Looks for it. Nothing is asked of an Alertmanager that does not even answer this.
    pub(crate) async fn look(&self) -> Result<Seen, String> {
        let there = self.find().await?;
        Ok(Seen(there.into_iter().find(|found| !found.has_ended())))
    }

    /// Has it there, active, until then; one that was seen is renewed. Says which it is.
    pub(crate) async fn set(
        &self,
        seen: &Seen,
        reason: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<String, String> {
        self.post(seen.0.as_ref(), reason, now, until).await
    }

    /// Ends it, and looks whether it has ended. Says how many there were.
    pub(crate) async fn end(&self) -> Result<usize, String> {
        let there = self.find().await?;
        let open: Vec<&Found> = there.iter().filter(|found| !found.has_ended()).take(OURS_MAX).collect();
        for found in &open {
            let path = format!("silence/{}", escaped(&found.id));
            let answer = self.ask(&path, Question { method: Method::DELETE, ..Question::default() }).await?;
            good(&answer, "ending a silence")?;
        }
        if !open.is_empty() && self.find().await?.iter().any(|found| !found.has_ended()) {
            return Err("Alertmanager says that it has ended a silence, and shows it as active".to_owned());
        }
        Ok(open.len())
    }

    async fn post(
        &self,
        old: Option<&Found>,
        reason: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<String, String> {
        let reason: String = reason.chars().filter(|c| !c.is_control()).take(REASON_MAX_CHARS).collect();
        let wanted = Wanted {
            id: old.map(|found| found.id.as_str()),
            matchers: self.matchers(),
            // Alertmanager renews in place what begins when it did; of a new one it makes the beginning its own now.
            starts_at: old
                .map_or_else(|| Timestamp(now.0.saturating_sub(SKEW_MS)).utc(), |f| f.starts_at.clone()),
            ends_at: until.utc(),
            created_by: SILENCED_BY,
            comment: format!("{} {reason}", self.mark),
        };
        let json = Some(serde_json::to_vec(&wanted).map_err(|e| with_causes(&e))?);
        let question = Question { method: Method::POST, json, ..Question::default() };
        let answer = self.ask("silences", question).await?;
        good(&answer, "a silence")?;
        let posted: Posted = read(&answer)?;
        let answer = self.ask(&format!("silence/{}", escaped(&posted.id)), Question::default()).await?;
        good(&answer, "looking at the silence")?;
        let found: Found = read(&answer)?;
        if found.status.state != "active" {
            return Err(format!("Alertmanager shows the silence as {}, not as active", found.status.state));
        }
        Ok(posted.id)
    }

    /// Those that carry our mark, ended or not.
    async fn find(&self) -> Result<Vec<Found>, String> {
        let mut path = String::from("silences");
        let matchers = &self.spec.matchers;
        // A filter that asks for equality is compared with a silence's own matcher of that label, by every version; what they
        // make of expressions differs.
        for matcher in matchers.iter().filter(|m| m.op == MatchOp::Equal && !m.value.is_empty()) {
            if matchers.iter().filter(|other| other.label == matcher.label).count() > 1 {
                continue;
            }
            path.push(if path.contains('?') { '&' } else { '?' });
            path.push_str("filter=");
            fetch::escape(&mut path, &matcher.to_string());
        }
        let question = Question { answer_max: LIST_MAX_BYTES, ..Question::default() };
        let answer = self.ask(&path, question).await?;
        good(&answer, "its silences")?;
        let all: Vec<Found> = read(&answer)?;
        let ours = |found: &Found| found.created_by == SILENCED_BY && found.comment.starts_with(&self.mark);
        Ok(all.into_iter().filter(ours).collect())
    }

    fn matchers(&self) -> Vec<Matcher> {
        let each = self.spec.matchers.iter().map(|matcher| {
            let (is_regex, is_equal) = match matcher.op {
                MatchOp::Equal => (false, true),
                MatchOp::NotEqual => (false, false),
                MatchOp::Like => (true, true),
                MatchOp::Unlike => (true, false),
            };
            Matcher { name: matcher.label.clone(), value: matcher.value.clone(), is_regex, is_equal }
        });
        each.collect()
    }

    async fn ask(&self, path: &str, question: Question) -> Result<HttpAnswer, String> {
        let url = format!("{}/api/v2/{path}", self.spec.url.trim_end_matches('/'));
        let target = fetch::http_target(&url)?;
        let asked = async {
            let stream = TcpStream::connect((target.host.as_str(), target.port)).await?;
            fetch::ask(stream, &target, question).await
        };
        match tokio::time::timeout(ANSWER_WITHIN, asked).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(format!("Alertmanager at {}: {}", self.spec.url, with_causes(&error))),
            Err(_) => {
                Err(format!("Alertmanager at {} did not answer within {ANSWER_WITHIN:?}", self.spec.url))
            }
        }
    }
}

fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    fetch::escape(&mut escaped, text);
    escaped
}

fn good(answer: &HttpAnswer, what: &str) -> Result<(), String> {
    if answer.status == 200 {
        return Ok(());
    }
    let why: String =
        String::from_utf8_lossy(&answer.body).chars().filter(|c| !c.is_control()).take(200).collect();
    Err(format!("Alertmanager answered {} to {what}: {why}", answer.status))
}

fn read<T: serde::de::DeserializeOwned>(answer: &HttpAnswer) -> Result<T, String> {
    serde_json::from_slice(&answer.body).map_err(|e| format!("Alertmanager's answer is not understood: {e}"))
}

#[cfg(test)]
mod tests;
