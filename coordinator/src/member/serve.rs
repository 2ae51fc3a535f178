//! A member at work: every part started here, in order, and stopped in the reverse one.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quorate_common::task::{BoxError, Hangups, Shutdown, TaskSet, stop_on_signals};
use quorate_common::tls::{CertificateAuthority, LiveTls, Store, TlsError};
use quorate_core::command::AuditCommand;
use quorate_core::{Command, Entry, State};
use quorate_model::{DurationMs, MemberId, Principal};
use tokio::net::TcpListener;

use super::admit::Admit;
use super::allow::Allow;
use super::backend::MemberBackend;
use super::dial::Dialer;
use super::forward::Forward;
use super::renew::Renewal;
use super::{now, store_dirs, store_options, tls_dir};
use crate::api::backend::{Backend, Signer};
use crate::api::caller::Connected;
use crate::api::gate::{Gate, Identify};
use crate::api::ledger::DRAIN_INTERVAL;
use crate::api::signer::CaSigner;
use crate::api::{self, Api, ApiOptions};
use crate::config::Config;
use crate::leader::{Leader, Limits};
use crate::listen::{GrpcListener, GrpcParts, HttpListener, PeerIdentity, Registry as Connections};
use crate::observe::Table;
use crate::raft::{GrpcTransport, PeerServer, RaftNode, StartError};
use crate::sessions::{AgentSessions, Registry as Sessions, SessionOptions};
use crate::store::Identity;

/// Time for everything to stop.
const GRACE: Duration = Duration::from_secs(10);
/// Time between two reports of a follower's sessions to the leader.
const REPORT: Duration = Duration::from_millis(200);
/// Time between two looks for revoked identities among live connections (I-26 asks for 5 s).
const REVOKE: Duration = Duration::from_millis(250);

/// Why a member does not serve, or no longer does.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// It has no identity.
    #[error("this member has no identity in {0}: run `quorate-coordinator init` or `join` first")]
    NotBorn(String),
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Raft or its store.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A listener.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A part ended.
    #[error("{0}")]
    Ended(String),
}

impl ServeError {
    /// Exit code of the process: 74 for the store, 2 for what an operator must mend first, 1 otherwise.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Start(StartError::Store(refused)) => refused.exit_code(),
            Self::NotBorn(_) => 2,
            Self::Tls(_) | Self::Start(_) | Self::Listen { .. } | Self::Ended(_) => 1,
        }
    }
}

/// The parts that outlive the set-up.
struct Parts {
    node: RaftNode<State>,
    backend: Arc<MemberBackend>,
    table: Arc<Table>,
    tls: Arc<LiveTls>,
    store: Store,
    allow: Arc<Allow>,
    connections: Connections,
    sessions: Sessions,
    dialer: Arc<Dialer>,
    signer: Arc<dyn Signer>,
    api: Api,
}

/// Runs this member until a signal or a failure.
///
/// # Errors
/// [`ServeError`] with the exit code.
pub async fn serve(config: Config) -> Result<(), ServeError> {
    let shutdown = Shutdown::new();
    let parts = start(&config).await?;
    let grpc = bind(config.grpc).await?;
    let http = bind(config.http).await?;
    let mut tasks = TaskSet::new(shutdown.clone());
    listeners(&config, &parts, grpc, http, &mut tasks)?;
    background(&config, &parts, &mut tasks);
    let signals = stop_on_signals(shutdown.clone()).map_err(|e| ServeError::Ended(e.to_string()))?;
    // Under systemd, readiness means: the listeners are open. Quorum is /readyz's matter.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    tracing::info!(member = %config.name, id = parts.node.id(), grpc = %config.grpc, http = %config.http, "serving");
    let failure = tokio::select! {
        end = tasks.supervise() => end.map(|end| format!("{} ended: {:?}", end.name, end.exit)),
        why = parts.node.failed() => Some(format!("Raft stopped: {why}")),
    };
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    tasks.stop(GRACE).await;
    parts.node.shutdown().await;
    signals.abort();
    failure.map_or(Ok(()), |why| Err(ServeError::Ended(why)))
}

