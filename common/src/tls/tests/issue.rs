use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SanType};

use super::*;

#[test]
fn a_leaf_carries_what_the_signer_decides() {
    let authority = authority();
    let at = now();
    let spec = LeafSpec::new(member(2), at, HOUR).with_hosts(["coord2.example", "10.1.2.3", "localhost"]);
    let (_, issued) = issue(&authority, &spec);
    let identity = Identity::from_verified(&issued.der).unwrap();
    assert_eq!((&identity.cluster, &identity.principal), (&cluster(), &member(2)));
    assert_eq!(identity.serial, issued.serial);
    assert_eq!((identity.not_before, identity.not_after), (issued.not_before, issued.not_after));
    assert_eq!(identity.fingerprint, issued.fingerprint);
    assert_eq!(identity.not_before.0, (at.0 - 300_000) / 1_000 * 1_000);
    assert_eq!(identity.not_after.0, (at.0 + 3_600_000) / 1_000 * 1_000);
    let (_, parsed) = x509_parser::parse_x509_certificate(&issued.der).unwrap();
    let names = parsed.subject_alternative_name().unwrap().unwrap();
    let shown: Vec<String> = names.value.general_names.iter().map(ToString::to_string).collect();
    assert_eq!(shown.len(), 6, "{shown:?}");
    assert!(shown.iter().any(|name| name.contains("coord2.example")));
}

#[test]
fn what_the_request_asks_for_is_ignored_but_its_key() {
    let authority = authority();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["evil.example".to_owned()]).unwrap();
    params.subject_alt_names.push(SanType::URI("spiffe://c1/user/root".try_into().unwrap()));
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.insert_extended_key_usage(rcgen::ExtendedKeyUsagePurpose::ServerAuth);
    let csr = params.serialize_request(&key).unwrap();
    let issued = authority.sign_csr(csr.der(), &LeafSpec::new(agent("node1"), now(), HOUR)).unwrap();
    assert_eq!(Identity::from_verified(&issued.der).unwrap().principal, agent("node1"));
    let (_, parsed) = x509_parser::parse_x509_certificate(&issued.der).unwrap();
    assert!(!parsed.is_ca());
    assert!(!parsed.extended_key_usage().unwrap().unwrap().value.server_auth);
    assert_eq!(parsed.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 1);
}

fn certified_key(der: &[u8]) -> Vec<u8> {
    x509_parser::parse_x509_certificate(der).unwrap().1.public_key().subject_public_key.data.to_vec()
}

#[test]
fn a_request_that_is_damaged_or_of_another_kind_is_refused() {
    let authority = authority();
    let spec = LeafSpec::new(agent("node1"), now(), HOUR);
    let good = KeyRequest::create(&cluster(), &agent("node1")).unwrap().csr_der().to_vec();
    let key = certified_key(&authority.sign_csr(&good, &spec).unwrap().der);
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x01;
        // The algorithm field behind the signed part is read with some tolerance; the key can never be another one.
        if let Ok(issued) = authority.sign_csr(&bad, &spec) {
            assert!((180..192).contains(&at), "a changed byte {at} of {} was signed", hex(&good));
            assert_eq!(certified_key(&issued.der), key);
        }
        assert!(authority.sign_csr(&good[..at], &spec).is_err(), "{at} bytes of a request were signed");
    }
    let mut longer = good;
    longer.push(0);
    assert!(matches!(authority.sign_csr(&longer, &spec), Err(TlsError::Request(_))));
    assert!(
        matches!(authority.sign_csr(&vec![0x30; 20_000], &spec), Err(TlsError::Request(why)) if why.contains("16 KiB"))
    );
    for algorithm in [&PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let csr = CertificateParams::default().serialize_request(&key).unwrap();
        assert!(
            matches!(authority.sign_csr(csr.der(), &spec), Err(TlsError::Request(why)) if why.contains("P-256"))
        );
    }
}

#[test]
fn a_specification_that_makes_no_sense_is_refused() {
    let authority = authority();
    let csr = KeyRequest::create(&cluster(), &agent("node1")).unwrap();
    let at = now();
    let far = Timestamp(at.0 + 20 * 365 * 86_400_000);
    for spec in [
        LeafSpec::new(Principal::System, at, HOUR),
        LeafSpec::new(agent("node1"), at, HOUR).with_hosts(["a.example"]),
        LeafSpec::new(member(1), at, HOUR).with_hosts(["*.example"]),
        LeafSpec::new(member(1), at, HOUR).with_hosts(["a b"]),
        LeafSpec::new(agent("node1"), far, HOUR),
        LeafSpec { not_after: Timestamp(0), ..LeafSpec::new(agent("node1"), at, HOUR) },
    ] {
        assert!(authority.sign_csr(csr.csr_der(), &spec).is_err(), "{spec:?}");
    }
    let long = LeafSpec::new(agent("node1"), at, CA_LIFE * 3);
    let issued = authority.sign_csr(csr.csr_der(), &long).unwrap();
    assert!(
        issued.not_after.0 <= at.0 + i64::try_from(CA_LIFE.as_millis()).unwrap(),
        "no leaf outlives its CA"
    );
    assert!(CertificateAuthority::create(&ClusterId::new("a:b").unwrap(), "x", at).is_err());
}

#[test]
fn serial_numbers_do_not_repeat_and_nothing_secret_is_printed() {
    let authority = authority();
    let spec = LeafSpec::new(agent("node1"), now(), HOUR);
    let (request, first) = issue(&authority, &spec);
    let second = authority.sign_csr(request.csr_der(), &spec).unwrap();
    assert_ne!(first.serial, second.serial);
    for shown in [format!("{authority:?}"), format!("{request:?}")] {
        assert!(!shown.contains("PRIVATE") && shown.len() < 200, "{shown}");
    }
}

#[test]
fn renewal_is_due_at_two_thirds() {
    let (_, issued) = issue(&authority(), &LeafSpec::new(agent("node1"), now(), HOUR));
    let identity = Identity::from_verified(&issued.der).unwrap();
    let life = identity.not_after.0 - identity.not_before.0;
    assert_eq!(identity.renew_at().0 - identity.not_before.0, life / 3 * 2);
    assert_eq!(identity.check_time(now()), Ok(()));
    assert_eq!(identity.check_time(Timestamp(identity.not_after.0 + 1)), Err(Refused::Expired));
    assert_eq!(identity.check_time(Timestamp(identity.not_before.0 - 1)), Err(Refused::NotYetValid));
}
