//! A small HTTP/1.1 client: one GET, one answer, everything bounded.

use std::io;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::plan::{HttpAnswer, HttpTarget};

/// Longest body read; a health answer is a few KiB, a membership document of a large cluster some hundred.
pub(super) const BODY_MAX_BYTES: usize = 1024 * 1024;
/// Longest head of an answer.
const HEAD_MAX_BYTES: usize = 64 * 1024;
/// Most headers of an answer.
const HEADERS_MAX: usize = 100;

/// Asks once on a connection, without a limit of time: the caller has one.
pub(super) async fn get(stream: TcpStream, target: &HttpTarget) -> io::Result<HttpAnswer> {
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(HEAD_MAX_BYTES)
        .max_headers(HEADERS_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    let request = Request::get(target.path.as_str())
        .header(header::HOST, target.authority.as_str())
        .header(header::USER_AGENT, concat!("quorate-agent/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(io::Error::other)?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        let status = response.status().as_u16();
        let mut frames = response.into_body();
        let mut body = Vec::new();
        while let Some(frame) = frames.frame().await {
            let Ok(data) = frame.map_err(io::Error::other)?.into_data() else { continue };
            if body.len() + data.len() > BODY_MAX_BYTES {
                let text = format!("the body is larger than {BODY_MAX_BYTES} bytes");
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
            }
            body.extend_from_slice(&data);
        }
        Ok(HttpAnswer { status, body })
    };
    // Both in this one task: when the caller stops waiting, the connection is gone too.
    let mut exchange = std::pin::pin!(exchange);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        biased;
        answer = &mut exchange => answer,
        ended = &mut connection => match ended {
            // The other end is done sending; what it sent is read to its end.
            Ok(()) => exchange.await,
            Err(e) => Err(io::Error::other(e)),
        },
    }
}
