//! What a process speaks TLS with: its certificate and key, and the trust bundle. Checked completely when made.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use zeroize::Zeroizing;

use super::file::{read_private, read_text};
use super::{Identity, Refused, TlsError, provider};

/// Most CA certificates of a trust bundle: the old and the new one, with room for a botched rotation.
const BUNDLE_MAX: usize = 8;

/// A certificate with its key and the trust bundle. Immutable; rotation replaces the whole.
pub struct Material {
    identity: Identity,
    certified: Arc<CertifiedKey>,
    client_verifier: Arc<dyn ClientCertVerifier>,
    server_verifier: Arc<WebPkiServerVerifier>,
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Material {{ {} serial {} }}", self.identity.principal, self.identity.serial)
    }
}

impl Material {
    /// Reads three PEM texts: trust bundle, certificate, key.
    ///
    /// Time is not checked: an expired certificate loads, so that its owner can say so; see [`Identity::check_time`].
    ///
    /// # Errors
    /// When something does not parse, the key does not belong to the certificate, the certificate was not issued by the
    /// bundle, or it names no identity.
    pub fn from_pem(ca_pem: &str, cert_pem: &str, key_pem: &Zeroizing<String>) -> Result<Self, TlsError> {
        let bundle = certificates("ca.pem", ca_pem)?;
        let mut chain = certificates("cert.pem", cert_pem)?;
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
            .map_err(|_| TlsError::unusable("key.pem", "it holds no unencrypted private key in PEM"))?;
        let mut roots = RootCertStore::empty();
        for certificate in &bundle {
            roots.add(certificate.clone()).map_err(|error| TlsError::unusable("ca.pem", error))?;
        }
        let roots = Arc::new(roots);
        let client_verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider())
            .build()
            .map_err(|error| TlsError::unusable("ca.pem", error))?;
        let server_verifier = WebPkiServerVerifier::builder_with_provider(roots, provider())
            .build()
            .map_err(|error| TlsError::unusable("ca.pem", error))?;
        let leaf = chain[0].clone();
        let refused = |source| TlsError::Certificate { what: "cert.pem", source };
        verify_at_birth(client_verifier.as_ref(), &leaf, &chain[1..]).map_err(refused)?;
        let identity = Identity::from_verified(&leaf).map_err(refused)?;
        if chain.len() == 1 {
            chain.extend(issuers(&leaf, &bundle));
        }
        let certified = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| {
            TlsError::unusable("key.pem", format!("it does not go with cert.pem: {error}"))
        })?;
        Ok(Self { identity, certified: Arc::new(certified), client_verifier, server_verifier })
    }

    /// Reads three files. The key must be 0600.
    ///
    /// # Errors
    /// As [`Self::from_pem`], and unreadable files.
    pub fn load(ca: &Path, cert: &Path, key: &Path) -> Result<Self, TlsError> {
        Self::from_pem(&read_text(ca)?, &read_text(cert)?, &read_private(key)?)
    }

    /// Who this process is.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(super) fn certified(&self) -> Arc<CertifiedKey> {
        self.certified.clone()
    }

    pub(super) fn client_verifier(&self) -> &dyn ClientCertVerifier {
        self.client_verifier.as_ref()
    }

    pub(super) fn server_verifier(&self) -> &WebPkiServerVerifier {
        self.server_verifier.as_ref()
    }
}

fn certificates(what: &'static str, pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let mut list = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        if list.len() == BUNDLE_MAX {
            return Err(TlsError::unusable(what, format!("it holds more than {BUNDLE_MAX} certificates")));
        }
        list.push(certificate.map_err(|error| TlsError::unusable(what, error))?);
    }
    if list.is_empty() { Err(TlsError::unusable(what, "it holds no certificate in PEM")) } else { Ok(list) }
}

/// Verifies the chain at the first valid instant: the question is who issued it, not whether it is still valid.
fn verify_at_birth(
    verifier: &dyn ClientCertVerifier,
    leaf: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
) -> Result<(), Refused> {
    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|_| Refused::Malformed)?;
    let secs = u64::try_from(parsed.validity().not_before.timestamp()).unwrap_or(0);
    let birth = UnixTime::since_unix_epoch(std::time::Duration::from_secs(secs));
    verifier
        .verify_client_cert(leaf, others, birth)
        .map(|_| ())
        .map_err(|error| Refused::of(&error).unwrap_or(Refused::Malformed))
}

/// The bundle's certificates that may have issued the leaf: sent along, so that an enrolling client can compare its pin.
fn issuers(leaf: &CertificateDer<'_>, bundle: &[CertificateDer<'static>]) -> Vec<CertificateDer<'static>> {
    let issuer = X509Certificate::from_der(leaf).map(|(_, parsed)| parsed.issuer().as_raw().to_vec()).ok();
    bundle
        .iter()
        .filter(|ca| {
            let subject =
                X509Certificate::from_der(ca).map(|(_, parsed)| parsed.subject().as_raw().to_vec()).ok();
            subject.is_some() && subject == issuer
        })
        .cloned()
        .collect()
}
