//! The helper within the caller's process: the real runner and server without a socket. For simulations, where a socket
//! would be a thing of the machine that no simulator sees.

use std::sync::Arc;

use futures::FutureExt as _;
use quorate_common::task::{BoxError, Shutdown};

use super::client::{Way, Wire};
use super::server::Server;
use super::units;
use crate::host::Host;
use crate::runner::{Runner, Settings};

/// Bytes on their way in one direction; a frame is larger, and is then written in parts.
const BUFFER_BYTES: usize = 64 * 1024;

/// The helper's end. Clones are the same one.
#[derive(Clone)]
pub struct Inside {
    server: Arc<Server>,
}

impl std::fmt::Debug for Inside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inside").finish_non_exhaustive()
    }
}

impl Inside {
    /// Over a running runner.
    #[must_use]
    pub fn new(runner: Runner, host: Arc<dyn Host>, settings: Settings) -> Self {
        Self { server: Server::new(runner, host, settings, Vec::new()) }
    }

    /// The way in; each connection is served by a task of the caller's runtime.
    #[must_use]
    pub fn way(&self) -> Way {
        let server = Arc::clone(&self.server);
        Way::new(move || {
            let server = Arc::clone(&server);
            async move {
                let (near, far) = tokio::io::duplex(BUFFER_BYTES);
                tokio::spawn(async move {
                    if let Err(error) = server.serve(far).await {
                        tracing::debug!(%error, "a connection inside ended");
                    }
                });
                Ok(Box::new(near) as Box<dyn Wire>)
            }
            .boxed()
        })
    }

    /// Looks at the units until it is told to stop.
    ///
    /// # Errors
    /// Never.
    pub async fn units(self, shutdown: Shutdown) -> Result<(), BoxError> {
        units::run(self.server, shutdown).await
    }
}
