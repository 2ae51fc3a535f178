//! The supervisor: one per DIR, in the foreground or in the background.

use std::fs::File;
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};

use super::bring_up::{BringUp, Programs};
use super::config::CliConfig;
use super::daemon::{Keeper, say};
use super::fleet::{Fleet, FleetState, Supervisor};
use super::layout::Layout;
use super::process::Identity;
use super::sweep;

/// Longest time until the fleet is ready.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// After the limit each wait says what it waited for; only one that hangs is cut off without a word.
const LAST_WORD: Duration = Duration::from_secs(5);
/// What the background process may take beyond that to clean up after a failure.
const CLEANUP_LIMIT: Duration = Duration::from_secs(40);
/// How often the waiting front looks at the background's log and state.
const LOOK: Duration = Duration::from_millis(50);
/// Wrong usage, or a fleet is running there already (contract: exit codes).
const USAGE: u8 = 2;

/// What fleet to run.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    pub(super) dir: PathBuf,
    /// `None`: as many as the fleet in DIR has, else the default.
    pub(super) coordinators: Option<usize>,
    pub(super) agents: Option<usize>,
    /// Names of coordinators, and what others are told to call them at. Only of a new fleet: it is in its membership.
    pub(super) advertise: Vec<(String, String)>,
    pub(super) spares: u8,
    /// The sample pair, too. Only of a new fleet.
    pub(super) pair: bool,
}

const DEFAULT_COORDINATORS: usize = 3;
const DEFAULT_AGENTS: usize = 5;

/// Refusals that changed nothing, as exit code 2.
pub(super) fn refuse(why: &str) -> ExitCode {
    eprintln!("error: {why}");
    ExitCode::from(USAGE)
}

/// The lock of a DIR, or `None` when its supervisor lives. The kernel frees it however the holder ends.
fn lock(layout: &Layout) -> anyhow::Result<Option<File>> {
    let path = layout.lock_file();
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

fn running_already(layout: &Layout) -> ExitCode {
    let pid = Fleet::load(layout).ok().flatten().map_or(0, |fleet| fleet.supervisor.supervisor_pid);
    let dir = layout.dir().display();
    refuse(&format!(
        "a fleet is running in {dir} (supervisor pid {pid})\nhint: quorate dev stop --dir {dir}, or another --dir"
    ))
}

/// The fleet that DIR holds or shall hold; the error is a refusal.
fn fleet_of(layout: &Layout, wish: &Wish) -> anyhow::Result<(Fleet, bool)> {
    let Some(mut fleet) = Fleet::load(layout)? else {
        let coordinators = wish.coordinators.unwrap_or(DEFAULT_COORDINATORS);
        let agents = wish.agents.unwrap_or(DEFAULT_AGENTS);
        let mut fleet = Fleet::plan(layout, coordinators, agents, usize::from(wish.spares))?;
        for (name, address) in &wish.advertise {
            let member = fleet.coordinators.iter_mut().find(|member| member.name == *name);
            member.with_context(|| format!("there is no coordinator {name}"))?.advertise =
                Some(address.clone());
        }
        if wish.pair {
            fleet.plan_pair(layout)?;
        }
        return Ok((fleet, false));
    };
    let (coordinators, agents) = (fleet.coordinators.len(), fleet.agents.len());
    if wish.coordinators.is_some_and(|wished| wished != coordinators)
        || wish.agents.is_some_and(|wished| wished != agents)
    {
        let dir = layout.dir().display();
        bail!(
            "{dir} holds a fleet of {coordinators} coordinators and {agents} agents; leave the numbers out, or use another --dir"
        );
    }
    if wish.pair && fleet.pair.is_empty() {
        bail!("{} holds a fleet without the pair; use another --dir", layout.dir().display());
    }
    fleet.repick()?;
    Ok((fleet, true))
}

/// What happens once the fleet is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// It runs until SIGTERM.
    Background,
    /// It runs until Ctrl-C or the terminal is closed.
    Foreground,
    /// First the demonstration, then as in the foreground.
    Demo,
}

