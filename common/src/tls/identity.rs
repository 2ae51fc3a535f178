//! Certificate -> principal: exactly one URI name, nothing else.

use quorate_model::{ClusterId, MemberId, NodeName, Principal, Role, Serial, Timestamp, UserName};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

use super::{Fingerprint, Refused, fingerprint};

/// Smallest RSA key that is accepted, in bits (I-27). Our own keys are P-256.
const RSA_MIN_BITS: usize = 2_048;
/// Longest serial number, in bytes (RFC 5280).
const SERIAL_MAX_BYTES: usize = 20;
/// Signature algorithms that are accepted: ECDSA and RSA (PKCS#1, PSS) with SHA-2, Ed25519. MD5 and SHA-1 are absent.
const SIGNATURES: &[&str] = &[
    "1.2.840.10045.4.3.2",
    "1.2.840.10045.4.3.3",
    "1.2.840.10045.4.3.4",
    "1.2.840.113549.1.1.10",
    "1.2.840.113549.1.1.11",
    "1.2.840.113549.1.1.12",
    "1.2.840.113549.1.1.13",
    "1.3.101.112",
];

/// Who a verified certificate speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster in the URI.
    pub cluster: ClusterId,
    /// The role and name in the URI. Never [`Principal::System`].
    pub principal: Principal,
    /// The certificate's serial number.
    pub serial: Serial,
    /// First valid instant.
    pub not_before: Timestamp,
    /// Last valid instant.
    pub not_after: Timestamp,
    /// SHA-256 of the certificate.
    pub fingerprint: Fingerprint,
}

impl Identity {
    /// Reads the identity of a leaf certificate **whose chain was verified by the caller**.
    ///
    /// # Errors
    /// [`Refused`] unless it has exactly one well-formed identity, an accepted key and signature, and is no CA.
    pub fn from_verified(der: &[u8]) -> Result<Self, Refused> {
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| Refused::Malformed)?;
        if !rest.is_empty() {
            return Err(Refused::Malformed);
        }
        if certificate.is_ca() {
            return Err(Refused::CaAsLeaf);
        }
        check_strength(&certificate)?;
        let (cluster, principal) = parse_uri(the_one_uri(&certificate)?)?;
        check_usage(&certificate, &principal)?;
        let validity = certificate.validity();
        Ok(Self {
            cluster,
            principal,
            serial: serial_of(&certificate)?,
            not_before: from_secs(validity.not_before.timestamp()),
            not_after: from_secs(validity.not_after.timestamp()),
            fingerprint: fingerprint(der),
        })
    }

    /// Whether the certificate is within its life.
    ///
    /// # Errors
    /// [`Refused::Expired`] or [`Refused::NotYetValid`].
    pub fn check_time(&self, now: Timestamp) -> Result<(), Refused> {
        if now < self.not_before {
            Err(Refused::NotYetValid)
        } else if now > self.not_after {
            Err(Refused::Expired)
        } else {
            Ok(())
        }
    }

    /// When to renew: two thirds of the life.
    #[must_use]
    pub fn renew_at(&self) -> Timestamp {
        let life = self.not_after.since(self.not_before);
        self.not_before.plus(quorate_model::DurationMs(life.0 / 3 * 2))
    }
}

pub(super) fn from_secs(secs: i64) -> Timestamp {
    Timestamp(secs.saturating_mul(1_000))
}

fn check_strength(certificate: &X509Certificate<'_>) -> Result<(), Refused> {
    let algorithm = certificate.signature_algorithm.algorithm.to_id_string();
    if !SIGNATURES.contains(&algorithm.as_str()) {
        return Err(Refused::WeakSignature);
    }
    match certificate.public_key().parsed() {
        Ok(PublicKey::EC(_)) => Ok(()),
        Ok(PublicKey::RSA(key)) if key.key_size() >= RSA_MIN_BITS => Ok(()),
        // Ed25519 is the one accepted kind that x509-parser does not know.
        Ok(PublicKey::Unknown(_))
            if certificate.public_key().algorithm.algorithm.to_id_string() == "1.3.101.112" =>
        {
            Ok(())
        }
        Ok(_) => Err(Refused::WeakKey),
        Err(_) => Err(Refused::Malformed),
    }
}

/// Every identity dials someone; coordinators are dialled too. `any` usage is not one of ours.
fn check_usage(certificate: &X509Certificate<'_>, principal: &Principal) -> Result<(), Refused> {
    let usage =
        certificate.extended_key_usage().map_err(|_| Refused::Malformed)?.ok_or(Refused::WrongUsage)?.value;
    let server = principal.role() == Some(Role::Coordinator);
    if usage.client_auth && !usage.any && usage.server_auth == server {
        Ok(())
    } else {
        Err(Refused::WrongUsage)
    }
}

