//! The accept loop: it ends when it is asked to, and for no other reason.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use quorate_common::task::{Backoff, BackoffPolicy, Entropy, Shutdown};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::stats::ListenStats;

/// Where connections come from; a socket, or a test that runs out of file descriptors.
pub trait Accept: Send + 'static {
    /// A connection; small messages are not held back on it.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// The next connection. Must be cancel-safe.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, remote) = Self::accept(self).await?;
        // A peer that is gone again already shows at the first read.
        let _ = stream.set_nodelay(true);
        Ok((stream, remote))
    }
}

/// Accepts until the stop is asked for, then waits for the connections, which hear of it too, up to `grace`.
pub(super) async fn accept_loop<A, F>(
    mut listener: A,
    shutdown: Shutdown,
    stats: &ListenStats,
    first_backoff: Duration,
    grace: Duration,
    serve: impl Fn(A::Stream, SocketAddr) -> Option<F>,
) where
    A: Accept,
    F: Future<Output = ()> + Send + 'static,
{
    let policy = BackoffPolicy { initial: first_backoff, max: Duration::from_secs(1), growth_percent: 200 };
    let mut backoff = Backoff::new(policy);
    let mut entropy = Entropy::from_os();
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.triggered() => break,
            // Ended connections are taken out as they end; a panic in one is reported and hurts no other.
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(error = %error, "a connection's task failed");
                }
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, remote)) => {
                backoff.reset();
                stats.accepted();
                if let Some(work) = serve(stream, remote) {
                    connections.spawn(work);
                }
            }
            Err(error) => {
                stats.accept_error();
                // Once per growing wait, not once per failure: a full descriptor table must not fill the log too.
                let wait = backoff.next_delay(entropy.next_u64());
                tracing::warn!(error = %error, wait_ms = wait.as_millis(), "cannot accept a connection");
                shutdown.pause(wait).await;
            }
        }
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(grace, all).await.is_err() {
        tracing::warn!(connections = connections.len(), "closing connections that did not end in time");
    }
    connections.shutdown().await;
}
