//! Who a request comes from, as its handler finds it among the request's extensions.

use std::fmt;
use std::net::SocketAddr;

use quorate_common::tls::{AccessInfo, Fingerprint};
use quorate_model::{ClusterId, Principal, Serial, Timestamp};

/// A connection's number, unique in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The verified sender of a gRPC request; every request on the gRPC port carries one as an extension
/// (`request.extensions().get::<PeerIdentity>()`). Never taken from anything the peer *says*.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Who.
    pub principal: Principal,
    /// The cluster in the certificate; always our own.
    pub cluster: ClusterId,
    /// The certificate's serial number.
    pub serial: Serial,
    /// SHA-256 of the certificate.
    pub fingerprint: Fingerprint,
    /// When the certificate ends.
    pub not_after: Timestamp,
    /// What the allow-list said, at this request.
    pub access: AccessInfo,
    /// From where.
    pub remote: SocketAddr,
    /// On which connection.
    pub connection: ConnectionId,
}

/// The sender of a request on the HTTP port, which has no client certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpPeer {
    /// Whether the connection is TLS. Enrolment and everything else that carries a secret must demand it.
    pub tls: bool,
    /// From where.
    pub remote: SocketAddr,
}
