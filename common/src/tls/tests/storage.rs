use std::os::unix::fs::PermissionsExt;

use zeroize::Zeroizing;

use super::*;

fn mode(path: &std::path::Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_ca_is_saved_privately_and_loaded_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let authority = authority();
    authority.save(dir.path()).unwrap();
    assert_eq!(mode(&dir.path().join("ca.key")), 0o600);
    let loaded = CertificateAuthority::load(dir.path()).unwrap();
    assert_eq!((loaded.cluster(), loaded.fingerprint()), (authority.cluster(), authority.fingerprint()));
    let material = material(&loaded, &LeafSpec::new(agent("node1"), now(), HOUR));
    assert_eq!(material.identity().principal, agent("node1"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "no temporary file stays");

    std::fs::set_permissions(dir.path().join("ca.key"), std::fs::Permissions::from_mode(0o640)).unwrap();
    let error = CertificateAuthority::load(dir.path()).unwrap_err();
    assert!(matches!(error, TlsError::KeyMode { mode: 0o640, .. }), "{error}");
}

#[test]
fn files_that_do_not_belong_together_are_refused_by_name() {
    let (one, two) = (authority(), authority());
    let spec = LeafSpec::new(agent("node1"), now(), HOUR);
    let (key, cert) = issue(&one, &spec);
    let (other_key, _) = issue(&one, &spec);
    let wrong = |ca: &str, cert: &str, key: &Zeroizing<String>| {
        Material::from_pem(ca, cert, key).unwrap_err().to_string()
    };
    assert!(wrong(one.pem(), &cert.pem, other_key.key_pem()).contains("key.pem"));
    let error = Material::from_pem(two.pem(), &cert.pem, key.key_pem()).unwrap_err();
    assert!(matches!(error, TlsError::Certificate { source: Refused::WrongCa, .. }), "{error:?}");
    let error = Material::from_pem(one.pem(), one.pem(), one.key_pem()).unwrap_err();
    assert!(matches!(error, TlsError::Certificate { source: Refused::CaAsLeaf, .. }), "{error:?}");
    assert!(wrong("", &cert.pem, key.key_pem()).contains("ca.pem"));
    assert!(wrong(one.pem(), "junk", key.key_pem()).contains("cert.pem"));
    let encrypted = Zeroizing::new(
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n".to_owned(),
    );
    assert!(wrong(one.pem(), &cert.pem, &encrypted).contains("no unencrypted private key"));
    assert!(wrong(&one.pem().repeat(9), &cert.pem, key.key_pem()).contains("more than 8"));
    assert!(CertificateAuthority::from_pem(one.pem(), two.key_pem()).is_err());
    assert!(CertificateAuthority::from_pem(&cert.pem, key.key_pem()).is_err());
    // Junk around the blocks is what `openssl` prints; it is skipped.
    Material::from_pem(&format!("subject=x\n{}", one.pem()), &cert.pem, key.key_pem()).unwrap();
}

#[test]
fn every_damaged_byte_of_a_certificate_is_refused() {
    let authority = authority();
    let (key, cert) = issue(&authority, &LeafSpec::new(agent("node1"), now(), HOUR));
    for at in (0..cert.der.len()).step_by(3) {
        let mut der = cert.der.clone();
        der[at] ^= 0x10;
        let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
        base64::Engine::encode_string(&base64::engine::general_purpose::STANDARD, &der, &mut pem);
        pem.push_str("\n-----END CERTIFICATE-----\n");
        assert!(Material::from_pem(authority.pem(), &pem, key.key_pem()).is_err(), "byte {at}");
    }
}

#[test]
fn the_identity_directory_survives_a_crash_between_any_two_renames() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path().join("identity"));
    let authority = authority();
    let spec = LeafSpec::new(agent("node1"), now(), HOUR);
    assert!(!store.exists());
    let (key, cert) = issue(&authority, &spec);
    store.save(authority.pem(), &cert.pem, key.key_pem()).unwrap();
    assert!(store.exists());
    assert_eq!(mode(store.dir()), 0o700);
    assert_eq!(mode(&store.dir().join("key.pem")), 0o600);
    assert_eq!(store.load().unwrap().identity().serial, cert.serial);

    // A committed change of which 0, 1, 2 or 3 files were moved already.
    for moved in 0..=3 {
        let (key, cert) = issue(&authority, &spec);
        let next = store.dir().join("next");
        std::fs::create_dir(&next).unwrap();
        for (at, (name, text)) in
            [("key.pem", key.key_pem().as_str()), ("cert.pem", &cert.pem), ("ca.pem", authority.pem())]
                .iter()
                .enumerate()
        {
            let place = if at < moved { store.dir().join(name) } else { next.join(name) };
            write_atomic(&place, text.as_bytes(), 0o600).unwrap();
        }
        assert_eq!(store.load().unwrap().identity().serial, cert.serial, "{moved} files moved");
        assert!(!next.exists());
    }

    // A change that was not committed is as if it never was.
    let before = store.load().unwrap().identity().serial.clone();
    let draft = store.dir().join("next.tmp");
    std::fs::create_dir(&draft).unwrap();
    std::fs::write(draft.join("key.pem"), "half").unwrap();
    assert_eq!(store.load().unwrap().identity().serial, before);
    let (key, cert) = issue(&authority, &spec);
    store.save(authority.pem(), &cert.pem, key.key_pem()).unwrap();
    assert_eq!(store.load().unwrap().identity().serial, cert.serial);
    assert!(store.save(authority.pem(), "junk", key.key_pem()).is_err());
    assert_eq!(store.load().unwrap().identity().serial, cert.serial);
}

#[test]
fn a_process_keeps_its_identity_for_life() {
    let authority = authority();
    let live = live(&authority, agent("node1"));
    live.replace(material(&authority, &LeafSpec::new(agent("node1"), now(), HOUR))).unwrap();
    let other = material(&authority, &LeafSpec::new(agent("node2"), now(), HOUR));
    assert!(matches!(live.replace(other), Err(TlsError::OtherIdentity { .. })));
}
