//! B-11 and I-27: every dirty certificate, presented to a running coordinator. A TLS alert for the stranger, the reason in
//! the log for the operator, and no word of HTTP/2.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use quorate_common::tls::provider;
use quorate_tests::cluster::Fleet;
use quorate_tests::wait::wait_for;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::frames::{PREFACE, SETTINGS, frame};
use crate::peers::{authority, block_on, pids, soon};

/// Trusts whoever answers: here it is the server that must be choosy.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Presents a chain and a key, whether they go together or not.
#[derive(Debug)]
struct Presents(Arc<CertifiedKey>);

impl ResolvesClientCert for Presents {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Whether the server says a word of HTTP/2 to whoever presents this.
async fn is_let_in(address: &str, chain: Vec<CertificateDer<'static>>, key_pem: &str) -> bool {
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).expect("a key");
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).expect("a key of a known kind");
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_client_cert_resolver(Arc::new(Presents(Arc::new(CertifiedKey::new(chain, key)))));
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = TcpStream::connect(address).await.expect("the port is open");
    let name = ServerName::try_from("localhost").expect("a name");
    let talk = async {
        let Ok(mut stream) = TlsConnector::from(Arc::new(config)).connect(name, tcp).await else {
            return false;
        };
        // In TLS 1.3 a client learns of its refusal only when it reads.
        let _ = stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await;
        matches!(stream.read(&mut [0_u8; 64]).await, Ok(1..))
    };
    soon("a handshake", talk).await
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().expect("ASCII"))
}

/// One certificate with what is wrong with it, the word that the log must say, and how it is presented.
struct Dirty {
    what: &'static str,
    word: &'static str,
    chain: Vec<CertificateDer<'static>>,
    key_pem: String,
}

/// Signs past all checks of our own signer, with the fleet's own CA unless told otherwise.
struct Forge {
    issuer: Issuer<'static, KeyPair>,
    key: KeyPair,
    cluster: String,
}

impl Forge {
    fn new(fleet: &Fleet) -> Self {
        let real = authority(fleet);
        let key = KeyPair::from_pem(real.key_pem()).expect("the CA's key");
        let issuer = Issuer::from_ca_cert_pem(real.pem(), key).expect("the CA");
        Self { issuer, key: KeyPair::generate().expect("a key"), cluster: real.cluster().to_string() }
    }

    fn params(&self) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![uri(&format!("spiffe://{}/agent/node1", self.cluster))];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.is_ca = IsCa::ExplicitNoCa;
        params
    }

    fn sign(&self, key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
        let mut params = self.params();
        change(&mut params);
        params.signed_by(key, &self.issuer).expect("signed").der().clone()
    }

    fn dirty(
        &self,
        what: &'static str,
        word: &'static str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Dirty {
        Dirty { what, word, chain: vec![self.sign(&self.key, change)], key_pem: self.key.serialize_pem() }
    }

    fn names(&self, what: &'static str, word: &'static str, names: &[&str]) -> Dirty {
        let names = names.iter().map(|name| uri(&name.replace("CLUSTER", &self.cluster))).collect();
        self.dirty(what, word, |params| params.subject_alt_names = names)
    }
}

