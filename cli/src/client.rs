//! One way to call: try the coordinators in turn, go on while the leader changes, never twice with another request id.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use crate::args::Global;
use crate::context;
use crate::failure::{Failure, exit};

/// Calls one method with a request that is cloned for every try.
#[macro_export]
macro_rules! call {
    ($client:expr, $service:ident, $method:ident, $request:expr) => {{
        let request = $request;
        $client
            .call(|channel| {
                let request = request.clone();
                async move { $service::new(channel).$method(request).await }
            })
            .await
    }};
}

/// How long a call goes on looking for a leader: two elections with room.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(200);
/// Longest wait for the answer to one try; a coordinator's own limit is 30 s.
const ANSWER: Duration = Duration::from_secs(35);

/// Connections to every coordinator of a context.
pub struct Client {
    channels: Vec<(String, Channel)>,
    current: AtomicUsize,
}

impl Client {
    /// Reads the identity and prepares a connection to each coordinator; nothing is sent yet.
    ///
    /// # Errors
    /// When the context or its files cannot be used.
    pub fn connect(global: &Global) -> Result<Self, Failure> {
        let context = context::resolve(global)?;
        let channels = crate::tls::channels(&context)?;
        Ok(Self { channels, current: AtomicUsize::new(0) })
    }

    /// The channel in use, for streams.
    #[must_use]
    pub fn channel(&self) -> Channel {
        let at = self.current.load(Ordering::Relaxed) % self.channels.len();
        self.channels[at].1.clone()
    }

    /// Every coordinator's number and channel.
    pub fn all(&self) -> impl Iterator<Item = (usize, Channel)> {
        self.channels.iter().enumerate().map(|(at, (_, channel))| (at, channel.clone()))
    }

    /// Uses this coordinator from now on.
    pub fn choose(&self, at: usize) {
        self.current.store(at, Ordering::Relaxed);
    }

    /// Moves on to the next coordinator.
    pub fn advance(&self) {
        self.current.fetch_add(1, Ordering::Relaxed);
    }

    /// Calls until an answer comes that is not "unavailable", or patience ends. Every change carries a request id, so
    /// a try whose answer was lost is not done twice.
    ///
    /// # Errors
    /// The last refusal or error.
    pub async fn call<T, F, Fut>(&self, call: F) -> Result<T, Failure>
    where
        F: Fn(Channel) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let end = Instant::now() + PATIENCE;
        loop {
            let tried = tokio::time::timeout(ANSWER, call(self.channel())).await;
            let status = match tried {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded("the coordinator did not answer in time"),
            };
            if !is_transient(&status) {
                return Err(status.into());
            }
            if Instant::now() >= end {
                return Err(self.unreachable(&status));
            }
            self.advance();
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The failure when nobody could be reached.
    #[must_use]
    pub fn unreachable(&self, status: &Status) -> Failure {
        let known = Failure::from(status.clone());
        if !known.reason.is_empty() {
            return known.with_code(exit::UNREACHABLE);
        }
        let addresses: Vec<&str> = self.channels.iter().map(|(address, _)| address.as_str()).collect();
        Failure::failed("no coordinator could be reached").with_code(exit::UNREACHABLE).with_hint(format!(
            "tried {}; last: {}",
            addresses.join(", "),
            status.message()
        ))
    }
}

/// Whether another coordinator, or the same a little later, may answer.
#[must_use]
pub fn is_transient(status: &Status) -> bool {
    match status.code() {
        // Every change carries a request id: asking again after a deadline gives the first one's answer.
        Code::Unavailable | Code::DeadlineExceeded => true,
        // A connection that ends under a call is told as Unknown or Cancelled by the transport itself.
        Code::Unknown | Code::Cancelled | Code::Internal => std::error::Error::source(status).is_some(),
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::DataLoss
        | Code::Unauthenticated => false,
    }
}
