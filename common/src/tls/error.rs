//! What can be wrong with certificates and handshakes, each cause with a stable word.

use std::io;
use std::path::PathBuf;

use rustls::{CertificateError, Error as RustlsError};

use super::access::Denied;

/// Why a peer's certificate is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Refused {
    /// It sent none.
    #[error("no certificate was presented")]
    NoCertificate,
    /// The chain does not end in the trust bundle; self-signed certificates too.
    #[error("the certificate was not issued by this cluster's CA")]
    WrongCa,
    /// Its life is over.
    #[error("the certificate has expired")]
    Expired,
    /// Its life has not begun.
    #[error("the certificate is not valid yet")]
    NotYetValid,
    /// MD5, SHA-1 or another algorithm that is not accepted.
    #[error("the certificate's signature algorithm is not accepted")]
    WeakSignature,
    /// RSA under 2048 bits, or another kind of key that is not accepted.
    #[error("the certificate's key is too weak or of a kind that is not accepted")]
    WeakKey,
    /// A signature does not verify.
    #[error("a signature does not verify")]
    BadSignature,
    /// It is not a certificate.
    #[error("the certificate cannot be parsed")]
    Malformed,
    /// The extended key usage does not allow what it is used for.
    #[error("the certificate is not meant for this use")]
    WrongUsage,
    /// A CA certificate presented as a peer's own.
    #[error("a CA certificate cannot be used as an identity")]
    CaAsLeaf,
    /// More certificates than a chain of ours ever has.
    #[error("the certificate chain is too long")]
    ChainTooLong,
    /// No URI name.
    #[error("the certificate names no identity")]
    NoIdentity,
    /// More than one URI name.
    #[error("the certificate names more than one identity")]
    SeveralIdentities,
    /// A URI name that is not `spiffe://<cluster>/<role>/<name>`.
    #[error("the certificate's identity is not of the form spiffe://cluster/role/name")]
    BadIdentity,
    /// An identity of another cluster.
    #[error("the certificate belongs to another cluster")]
    WrongCluster,
    /// Another role than this connection needs.
    #[error("the certificate has another role")]
    WrongRole,
    /// A coordinator, but not the member that was meant.
    #[error("the certificate belongs to another member")]
    WrongMember,
    /// The server's certificate does not carry the dialled name.
    #[error("the certificate is not valid for the dialled name")]
    WrongName,
    /// The enrolment pin does not match any certificate the server sent.
    #[error("the server's CA is not the one the token pins")]
    WrongPin,
    /// The allow-list says no.
    #[error("{0}")]
    Denied(#[from] Denied),
}

impl Refused {
    /// The stable word in logs (`tls_refused reason=…`) and metrics.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::NoCertificate => "no_certificate",
            Self::WrongCa => "wrong_ca",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::WeakSignature => "weak_signature",
            Self::WeakKey => "weak_key",
            Self::BadSignature => "bad_signature",
            Self::Malformed => "malformed_certificate",
            Self::WrongUsage => "wrong_usage",
            Self::CaAsLeaf => "ca_as_leaf",
            Self::ChainTooLong => "chain_too_long",
            Self::NoIdentity => "no_identity",
            Self::SeveralIdentities => "several_identities",
            Self::BadIdentity => "bad_identity",
            Self::WrongCluster => "wrong_cluster",
            Self::WrongRole => "wrong_role",
            Self::WrongMember => "wrong_member",
            Self::WrongName => "wrong_name",
            Self::WrongPin => "wrong_pin",
            Self::Denied(denied) => denied.word(),
        }
    }

    pub(super) fn into_rustls(self) -> RustlsError {
        let other = || CertificateError::Other(rustls::OtherError(std::sync::Arc::new(self)));
        RustlsError::InvalidCertificate(match self {
            // These have alerts of their own; the others travel as themselves and are found again by `of`.
            Self::Expired => CertificateError::Expired,
            Self::NotYetValid => CertificateError::NotValidYet,
            Self::WrongCa | Self::WrongPin => CertificateError::UnknownIssuer,
            Self::Denied(Denied::Revoked) => CertificateError::Revoked,
            _ => other(),
        })
    }

    /// The cause inside a rustls error, when it is about a certificate.
    #[must_use]
    pub fn of(error: &RustlsError) -> Option<Self> {
        #[expect(deprecated, reason = "older variants are still part of the enum and must be classified too")]
        let refused = match error {
            RustlsError::NoCertificatesPresented => Self::NoCertificate,
            RustlsError::InvalidCertificate(error) => match error {
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    Self::NotYetValid
                }
                CertificateError::Revoked => Self::Denied(Denied::Revoked),
                CertificateError::UnknownIssuer => Self::WrongCa,
                CertificateError::BadSignature => Self::BadSignature,
                CertificateError::UnsupportedSignatureAlgorithm
                | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
                | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
                    Self::WeakSignature
                }
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    Self::WrongName
                }
                CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                    Self::WrongUsage
                }
                CertificateError::Other(other) => own_or_malformed(other),
                _ => Self::Malformed,
            },
            _ => return None,
        };
        Some(refused)
    }
}

fn own_or_malformed(other: &rustls::OtherError) -> Refused {
    if let Some(own) = other.0.downcast_ref::<Refused>() {
        return *own;
    }
    // webpki's own errors come as text only; this one is worth telling apart.
    if other.0.to_string().contains("CaUsedAsEndEntity") { Refused::CaAsLeaf } else { Refused::Malformed }
}

/// The stable word for a failed handshake: a [`Refused`] word, or what else went wrong.
#[must_use]
pub fn refusal_word(error: &io::Error) -> &'static str {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<RustlsError>());
    match inner {
        Some(error) => Refused::of(error).map_or_else(|| handshake_word(error), Refused::word),
        None if error.kind() == io::ErrorKind::TimedOut => "handshake_timeout",
        None => "connection_lost",
    }
}

fn handshake_word(error: &RustlsError) -> &'static str {
    match error {
        RustlsError::InvalidMessage(_) | RustlsError::InappropriateMessage { .. } => "not_tls",
        RustlsError::PeerIncompatible(_) => "protocol_version",
        RustlsError::NoApplicationProtocol => "wrong_alpn",
        RustlsError::AlertReceived(_) => "refused_by_peer",
        _ => "handshake_failed",
    }
}

/// What can go wrong when certificates are made, stored or loaded.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("cannot {verb} {}", path.display())]
    File {
        /// What was tried.
        verb: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A key file that others can read.
    #[error("{} has mode {mode:04o}; a key must be 0600, readable by its owner only", path.display())]
    KeyMode {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file or text that is not what it should be.
    #[error("{what} is not usable: {why}")]
    Unusable {
        /// Which thing, for example `cert.pem`.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// A certificate that must not be used.
    #[error("{what} is refused")]
    Certificate {
        /// Which thing.
        what: &'static str,
        /// Why.
        source: Refused,
    },
    /// A certificate request that the signer does not accept.
    #[error("certificate request refused: {0}")]
    Request(String),
    /// The certificate library failed.
    #[error("cannot make a certificate")]
    Generate(#[from] rcgen::Error),
    /// The TLS library refused a configuration.
    #[error("cannot set up TLS")]
    Setup(#[from] RustlsError),
    /// New live material that names another identity than the old one.
    #[error("the new certificate is for {new}, this process is {old}")]
    OtherIdentity {
        /// Whose certificate it is.
        new: String,
        /// Who this process is.
        old: String,
    },
}

impl TlsError {
    pub(super) fn unusable(what: &'static str, why: impl ToString) -> Self {
        Self::Unusable { what, why: why.to_string() }
    }
}