/// Those that name the wrong thing, or for the wrong time or use.
fn wrong_words(forge: &Forge) -> Vec<Dirty> {
    let server = ExtendedKeyUsagePurpose::ServerAuth;
    let dns = SanType::DnsName("node1.example".try_into().expect("ASCII"));
    vec![
        forge.dirty("expired", "expired", |p| p.not_after = rcgen::date_time_ymd(2020, 1, 1)),
        forge.dirty("from the future", "not_yet_valid", |p| p.not_before = rcgen::date_time_ymd(2100, 1, 1)),
        forge.names("no name", "no_identity", &[]),
        forge.dirty("a host name only", "no_identity", |p| p.subject_alt_names = vec![dns]),
        forge.names(
            "two names",
            "several_identities",
            &["spiffe://CLUSTER/agent/node1", "spiffe://CLUSTER/user/admin"],
        ),
        forge.names("the same name twice", "several_identities", &["spiffe://CLUSTER/agent/node1"; 2]),
        forge.names("a wildcard", "bad_identity", &["spiffe://CLUSTER/agent/*"]),
        forge.names("no such role", "bad_identity", &["spiffe://CLUSTER/root/admin"]),
        forge.names("another scheme", "bad_identity", &["https://CLUSTER/agent/node1"]),
        forge.names("a path", "bad_identity", &["spiffe://CLUSTER/agent/../user/admin"]),
        forge.names("another cluster", "wrong_cluster", &["spiffe://another/agent/node1"]),
        forge.names("an agent nobody enrolled", "unknown_serial", &["spiffe://CLUSTER/agent/node1"]),
        forge.names("an administrator nobody enrolled", "unknown_serial", &["spiffe://CLUSTER/user/admin"]),
        forge.dirty("for servers", "wrong_usage", |p| p.extended_key_usages = vec![server.clone()]),
        forge
            .dirty("an agent for servers too", "wrong_usage", |p| p.extended_key_usages.push(server.clone())),
        forge.dirty("for nothing", "wrong_usage", |p| p.extended_key_usages.clear()),
        forge.dirty("a CA", "ca_as_leaf", |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
    ]
}

/// Those with a wrong issuer, chain or key.
fn wrong_chains(fleet: &Fleet, forge: &Forge) -> Vec<Dirty> {
    let other_key = KeyPair::generate().expect("a key");
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let other_ca = ca.clone().self_signed(&other_key).expect("signed");
    let stranger = Issuer::from_params(&ca, &other_key);
    let by_stranger = forge.params().signed_by(&forge.key, &stranger).expect("signed").der().clone();
    let own = forge.params().self_signed(&forge.key).expect("signed").der().clone();
    let good = forge.sign(&forge.key, |_| ());
    let key_pem = forge.key.serialize_pem();
    let dirty = |what, word, chain| Dirty { what, word, chain, key_pem: key_pem.clone() };
    let real =
        CertificateDer::from_pem_slice(&fs::read(fleet.agent_tls("node1").join("cert.pem")).expect("a file"));
    vec![
        dirty("another CA", "wrong_ca", vec![by_stranger.clone()]),
        dirty("another CA, sent along", "wrong_ca", vec![by_stranger, other_ca.der().clone()]),
        dirty("self-signed", "wrong_ca", vec![own]),
        dirty("a chain of 6", "chain_too_long", vec![good.clone(); 6]),
        dirty("a chain of 60", "chain_too_long", vec![good.clone(); 60]),
        // Somebody else's certificate without its key: the signature does not fit.
        dirty("node1's own, without its key", "bad_signature", vec![real.expect("a certificate")]),
        dirty("no DER", "malformed", vec![CertificateDer::from(b"junk".to_vec())]),
        dirty("an empty certificate", "malformed", vec![CertificateDer::from(Vec::new())]),
        dirty("a byte too many", "malformed", vec![CertificateDer::from([good.as_ref(), &[0]].concat())]),
    ]
}

/// RSA of 1024 bits and SHA-1, which our own libraries do not even make. Without openssl there are none; the listener's own
/// tests hold the same with certificates that were made before.
fn weak(fleet: &Fleet, forge: &Forge) -> Vec<Dirty> {
    let dir = fleet.dir().join("weak");
    fs::create_dir_all(&dir).expect("a directory");
    let ca = crate::peers::member(fleet, "coord1");
    let extensions = format!(
        "subjectAltName=URI:spiffe://{}/agent/node1\nextendedKeyUsage=clientAuth\nbasicConstraints=critical,CA:FALSE\n",
        forge.cluster
    );
    fs::write(dir.join("extensions"), extensions).expect("written");
    let openssl = |args: &[&str]| {
        Command::new("openssl")
            .current_dir(&dir)
            .args(args)
            .output()
            .is_ok_and(|output| output.status.success())
    };
    let ca_pem = ca.join("ca.pem").display().to_string();
    let ca_key = ca.join("ca.key").display().to_string();
    let mut all = Vec::new();
    for (what, bits, digest) in [("RSA-1024", "rsa:1024", "-sha256"), ("SHA-1", "rsa:2048", "-sha1")] {
        let made = openssl(&[
            "req", "-new", "-newkey", bits, "-nodes", "-keyout", "k", "-out", "r", "-subj", "/CN=x",
        ]) && openssl(&[
            "x509",
            "-req",
            "-in",
            "r",
            "-CA",
            &ca_pem,
            "-CAkey",
            &ca_key,
            "-set_serial",
            "77",
            "-days",
            "1",
            digest,
            "-extfile",
            "extensions",
            "-out",
            "c",
        ]);
        if made {
            let der = CertificateDer::from_pem_slice(&fs::read(dir.join("c")).expect("a file"));
            // Our own library does not even load such keys; the certificate is looked at before any signature is.
            let key_pem = forge.key.serialize_pem();
            all.push(Dirty { what, word: "", chain: vec![der.expect("a certificate")], key_pem });
        }
    }
    all
}

/// How often the log says that a handshake was refused for this reason.
fn refusals(log: &Path, word: &str) -> usize {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines().filter(|line| line.contains("tls_refused") && line.contains(word)).count()
}

pub(crate) fn b11_the_server_refuses_the_dirty_set(fleet: &Fleet) {
    let before = pids(fleet);
    let (_, grpc, _) = fleet.coordinators().swap_remove(0);
    let log = walkdir::WalkDir::new(fleet.dir().join("coordinators/coord1"))
        .into_iter()
        .filter_map(Result::ok)
        .find(|entry| entry.file_name() == "coordinator.log")
        .expect("its log")
        .into_path();
    let forge = Forge::new(fleet);
    let set = [wrong_words(&forge), wrong_chains(fleet, &forge), weak(fleet, &forge)];
    let mut told = 0;
    for Dirty { what, word, chain, key_pem } in set.into_iter().flatten() {
        let said = refusals(&log, word);
        assert!(!block_on(is_let_in(&grpc, chain, &key_pem)), "{what}: it was let in");
        wait_for(&format!("{what}: {word} in the log"), crate::peers::CALL, || {
            if refusals(&log, word) > said {
                return Ok(());
            }
            let text = fs::read_to_string(&log).unwrap_or_default();
            Err(text.lines().rfind(|line| line.contains("tls_refused")).unwrap_or_default().to_owned())
        });
        told += 1;
    }
    // The way in is open all the same to whom it should be.
    let node1 = fleet.agent_tls("node1");
    let chain = CertificateDer::from_pem_slice(&fs::read(node1.join("cert.pem")).expect("a file"));
    let key = fs::read_to_string(node1.join("key.pem")).expect("a file");
    assert!(block_on(is_let_in(&grpc, vec![chain.expect("a certificate")], &key)), "node1's own");
    assert_eq!(pids(fleet), before);
    println!("  {told} dirty certificates: none let in, each with its reason in the log");
}

pub(crate) fn b11_every_damaged_byte(fleet: &Fleet) {
    let before = pids(fleet);
    let (_, grpc, _) = fleet.coordinators().swap_remove(0);
    let node1 = fleet.agent_tls("node1");
    let der = CertificateDer::from_pem_slice(&fs::read(node1.join("cert.pem")).expect("a file"));
    let der = der.expect("a certificate").as_ref().to_vec();
    let key = fs::read_to_string(node1.join("key.pem")).expect("a file");
    block_on(async {
        for at in 0..der.len() {
            let mut damaged = der.clone();
            damaged[at] ^= 1 << (at % 8);
            let let_in = is_let_in(&grpc, vec![CertificateDer::from(damaged)], &key).await;
            assert!(!let_in, "with byte {at} of {} changed it was let in", der.len());
        }
        for length in (0..der.len()).step_by(16) {
            let cut = CertificateDer::from(der[..length].to_vec());
            assert!(!is_let_in(&grpc, vec![cut], &key).await, "cut at {length} it was let in");
        }
    });
    assert_eq!(pids(fleet), before);
    println!("  {} damaged certificates, one for each byte: none let in", der.len());
}
