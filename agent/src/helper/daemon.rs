//! The life of the helper's process.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use quorate_common::task::{Hangups, Shutdown, TaskSet, stop_on_signals};
use quorate_durable::{OpenError, Probe, files};

use super::server::{self, Server};
use super::units;
use crate::actions::HostFacts;
use crate::config::Config;
use crate::host::process::ProcessDriver;
use crate::host::systemd::SystemdDriver;
use crate::host::{Host, HostError, RealHost, ServiceDriver};
use crate::notify;
use crate::runner::journal::{self, Journal, JournalError};
use crate::runner::{self, Parts, Runner, Settings};

/// How long connections and looks may take to end.
const TASK_GRACE: Duration = Duration::from_secs(2);

/// Why the helper can not run; the sentence and the exit code of its process.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// The journal can not be used, and that is no loss: another helper has it, the disk is full or not readable.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The machine can not be used.
    #[error(transparent)]
    Host(#[from] HostError),
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
    /// 74 (`EX_IOERR`) for storage and the machine.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        74
    }

    fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// Runs until SIGTERM. `file` is read again at SIGHUP.
///
/// # Errors
/// [`Fatal`]; the supervisor starts it again, and what was in hand is found in the journal.
pub async fn run(config: Config, file: &Path) -> Result<(), Fatal> {
    let shutdown = Shutdown::new();
    let mut hangups = Hangups::new().map_err(Fatal::io("can not handle SIGHUP"))?;
    let signals = stop_on_signals(shutdown.clone()).map_err(Fatal::io("can not handle SIGTERM"))?;
    private_dir(&config.helper_dir)?;
    let (journal, installation) = open_journal(&config).await?;
    let ended = runner::end_leftovers(&config).await?;
    if !ended.is_empty() {
        tracing::warn!(programs = ?ended, "ended hooks that an earlier helper left running");
    }
    let process = Arc::new(ProcessDriver::open(&config.run_dir(), config.processes.clone()).await?);
    let host = host(Arc::clone(&process))?;
    let settings = Settings::new(config.clone());
    let owner = config.agent_user.as_deref().map(server::user_number).transpose();
    let owner = owner.map_err(Fatal::io("can not find the user agent_user"))?;
    let parts = Parts {
        host: Arc::clone(&host),
        settings: settings.clone(),
        journal,
        installation,
        facts: Arc::new(HostFacts),
    };
    // Connections live until the runner has ended: what is in hand is still told.
    let serving = Shutdown::new();
    let (runner, life) = Runner::start(parts, shutdown.clone()).await?;
    let listener = server::bind(&config.helper_socket, owner)
        .map_err(Fatal::io(format!("can not listen on {}", config.helper_socket.display())))?;
    let own = rustix::process::geteuid().as_raw();
    let allowed = std::iter::once(own).chain(owner).collect();
    let server = Server::new(runner, host, settings.clone(), allowed);
    let mut tasks = TaskSet::new(serving.clone());
    tasks.spawn("local socket", Arc::clone(&server).run(listener, serving.clone()));
    tasks.spawn("units", units::run(server, serving.clone()));
    notify::ready();
    tracing::info!(node = %config.node, socket = %config.helper_socket.display(), "helper is ready");
    let mut life = std::pin::pin!(life);
    let ended = loop {
        tokio::select! {
            ended = &mut life => break ended.map_err(Fatal::from),
            Some(end) = tasks.next_end() => break Err(Fatal::Task(end.name)),
            () = hangups.next() => reload(file, &settings, &process).await,
            () = notify::watchdog() => {}
        }
    };
    notify::stopping();
    shutdown.trigger();
    signals.abort();
    // The last reports are on their way.
    tokio::time::sleep(Duration::from_millis(50)).await;
    tasks.stop(TASK_GRACE).await;
    // The socket stays: whoever comes next replaces it, and a removal could hit that one's.
    ended
}

fn private_dir(dir: &Path) -> Result<(), Fatal> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(Fatal::io(format!("can not make {}", dir.display())))
}

/// Opens the journal. One that is lost is stood in for by memory, which refuses changes until an operator resets it.
async fn open_journal(config: &Config) -> Result<(Journal, String), Fatal> {
    let (installation, known) = journal::installation(&config.helper_dir)?;
    let (dir, limits) = (config.journal_dir(), config.journal);
    let opened = tokio::task::spawn_blocking(move || {
        // A child reads the files first: sled can abort on damaged ones.
        Journal::open(&dir, known, &limits, Probe::SelfExe)
    })
    .await
    .map_err(|e| Fatal::Io {
        what: "opening the journal ended early".into(),
        source: std::io::Error::other(e),
    })?;
    // A record that does not parse is found here rather than in the runner.
    match opened.and_then(|journal| journal.contents().map(|_| journal)) {
        Ok(journal) => {
            if !known {
                journal::mark_installation(&config.helper_dir, &installation)?;
            }
            Ok((journal, installation))
        }
        Err(error) if error.is_loss() => {
            let why = super::error_text(&error);
            tracing::error!(
                why,
                "the journal is lost: changes are refused until `quorate-helper reset-journal`"
            );
            Ok((Journal::lost(why)?, installation))
        }
        Err(error) => Err(error.into()),
    }
}

fn host(process: Arc<ProcessDriver>) -> Result<Arc<dyn Host>, Fatal> {
    // As sd_booted(3): the folder is there exactly when systemd is the init system.
    let systemd: Option<Arc<dyn ServiceDriver>> = if Path::new("/run/systemd/system").is_dir() {
        Some(Arc::new(SystemdDriver::system()?))
    } else {
        None
    };
    Ok(Arc::new(RealHost::new(systemd, Some(process))?))
}

async fn reload(file: &Path, settings: &Settings, process: &ProcessDriver) {
    let new = match Config::load(file) {
        Ok(new) => new,
        Err(error) => {
            tracing::error!(%error, "the configuration was not reloaded");
            return;
        }
    };
    let processes = new.processes.clone();
    if let Err(fixed) = settings.replace(new) {
        tracing::error!(keys = ?fixed, "the configuration was not reloaded: these keys change only with a restart");
        return;
    }
    match process.declare(processes).await {
        Ok(()) => tracing::info!("configuration reloaded"),
        Err(error) => tracing::error!(error = %error.full_text(), "the declared processes were not reloaded"),
    }
}

/// Sets a lost journal aside and begins a new one with a new incarnation, on an operator's word.
///
/// # Errors
/// [`Fatal`] when a helper runs, or the files can not be changed.
pub fn reset_journal(config: &Config) -> Result<String, Fatal> {
    private_dir(&config.helper_dir)?;
    let dir = config.journal_dir();
    // In use means a helper runs; its journal is not taken from under it.
    if let Err(error) = quorate_durable::forget(&dir)
        && matches!(error, OpenError::InUse { .. })
    {
        return Err(JournalError::from(error).into());
    }
    let mut aside = String::from("there was no journal");
    if dir.exists() {
        let place =
            files::quarantine(&dir).map_err(Fatal::io(format!("can not set {} aside", dir.display())))?;
        aside = format!("the old one is {}", place.display());
    }
    quorate_durable::forget(&dir).map_err(JournalError::from)?;
    let (installation, _) = journal::installation(&config.helper_dir)?;
    let journal = Journal::open(&dir, false, &config.journal, Probe::SelfExe)?;
    journal.close();
    journal::mark_installation(&config.helper_dir, &installation)?;
    Ok(aside)
}
