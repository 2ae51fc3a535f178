//! Keeping daemons running, as systemd would with `Restart=on-failure` and `RestartSec=1`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, WaitOptions};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::fleet::{Fleet, FleetState, Slot};
use super::layout::Layout;
use super::process::Identity;

/// Pause before an agent or a helper that ended badly is started again.
const RESTART_PAUSE: Duration = Duration::from_secs(1);
/// The same for a coordinator. Longer than the longest election timeout (2 s): a leader that is back sooner resumes its own
/// term, and a fleet to try things on would never show the change of leader that a dead host brings.
const COORDINATOR_PAUSE: Duration = Duration::from_secs(3);
/// A log larger than this is set aside (one old one is kept) before its daemon is started, in bytes.
const MAX_LOG_BYTES: u64 = 16 * 1024 * 1024;
/// Bytes of a log shown when something failed: about forty lines.
const TAIL_BYTES: u64 = 4 * 1024;
/// How often orphans that came to us are reaped.
const REAP: Duration = Duration::from_millis(200);

/// How one daemon is started.
#[derive(Debug, Clone)]
pub(super) struct Daemon {
    pub(super) slot: Slot,
    pub(super) program: PathBuf,
    pub(super) config: PathBuf,
    pub(super) log: PathBuf,
}

/// The processes of one running fleet. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Keeper {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    layout: Layout,
    fleet: Mutex<Fleet>,
    /// Ends of daemons by themselves, counted, and the log of the last one.
    deaths: Mutex<BTreeMap<Slot, u32>>,
    /// Children that tokio waits for; held while a child is spawned and while orphans are reaped.
    known: Mutex<BTreeSet<u32>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Keeper {
    /// Takes care of a fleet that has no processes yet. Orphans of this process's descendants come to it from now on.
    pub(super) fn new(layout: Layout, fleet: Fleet) -> anyhow::Result<Self> {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .context("cannot become the reaper of orphans")?;
        let keeper = Self {
            inner: Arc::new(Inner {
                layout,
                fleet: Mutex::new(fleet),
                deaths: Mutex::default(),
                known: Mutex::default(),
                stop: CancellationToken::new(),
                tasks: TaskTracker::new(),
            }),
        };
        let reaper = keeper.clone();
        tokio::spawn(async move {
            let mut tick = tokio::time::interval(REAP);
            loop {
                tick.tick().await;
                reaper.reap_orphans();
            }
        });
        Ok(keeper)
    }

    pub(super) fn fleet(&self) -> Fleet {
        guard(&self.inner.fleet).clone()
    }

    /// Changes the fleet's record and writes it.
    pub(super) fn change(&self, change: impl FnOnce(&mut Fleet)) -> anyhow::Result<()> {
        let mut fleet = guard(&self.inner.fleet);
        change(&mut fleet);
        fleet.save(&self.inner.layout)
    }

    /// How often a daemon ended by itself.
    pub(super) fn deaths(&self) -> BTreeMap<Slot, u32> {
        guard(&self.inner.deaths).clone()
    }

    /// Starts a daemon and keeps it running until [`Keeper::stop`].
    pub(super) fn keep(&self, daemon: Daemon) {
        let keeper = self.clone();
        self.inner.tasks.spawn(async move { keeper.run(daemon).await });
    }

    async fn run(self, daemon: Daemon) {
        while !self.inner.stop.is_cancelled() {
            let ended = match self.spawn(&daemon) {
                Ok(mut child) => {
                    let identity = child.id().and_then(Identity::of);
                    self.note(&daemon.slot, identity);
                    let ended = child.wait().await;
                    self.forget(identity);
                    self.note(&daemon.slot, None);
                    match ended {
                        Ok(status) if self.inner.stop.is_cancelled() || status.success() => {
                            if !self.inner.stop.is_cancelled() {
                                say(&format!("{} ended by itself with code 0; it stays down", daemon.slot));
                            }
                            return;
                        }
                        Ok(status) => status.to_string(),
                        Err(error) => error.to_string(),
                    }
                }
                Err(error) => format!("{error:#}"),
            };
            if self.inner.stop.is_cancelled() {
                return;
            }
            *guard(&self.inner.deaths).entry(daemon.slot.clone()).or_default() += 1;
            let pause = match daemon.slot {
                Slot::Coordinator(_) => COORDINATOR_PAUSE,
                _ => RESTART_PAUSE,
            };
            say(&format!("{} ended ({ended}); it is started again in {} s", daemon.slot, pause.as_secs()));
            tokio::select! {
                () = self.inner.stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn note(&self, slot: &Slot, identity: Option<Identity>) {
        if let Err(error) = self.change(|fleet| fleet.note(slot, identity)) {
            say(&format!("warning: {error:#}"));
        }
    }

    fn forget(&self, identity: Option<Identity>) {
        if let Some(identity) = identity {
            guard(&self.inner.known).remove(&identity.pid);
        }
    }

    fn spawn(&self, daemon: &Daemon) -> anyhow::Result<Child> {
        let mut command = Command::new(&daemon.program);
        command.arg("--config").arg(&daemon.config);
        self.spawn_logged(command, &daemon.log)
    }

    fn spawn_logged(&self, mut command: Command, log: &Path) -> anyhow::Result<Child> {
        let file = open_log(log)?;
        let program = command.as_std().get_program().to_string_lossy().into_owned();
        // A group of its own: Ctrl-C at the terminal is for the supervisor, which then ends them in order.
        command.process_group(0).stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let mut known = guard(&self.inner.known);
        let child = command.spawn().with_context(|| format!("cannot start {program}"))?;
        known.extend(child.id());
        Ok(child)
    }

    /// Runs a program to its end and gives an error with the end of its output unless it succeeded.
    pub(super) async fn run_once(
        &self,
        what: &str,
        program: &Path,
        args: &[&std::ffi::OsStr],
        log: &Path,
        limit: Duration,
    ) -> anyhow::Result<()> {
        let mut command = Command::new(program);
        command.args(args);
        let mut child = self.spawn_logged(command, log)?;
        let pid = child.id();
        let ended = tokio::select! {
            ended = tokio::time::timeout(limit, child.wait()) => ended,
            () = self.inner.stop.cancelled() => {
                child.kill().await?;
                bail!("{what}: stopped");
            }
        };
        if ended.is_err() {
            child.kill().await?;
        }
        if let Some(pid) = pid {
            guard(&self.inner.known).remove(&pid);
        }
        match ended {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => bail!("{what} failed ({status}):\n{}", tail(log)),
            Ok(Err(error)) => Err(error).with_context(|| what.to_owned()),
            Err(_) => bail!("{what} took longer than {limit:?}:\n{}", tail(log)),
        }
    }

    /// Whether the fleet was asked to stop.
    pub(super) fn stopping(&self) -> &CancellationToken {
        &self.inner.stop
    }

    /// Ends everything and notes it.
    pub(super) async fn stop(&self, state: FleetState, message: &str) -> anyhow::Result<()> {
        self.inner.stop.cancel();
        self.inner.tasks.close();
        let fleet = self.fleet();
        let mut swept = super::sweep::sweep(&self.inner.layout, Some(&fleet)).await;
        // A daemon spawned in the same instant was not in the record yet: look again until every keeper is done.
        while swept.is_ok() && tokio::time::timeout(REAP, self.inner.tasks.wait()).await.is_err() {
            swept = super::sweep::sweep(&self.inner.layout, Some(&self.fleet())).await;
        }
        self.reap_orphans();
        self.change(|fleet| {
            (fleet.state, fleet.message) = (state, message.to_owned());
            super::sweep::mark_stopped(fleet);
        })?;
        swept
    }

    /// Waits for children that nobody else waits for: instances whose helper died came to us.
    fn reap_orphans(&self) {
        let known = guard(&self.inner.known);
        let Ok(tasks) = procfs::process::Process::myself().and_then(|own| own.tasks()) else { return };
        let children = tasks.flatten().filter_map(|task| task.children().ok()).flatten();
        for pid in children.filter(|pid| !known.contains(pid)) {
            let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { continue };
            // Still running ones give `None`, ones reaped elsewhere an error; both are fine.
            let _ = rustix::process::waitpid(Some(pid), WaitOptions::NOHANG);
        }
    }
}

/// One line of progress, on stderr (the supervisor's log when it runs in the background).
pub(super) fn say(text: &str) {
    use std::io::Write as _;
    // A closed terminal must not end the fleet.
    let _ = writeln!(std::io::stderr(), "{} {text}", jiff::Zoned::now().strftime("%H:%M:%S%.3f"));
}

fn open_log(path: &Path) -> anyhow::Result<std::fs::File> {
    let doing = || format!("cannot open {}", path.display());
    if std::fs::metadata(path).is_ok_and(|meta| meta.len() > MAX_LOG_BYTES) {
        std::fs::rename(path, path.with_extension("log.1")).with_context(doing)?;
    }
    OpenOptions::new().create(true).append(true).open(path).with_context(doing)
}

/// The end of a log, for an error message.
pub(super) fn tail(path: &Path) -> String {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) if bytes.is_empty() => format!("  ({} is empty)", path.display()),
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let lines: Vec<&str> = text.lines().collect();
            let from = lines.len().saturating_sub(20);
            lines[from..].iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
        }
        Err(error) => format!("  ({}: {error})", path.display()),
    }
}
