//! Everybody who may knock: identities in directories, and what they speak with.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use quorate_common::tls::{
    Address, BACKDATE, CertificateAuthority, ChannelLimits, ClientTls, ExpectedServer, JoinToken, KeyRequest,
    LeafSpec, LiveTls, Material, channel, provider,
};
use quorate_common::wire::Problem;
use quorate_model::{DurationMs, NodeName, Principal, Timestamp, UserName};
use quorate_proto::v1;
use quorate_proto::v1::enroll_service_client::EnrollServiceClient;
use quorate_tests::cluster::Fleet;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Request, Status};

/// Longest one call may take.
pub(crate) const CALL: Duration = Duration::from_secs(20);

pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    Timestamp(i64::try_from(since.as_millis()).expect("this century"))
}

/// One for the whole process: a channel lives on the runtime it was made on.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let built = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        built.expect("a runtime")
    })
}

pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    runtime().block_on(work)
}

/// Fails the test when something takes too long.
pub(crate) async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(CALL, work).await.unwrap_or_else(|_| panic!("{what} took longer than {CALL:?}"))
}

pub(crate) fn node(name: &str) -> Principal {
    Principal::Agent { node: NodeName::new(name).expect("a name") }
}

pub(crate) fn user(name: &str) -> Principal {
    Principal::User { name: UserName::new(name).expect("a name") }
}

/// The fleet's CA with its key, which an attacker who holds a coordinator has.
pub(crate) fn authority(fleet: &Fleet) -> CertificateAuthority {
    CertificateAuthority::load(&fleet.dir().join("coordinators/coord1/data/tls")).expect("the CA")
}

pub(crate) fn admin(fleet: &Fleet) -> PathBuf {
    fleet.dir().join("admin")
}

pub(crate) fn member(fleet: &Fleet, name: &str) -> PathBuf {
    fleet.dir().join("coordinators").join(name).join("data/tls")
}

/// Writes an identity as every client reads it.
pub(crate) fn write(dir: &Path, ca: &str, cert: &str, key: &str) {
    fs::create_dir_all(dir).expect("a directory");
    for (file, text) in [("ca.pem", ca), ("cert.pem", cert), ("key.pem", key)] {
        quorate_common::tls::write_atomic(&dir.join(file), text.as_bytes(), 0o600).expect("written");
    }
}

/// A certificate of the fleet's CA that the cluster never issued.
pub(crate) fn forge(fleet: &Fleet, name: &str, spec: &LeafSpec) -> PathBuf {
    let authority = authority(fleet);
    let request = KeyRequest::create(authority.cluster(), &spec.principal).expect("a key");
    let issued = authority.sign_csr(request.csr_der(), spec).expect("signed");
    let dir = fleet.dir().join("forged").join(name);
    write(&dir, authority.pem(), &issued.pem, request.key_pem());
    dir
}

/// One that ended a minute ago.
pub(crate) fn expired(fleet: &Fleet, principal: Principal) -> PathBuf {
    let spec = LeafSpec {
        not_before: now().minus(DurationMs::from_secs(BACKDATE.as_secs())),
        not_after: now().minus(DurationMs::from_secs(60)),
        ..LeafSpec::new(principal, now(), Duration::from_secs(86_400))
    };
    forge(fleet, "expired", &spec)
}

/// Trades a token for an identity.
pub(crate) fn enroll(
    fleet: &Fleet,
    token: &str,
    principal: &Principal,
    name: &str,
) -> Result<PathBuf, Status> {
    let parsed: JoinToken = token.parse().expect("a token");
    let key = KeyRequest::create(&parsed.cluster, principal).expect("a key");
    let request = v1::EnrollRequest {
        token: token.to_owned(),
        name: name.to_owned(),
        csr_der: key.csr_der().to_vec(),
        ..Default::default()
    };
    let answer = ask_to_enroll(fleet, request)?;
    let dir = fleet.dir().join("identities").join(name);
    write(&dir, &answer.ca_pem, &answer.certificate_pem, key.key_pem());
    Ok(dir)
}

/// One call of the enrolment service, without a certificate.
pub(crate) fn ask_to_enroll(fleet: &Fleet, request: v1::EnrollRequest) -> Result<v1::EnrollResponse, Status> {
    let (_, _, http) = fleet.coordinators().swap_remove(0);
    let tls = pinned(fleet);
    block_on(async {
        let mut client = EnrollServiceClient::new(dial(&http, &tls));
        soon("enrolment", client.enroll(request)).await.map(tonic::Response::into_inner)
    })
}

pub(crate) fn pinned(fleet: &Fleet) -> ClientTls {
    let authority = authority(fleet);
    ClientTls::pinned(authority.fingerprint(), authority.cluster().clone()).expect("TLS")
}