/// `quorate dev` without `--detach`.
///
/// # Errors
/// As [`run`].
pub(super) async fn foreground(wish: &Wish, demo: bool) -> anyhow::Result<ExitCode> {
    run(wish, if demo { Mode::Demo } else { Mode::Foreground }).await
}

/// Runs the fleet until a signal.
///
/// # Errors
/// What failed, with the end of the log that tells why. Everything started is ended before.
async fn run(wish: &Wish, mode: Mode) -> anyhow::Result<ExitCode> {
    let programs = match Programs::find() {
        Ok(programs) => programs,
        Err(error) => return Ok(refuse(&format!("{error:#}"))),
    };
    let layout = Layout::create(&wish.dir)?;
    let Some(_lock) = lock(&layout)? else { return Ok(running_already(&layout)) };
    let left = Fleet::load(&layout)?;
    if !sweep::running(&layout, left.as_ref())?.is_empty() {
        say("processes of a fleet without its supervisor are still there; ending them first");
        sweep::sweep(&layout, left.as_ref()).await?;
    }
    let (mut fleet, resumed) = match fleet_of(&layout, wish) {
        Ok(found) => found,
        Err(error) => return Ok(refuse(&format!("{error:#}"))),
    };
    let own = Identity::of(std::process::id()).context("cannot read /proc")?;
    sweep::mark_stopped(&mut fleet);
    fleet.supervisor = Supervisor {
        supervisor_pid: own.pid,
        supervisor_start: own.start,
        boot_id: super::process::boot_id(),
    };
    (fleet.state, fleet.message) = (FleetState::Starting, String::new());
    fleet.save(&layout)?;
    let dir = layout.dir().display();
    say(&format!("{} the fleet in {dir}", if resumed { "resuming" } else { "creating" }));
    let keeper = Keeper::new(layout.clone(), fleet)?;
    let watched = watch(&layout, &keeper, &programs, mode).await;
    let (state, message) = match &watched {
        Ok(_) => (FleetState::Stopped, String::new()),
        Err(error) => (FleetState::Failed, format!("{error:#}")),
    };
    say("stopping");
    keeper.stop(state, &message).await?;
    let _ = std::fs::remove_dir_all(layout.short_dir());
    say("stopped, nothing is left running");
    watched
}

async fn watch(
    layout: &Layout,
    keeper: &Keeper,
    programs: &Programs,
    mode: Mode,
) -> anyhow::Result<ExitCode> {
    let mut ends = Ends::listen(mode)?;
    let begun = Instant::now();
    let bring_up = BringUp { layout, keeper, programs, deadline: begun + READY_LIMIT };
    let up = async {
        tokio::time::timeout(READY_LIMIT + LAST_WORD, bring_up.run())
            .await
            .unwrap_or_else(|_| Err(anyhow::anyhow!("not ready after {READY_LIMIT:?}")))
    };
    tokio::select! {
        up = Box::pin(up) => up?,
        () = ends.next() => return Ok(ExitCode::SUCCESS),
    }
    keeper.change(|fleet| fleet.state = FleetState::Ready)?;
    say(&format!("ready after {:.1} s", begun.elapsed().as_secs_f32()));
    let config = layout.cli_config();
    say(&format!("try: QUORATE_CONFIG={} quorate node list", config.display()));
    let mut verdict = ExitCode::SUCCESS;
    if mode == Mode::Demo {
        let fleet = keeper.fleet();
        let addresses = fleet.coordinators.iter().map(|member| member.grpc.clone()).collect();
        let context =
            CliConfig::new(layout, addresses).contexts.into_values().next().context("one context")?;
        tokio::select! {
            shown = Box::pin(super::demo::run(keeper, &context)) => match shown {
                Ok(shown) => verdict = shown,
                Err(error) => {
                    say(&format!("the demonstration failed: {error:#}"));
                    verdict = ExitCode::FAILURE;
                }
            },
            () = ends.next() => return Ok(ExitCode::FAILURE),
        }
    }
    if mode != Mode::Background {
        say("the fleet stays up; Ctrl-C ends all of it");
    }
    ends.next().await;
    Ok(verdict)
}

