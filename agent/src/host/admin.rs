//! One question on an administrative socket: a line goes out, an answer comes in until the other end closes.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

/// Largest answer that is read: a pool of a thousand servers takes some 500 KiB.
pub const ANSWER_MAX_BYTES: usize = 1024 * 1024;

/// Where it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAddress {
    /// A Unix socket.
    Unix(PathBuf),
    /// An address and a port.
    Tcp(SocketAddr),
}

impl std::fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "{}", path.display()),
            Self::Tcp(address) => write!(f, "{address}"),
        }
    }
}

/// Asks once. The caller's line must not hold a line break; one is added.
///
/// # Errors
/// As the system calls; `TimedOut` after `limit`, `FileTooLarge` for more than [`ANSWER_MAX_BYTES`], `InvalidData` for an
/// answer that is no text.
pub async fn ask(address: &AdminAddress, line: &str, limit: Duration) -> io::Result<String> {
    let exchange = async {
        match address {
            AdminAddress::Unix(path) => talk(UnixStream::connect(path).await?, line).await,
            AdminAddress::Tcp(address) => talk(TcpStream::connect(address).await?, line).await,
        }
    };
    match tokio::time::timeout(limit, exchange).await {
        Ok(answer) => answer,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {limit:?}"))),
    }
}

async fn talk(mut stream: impl AsyncRead + AsyncWrite + Unpin, line: &str) -> io::Result<String> {
    stream.write_all(format!("{line}\n").as_bytes()).await?;
    let mut answer = Vec::new();
    let most = u64::try_from(ANSWER_MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    stream.take(most).read_to_end(&mut answer).await?;
    if answer.len() > ANSWER_MAX_BYTES {
        let text = format!("the answer is larger than {ANSWER_MAX_BYTES} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    String::from_utf8(answer).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the answer is no text"))
}
