//! Runs one program: argv and never a shell, a deadline, its own process group, bounded capture (reliability.md B-17).

use std::collections::{BTreeMap, VecDeque};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::sync::CancellationToken;

use super::held::Family;
use super::{HostError, KILL_GRACE, proc};

/// Kept of each stream: the first and the last 32 KiB, 64 KiB in all.
pub const CAPTURE_HALF_BYTES: usize = 32 * 1024;
/// Most arguments and longest argument; the kernel's own limits are far higher, a typed template needs far less.
pub const ARGS_MAX: usize = 256;
/// Longest single argument or variable.
pub const ARG_MAX_BYTES: usize = 16 * 1024;
/// Variable that marks the program and what it leaves behind.
const MARK_VARIABLE: &str = "QUORATE_EXEC";
/// How long after the main process ended its pipes may stay open, for output of children that end with it.
const DRAIN_WAIT: Duration = Duration::from_millis(500);

/// What to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecSpec {
    /// Program (absolute path) and arguments.
    pub argv: Vec<String>,
    /// The whole environment; nothing of ours is passed on.
    pub env: BTreeMap<String, String>,
    /// Working folder; `/` when `None`.
    pub cwd: Option<PathBuf>,
    /// Longest time it may run.
    pub deadline: Duration,
}

/// How it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExecEnd {
    /// Exit code.
    Code(i32),
    /// Killed by a signal, not by us.
    Signal(i32),
    /// Killed by us at the deadline.
    #[default]
    TimedOut,
}

/// One captured stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capture {
    /// The first bytes.
    pub head: Vec<u8>,
    /// The last bytes, when there were more than fit in `head`.
    pub tail: Vec<u8>,
    /// All bytes that were written.
    pub total_bytes: u64,
    /// sha256 of all bytes, lower-case hex.
    pub sha256: String,
    /// Bytes are missing between `head` and `tail`.
    pub truncated: bool,
}

impl Capture {
    /// At most `limit` bytes of its end as text, invalid UTF-8 replaced.
    #[must_use]
    pub fn tail_text(&self, limit: usize) -> String {
        let all: Vec<u8> = if self.truncated {
            self.tail.clone()
        } else {
            [self.head.as_slice(), self.tail.as_slice()].concat()
        };
        let from = all.len().saturating_sub(limit);
        let mut text = String::from_utf8_lossy(&all[from..]).into_owned();
        // A replacement character is longer than the byte it stands for.
        while text.len() > limit {
            text.remove(0);
        }
        text
    }
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecOutcome {
    /// How it ended.
    pub end: ExecEnd,
    /// Standard output.
    pub stdout: Capture,
    /// Standard error.
    pub stderr: Capture,
    /// Processes it left behind, killed, as `pid name`; at most 64.
    pub leftovers: Vec<String>,
    /// How long it ran, in milliseconds.
    pub took_ms: u64,
}

impl ExecOutcome {
    /// Exit code 0 and nothing left behind.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.end == ExecEnd::Code(0)
    }
}

/// Lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, b| {
        let _ = write!(text, "{b:02x}"); // writing to a String can not fail
        text
    })
}

fn check(spec: &ExecSpec) -> Result<(), HostError> {
    let invalid = |why| {
        Err(HostError::InvalidPath { path: spec.argv.first().map(PathBuf::from).unwrap_or_default(), why })
    };
    if spec.argv.is_empty() {
        return invalid("argv is empty");
    }
    if !spec.argv[0].starts_with('/') {
        return invalid("the program must be an absolute path");
    }
    if spec.argv.len() > ARGS_MAX || spec.env.len() > ARGS_MAX {
        return Err(HostError::TooMany { what: "arguments or variables", limit: ARGS_MAX as u64 });
    }
    let bad = |s: &String| s.len() > ARG_MAX_BYTES || s.contains('\0');
    if spec.argv.iter().any(bad)
        || spec.env.iter().any(|(k, v)| bad(k) || bad(v) || k.is_empty() || k.contains('='))
    {
        return invalid("an argument or variable is too long, holds a NUL, or has no proper name");
    }
    Ok(())
}

/// Runs it to its end or its deadline. A caller that stops waiting does not end it before its time; nothing of it is
/// left when this returns.
///
/// # Errors
/// When it can not be started, or its rest can not be killed. A bad exit or the deadline is an outcome, not an error.
pub async fn run(spec: &ExecSpec) -> Result<ExecOutcome, HostError> {
    run_until(spec, CancellationToken::new()).await
}

/// As [`run`]; canceled, it ends the program with everything it started and says `TimedOut`.
///
/// # Errors
/// As [`run`].
pub async fn run_until(spec: &ExecSpec, cancel: CancellationToken) -> Result<ExecOutcome, HostError> {
    check(spec)?;
    let spec = spec.clone();
    match tokio::spawn(async move { run_whole(spec, cancel).await }).await {
        Ok(outcome) => outcome,
        Err(e) => {
            Err(HostError::Io { what: "a program run ended early".into(), source: std::io::Error::other(e) })
        }
    }
}

/// Kills every process whose environment has an entry that begins with this, with all that they started. For what an earlier
/// life of this process may have left running.
///
/// # Errors
/// When processes can not be listed, or will not die.
pub async fn end_marked(entry: &str) -> Result<Vec<String>, HostError> {
    let family = Family { group: 0, leader_began: 0, mark: entry.as_bytes().to_vec() };
    let (killed, left) = family
        .kill(KILL_GRACE)
        .await
        .map_err(HostError::io("can not end what an earlier run left behind"))?;
    if left.is_empty() {
        return Ok(killed);
    }
    let after_ms = u64::try_from(KILL_GRACE.as_millis()).unwrap_or(u64::MAX);
    Err(HostError::Timeout { what: format!("SIGKILL of {}", left.join(", ")), after_ms })
}

