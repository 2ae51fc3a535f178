//! Who gets in: the accept loops of the gRPC port (7443) and the HTTP port (7480).
//!
//! Job: accept, shake hands, find out who it is, hold every limit of reliability.md §5.3, hand requests with their
//! [`PeerIdentity`] to the router, close connections of revoked identities.
//! Must never: end because an accept failed, wait for a stranger without a deadline, dispatch a gRPC request whose
//! certificate the allow-list has not just allowed, or decide what a principal may do (that is `api`'s table).
//!
//! **Architecture Invariant:** tonic's own server is not used. It cannot reload certificates or revoke connections, and
//! its defaults leave handshakes and streams unlimited; every knob is set here and asserted by a test.
//!
//! One connection's way: accept -> total limit -> handshake slot (all, per source) -> TLS and HTTP/2 preface within one
//! deadline -> identity -> allow-list -> slot of the identity in the [`Registry`] -> HTTP/2, control frames counted -> per
//! request: life of the certificate, allow-list, concurrency, bytes parked by the identity, deadline -> router.

mod accept;
mod admission;
mod frames;
mod grpc;
mod limits;
mod malformed;
mod parked;
mod peer;
mod preface;
mod registry;
mod request;
mod stats;
mod web;

pub use accept::Accept;
pub use grpc::{GrpcListener, GrpcParts};
pub use limits::{LimitError, ListenLimits};
pub use malformed::name_malformed;
pub use peer::{ConnectionId, HttpPeer, PeerIdentity};
pub use registry::{ConnectionInfo, Registry};
pub use stats::{ListenStats, ListenStatsSnapshot};
pub use web::HttpListener;

#[cfg(test)]
mod tests;