fn the_one_uri<'a>(certificate: &'a X509Certificate<'_>) -> Result<&'a str, Refused> {
    let names =
        certificate.subject_alternative_name().map_err(|_| Refused::Malformed)?.ok_or(Refused::NoIdentity)?;
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let uri = uris.next().ok_or(Refused::NoIdentity)?;
    if uris.next().is_some() {
        return Err(Refused::SeveralIdentities);
    }
    Ok(uri)
}

pub(super) fn serial_of(certificate: &X509Certificate<'_>) -> Result<Serial, Refused> {
    let raw = certificate.raw_serial();
    let bytes = raw.strip_prefix(&[0]).unwrap_or(raw);
    if bytes.is_empty() || raw.len() > SERIAL_MAX_BYTES {
        return Err(Refused::Malformed);
    }
    Serial::new(super::hex(bytes)).map_err(|_| Refused::Malformed)
}

/// The URI of a principal, or `None` for [`Principal::System`] and schedules, which have no certificate.
#[must_use]
pub fn principal_uri(cluster: &ClusterId, principal: &Principal) -> Option<String> {
    let name = match principal {
        Principal::System | Principal::Schedule { .. } => return None,
        Principal::Coordinator { member } => format!("coordinator/{member}"),
        Principal::Agent { node } => format!("agent/{node}"),
        Principal::User { name } => format!("user/{name}"),
    };
    Some(format!("spiffe://{cluster}/{name}"))
}

/// The inverse of [`principal_uri`]; anything it would not print is refused, so one principal has one spelling.
pub(super) fn parse_uri(uri: &str) -> Result<(ClusterId, Principal), Refused> {
    let rest = uri.strip_prefix("spiffe://").ok_or(Refused::BadIdentity)?;
    let mut segments = rest.split('/');
    let (Some(cluster), Some(role), Some(name), None) =
        (segments.next(), segments.next(), segments.next(), segments.next())
    else {
        return Err(Refused::BadIdentity);
    };
    let cluster = parse_cluster(cluster)?;
    let principal = match role {
        "coordinator" => {
            Principal::Coordinator { member: MemberId(name.parse().map_err(|_| Refused::BadIdentity)?) }
        }
        "agent" => Principal::Agent { node: NodeName::new(name).map_err(|_| Refused::BadIdentity)? },
        "user" => Principal::User { name: UserName::new(name).map_err(|_| Refused::BadIdentity)? },
        _ => return Err(Refused::BadIdentity),
    };
    if principal_uri(&cluster, &principal).as_deref() == Some(uri) {
        Ok((cluster, principal))
    } else {
        Err(Refused::BadIdentity)
    }
}

/// A cluster id as a URI authority: no port, no user part.
pub(super) fn parse_cluster(text: &str) -> Result<ClusterId, Refused> {
    if text.contains([':', '@']) {
        return Err(Refused::BadIdentity);
    }
    ClusterId::new(text).map_err(|_| Refused::BadIdentity)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_exact_form_names_a_principal() {
        for good in ["spiffe://c1/agent/node1", "spiffe://c1/coordinator/2", "spiffe://c1/user/alice"] {
            let (cluster, principal) = parse_uri(good).unwrap();
            assert_eq!(principal_uri(&cluster, &principal).as_deref(), Some(good));
        }
        for bad in [
            "",
            "spiffe://",
            "spiffe://c1",
            "spiffe://c1/agent",
            "spiffe://c1/agent/",
            "spiffe://c1/agent/*",
            "spiffe://*/agent/node1",
            "spiffe://c1/agent/node1/x",
            "spiffe://c1/agent/node1?x=1",
            "spiffe://c1/agent/node1#x",
            "spiffe://c1/agent/..",
            "spiffe://c1/agent/NODE1",
            "spiffe://c1:80/agent/node1",
            "spiffe://u@c1/agent/node1",
            "SPIFFE://c1/agent/node1",
            "https://c1/agent/node1",
            "spiffe://c1/coordinator/02",
            "spiffe://c1/coordinator/+2",
            "spiffe://c1/coordinator/18446744073709551616",
            "spiffe://c1/system/x",
            "spiffe://c1/admin/root",
            "spiffe://c1/agent/a%2fb",
            "spiffe://c1/agent/node1\0",
        ] {
            assert_eq!(parse_uri(bad), Err(Refused::BadIdentity), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), text in any::<String>()) {
            let _ = Identity::from_verified(&bytes);
            let _ = parse_uri(&text);
            let _ = parse_uri(&format!("spiffe://c/{text}"));
        }
    }
}
