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

/// An access list in the kernel's form.
fn access_list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        list.extend(tag.to_le_bytes());
        list.extend(rights.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    list
}

/// Owner, a user, the owning group, the mask, others; as systemd writes it for the service's user.
fn credential(user: u32, group_rights: u16) -> Vec<u8> {
    const NOBODY: u32 = u32::MAX;
    access_list(&[
        (0x01, 4, NOBODY),
        (0x02, 4, user),
        (0x04, group_rights, NOBODY),
        (0x10, 4, NOBODY),
        (0x20, 0, NOBODY),
    ])
}

#[test]
fn a_credential_of_systemd_is_private_although_its_mode_shows_a_group() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "secret").unwrap();
    let own = rustix::process::geteuid().as_raw();
    let set = |list: &[u8]| {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(&file, "system.posix_acl_access", list, flags).unwrap();
        assert_eq!(mode(&file), 0o440);
        read_private(&file)
    };
    assert_eq!(*set(&credential(own, 0)).unwrap(), "secret");
    for foreign in [credential(own + 1, 0), credential(own, 4)] {
        assert!(matches!(set(&foreign), Err(TlsError::KeyMode { mode: 0o440, .. })), "{foreign:?}");
    }
    // The same mode without a list is a group that may read.
    rustix::fs::removexattr(&file, "system.posix_acl_access").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o440)).unwrap();
    assert!(matches!(read_private(&file), Err(TlsError::KeyMode { mode: 0o440, .. })));
}

#[test]
fn an_access_list_that_is_not_understood_lets_nobody_in() {
    let good = credential(7, 0);
    assert!(file::lists_only(&good, 7) && !file::lists_only(&good, 8));
    for cut in 0..good.len() {
        // Whole entries less are fewer rights, not more; anything else is no list.
        let whole = cut >= 12 && (cut - 4).is_multiple_of(8);
        assert_eq!(file::lists_only(&good[..cut], 7), whole, "{cut}");
    }
    let named_group = access_list(&[(0x01, 4, 0), (0x08, 4, 7), (0x10, 4, 0), (0x20, 0, 0)]);
    assert!(!file::lists_only(&named_group, 7));
    assert!(!file::lists_only(&access_list(&[(0x40, 4, 7)]), 7));
    assert!(!file::lists_only(&[&[3], &good[1..]].concat(), 7));
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
