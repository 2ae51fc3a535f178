//! The sample service of `quorate dev`: a small key-value group that speaks the Scribe Ledger's HTTP admin API (guide S2).
//!
//! It exists so that orders can be tried on something that really loses quorum: it answers 503 after a start, then serves
//! as a lagging learner (`/health` is 200 already), and only then counts as a voter again. It can be told to misbehave.
//!
//! **A sample workload, not a database.** The leader is the lowest id that serves (sticky, with a term); there is no
//! consensus, no authentication, and a write answered with an error may be on some members.
//!
//! What it must never do: listen where strangers are, count a start twice, or show a member as serving that did not say so.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

mod api;
pub mod config;
mod kv;
mod logfile;
mod metrics;
mod node;
mod record;
mod store;
mod tls;
pub(super) mod token;
mod view;

pub use config::{LedgerConfig, LedgerConfigError, Misbehave, PeerConfig, STORE, Settings};
use logfile::LogFile;
use node::Node;
use store::Store;
use tls::Shown;
pub use tls::TlsConfig;
pub use token::TokenConfig;
use token::Tokens;
use view::Standing;

/// Connections served at once; more wait in the listener's backlog. Members, probes and a few clients need far fewer.
const MAX_CONNECTIONS: usize = 256;
/// Longest a client may take to send its request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest head of a request, in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// How long requests in flight may go on after SIGTERM: a stop takes less than 100 ms.
const STOP_GRACE: Duration = Duration::from_millis(50);

/// Runs one instance.
#[derive(Debug, Clone, clap::Args)]
pub struct LedgerArgs {
    /// The instance's TOML file
    #[arg(long, value_name = "FILE", required_unless_present = "check_config")]
    config: Option<std::path::PathBuf>,
    /// Only reads a file of settings: exit code 0 when it is good, else 2
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    check_config: Option<std::path::PathBuf>,
}

/// A build of the sample: an upgrade needs more than one, and some that are broken.
#[derive(Debug, Clone, Default)]
pub struct Build {
    /// What it says it is.
    pub version: &'static str,
    /// What it does wrong whatever its configuration says.
    pub broken: Misbehave,
}

impl Build {
    /// The build that every `quorate` is.
    #[must_use]
    pub fn own() -> Self {
        Self { version: "1.0.0", broken: Misbehave::default() }
    }
}

/// A whole program that is another build of the sample; called as `quorate` is called for its own: `PROGRAM dev ledger
/// --config FILE`.
#[must_use]
pub fn main(build: &Build) -> ExitCode {
    #[derive(clap::Parser)]
    #[command(name = "ledger")]
    struct Program {
        /// `dev ledger`
        #[arg(required = true, num_args = 2, value_parser = ["dev", "ledger"])]
        _words: Vec<String>,
        #[command(flatten)]
        args: LedgerArgs,
    }
    let program = <Program as clap::Parser>::parse();
    let ended = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("the runtime cannot start")
        .and_then(|runtime| runtime.block_on(run(program.args, build)));
    ended.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

/// Runs one instance until SIGTERM or SIGINT.
///
/// # Errors
/// When its file is bad, its data is damaged or its port is taken.
pub async fn run(args: LedgerArgs, build: &Build) -> anyhow::Result<ExitCode> {
    let file = match (args.config, args.check_config) {
        (_, Some(settings)) => return Ok(check(&settings)),
        (Some(file), None) => file,
        (None, None) => anyhow::bail!("no configuration was named"),
    };
    let mut config = LedgerConfig::load(&file)?;
    config.version = build.version;
    let settings = config.settings_file.as_deref().map(Settings::load).transpose()?.unwrap_or_default();
    if config.misbehave == Misbehave::default() {
        config.misbehave = settings.misbehave;
    }
    if build.broken != Misbehave::default() {
        config.misbehave = build.broken.clone();
    }
    std::fs::create_dir_all(&config.data_dir)
        .with_context(|| format!("cannot create {}", config.data_dir.display()))?;
    // Counted before anything can fail: a start that came to nothing is a start.
    logfile::count(&config.data_dir.join("starts.log")).context("cannot count the start in starts.log")?;
    let log = LogFile::open(&config.log_file)
        .with_context(|| format!("cannot open {}", config.log_file.display()))?;
    let node = match prepare(config, log).await {
        Ok(Some((node, listeners))) => {
            spawn_tasks(&node);
            let serving = listeners
                .into_iter()
                .map(|(port, listener)| tokio::spawn(serve(port, listener, Arc::clone(&node))));
            let serving: Vec<_> = serving.collect();
            let end = wait_for_the_end(&node).await;
            for task in serving {
                task.abort();
            }
            end?;
            node
        }
        Ok(None) => return Ok(ExitCode::FAILURE),
        Err(error) => return Err(error),
    };
    // A write in flight holds this lock; what is not done after the grace is as if the power had gone.
    let _ = tokio::time::timeout(STOP_GRACE, node.writes.lock()).await;
    node.log.line("INFO", "stopped");
    Ok(ExitCode::SUCCESS)
}

/// Looks at a file of settings, as the host does before it puts one in place.
fn check(settings: &std::path::Path) -> ExitCode {
    match Settings::load(settings) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            let error = anyhow::Error::new(error);
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Where a file of the store is; one of an older release lies beside it, and is moved in.
fn settled(config: &LedgerConfig, name: &str) -> anyhow::Result<std::path::PathBuf> {
    let (store, old) = (config.store_dir(), config.data_dir.join(name));
    let path = store.join(name);
    std::fs::create_dir_all(&store).with_context(|| format!("cannot create {}", store.display()))?;
    if old.exists() && !path.exists() {
        std::fs::rename(&old, &path).with_context(|| format!("cannot move {}", old.display()))?;
    }
    Ok(path)
}

/// Opens what the instance needs. `None`: it was told to crash.
async fn prepare(
    config: LedgerConfig,
    log: LogFile,
) -> anyhow::Result<Option<(Arc<Node>, Vec<(Port, TcpListener)>)>> {
    log.line(
        "INFO",
        &format!("start pid={} at={} version={}", std::process::id(), config.at(), config.version),
    );
    let ready = async {
        let misbehave = config.misbehave_now()?;
        if misbehave.crash_at_start {
            log.line("ERROR", "told to crash at start");
            eprintln!("ledger: told to crash at start");
            return Ok(None);
        }
        let path = settled(&config, "ledger.kv")?;
        let (store, torn) = tokio::task::spawn_blocking(move || Store::open(&path)).await??;
        if torn > 0 {
            log.line("WARN", &format!("cut {torn} bytes of a torn tail off the data file"));
        }
        let standing = load_standing(&settled(&config, "standing.json")?)?;
        let mut listeners = vec![(Port::Plain, listen(config.at()).await?)];
        if let Some(tls) = &config.tls {
            listeners.push((Port::Tls, listen((config.address, tls.port).into()).await?));
        }
        let shown = config.tls.clone().map(Shown::load).transpose()?;
        let tokens = Tokens::load(config.tokens.clone())?;
        anyhow::Ok(Some((misbehave, store, standing, (shown, tokens), listeners)))
    }
    .await;
    match ready {
        Ok(Some((misbehave, store, standing, shown, listeners))) => {
            Ok(Some((Arc::new(Node::new(config, log, store, standing, misbehave, shown)), listeners)))
        }
        Ok(None) => Ok(None),
        Err(error) => {
            log.line("ERROR", &format!("{error:#}"));
            Err(error)
        }
    }
}

async fn listen(at: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(at).await.with_context(|| format!("cannot listen on {at}"))
}

fn load_standing(path: &std::path::Path) -> anyhow::Result<Standing> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is damaged; delete it, the members know it", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Standing::default()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn spawn_tasks(node: &Arc<Node>) {
    tokio::spawn(Arc::clone(node).live());
    for peer in &node.config.peers {
        tokio::spawn(Arc::clone(node).poll_peer(peer.id, peer.at()));
    }
}

/// What is spoken on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Port {
    Plain,
    Tls,
}

