//! 8: a certificate names exactly one principal of ours, or is refused. What is accepted can be written back.

use std::time::Duration;

use quorate_common::tls::{CertificateAuthority, Identity, KeyRequest, LeafSpec, principal_uri};
use quorate_model::{ClusterId, MemberId, NodeName, Principal, Timestamp, UserName};

pub(super) fn run(data: &[u8]) {
    let Ok(identity) = Identity::from_verified(data) else { return };
    assert_ne!(identity.principal, Principal::System, "a certificate speaks for the control plane itself");
    if identity.not_before > identity.not_after {
        // Never valid: no instant may find it so.
        for now in [identity.not_before, identity.not_after] {
            assert!(identity.check_time(now).is_err(), "valid at {now:?} although it ends before it begins");
        }
    }
    let uri =
        principal_uri(&identity.cluster, &identity.principal).expect("an accepted principal has a name");
    assert!(
        data.windows(uri.len()).any(|window| window == uri.as_bytes()),
        "{uri} does not stand in the certificate"
    );
}

/// Certificates of every role by a CA of ours, the CA itself, and a request. The committed corpus keeps one set: keys differ
/// every time.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let now = Timestamp(1_795_000_000_000);
    let cluster = ClusterId::new("fuzz").expect("an id");
    let ca = CertificateAuthority::create(&cluster, "fuzz", now).expect("a CA");
    let mut seeds = vec![ca.der().to_vec()];
    let node = NodeName::new("node1").expect("a name");
    let user = UserName::new("ann").expect("a name");
    let principals = [
        Principal::Agent { node },
        Principal::User { name: user },
        Principal::Coordinator { member: MemberId(3) },
    ];
    for principal in principals {
        let request = KeyRequest::create(&cluster, &principal).expect("a key");
        let leaf = LeafSpec::new(principal, now, Duration::from_secs(3_600));
        let issued = ca.sign_csr(request.csr_der(), &leaf).expect("a certificate");
        seeds.push(issued.der.clone());
        seeds.push(request.csr_der().to_vec());
    }
    seeds
}
