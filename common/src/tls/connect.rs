//! Dialling a coordinator: an address, a connector, a lazily connected tonic channel.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};

use super::{ClientTls, refusal_word};

/// Where a coordinator listens: host name or IP address, and port. `https://` before it is accepted and dropped.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    host: String,
    port: u16,
}

/// Why something cannot be dialled.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Not `host:port`.
    #[error("{0:?} is not an address: write host:port, for example coord1.example:7443 or [::1]:7443")]
    Address(String),
    /// tonic refused the address.
    #[error("cannot set up a channel")]
    Endpoint(#[from] tonic::transport::Error),
}

impl Address {
    /// The host, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    fn server_name(&self) -> io::Result<ServerName<'static>> {
        ServerName::try_from(self.host.clone())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Address {
    type Err = ConnectError;

    fn from_str(text: &str) -> Result<Self, ConnectError> {
        let bad = || ConnectError::Address(text.chars().take(100).collect());
        let rest = text.trim_ascii().strip_prefix("https://").unwrap_or(text.trim_ascii());
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = rest.rsplit_once(':').ok_or_else(bad)?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        // Only an IPv6 address has colons, and only it stands in brackets.
        let valid = match bracketed {
            Some(inner) => matches!(inner.parse(), Ok(IpAddr::V6(_))),
            None => !host.contains(':') && ServerName::try_from(host).is_ok(),
        };
        let digits = port.bytes().all(|b| b.is_ascii_digit());
        match port.parse::<u16>() {
            Ok(port) if valid && digits && port != 0 => {
                Ok(Self { host: bracketed.unwrap_or(host).to_owned(), port })
            }
            Ok(_) | Err(_) => Err(bad()),
        }
    }
}

/// Limits of a channel; the defaults are those of reliability.md §5.3.
#[derive(Clone, Copy, Debug)]
pub struct ChannelLimits {
    /// For TCP and TLS together.
    pub connect_timeout: Duration,
    /// How often an HTTP/2 ping is sent, also while idle.
    pub keepalive_interval: Duration,
    /// How long its answer may take.
    pub keepalive_timeout: Duration,
    /// Largest header list that is accepted.
    pub max_header_list_bytes: u32,
    /// For each call; `None` leaves it to the caller (streams).
    pub request_timeout: Option<Duration>,
}

impl Default for ChannelLimits {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            keepalive_interval: Duration::from_secs(20),
            keepalive_timeout: Duration::from_secs(10),
            max_header_list_bytes: 16 * 1024,
            request_timeout: None,
        }
    }
}

/// A channel to a coordinator that connects at its first call and again after a loss. Each connection uses the identity
/// that is live at that moment.
///
/// # Errors
/// [`ConnectError`] when the address does not make an endpoint. Failing to connect shows at the call.
pub fn channel(address: &Address, tls: &ClientTls, limits: &ChannelLimits) -> Result<Channel, ConnectError> {
    channel_over(address, tls, limits, tcp)
}

/// As [`channel`], over connections that `connect` makes, for instance those of a simulated network.
///
/// # Errors
/// [`ConnectError`].
pub fn channel_over<S, F>(
    address: &Address,
    tls: &ClientTls,
    limits: &ChannelLimits,
    connect: impl Fn(Address) -> F + Clone + Send + Sync + 'static,
) -> Result<Channel, ConnectError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    F: Future<Output = io::Result<S>> + Send,
{
    let ChannelLimits {
        connect_timeout,
        keepalive_interval,
        keepalive_timeout,
        max_header_list_bytes,
        request_timeout,
    } = *limits;
    let bad = |_| ConnectError::Address(address.to_string());
    // tonic must not add TLS of its own, so the endpoint says http; the calls themselves carry https.
    let mut endpoint = Endpoint::from_shared(format!("http://{address}"))?
        .origin(format!("https://{address}").parse::<Uri>().map_err(bad)?)
        .connect_timeout(connect_timeout)
        .http2_keep_alive_interval(keepalive_interval)
        .keep_alive_timeout(keepalive_timeout)
        .keep_alive_while_idle(true)
        .http2_max_header_list_size(max_header_list_bytes);
    if let Some(timeout) = request_timeout {
        endpoint = endpoint.timeout(timeout);
    }
    let config = tls.with_alpn(b"h2");
    let address = address.clone();
    let connector = tower::service_fn(move |_: Uri| {
        let (address, config, connect) = (address.clone(), config.clone(), connect.clone());
        async move { dial_over(&address, config, connect_timeout, connect).await.map(TokioIo::new) }
    });
    Ok(endpoint.connect_with_connector_lazy(connector))
}

/// Whether a failed call never left this process, so that even a mutation without a request id may be sent again. The
/// usual cause is a connection that the server retired (its age limit) at the moment the call was queued.
///
/// Every other transport failure leaves the outcome unknown.
#[must_use]
pub fn was_never_sent(status: &tonic::Status) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(status);
    while let Some(error) = cause {
        // hyper's "canceled" means: still in the queue when the connection went away.
        if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// A connection of this machine's network.
async fn tcp(address: Address) -> io::Result<TcpStream> {
    let tcp = TcpStream::connect((address.host(), address.port())).await?;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

/// TCP and TLS within one deadline; the wanted protocol must have been agreed on.
pub(super) async fn dial(
    address: &Address,
    config: Arc<ClientConfig>,
    timeout: Duration,
) -> io::Result<TlsStream<TcpStream>> {
    dial_over(address, config, timeout, tcp).await
}

async fn dial_over<S, F>(
    address: &Address,
    config: Arc<ClientConfig>,
    timeout: Duration,
    connect: impl Fn(Address) -> F,
) -> io::Result<TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = io::Result<S>>,
{
    let wanted = config.alpn_protocols.first().cloned();
    let work = async {
        let stream = connect(address.clone()).await?;
        TlsConnector::from(config).connect(address.server_name()?, stream).await
    };
    let stream = match tokio::time::timeout(timeout, work).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(peer = %address, reason = refusal_word(&error), error = %error, "cannot connect");
            return Err(error);
        }
        Err(_) => {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no TLS connection to {address} in {timeout:?}"),
            ));
        }
    };
    if stream.get_ref().1.alpn_protocol() == wanted.as_deref() {
        Ok(stream)
    } else {
        Err(io::Error::other(format!("{address} does not speak the expected protocol")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_hosts_and_ports_and_nothing_else() {
        for (text, shown) in [
            ("coord1.example:7443", "coord1.example:7443"),
            ("https://127.0.0.1:1/", "127.0.0.1:1"),
            (" [::1]:7443 ", "[::1]:7443"),
            ("localhost:65535", "localhost:65535"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), shown);
        }
        for bad in [
            "",
            "host",
            "host:",
            ":1",
            "host:0",
            "host:65536",
            "host:+1",
            "::1:7443",
            "[host]:1",
            "[127.0.0.1]:1",
            "http://h:1",
            "u@h:1",
            "h:1/path",
            "h h:1",
            "*:1",
            "h\n:1",
            "https://",
            "-h:1",
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad:?}");
        }
    }
}
