//! One session with one coordinator.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quorate_common::task::{Entropy, Shutdown};
use quorate_common::tls::{Address, ChannelLimits, ClientTls, LiveTls, channel};
use quorate_common::wire::agent::{FromAgent, ToAgent, read_to_agent, write_from_agent};
use quorate_model::DurationMs;
use quorate_model::session::Welcome;
use quorate_proto::agent::v1::agent_service_client::AgentServiceClient;
use quorate_proto::agent::v1::{SessionRequest, SessionResponse};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use super::dial::Book;
use super::hub::{HelperState, Hub};
use super::tell::Teller;
use super::words::status_text;
use crate::actions::FactsSource;
use crate::facts::MetricsPage;
use crate::probes::Scheduler;
use crate::runner::Settings;

/// Largest message in either direction (reliability.md 5.3).
pub(super) const MESSAGE_MAX_BYTES: usize = 256 * 1024;
/// Messages on their way out. They are made one at a time; more than this means that the coordinator does not read.
const OUTGOING_MAX: usize = 64;
/// How long the coordinator may take to answer Hello.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);
/// How long readings are gathered before they are sent.
const GATHER: Duration = Duration::from_millis(250);
/// Time between looks at what was not acknowledged.
const RESEND_LOOK: Duration = Duration::from_secs(1);
/// Time between looks at the facts.
const FACTS_LOOK: Duration = Duration::from_secs(60);
/// Bounds of what a coordinator may ask for, so that a mistake there is no load here.
const INTERVAL_MIN: DurationMs = DurationMs(50);
const INTERVAL_MAX: DurationMs = DurationMs(60_000);

/// Makes channels to coordinators: over mutual TLS, or over a simulated network.
pub type Calling = Arc<dyn Fn(&Address, &ChannelLimits) -> Result<Channel, String> + Send + Sync>;

/// Calls with the identity that is live at that moment.
pub(super) fn over_tls(tls: ClientTls) -> Calling {
    Arc::new(move |address, limits| {
        channel(address, &tls, limits).map_err(|error| crate::helper::error_text(&error))
    })
}

/// What sessions need.
pub(super) struct Context {
    pub(super) hub: Arc<Hub>,
    pub(super) settings: Settings,
    pub(super) live: Arc<LiveTls>,
    /// How coordinators are called.
    pub(super) calling: Calling,
    /// Facts about the host.
    pub(super) facts: Arc<dyn FactsSource>,
    pub(super) book: Mutex<Book>,
    pub(super) scheduler: Arc<Scheduler>,
    pub(super) page: Arc<MetricsPage>,
}

impl Context {
    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a session ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// For the log.
    pub(super) reason: String,
    /// The coordinator had welcomed us.
    pub(super) welcomed: bool,
    /// Call the same one at once: Hello has changed.
    pub(super) same_again: bool,
    /// Call another one at once: something leads here whose lease this one does not renew.
    pub(super) another_at_once: bool,
    /// The coordinator said when to come back.
    pub(super) retry_after: Option<Duration>,
}

impl Ended {
    fn new(reason: impl Into<String>, welcomed: bool) -> Self {
        let (same_again, another_at_once) = (false, false);
        Self { reason: reason.into(), welcomed, same_again, another_at_once, retry_after: None }
    }
}

/// Calls a coordinator and talks until one side ends it.
pub(super) async fn session(context: &Arc<Context>, address: &Address, shutdown: &Shutdown) -> Ended {
    let hurry = context.hub.renewals(|renewals| renewals.hurry());
    let work = async {
        let connected = match hurry {
            // A coordinator that can not be reached must not cost what leads here its lease.
            Some(limit) => {
                tokio::time::timeout(limit, connect(context, address)).await.unwrap_or_else(|_| {
                    Err(format!("no Welcome within {limit:?}, and a lease is to be renewed"))
                })
            }
            None => connect(context, address).await,
        };
        match connected {
            Ok((talk, inbound)) => talk.run(inbound).await,
            Err(reason) => Ended { another_at_once: hurry.is_some(), ..Ended::new(reason, false) },
        }
    };
    // Boxed: the future of a session is large, and there is one.
    shutdown.run_until(Box::pin(work)).await.unwrap_or_else(|| Ended::new("stopping", true))
}

