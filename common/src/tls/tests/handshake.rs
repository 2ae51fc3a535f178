use std::io;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;

/// Both ends of one handshake; the client must get a byte through, since in TLS 1.3 it learns of a refusal only then.
async fn shake(
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    name: &str,
) -> (io::Result<()>, io::Result<()>) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let serve = async {
        let mut stream = TlsAcceptor::from(server).accept(far).await?;
        stream.write_all(b"x").await?;
        stream.shutdown().await
    };
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let dial = async {
        let mut stream = TlsConnector::from(client).connect(name, near).await?;
        stream.read_u8().await.map(|_| ())
    };
    tokio::join!(serve, dial)
}

fn word(result: &io::Result<()>) -> &'static str {
    result.as_ref().map_or_else(refusal_word, |()| "ok")
}

/// A client that presents a certificate of the test's making and checks nothing.
fn raw_client(chain: Vec<CertificateDer<'static>>, key_pem: &str) -> Arc<ClientConfig> {
    #[derive(Debug)]
    struct Anyone;
    impl rustls::client::danger::ServerCertVerifier for Anyone {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: rustls::pki_types::UnixTime,
        ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
            Ok(rustls::client::danger::ServerCertVerified::assertion())
        }
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
        }
        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
        }
        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            provider().signature_verification_algorithms.supported_schemes()
        }
    }
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone));
    let mut config = if chain.is_empty() {
        builder.with_no_client_auth()
    } else {
        builder
            .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).unwrap())
            .unwrap()
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

/// A leaf signed by `authority` with exactly these names and usages, past all checks of our own signer.
fn forged(
    authority: &CertificateAuthority,
    key: &rcgen::KeyPair,
    change: impl FnOnce(&mut rcgen::CertificateParams),
) -> CertificateDer<'static> {
    let ca_key = rcgen::KeyPair::from_pem(authority.key_pem()).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(authority.pem(), ca_key).unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    params.is_ca = rcgen::IsCa::ExplicitNoCa;
    change(&mut params);
    params.signed_by(key, &issuer).unwrap().der().clone()
}

fn uri(text: &str) -> rcgen::SanType {
    rcgen::SanType::URI(text.try_into().unwrap())
}

#[tokio::test]
async fn our_own_sides_agree_with_the_hybrid_key_exchange() {
    let authority = authority();
    let server = live(&authority, member(1)).server_config(Arc::new(TestList::default())).unwrap();
    for principal in [agent("node1"), user("alice"), member(2)] {
        let tls = live(&authority, principal).client(ExpectedServer::AnyCoordinator).unwrap();
        for name in ["localhost", "127.0.0.1", "::1"] {
            let (serve, dial) = shake(server.clone(), tls.with_alpn(b"h2"), name).await;
            assert_eq!((word(&serve), word(&dial)), ("ok", "ok"));
        }
    }
    let first = provider().kx_groups.first().map(|group| group.name());
    assert_eq!(first, Some(rustls::NamedGroup::X25519MLKEM768));
}

