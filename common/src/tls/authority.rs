//! The cluster's own certificate authority. It signs what *it* decides; a request contributes its public key only.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use quorate_model::{ClusterId, DurationMs, Principal, Role, Serial, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use zeroize::Zeroizing;

use super::file::{read_private, read_text, write_atomic};
use super::identity::{parse_cluster, parse_uri};
use super::{Fingerprint, TlsError, fingerprint, principal_uri};

/// Life of the CA: ten years; it is replaced by overlap long before.
pub const CA_LIFE: Duration = Duration::from_secs(10 * 365 * 86_400);
/// Default life of every other certificate: a day, renewed at two thirds of it.
pub const LEAF_LIFE: Duration = Duration::from_secs(86_400);
/// How far certificates are dated back, for hosts whose clocks are behind.
pub const BACKDATE: Duration = Duration::from_secs(5 * 60);
/// Largest certificate request; ours has about 300 bytes.
const CSR_MAX_BYTES: usize = 16 * 1024;
/// Most names of one server certificate.
const HOSTS_MAX: usize = 64;

const CA_FILE: &str = "ca.pem";
const CA_KEY_FILE: &str = "ca.key";

/// What the signer puts into a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafSpec {
    /// For whom.
    pub principal: Principal,
    /// First valid instant; never before the CA's.
    pub not_before: Timestamp,
    /// Last valid instant; never after the CA's.
    pub not_after: Timestamp,
    /// Host names and addresses under which a coordinator is dialled; must be empty for others.
    pub hosts: Vec<String>,
}

impl LeafSpec {
    /// A certificate that is valid from five minutes ago until `now + life`.
    #[must_use]
    pub fn new(principal: Principal, now: Timestamp, life: Duration) -> Self {
        Self {
            principal,
            not_before: now.minus(ms(BACKDATE)),
            not_after: now.plus(ms(life)),
            hosts: Vec::new(),
        }
    }

    /// Adds the names under which a coordinator is dialled; `localhost` and the loopback addresses are always there.
    #[must_use]
    pub fn with_hosts<S: Into<String>>(mut self, hosts: impl IntoIterator<Item = S>) -> Self {
        self.hosts.extend(hosts.into_iter().map(Into::into));
        self
    }
}

fn ms(span: Duration) -> DurationMs {
    DurationMs(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}

/// A certificate that was just signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedCertificate {
    /// DER.
    pub der: Vec<u8>,
    /// PEM, one certificate.
    pub pem: String,
    /// Its serial number, random.
    pub serial: Serial,
    /// First valid instant, whole seconds.
    pub not_before: Timestamp,
    /// Last valid instant, whole seconds.
    pub not_after: Timestamp,
    /// SHA-256 of `der`.
    pub fingerprint: Fingerprint,
}

/// The CA with its key.
pub struct CertificateAuthority {
    cluster: ClusterId,
    der: CertificateDer<'static>,
    pem: String,
    key_pem: Zeroizing<String>,
    issuer: Issuer<'static, KeyPair>,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "CertificateAuthority {{ cluster: {}, sha256: {} }}",
            self.cluster,
            super::hex(&self.fingerprint())
        )
    }
}

impl CertificateAuthority {
    /// Makes a new CA: P-256, ten years, signs leaves only (path length 0).
    ///
    /// # Errors
    /// A cluster id that cannot stand in a URI, or a failing generator.
    pub fn create(cluster: &ClusterId, name: &str, now: Timestamp) -> Result<Self, TlsError> {
        parse_cluster(cluster.as_str())
            .map_err(|_| TlsError::unusable("cluster id", "':' and '@' are not allowed"))?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        set_life(&mut params, now.minus(ms(BACKDATE)), now.plus(ms(CA_LIFE)));
        let (serial, _) = random_serial()?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Quorate");
        // The serial keeps the subjects of an old and a new CA apart, so that chains are built without guessing.
        params
            .distinguished_name
            .push(DnType::CommonName, format!("{name} {}", super::hex(&serial.to_bytes()[..4])));
        params.serial_number = Some(serial);
        params.subject_alt_names.push(SanType::URI(format!("spiffe://{cluster}").try_into()?));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?;
        Self::from_pem(&certificate.pem(), &Zeroizing::new(key.serialize_pem()))
    }

