//! What an Alertmanager may answer instead of what is hoped for. What a real one does is shown by the cluster's tests.

use quorate_model::alert::AlertMatcher;
use quorate_model::{InstanceId, NodeName, OperationId, ServiceName, SilenceSpec, Timestamp};

use super::Silence;
use crate::host::fetch::testing::{fixed, ok, scripted};

const NOW: Timestamp = Timestamp(1_700_000_000_000);
const UNTIL: Timestamp = Timestamp(1_700_000_300_000);

fn spec(at: std::net::SocketAddr) -> SilenceSpec {
    let matchers = ["instance=~\"node1:.*\"", "severity!=none", "job=a b", "x=1", "x=~\"1.*\""];
    let matchers = matchers.iter().map(|text| AlertMatcher::parse(text).expect("a matcher")).collect();
    SilenceSpec { url: format!("http://{at}/below/"), matchers, required: false }
}

fn silence(spec: &SilenceSpec) -> Silence<'_> {
    let instance = InstanceId {
        node: NodeName::new("node1").expect("a name"),
        service: ServiceName::new("ledger").expect("a name"),
    };
    Silence::new(spec, &OperationId::new("r-1").expect("an id"), &instance)
}

async fn set(spec: &SilenceSpec, reason: &str) -> Result<String, String> {
    let seen = silence(spec).look().await?;
    silence(spec).set(&seen, reason, NOW, UNTIL).await
}

fn one(state: &str, by: &str, comment: &str) -> String {
    format!(
        "{{\"id\":\"s-1\",\"status\":{{\"state\":\"{state}\"}},\"startsAt\":\"2023-11-14T00:00:00.000Z\",\
         \"createdBy\":\"{by}\",\"comment\":\"{comment}\",\"matchers\":[]}}"
    )
}

#[tokio::test]
async fn what_is_set_is_looked_at_and_carries_its_mark() {
    let answers = [ok("[]"), ok("{\"silenceID\":\"s-1\"}"), ok(&one("active", "quorate", "x"))];
    let (at, mut heads) = scripted(answers.to_vec()).await;
    let spec = spec(at);
    let id = set(&spec, "new\n\"disk\"").await.expect("it is set");
    assert_eq!(id, "s-1");
    let find = heads.recv().await.expect("it looked first");
    let line = "GET /below/api/v2/silences?filter=job%3D%22a%20b%22 HTTP/1.1";
    assert_eq!(find.lines().next(), Some(line));
    let post = heads.recv().await.expect("it posted");
    assert!(post.starts_with("POST /below/api/v2/silences HTTP/1.1"), "{post}");
    let body: serde_json::Value =
        serde_json::from_str(post.split("\r\n\r\n").nth(1).unwrap_or_default()).expect("JSON");
    let wanted = serde_json::json!({
        "matchers": [
            { "name": "instance", "value": "node1:.*", "isRegex": true, "isEqual": true },
            { "name": "severity", "value": "none", "isRegex": false, "isEqual": false },
            { "name": "job", "value": "a b", "isRegex": false, "isEqual": true },
            { "name": "x", "value": "1", "isRegex": false, "isEqual": true },
            { "name": "x", "value": "1.*", "isRegex": true, "isEqual": true },
        ],
        "startsAt": "2023-11-13T22:13:20Z",
        "endsAt": "2023-11-14T22:18:20Z",
        "createdBy": "quorate",
        "comment": "quorate r-1 ledger@node1: new\"disk\"",
    });
    assert_eq!(body, wanted);
}

#[tokio::test]
async fn what_is_there_is_renewed_and_nobody_elses() {
    let ours = one("active", "quorate", "quorate r-1 ledger@node1: why");
    let theirs = one("active", "somebody", "quorate r-1 ledger@node1: why").replace("s-1", "s-2");
    let other = one("active", "quorate", "quorate r-10 ledger@node1: why").replace("s-1", "s-3");
    let list = format!("[{theirs},{other},{ours}]");
    let answers = [ok(&list), ok("{\"silenceID\":\"s-1\"}"), ok(&ours)];
    let (at, mut heads) = scripted(answers.to_vec()).await;
    let spec_of = spec(at);
    let seen = silence(&spec_of).look().await.expect("it is seen");
    assert!(seen.is_there() && seen.reason(&silence(&spec_of)) == "why");
    silence(&spec_of).set(&seen, "why", NOW, UNTIL).await.expect("it is renewed");
    heads.recv().await.expect("it looked first");
    let post = heads.recv().await.expect("it posted");
    assert!(post.contains("\"id\":\"s-1\"") && post.contains("ledger@node1: why\""), "{post}");
    assert!(post.contains("\"startsAt\":\"2023-11-14T00:00:00.000Z\""), "in place: {post}");
    // What somebody has ended is not set again.
    let ended = ok(&format!("[{}]", one("expired", "quorate", "quorate r-1 ledger@node1: why")));
    let (at, _heads) = scripted(vec![ended]).await;
    let spec_of = spec(at);
    assert!(!silence(&spec_of).look().await.expect("an answer").is_there());
}

#[tokio::test]
async fn an_end_that_is_not_shown_is_none() {
    let ours = format!("[{}]", one("active", "quorate", "quorate r-1 ledger@node1: why"));
    let (at, mut heads) = scripted(vec![ok(&ours), ok(""), ok(&ours)]).await;
    let spec_of = spec(at);
    let why = silence(&spec_of).end().await.expect_err("it is still there");
    assert!(why.contains("shows it as active"), "{why}");
    heads.recv().await.expect("it looked first");
    assert!(heads.recv().await.expect("it deleted").starts_with("DELETE /below/api/v2/silence/s-1 "));
    let (at, _heads) = scripted(vec![ok(&ours), ok(""), ok("[]")]).await;
    let spec_of = spec(at);
    assert_eq!(silence(&spec_of).end().await, Ok(1));
}

#[tokio::test]
async fn whatever_else_is_answered_silences_nobody() {
    for answer in [ok("<html>"), "HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n".to_owned(), String::new()] {
        let spec_of = spec(fixed(answer.clone()).await);
        let why = silence(&spec_of).look().await.expect_err("nobody is there to be asked");
        assert!(why.contains("Alertmanager"), "{why}");
        let (at, _heads) = scripted(vec![ok("[]"), answer]).await;
        let spec_of = spec(at);
        let why = set(&spec_of, "").await.expect_err("nothing is known");
        assert!(why.contains("Alertmanager"), "{why}");
    }
    let pending = [ok("[]"), ok("{\"silenceID\":\"s-1\"}"), ok(&one("pending", "quorate", "x"))];
    let (at, _heads) = scripted(pending.to_vec()).await;
    let spec_of = spec(at);
    let why = set(&spec_of, "").await.expect_err("it silences nobody yet");
    assert!(why.contains("pending"), "{why}");
}
