//! `AgentService`: the stream itself.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use quorate_common::task::Shutdown;
use quorate_common::telemetry::sanitize;
use quorate_common::wire::agent::{FromAgent, ToAgent, read_from_agent, write_to_agent};
use quorate_model::node::NodeCondition;
use quorate_model::session::{Hello, NodeWork, Welcome};
use quorate_model::{DurationMs, ExecutionId, LeaseRenewal, NodeName, Principal, Reason};
use quorate_proto::agent::v1 as pb;
use quorate_proto::agent::v1::agent_service_server::AgentService;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};

use super::leases;
use super::outbound::work;
use super::registry::{Place, Registry};
use super::reports::{self, Item};
use crate::api::Api;
use crate::api::backend::Backend;
use crate::api::caller::Caller;
use crate::api::status::problem;
use crate::leases::Renewals;
use crate::observe::Table;

/// First message of a session.
const HELLO_LIMIT: Duration = Duration::from_secs(5);
/// Silence that ends a session (reliability.md §5.3).
const SILENCE_LIMIT: DurationMs = DurationMs::from_secs(45);
/// Time between pushes of metrics (procedures C1).
const METRICS_INTERVAL: DurationMs = DurationMs::from_secs(15);
/// Messages waiting to be sent; work is level-triggered, so few are ever needed.
const OUTBOUND: usize = 64;
/// Largest message of a session in bytes (reliability.md §5.3).
const MESSAGE_MAX_BYTES: usize = 256 * 1024;

/// What configuration gives.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// Name of this member.
    pub coordinator: String,
    /// Time between heartbeats.
    pub heartbeat: Duration,
}

/// The sessions of this member.
#[derive(Clone)]
pub struct AgentSessions {
    backend: Arc<dyn Backend>,
    api: Api,
    table: Arc<Table>,
    registry: Registry,
    renewals: Arc<Renewals>,
    options: SessionOptions,
    shutdown: Shutdown,
}

/// One session while it lives.
struct Session {
    sessions: AgentSessions,
    node: NodeName,
    out: mpsc::Sender<ToAgent>,
    reports: mpsc::Sender<Item>,
    leases: mpsc::Sender<LeaseRenewal>,
    unconfirmed: Vec<ExecutionId>,
    sent: Option<NodeWork>,
    sequence: u64,
}

type Outbound = Pin<Box<dyn Stream<Item = Result<pb::SessionResponse, Status>> + Send>>;

impl AgentSessions {
    /// Puts the service together.
    #[must_use]
    pub fn new(
        backend: Arc<dyn Backend>,
        api: Api,
        table: Arc<Table>,
        registry: Registry,
        renewals: Arc<Renewals>,
        options: SessionOptions,
        shutdown: Shutdown,
    ) -> Self {
        Self { backend, api, table, registry, renewals, options, shutdown }
    }

    /// The tonic service with its limits.
    #[must_use]
    pub fn into_service(self) -> pb::agent_service_server::AgentServiceServer<Self> {
        pb::agent_service_server::AgentServiceServer::new(self)
            .max_decoding_message_size(MESSAGE_MAX_BYTES)
            .max_encoding_message_size(MESSAGE_MAX_BYTES)
    }

    fn welcome(&self) -> Result<Welcome, Status> {
        let mut welcome = None;
        self.backend.read(&mut |state| {
            welcome = state.cluster.id.clone().map(|cluster| Welcome {
                coordinator: self.options.coordinator.clone(),
                heartbeat_interval: ms(self.options.heartbeat),
                silence_limit: SILENCE_LIMIT,
                metrics_interval: METRICS_INTERVAL,
                coordinators: state.members.present().map(|m| m.grpc.clone()).collect(),
                cluster,
            });
        });
        welcome.ok_or_else(|| Status::unavailable("this coordinator has not caught up yet"))
    }