    /// Reads a CA from its two PEM texts.
    ///
    /// # Errors
    /// When they do not parse, do not belong together, or the certificate is not a CA of ours.
    pub fn from_pem(pem: &str, key_pem: &Zeroizing<String>) -> Result<Self, TlsError> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| TlsError::unusable(CA_FILE, error))?;
        let (_, parsed) =
            x509_parser::parse_x509_certificate(&der).map_err(|e| TlsError::unusable(CA_FILE, e))?;
        let key = KeyPair::from_pem(key_pem)
            .map_err(|_| TlsError::unusable(CA_KEY_FILE, "no private key in PEM"))?;
        if !parsed.is_ca() {
            return Err(TlsError::unusable(CA_FILE, "it is not a CA certificate"));
        }
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(TlsError::unusable(CA_KEY_FILE, "it does not belong to ca.pem"));
        }
        let names = parsed.subject_alternative_name().ok().flatten();
        let cluster = names
            .iter()
            .flat_map(|names| &names.value.general_names)
            .find_map(|name| match name {
                GeneralName::URI(uri) => {
                    uri.strip_prefix("spiffe://").and_then(|text| parse_cluster(text).ok())
                }
                _ => None,
            })
            .ok_or_else(|| TlsError::unusable(CA_FILE, "it names no cluster"))?;
        let not_before = Timestamp(parsed.validity().not_before.timestamp().saturating_mul(1_000));
        let not_after = Timestamp(parsed.validity().not_after.timestamp().saturating_mul(1_000));
        let issuer = Issuer::from_ca_cert_der(&der, key)?;
        Ok(Self {
            cluster,
            pem: pem.to_owned(),
            key_pem: key_pem.clone(),
            issuer,
            not_before,
            not_after,
            der,
        })
    }

    /// Reads `ca.pem` and `ca.key` of a directory.
    ///
    /// # Errors
    /// As [`Self::from_pem`]; also a key file that others may read.
    pub fn load(dir: &Path) -> Result<Self, TlsError> {
        Self::from_pem(&read_text(&dir.join(CA_FILE))?, &read_private(&dir.join(CA_KEY_FILE))?)
    }

    /// Writes `ca.key` (0600), then `ca.pem`, each atomically.
    ///
    /// # Errors
    /// [`TlsError::File`].
    pub fn save(&self, dir: &Path) -> Result<(), TlsError> {
        write_atomic(&dir.join(CA_KEY_FILE), self.key_pem.as_bytes(), 0o600)?;
        write_atomic(&dir.join(CA_FILE), self.pem.as_bytes(), 0o644)
    }

    /// The cluster it signs for.
    #[must_use]
    pub const fn cluster(&self) -> &ClusterId {
        &self.cluster
    }

    /// Its certificate, PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Its key, PEM; for handing it to another coordinator over mutual TLS. Never log it.
    #[must_use]
    pub const fn key_pem(&self) -> &Zeroizing<String> {
        &self.key_pem
    }

    /// Its certificate, DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// What enrolment tokens pin.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        fingerprint(&self.der)
    }

    /// Signs the public key of a request under the names and usages of `spec`, ignoring every other wish in it.
    ///
    /// # Errors
    /// [`TlsError::Request`] for a request that is malformed, too large, not P-256, or not signed by its own key;
    /// [`TlsError::Unusable`] for a spec that makes no sense.
    pub fn sign_csr(&self, csr_der: &[u8], spec: &LeafSpec) -> Result<IssuedCertificate, TlsError> {
        let public_key = verified_key(csr_der)?;
        let (mut params, serial) = self.leaf_params(spec)?;
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&public_key, &self.issuer)?;
        let der = certificate.der().to_vec();
        Ok(IssuedCertificate {
            pem: certificate.pem(),
            fingerprint: fingerprint(&der),
            der,
            serial,
            not_before: Timestamp(params.not_before.unix_timestamp() * 1_000),
            not_after: Timestamp(params.not_after.unix_timestamp() * 1_000),
        })
    }

    fn leaf_params(&self, spec: &LeafSpec) -> Result<(CertificateParams, Serial), TlsError> {
        let LeafSpec { principal, not_before, not_after, hosts } = spec;
        let bad = |why: &str| TlsError::unusable("certificate specification", why);
        let uri =
            principal_uri(&self.cluster, principal).ok_or_else(|| bad("the system has no certificate"))?;
        parse_uri(&uri).map_err(|_| bad("the name cannot stand in an identity"))?;
        let (from, until) = ((*not_before).max(self.not_before), (*not_after).min(self.not_after));
        if from >= until {
            return Err(bad("its life is empty or outside the CA's"));
        }
        let server = principal.role() == Some(Role::Coordinator);
        if !server && !hosts.is_empty() || hosts.len() > HOSTS_MAX {
            return Err(bad("host names are for coordinators, 64 at most"));
        }
        let mut params = CertificateParams::default();
        set_life(&mut params, from, until);
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, principal.to_string());
        params.subject_alt_names.push(SanType::URI(uri.try_into()?));
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if server {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
            params.subject_alt_names.extend(host_names(hosts)?);
        }
        let (number, serial) = random_serial()?;
        params.serial_number = Some(number);
        Ok((params, serial))
    }
}

