//! The session against a small coordinator over real mutual TLS.

mod artifacts;
mod leases;
mod reach;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use futures::Stream;
use quorate_common::task::Shutdown;
use quorate_common::tls::{
    AccessInfo, AllowList, CertificateAuthority, Denied, ExpectedServer, KeyRequest, LeafSpec, LiveTls,
    Material, Store,
};
use quorate_common::wire::agent::{FromAgent, ToAgent, read_from_agent, write_to_agent};
use quorate_common::wire::time::write_timestamp;
use quorate_model::node::NodeCondition;
use quorate_model::session::{Assignment, ExecutionReport, NodeWork, Welcome};
use quorate_model::{
    ActionSpec, ClusterId, DurationMs, Epoch, ExecutionId, ExecutionState, MemberId, NodeName, OperationId,
    Principal, Serial, Timestamp,
};
use quorate_proto::agent::v1 as proto;
use quorate_proto::agent::v1::agent_service_server::{AgentService, AgentServiceServer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status, Streaming};

use super::dial::{self, Book};
use super::hub::{HelperState, Hub};
use super::outbox::Confirmed;
use super::remote::RemoteHost;
use super::stream::{self, Context};
use crate::actions::HostFacts;
use crate::config::Config;
use crate::facts::{Collector, MetricsPage};
use crate::helper::Way;
use crate::host::clock;
use crate::probes::{Prober, Scheduler};
use crate::runner::{Notice, Settings, Status as HelperStatus};

const PATIENCE: Duration = Duration::from_secs(30);

struct Anybody;

impl AllowList for Anybody {
    fn check(&self, _: &Serial, _: &Principal) -> Result<AccessInfo, Denied> {
        Ok(AccessInfo::default())
    }
}

struct Conn(TlsStream<TcpStream>);

impl Connected for Conn {
    type ConnectInfo = ();
    fn connect_info(&self) {}
}

impl AsyncRead for Conn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Conn {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// What a session's other end sees: each session with what it says, and a way to answer.
struct Seen {
    said: Streaming<proto::SessionRequest>,
    answer: mpsc::Sender<Result<proto::SessionResponse, Status>>,
}

impl Seen {
    async fn next(&mut self) -> Option<(u64, FromAgent)> {
        let message = tokio::time::timeout(PATIENCE, self.said.message()).await.expect("it says something");
        Some(read_from_agent(message.ok()??).expect("a good message"))
    }

    async fn until<T>(&mut self, mut pick: impl FnMut(u64, FromAgent) -> Option<T>) -> T {
        loop {
            let (sequence, said) = self.next().await.expect("the session goes on");
            if let FromAgent::Heartbeat(_) = said {
                self.tell(&ToAgent::HeartbeatAck { sequence, time: clock::now() }).await;
            }
            if let Some(found) = pick(sequence, said) {
                return found;
            }
        }
    }

    async fn tell(&self, said: &ToAgent) {
        self.answer.send(Ok(write_to_agent(said))).await.expect("the agent listens");
    }
}

struct Coordinator {
    ca: Arc<CertificateAuthority>,
    sessions: mpsc::Sender<Seen>,
    renewed: Arc<Mutex<u32>>,
}

type Answers = Pin<Box<dyn Stream<Item = Result<proto::SessionResponse, Status>> + Send>>;

#[tonic::async_trait]
impl AgentService for Coordinator {
    type SessionStream = Answers;

    async fn session(
        &self,
        request: Request<Streaming<proto::SessionRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let (answer, answers) = mpsc::channel(64);
        let seen = Seen { said: request.into_inner(), answer };
        self.sessions.send(seen).await.map_err(|_| Status::unavailable("closed"))?;
        Ok(Response::new(Box::pin(tokio_stream::wrappers::ReceiverStream::new(answers))))
    }

