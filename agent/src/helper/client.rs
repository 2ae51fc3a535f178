//! The network half's end of the local socket.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use quorate_model::ServiceName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;

use super::protocol::{self, Answer, FrameError, Request};
use crate::runner::Notice;

/// Longest wait for an answer. Accepting work takes one barrier for each new execution; a slow disk takes half a second.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the helper may take to say whether something may lead: a unit waits for it to start.
const LEAD_TIMEOUT: Duration = Duration::from_secs(2);

/// Asks whether the instance of a service may lead on this host now.
///
/// # Errors
/// Why not, one sentence; also when nobody answers.
pub async fn may_lead(socket: &Path, service: ServiceName) -> Result<(), String> {
    let asked = async {
        let mut client = Client::connect(socket).await?;
        client.ask(&Request::MayLead { service }).await
    };
    match tokio::time::timeout(LEAD_TIMEOUT, asked).await {
        Ok(Ok(Answer::Done)) => Ok(()),
        Ok(Ok(Answer::Refused { message, .. })) => Err(message),
        Ok(Ok(
            other @ (Answer::Status(_)
            | Answer::Probe(_)
            | Answer::Notice(_)
            | Answer::CaughtUp
            | Answer::Lease(_)
            | Answer::Leases(_)),
        )) => Err(format!("{other:?} is no answer to this")),
        Ok(Err(error)) => Err(format!("the helper can not be asked: {}", super::error_text(&error))),
        Err(_) => Err(format!("the helper did not answer within {LEAD_TIMEOUT:?}")),
    }
}

/// Bytes both ways.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// A connection being made.
pub type Connecting = BoxFuture<'static, io::Result<Box<dyn Wire>>>;

/// The way to the helper: its socket, or in a simulation whatever leads to it.
#[derive(Clone)]
pub struct Way(Arc<dyn Fn() -> Connecting + Send + Sync>);

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Way").finish_non_exhaustive()
    }
}

impl Way {
    /// Over this socket.
    #[must_use]
    pub fn socket(path: PathBuf) -> Self {
        Self::new(move || {
            let path = path.clone();
            async move { Ok(Box::new(UnixStream::connect(&path).await?) as Box<dyn Wire>) }.boxed()
        })
    }

    /// As `connect` makes connections.
    pub fn new(connect: impl Fn() -> Connecting + Send + Sync + 'static) -> Self {
        Self(Arc::new(connect))
    }

    /// A new connection.
    ///
    /// # Errors
    /// [`FrameError::Io`].
    pub async fn connect(&self) -> Result<Client, FrameError> {
        Ok(Client { stream: (self.0)().await? })
    }
}

/// One connection for requests. After an error it is of no use.
pub struct Client {
    stream: Box<dyn Wire>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// [`FrameError::Io`].
    pub async fn connect(path: &Path) -> Result<Self, FrameError> {
        Way::socket(path.to_owned()).connect().await
    }

    /// One request and its answer.
    ///
    /// # Errors
    /// [`FrameError`].
    pub async fn ask(&mut self, request: &Request) -> Result<Answer, FrameError> {
        self.ask_within(request, ANSWER_TIMEOUT).await
    }

    /// As [`Client::ask`], with another patience.
    ///
    /// # Errors
    /// [`FrameError`].
    pub async fn ask_within(&mut self, request: &Request, patience: Duration) -> Result<Answer, FrameError> {
        protocol::write(&mut self.stream, request).await?;
        tokio::time::timeout(patience, protocol::read(&mut self.stream))
            .await
            .map_err(|_| FrameError::Slow)?
    }

    /// Turns the connection into a stream of notices.
    ///
    /// # Errors
    /// [`FrameError`].
    pub async fn listen(mut self) -> Result<Listener, FrameError> {
        protocol::write(&mut self.stream, &Request::Listen).await?;
        Ok(Listener { stream: self.stream })
    }
}

/// What happens in the helper.
pub struct Listener {
    stream: Box<dyn Wire>,
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").finish_non_exhaustive()
    }
}

impl Listener {
    /// The next notice; `None` once, when everything that was not confirmed has been told. Not cancel-safe: give it a
    /// task of its own.
    ///
    /// # Errors
    /// [`FrameError`].
    pub async fn next(&mut self) -> Result<Option<Notice>, FrameError> {
        match protocol::read::<Answer>(&mut self.stream).await? {
            Answer::Notice(notice) => Ok(Some(notice)),
            Answer::CaughtUp => Ok(None),
            other @ (Answer::Status(_)
            | Answer::Done
            | Answer::Probe(_)
            | Answer::Lease(_)
            | Answer::Leases(_)
            | Answer::Refused { .. }) => Err(FrameError::Malformed(format!("{other:?} is no notice"))),
        }
    }
}