/// The signals that end the fleet.
struct Ends {
    terminate: Signals,
    interrupt: Signals,
    hangup: Signals,
    background: bool,
}

impl Ends {
    fn listen(mode: Mode) -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
            background: mode == Mode::Background,
        })
    }

    /// Until one of them comes. SIGHUP is a closed terminal in the foreground and nothing in the background.
    async fn next(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => if !self.background { return },
            }
        }
    }
}

/// Starts a supervisor in the background and waits until the fleet is ready.
///
/// # Errors
/// When the supervisor cannot be started.
pub(super) async fn detach(wish: &Wish) -> anyhow::Result<ExitCode> {
    let layout = Layout::create(&wish.dir)?;
    if lock(&layout)?.is_none() {
        return Ok(running_already(&layout));
    }
    let path = layout.supervisor_log();
    let log = File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut command = tokio::process::Command::new(std::env::current_exe()?);
    command.args(["dev", "supervise", "--dir"]).arg(layout.dir());
    for (flag, count) in [("--coordinators", wish.coordinators), ("--agents", wish.agents)] {
        if let Some(count) = count {
            command.arg(flag).arg(count.to_string());
        }
    }
    if wish.spares > 0 {
        command.arg("--spares").arg(wish.spares.to_string());
    }
    if wish.pair {
        command.arg("--pair");
    }
    for (name, address) in &wish.advertise {
        command.arg("--advertise").arg(format!("{name}={address}"));
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot start the supervisor")?;
    let identity = child.id().and_then(Identity::of);
    let mut shown = 0;
    let deadline = Instant::now() + READY_LIMIT + CLEANUP_LIMIT;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    loop {
        tokio::select! {
            _ = interrupt.recv() => {
                identity.map(|supervisor| supervisor.signal(Signal::TERM));
                child.wait().await?;
                show(&layout, &mut shown);
                return Ok(ExitCode::from(130));
            }
            ended = child.wait() => {
                let code = ended?.code().and_then(|code| u8::try_from(code).ok());
                show(&layout, &mut shown);
                return Ok(ExitCode::from(code.unwrap_or(1)));
            }
            () = tokio::time::sleep(LOOK) => {}
        }
        show(&layout, &mut shown);
        let fleet = Fleet::load(&layout)?;
        let ours = fleet.filter(|fleet| Some(fleet.supervisor.supervisor_pid) == child.id());
        if ours.is_some_and(|fleet| fleet.state == FleetState::Ready) {
            show(&layout, &mut shown);
            return Ok(ExitCode::SUCCESS);
        }
        if Instant::now() >= deadline {
            identity.map(|supervisor| supervisor.signal(Signal::KILL));
            sweep::stop(&layout).await?;
            bail!("the supervisor did not come to an end; see {}", path.display());
        }
    }
}

/// Copies what is new in the supervisor's log to stderr.
fn show(layout: &Layout, shown: &mut usize) {
    use std::io::Write as _;
    // A few dozen lines until ready; the log begins anew with each start.
    let Ok(bytes) = std::fs::read(layout.supervisor_log()) else { return };
    if let Some(fresh) = bytes.get(*shown..) {
        let _ = std::io::stderr().write_all(fresh);
        *shown = bytes.len();
    }
}

/// The background process: its own session, so that a closed terminal or Ctrl-C there does not reach it.
///
/// # Errors
/// As [`run`].
pub(super) async fn background(wish: &Wish) -> anyhow::Result<ExitCode> {
    rustix::process::setsid().context("cannot leave the terminal's session")?;
    run(wish, Mode::Background).await
}
