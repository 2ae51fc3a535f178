//! The typed local protocol between the network half and the root half.
//!
//! A frame is its length (4 bytes, big endian), the version byte and MessagePack with field names. The first frame on a
//! connection is a [`Request`]; each request has one [`Answer`], except [`Request::Listen`], after which the helper sends
//! notices until the connection ends. What does not parse closes the connection.

use std::time::Duration;

use quorate_model::{DurationMs, ExecutionId, ObligationId, ObligationState, Reason, ServiceName};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::runner::leases::{LeaseKnown, LeaseOrder, LeaseStanding};
use crate::runner::{Incoming, Notice, Status};

/// Version spoken here.
pub const VERSION: u8 = 1;
/// Largest frame: the session's own limit is 256 KiB, and MessagePack with names is at most some times as long.
pub const FRAME_MAX_BYTES: usize = 1024 * 1024;
/// How long the rest of a frame may take once its first byte is there, and how long a reader may let us wait.
const FRAME_TIMEOUT: Duration = Duration::from_secs(10);

/// What the helper is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// How it stands.
    Status,
    /// The whole work of the node.
    Work(Box<Incoming>),
    /// The coordinators keep the end of this execution.
    Confirm(ExecutionId),
    /// The coordinators keep this state of an obligation.
    ConfirmObligation(ObligationId, ObligationState),
    /// Everything that is not confirmed, and what happens from now on.
    Listen,
    /// Run an exec probe, if the host's policy lists its program.
    RunProbe {
        /// Program and arguments.
        argv: Vec<String>,
        /// Longest time.
        timeout: DurationMs,
    },
    /// Take this lease up, or learn what was answered to a renewal of it.
    Lease(Box<LeaseOrder>),
    /// Which leases are known and not released.
    Leases,
    /// Whether the instance of a service may lead now: refused, when it may not or nobody knows.
    MayLead {
        /// Which service.
        service: ServiceName,
    },
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProgramEnd {
    /// Exit code.
    Code(i32),
    /// Killed by a signal.
    Signal(i32),
    /// Killed at its deadline.
    TimedOut,
}

/// How an exec probe ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeEnd {
    /// How.
    pub end: ProgramEnd,
    /// The end of what it printed.
    pub output: String,
}

/// What the helper says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// How it stands.
    Status(Box<Status>),
    /// It is done, durably.
    Done,
    /// The program ran.
    Probe(ProbeEnd),
    /// It was not done.
    Refused {
        /// Stable code.
        reason: Reason,
        /// One line.
        message: String,
    },
    /// Something happened, or is not confirmed yet.
    Notice(Notice),
    /// Everything that is not confirmed was told.
    CaughtUp,
    /// How a lease stands, durably.
    Lease(LeaseStanding),
    /// Leases that are not released.
    Leases(Vec<LeaseKnown>),
}

/// Why a frame can not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The other side is gone.
    #[error("the connection ended")]
    Ended,
    /// The frame is longer than allowed.
    #[error("a frame of {bytes} bytes, {FRAME_MAX_BYTES} is the limit")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Another version.
    #[error("protocol version {0}, this release speaks {VERSION}")]
    Version(u8),
    /// No message of ours.
    #[error("a frame that is no message: {0}")]
    Malformed(String),
    /// It took too long.
    #[error("a frame did not come or go within {FRAME_TIMEOUT:?}")]
    Slow,
    /// The socket failed.
    #[error("the socket failed")]
    Io(#[from] std::io::Error),
}

/// Reads one frame. Waits for its first byte without a limit.
///
/// # Errors
/// [`FrameError`]; the connection is of no use afterwards.
pub async fn read<T: DeserializeOwned>(stream: &mut (impl AsyncRead + Unpin)) -> Result<T, FrameError> {
    read_within(stream, FRAME_TIMEOUT).await
}

async fn read_within<T: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
    limit: Duration,
) -> Result<T, FrameError> {
    let mut length = [0_u8; 4];
    match stream.read(&mut length[..1]).await {
        Ok(0) => return Err(FrameError::Ended),
        Ok(_) => {}
        Err(error) => return Err(error.into()),
    }
    let rest = async {
        stream.read_exact(&mut length[1..]).await?;
        let bytes = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if bytes > FRAME_MAX_BYTES {
            return Err(FrameError::TooLong { bytes });
        }
        let mut frame = vec![0_u8; bytes];
        stream.read_exact(&mut frame).await?;
        decode(&frame)
    };
    tokio::time::timeout(limit, rest).await.map_err(|_| FrameError::Slow)?
}

/// Writes one frame.
///
/// # Errors
/// [`FrameError`].
pub async fn write<T: Serialize>(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &T,
) -> Result<(), FrameError> {
    let frame = encode(message)?;
    let work = async {
        stream.write_all(&frame).await?;
        stream.flush().await
    };
    tokio::time::timeout(FRAME_TIMEOUT, work).await.map_err(|_| FrameError::Slow)??;
    Ok(())
}

fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut frame = vec![0, 0, 0, 0, VERSION];
    rmp_serde::encode::write_named(&mut frame, message).map_err(|e| FrameError::Malformed(e.to_string()))?;
    let bytes = frame.len() - 4;
    let length = u32::try_from(bytes).ok().filter(|_| bytes <= FRAME_MAX_BYTES);
    let length = length.ok_or(FrameError::TooLong { bytes })?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Ok(frame)
}

fn decode<T: DeserializeOwned>(frame: &[u8]) -> Result<T, FrameError> {
    match frame.split_first() {
        Some((&VERSION, rest)) => {
            rmp_serde::from_slice(rest).map_err(|e| FrameError::Malformed(e.to_string()))
        }
        Some((version, _)) => Err(FrameError::Version(*version)),
        None => Err(FrameError::Malformed("it is empty".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[tokio::test]
    async fn frames_come_back_and_garbage_does_not() {
        let (mut a, mut b) = tokio::io::duplex(4096);
        let asked = Request::RunProbe { argv: vec!["/bin/true".into()], timeout: DurationMs(5) };
        write(&mut a, &asked).await.unwrap();
        assert_eq!(read::<Request>(&mut b).await.unwrap(), asked);
        for (bytes, want) in [
            (&b"\xff\xff\xff\xff"[..], "limit"),
            (&b"\0\0\0\x02\x09\xc0"[..], "version 9"),
            (&b"\0\0\0\0"[..], "empty"),
            (&b"\0\0\0\x05\x01\xa3abc"[..], "no message"),
        ] {
            let (mut a, mut b) = tokio::io::duplex(64);
            a.write_all(bytes).await.unwrap();
            let error = read::<Request>(&mut b).await.unwrap_err().to_string();
            assert!(error.contains(want), "{bytes:?} gave {error}");
        }
        drop(a);
        assert!(matches!(read::<Request>(&mut b).await, Err(FrameError::Ended)));
    }

    #[tokio::test]
    async fn half_a_frame_is_not_waited_for() {
        let (mut a, mut b) = tokio::io::duplex(64);
        a.write_all(b"\0\0").await.unwrap();
        let limit = Duration::from_millis(20);
        assert!(matches!(read_within::<Request>(&mut b, limit).await, Err(FrameError::Slow)));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode::<Request>(&bytes);
            let _ = decode::<Answer>(&bytes);
        }
    }
}
