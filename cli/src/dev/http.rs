//! A small HTTP/1.1 client for a sample's members: one request, one connection, a deadline and a size limit on everything.
//!
//! Not a general client: no TLS, no redirects, no pooling. The ledger's members, the supervisor and the demo use it.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::{HeaderMap, Method, Request, StatusCode};
use hyper_util::rt::TokioIo;

/// Largest answer read, in bytes: a page of records is at most 4 MiB (`ledger::node`), all else is far smaller.
const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;

/// Why a request had no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// Nothing listens there: the process is not running.
    #[error("{0} refused the connection")]
    Refused(SocketAddr),
    /// No whole answer in time; whether the request was carried out is unknown.
    #[error("{0} did not answer in {1:?}")]
    Timeout(SocketAddr, Duration),
    /// The connection broke or the answer was not HTTP; whether the request was carried out is unknown.
    #[error("{to} gave no usable answer: {why}")]
    Broken {
        /// Who was asked.
        to: SocketAddr,
        /// What went wrong.
        why: String,
    },
}

/// One request.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) to: SocketAddr,
    pub(super) method: Method,
    /// Path and query, already percent-encoded.
    pub(super) path: String,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Bytes,
    pub(super) timeout: Duration,
}

impl Call {
    pub(super) fn new(method: Method, to: SocketAddr, path: impl Into<String>, timeout: Duration) -> Self {
        Self { to, method, path: path.into(), headers: Vec::new(), body: Bytes::new(), timeout }
    }

    pub(super) fn header(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    pub(super) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Sends it and reads the whole answer.
    pub(super) async fn send(self) -> Result<(StatusCode, Bytes), CallError> {
        let (status, _, body) = self.send_for_headers().await?;
        Ok((status, body))
    }

    /// As [`Self::send`], with what stands above the answer.
    pub(super) async fn send_for_headers(self) -> Result<(StatusCode, HeaderMap, Bytes), CallError> {
        let (to, timeout) = (self.to, self.timeout);
        match tokio::time::timeout(timeout, self.exchange()).await {
            Ok(answer) => answer,
            Err(_) => Err(CallError::Timeout(to, timeout)),
        }
    }

    async fn exchange(self) -> Result<(StatusCode, HeaderMap, Bytes), CallError> {
        let to = self.to;
        let broken = |why: String| CallError::Broken { to, why };
        let stream = tokio::net::TcpStream::connect(to).await.map_err(|error| match error.kind() {
            std::io::ErrorKind::ConnectionRefused => CallError::Refused(to),
            _ => broken(error.to_string()),
        })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| broken(error.to_string()))?;
        let mut request = Request::builder()
            .method(self.method)
            .uri(&self.path)
            .header("host", to.to_string())
            .header("connection", "close");
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let request = request.body(Full::new(self.body)).map_err(|error| broken(error.to_string()))?;
        let answer = async {
            let (parts, body) =
                sender.send_request(request).await.map_err(|error| broken(error.to_string()))?.into_parts();
            let body = Limited::new(body, MAX_ANSWER_BYTES)
                .collect()
                .await
                .map_err(|error| broken(error.to_string()))?;
            Ok((parts.status, parts.headers, body.to_bytes()))
        };
        // The connection is driven beside the answer, so that dropping this future closes it.
        tokio::pin!(connection);
        tokio::pin!(answer);
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            end = &mut connection => match end {
                // The connection may end in the same poll that delivered the last bytes.
                Ok(()) => answer.await,
                Err(error) => Err(broken(error.to_string())),
            },
        }
    }
}
