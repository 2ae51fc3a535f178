//! Runs a load under the shim, ends it, builds what a power cut may leave, and has each state checked in a process of
//! its own.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::place::{CUTS, Place};
use super::rng::Rng;
use super::shim::{Fault, arm};

/// Longest a process may be silent: far above any open or commit, on two busy cores.
const SILENCE: Duration = Duration::from_secs(90);
/// Bytes of standard error kept of a process.
const SAID: u64 = 4000;
/// Examples of each kind of failure kept in a tally.
const EXAMPLES: usize = 5;

/// What a load has been told is durable.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// Last acknowledged step of each writer.
    pub acked: Vec<u64>,
    /// The store was there once.
    pub formatted: bool,
}

impl Progress {
    fn read(&mut self, line: &str) -> bool {
        let mut words = line.split(' ');
        match (words.next(), words.next().and_then(|w| w.parse::<usize>().ok()), words.next()) {
            (Some("ack"), Some(writer), Some(step)) => {
                if let (Some(slot), Ok(step)) = (self.acked.get_mut(writer), step.parse()) {
                    *slot = step;
                }
                self.formatted = true;
                true
            }
            (Some("formatted"), _, _) => {
                self.formatted = true;
                false
            }
            _ => false,
        }
    }
}

/// A load and its check, each a process.
pub trait Subject: Sync {
    /// For the report.
    fn name(&self) -> &str;
    /// Writers it has.
    fn writers(&self) -> usize;
    /// What must be there before the first load; durable when that begins.
    fn prepare(&self, _root: &Path) {}
    /// Most acknowledgements before a load is killed: slow steps need fewer.
    fn most_acks(&self) -> u64 {
        200
    }
    /// The load in `root`, from `progress` on.
    fn work(&self, root: &Path, seed: u64, progress: &Progress) -> Command;
    /// The check of `root`, which prints one line of [`super::store_load::Found::line`].
    fn verify(&self, root: &Path, seed: u64, progress: &Progress) -> Command;
}

/// A subject of two processes that take their arguments as the loads in this folder do.
#[derive(Debug, Clone)]
pub struct Own {
    /// For the report.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// `store` or `log`.
    pub load: &'static str,
    /// Steps after which the load ends by itself.
    pub until: u64,
    /// Writers at once; the member's store has one.
    pub writers: usize,
}

impl Own {
    /// The wrapper alone, in this very program.
    ///
    /// # Panics
    /// When the program has no path.
    #[must_use]
    pub fn wrapper() -> Self {
        let program = std::env::current_exe().expect("a test knows its own path");
        let writers = usize::try_from(super::store_load::THREADS).unwrap_or(1);
        Self { name: "wrapper alone".to_owned(), program, load: "store", until: u64::MAX, writers }
    }

    /// A member's store, in this very program.
    #[must_use]
    pub fn member_store() -> Self {
        Self { name: "member's store".to_owned(), load: "log", writers: 1, ..Self::wrapper() }
    }

    fn command(&self, word: &str, root: &Path, seed: u64) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(format!("{}-{word}", self.load)).arg(root.join("s")).arg(seed.to_string());
        command
    }
}

impl Subject for Own {
    fn name(&self) -> &str {
        &self.name
    }

    fn writers(&self) -> usize {
        self.writers
    }

    fn work(&self, root: &Path, seed: u64, progress: &Progress) -> Command {
        let mut command = self.command("work", root, seed);
        match self.load {
            "store" => command.arg(self.writers.to_string()),
            _ => command.arg(progress.acked.first().copied().unwrap_or(0).to_string()),
        };
        command.arg(self.until.to_string());
        command
    }

    fn verify(&self, root: &Path, seed: u64, progress: &Progress) -> Command {
        let mut command = self.command("verify", root, seed);
        command.args(progress.acked.iter().map(u64::to_string));
        if self.load == "log" {
            command.arg(u8::from(progress.formatted).to_string());
        }
        command
    }
}

/// How a process ended, and what it said.
#[derive(Debug)]
pub struct Ended {
    /// Its status; `None` when it was silent too long and was ended.
    pub status: Option<ExitStatus>,
    /// Lines of standard output.
    pub lines: Vec<String>,
    /// The beginning of standard error.
    pub said: String,
}

impl Ended {
    /// Exit code, or the signal that ended it.
    #[must_use]
    pub fn how(&self) -> String {
        match self.status {
            None => "hung".to_owned(),
            Some(status) => match (status.code(), status.signal()) {
                (Some(code), _) => format!("exit {code}"),
                (None, signal) => format!("signal {}", signal.unwrap_or(0)),
            },
        }
    }
}