/// The negative certificate set of B-11, each with the word that the log must say.
fn wrong_certificates(
    authority: &CertificateAuthority,
    key: &rcgen::KeyPair,
) -> Vec<(&'static str, Vec<CertificateDer<'static>>)> {
    let stranger = super::authority();
    let with = |change: &dyn Fn(&mut rcgen::CertificateParams)| {
        vec![forged(authority, key, |params| {
            params.subject_alt_names = vec![uri("spiffe://c1/agent/node1")];
            change(params);
        })]
    };
    let named = |names: &[&str]| {
        vec![forged(authority, key, |params| {
            params.subject_alt_names = names.iter().copied().map(uri).collect()
        })]
    };
    let dns = rcgen::SanType::DnsName("node1.example".try_into().unwrap());
    let self_signed = {
        let mut params = rcgen::CertificateParams::default();
        params.subject_alt_names = vec![uri("spiffe://c1/agent/node1")];
        params.self_signed(key).unwrap().der().clone()
    };
    let server_auth = rcgen::ExtendedKeyUsagePurpose::ServerAuth;
    vec![
        ("no_certificate", vec![]),
        ("ok", with(&|_| ())),
        ("wrong_ca", vec![forged(&stranger, key, good_name)]),
        ("wrong_ca", vec![self_signed]),
        ("expired", with(&|p| p.not_after = rcgen::date_time_ymd(2020, 1, 1))),
        ("not_yet_valid", with(&|p| p.not_before = rcgen::date_time_ymd(2100, 1, 1))),
        ("no_identity", named(&[])),
        ("no_identity", with(&|p| p.subject_alt_names = vec![dns.clone()])),
        ("several_identities", named(&["spiffe://c1/agent/node1", "spiffe://c1/user/root"])),
        ("bad_identity", named(&["spiffe://c1/agent/*"])),
        ("wrong_cluster", named(&["spiffe://c2/agent/node1"])),
        ("wrong_usage", with(&|p| p.extended_key_usages = vec![server_auth.clone()])),
        ("wrong_usage", with(&|p| p.extended_key_usages.push(server_auth.clone()))),
        ("wrong_usage", with(&|p| p.extended_key_usages.clear())),
        ("ca_as_leaf", with(&|p| p.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained))),
        ("chain_too_long", vec![forged(authority, key, good_name); 6]),
    ]
}

fn good_name(params: &mut rcgen::CertificateParams) {
    params.subject_alt_names = vec![uri("spiffe://c1/agent/node1")];
}

#[tokio::test]
async fn the_server_refuses_every_wrong_certificate_with_its_reason() {
    let authority = authority();
    let list = Arc::new(TestList::default());
    let server = live(&authority, member(1)).server_config(list.clone()).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    for (expected, chain) in wrong_certificates(&authority, &key) {
        let (serve, dial) = shake(server.clone(), raw_client(chain, &key.serialize_pem()), "localhost").await;
        assert_eq!(word(&serve), expected);
        assert_eq!(dial.is_ok(), expected == "ok", "{expected}: the client must get nothing");
    }
    let refused = forged(&authority, &key, good_name);
    list.0.lock().unwrap().push(Identity::from_verified(&refused).unwrap().serial);
    let (serve, _) = shake(server, raw_client(vec![refused], &key.serialize_pem()), "localhost").await;
    assert_eq!(word(&serve), "revoked");
}

#[tokio::test]
async fn weak_keys_and_signatures_are_refused() {
    let authority = authority();
    let server = live(&authority, member(1)).server_config(Arc::new(TestList::default())).unwrap();
    // 2048 bits are accepted; the 1024-bit and SHA-1 certificates of the test data were made with openssl.
    let rsa = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
    let good = forged(&authority, &rsa, |p| p.subject_alt_names = vec![uri("spiffe://c1/agent/node1")]);
    let (serve, _) = shake(server, raw_client(vec![good], &rsa.serialize_pem()), "localhost").await;
    assert_eq!(word(&serve), "ok");
    for (name, reason) in
        [("rsa1024", Refused::WeakKey), ("sha1", Refused::WeakSignature), ("md5", Refused::WeakSignature)]
    {
        let text = match name {
            "rsa1024" => include_str!("testdata/rsa1024.pem"),
            "sha1" => include_str!("testdata/sha1.pem"),
            _ => include_str!("testdata/md5.pem"),
        };
        let der = CertificateDer::from_pem_slice(text.as_bytes()).unwrap();
        assert_eq!(Identity::from_verified(&der), Err(reason), "{name}");
    }
}

