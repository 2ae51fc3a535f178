//! The simulated network under the real protocol: dialling and listening, plain (with a line that says who calls) and
//! over the real mutual TLS.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use quorate_common::tls::{
    AccessInfo, Address, ChannelLimits, ExpectedServer, Fingerprint, LiveTls, channel_over,
};
use quorate_coordinator::listen::{Accept, ConnectionId, PeerIdentity};
use quorate_coordinator::raft::{Dial, Purpose};
use quorate_model::{ClusterId, MemberId, Principal, Serial, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::transport::{Channel, Endpoint, Uri};
use tower::ServiceExt as _;
use turmoil::net::{TcpListener, TcpStream};

/// The port every member listens on.
pub const PORT: u16 = 7443;
/// The cluster's id.
pub const CLUSTER: &str = "sim";
/// A connection whose bytes were eaten by a partition never comes back: the simulated network does not send again.
const PING: Duration = Duration::from_secs(1);
/// Longest line that says who calls.
const WHO_MAX_BYTES: usize = 512;

/// Who is at the other end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Who {
    /// Serial number of the certificate.
    pub serial: String,
    /// Whom it was issued to.
    pub principal: Principal,
}

/// How somebody calls.
#[derive(Clone)]
pub enum Caller {
    /// With a line in front of HTTP/2.
    Plain(Who),
    /// With a certificate.
    Tls(Arc<LiveTls>),
}

async fn connect(address: Address) -> io::Result<TcpStream> {
    TcpStream::connect((address.host(), address.port())).await
}

impl Caller {
    /// A channel to `address`, where a member answers.
    ///
    /// # Errors
    /// One sentence.
    pub fn channel(&self, address: &str, expected: ExpectedServer) -> Result<Channel, String> {
        match self {
            Self::Plain(who) => plain(who, address),
            Self::Tls(live) => {
                let address: Address = address.parse().map_err(|e| format!("{e}"))?;
                let tls = live.client(expected).map_err(|e| e.to_string())?;
                let limits = ChannelLimits {
                    connect_timeout: PING,
                    keepalive_interval: PING,
                    keepalive_timeout: PING,
                    ..ChannelLimits::default()
                };
                channel_over(&address, &tls, &limits, connect).map_err(|e| e.to_string())
            }
        }
    }
}

impl Dial for Caller {
    fn channel(&self, target: u64, address: &str, _purpose: Purpose) -> Result<Channel, String> {
        Self::channel(self, address, ExpectedServer::Member(MemberId(target)))
    }
}

fn plain(who: &Who, address: &str) -> Result<Channel, String> {
    let parsed: Address = address.parse().map_err(|e| format!("{e}"))?;
    let mut line = serde_json::to_vec(who).map_err(|e| e.to_string())?;
    line.push(b'\n');
    let connector = tower::service_fn(move |_: Uri| {
        let (address, line) = (parsed.clone(), line.clone());
        async move {
            let mut stream = connect(address).await?;
            stream.write_all(&line).await?;
            Ok::<_, io::Error>(TokioIo::new(stream))
        }
    });
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|e| e.to_string())?;
    Ok(endpoint
        .connect_timeout(PING)
        .http2_keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .keep_alive_while_idle(true)
        .connect_with_connector_lazy(connector))
}

/// The listener of a member's host.
pub struct Port(TcpListener);

impl Port {
    /// Binds it.
    ///
    /// # Errors
    /// When the port is taken.
    pub async fn bind() -> io::Result<Self> {
        Ok(Self(TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?))
    }

    /// Serves plain connections until the host goes.
    ///
    /// # Errors
    /// When accepting fails.
    pub async fn serve_plain(self, router: axum::Router) -> io::Result<()> {
        loop {
            let (stream, remote) = self.0.accept().await?;
            let router = router.clone();
            tokio::spawn(async move {
                // A caller that goes away ends its own connection, and only that.
                let _ = tokio::time::timeout(Duration::from_secs(3_600), one(stream, remote, router)).await;
            });
        }
    }
}

impl Accept for Port {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        self.0.accept().await
    }
}

async fn one(mut stream: TcpStream, remote: SocketAddr, router: axum::Router) -> io::Result<()> {
    let read = tokio::time::timeout(Duration::from_secs(2), who(&mut stream));
    let peer = identity(read.await.map_err(io::Error::other)??, remote)?;
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer.clone());
        router.clone().oneshot(request)
    });
    hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .serve_connection(TokioIo::new(stream), service)
        .await
        .map_err(io::Error::other)
}

async fn who(stream: &mut TcpStream) -> io::Result<Who> {
    let mut line = Vec::new();
    loop {
        match stream.read_u8().await? {
            b'\n' => return serde_json::from_slice(&line).map_err(io::Error::other),
            _ if line.len() >= WHO_MAX_BYTES => return Err(io::Error::other("a line too long")),
            byte => line.push(byte),
        }
    }
}

fn identity(who: Who, remote: SocketAddr) -> io::Result<PeerIdentity> {
    Ok(PeerIdentity {
        principal: who.principal,
        cluster: ClusterId::new(CLUSTER).map_err(io::Error::other)?,
        serial: Serial::new(who.serial).map_err(io::Error::other)?,
        fingerprint: Fingerprint::default(),
        not_after: Timestamp(i64::MAX),
        access: AccessInfo::default(),
        remote,
        connection: ConnectionId(0),
    })
}