async fn connect(
    context: &Arc<Context>,
    address: &Address,
) -> Result<(Talk, Streaming<SessionResponse>), String> {
    let channel = (context.calling)(address, &ChannelLimits::default())?;
    let mut client = AgentServiceClient::new(channel)
        .max_decoding_message_size(MESSAGE_MAX_BYTES)
        .max_encoding_message_size(MESSAGE_MAX_BYTES);
    let (sender, receiver) = mpsc::channel(OUTGOING_MAX);
    let teller = Teller::new(Arc::clone(context));
    let (hello, greeted) = teller.hello();
    let (context, entropy) = (Arc::clone(context), Entropy::from_os());
    let mut talk = Talk { context: Arc::clone(&context), entropy, teller, sender, sequence: 0, greeted };
    talk.send(&hello).await?;
    let greeting = async {
        let response = client.session(ReceiverStream::new(receiver)).await;
        let mut inbound = response.map_err(|status| status_text(&status))?.into_inner();
        let first = inbound.message().await.map_err(|status| status_text(&status))?;
        let first = first.ok_or("the coordinator ended the session at once")?;
        match read_to_agent(first).map_err(|e| e.to_string())? {
            ToAgent::Welcome(welcome) => Ok((welcome, inbound)),
            ToAgent::Close { reason, message, .. } => Err(format!("{reason}: {message}")),
            ToAgent::HeartbeatAck { .. }
            | ToAgent::Work(_)
            | ToAgent::ReportAck { .. }
            | ToAgent::Lease(_) => Err("the first word was no Welcome".to_owned()),
        }
    };
    let greeted = tokio::time::timeout(WELCOME_TIMEOUT, greeting).await;
    let (welcome, inbound) = greeted.map_err(|_| format!("no Welcome within {WELCOME_TIMEOUT:?}"))??;
    if welcome.cluster != context.live.current().identity().cluster {
        return Err("it belongs to another cluster".to_owned());
    }
    tracing::info!(coordinator = %welcome.coordinator, %address, "session established");
    context.book().learn(&welcome.coordinators);
    talk.teller.welcomed(welcome);
    Ok((talk, inbound))
}

fn bounded(span: DurationMs) -> Duration {
    Duration::from_millis(span.clamp(INTERVAL_MIN, INTERVAL_MAX).0)
}

fn every(span: Duration) -> tokio::time::Interval {
    let mut interval = tokio::time::interval(span);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    interval
}