/// Names and addresses, loopback first, without repetition.
fn host_names(hosts: &[String]) -> Result<Vec<SanType>, TlsError> {
    let mut names: Vec<SanType> = Vec::new();
    for host in ["localhost", "127.0.0.1", "::1"].into_iter().chain(hosts.iter().map(String::as_str)) {
        let name = match host.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => {
                // rustls' own parser: what it does not take could not be dialled either. Wildcards fail here.
                rustls::pki_types::DnsName::try_from(host).map_err(|_| {
                    TlsError::unusable("host name", format!("{host:?} is no host name or address"))
                })?;
                SanType::DnsName(host.try_into()?)
            }
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// Checks that a request is P-256 and signed by the key it carries: nobody can have another's key certified.
fn verified_key(csr_der: &[u8]) -> Result<SubjectPublicKeyInfo, TlsError> {
    let refused = |why: &str| TlsError::Request(why.to_owned());
    if csr_der.len() > CSR_MAX_BYTES {
        return Err(refused("it is larger than 16 KiB"));
    }
    let (rest, request) =
        X509CertificationRequest::from_der(csr_der).map_err(|_| refused("it cannot be parsed"))?;
    if !rest.is_empty() {
        return Err(refused("bytes follow it"));
    }
    let spki = &request.certification_request_info.subject_pki;
    let curve =
        spki.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok()).map(|oid| oid.to_id_string());
    let p256 = spki.algorithm.algorithm.to_id_string() == "1.2.840.10045.2.1"
        && curve.as_deref() == Some("1.2.840.10045.3.1.7");
    if !p256 {
        return Err(refused("only P-256 keys are accepted"));
    }
    // The request's algorithm field is not covered by its signature; exactly one value is accepted.
    let algorithm = &request.signature_algorithm;
    if algorithm.algorithm.to_id_string() != "1.2.840.10045.4.3.2" || algorithm.parameters.is_some() {
        return Err(refused("only ECDSA with SHA-256 signatures are accepted"));
    }
    if request.signature_value.unused_bits != 0 {
        return Err(refused("its signature is malformed"));
    }
    request.verify_signature().map_err(|_| refused("its signature does not verify"))?;
    Ok(SubjectPublicKeyInfo::from_der(spki.raw)?)
}

/// 127 random bits, never 0.
fn random_serial() -> Result<(SerialNumber, Serial), TlsError> {
    let mut bytes = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| TlsError::unusable("random generator", "it gave no bytes"))?;
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    let text = Serial::new(super::hex(&bytes)).map_err(|error| TlsError::unusable("serial number", error))?;
    Ok((SerialNumber::from_slice(&bytes), text))
}

/// Sets the life in whole seconds.
fn set_life(params: &mut CertificateParams, from: Timestamp, until: Timestamp) {
    // Until year 9999, the last that X.509 can write.
    let since_epoch =
        |at: Timestamp| Duration::from_secs(u64::try_from(at.0 / 1_000).unwrap_or(0).min(253_402_300_799));
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + since_epoch(from);
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + since_epoch(until);
}