    async fn renew_certificate(
        &self,
        request: Request<proto::RenewCertificateRequest>,
    ) -> Result<Response<proto::RenewCertificateResponse>, Status> {
        let spec = LeafSpec::new(agent(), clock::now(), Duration::from_secs(3_600));
        let issued = self
            .ca
            .sign_csr(&request.into_inner().csr_der, &spec)
            .map_err(|e| Status::invalid_argument(e.to_string()))?;
        *self.renewed.lock().unwrap() += 1;
        Ok(Response::new(proto::RenewCertificateResponse {
            certificate_pem: issued.pem,
            ca_pem: self.ca.pem().to_owned(),
            expires: write_timestamp(issued.not_after),
        }))
    }

    async fn fetch_artifact(
        &self,
        request: Request<proto::FetchArtifactRequest>,
    ) -> Result<Response<proto::FetchArtifactResponse>, Status> {
        artifacts::answer(request.into_inner()).map(Response::new)
    }
}

fn agent() -> Principal {
    Principal::Agent { node: NodeName::new("node1").unwrap() }
}

fn material(
    ca: &CertificateAuthority,
    principal: Principal,
    life: Duration,
) -> (Material, KeyRequest, String) {
    let request = KeyRequest::create(ca.cluster(), &principal).unwrap();
    let issued = ca.sign_csr(request.csr_der(), &LeafSpec::new(principal, clock::now(), life)).unwrap();
    let material = Material::from_pem(ca.pem(), &issued.pem, request.key_pem()).unwrap();
    (material, request, issued.pem)
}

/// Starts a coordinator; its sessions come out of the channel.
async fn coordinator(ca: &Arc<CertificateAuthority>) -> (SocketAddr, mpsc::Receiver<Seen>, Arc<Mutex<u32>>) {
    let own = Principal::Coordinator { member: MemberId(1) };
    let live = LiveTls::new(material(ca, own, Duration::from_secs(3_600)).0);
    let acceptor = tokio_rustls::TlsAcceptor::from(live.server_config(Arc::new(Anybody)).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (connections, incoming) = mpsc::channel::<std::io::Result<Conn>>(8);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(stream).await {
                let _ = connections.send(Ok(Conn(stream))).await;
            }
        }
    });
    let (sessions, seen) = mpsc::channel(8);
    let renewed = Arc::new(Mutex::new(0));
    let service = Coordinator { ca: Arc::clone(ca), sessions, renewed: Arc::clone(&renewed) };
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(AgentServiceServer::new(service))
            .serve_with_incoming(tokio_stream::wrappers::ReceiverStream::new(incoming)),
    );
    (address, seen, renewed)
}

struct Bench {
    dir: tempfile::TempDir,
    hub: Arc<Hub>,
    confirmations: mpsc::Receiver<Confirmed>,
    context: Arc<Context>,
    shutdown: Shutdown,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.shutdown.trigger();
    }
}

fn helper_status(incarnation: &str) -> HelperState {
    HelperState::There(Box::new(HelperStatus {
        node: NodeName::new("node1").unwrap(),
        boot_id: "b".into(),
        incarnation: incarnation.into(),
        installation: "i".into(),
        highest_epoch: Epoch(3),
        unconfirmed: Vec::new(),
        generation: 0,
        journal_lost: None,
        in_hand: Vec::new(),
        waiting: 0,
        open_obligations: 0,
    }))
}

