//! The certificate that is really shown, by real TLS servers on loopback.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use quorate_common::tls::{fingerprint, hex, provider};
use quorate_model::probe::CertificateProbe;
use quorate_model::{DurationMs, Millionths, NodeName, ProbeKind, ProbeName, ProbeSpec, ServiceName};
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::host::RealHost;
use crate::probes::{ProbeKey, ProbeTarget, Prober, Reading};

const DAY: Duration = Duration::from_secs(86_400);
const NAME: &str = "ledger.example";

/// A certificate of its own making, which nobody trusts.
struct Made {
    der: CertificateDer<'static>,
    pem: String,
    key: Vec<u8>,
}

/// Valid from so many days ago until so many days from now; negative ones are over.
fn made(days_before: i32, days_left: i32) -> Made {
    let mut params = CertificateParams::new(vec![NAME.to_owned(), "127.0.0.1".to_owned()]).expect("names");
    let moved = |days: i32| {
        let span = DAY * days.unsigned_abs();
        if days < 0 { SystemTime::now() - span } else { SystemTime::now() + span }
    };
    params.not_before = moved(-days_before).into();
    params.not_after = moved(days_left).into();
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("signed");
    Made { der: certificate.der().clone(), pem: certificate.pem(), key: key.serialize_der() }
}

/// Hands out a certificate under a key, whether they belong together or not.
#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesServerCert for Shows {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// A TLS server that shows `made` and signs with the key of `signs`.
async fn serving(made: &Made, signs: &Made) -> SocketAddr {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signs.key.clone()));
    let key = provider().key_provider.load_private_key(key).expect("a key");
    let shown = Shows(Arc::new(CertifiedKey::new(vec![made.der.clone()], key)));
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(shown));
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let at = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let _ = acceptor.accept(stream).await;
            });
        }
    });
    at
}

fn wanted(at: SocketAddr) -> CertificateProbe {
    CertificateProbe {
        address: at.to_string(),
        server_name: NAME.into(),
        min_remaining: DurationMs::from_secs(7 * 86_400),
        file: String::new(),
    }
}

async fn read(probe: CertificateProbe, allowed: bool) -> Reading {
    let host = RealHost::new(None, None).expect("boot id");
    let probe_name = ProbeName::new("cert").expect("a name");
    let key = ProbeKey {
        node: NodeName::new("node1").expect("a name"),
        service: ServiceName::new("ledger").expect("a name"),
        probe: probe_name.clone(),
    };
    let target = ProbeTarget { key, driver: None, keep_body: false, allowed };
    let spec = ProbeSpec {
        name: probe_name,
        kind: ProbeKind::Certificate(probe),
        interval: DurationMs(100),
        timeout: DurationMs(1_000),
        passes: 1,
        from_peer: false,
    };
    Prober::new(Arc::new(host)).read(&target, &spec, &BTreeMap::new()).await
}

#[tokio::test]
async fn a_fresh_certificate_passes_and_is_told() {
    let good = made(1, 90);
    let at = serving(&good, &good).await;
    let reading = read(wanted(at), true).await;
    assert!(reading.ok && !reading.blind, "{}", reading.detail);
    assert_eq!(reading.value, hex(&fingerprint(&good.der)));
    assert!(reading.detail.contains(&reading.value) && reading.detail.contains("valid until "));
    let days = reading.number.expect("days left");
    assert!(days > Millionths(89_900_000) && days <= Millionths(90_000_000), "{days:?}");
    let by_address = CertificateProbe { server_name: "127.0.0.1".into(), ..wanted(at) };
    assert!(read(by_address, true).await.ok, "an address is a name, too");
}

#[tokio::test]
async fn what_is_over_or_too_near_or_for_others_fails_and_says_why() {
    let cases = [
        (made(30, -1), NAME, "expired "),
        (made(-1, 90), NAME, "valid only from "),
        (made(30, 6), NAME, "less than 7d"),
        (made(1, 90), "other.example", "not for other.example"),
    ];
    for (certificate, name, why) in cases {
        let at = serving(&certificate, &certificate).await;
        let reading = read(CertificateProbe { server_name: name.into(), ..wanted(at) }, true).await;
        assert!(!reading.ok && !reading.blind && reading.detail.contains(why), "{why}: {}", reading.detail);
        assert_eq!(reading.value, hex(&fingerprint(&certificate.der)), "what was seen is told all the same");
    }
    let old = made(30, 6);
    let at = serving(&old, &old).await;
    let any = CertificateProbe { min_remaining: DurationMs::ZERO, ..wanted(at) };
    assert!(read(any, true).await.ok, "it is valid now");
}