/// Accepts for ever. An accept error (no descriptors left) is waited out, it must not end the service.
async fn serve(port: Port, listener: TcpListener, node: Arc<Node>) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let router = api::router(Arc::clone(&node));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                node.log.line("WARN", &format!("cannot accept: {error}"));
                tokio::time::sleep(node::POLL).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(router.clone());
        let acceptor = node.shown.as_ref().filter(|_| port == Port::Tls).map(Shown::acceptor);
        tokio::spawn(async move {
            match acceptor {
                None => converse(stream, service).await,
                Some(acceptor) => {
                    let shaken = tokio::time::timeout(HEADER_TIMEOUT, acceptor.accept(stream)).await;
                    if let Ok(Ok(stream)) = shaken {
                        converse(stream, service).await;
                    }
                }
            }
            drop(permit);
        });
    }
}

/// Serves one connection to its end. A client that breaks off is its own business.
async fn converse(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    service: TowerToHyperService<axum::Router>,
) {
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let _ = connection.await;
}

/// SIGHUP reloads; SIGTERM and SIGINT end, unless the instance was told otherwise.
async fn wait_for_the_end(node: &Arc<Node>) -> anyhow::Result<()> {
    let mut hangup = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    loop {
        tokio::select! {
            _ = hangup.recv() => {
                reload(node);
                continue;
            }
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        node.reread_misbehave();
        let asked = node.misbehave();
        if asked.ignore_sigterm {
            node.log.line("WARN", "told to ignore SIGTERM");
            continue;
        }
        node.stop();
        if asked.hang_on_stop {
            node.log.line("WARN", "told to hang on stop");
            std::future::pending::<()>().await;
        }
        return Ok(());
    }
}

fn reload(node: &Node) {
    if let Err(error) = node.log.reopen() {
        node.log.line("ERROR", &format!("cannot reopen the log: {error}"));
    }
    if let Err(error) = logfile::count(&node.config.data_dir.join("reloads.log")) {
        node.log.line("ERROR", &format!("cannot count the reload: {error}"));
    }
    if let Err(error) = node.tokens.reload() {
        node.log.line("ERROR", &format!("the tokens from before are accepted on: {error:#}"));
    }
    node.reread_misbehave();
    if let Some(shown) = node.shown.as_ref().filter(|_| !node.misbehave().ignore_sighup)
        && let Err(error) = shown.reload()
    {
        node.log.line("ERROR", &format!("the certificate from before is shown on: {error:#}"));
    }
    node.log.line("INFO", "reloaded");
}