async fn run_whole(spec: ExecSpec, cancel: CancellationToken) -> Result<ExecOutcome, HostError> {
    let began = Instant::now();
    let what = || format!("can not run {}", spec.argv[0]); // `check` refused an empty argv
    let mark = uuid::Uuid::new_v4().simple().to_string();
    let mut command = tokio::process::Command::new(&spec.argv[0]);
    command.args(&spec.argv[1..]).env_clear().envs(&spec.env).env(MARK_VARIABLE, &mark);
    command.current_dir(spec.cwd.as_deref().unwrap_or(std::path::Path::new("/")));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.process_group(0).kill_on_drop(true);
    let mut child = command.spawn().map_err(HostError::io(what()))?;
    let group = child.id().unwrap_or(0);
    let leader_began = proc::stat(group).ok().flatten().map_or(0, |s| s.start_ticks);
    let family = Family { group, leader_began, mark: format!("{MARK_VARIABLE}={mark}").into_bytes() };
    let (stdout, mut out_done) = collect(child.stdout.take());
    let (stderr, mut err_done) = collect(child.stderr.take());
    let end = tokio::select! {
        status = child.wait() => end_of(status.map_err(HostError::io(what()))?),
        () = tokio::time::sleep(spec.deadline) => ExecEnd::TimedOut,
        () = cancel.cancelled() => ExecEnd::TimedOut,
    };
    let mut leftovers = Vec::new();
    if end == ExecEnd::TimedOut {
        // Not reaped yet, so the family includes the program itself.
        leftovers = end_family(&family, &spec).await?;
        let own = format!("{group} ");
        leftovers.retain(|name| !name.starts_with(&own));
        let reaped = tokio::time::timeout(KILL_GRACE, child.wait()).await;
        reaped.map_err(|_| not_killed(&spec))?.map_err(HostError::io(what()))?;
    }
    let both = async { (&mut out_done).await.is_ok() & (&mut err_done).await.is_ok() };
    let drained = tokio::time::timeout(DRAIN_WAIT, both).await.is_ok();
    leftovers.extend(end_family(&family, &spec).await?);
    if !drained {
        // With every writer gone the pipes end at once; a bound all the same, for a writer that hid itself.
        let both = async { (&mut out_done).await.is_ok() & (&mut err_done).await.is_ok() };
        let _ = tokio::time::timeout(DRAIN_WAIT, both).await;
        out_done.abort();
        err_done.abort();
    }
    Ok(ExecOutcome {
        end,
        stdout: finish(&stdout),
        stderr: finish(&stderr),
        leftovers,
        took_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

fn not_killed(spec: &ExecSpec) -> HostError {
    let after_ms = u64::try_from(KILL_GRACE.as_millis()).unwrap_or(u64::MAX);
    HostError::Timeout { what: format!("SIGKILL of {}", spec.argv[0]), after_ms } // `check` refused an empty argv
}

async fn end_family(family: &Family, spec: &ExecSpec) -> Result<Vec<String>, HostError> {
    let (killed, left) =
        family.kill(KILL_GRACE).await.map_err(HostError::io("can not end what a program left behind"))?;
    if left.is_empty() { Ok(killed) } else { Err(not_killed(spec)) }
}

fn end_of(status: std::process::ExitStatus) -> ExecEnd {
    match (status.code(), status.signal()) {
        (Some(code), _) => ExecEnd::Code(code),
        (None, signal) => ExecEnd::Signal(signal.unwrap_or(0)),
    }
}

/// A stream as it is read: the first half kept, of the rest the last half.
#[derive(Default)]
struct Collector {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    total: u64,
    hash: Sha256,
}

impl Collector {
    fn take(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.total = self.total.saturating_add(bytes.len() as u64);
        let room = CAPTURE_HALF_BYTES.saturating_sub(self.head.len()).min(bytes.len());
        let (first, rest) = bytes.split_at(room);
        self.head.extend_from_slice(first);
        let rest = &rest[rest.len().saturating_sub(CAPTURE_HALF_BYTES)..];
        let excess = (self.tail.len() + rest.len()).saturating_sub(CAPTURE_HALF_BYTES);
        self.tail.drain(..excess);
        self.tail.extend(rest);
    }
}

type Shared = Arc<Mutex<Collector>>;

/// Reads a stream in a task of its own, so that what was read is kept whatever becomes of the program.
fn collect<R>(stream: Option<R>) -> (Shared, tokio::task::JoinHandle<()>)
where
    R: AsyncRead + Unpin + Send + 'static,
{
    let shared = Shared::default();
    let into = Arc::clone(&shared);
    let task = tokio::spawn(async move {
        let Some(mut stream) = stream else { return };
        let mut buffer = vec![0_u8; 16 * 1024];
        while let Ok(n @ 1..) = stream.read(&mut buffer).await {
            into.lock().unwrap_or_else(PoisonError::into_inner).take(&buffer[..n]);
        }
    });
    (shared, task)
}

fn finish(shared: &Shared) -> Capture {
    let collector = std::mem::take(&mut *shared.lock().unwrap_or_else(PoisonError::into_inner));
    let kept = (collector.head.len() + collector.tail.len()) as u64;
    Capture {
        head: collector.head,
        tail: collector.tail.into(),
        total_bytes: collector.total,
        sha256: hex(&collector.hash.finalize()),
        truncated: kept < collector.total,
    }
}

#[cfg(test)]
mod tests;
