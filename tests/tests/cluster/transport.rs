//! The gRPC port: TLS 1.3 with a certificate of this cluster's CA, or nothing. OpenSSL is the judge.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use quorate_common::tls::{BACKDATE, CertificateAuthority, KeyRequest, LeafSpec};
use quorate_model::{DurationMs, NodeName, Principal, Timestamp, UserName};
use quorate_tests::cluster::Fleet;

/// What `openssl s_client` said and what it got from the application.
#[derive(Debug)]
pub(crate) struct Handshake {
    /// Application data.
    pub(crate) got: Vec<u8>,
    /// The alert, among other things.
    pub(crate) said: String,
}

/// Connects, sends an HTTP/2 preface and reads until the server closes. `timeout` ends a connection that is let in.
pub(crate) fn s_client(address: &str, args: &[&str], identity: Option<&Path>) -> Handshake {
    let mut command = Command::new("timeout");
    command.args(["2", "openssl", "s_client", "-quiet", "-ign_eof", "-alpn", "h2", "-connect", address]);
    command.args(args);
    if let Some(dir) = identity {
        command.arg("-cert").arg(dir.join("cert.pem")).arg("-key").arg(dir.join("key.pem"));
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl runs");
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
    if let Some(mut stdin) = child.stdin.take() {
        // A server that closed at once makes this fail; that is one of the wanted ends.
        let _ = std::io::Write::write_all(&mut stdin, preface);
    }
    let output = child.wait_with_output().expect("openssl ends");
    Handshake { got: output.stdout, said: String::from_utf8_lossy(&output.stderr).into_owned() }
}

pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    Timestamp(i64::try_from(since.as_millis()).expect("this century"))
}

/// A certificate and its key in a directory, as `s_client` and our own client read them.
fn issue(dir: &Path, authority: &CertificateAuthority, spec: &LeafSpec) -> PathBuf {
    let request = KeyRequest::create(authority.cluster(), &spec.principal).expect("a key");
    let issued = authority.sign_csr(request.csr_der(), spec).expect("signed");
    std::fs::create_dir_all(dir).expect("a directory");
    std::fs::write(dir.join("cert.pem"), issued.pem).expect("written");
    std::fs::write(dir.join("key.pem"), request.key_pem().as_bytes()).expect("written");
    dir.to_path_buf()
}

pub(crate) fn nothing_without_a_certificate(fleet: &Fleet) {
    for (name, grpc, _) in fleet.coordinators() {
        let refused = s_client(&grpc, &["-tls1_3"], None);
        assert_eq!(refused.got, b"", "{name}: {refused:?}");
        assert!(refused.said.contains("alert certificate required"), "{name}: {refused:?}");
        // The same with a certificate is answered, so the silence above means something.
        let answered = s_client(&grpc, &["-tls1_3"], Some(&fleet.agent_tls("node1")));
        assert!(!answered.got.is_empty(), "{name}: {answered:?}");
    }
}

pub(crate) fn only_tls_1_3(fleet: &Fleet) {
    for (name, grpc, http) in fleet.coordinators() {
        for address in [grpc, http] {
            let refused = s_client(&address, &["-tls1_2"], Some(&fleet.agent_tls("node1")));
            assert_eq!(refused.got, b"", "{name} {address}: {refused:?}");
            assert!(refused.said.contains("alert protocol version"), "{name} {address}: {refused:?}");
        }
    }
}

pub(crate) fn strangers_and_expired_are_refused(fleet: &Fleet) {
    let real = CertificateAuthority::load(&fleet.dir().join("coordinators/coord1/data/tls")).expect("the CA");
    let other = CertificateAuthority::create(real.cluster(), "other", now()).expect("another CA");
    let (day, dir) = (Duration::from_secs(86_400), fleet.dir().join("strangers"));
    let node1 = Principal::Agent { node: NodeName::new("node1").expect("a name") };
    let admin = Principal::User { name: UserName::new("admin").expect("a name") };
    for (name, principal) in [("node1", node1), ("admin", admin)] {
        let good = LeafSpec::new(principal, now(), day);
        let past = LeafSpec {
            not_before: now().minus(DurationMs::from_secs(BACKDATE.as_secs())),
            not_after: now().minus(DurationMs::from_secs(60)),
            ..good.clone()
        };
        let stranger = issue(&dir.join(name).join("stranger"), &other, &good);
        let expired = issue(&dir.join(name).join("expired"), &real, &past);
        // Signed by the right CA, but never issued by the cluster: on no allow-list.
        let unlisted = issue(&dir.join(name).join("unlisted"), &real, &good);
        for (coordinator, grpc, _) in fleet.coordinators() {
            for (identity, alert) in [
                (&stranger, "alert unknown ca"),
                (&expired, "alert certificate expired"),
                (&unlisted, "alert "),
            ] {
                let refused = s_client(&grpc, &["-tls1_3"], Some(identity));
                assert_eq!(refused.got, b"", "{coordinator} {}: {refused:?}", identity.display());
                assert!(refused.said.contains(alert), "{coordinator} {}: {refused:?}", identity.display());
            }
        }
    }
}
