//! The cluster's CA as a [`Signer`].

use std::time::Duration;

use quorate_common::tls::{CertificateAuthority, LeafSpec, TlsError};
use quorate_model::{DurationMs, Principal, Timestamp};
use zeroize::Zeroizing;

use super::backend::{SignError, Signed, Signer};

/// Signs with the CA that every coordinator has.
#[derive(Debug)]
pub struct CaSigner {
    authority: CertificateAuthority,
    life: Duration,
}

impl CaSigner {
    /// With the life of the certificates it hands out.
    #[must_use]
    pub const fn new(authority: CertificateAuthority, life: DurationMs) -> Self {
        Self { authority, life: Duration::from_millis(life.0) }
    }
}

impl Signer for CaSigner {
    fn sign(
        &self,
        csr_der: &[u8],
        principal: &Principal,
        hosts: &[String],
        now: Timestamp,
    ) -> Result<Signed, SignError> {
        let spec = LeafSpec::new(principal.clone(), now, self.life).with_hosts(hosts.iter().cloned());
        let issued = self.authority.sign_csr(csr_der, &spec).map_err(|error| match error {
            TlsError::Request(why) => SignError::Request(why),
            other => SignError::Authority(other.to_string()),
        })?;
        Ok(Signed { pem: issued.pem, serial: issued.serial, not_after: issued.not_after })
    }

    fn ca_key_pem(&self) -> Zeroizing<String> {
        self.authority.key_pem().clone()
    }

    fn ca_sha256(&self) -> [u8; 32] {
        self.authority.fingerprint()
    }
}
