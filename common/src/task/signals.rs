//! Signals as tokens and streams: SIGTERM and SIGINT stop, SIGHUP reloads.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;

use super::Shutdown;

/// Triggers `shutdown` at the first SIGTERM or SIGINT. Must be called inside a runtime.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn stop_on_signals(shutdown: Shutdown) -> io::Result<JoinHandle<()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::spawn(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
            () = shutdown.triggered() => return,
        };
        tracing::info!(signal = name, "stopping");
        shutdown.trigger();
    }))
}

/// The SIGHUPs of this process: each one asks for a reload.
#[derive(Debug)]
pub struct Hangups(Signal);

impl Hangups {
    /// Installs the handler. Must be called inside a runtime.
    ///
    /// # Errors
    /// When the handler cannot be installed.
    pub fn new() -> io::Result<Self> {
        signal(SignalKind::hangup()).map(Self)
    }

    /// Waits for the next one. Several that came at once count as one.
    pub async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            // The runtime's signal driver is gone: no further signal can come.
            std::future::pending::<()>().await;
        }
    }
}
