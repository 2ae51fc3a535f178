//! A small HTTP/1.1 client: one question, one answer, everything bounded.
//!
//! Must never: follow a redirect, speak to anybody but the one address that it is given, or read more than it is allowed.

use std::fmt::Write as _;
use std::io;

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Longest body read; a health answer is a few KiB, a membership document of a large cluster some hundred.
pub(crate) const BODY_MAX_BYTES: usize = 1024 * 1024;
/// Longest head of an answer.
const HEAD_MAX_BYTES: usize = 64 * 1024;
/// Most headers of an answer.
const HEADERS_MAX: usize = 100;

/// What an HTTP server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpAnswer {
    /// Status code.
    pub status: u16,
    /// Body, no longer than was asked for.
    pub body: Vec<u8>,
}

/// An `http://` address taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpTarget {
    /// Host name or address, an IPv6 one without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// As it stands in the `Host` header.
    pub authority: String,
    /// Path and query.
    pub path: String,
}

/// Takes a URL apart. Only plain `http`: a probe looks at its own host or its neighbour, and TLS has its own probe.
///
/// # Errors
/// A sentence that says what is wrong with it.
pub fn http_target(url: &str) -> Result<HttpTarget, String> {
    let uri: http::Uri = url.parse().map_err(|e| format!("{url:?} is no URL: {e}"))?;
    if uri.scheme_str() != Some("http") {
        return Err(format!("{url:?} does not begin with http://"));
    }
    let authority = uri.authority().ok_or_else(|| format!("{url:?} names no host"))?;
    if authority.as_str().contains('@') {
        return Err("a URL with credentials is refused".to_owned());
    }
    let host = authority.host().trim_matches(['[', ']']).to_owned();
    if host.is_empty() {
        return Err(format!("{url:?} names no host"));
    }
    // `http` answers no port for one that does not fit, which must not become port 80.
    if authority.as_str().len() > authority.host().len() && authority.port_u16().is_none() {
        return Err(format!("{url:?} has no valid port"));
    }
    Ok(HttpTarget {
        host,
        port: authority.port_u16().unwrap_or(80),
        authority: authority.as_str().to_owned(),
        path: uri.path_and_query().map_or_else(|| "/".to_owned(), |p| p.as_str().to_owned()),
    })
}

/// Puts a text into a URL's query: whatever is not plain is escaped, byte by byte.
pub(crate) fn escape(into: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            // Writing to a String does not fail.
            let _ = write!(into, "%{byte:02X}");
        }
    }
}

/// What is asked for; `GET` with nothing is the plainest.
pub(crate) struct Question {
    /// How.
    pub(crate) method: Method,
    /// A JSON document that goes with it, or nothing.
    pub(crate) json: Option<Vec<u8>>,
    /// Longest body of the answer that is read.
    pub(crate) answer_max: usize,
}

impl Default for Question {
    fn default() -> Self {
        Self { method: Method::GET, json: None, answer_max: BODY_MAX_BYTES }
    }
}

/// Asks once on a connection, without a limit of time: the caller has one.
///
/// # Errors
/// What keeps it from being asked or answered.
pub(crate) async fn ask(
    stream: TcpStream,
    target: &HttpTarget,
    question: Question,
) -> io::Result<HttpAnswer> {
    let Question { method, json, answer_max } = question;
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(HEAD_MAX_BYTES)
        .max_headers(HEADERS_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    let mut request = Request::builder()
        .method(method)
        .uri(target.path.as_str())
        .header(header::HOST, target.authority.as_str())
        .header(header::USER_AGENT, concat!("quorate-agent/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close");
    if json.is_some() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    let request = request.body(Full::new(Bytes::from(json.unwrap_or_default()))).map_err(io::Error::other)?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        let status = response.status().as_u16();
        let mut frames = response.into_body();
        let mut body = Vec::new();
        while let Some(frame) = frames.frame().await {
            let Ok(data) = frame.map_err(io::Error::other)?.into_data() else { continue };
            if body.len() + data.len() > answer_max {
                let text = format!("the body is larger than {answer_max} bytes");
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

#[cfg(test)]
pub(crate) mod testing;