async fn bind(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address, source })
}

async fn start(config: &Config) -> Result<Parts, ServeError> {
    let store = Store::new(tls_dir(config));
    if !store.exists() {
        return Err(ServeError::NotBorn(config.data_dir.display().to_string()));
    }
    let tls = LiveTls::new(store.load()?);
    let authority = CertificateAuthority::load(&tls_dir(config))?;
    let own = tls.current().identity().clone();
    let Principal::Coordinator { member } = own.principal else {
        return Err(ServeError::NotBorn(format!(
            "{}: its certificate is not a coordinator's",
            store.dir().display()
        )));
    };
    let identity = Identity::of(own.cluster.as_str(), member.0);
    let (allow, admit) = (Arc::new(Allow::default()), Arc::new(Admit::default()));
    let dialer = Arc::new(Dialer { tls: tls.clone() });
    let transport = Arc::new(GrpcTransport::new(dialer.clone()));
    let node: RaftNode<State> = RaftNode::start(
        identity,
        store_dirs(config),
        store_options(config),
        config.raft.clone(),
        transport,
        admit.clone(),
    )
    .await?;
    let table = Arc::new(Table::new());
    allow.set(node.state().clone());
    admit.set(node.clone(), table.clone());
    let sessions = Sessions::default();
    let backend = Arc::new(MemberBackend {
        node: node.clone(),
        table: table.clone(),
        sessions: sessions.clone(),
        name: config.name.clone(),
    });
    let life = DurationMs::from_secs(config.certificate_life.as_secs());
    let signer: Arc<dyn Signer> = Arc::new(CaSigner::new(authority, life));
    let options = ApiOptions { limit_loopback: !config.grpc.ip().is_loopback(), ..ApiOptions::default() };
    let api = Api::new(backend.clone(), signer.clone(), &options);
    let connections = Connections::new();
    Ok(Parts { node, backend, table, tls, store, allow, connections, sessions, dialer, signer, api })
}

fn listeners(
    config: &Config,
    parts: &Parts,
    grpc: TcpListener,
    http: TcpListener,
    tasks: &mut TaskSet,
) -> Result<(), ServeError> {
    let mut routes = api::routes(&parts.api).map_err(|e| ServeError::Ended(e.to_string()))?;
    let agents = AgentSessions::new(
        parts.backend.clone(),
        parts.api.clone(),
        parts.table.clone(),
        parts.sessions.clone(),
        SessionOptions { coordinator: config.name.to_string(), heartbeat: config.heartbeat },
        tasks.shutdown().child(),
    );
    routes.add_service(agents.into_service());
    let certified =
        |extensions: &tonic::Extensions| match extensions.get::<PeerIdentity>().map(|p| &p.principal) {
            Some(Principal::Coordinator { member }) => Some(member.0),
            Some(_) | None => None,
        };
    routes.add_service(PeerServer::new(parts.node.handler(), certified).into_service());
    let identify: Identify = Arc::new(|extensions: &http::Extensions| {
        let peer = extensions.get::<PeerIdentity>()?;
        Some(Connected {
            serial: peer.serial.clone(),
            principal: peer.principal.clone(),
            client_ip: peer.remote.ip().to_string(),
            not_after: peer.not_after,
        })
    });
    let forward = Arc::new(Forward::new(parts.node.clone(), parts.dialer.clone()));
    let gate = Gate::new(parts.api.clone(), routes.routes(), forward, identify);
    let grpc_parts = GrpcParts {
        tls: parts.tls.clone(),
        allow: parts.allow.clone(),
        registry: parts.connections.clone(),
        router: axum::Router::new().fallback_service(gate),
        streaming_paths: BTreeSet::from(["/quorate.agent.v1.AgentService/Session".to_owned()]),
        limits: config.limits.clone(),
    };
    tasks.spawn_service(GrpcListener::new(grpc, grpc_parts)?);
    let router = crate::http::router(parts.api.clone());
    tasks.spawn_service(HttpListener::new(http, &parts.tls, router, config.limits.clone())?);
    Ok(())
}