/// An agent without its helper's process: the test plays the helper.
fn bench(ca: &CertificateAuthority, addresses: &[SocketAddr], life: Duration) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().display();
    let list: Vec<String> = addresses.iter().map(|a| format!("\"{a}\"")).collect();
    let text = format!(
        "node = 'node1'\ndata_dir = '{root}'\nhelper_socket = '{root}/s'\ncoordinators = [{}]",
        list.join(",")
    );
    let config = Config::parse(&text).unwrap();
    let (_, request, pem) = material(ca, agent(), life);
    let stored = Store::new(config.tls_dir()).save(ca.pem(), &pem, request.key_pem()).unwrap();
    let live = LiveTls::new(stored);
    let (hub, confirmations) = Hub::new();
    hub.helper.send_replace(helper_status("i.1"));
    let host = RemoteHost::new(Arc::clone(&hub), Way::socket(config.helper_socket.clone())).unwrap();
    let context = Arc::new(Context {
        hub: Arc::clone(&hub),
        calling: stream::over_tls(live.client(ExpectedServer::AnyCoordinator).unwrap()),
        facts: Arc::new(HostFacts),
        live,
        book: Mutex::new(Book::open(dir.path(), config.coordinators.clone())),
        settings: Settings::new(config),
        scheduler: Arc::new(Scheduler::new(Arc::new(Prober::new(Arc::new(host))))),
        page: Arc::new(MetricsPage::new(Collector::default())),
    });
    let shutdown = Shutdown::new();
    tokio::spawn(dial::run(Arc::clone(&context), shutdown.clone()));
    Bench { dir, hub, confirmations, context, shutdown }
}

fn authority() -> Arc<CertificateAuthority> {
    quorate_common::tls::install();
    let cluster = ClusterId::new("c-1").unwrap();
    Arc::new(CertificateAuthority::create(&cluster, "test", clock::now()).unwrap())
}

async fn greet(sessions: &mut mpsc::Receiver<Seen>) -> Seen {
    let mut seen = tokio::time::timeout(PATIENCE, sessions.recv()).await.expect("it calls").unwrap();
    let (sequence, first) = seen.next().await.unwrap();
    let FromAgent::Hello(hello) = first else { panic!("the first word was {first:?}") };
    assert_eq!((sequence, hello.node.as_str(), hello.highest_epoch), (1, "node1", Epoch(3)));
    assert_eq!(hello.capabilities.len(), quorate_model::ActionKind::ALL.len());
    seen.tell(&ToAgent::Welcome(Welcome {
        coordinator: "coord1".into(),
        heartbeat_interval: DurationMs(100),
        silence_limit: DurationMs(20_000),
        metrics_interval: DurationMs(15_000),
        coordinators: Vec::new(),
        cluster: ClusterId::new("c-1").unwrap(),
    }))
    .await;
    seen
}

fn report() -> ExecutionReport {
    ExecutionReport {
        execution: ExecutionId::new("x-1").unwrap(),
        state: ExecutionState::Succeeded,
        reason: None,
        outcome: None,
        at: Timestamp(1_763_700_000_000),
        epoch: Epoch(4),
    }
}

async fn reported(seen: &mut Seen) -> u64 {
    seen.until(|sequence, said| matches!(said, FromAgent::Execution(r) if *r == report()).then_some(sequence))
        .await
}

#[tokio::test]
async fn a_report_is_told_to_one_after_another_until_it_is_acknowledged() {
    let ca = authority();
    let (one, mut first, _) = coordinator(&ca).await;
    let mut bench = bench(&ca, &[one], Duration::from_secs(3_600));
    let mut seen = greet(&mut first).await;
    bench.hub.noticed(Notice::Execution(Box::new(report())));
    reported(&mut seen).await;
    // Not acknowledged: told again in the same session, and in the next.
    reported(&mut seen).await;
    drop(seen);
    let mut seen = greet(&mut first).await;
    let sequence = reported(&mut seen).await;
    seen.tell(&ToAgent::ReportAck { sequence, subject: "x-1".into() }).await;
    let confirmed = tokio::time::timeout(PATIENCE, bench.confirmations.recv()).await.unwrap();
    assert_eq!(confirmed, Some(Confirmed::Execution(report().execution)));
    assert!(bench.hub.outbox(|outbox| outbox.due(DurationMs(u64::MAX))).is_empty());
}

