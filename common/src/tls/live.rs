//! Live material and the TLS configurations that read it.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use quorate_model::{ClusterId, MemberId};
use rustls::client::Resumption;
use rustls::server::NoServerSessionStorage;
use rustls::{ClientConfig, ServerConfig};

use super::provider::{client_builder, server_builder};
use super::verify::{LiveClientVerifier, LiveResolver, LiveServerVerifier, PinnedServerVerifier};
use super::{AllowList, Fingerprint, Material, Store, TlsError};

/// The certificate, key and trust bundle in use. Replacing them affects the next handshake and no open connection.
pub struct LiveTls(ArcSwap<Material>);

impl fmt::Debug for LiveTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LiveTls({:?})", self.0.load())
    }
}

/// Which server a client accepts. Every server is a coordinator of the client's own cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpectedServer {
    /// Any member: agents and users.
    AnyCoordinator,
    /// This member and no other: Raft peers, so that a mixed-up address cannot deliver a vote to the wrong member.
    Member(MemberId),
}

impl LiveTls {
    /// Starts with this material.
    #[must_use]
    pub fn new(material: Material) -> Arc<Self> {
        Arc::new(Self(ArcSwap::from_pointee(material)))
    }

    /// The material in use now.
    #[must_use]
    pub fn current(&self) -> Arc<Material> {
        self.0.load_full()
    }

    /// Replaces the material, as after a renewal.
    ///
    /// # Errors
    /// [`TlsError::OtherIdentity`] when the new certificate is for another cluster or principal: a process keeps its
    /// identity for life.
    pub fn replace(&self, new: Material) -> Result<(), TlsError> {
        let old = self.current();
        let (now, then) = (new.identity(), old.identity());
        if (&now.cluster, &now.principal) != (&then.cluster, &then.principal) {
            return Err(TlsError::OtherIdentity {
                new: format!("{} of cluster {}", now.principal, now.cluster),
                old: format!("{} of cluster {}", then.principal, then.cluster),
            });
        }
        self.0.store(Arc::new(new));
        Ok(())
    }

    /// Loads the store again and replaces the material, as after SIGHUP.
    ///
    /// # Errors
    /// [`TlsError`]; the old material stays in use then.
    pub fn reload(&self, store: &Store) -> Result<(), TlsError> {
        self.replace(store.load()?)
    }

    /// For the gRPC port: a client certificate is required and must be on the allow-list; `h2` only.
    ///
    /// # Errors
    /// [`TlsError::Setup`].
    pub fn server_config(self: &Arc<Self>, allow: Arc<dyn AllowList>) -> Result<Arc<ServerConfig>, TlsError> {
        let verifier = LiveClientVerifier { live: self.clone(), allow };
        let config = server_builder()?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::new(LiveResolver(self.clone())));
        Ok(finished(config, &[b"h2"]))
    }

    /// For the HTTP port: no client certificate; `h2` and `http/1.1`.
    ///
    /// # Errors
    /// [`TlsError::Setup`].
    pub fn http_server_config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, TlsError> {
        let config =
            server_builder()?.with_no_client_auth().with_cert_resolver(Arc::new(LiveResolver(self.clone())));
        Ok(finished(config, &[b"h2", b"http/1.1"]))
    }

    /// For dialling a coordinator's gRPC port with this identity.
    ///
    /// # Errors
    /// [`TlsError::Setup`].
    pub fn client(self: &Arc<Self>, expected: ExpectedServer) -> Result<ClientTls, TlsError> {
        let verifier = LiveServerVerifier { live: self.clone(), expected };
        let mut config = client_builder()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(LiveResolver(self.clone())));
        config.resumption = Resumption::disabled();
        Ok(ClientTls(Arc::new(config)))
    }
}

/// No tickets and no session store: a resumed session would skip the certificate check and outlive a revocation.
fn finished(mut config: ServerConfig, protocols: &[&[u8]]) -> Arc<ServerConfig> {
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

/// How a client speaks TLS to a coordinator. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ClientTls(Arc<ClientConfig>);

impl ClientTls {
    /// For enrolment, without an identity: trusts exactly the CA whose SHA-256 the token pins, and only a coordinator of
    /// that cluster. The token's secret must not be sent over anything else.
    ///
    /// # Errors
    /// [`TlsError::Setup`].
    pub fn pinned(ca: Fingerprint, cluster: ClusterId) -> Result<Self, TlsError> {
        let mut config = client_builder()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(PinnedServerVerifier { ca, cluster }))
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        Ok(Self(Arc::new(config)))
    }

    /// The configuration with one application protocol.
    pub(super) fn with_alpn(&self, protocol: &[u8]) -> Arc<ClientConfig> {
        let mut config = self.0.as_ref().clone();
        config.alpn_protocols = vec![protocol.to_vec()];
        Arc::new(config)
    }
}