#[tokio::test]
async fn the_client_refuses_a_server_that_is_not_the_coordinator_it_means() {
    let authority = authority();
    let list = || Arc::new(TestList::default());
    let me = live(&authority, member(2));
    let exact = me.client(ExpectedServer::Member(MemberId(1))).unwrap().with_alpn(b"h2");
    let any = me.client(ExpectedServer::AnyCoordinator).unwrap().with_alpn(b"h2");
    let one = live(&authority, member(1)).server_config(list()).unwrap();
    let three = live(&authority, member(3)).server_config(list()).unwrap();
    assert_eq!(word(&shake(one.clone(), exact.clone(), "localhost").await.1), "ok");
    assert_eq!(word(&shake(three, exact, "localhost").await.1), "wrong_member");
    assert_eq!(word(&shake(one, any.clone(), "other.example").await.1), "wrong_name");
    // An agent that plays server: its certificate has no server usage, and its role is checked besides.
    let agent_server = live(&authority, agent("node1")).server_config(list()).unwrap();
    assert_eq!(word(&shake(agent_server, any.clone(), "localhost").await.1), "wrong_usage");
    let stranger = live(&super::authority(), member(1)).server_config(list()).unwrap();
    assert_eq!(word(&shake(stranger, any, "localhost").await.1), "wrong_ca");
}

#[tokio::test]
async fn enrolment_trusts_the_pinned_ca_and_nothing_else() {
    let authority = authority();
    let http = live(&authority, member(1)).http_server_config().unwrap();
    let pinned =
        |ca, name: &str| ClientTls::pinned(ca, ClusterId::new(name).unwrap()).unwrap().with_alpn(b"http/1.1");
    assert_eq!(word(&shake(http.clone(), pinned(authority.fingerprint(), "c1"), "localhost").await.1), "ok");
    assert_eq!(word(&shake(http.clone(), pinned([7; 32], "c1"), "localhost").await.1), "wrong_ca");
    assert_eq!(
        word(&shake(http, pinned(authority.fingerprint(), "c2"), "localhost").await.1),
        "wrong_cluster"
    );
    // Another CA sends the pinned certificate along; its leaf still does not chain to it.
    let evil = super::authority();
    let (key, cert) = issue(&evil, &LeafSpec::new(member(1), now(), HOUR));
    let chain = format!("{}{}", cert.pem, authority.pem());
    let liar = Material::from_pem(evil.pem(), &chain, key.key_pem()).unwrap();
    let liar = LiveTls::new(liar).http_server_config().unwrap();
    assert_eq!(word(&shake(liar, pinned(authority.fingerprint(), "c1"), "localhost").await.1), "wrong_ca");
}

#[tokio::test]
async fn a_rotation_takes_effect_at_the_next_handshake_and_old_and_new_ca_overlap() {
    let (old, new) = (authority(), authority());
    let server = live(&old, member(1));
    let config = server.server_config(Arc::new(TestList::default())).unwrap();
    let client = live(&old, agent("node1"));
    let dial = client.client(ExpectedServer::AnyCoordinator).unwrap().with_alpn(b"h2");
    let both = format!("{}{}", old.pem(), new.pem());
    let under = |authority: &CertificateAuthority, principal: Principal, bundle: &str| {
        let (key, cert) = issue(authority, &LeafSpec::new(principal, now(), HOUR));
        Material::from_pem(bundle, &cert.pem, key.key_pem()).unwrap()
    };
    assert_eq!(word(&shake(config.clone(), dial.clone(), "localhost").await.0), "ok");
    // Server first trusts both, then clients move, then the server, then the old CA goes.
    server.replace(under(&old, member(1), &both)).unwrap();
    client.replace(under(&new, agent("node1"), &both)).unwrap();
    assert_eq!(word(&shake(config.clone(), dial.clone(), "localhost").await.0), "ok");
    server.replace(under(&new, member(1), &both)).unwrap();
    assert_eq!(word(&shake(config.clone(), dial.clone(), "localhost").await.0), "ok");
    server.replace(under(&new, member(1), new.pem())).unwrap();
    assert_eq!(word(&shake(config.clone(), dial.clone(), "localhost").await.0), "ok");
    client.replace(under(&old, agent("node1"), &both)).unwrap();
    assert_eq!(word(&shake(config, dial, "localhost").await.0), "wrong_ca");
}
