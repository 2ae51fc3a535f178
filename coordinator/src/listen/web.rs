//! The HTTP port: TLS without client certificates, and plain HTTP/1.1 for loopback.
//!
//! A connection whose first byte begins a TLS handshake is TLS. Any other is served as plain HTTP/1.1 when it comes from
//! loopback, so that `curl http://127.0.0.1:7480/healthz` and a local scraper need no CA; from elsewhere it is closed.
//! The router sees which it was ([`HttpPeer::tls`]) and must refuse enrolment without TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use quorate_common::task::{BoxError, Service, Shutdown};
use quorate_common::telemetry::sanitize;
use quorate_common::tls::{LiveTls, TlsError, refusal_word};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use super::accept::{Accept, accept_loop};
use super::admission::{Admission, Slot};
use super::limits::ListenLimits;
use super::peer::HttpPeer;
use super::stats::ListenStats;

/// The first byte of a TLS record that carries a handshake.
const TLS_HANDSHAKE: u8 = 0x16;
/// Largest HTTP/1.1 request head.
const HEAD_MAX_BYTES: usize = 32 * 1024;
/// Most header fields of an HTTP/1.1 request.
const HEADERS_MAX: usize = 64;

/// The accept loop of the HTTP port; a [`Service`].
pub struct HttpListener<A = TcpListener> {
    socket: A,
    shared: Arc<Shared>,
}

struct Shared {
    acceptor: TlsAcceptor,
    router: Router,
    limits: ListenLimits,
    connections: Admission,
    stats: Arc<ListenStats>,
}

impl<A: Accept<Stream = TcpStream>> HttpListener<A> {
    /// Puts a router over a bound socket. Requests carry [`HttpPeer`] as an extension.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(
        socket: A,
        tls: &Arc<LiveTls>,
        router: Router,
        limits: ListenLimits,
    ) -> Result<Self, TlsError> {
        let connections = Admission::new(
            limits.max_http_connections,
            limits.max_http_connections_per_source,
            limits.max_http_connections,
        );
        let acceptor = TlsAcceptor::from(tls.http_server_config()?);
        let stats = Arc::default();
        Ok(Self { socket, shared: Arc::new(Shared { acceptor, router, limits, connections, stats }) })
    }

    /// The counters, for metrics.
    #[must_use]
    pub fn stats(&self) -> Arc<ListenStats> {
        self.shared.stats.clone()
    }
}

impl<A: Accept<Stream = TcpStream>> Service for HttpListener<A> {
    const NAME: &'static str = "http-listener";

    async fn run(self, shutdown: Shutdown) -> Result<(), BoxError> {
        let Self { socket, shared } = self;
        let grace = Duration::from(shared.limits.max_connection_age_grace);
        let first_backoff = shared.limits.accept_backoff.into();
        let stats = shared.stats.clone();
        accept_loop(socket, shutdown.clone(), &stats, first_backoff, grace, |stream, remote| {
            match shared.connections.enter(remote) {
                Ok(slot) => Some(shared.clone().connection(stream, remote, slot, shutdown.clone())),
                Err(reason) => {
                    shared.refused(reason, remote);
                    None
                }
            }
        })
        .await;
        Ok(())
    }
}

impl Shared {
    fn refused(&self, reason: &'static str, remote: SocketAddr) {
        self.stats.refused(reason);
        tracing::debug!(reason, peer = %remote, "http_refused");
    }

    /// The slot is held for the connection's whole life.
    async fn connection(
        self: Arc<Self>,
        stream: TcpStream,
        remote: SocketAddr,
        _slot: Slot,
        shutdown: Shutdown,
    ) {
        let timeout = Duration::from(self.limits.handshake_timeout);
        let first = async {
            let mut byte = [0_u8];
            let count = stream.peek(&mut byte).await?;
            if count == 0 { Err(io::Error::from(io::ErrorKind::UnexpectedEof)) } else { Ok(byte[0]) }
        };
        match shutdown.run_until(tokio::time::timeout(timeout, first)).await {
            Some(Ok(Ok(TLS_HANDSHAKE))) => {}
            Some(Ok(Ok(_))) if remote.ip().to_canonical().is_loopback() => {
                return self.serve(stream, HttpPeer { tls: false, remote }, shutdown).await;
            }
            Some(Ok(Ok(_))) => return self.refused("not_tls", remote),
            Some(Ok(Err(_))) => return self.refused("connection_lost", remote),
            Some(Err(_)) => return self.refused("handshake_timeout", remote),
            None => return,
        }
        match shutdown.run_until(tokio::time::timeout(timeout, self.acceptor.accept(stream))).await {
            Some(Ok(Ok(stream))) => self.serve(stream, HttpPeer { tls: true, remote }, shutdown).await,
            Some(Ok(Err(error))) => self.refused(refusal_word(&error), remote),
            Some(Err(_)) => self.refused("handshake_timeout", remote),
            None => {}
        }
    }

    async fn serve<S>(&self, stream: S, peer: HttpPeer, shutdown: Shutdown)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.stats.served();
        let router = self.router.clone().map_request(move |request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            request
        });
        let builder = self.builder(peer.tls);
        let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
        tokio::pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    let error = error.to_string();
                    tracing::debug!(peer = %peer.remote, error = %sanitize(&error), "HTTP connection ended badly");
                }
                return;
            }
            () = tokio::time::sleep(self.limits.max_connection_age.into()) => {}
            () = shutdown.triggered() => {}
        }
        connection.as_mut().graceful_shutdown();
        // What is left when the grace time ends is dropped with the connection.
        let _ = tokio::time::timeout(self.limits.max_connection_age_grace.into(), connection).await;
    }

    fn builder(&self, tls: bool) -> auto::Builder<TokioExecutor> {
        let limits = &self.limits;
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            // Also bounds how long a kept-alive connection may sit without a request.
            .header_read_timeout(Duration::from(limits.keepalive_interval))
            .max_buf_size(HEAD_MAX_BYTES)
            .max_headers(HEADERS_MAX)
            .half_close(false);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.max_concurrent_streams)
            .max_header_list_size(u32::try_from(limits.max_header_list.bytes()).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(limits.max_pending_reset_streams)
            .max_local_error_reset_streams(limits.max_local_reset_streams)
            .keep_alive_interval(Duration::from(limits.keepalive_interval))
            .keep_alive_timeout(limits.keepalive_timeout.into())
            .adaptive_window(false)
            .initial_stream_window_size(64 * 1024)
            .initial_connection_window_size(1024 * 1024);
        // Without TLS there is no ALPN, and cleartext HTTP/2 is nothing we offer.
        if tls { builder } else { builder.http1_only() }
    }
}
