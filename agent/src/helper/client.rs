//! The network half's end of the local socket.

use std::path::Path;
use std::time::Duration;

use tokio::net::UnixStream;

use super::protocol::{self, Answer, FrameError, Request};
use crate::runner::Notice;

/// Longest wait for an answer. Accepting work takes one barrier for each new execution; a slow disk takes half a second.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// One connection for requests. After an error it is of no use.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// [`FrameError::Io`].
    pub async fn connect(path: &Path) -> Result<Self, FrameError> {
        Ok(Self { stream: UnixStream::connect(path).await? })
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
#[derive(Debug)]
pub struct Listener {
    stream: UnixStream,
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
            other @ (Answer::Status(_) | Answer::Done | Answer::Probe(_) | Answer::Refused { .. }) => {
                Err(FrameError::Malformed(format!("{other:?} is no notice")))
            }
        }
    }
}
