//! The gRPC port: mutual TLS, HTTP/2 only.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use quorate_common::task::{BoxError, Service, Shutdown, os_seed};
use quorate_common::telemetry::sanitize;
use quorate_common::tls::{AllowList, Identity, LiveTls, Refused, TlsError, refusal_word};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::accept::{Accept, accept_loop};
use super::admission::{Admission, Slot};
use super::frames::Frames;
use super::limits::ListenLimits;
use super::parked::Waiting;
use super::peer::{ConnectionId, PeerIdentity};
use super::preface::{NOT_HTTP2, Prefaced, read_preface};
use super::registry::{Registration, Registry};
use super::request::{ConnectionService, Dispatch, Parking, now};
use super::stats::ListenStats;

/// What the gRPC listener is made of.
pub struct GrpcParts {
    /// The live certificate, key and trust bundle.
    pub tls: Arc<LiveTls>,
    /// Asked at each handshake and each request.
    pub allow: Arc<dyn AllowList>,
    /// Where live connections are entered; the revoker holds a clone.
    pub registry: Registry,
    /// The services: `tonic::service::Routes::new(…).add_service(…).prepare().into_axum_router()`.
    pub router: Router,
    /// Paths (`/package.Service/Method`) that the unary deadline does not touch: those whose *request* is a stream, and
    /// long polls. A server-streaming method answers at once and needs no entry.
    pub streaming_paths: BTreeSet<String>,
    /// All limits.
    pub limits: ListenLimits,
}

/// The accept loop of the gRPC port; a [`Service`].
pub struct GrpcListener<A = TcpListener> {
    socket: A,
    shared: Arc<Shared>,
}

struct Shared {
    acceptor: TlsAcceptor,
    registry: Registry,
    limits: ListenLimits,
    handshakes: Admission,
    dispatch: Arc<Dispatch>,
    stats: Arc<ListenStats>,
}

impl<A: Accept> GrpcListener<A> {
    /// Puts the parts together over a bound socket.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(socket: A, parts: GrpcParts) -> Result<Self, TlsError> {
        let GrpcParts { tls, allow, registry, router, streaming_paths, limits } = parts;
        let config: Arc<ServerConfig> = tls.server_config(allow.clone())?;
        let stats = Arc::new(ListenStats::default());
        let handshakes = Admission::new(
            limits.max_handshakes,
            limits.max_handshakes_per_source,
            limits.max_handshakes_per_loopback,
        );
        let dispatch = Arc::new(Dispatch {
            router,
            allow,
            streaming: streaming_paths,
            request_timeout: limits.request_timeout.into(),
            stats: stats.clone(),
        });
        let acceptor = TlsAcceptor::from(config);
        Ok(Self {
            socket,
            shared: Arc::new(Shared { acceptor, registry, limits, handshakes, dispatch, stats }),
        })
    }

    /// The counters, for metrics.
    #[must_use]
    pub fn stats(&self) -> Arc<ListenStats> {
        self.shared.stats.clone()
    }
}

impl<A: Accept> Service for GrpcListener<A> {
    const NAME: &'static str = "grpc-listener";

    async fn run(self, shutdown: Shutdown) -> Result<(), BoxError> {
        let Self { socket, shared } = self;
        let grace = Duration::from(shared.limits.max_connection_age_grace);
        let first_backoff = shared.limits.accept_backoff.into();
        let stats = shared.stats.clone();
        accept_loop(socket, shutdown.clone(), &stats, first_backoff, grace, |stream, remote| {
            match shared.admit(remote) {
                Ok(slot) => Some(shared.clone().connection(stream, remote, slot, shutdown.clone())),
                Err(reason) => {
                    shared.refused(reason, remote, None);
                    None
                }
            }
        })
        .await;
        Ok(())
    }
}

