//! Issuing, storing and shaking hands, with real certificates over in-memory pipes.

mod handshake;
mod issue;
mod storage;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use quorate_model::{ClusterId, MemberId, NodeName, Principal, Serial, Timestamp, UserName};

use super::*;

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Timestamp(i64::try_from(since.as_millis()).unwrap())
}

fn cluster() -> ClusterId {
    ClusterId::new("c1").unwrap()
}

fn authority() -> CertificateAuthority {
    CertificateAuthority::create(&cluster(), "test", now()).unwrap()
}

fn agent(name: &str) -> Principal {
    Principal::Agent { node: NodeName::new(name).unwrap() }
}

fn user(name: &str) -> Principal {
    Principal::User { name: UserName::new(name).unwrap() }
}

fn member(number: u64) -> Principal {
    Principal::Coordinator { member: MemberId(number) }
}

/// Key and certificate texts of a principal, as a joining process would get them.
fn issue(authority: &CertificateAuthority, spec: &LeafSpec) -> (KeyRequest, IssuedCertificate) {
    let request = KeyRequest::create(authority.cluster(), &spec.principal).unwrap();
    let issued = authority.sign_csr(request.csr_der(), spec).unwrap();
    (request, issued)
}

fn material(authority: &CertificateAuthority, spec: &LeafSpec) -> Material {
    let (request, issued) = issue(authority, spec);
    Material::from_pem(authority.pem(), &issued.pem, request.key_pem()).unwrap()
}

fn live(authority: &CertificateAuthority, principal: Principal) -> Arc<LiveTls> {
    LiveTls::new(material(authority, &LeafSpec::new(principal, now(), LEAF_LIFE)))
}

/// Allows everyone but the serials it was told about.
#[derive(Default)]
struct TestList(std::sync::Mutex<Vec<Serial>>);

impl AllowList for TestList {
    fn check(&self, serial: &Serial, _principal: &Principal) -> Result<AccessInfo, Denied> {
        if self.0.lock().unwrap().contains(serial) { Err(Denied::Revoked) } else { Ok(AccessInfo::default()) }
    }
}

const HOUR: Duration = Duration::from_secs(3_600);
