//! The life of the agent's process.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quorate_common::task::{BoxError, Hangups, Shutdown, TaskSet, stop_on_signals};
use quorate_common::tls::{ExpectedServer, LiveTls, Store, TlsError};
use tokio_util::sync::CancellationToken;

use super::dial::{self, Book};
use super::hub::Hub;
use super::remote::RemoteHost;
use super::stream::{self, Calling, Context};
use super::{artifacts, enroll, leases, link, reach, renew};
use crate::actions::{FactsSource, HostFacts};
use crate::config::Config;
use crate::facts::{self, Collector, MetricsPage};
use crate::helper::Way;
use crate::notify;
use crate::probes::{Prober, Scheduler};
use crate::runner::Settings;

/// How long tasks may take to end.
const TASK_GRACE: Duration = Duration::from_secs(2);

/// Why the agent can not run.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// What an administrator has to put right.
    #[error("{0}")]
    Config(String),
    /// The certificate, its key, or the token's file.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Something of the operating system.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// A task ended that must not.
    #[error("the task {0} ended")]
    Task(String),
}

impl Fatal {
    /// 78 (`EX_CONFIG`) for what an administrator has to put right, 74 (`EX_IOERR`) for the rest.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Tls(_) => 78,
            Self::Io { .. } | Self::Task(_) => 74,
        }
    }

    fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// Runs until SIGTERM. `file` is read again at SIGHUP.
///
/// # Errors
/// [`Fatal`].
pub async fn run(config: Config, file: &Path) -> Result<(), Fatal> {
    let shutdown = Shutdown::new();
    let mut hangups = Hangups::new().map_err(Fatal::io("can not handle SIGHUP"))?;
    let signals = stop_on_signals(shutdown.clone()).map_err(Fatal::io("can not handle SIGTERM"))?;
    make_private(&config.data_dir)?;
    let store = Store::new(config.tls_dir());
    let Some(material) = enroll::identity(&config, &store, &shutdown).await? else { return Ok(()) };
    let live = LiveTls::new(material);
    let calling = stream::over_tls(live.client(ExpectedServer::AnyCoordinator)?);
    let way = Way::socket(config.helper_socket.clone());
    let mut tasks = TaskSet::new(shutdown.clone());
    let ground = Ground {
        settings: Settings::new(config.clone()),
        live,
        calling,
        way,
        facts: Arc::new(HostFacts),
        page: Arc::new(MetricsPage::new(Collector::default())),
    };
    let context = start(ground, &mut tasks).map_err(Fatal::io("can not read the boot id"))?;
    let page = Arc::clone(&context.page);
    tasks.spawn("certificate", renew::run(Arc::clone(&context), store.clone(), shutdown.clone()));
    if let Some(address) = config.metrics_listen {
        tasks.spawn("metrics", metrics(page, address.port(), shutdown.clone()));
    }
    notify::ready();
    tracing::info!(node = %config.node, "agent is ready");
    let ended = loop {
        tokio::select! {
            end = tasks.supervise() => break match end {
                None => Ok(()),
                Some(end) => Err(Fatal::Task(end.name)),
            },
            () = hangups.next() => reload(file, &context, &store),
            () = notify::watchdog() => {}
        }
    };
    notify::stopping();
    signals.abort();
    tasks.stop(TASK_GRACE).await;
    ended
}

/// What the network half stands on; a simulator brings its own.
pub struct Ground {
    /// The configuration in use.
    pub settings: Settings,
    /// The certificate: who this is.
    pub live: Arc<LiveTls>,
    /// How coordinators are called.
    pub calling: Calling,
    /// The way to the helper.
    pub way: Way,
    /// Facts about the host.
    pub facts: Arc<dyn FactsSource>,
    /// Where the metrics come from.
    pub page: Arc<MetricsPage>,
}

/// Starts the session and the way to the helper.
///
/// # Errors
/// When the boot id cannot be read.
pub fn run_on(ground: Ground, tasks: &mut TaskSet) -> std::io::Result<()> {
    start(ground, tasks).map(drop)
}

fn start(ground: Ground, tasks: &mut TaskSet) -> std::io::Result<Arc<Context>> {
    let Ground { settings, live, calling, way, facts, page } = ground;
    let config = settings.current();
    let (hub, confirmations) = Hub::new();
    let host = RemoteHost::new(Arc::clone(&hub), way.clone())?;
    let context = Arc::new(Context {
        hub: Arc::clone(&hub),
        settings,
        live,
        calling,
        facts,
        book: Mutex::new(Book::open(&config.data_dir, config.coordinators.clone())),
        scheduler: Arc::new(Scheduler::new(Arc::new(Prober::new(Arc::new(host))))),
        page,
    });
    let shutdown = tasks.shutdown().clone();
    tasks.spawn("leases", leases::run(Arc::clone(&hub), way.clone(), shutdown.clone()));
    tasks.spawn("helper", link::run(hub, way, confirmations, shutdown.clone()));
    tasks.spawn("artifacts", artifacts::run(Arc::clone(&context), shutdown.clone()));
    tasks.spawn("reach", reach::run(Arc::clone(&context), shutdown.clone()));
    tasks.spawn("session", dial::run(Arc::clone(&context), shutdown));
    Ok(context)
}

fn make_private(dir: &Path) -> Result<(), Fatal> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(Fatal::io(format!("can not make {}", dir.display())))
}

/// A port that is taken costs the page, not the agent.
async fn metrics(page: Arc<MetricsPage>, port: u16, shutdown: Shutdown) -> Result<(), BoxError> {
    let stop = CancellationToken::new();
    let served = facts::serve(page, port, stop.clone(), |at| tracing::debug!(%at, "serving metrics"));
    match shutdown.run_until(served).await {
        Some(Err(error)) => {
            tracing::error!(%error, port, "metrics are not served");
            shutdown.triggered().await;
        }
        Some(Ok(())) | None => stop.cancel(),
    }
    Ok(())
}

fn reload(file: &Path, context: &Context, store: &Store) {
    match Config::load(file) {
        Ok(new) => match context.settings.replace(new) {
            Ok(()) => tracing::info!("configuration reloaded"),
            Err(fixed) => {
                tracing::error!(keys = ?fixed, "the configuration was not reloaded: these keys change only with a restart");
            }
        },
        Err(error) => tracing::error!(%error, "the configuration was not reloaded"),
    }
    if let Err(error) = context.live.reload(store) {
        tracing::error!(error = crate::helper::error_text(&error), "the certificate was not reloaded");
    }
}