fn write(path: &Path, text: &str) -> String {
    std::fs::write(path, text).expect("written");
    path.to_string_lossy().into_owned()
}

#[tokio::test]
async fn a_file_that_was_renewed_and_not_reloaded_fails() {
    let dir = tempfile::tempdir().expect("a folder");
    let (old, new) = (made(30, 20), made(0, 90));
    let at = serving(&old, &old).await;
    let with = |file: String| CertificateProbe { file, ..wanted(at) };
    let same = write(&dir.path().join("old.pem"), &old.pem);
    assert!(read(with(same.clone()), true).await.ok);
    let renewed = write(&dir.path().join("new.pem"), &format!("{}{}", new.pem, old.pem));
    let reading = read(with(renewed.clone()), true).await;
    assert!(!reading.ok && !reading.blind && reading.detail.contains("not reloaded"), "{}", reading.detail);
    let at = serving(&new, &new).await;
    let reloaded = CertificateProbe { file: renewed, ..wanted(at) };
    assert!(read(reloaded, true).await.ok, "the first certificate of the file is the one");
    let empty = write(&dir.path().join("empty.pem"), "no certificate");
    let reading = read(with(empty), true).await;
    assert!(!reading.ok && reading.detail.contains("holds no certificate"), "{}", reading.detail);
    // Nobody could look: that is no pass, and nothing is wrong with the instance.
    let folder = dir.path().to_string_lossy().into_owned();
    let missing = dir.path().join("missing.pem").to_string_lossy().into_owned();
    let large = write(&dir.path().join("large.pem"), &"x".repeat(65 * 1024));
    for file in [folder, missing, large] {
        let reading = read(with(file), true).await;
        assert!(!reading.ok && reading.blind, "{}", reading.detail);
    }
    let reading = read(with(same), false).await;
    assert!(reading.blind && reading.detail.contains("policy"), "{}", reading.detail);
}

#[tokio::test]
async fn a_pipe_in_the_place_of_the_file_holds_nobody() {
    let dir = tempfile::tempdir().expect("a folder");
    let pipe = dir.path().join("pipe.pem");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .expect("a pipe");
    let good = made(1, 90);
    let at = serving(&good, &good).await;
    let probe = CertificateProbe { file: pipe.to_string_lossy().into_owned(), ..wanted(at) };
    let reading = read(probe, true).await;
    assert!(reading.blind && reading.detail.contains("no regular file"), "{}", reading.detail);
}

#[tokio::test]
async fn whoever_has_not_the_key_does_not_pass_with_the_certificate() {
    let (good, other) = (made(1, 90), made(1, 90));
    let at = serving(&good, &other).await;
    let reading = read(wanted(at), true).await;
    assert!(!reading.ok && !reading.blind && reading.detail.contains("no TLS"), "{}", reading.detail);
}

#[tokio::test]
async fn who_speaks_no_tls_or_nothing_at_all_fails() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let plain = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let reading = read(wanted(plain), true).await;
    assert!(!reading.ok && !reading.blind && reading.detail.contains("no TLS"), "{}", reading.detail);
    // Accepts by its backlog and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let reading = read(wanted(silent.local_addr().expect("an address")), true).await;
    assert!(
        !reading.ok && !reading.blind && reading.detail.starts_with("no answer within"),
        "{}",
        reading.detail
    );
    let gone = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        listener.local_addr().expect("an address")
    };
    let reading = read(wanted(gone), true).await;
    assert!(!reading.ok && !reading.blind, "refused: {}", reading.detail);
    let odd = CertificateProbe { server_name: "no name".into(), ..wanted(plain) };
    assert!(read(odd, true).await.blind, "nobody can be asked for it");
}
