//! A look at the certificate of a server that is none of ours: what it shows is read, and nobody is trusted.
//!
//! Must never: be used to talk to anybody. No byte of an application is sent over such a connection, and nothing that the
//! server says but its certificate is looked at. That it holds the key of what it shows is checked all the same: its
//! signature over the handshake is verified, so that nobody passes with somebody else's certificate.

use std::sync::Arc;

use quorate_model::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::identity::from_secs;
use super::provider::client_builder;
use super::verify::signatures;
use super::{Fingerprint, Refused, TlsError, fingerprint, provider};

/// What a certificate says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// SHA-256 of its DER form.
    pub fingerprint: Fingerprint,
    /// First valid instant.
    pub not_before: Timestamp,
    /// Last valid instant.
    pub not_after: Timestamp,
    /// Its subject, as it is usually written. Anybody may have chosen it.
    pub subject: String,
    /// The alternative names it is for, each as text.
    pub names: Vec<String>,
    der: CertificateDer<'static>,
}

impl Shown {
    /// Reads a certificate.
    ///
    /// # Errors
    /// [`Refused::Malformed`] when it is none.
    pub fn read(der: &CertificateDer<'_>) -> Result<Self, Refused> {
        let (rest, parsed) = X509Certificate::from_der(der).map_err(|_| Refused::Malformed)?;
        if !rest.is_empty() {
            return Err(Refused::Malformed);
        }
        let names = match parsed.subject_alternative_name() {
            Ok(Some(names)) => names.value.general_names.iter().map(ToString::to_string).collect(),
            Ok(None) => Vec::new(),
            Err(_) => return Err(Refused::Malformed),
        };
        Ok(Self {
            fingerprint: fingerprint(der),
            not_before: from_secs(parsed.validity().not_before.timestamp()),
            not_after: from_secs(parsed.validity().not_after.timestamp()),
            subject: parsed.subject().to_string(),
            names,
            der: der.clone().into_owned(),
        })
    }

    /// The first certificate of a PEM text.
    ///
    /// # Errors
    /// [`Refused::Malformed`] when there is none.
    pub fn read_pem(pem: &[u8]) -> Result<Self, Refused> {
        let der = CertificateDer::from_pem_slice(pem).map_err(|_| Refused::Malformed)?;
        Self::read(&der)
    }

    /// Whether it is for a name, by the rules of TLS clients: its alternative names alone count.
    #[must_use]
    pub fn is_for(&self, name: &ServerName<'_>) -> bool {
        ParsedCertificate::try_from(&self.der).is_ok_and(|parsed| verify_server_name(&parsed, name).is_ok())
    }
}

/// A configuration for a look: TLS 1.3 with any server, without a certificate of our own, and without resumption, which would
/// show nothing.
///
/// # Errors
/// When the provider has no TLS 1.3, which is a defect.
pub fn looking_only() -> Result<ClientConfig, TlsError> {
    let mut config = client_builder()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Onlooker))
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// Takes any chain: it is looked at, not trusted.
#[derive(Debug)]
struct Onlooker;

impl ServerCertVerifier for Onlooker {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    signatures!();
}
