//! Alerts that fire, by servers on loopback that answer as an Alertmanager does, or as anything else.

use std::net::SocketAddr;
use std::sync::Arc;

use quorate_model::alert::AlertMatcher;
use quorate_model::probe::AlertsProbe;
use quorate_model::{Millionths, ProbeKind};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::network::read;
use crate::host::fetch::testing::{fixed, head, ok, scripted, server};
use crate::probes::Reading;

const WITHIN_MS: u64 = 5_000;

fn probe(url: String, matchers: &[&str]) -> ProbeKind {
    let matchers = matchers.iter().map(|text| AlertMatcher::parse(text).expect("a matcher")).collect();
    ProbeKind::Alerts(AlertsProbe { url, matchers })
}

async fn asked(at: SocketAddr) -> Reading {
    read(probe(format!("http://{at}"), &["severity=critical"]), WITHIN_MS).await
}

/// As an Alertmanager writes one; only the name is of interest.
fn alert(name: &str) -> String {
    format!(
        "{{\"annotations\":{{}},\"endsAt\":\"2026-11-22T14:00:00.000Z\",\"fingerprint\":\"00ff\",\"receivers\":[{{\"name\":\"x\"}}],\
         \"status\":{{\"inhibitedBy\":[],\"silencedBy\":[],\"state\":\"active\"}},\
         \"labels\":{{\"alertname\":\"{name}\",\"severity\":\"critical\"}}}}"
    )
}

#[tokio::test]
async fn no_alert_passes_and_one_that_fires_is_named() {
    let none = asked(fixed(ok("[]\n")).await).await;
    assert!(none.ok && !none.blind, "{}", none.detail);
    assert_eq!((none.value.as_str(), none.number), ("0", Some(Millionths(0))));
    let two = [alert("Lags"), alert("Lags"), alert("DiskFull")].join(",");
    let firing = asked(fixed(ok(&format!("[{two}]"))).await).await;
    assert!(!firing.ok && !firing.blind);
    assert_eq!(firing.detail, "3 alerts fire: DiskFull, Lags");
    assert_eq!(firing.number, Some(Millionths(3_000_000)));
    let unnamed = asked(fixed(ok("[{\"labels\":{\"job\":\"x\"}}]")).await).await;
    assert!(!unnamed.ok && unnamed.detail.ends_with("(without a name)"), "{}", unnamed.detail);
}

#[tokio::test]
async fn a_storm_of_alerts_is_told_in_one_line() {
    let many: Vec<String> = (0..900).map(|i| alert(&format!("A{i:03}{}\\n", "x".repeat(200)))).collect();
    let reading = asked(fixed(ok(&format!("[{}]", many.join(",")))).await).await;
    assert!(!reading.ok && !reading.blind, "{}", reading.detail);
    assert!(reading.detail.starts_with("900 alerts fire: A000"), "{}", reading.detail);
    assert!(reading.detail.ends_with(" and 895 more"), "{}", reading.detail);
    assert!(reading.detail.chars().count() <= 200 && !reading.detail.contains('\n'), "{}", reading.detail);
}

#[tokio::test]
async fn what_is_asked_for_is_what_was_declared() {
    let (heads, mut seen) = mpsc::unbounded_channel();
    let at = server(move |mut stream| {
        let heads = heads.clone();
        async move {
            let _ = heads.send(head(&mut stream).await);
            let _ = stream.write_all(ok("[]").as_bytes()).await;
        }
    })
    .await;
    let matchers = ["severity=critical", "instance=~\"node1:.*\"", "say!=\"a&b \\\"c\\\" #\""];
    let reading = read(probe(format!("http://{at}/below/"), &matchers), WITHIN_MS).await;
    assert!(reading.ok, "{}", reading.detail);
    let told = seen.recv().await.expect("it was asked");
    let line = told.lines().next().expect("a request line");
    assert_eq!(
        line,
        "GET /below/api/v2/alerts?active=true&silenced=true&inhibited=false\
         &filter=severity%3D%22critical%22&filter=instance%3D~%22node1%3A.%2A%22\
         &filter=say%21%3D%22a%26b%20%5C%22c%5C%22%20%23%22 HTTP/1.1"
    );
}

