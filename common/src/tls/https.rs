//! One HTTPS request to a coordinator's HTTP port: enrolment, before there is an identity for gRPC.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;

use super::connect::{Address, dial};
use super::{ClientTls, refusal_word};

/// Limits of one request.
#[derive(Clone, Copy, Debug)]
pub struct HttpsLimits {
    /// TCP and TLS.
    pub connect_timeout: Duration,
    /// The whole request after that.
    pub timeout: Duration,
    /// Largest answer.
    pub max_response_bytes: usize,
}

impl Default for HttpsLimits {
    /// 5 s to connect as everywhere, 30 s as every unary call, 1 MiB as every API message.
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(30),
            max_response_bytes: 1024 * 1024,
        }
    }
}

/// The answer, complete.
#[derive(Clone, Debug)]
pub struct HttpsResponse {
    /// Its status.
    pub status: StatusCode,
    /// Its body.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpsError {
    /// No TLS connection; the word is a `Refused` word or what else went wrong.
    #[error("cannot connect to {address} ({reason})")]
    Connect {
        /// Whom.
        address: Address,
        /// The stable word.
        reason: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The request could not be made or the connection broke: whether it was processed is unknown.
    #[error("no answer from {address}")]
    Broken {
        /// Whom.
        address: Address,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The time is over: whether it was processed is unknown.
    #[error("no answer from {address} within {after:?}")]
    TimedOut {
        /// Whom.
        address: Address,
        /// The limit.
        after: Duration,
    },
}

/// Sends one request and reads the whole answer.
///
/// # Errors
/// [`HttpsError`]; an answer with an error status is an answer.
pub async fn https_request(
    address: &Address,
    tls: &ClientTls,
    method: Method,
    path: &str,
    json: Bytes,
    limits: &HttpsLimits,
) -> Result<HttpsResponse, HttpsError> {
    let HttpsLimits { connect_timeout, timeout, max_response_bytes } = *limits;
    let stream = dial(address, tls.with_alpn(b"http/1.1"), connect_timeout).await.map_err(|source| {
        HttpsError::Connect { address: address.clone(), reason: refusal_word(&source), source }
    })?;
    let exchange = async {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, address.to_string())
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(json))?;
        let answer = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), max_response_bytes).collect().await?.to_bytes();
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(HttpsResponse { status, body })
        };
        tokio::pin!(answer);
        // The connection moves the bytes; it may end before the answer is taken apart.
        tokio::select! {
            response = &mut answer => response,
            ended = connection => match ended {
                Ok(()) => answer.await,
                Err(error) => Err(error.into()),
            },
        }
    };
    match tokio::time::timeout(timeout, exchange).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(source)) => Err(HttpsError::Broken { address: address.clone(), source }),
        Err(_) => Err(HttpsError::TimedOut { address: address.clone(), after: timeout }),
    }
}
