//! A member at work: every part started here, in order, and stopped in the reverse one.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quorate_common::task::{BoxError, Hangups, Shutdown, TaskSet, stop_on_signals};
use quorate_common::telemetry::error_text;
use quorate_common::tls::{AllowList, CertificateAuthority, LiveTls, Store, TlsError};
use quorate_model::{DurationMs, MemberId, Principal};
use tokio::net::{TcpListener, TcpSocket};

use super::dial::Dialer;
use super::ground::{Ground, SystemClock};
use super::parts::Member;
use super::renew::Renewal;
use super::{WrongClock, clock, store_dirs, store_options, tls_dir};
use crate::api::backend::{Backend, Signer};
use crate::api::signer::CaSigner;
use crate::artifacts::{ArtifactError, Artifacts, GrpcPeers};
use crate::config::Config;
use crate::listen::{GrpcListener, GrpcParts, HttpListener, Registry as Connections};
use crate::raft::{Dial, Failure, StartError};
use crate::store::{Files, Identity, StoreDirs, check_failures, record_divergence, record_failure};

/// Time for everything to stop.
const GRACE: Duration = Duration::from_secs(10);
/// Connections that wait to be accepted: Linux's own limit (`somaxconn`) since 5.4. With tokio's 1,024, a burst of ten
/// thousand on a busy machine had connections of others reset.
const BACKLOG: u32 = 4_096;
/// Time between two looks at the disk's free space.
const SPACE: Duration = Duration::from_secs(5);
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
    /// The clock: the member's own certificate would not hold.
    #[error(transparent)]
    Clock(#[from] WrongClock),
    /// The directory of artifacts.
    #[error("the artifacts of this member cannot be opened")]
    Artifacts(#[from] ArtifactError),
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
    /// Exit code of the process: 74 for the store, 78 for certificates that an operator must mend, 2 for a member that
    /// never joined, 1 for what may pass by itself, as a clock that is not set yet.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Start(StartError::Store(refused)) => refused.exit_code(),
            Self::NotBorn(_) => 2,
            Self::Tls(_) => 78,
            Self::Clock(_) | Self::Start(_) | Self::Artifacts(_) | Self::Listen { .. } | Self::Ended(_) => 1,
        }
    }

    /// Whether this member can only come back under a new number.
    #[must_use]
    pub fn needs_rejoin(&self) -> bool {
        matches!(self, Self::Start(StartError::Store(refused)) if refused.needs_rejoin())
    }
}

/// The parts that outlive the set-up.
struct Parts {
    member: Member,
    tls: Arc<LiveTls>,
    store: Store,
    connections: Connections,
    signer: Arc<dyn Signer>,
}

/// Runs this member until a signal or a failure.
///
/// # Errors
/// [`ServeError`] with the exit code.
pub async fn serve(config: Config) -> Result<(), ServeError> {
    let shutdown = Shutdown::new();
    let parts = start(&config).await?;
    let grpc = bind(config.grpc)?;
    let http = bind(config.http)?;
    let mut tasks = TaskSet::new(shutdown.clone());
    listeners(&config, &parts, grpc, http, &mut tasks)?;
    background(&config, &parts, &mut tasks);
    // Not the shutdown itself: the others must still reach this member while it hands over.
    let asked = Shutdown::new();
    let signals = stop_on_signals(asked.clone()).map_err(|e| ServeError::Ended(e.to_string()))?;
    // Under systemd, readiness means: the listeners are open. Quorum is /readyz's matter.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    tracing::info!(member = %config.name, id = parts.member.node().id(), grpc = %config.grpc, http = %config.http, "serving");
    let failure = tokio::select! {
        // First: when the core ends, tasks around it end, too, and say less about why.
        biased;
        why = parts.member.node().failed() => {
            write_down(&store_dirs(&config), &why);
            Some(why.to_string())
        }
        end = tasks.supervise() => end.map(|end| format!("{} ended: {:?}", end.name, end.exit)),
        () = asked.triggered() => None,
    };
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    if failure.is_none() {
        hand_over(&config, &parts).await;
    }
    tasks.stop(GRACE).await;
    parts.member.node().shutdown().await;
    signals.abort();
    failure.map_or(Ok(()), |why| Err(ServeError::Ended(why)))
}

/// Whoever leads gives that up before it goes: the others need not wait until they miss it.
async fn hand_over(config: &Config, parts: &Parts) {
    let node = parts.member.node();
    let status = node.status();
    if !status.is_leader() || status.voters().count() < 2 {
        return;
    }
    // No longer than the others would need to miss it.
    let limit = config.raft.election_max * 2;
    match tokio::time::timeout(limit, node.transfer_leader(None)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => {
            tracing::info!(%error, "leadership was not handed over: the others will elect somebody")
        }
        Err(_) => tracing::info!("leadership was not handed over in time: the others will elect somebody"),
    }
}