    async fn begin(
        self,
        node: NodeName,
        mut inbound: Streaming<pb::SessionRequest>,
    ) -> Result<Response<Outbound>, Status> {
        let first = tokio::time::timeout(HELLO_LIMIT, inbound.message())
            .await
            .map_err(|_| refused(Reason::DeadlineExceeded, "no Hello within 5 s"))??
            .ok_or_else(|| {
                refused(Reason::InvalidArgument, "bad_field:body: the session begins with Hello")
            })?;
        let (sequence, said) =
            read_from_agent(first).map_err(|invalid| refused(invalid.reason, invalid.to_string()))?;
        let FromAgent::Hello(hello) = said else {
            return Err(refused(Reason::InvalidArgument, "bad_field:body: the session begins with Hello"));
        };
        if hello.node != node {
            return Err(refused(Reason::NotAllowed, "an agent speaks for its own node only"));
        }
        let welcome = self.welcome()?;
        let (out, receiver) = mpsc::channel(OUTBOUND);
        let (reports, items) = mpsc::channel(reports::QUEUE);
        tokio::spawn(reports::run(self.backend.clone(), node.clone(), items, out.clone()));
        let (leases, asked) = mpsc::channel(leases::QUEUE);
        let desk = leases::Desk { backend: self.backend.clone(), renewals: self.renewals.clone() };
        tokio::spawn(desk.run(node.clone(), asked, out.clone()));
        // The queue is new and empty: this cannot fail.
        let _ = out.try_send(ToAgent::Welcome(welcome));
        let place = self.registry.enter(&node, &hello.installation, &self.shutdown);
        self.opened(&node, &hello, &place);
        let Hello { unconfirmed, .. } = *hello;
        let session =
            Session { sessions: self, node, out, reports, leases, unconfirmed, sent: None, sequence };
        tokio::spawn(session.run(inbound, place));
        let outbound = ReceiverStream::new(receiver).map(|said| Ok(write_to_agent(&said)));
        Ok(Response::new(Box::pin(outbound)))
    }

    fn opened(&self, node: &NodeName, hello: &Hello, place: &Place) {
        let now = self.backend.now();
        self.table.opened(node, &self.options.coordinator, hello, now);
        if let Some(other) = &place.clone_of {
            tracing::error!(%node, installation = %hello.installation, %other, "two hosts use one identity");
            let line =
                "another installation with the same certificate had a session; one of the two is a clone";
            self.table.found(node, NodeCondition::DuplicateIdentity, line, now);
        }
        tracing::info!(%node, version = %hello.agent_version, "session opened");
    }
}

impl Session {
    /// Runs until the stream, the place or the process ends.
    async fn run(mut self, mut inbound: Streaming<pb::SessionRequest>, place: Place) {
        let mut revisions = self.sessions.backend.revisions();
        let silence = Duration::from_millis(SILENCE_LIMIT.0);
        let mut heard = Instant::now();
        let why = loop {
            if self.push().await.is_err() {
                break "the agent does not read".to_owned();
            }
            tokio::select! {
                () = place.close.triggered() => {
                    let reason = if place.is_current() { "STOPPING" } else { "REPLACED" };
                    self.close(reason, "this session is over; connect again").await;
                    break reason.to_owned();
                }
                () = tokio::time::sleep_until(heard + silence) => break "silence".to_owned(),
                message = inbound.message() => match message {
                    Ok(Some(message)) => {
                        heard = Instant::now();
                        if let Err(refused) = self.take(message) {
                            self.close("INVALID_ARGUMENT", &refused).await;
                            break refused;
                        }
                    }
                    Ok(None) => break "the agent ended it".to_owned(),
                    Err(status) => {
                        let reason = match status.code() {
                            Code::OutOfRange | Code::ResourceExhausted => Reason::MessageTooLarge,
                            _ => Reason::MalformedMessage,
                        };
                        // A broken connection ends here too; then nobody reads it.
                        self.close(reason.as_str(), "not a message of a session").await;
                        break sanitize(status.message()).to_string();
                    }
                },
                changed = revisions.changed() => if changed.is_err() {
                    break "the coordinator stops".to_owned();
                },
            }
        };
        if place.is_current() {
            self.sessions.table.closed(&self.node);
        }
        tracing::info!(node = %self.node, %why, "session closed");
    }

    async fn close(&self, reason: &str, message: &str) {
        let close = ToAgent::Close {
            reason: reason.to_owned(),
            message: message.to_owned(),
            retry_after: DurationMs::ZERO,
        };
        // Best effort: an agent that does not read learns it from the end of the stream.
        let _ = self.out.try_send(close);
    }

