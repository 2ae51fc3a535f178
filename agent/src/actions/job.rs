//! Long blocking work on a thread of its own: cancelable, bounded in time, paced, polite.

use std::sync::Arc;
use std::time::Duration;

use quorate_model::DurationMs;
use tokio_util::sync::CancellationToken;

use super::{ActionContext, ActionError, Clock, Progress};
use crate::host::{clock, dir};

/// Time between two progress calls, so that a fast disk does not flood the session.
const REPORT_EVERY: DurationMs = DurationMs(250);
/// Longest single wait of the pacing, so that a cancel is noticed soon.
const PACE_MAX: Duration = Duration::from_millis(100);

/// What blocking code asks between two pieces of work.
pub(super) struct Job {
    cancel: CancellationToken,
    clock: Arc<dyn Clock>,
    report: Arc<dyn Fn(Progress) + Send + Sync>,
    doing: &'static str,
    deadline: DurationMs,
    bytes_per_sec: u64,
    begun: DurationMs,
    reported: DurationMs,
    done_bytes: u64,
    total_bytes: u64,
}

impl Job {
    fn new(context: &ActionContext, cancel: CancellationToken, task: &Task) -> Self {
        let now = context.clock.monotonic();
        Self {
            cancel,
            clock: Arc::clone(&context.clock),
            report: Arc::clone(&context.progress),
            doing: task.doing,
            deadline: task.deadline.min(context.deadline),
            bytes_per_sec: task.bytes_per_sec,
            begun: now,
            reported: now,
            done_bytes: 0,
            total_bytes: task.total_bytes,
        }
    }

    /// Refuses to go on when canceled or late.
    pub(super) fn check(&self) -> Result<(), ActionError> {
        if self.cancel.is_cancelled() {
            return Err(ActionError::Canceled(self.doing));
        }
        if self.clock.monotonic() >= self.deadline {
            return Err(ActionError::DeadlineExceeded(self.doing));
        }
        Ok(())
    }

    /// Counts work that was done, keeps the pace, and checks.
    pub(super) fn worked(&mut self, bytes: u64) -> Result<(), ActionError> {
        self.done_bytes = self.done_bytes.saturating_add(bytes);
        self.check()?;
        let now = self.clock.monotonic();
        if now.minus(self.reported) >= REPORT_EVERY {
            self.reported = now;
            let (doing, done_bytes, total_bytes) = (self.doing, self.done_bytes, self.total_bytes);
            (self.report)(Progress { doing, done_bytes, total_bytes });
        }
        while let Some(wait) = self.ahead() {
            std::thread::sleep(wait);
            self.check()?;
        }
        Ok(())
    }

    /// How long to wait for the rate to allow what was done.
    fn ahead(&self) -> Option<Duration> {
        let due_ms = self.done_bytes.saturating_mul(1_000).checked_div(self.bytes_per_sec)?;
        let gone_ms = self.clock.monotonic().minus(self.begun).0;
        let wait = Duration::from_millis(due_ms.saturating_sub(gone_ms)).min(PACE_MAX);
        (!wait.is_zero()).then_some(wait)
    }
}

/// A piece of blocking work.
pub(super) struct Task {
    /// What it is, for messages.
    pub(super) doing: &'static str,
    /// Reading of the monotonic clock at which it must be over; the context's deadline holds as well.
    pub(super) deadline: DurationMs,
    /// Bytes per second, 0 for no limit.
    pub(super) bytes_per_sec: u64,
    /// Bytes in all, 0 when not known.
    pub(super) total_bytes: u64,
}

impl Task {
    /// Work bounded by nothing but the context.
    pub(super) const fn new(doing: &'static str) -> Self {
        Self { doing, deadline: DurationMs(u64::MAX), bytes_per_sec: 0, total_bytes: 0 }
    }
}

/// Runs blocking work on its own thread, since the niceness of a pooled thread could never be taken back, and waits for it.
///
/// A dropped future cancels the work.
pub(super) async fn on_thread<T: Send + 'static>(
    context: &ActionContext,
    task: Task,
    work: impl FnOnce(&mut Job) -> Result<T, ActionError> + Send + 'static,
) -> Result<T, ActionError> {
    let cancel = context.cancel.child_token();
    let _guard = cancel.clone().drop_guard();
    let mut job = Job::new(context, cancel, &task);
    if clock::is_simulated() {
        // On the spot and in no time: when a thread of its own would end, no seed decides.
        return job.check().and_then(|()| work(&mut job));
    }
    let nice = context.limits.nice;
    let (tell, told) = tokio::sync::oneshot::channel();
    let doing = task.doing;
    std::thread::Builder::new()
        .name("action".to_owned())
        .spawn(move || {
            if nice > 0 {
                // Only politeness: a kernel that refuses it does not make the work wrong.
                let _ = dir::be_nice(nice);
            }
            let result = job.check().and_then(|()| work(&mut job));
            // The waiter is gone only when the future was dropped; the work itself has ended either way.
            let _ = tell.send(result);
        })
        .map_err(|e| ActionError::io("starting a thread for", doing, e))?;
    told.await.unwrap_or_else(|_| {
        let source = std::io::Error::other("the thread ended without a result");
        Err(ActionError::io("waiting for", doing, source))
    })
}

#[cfg(test)]
impl Job {
    /// A job that nothing bounds.
    pub(super) fn for_tests(context: &ActionContext) -> Self {
        Self::new(context, context.cancel.clone(), &Task::new("testing"))
    }
}
