//! The HTTP/2 preface, read under the handshake's deadline: hyper waits for it without one.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::frames::Frames;

/// What every HTTP/2 client sends first (RFC 9113 §3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The kind of the error that says so; TLS and sockets do not use it.
pub(super) const NOT_HTTP2: io::ErrorKind = io::ErrorKind::Unsupported;

/// A stream whose preface was read; it gives the preface again, then the rest, of which the control frames are counted.
#[derive(Debug)]
pub(super) struct Prefaced<S> {
    inner: S,
    given: usize,
    frames: Frames,
}

/// Reads the preface. Anything else, HTTP/1.1 too, is an error.
pub(super) async fn read_preface<S: AsyncRead + Unpin>(
    mut stream: S,
    frames: Frames,
) -> io::Result<Prefaced<S>> {
    let mut got = [0_u8; PREFACE.len()];
    let mut length = 0;
    while length < got.len() {
        let count = stream.read(&mut got[length..]).await?;
        length += count;
        if count == 0 || got[..length] != PREFACE[..length] {
            return Err(io::Error::new(NOT_HTTP2, "no HTTP/2 preface"));
        }
    }
    Ok(Prefaced { inner: stream, given: 0, frames })
}

impl<S> Prefaced<S> {
    /// The stream below.
    pub(super) const fn inner(&self) -> &S {
        &self.inner
    }

    /// The count of its control frames.
    pub(super) const fn frames(&self) -> &Frames {
        &self.frames
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefaced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let rest = &PREFACE[self.given..];
        if rest.is_empty() {
            let before = buf.filled().len();
            std::task::ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
            if self.frames.take(&buf.filled()[before..]) {
                return Poll::Ready(Ok(()));
            }
            return Poll::Ready(Err(io::Error::other("too many control frames")));
        }
        let count = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..count]);
        self.given += count;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefaced<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