/// A node without an agent; the test speaks for it.
pub(crate) fn new_node(fleet: &Fleet, name: &str) -> PathBuf {
    let dir = fleet.dir().join("identities").join(name);
    if dir.join("key.pem").exists() {
        return dir;
    }
    let token = fleet.json(&["token", "create", "--node", name]);
    enroll(fleet, token["token"].as_str().expect("a token"), &node(name), name).expect("enrolled")
}

/// A user with a role.
pub(crate) fn new_user(fleet: &Fleet, name: &str, role: &str) -> PathBuf {
    let dir = fleet.dir().join("identities").join(name);
    if dir.join("key.pem").exists() {
        return dir;
    }
    let token = fleet.json(&["token", "create", "--purpose", "user", "--name", name, "--role", role]);
    enroll(fleet, token["token"].as_str().expect("a token"), &user(name), name).expect("enrolled")
}

pub(crate) fn remove_node(fleet: &Fleet, name: &str) {
    let _ = fleet.quorate(&["node", "remove", name, "--confirm", name, "--yes"]).expect(0);
}

/// Removes a node that has no agent, and its identity: a calm fleet has none such.
pub(crate) fn forget_node(fleet: &Fleet, name: &str) {
    remove_node(fleet, name);
    fs::remove_dir_all(fleet.dir().join("identities").join(name)).expect("removed");
}

pub(crate) fn dial(address: &str, tls: &ClientTls) -> Channel {
    let address: Address = address.parse().expect("an address");
    let _inside = runtime().enter();
    channel(&address, tls, &ChannelLimits::default()).expect("a channel")
}

pub(crate) fn live(dir: &Path) -> Arc<LiveTls> {
    let material = Material::load(&dir.join("ca.pem"), &dir.join("cert.pem"), &dir.join("key.pem"));
    LiveTls::new(material.expect("an identity"))
}

/// A channel that speaks as whoever's identity lies in `dir`. It connects with the first call.
pub(crate) fn speak_as(dir: &Path, address: &str) -> Channel {
    dial(address, &live(dir).client(ExpectedServer::AnyCoordinator).expect("TLS"))
}

/// A TLS connection of an identity, below HTTP/2.
pub(crate) async fn raw_tls(dir: &Path, address: &str, alpn: &[&[u8]]) -> io::Result<TlsStream<TcpStream>> {
    let read = |file: &str| fs::read(dir.join(file)).expect("an identity");
    let mut roots = rustls::RootCertStore::empty();
    for ca in CertificateDer::pem_slice_iter(&read("ca.pem")) {
        roots.add(ca.expect("a certificate")).expect("a CA");
    }
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(&read("cert.pem")).map(|c| c.expect("a certificate")).collect();
    let key = PrivateKeyDer::from_pem_slice(&read("key.pem")).expect("a key");
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .expect("an identity");
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from("localhost").expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await
}

/// Messages as bytes, well-formed or not.
#[derive(Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, target: &mut EncodeBuf<'_>) -> Result<(), Status> {
        target.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(source.copy_to_bytes(source.remaining())))
    }
}

/// Sends one message of any bytes to any method and waits for the first word of an answer.
pub(crate) async fn call(channel: &Channel, path: &'static str, message: Bytes) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    let work = async {
        client.ready().await.map_err(|error| Status::from_error(error.into()))?;
        let path = PathAndQuery::from_static(path);
        let mut answer = client.server_streaming(Request::new(message), path, Raw).await?.into_inner();
        answer.message().await.map(|_| ())
    };
    soon(path, work).await
}

/// The server's own word about a refusal; empty when it gave none: the connection was refused.
pub(crate) fn reason(status: &Status) -> String {
    Problem::from_status(status).reason
}

/// What every refusal must be: this code, this reason, and a text that names this field or limit.
#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(
    what: &str,
    answer: Result<T, Status>,
    code: tonic::Code,
    reason: &str,
    named: &str,
) {
    let status = match answer {
        Err(status) => status,
        Ok(answer) => panic!("{what}: it was accepted: {answer:?}"),
    };
    let problem = Problem::from_status(&status);
    assert_eq!((status.code(), problem.reason.as_str()), (code, reason), "{what}: {status:?}");
    assert!(problem.what.contains(named), "{what}: {named:?} is not in {:?}", problem.what);
    assert!(!problem.what.chars().any(|c| c.is_control() || c == '\u{202e}'), "{what}: {:?}", problem.what);
}

/// Pids of the coordinators, to see that none was started again.
pub(crate) fn pids(fleet: &Fleet) -> BTreeMap<String, i32> {
    let names = fleet.coordinators().into_iter().map(|(name, _, _)| name);
    names
        .map(|name| {
            let pid = fleet.pid(quorate_tests::cluster::Daemon::Coordinator(&name)).expect("it runs");
            (name, pid.as_raw_nonzero().get())
        })
        .collect()
}