impl Shared {
    fn admit(&self, remote: SocketAddr) -> Result<Slot, &'static str> {
        if self.registry.len() >= self.limits.max_connections {
            return Err("too_many_connections");
        }
        self.handshakes.enter(remote)
    }

    fn refused(&self, reason: &'static str, remote: SocketAddr, error: Option<&io::Error>) {
        self.stats.refused(reason);
        match error {
            Some(error) => {
                let error = error.to_string();
                tracing::info!(reason, peer = %remote, error = %sanitize(&error), "tls_refused");
            }
            None => tracing::info!(reason, peer = %remote, "tls_refused"),
        }
    }

    async fn connection<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
        self: Arc<Self>,
        stream: S,
        remote: SocketAddr,
        slot: Slot,
        shutdown: Shutdown,
    ) {
        let handshake = tokio::time::timeout(self.limits.handshake_timeout.into(), self.handshake(stream));
        let stream = match shutdown.run_until(handshake).await {
            None => return,
            Some(Ok(Ok(stream))) => stream,
            Some(Ok(Err(error))) if error.kind() == NOT_HTTP2 => {
                return self.refused("not_http2", remote, Some(&error));
            }
            Some(Ok(Err(error))) => return self.refused(refusal_word(&error), remote, Some(&error)),
            Some(Err(_)) => return self.refused("handshake_timeout", remote, None),
        };
        drop(slot);
        match self.enter(&stream, remote) {
            Ok(registration) => {
                self.stats.served();
                self.serve(stream, registration, shutdown).await;
            }
            Err(reason) => self.refused(reason, remote, None),
        }
    }

    async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
    ) -> io::Result<Prefaced<TlsStream<S>>> {
        let stream = self.acceptor.accept(stream).await?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2".as_slice()) {
            // A client that offers no protocol at all passes TLS; it must not pass here.
            return Err(io::Error::other(rustls::Error::NoApplicationProtocol));
        }
        read_preface(stream, Frames::new(self.limits.max_control_frames_per_second)).await
    }

    /// Reads the identity again from what the handshake verified, and asks the allow-list for what it knows.
    fn enter<S>(
        &self,
        stream: &Prefaced<TlsStream<S>>,
        remote: SocketAddr,
    ) -> Result<Registration, &'static str> {
        let certificates = stream.inner().get_ref().1.peer_certificates();
        let leaf = certificates.and_then(<[_]>::first).ok_or(Refused::NoCertificate.word())?;
        let identity = Identity::from_verified(leaf).map_err(Refused::word)?;
        let Identity { cluster, principal, serial, not_before: _, not_after, fingerprint } = identity;
        let access = self.dispatch.allow.check(&serial, &principal).map_err(|denied| denied.word())?;
        let role = principal.role().ok_or(Refused::BadIdentity.word())?;
        let connection = ConnectionId(0);
        let peer =
            PeerIdentity { principal, cluster, serial, fingerprint, not_after, access, remote, connection };
        self.registry.enter(peer, self.limits.max_connections, self.limits.per_identity(role))
    }

    async fn serve<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
        &self,
        stream: Prefaced<TlsStream<S>>,
        registration: Registration,
        shutdown: Shutdown,
    ) {
        let Registration { identity, close, parked, .. } = &registration;
        let limits = &self.limits;
        let limit = identity.principal.role().map_or(0, |role| limits.parked(role));
        let parking = Parking { parked: parked.clone(), limit, waiting: Waiting::default() };
        let (waiting, flood) = (parking.waiting.clone(), stream.frames().flood());
        let service = ConnectionService::new(
            self.dispatch.clone(),
            identity.clone(),
            limits.max_concurrent_requests,
            close.clone(),
            parking,
        );
        let connection = http2(limits).serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let age = connection_age(limits, identity);
        tracing::debug!(principal = %identity.principal, peer = %identity.remote, connection = %identity.connection, "connected");
        let why = tokio::select! {
            ended = connection.as_mut() => {
                if flood.load(Ordering::Relaxed) {
                    self.refused("flood", identity.remote, None);
                } else if let Err(error) = ended {
                    let error = error.to_string();
                    tracing::debug!(peer = %identity.remote, error = %sanitize(&error), "connection ended badly");
                }
                return;
            }
            () = unread(&waiting, limits.answer_timeout.into()) => {
                return self.refused("answer_not_read", identity.remote, None);
            }
            () = close.triggered() => "revoked",
            () = tokio::time::sleep(age) => "age",
            () = shutdown.triggered() => "shutdown",
        };
        tracing::debug!(principal = %identity.principal, connection = %identity.connection, reason = why, "closing connection");
        if why == "revoked" {
            // Answers that are already written (the refusal itself) may leave; nothing else.
            connection.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(REVOKED_GRACE, connection.as_mut()).await;
            return;
        }
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            _ = connection.as_mut() => {}
            () = close.triggered() => {}
            () = tokio::time::sleep(limits.max_connection_age_grace.into()) => {}
        }
    }
}

/// Ends when an answer waited too long for its reader.
async fn unread(waiting: &Waiting, limit: Duration) {
    while !waiting.longer_than(limit) {
        tokio::time::sleep(limit / 4).await;
    }
}

/// How long a refused request's answer may take to leave before the connection is cut; well under the 5 s of I-26.
const REVOKED_GRACE: Duration = Duration::from_millis(100);

/// The configured age less up to a tenth (so that a fleet does not reconnect in one moment), and never beyond the
/// certificate's end.
fn connection_age(limits: &ListenLimits, identity: &PeerIdentity) -> Duration {
    let age = Duration::from(limits.max_connection_age);
    let tenth = u64::try_from(age.as_millis() / 10).unwrap_or(u64::MAX).saturating_add(1);
    let age = age.saturating_sub(Duration::from_millis(os_seed() % tenth));
    age.min(Duration::from_millis(identity.not_after.since(now()).0))
}

/// Every knob, none left to a default.
fn http2(limits: &ListenLimits) -> hyper::server::conn::http2::Builder<TokioExecutor> {
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.max_concurrent_streams)
        .max_header_list_size(u32::try_from(limits.max_header_list.bytes()).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(limits.max_pending_reset_streams)
        .max_local_error_reset_streams(limits.max_local_reset_streams)
        .keep_alive_interval(Duration::from(limits.keepalive_interval))
        .keep_alive_timeout(limits.keepalive_timeout.into())
        // Flow control of the RFC's size per stream, and a connection window that bounds what one peer can park here.
        .adaptive_window(false)
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .max_frame_size(16 * 1024)
        .max_send_buf_size(256 * 1024);
    builder
}