/// Until there may be something to say of a lease.
async fn until_lease(hub: &Hub) {
    let wait = hub.renewals(|renewals| renewals.next()).map(|at| at.minus(super::now()));
    let due = async {
        match wait {
            Some(wait) => tokio::time::sleep(Duration::from_millis(wait.0)).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = hub.leases.notified() => {}
        () = due => {}
    }
}

struct Talk {
    context: Arc<Context>,
    /// Numbers for renewals.
    entropy: Entropy,
    teller: Teller,
    sender: mpsc::Sender<SessionRequest>,
    sequence: u64,
    /// Incarnation of the helper that Hello spoke of; empty when there was none.
    greeted: String,
}

impl Talk {
    /// Sends a message. A queue that stays full means that the coordinator does not read.
    async fn send(&mut self, said: &FromAgent) -> Result<u64, String> {
        self.sequence += 1;
        let message = write_from_agent(self.sequence, said);
        let sent = tokio::time::timeout(WELCOME_TIMEOUT, self.sender.send(message)).await;
        match sent {
            Ok(Ok(())) => Ok(self.sequence),
            Ok(Err(_)) => Err("the stream ended".to_owned()),
            Err(_) => Err("the coordinator does not read".to_owned()),
        }
    }

    async fn run(mut self, inbound: Streaming<SessionResponse>) -> Ended {
        match self.talk(inbound).await {
            Ok(ended) => ended,
            Err(reason) => Ended::new(reason, true),
        }
    }

    async fn talk(&mut self, mut inbound: Streaming<SessionResponse>) -> Result<Ended, String> {
        let hub = Arc::clone(&self.context.hub);
        hub.session_began();
        let Welcome { heartbeat_interval, silence_limit, metrics_interval, .. } = self.teller.terms().clone();
        let silence = bounded(silence_limit).max(bounded(heartbeat_interval) * 2);
        let mut beat = every(bounded(heartbeat_interval));
        let mut metrics = every(bounded(metrics_interval));
        let (mut resend, mut facts) = (every(RESEND_LOOK), every(FACTS_LOOK));
        let mut readings = self.context.scheduler.changes();
        readings.mark_changed();
        let mut gathered: Option<Instant> = None;
        let mut helper = hub.helper.subscribe();
        let mut heard = Instant::now();
        loop {
            tokio::select! {
                biased;
                message = inbound.message() => {
                    let message = message.map_err(|status| status_text(&status))?;
                    let Some(message) = message else { return Ok(Ended::new("the coordinator ended it", true)) };
                    heard = Instant::now();
                    if let Some(ended) = self.heard(message).await? {
                        return Ok(ended);
                    }
                }
                () = tokio::time::sleep_until(heard + silence) => {
                    return Ok(Ended::new(format!("nothing heard for {silence:?}"), true));
                }
                _ = beat.tick() => {
                    let (said, mark) = self.teller.heartbeat();
                    let sequence = self.send(&said).await?;
                    self.teller.beat_sent(sequence, mark);
                    self.instances().await?;
                }
                () = hub.instances.notified() => {
                    self.instances().await?;
                    // A unit that came or went changes what its metrics say.
                    metrics.reset_immediately();
                }
                () = until_lease(&hub) => {
                    if let Some(ended) = self.leases().await? {
                        return Ok(ended);
                    }
                }
                () = hub.reports.notified() => self.reports().await?,
                _ = resend.tick() => self.reports().await?,
                Ok(()) = readings.changed(), if gathered.is_none() => gathered = Some(Instant::now() + GATHER),
                () = tokio::time::sleep_until(gathered.unwrap_or_else(Instant::now)), if gathered.is_some() => {
                    gathered = None;
                    if let Some(said) = self.teller.readings() {
                        self.send(&said).await?;
                    }
                }
                _ = metrics.tick() => {
                    for said in self.teller.metrics() {
                        self.send(&said).await?;
                    }
                }
                _ = facts.tick() => {
                    if let Some(said) = self.teller.facts().await {
                        self.send(&said).await?;
                    }
                }
                Ok(()) = helper.changed() => {
                    if let Some(ended) = self.helper_changed(&helper.borrow_and_update()) {
                        return Ok(ended);
                    }
                }
            }
        }
    }

    /// A helper that was started anew has another Hello.
    fn helper_changed(&self, state: &HelperState) -> Option<Ended> {
        let now = state.status().map(|s| s.incarnation.as_str());
        now.filter(|incarnation| *incarnation != self.greeted).map(|_| {
            let mut ended = Ended::new("the helper was restarted", true);
            ended.same_again = true;
            ended
        })
    }

    async fn heard(&mut self, message: SessionResponse) -> Result<Option<Ended>, String> {
        match read_to_agent(message).map_err(|invalid| invalid.to_string())? {
            ToAgent::Welcome(_) => return Err("a second Welcome".to_owned()),
            ToAgent::HeartbeatAck { sequence, time } => self.teller.beat_answered(sequence, time),
            ToAgent::Work(work) => {
                self.teller.take_work(work);
                // Hello did not know it yet; the next heartbeat tells the new generation once the helper has it.
            }
            ToAgent::ReportAck { sequence, subject } => {
                let hub = &self.context.hub;
                if let Some(confirmed) = hub.outbox(|outbox| outbox.acknowledged(&subject, sequence)) {
                    hub.confirm(confirmed);
                }
            }
            ToAgent::Lease(answer) => {
                let hub = &self.context.hub;
                if hub.renewals(|renewals| renewals.answered(&answer, super::now())) {
                    hub.orders.notify_one();
                }
            }
            ToAgent::Close { reason, message, retry_after } => {
                let mut ended = Ended::new(format!("{reason}: {message}"), true);
                ended.retry_after = Some(Duration::from_millis(retry_after.0));
                return Ok(Some(ended));
            }
        }
        Ok(None)
    }

    /// Renews what is due; ends when this coordinator does not answer for what leads here.
    async fn leases(&mut self) -> Result<Option<Ended>, String> {
        let hub = Arc::clone(&self.context.hub);
        let now = super::now();
        if let Some(group) = hub.renewals(|renewals| renewals.overdue(now).cloned()) {
            let ended = Ended::new(format!("it does not renew the lease of {group}"), true);
            return Ok(Some(Ended { another_at_once: true, ..ended }));
        }
        // The time counts from before it is queued.
        let entropy = &mut self.entropy;
        for renewal in hub.renewals(|renewals| renewals.due(now, || entropy.next_u64())) {
            self.send(&FromAgent::Lease(renewal)).await?;
        }
        Ok(None)
    }

    async fn instances(&mut self) -> Result<(), String> {
        if let Some(said) = self.teller.instances() {
            self.send(&said).await?;
        }
        Ok(())
    }

    /// Sends every report that waits for its first or a better answer.
    async fn reports(&mut self) -> Result<(), String> {
        let now = super::now();
        for (subject, report) in self.context.hub.outbox(|outbox| outbox.due(now)) {
            let sequence = self.send(&report.body()).await?;
            self.context.hub.outbox(|outbox| outbox.sent(&subject, &report, sequence, now));
        }
        Ok(())
    }
}