fn background(config: &Config, parts: &Parts, tasks: &mut TaskSet) {
    let shutdown = tasks.shutdown().clone();
    let leader = Leader {
        node: parts.node.clone(),
        backend: parts.backend.clone(),
        table: parts.table.clone(),
        limits: Limits { silence: ms(config.silence), grace: ms(config.grace) },
    };
    tasks.spawn("leader", leader.run(shutdown.child()));
    let renewal = Renewal {
        member: MemberId(parts.node.id()),
        tls: parts.tls.clone(),
        store: Store::new(parts.store.dir()),
        signer: parts.signer.clone(),
        backend: parts.backend.clone(),
        hosts: config.server_names(),
    };
    tasks.spawn("renewal", renewal.run(shutdown.child()));
    tasks.spawn(
        "reports",
        report(parts.node.clone(), parts.table.clone(), config.name.to_string(), shutdown.child()),
    );
    tasks.spawn("ledger", drain(parts.api.clone(), parts.backend.clone(), shutdown.child()));
    tasks.spawn("revoker", revoke(parts.connections.clone(), parts.allow.clone(), shutdown.child()));
    tasks.spawn("reload", reload(parts.tls.clone(), Store::new(parts.store.dir()), shutdown.child()));
    tasks.spawn("watchdog", watchdog(shutdown.child()));
}

/// Tells the leader what the sessions here observed.
async fn report(
    node: RaftNode<State>,
    table: Arc<Table>,
    name: String,
    shutdown: Shutdown,
) -> Result<(), BoxError> {
    while shutdown.pause(REPORT).await {
        if node.status().is_leader() {
            continue;
        }
        let report = table.report(&name, now());
        let payload = rmp_serde::to_vec_named(&report)?;
        if let Err(error) = node.report_observations(payload.into(), Duration::from_secs(1)).await {
            // Level-triggered: the next report holds it all, facts and metrics included.
            table.tell_all();
            tracing::debug!(%error, "observations not delivered");
        }
    }
    Ok(())
}

/// Puts counted reads and denials into the audit.
async fn drain(api: Api, backend: Arc<MemberBackend>, shutdown: Shutdown) -> Result<(), BoxError> {
    loop {
        let goes_on = shutdown.pause(Duration::from_millis(DRAIN_INTERVAL.0)).await;
        for records in api.ledger().drain(now()) {
            let command = Command::Audit(AuditCommand::Append { records });
            let written =
                tokio::time::timeout(Duration::from_secs(5), backend.propose(Entry::system(now(), command)));
            match written.await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::warn!(%error, "counted calls did not reach the audit"),
                Err(_) => tracing::warn!("counted calls may not have reached the audit"),
            }
        }
        if !goes_on {
            return Ok(());
        }
    }
}

/// Closes live connections of identities that may no longer speak.
async fn revoke(connections: Connections, allow: Arc<Allow>, shutdown: Shutdown) -> Result<(), BoxError> {
    use quorate_common::tls::AllowList;
    while shutdown.pause(REVOKE).await {
        let closed = connections.close_where(|peer| allow.check(&peer.serial, &peer.principal).is_err());
        if closed > 0 {
            tracing::info!(closed, "connections of identities that may no longer speak were closed");
        }
    }
    Ok(())
}

/// SIGHUP reads the certificate again.
async fn reload(tls: Arc<LiveTls>, store: Store, shutdown: Shutdown) -> Result<(), BoxError> {
    let mut hangups = Hangups::new()?;
    while shutdown.run_until(hangups.next()).await.is_some() {
        match tls.reload(&store) {
            Ok(()) => tracing::info!("certificate read again"),
            Err(error) => tracing::error!(%error, "the certificate on disk is not used"),
        }
    }
    Ok(())
}

/// Tells systemd's watchdog that the runtime still turns.
async fn watchdog(shutdown: Shutdown) -> Result<(), BoxError> {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        shutdown.triggered().await;
        return Ok(());
    };
    while shutdown.pause(limit / 3).await {
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
    }
    Ok(())
}

fn ms(span: Duration) -> DurationMs {
    DurationMs(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}