    /// Sends the node's work when it is not what was sent last.
    async fn push(&mut self) -> Result<(), ()> {
        let now = self.sessions.backend.now();
        let mut wanted = None;
        let (node, unconfirmed) = (&self.node, &self.unconfirmed);
        self.sessions.backend.read(&mut |state| wanted = Some(work(state, node, unconfirmed, now)));
        let Some(wanted) = wanted else { return Ok(()) };
        let same = self
            .sent
            .as_ref()
            .is_some_and(|sent| sent.generation == wanted.generation && sent.confirmed == wanted.confirmed);
        if same {
            return Ok(());
        }
        self.sent = Some(wanted.clone());
        let send = self.out.send(ToAgent::Work(wanted));
        // Work fits the queue many times over: an agent that leaves no room for this long is stuck.
        match tokio::time::timeout(Duration::from_millis(SILENCE_LIMIT.0), send).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(()),
        }
    }

    /// Takes one message.
    fn take(&mut self, message: pb::SessionRequest) -> Result<(), String> {
        let (sequence, said) = read_from_agent(message).map_err(|e| e.to_string())?;
        if sequence <= self.sequence {
            return Err(format!("bad_field:sequence: {sequence} after {}", self.sequence));
        }
        self.sequence = sequence;
        let (table, node, now) = (&self.sessions.table, &self.node, self.sessions.backend.now());
        table.heard(node, now);
        match said {
            FromAgent::Hello(_) => return Err("a second Hello in one session".to_owned()),
            FromAgent::Heartbeat(beat) => {
                table.heartbeat(node, beat, now);
                self.queue(ToAgent::HeartbeatAck { sequence, time: now })?;
            }
            FromAgent::Facts(facts) => table.facts(node, facts),
            FromAgent::Metrics(metrics) => {
                table.metrics(node, metrics.into_iter().map(|m| (m.name, m.labels, m.value)).collect());
            }
            FromAgent::Readings(readings) => table.readings(node, readings, now),
            FromAgent::Instances(reports) => table.instances(node, reports, now),
            FromAgent::Execution(report) => self.durable(Item::Execution(sequence, report))?,
            FromAgent::Obligation(report) => self.durable(Item::Obligation(sequence, report))?,
            // One too many is not answered: its host asks again.
            FromAgent::Lease(renewal) => drop(self.leases.try_send(renewal)),
        }
        Ok(())
    }

    fn queue(&self, said: ToAgent) -> Result<(), String> {
        self.out.try_send(said).map_err(|_| "the agent does not read what it is sent".to_owned())
    }

    fn durable(&self, item: Item) -> Result<(), String> {
        self.reports.try_send(item).map_err(|_| "RESOURCE_EXHAUSTED: too many reports at once".to_owned())
    }
}

#[tonic::async_trait]
impl AgentService for AgentSessions {
    type SessionStream = Outbound;

    async fn session(
        &self,
        request: Request<Streaming<pb::SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (node, _) = agent(&request)?;
        self.clone().begin(node, request.into_inner()).await
    }

    async fn renew_certificate(
        &self,
        request: Request<pb::RenewCertificateRequest>,
    ) -> Result<Response<pb::RenewCertificateResponse>, Status> {
        let (node, caller) = agent(&request)?;
        let pb::RenewCertificateRequest { csr_der } = request.into_inner();
        match self.api.renew_agent(&node, &csr_der, &caller.client_ip).await {
            Ok(renewed) => Ok(Response::new(renewed)),
            Err(failure) => Err(self.api.refuse(&failure, caller.request.get())),
        }
    }

    async fn fetch_artifact(
        &self,
        request: Request<pb::FetchArtifactRequest>,
    ) -> Result<Response<pb::FetchArtifactResponse>, Status> {
        let (_, caller) = agent(&request)?;
        match self.api.fetch_for_agent(request.into_inner()).await {
            Ok(fetched) => Ok(Response::new(fetched)),
            Err(failure) => Err(self.api.refuse(&failure, caller.request.get())),
        }
    }
}

/// The agent that calls, as the gate proved it.
fn agent<T>(request: &Request<T>) -> Result<(NodeName, Caller), Status> {
    let caller = request.extensions().get::<Caller>().cloned();
    match caller.map(|c| (c.principal.clone(), c)) {
        Some((Principal::Agent { node }, caller)) => Ok((node, caller)),
        Some(_) | None => Err(refused(Reason::NotAllowed, "agents only")),
    }
}

fn refused(reason: Reason, what: impl Into<String>) -> Status {
    problem(reason, what).to_status()
}

fn ms(span: Duration) -> DurationMs {
    DurationMs(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}
