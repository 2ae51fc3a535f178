//! A new key and the request to have it certified, made by whoever joins. The key never leaves its maker.

use std::fmt;

use quorate_model::{ClusterId, Principal};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use zeroize::Zeroizing;

use super::{TlsError, principal_uri};

/// A fresh P-256 key and its certificate request.
pub struct KeyRequest {
    key_pem: Zeroizing<String>,
    csr_der: Vec<u8>,
}

impl fmt::Debug for KeyRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyRequest {{ csr: {} bytes, key: hidden }}", self.csr_der.len())
    }
}

impl KeyRequest {
    /// Makes a key and a request. The names in it are for people who look at it; the signer takes only the key.
    ///
    /// # Errors
    /// [`TlsError::Generate`].
    pub fn create(cluster: &ClusterId, principal: &Principal) -> Result<Self, TlsError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, principal.to_string());
        if let Some(uri) = principal_uri(cluster, principal) {
            params.subject_alt_names.push(SanType::URI(uri.try_into()?));
        }
        let csr_der = params.serialize_request(&key)?.der().to_vec();
        Ok(Self { key_pem: Zeroizing::new(key.serialize_pem()), csr_der })
    }

    /// The request, to send.
    #[must_use]
    pub fn csr_der(&self) -> &[u8] {
        &self.csr_der
    }

    /// The key, to store with [`super::Store::save`].
    #[must_use]
    pub const fn key_pem(&self) -> &Zeroizing<String> {
        &self.key_pem
    }
}
