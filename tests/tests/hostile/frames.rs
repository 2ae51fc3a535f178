//! HTTP/2 by hand (RFC 9113): what no well-behaved library would send.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::peers::raw_tls;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
/// Longest wait for a connection to end.
const END: Duration = Duration::from_secs(60);

/// One frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).expect("a short payload").to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// The number of the n-th stream of a client.
pub(crate) fn stream(n: u32) -> u32 {
    n * 2 + 1
}

/// Header block of a gRPC call (HPACK, no dynamic table, no Huffman).
pub(crate) fn grpc_headers(path: &str) -> Vec<u8> {
    // :method POST, :scheme https; then literals without indexing.
    let mut block = vec![0x83, 0x87, 0x04];
    string(&mut block, path.as_bytes());
    block.push(0x01);
    string(&mut block, b"localhost");
    // content-type is entry 31: 15 in the prefix and 16 more.
    block.extend([0x0f, 0x10]);
    string(&mut block, b"application/grpc");
    block.push(0);
    string(&mut block, b"te");
    string(&mut block, b"trailers");
    block
}

fn string(block: &mut Vec<u8>, text: &[u8]) {
    block.push(u8::try_from(text.len()).ok().filter(|n| *n < 127).expect("a short text"));
    block.extend(text);
}

/// A connection below HTTP/2 with its preface and settings sent.
pub(crate) struct Raw {
    read: ReadHalf<TlsStream<TcpStream>>,
    write: WriteHalf<TlsStream<TcpStream>>,
    /// Read, and no whole frame yet.
    begun: Vec<u8>,
}

impl Raw {
    /// With these settings, six bytes each.
    pub(crate) async fn open(identity: &Path, address: &str, settings: &[u8]) -> io::Result<Self> {
        let (read, write) = tokio::io::split(raw_tls(identity, address, &[b"h2"]).await?);
        let mut raw = Self { read, write, begun: Vec::new() };
        raw.send(PREFACE).await?;
        raw.send(&frame(SETTINGS, 0, 0, settings)).await?;
        Ok(raw)
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write.write_all(bytes).await?;
        self.write.flush().await
    }

    /// The next frame: kind, flags, stream, payload. Whoever stops waiting for it loses nothing of it.
    pub(crate) async fn next(&mut self) -> io::Result<(u8, u8, u32, Vec<u8>)> {
        const HEAD: usize = 9;
        loop {
            if let Some(head) = self.begun.first_chunk::<HEAD>() {
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                let (kind, flags) = (head[3], head[4]);
                let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
                let end = HEAD + usize::try_from(length).map_err(io::Error::other)?;
                if self.begun.len() >= end {
                    let payload = self.begun.drain(..end).skip(HEAD).collect();
                    return Ok((kind, flags, stream, payload));
                }
            }
            if self.read.read_buf(&mut self.begun).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Sends bytes that depend on their number until the connection ends or they were sent so many times, and reads
    /// meanwhile: how often they went out, how long the server took to end it (`None`: it did not), and the code of its
    /// GOAWAY.
    pub(crate) async fn flood_with(self, times: usize, mut bytes: impl FnMut(u32) -> Vec<u8>) -> Flood {
        let Self { read, mut write, begun: _ } = self;
        let begun = Instant::now();
        let reader = tokio::spawn(read_to_end(read));
        let mut sent = 0;
        while sent < times {
            let mut chunk = Vec::with_capacity(64 * 1024);
            while chunk.len() < 32 * 1024 && sent < times {
                chunk.extend(bytes(u32::try_from(sent).expect("a small number")));
                sent += 1;
            }
            if write.write_all(&chunk).await.is_err() || write.flush().await.is_err() {
                break;
            }
        }
        let ended = tokio::time::timeout(END, reader).await;
        let closed = ended.is_ok().then(|| begun.elapsed());
        let goaway = ended.ok().and_then(|joined| joined.expect("the reader's task"));
        Flood { sent, closed, goaway }
    }
}

/// What came of a flood.
#[derive(Debug)]
pub(crate) struct Flood {
    pub(crate) sent: usize,
    pub(crate) closed: Option<Duration>,
    pub(crate) goaway: Option<u32>,
}

/// Reads until the server closes; the code of its GOAWAY.
async fn read_to_end(mut read: ReadHalf<TlsStream<TcpStream>>) -> Option<u32> {
    let mut goaway = None;
    loop {
        let mut head = [0_u8; 9];
        if read.read_exact(&mut head).await.is_err() {
            return goaway;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap_or(0)];
        if read.read_exact(&mut payload).await.is_err() {
            return goaway;
        }
        if head[3] == GOAWAY && payload.len() >= 8 {
            goaway = Some(u32::from_be_bytes([payload[4], payload[5], payload[6], payload[7]]));
        }
    }
}