/// None of these has told that nothing fires, and none has told anything of the instance.
#[tokio::test]
async fn whatever_is_no_answer_to_the_question_is_no_pass() {
    let elsewhere = fixed(ok("[]")).await;
    let redirect =
        format!("HTTP/1.1 302 Found\r\nLocation: http://{elsewhere}/\r\nContent-Length: 0\r\n\r\n");
    let with = |status: &str, body: &str| {
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    let cases = [
        (ok("<!DOCTYPE html><html></html>"), "no list of alerts"),
        (ok("{\"status\":\"success\",\"data\":[]}"), "no list of alerts"),
        (ok("[{\"alertname\":\"Lags\"}]"), "no list of alerts"),
        (ok("[1]"), "no list of alerts"),
        (ok("null"), "no list of alerts"),
        (ok(""), "no list of alerts"),
        (ok("[] trailing"), "no list of alerts"),
        (with("410 Gone", "{\"status\":\"deprecated\"}"), "status 410: there is no Alertmanager API v2"),
        (with("404 Not Found", "404 page not found"), "status 404: there is no Alertmanager API v2"),
        (with("400 Bad Request", "\"bad matcher format: x\""), "refuses the matchers: \"bad matcher format"),
        (with("503 Service Unavailable", ""), "status 503"),
        (redirect, "status 302"),
        (with("204 No Content", ""), "status 204"),
    ];
    for (answer, why) in cases {
        let reading = asked(fixed(answer.clone()).await).await;
        assert!(!reading.ok && reading.blind, "{answer}: {}", reading.detail);
        assert!(reading.detail.contains(why), "{why}: {}", reading.detail);
    }
}

#[tokio::test]
async fn who_is_silent_endless_or_gone_is_no_pass() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let url = format!("http://{}", silent.local_addr().expect("an address"));
    let reading = read(probe(url, &["a=b"]), 200).await;
    assert!(!reading.ok && reading.blind && reading.detail.contains("200 ms"), "{}", reading.detail);

    let chunk: Arc<Vec<u8>> = Arc::new(alert("Lags").into_bytes());
    let endless = server(move |mut stream| {
        let chunk = Arc::clone(&chunk);
        async move {
            head(&mut stream).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n[").await;
            while stream.write_all(&chunk).await.is_ok() && stream.write_all(b",").await.is_ok() {}
        }
    })
    .await;
    let reading = asked(endless).await;
    assert!(!reading.ok && reading.blind && reading.detail.contains("larger than"), "{}", reading.detail);

    let gone = TcpListener::bind("127.0.0.1:0").await.expect("bound").local_addr().expect("an address");
    let reading = asked(gone).await;
    assert!(!reading.ok && reading.blind, "{}", reading.detail);
    let tls = read(probe("https://127.0.0.1:1".to_owned(), &["a=b"]), WITHIN_MS).await;
    assert!(!tls.ok && tls.blind && tls.detail.contains("http://"), "{}", tls.detail);
}

#[tokio::test]
async fn what_only_an_operation_has_silenced_still_fires() {
    let silenced =
        |name: &str, by: &str| alert(name).replace("\"silencedBy\":[]", &format!("\"silencedBy\":[{by}]"));
    let set = |by: &str| ok(&format!("{{\"id\":\"x\",\"createdBy\":\"{by}\",\"comment\":\"\"}}"));
    let list = [silenced("Ours", "\"a\""), silenced("Known", "\"a\",\"b\"")].join(",");
    let (at, mut asked_for) = scripted(vec![ok(&format!("[{list}]")), set("quorate"), set("somebody")]).await;
    let reading = asked(at).await;
    assert!(!reading.ok && !reading.blind, "{}", reading.detail);
    assert_eq!(reading.detail, "1 alert fires: Ours");
    asked_for.recv().await.expect("the alerts");
    for id in ["a", "b"] {
        let line = asked_for.recv().await.expect("whose they are");
        assert!(line.starts_with(&format!("GET /api/v2/silence/{id} ")), "{line}");
    }
    // Nobody tells whose it is: nothing is known.
    let (at, _asked) = scripted(vec![ok(&format!("[{list}]")), set("quorate")]).await;
    assert!(asked(at).await.blind);
    let many: Vec<String> = (0..40).map(|i| silenced("Many", &format!("\"s{i}\""))).collect();
    let reading = asked(fixed(ok(&format!("[{}]", many.join(",")))).await).await;
    assert!(reading.blind && reading.detail.contains("more than 32"), "{}", reading.detail);
}