#[tokio::test]
async fn work_goes_to_the_helper_with_the_grant_on_our_own_clock() {
    let ca = authority();
    let (one, mut sessions, _) = coordinator(&ca).await;
    let bench = bench(&ca, &[one], Duration::from_secs(3_600));
    let mut seen = greet(&mut sessions).await;
    // One exchange, so that the way is known.
    seen.until(|_, said| matches!(said, FromAgent::Heartbeat(b) if b.round_trip_us > 0).then_some(())).await;
    let before = super::now();
    let assignment = Assignment {
        execution: ExecutionId::new("x-1").unwrap(),
        operation: OperationId::new("r-1").unwrap(),
        epoch: Epoch(4),
        grant_remaining: DurationMs(5_000),
        deadline: DurationMs(60_000),
        action: ActionSpec::HostFacts,
        disruptive: true,
    };
    let work = NodeWork { generation: 7, assignments: vec![assignment.clone()], ..NodeWork::default() };
    seen.tell(&ToAgent::Work(work)).await;
    tokio::time::timeout(PATIENCE, bench.hub.work.notified()).await.unwrap();
    let incoming = bench.hub.incoming().unwrap();
    let (got, grant) = &incoming.assignments[0];
    assert_eq!((got, incoming.generation), (&assignment, 7));
    let grant = grant.unwrap();
    let after = super::now();
    assert!(grant < after.plus(DurationMs(5_000)), "the way has used some of it");
    assert!(grant.0 > before.0, "{grant:?}");
}

#[tokio::test]
async fn a_helper_that_is_away_is_a_condition_and_a_new_one_a_new_hello() {
    let ca = authority();
    let (one, mut sessions, _) = coordinator(&ca).await;
    let bench = bench(&ca, &[one], Duration::from_secs(3_600));
    let mut seen = greet(&mut sessions).await;
    bench.hub.helper.send_replace(HelperState::Away("gone".into()));
    seen.until(|_, said| match said {
        FromAgent::Heartbeat(b) => b.conditions.contains_key(&NodeCondition::HelperUnreachable).then_some(()),
        _ => None,
    })
    .await;
    bench.hub.helper.send_replace(helper_status("i.2"));
    greet(&mut sessions).await;
}

#[tokio::test]
async fn a_renewal_has_a_new_key_and_leaves_the_session_alone() {
    let ca = authority();
    let (one, mut sessions, renewed) = coordinator(&ca).await;
    // Two thirds of its life are over at once, because certificates are dated back.
    let bench = bench(&ca, &[one], Duration::from_secs(60));
    let mut seen = greet(&mut sessions).await;
    let old = bench.context.live.current().identity().clone();
    let store = Store::new(bench.dir.path().join("tls"));
    let key = std::fs::read(bench.dir.path().join("tls/key.pem")).unwrap();
    tokio::spawn(super::renew::run(Arc::clone(&bench.context), store, bench.shutdown.clone()));
    seen.until(|_, _| (bench.context.live.current().identity().serial != old.serial).then_some(())).await;
    assert_eq!(*renewed.lock().unwrap(), 1);
    assert_ne!(
        std::fs::read(bench.dir.path().join("tls/key.pem")).unwrap(),
        key,
        "each certificate has its own key"
    );
    // The same session still beats, and nobody called again.
    for _ in 0..5 {
        seen.until(|_, said| matches!(said, FromAgent::Heartbeat(_)).then_some(())).await;
    }
    assert!(sessions.try_recv().is_err());
}

#[tokio::test]
async fn a_coordinator_that_is_not_there_is_passed_over() {
    let ca = authority();
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (one, mut sessions, _) = coordinator(&ca).await;
    let stranger = authority();
    let (other, mut strangers, _) = coordinator(&stranger).await;
    let _bench = bench(&ca, &[unused, other, one], Duration::from_secs(3_600));
    greet(&mut sessions).await;
    assert!(strangers.try_recv().is_err(), "a coordinator of another CA hears nothing");
}
