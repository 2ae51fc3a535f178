//! Certificates and connections: issue, load, reload, and certificate -> principal.
//!
//! Job: the cluster's own CA, the identity inside a certificate, live material that rotates without dropping a
//! connection, TLS configurations for servers and clients, enrolment tokens, a connector for tonic.
//! Must never: read a host name or a common name as an identity, log or print a secret, accept TLS below 1.3, resume a
//! session (a resumed one skips the certificate check), or parse a certificate's contents before its chain holds. The one
//! that only looks at others' certificates, and talks to nobody, stands apart in `inspect.rs`.
//!
//! **Architecture Invariant:** who a peer is comes from exactly one URI name, `spiffe://<cluster>/<role>/<name>`, of a
//! certificate whose chain ends in the trust bundle *of this cluster*; whether it may still speak comes from an
//! [`AllowList`], asked at the handshake and again per request.
//!
//! No revocation lists: the allow-list is the replicated state itself, so there is no list that can be stale or
//! silently not consulted (reliability.md 5.2, C13).

mod access;
mod authority;
mod connect;
mod error;
mod file;
mod https;
mod identity;
mod inspect;
mod live;
mod material;
mod provider;
mod request;
mod store;
mod token;
mod verify;

pub use access::{AccessInfo, AllowList, Denied};
pub use authority::{BACKDATE, CA_LIFE, CertificateAuthority, IssuedCertificate, LEAF_LIFE, LeafSpec};
pub use connect::{Address, ChannelLimits, ConnectError, channel, channel_over, was_never_sent};
pub use error::{Refused, TlsError, refusal_word};
pub use file::{read_private, write_atomic};
pub use https::{HttpsError, HttpsLimits, HttpsResponse, https_request};
pub use identity::{Identity, principal_uri};
pub use inspect::{Shown, looking_only};
pub use live::{ClientTls, ExpectedServer, LiveTls};
pub use material::Material;
pub use provider::{install, provider};
pub use request::KeyRequest;
pub use store::Store;
pub use token::{JoinToken, Secret, TOKEN_MAX_BYTES, TokenError, constant_time_eq, secret_hash};

/// SHA-256 of a certificate's DER form.
pub type Fingerprint = [u8; 32];

/// SHA-256 of a certificate's DER form.
#[must_use]
pub fn fingerprint(der: &[u8]) -> Fingerprint {
    use sha2::Digest;
    sha2::Sha256::digest(der).into()
}

/// Lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests;