struct Running {
    child: Child,
    lines: Receiver<String>,
    said: std::thread::JoinHandle<String>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program can be run");
        let out = child.stdout.take().expect("it is piped");
        let mut err = child.stderr.take().expect("it is piped");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let said = std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = (&mut err).take(SAID).read_to_end(&mut text); // what was read so far is enough
            let _ = std::io::copy(&mut err, &mut std::io::sink()); // a full pipe would block it
            String::from_utf8_lossy(&text).into_owned()
        });
        Self { child, lines, said }
    }

    /// The whole group: a probe is a part of it.
    fn kill(&self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(pid, Signal::KILL); // gone already
        }
    }

    fn end(mut self, mut lines: Vec<String>, hung: bool) -> Ended {
        let status = self.child.wait().expect("it is our child");
        lines.extend(self.lines.iter());
        let said = self.said.join().unwrap_or_default();
        Ended { status: (!hung).then_some(status), lines, said }
    }
}

/// Runs a process to its end.
#[must_use]
pub fn finish(command: Command) -> Ended {
    let running = Running::start(command);
    let mut lines = Vec::new();
    let mut hung = false;
    loop {
        match running.lines.recv_timeout(SILENCE) {
            Ok(line) => lines.push(line),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                hung = true;
                running.kill();
            }
        }
    }
    running.end(lines, hung)
}

/// Runs a load under the shim until it has said `acks` acknowledgements (`None`: to its end), a little longer, and kills
/// it. `progress` then holds all it was told.
pub fn load(
    subject: &dyn Subject,
    place: &Place,
    seed: u64,
    progress: &mut Progress,
    fault: &Fault,
    acks: Option<(u64, Duration)>,
) -> Ended {
    progress.acked.resize(subject.writers(), 0);
    let mut command = subject.work(&place.root(), seed, progress);
    arm(&mut command, place, fault);
    let running = Running::start(command);
    let (mut lines, mut seen, mut hung) = (Vec::new(), 0, false);
    loop {
        match running.lines.recv_timeout(SILENCE) {
            Ok(line) => {
                seen += u64::from(progress.read(&line));
                lines.push(line);
                if let Some((wanted, longer)) = acks.filter(|(wanted, _)| seen >= *wanted) {
                    // Not a wait for anything: the moment of death, some microseconds into the next step.
                    let moment = Instant::now() + longer;
                    while Instant::now() < moment && wanted > 0 {
                        std::hint::spin_loop();
                    }
                    break;
                }
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                hung = true;
                break;
            }
        }
    }
    if acks.is_some() || hung {
        running.kill();
    }
    let told = lines.len();
    let ended = running.end(lines, hung);
    for line in ended.lines.iter().skip(told) {
        progress.read(line);
    }
    ended
}

/// What the check of one state found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// All there; where the writers are now.
    Whole(Vec<u64>),
    /// Acknowledged data gone.
    Lost(String),
    /// A part of a batch.
    Torn(String),
    /// Nothing that was promised is gone, but a spare copy is.
    Repaired(String),
    /// Refused with a sentence.
    Refused(String),
    /// Ended without a sentence.
    Broken(String),
}

/// Checks a state in a process of its own.
#[must_use]
pub fn check(subject: &dyn Subject, state: &Path, seed: u64, progress: &Progress) -> Verdict {
    let ended = finish(subject.verify(state, seed, progress));
    let line = ended.lines.last().cloned().unwrap_or_default();
    let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
    match word {
        _ if ended.how() != "exit 0" => Verdict::Broken(format!("{}: {}", ended.how(), ended.said)),
        "whole" => Verdict::Whole(rest.split(' ').filter_map(|n| n.parse().ok()).collect()),
        "lost" => Verdict::Lost(rest.to_owned()),
        "torn" => Verdict::Torn(rest.to_owned()),
        "repaired" => Verdict::Repaired(rest.to_owned()),
        "refused" if !rest.is_empty() => Verdict::Refused(rest.to_owned()),
        _ => Verdict::Broken(format!("it said {line:?} and {:?}", ended.said)),
    }
}