/// For the next start, which decides by it whether there is one.
fn write_down(dirs: &StoreDirs, why: &Failure) {
    match why {
        Failure::Stopped(why) => record_failure(dirs, why),
        Failure::Diverged(why) => {
            if let Err(error) = record_divergence(dirs, why) {
                tracing::error!(%error, "this member will start again although its state is not to be trusted");
            }
        }
    }
}

fn bind(address: SocketAddr) -> Result<TcpListener, ServeError> {
    let open = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    open().map_err(|source| ServeError::Listen { address, source })
}

async fn start(config: &Config) -> Result<Parts, ServeError> {
    let store = Store::new(tls_dir(config));
    check_failures(&store_dirs(config)).map_err(StartError::Store)?;
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
    clock::check_born(clock::now(), own.not_before)?;
    let identity = Identity::of(own.cluster.as_str(), member.0);
    let life = DurationMs::from_secs(config.certificate_life.as_secs());
    let signer: Arc<dyn Signer> = Arc::new(CaSigner::new(authority, life));
    let dial: Arc<dyn Dial> = Arc::new(Dialer { tls: tls.clone() });
    let peers = Arc::new(GrpcPeers::new(identity, dial.clone()));
    let artifacts = Artifacts::open(&config.data_dir.join("artifacts"), config.artifacts.clone(), peers)?;
    let ground = Ground {
        identity,
        disk: Arc::new(Files::new(store_dirs(config), store_options(config))),
        dial,
        clock: Arc::new(SystemClock),
        signer: signer.clone(),
        artifacts: Some(artifacts),
    };
    let member = Member::start(config, ground).await?;
    Ok(Parts { member, tls, store, connections: Connections::new(), signer })
}

fn listeners(
    config: &Config,
    parts: &Parts,
    grpc: TcpListener,
    http: TcpListener,
    tasks: &mut TaskSet,
) -> Result<(), ServeError> {
    let router = parts.member.router(config, tasks.shutdown());
    let router = router.map_err(|e| ServeError::Ended(e.to_string()))?;
    let grpc_parts = GrpcParts {
        tls: parts.tls.clone(),
        allow: parts.member.allow(),
        registry: parts.connections.clone(),
        router,
        streaming_paths: BTreeSet::from(["/quorate.agent.v1.AgentService/Session".to_owned()]),
        limits: config.limits.clone(),
    };
    tasks.spawn_service(GrpcListener::new(grpc, grpc_parts)?);
    let router = crate::http::router(parts.member.api().clone());
    tasks.spawn_service(HttpListener::new(http, &parts.tls, router, config.limits.clone())?);
    Ok(())
}

fn background(config: &Config, parts: &Parts, tasks: &mut TaskSet) {
    let shutdown = tasks.shutdown().clone();
    parts.member.background(config, tasks);
    let renewal = Renewal {
        member: MemberId(parts.member.node().id()),
        tls: parts.tls.clone(),
        store: Store::new(parts.store.dir()),
        signer: parts.signer.clone(),
        backend: parts.member.backend(),
        hosts: config.server_names(),
    };
    tasks.spawn("renewal", renewal.run(shutdown.child()));
    tasks.spawn("revoker", revoke(parts.connections.clone(), parts.member.allow(), shutdown.child()));
    tasks.spawn("reload", reload(parts.tls.clone(), Store::new(parts.store.dir()), shutdown.child()));
    tasks.spawn("space", space(parts.member.backend(), shutdown.child()));
    tasks.spawn("watchdog", watchdog(shutdown.child()));
}

/// Closes live connections of identities that may no longer speak.
async fn revoke(
    connections: Connections,
    allow: Arc<dyn AllowList>,
    shutdown: Shutdown,
) -> Result<(), BoxError> {
    while shutdown.pause(REVOKE).await {
        let closed = connections.close_where(|peer| allow.check(&peer.serial, &peer.principal).is_err());
        if closed > 0 {
            tracing::info!(closed, "connections of identities that may no longer speak were closed");
        }
    }
    Ok(())
}

/// Says when the disk has become short of room for new work, and when it has room again.
async fn space(backend: Arc<dyn Backend>, shutdown: Shutdown) -> Result<(), BoxError> {
    let mut short = false;
    loop {
        let low = backend.health().low_space;
        let now = low.is_some();
        match (short, low) {
            (false, Some(low)) => tracing::error!("short of disk space, no room for new work: {low}"),
            (true, None) => tracing::info!("there is room on the disk again"),
            (false, None) | (true, Some(_)) => {}
        }
        short = now;
        if !shutdown.pause(SPACE).await {
            return Ok(());
        }
    }
}

/// SIGHUP reads the certificate again.
async fn reload(tls: Arc<LiveTls>, store: Store, shutdown: Shutdown) -> Result<(), BoxError> {
    let mut hangups = Hangups::new()?;
    while shutdown.run_until(hangups.next()).await.is_some() {
        match tls.reload(&store) {
            Ok(()) => tracing::info!("certificate read again"),
            Err(error) => {
                let error = error_text(&error);
                tracing::error!(error, "the certificate on disk is not used");
            }
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
