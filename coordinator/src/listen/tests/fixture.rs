//! One running listener with its CA, and clients of every kind.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::Extension;
use axum::routing::post;
use quorate_common::task::{Service, Shutdown};
use quorate_common::tls::{
    AccessInfo, Address, AllowList, CertificateAuthority, ChannelLimits, ClientTls, Denied, ExpectedServer,
    KeyRequest, LEAF_LIFE, LeafSpec, LiveTls, Material, channel, provider,
};
use quorate_model::{ClusterId, MemberId, NodeName, Principal, Serial, UserName};
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::Channel;

use super::super::request::now;
use super::super::*;

/// No test waits longer than this for anything: I-26 asks for 5 s, and two busy cores deserve some more.
pub(super) const DEADLINE: Duration = Duration::from_secs(20);

/// Fails the test when something takes too long.
pub(super) async fn soon<F: Future>(what: &str, work: F) -> F::Output {
    tokio::time::timeout(DEADLINE, work)
        .await
        .unwrap_or_else(|_| panic!("{what} took longer than {DEADLINE:?}"))
}

/// Waits for a predicate.
pub(super) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let poll = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(what, poll).await;
}

#[derive(Default)]
pub(super) struct TestList(Mutex<BTreeMap<Serial, Denied>>);

impl TestList {
    pub(super) fn deny(&self, serial: &Serial, denied: Denied) {
        self.0.lock().unwrap().insert(serial.clone(), denied);
    }
}

impl AllowList for TestList {
    fn check(&self, serial: &Serial, _principal: &Principal) -> Result<AccessInfo, Denied> {
        self.0.lock().unwrap().get(serial).map_or_else(|| Ok(AccessInfo::default()), |denied| Err(*denied))
    }
}

pub(super) struct Fixture {
    pub(super) authority: CertificateAuthority,
    pub(super) server: Arc<LiveTls>,
    pub(super) allow: Arc<TestList>,
    pub(super) registry: Registry,
    pub(super) stats: Arc<ListenStats>,
    pub(super) address: SocketAddr,
    /// Releases requests that wait in `/test/wait`.
    pub(super) release: Arc<Notify>,
    pub(super) shutdown: Shutdown,
    pub(super) task: tokio::task::JoinHandle<()>,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.shutdown.trigger();
    }
}

pub(super) fn agent(name: &str) -> Principal {
    Principal::Agent { node: NodeName::new(name).unwrap() }
}

pub(super) fn user(name: &str) -> Principal {
    Principal::User { name: UserName::new(name).unwrap() }
}

pub(super) fn material(authority: &CertificateAuthority, principal: Principal) -> Material {
    let key = KeyRequest::create(authority.cluster(), &principal).unwrap();
    let cert = authority.sign_csr(key.csr_der(), &LeafSpec::new(principal, now(), LEAF_LIFE)).unwrap();
    Material::from_pem(authority.pem(), &cert.pem, key.key_pem()).unwrap()
}

pub(super) fn authority() -> CertificateAuthority {
    CertificateAuthority::create(&ClusterId::new("c1").unwrap(), "test", now()).unwrap()
}

/// Routes that show who asks, wait, or never answer, beside the real health service.
async fn router(release: Arc<Notify>) -> Router {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status("", tonic_health::ServingStatus::Serving).await;
    let routes = tonic::service::Routes::new(health).prepare().into_axum_router();
    let who = |Extension(peer): Extension<PeerIdentity>| async move { peer.principal.to_string() };
    let wait = move || {
        let release = release.clone();
        async move {
            release.notified().await;
            "released"
        }
    };
    let read = |body: bytes::Bytes| async move { body.len().to_string() };
    routes
        .route("/test/who", post(who))
        .route("/test/read", post(read).layer(axum::extract::DefaultBodyLimit::disable()))
        .route("/test/wait", post(wait.clone()))
        .route("/test/stream", post(wait))
}

impl Fixture {
    pub(super) async fn start(limits: ListenLimits) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        Self::start_on(socket, address, limits).await
    }

    pub(super) async fn start_on<A: Accept>(socket: A, address: SocketAddr, limits: ListenLimits) -> Self {
        limits.validate().unwrap();
        let authority = authority();
        let server = LiveTls::new(material(&authority, Principal::Coordinator { member: MemberId(1) }));
        let (allow, registry, release) =
            (Arc::<TestList>::default(), Registry::new(), Arc::<Notify>::default());
        let parts = GrpcParts {
            tls: server.clone(),
            allow: allow.clone(),
            registry: registry.clone(),
            router: router(release.clone()).await,
            streaming_paths: BTreeSet::from(["/test/stream".to_owned()]),
            limits,
        };
        let listener = GrpcListener::new(socket, parts).unwrap();
        let (stats, shutdown) = (listener.stats(), Shutdown::new());
        let stop = shutdown.clone();
        let task = tokio::spawn(async move { listener.run(stop).await.unwrap() });
        Self { authority, server, allow, registry, stats, address, release, shutdown, task }
    }

    pub(super) fn address(&self) -> Address {
        self.address.to_string().parse().unwrap()
    }

    /// An identity of this cluster.
    pub(super) fn live(&self, principal: Principal) -> Arc<LiveTls> {
        LiveTls::new(material(&self.authority, principal))
    }

    pub(super) fn dial(&self, tls: &ClientTls) -> Channel {
        channel(&self.address(), tls, &ChannelLimits::default()).unwrap()
    }

    /// A fresh channel of a principal.
    pub(super) fn channel(&self, principal: Principal) -> Channel {
        self.dial(&self.live(principal).client(ExpectedServer::AnyCoordinator).unwrap())
    }

    pub(super) fn refused(&self, reason: &str) -> u64 {
        self.stats.snapshot().refused.get(reason).copied().unwrap_or(0)
    }

    /// A TLS connection of a valid agent with these protocols, below HTTP.
    pub(super) async fn raw(
        &self,
        principal: Principal,
        alpn: &[&[u8]],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let key = KeyRequest::create(self.authority.cluster(), &principal).unwrap();
        let spec = LeafSpec::new(principal, now(), LEAF_LIFE);
        let cert = self.authority.sign_csr(key.csr_der(), &spec).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from(self.authority.der().to_vec())).unwrap();
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(
                vec![CertificateDer::from(cert.der)],
                PrivateKeyDer::from_pem_slice(key.key_pem().as_bytes()).unwrap(),
            )
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let tcp = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await
    }
}

/// Reads until the other side closes; an abrupt end is an end too.
pub(super) async fn read_to_close(mut stream: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut got = Vec::new();
    let mut chunk = [0_u8; 4_096];
    let read = async {
        while let Ok(count @ 1..) = stream.read(&mut chunk).await {
            got.extend_from_slice(&chunk[..count]);
        }
    };
    soon("closing a connection", read).await;
    got
}