/// The figures of many states.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Loads ended.
    pub loads: u64,
    /// Acknowledged steps.
    pub acked: u64,
    /// States checked.
    pub states: u64,
    /// Of these, with acknowledged data gone.
    pub lost: u64,
    /// With a part of a batch.
    pub torn: u64,
    /// Refused with a sentence.
    pub refused: u64,
    /// Ended without a sentence.
    pub broken: u64,
    /// Some of what went wrong.
    pub examples: Vec<String>,
}

impl Tally {
    /// Counts one verdict.
    pub fn add(&mut self, verdict: &Verdict, what: &str) {
        self.states += 1;
        let slot = match verdict {
            Verdict::Whole(_) => return,
            // After a power cut also a spare copy must be there: it was told to be.
            Verdict::Lost(_) | Verdict::Repaired(_) => &mut self.lost,
            Verdict::Torn(_) => &mut self.torn,
            Verdict::Refused(_) => &mut self.refused,
            Verdict::Broken(_) => &mut self.broken,
        };
        *slot += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(format!("{what}: {verdict:?}").chars().take(400).collect());
        }
    }

    /// Whether anything was found.
    #[must_use]
    pub fn clean(&self) -> bool {
        self.lost + self.torn + self.refused + self.broken == 0
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { loads, acked, states, lost, torn, refused, broken, .. } = self;
        write!(
            f,
            "{loads} loads, {acked} acknowledged, {states} states: {lost} lost, {torn} torn, {refused} refused, \
             {broken} without a word"
        )
    }
}

/// How many states, and what is wrong with the barriers.
#[derive(Debug, Clone)]
pub struct Plan {
    /// States to check.
    pub states: u64,
    /// Seed of the first round.
    pub seed: u64,
    /// Crashes in a row in one place: what a crash leaves is written on and crashes again.
    pub generations: u64,
    /// The shim's orders.
    pub fault: Fault,
    /// End at the first finding.
    pub stop_at_first: bool,
}

/// Checks `plan.states` states, two loads at a time.
#[must_use]
pub fn sweep(subject: &dyn Subject, plan: &Plan) -> Tally {
    let (tally, next) = (Mutex::new(Tally::default()), AtomicU64::new(0));
    let per_round = plan.generations * CUTS.len() as u64;
    let rounds = plan.states.div_ceil(per_round);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let round = next.fetch_add(1, Ordering::Relaxed);
                    let done =
                        plan.stop_at_first && !tally.lock().unwrap_or_else(PoisonError::into_inner).clean();
                    if round >= rounds || done {
                        break;
                    }
                    one_round(subject, plan, plan.seed.wrapping_add(round), &tally);
                }
            });
        }
    });
    tally.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn one_round(subject: &dyn Subject, plan: &Plan, seed: u64, tally: &Mutex<Tally>) {
    let place = Place::new();
    subject.prepare(&place.root());
    place.settle();
    let mut rng = Rng::new(seed, 0x000C_0A5E);
    let mut progress = Progress::default();
    for generation in 0..plan.generations {
        let before: u64 = progress.acked.iter().sum();
        let most = if rng.chance(300) { 10 } else { subject.most_acks() };
        let acks = 1 + rng.below(most);
        let longer = Duration::from_micros(rng.below(3000));
        let ended = load(subject, &place, seed, &mut progress, &plan.fault, Some((acks, longer)));
        let after: u64 = progress.acked.iter().sum();
        let mut next = None;
        for (n, cut) in CUTS.into_iter().enumerate() {
            let state = place.beside(&format!("state-{n}"));
            place.cut(cut, &mut rng, &state);
            let verdict = check(subject, &state, seed, &progress);
            let what = format!("{} seed {seed} generation {generation} {cut:?}", subject.name());
            tally.lock().unwrap_or_else(PoisonError::into_inner).add(&verdict, &what);
            if let Verdict::Whole(at) = verdict
                && (next.is_none() || rng.chance(300))
            {
                next = Some((state, at));
            }
        }
        {
            let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
            tally.loads += 1;
            tally.acked += after.saturating_sub(before);
            if ended.status.is_none() || ended.how().starts_with("exit") {
                let how = format!("seed {seed}: the load ended by itself: {} {}", ended.how(), ended.said);
                tally.add(&Verdict::Broken(how), subject.name());
            }
        }
        let Some((state, at)) = next else { return };
        place.restart_from(&state);
        progress = Progress { acked: at, formatted: true };
    }
}

/// Arguments of this process, for a `main` that may be one of the loads.
#[must_use]
pub fn arguments() -> Vec<OsString> {
    std::env::args_os().skip(1).collect()
}
