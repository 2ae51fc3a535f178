//! Obligations: undos that are owed, and the hand that does them when nobody else does (a dead man's switch).
//!
//! An obligation is durable before the disturbance begins. The execution that owes it discharges it in the normal course.
//! When its deadline passes, when the coordinator asks for it, or when the execution is no longer at work (it ended without
//! discharging, or died with an earlier helper), the helper does the undo alone, again and again until it works.
//!
//! An instance that is out of its load balancer's pool is held out beyond the execution that took it out: the restart, the
//! gate and the way back are executions of their own. Its undo waits for its deadline or the coordinators' word, and is done
//! only while the instance is seen to be healthy; the coordinators may also close it undone, when it is not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use quorate_common::task::{Backoff, BackoffPolicy, Entropy, Shutdown};
use quorate_common::with_causes;
use quorate_model::session::ObligationReport;
use quorate_model::{DurationMs, ExecutionId, InstanceId, ObligationId, ObligationState, Reason};
use tokio::sync::Notify;

use super::failpoint;
use super::journal::{Journal, JournalError, Owed, OwedConfig, OwedMaintenance, OwedSilence, OwedTraffic};
use super::owed::{describe, report};
use super::undo::Undoer;
use crate::actions::{Kept, ObligationKeeper, PortError, Silencing, Undo};
use crate::host::clock;

/// An undo that fails is tried again after 1 s, then ever more slowly, and never given up.
const RETRY: BackoffPolicy =
    BackoffPolicy { initial: Duration::from_secs(1), max: Duration::from_secs(60), growth_percent: 200 };
/// Open obligations of one node: one for each disturbance in hand, and changes are serialised.
pub(super) const OWED_MAX: usize = 1_024;

#[derive(Default)]
pub(super) struct Inner {
    pub(super) owed: BTreeMap<ObligationId, Owed>,
    pub(super) wanted: BTreeSet<ObligationId>,
    left_out: BTreeSet<ObligationId>,
    retries: BTreeMap<ObligationId, (Backoff, u64)>,
    at_work: BTreeSet<ExecutionId>,
}

/// All obligations of this node.
pub(super) struct Book {
    pub(super) journal: Journal,
    pub(super) undoer: Undoer,
    /// One at a time: an undo of traffic, and the drain that takes its place.
    turn: tokio::sync::Mutex<()>,
    /// One at a time: whoever changes silences.
    pub(super) silences: Arc<tokio::sync::Mutex<()>>,
    /// One change of what is owed at a time: what is written down is what was read, and nothing done comes back as open.
    pub(super) writing: tokio::sync::Mutex<()>,
    boot_id: String,
    inner: Mutex<Inner>,
    changed: Notify,
    pub(super) extended: Notify,
    /// Told of every change.
    tell: Box<dyn Fn(ObligationReport) + Send + Sync>,
}

impl Book {
    /// Takes over what the journal holds.
    pub(super) fn new(
        journal: Journal,
        undoer: Undoer,
        boot_id: String,
        owed: Vec<(ObligationId, Owed)>,
        tell: impl Fn(ObligationReport) + Send + Sync + 'static,
    ) -> Arc<Self> {
        let inner = Inner { owed: owed.into_iter().collect(), ..Inner::default() };
        let tell = Box::new(tell);
        let (inner, changed) = (Mutex::new(inner), Notify::new());
        let (turn, writing) = (tokio::sync::Mutex::new(()), tokio::sync::Mutex::new(()));
        let (silences, extended) = (Arc::default(), Notify::new());
        Arc::new(Self { journal, undoer, turn, silences, writing, boot_id, inner, changed, extended, tell })
    }

    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        // Every change under this lock is one assignment, so a panic elsewhere leaves nothing half changed.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An execution is at work: what it owes is its own business until the deadline.
    pub(super) fn begins(&self, id: &ExecutionId) {
        self.inner().at_work.insert(id.clone());
    }

    /// An execution is over: what it still owes is ours to do.
    pub(super) fn ends(&self, id: &ExecutionId) {
        self.inner().at_work.remove(id);
        self.changed.notify_one();
    }

    /// The coordinator wants this one done now.
    pub(super) fn want(&self, ids: &[ObligationId]) {
        let mut inner = self.inner();
        let known: Vec<_> = ids.iter().filter(|id| inner.owed.contains_key(id)).cloned().collect();
        inner.wanted.extend(known);
        drop(inner);
        self.changed.notify_one();
    }

    /// The coordinator closes these without their undo: what they keep out is not fit to come back.
    pub(super) fn leave_out(&self, ids: &[ObligationId]) {
        let mut inner = self.inner();
        let known: Vec<_> = ids.iter().filter(|id| inner.owed.contains_key(id)).cloned().collect();
        inner.left_out.extend(known);
        drop(inner);
        self.changed.notify_one();
    }

    /// The coordinators stand for these until then: the host does not do them alone before. Only what is kept beyond its execution
    /// is waited for, and never less long than before.
    ///
    /// # Errors
    /// [`JournalError`].
    pub(super) async fn extend(&self, extended: &[(ObligationId, DurationMs)]) -> Result<(), JournalError> {
        let _writing = self.writing.lock().await;
        for (id, until) in extended {
            let Some(mut owed) = self.inner().owed.get(id).cloned() else { continue };
            let waits = owed.held && is_open(owed.state) && owed.boot_id == self.boot_id && !owed.is_over();
            if !waits || *until <= owed.due_uptime {
                continue;
            }
            owed.due_at = clock::now().plus(until.minus(DurationMs(clock::uptime_ms())));
            owed.due_uptime = *until;
            self.journal.owe(id, &owed).await?;
            tracing::info!(obligation = %id, due = %owed.due_at.utc(), "its operation lives: it is waited for longer");
            self.inner().owed.insert(id.clone(), owed);
        }
        self.changed.notify_one();
        self.extended.notify_one();
        Ok(())
    }

    /// What is owed by an execution and not yet done.
    #[must_use]
    pub(super) fn open_of(&self, execution: &ExecutionId) -> Vec<ObligationId> {
        let inner = self.inner();
        let of = inner.owed.iter().filter(|(_, o)| o.execution == *execution && is_open(o.state));
        of.map(|(id, _)| id.clone()).collect()
    }

    /// Number of obligations that are owed.
    #[must_use]
    pub(super) fn open(&self) -> usize {
        self.inner().owed.values().filter(|owed| is_open(owed.state)).count()
    }

    /// All that was not forgotten yet, as reports.
    #[must_use]
    pub(super) fn reports(&self) -> Vec<ObligationReport> {
        self.inner().owed.iter().map(|(id, owed)| report(id, owed)).collect()
    }

    /// The coordinators keep this state of it: one that is done is forgotten.
    ///
    /// # Errors
    /// [`JournalError`].
    pub(super) async fn confirmed(
        &self,
        id: &ObligationId,
        state: ObligationState,
    ) -> Result<(), JournalError> {
        let done = self.inner().owed.get(id).is_some_and(|o| o.state == state && !is_open(o.state));
        if done {
            self.journal.forget_owed(id).await?;
            let mut inner = self.inner();
            inner.owed.remove(id);
            inner.wanted.remove(id);
            inner.left_out.remove(id);
            inner.retries.remove(id);
        }
        Ok(())
    }

    /// The keeper that an execution's action is given.
    #[must_use]
    pub(super) fn keeper(self: &Arc<Self>, execution: ExecutionId) -> Arc<dyn ObligationKeeper> {
        Arc::new(Keeper { book: Arc::clone(self), execution })
    }

    /// Does what is due until it is told to stop.
    ///
    /// # Errors
    /// [`JournalError`]: what was done can not be written down, so the helper can not go on.
    pub(super) async fn run(self: Arc<Self>, shutdown: Shutdown) -> Result<(), JournalError> {
        let mut entropy = Entropy::from_os();
        loop {
            let (due, wait) = self.due();
            for id in due {
                self.pay(&id, &mut entropy).await?;
            }
            tokio::select! {
                biased;
                () = shutdown.triggered() => return Ok(()),
                () = self.changed.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// What is to be done now, and how long there is nothing else to do.
    ///
    /// What was owed before the host was booted is due at once, also what is held beyond its execution: the clock that its time
    /// was measured with began anew, and the wall clock of a host that has just booted may be wrong by any amount, in either
    /// direction, until it is set. An undo that comes early is of an instance that the boot has started anew; one that comes days
    /// late is what an obligation is there against. So the announcement of a failed lane ends with a reboot of its host, and the
    /// coordinators, whose record of the failure stays, do not rest on it.
    fn due(&self) -> (Vec<ObligationId>, Duration) {
        let now = clock::uptime_ms();
        let inner = self.inner();
        let mut due = Vec::new();
        // Clocks are looked at again at least this often; a wait of days would sleep over a suspended machine.
        let mut next = 60_000;
        for (id, owed) in inner.owed.iter().filter(|(_, owed)| is_open(owed.state)) {
            let left_alone = !owed.is_over()
                && (owed.held || inner.at_work.contains(&owed.execution))
                && !inner.wanted.contains(id)
                && !inner.left_out.contains(id)
                && owed.boot_id == self.boot_id;
            let mut at = if left_alone { owed.due_uptime.0 } else { 0 };
            if let Some((_, not_before)) = inner.retries.get(id) {
                at = at.max(*not_before);
            }
            if at <= now {
                due.push(id.clone());
            } else {
                next = next.min(at - now);
            }
        }
        // The way back into a pool looks for a while, and an Alertmanager may not answer; a pause is not to last as long.
        let patient = |owed: &Owed| owed.traffic.is_some() || owed.maintenance.is_some();
        due.sort_by_key(|id| inner.owed.get(id).is_some_and(patient));
        let wait = if due.is_empty() { next } else { 0 };
        (due, Duration::from_millis(wait))
    }

    async fn pay(&self, id: &ObligationId, entropy: &mut Entropy) -> Result<(), JournalError> {
        let _turn = self.turn.lock().await;
        let Some(owed) = self.inner().owed.get(id).cloned() else { return Ok(()) };
        if !is_open(owed.state) {
            return Ok(());
        }
        let what = describe(&owed);
        if self.inner().left_out.contains(id) {
            tracing::warn!(obligation = %id, what, "an undo is not done: the coordinators leave it out");
            let message = "not done, as the coordinators say: it is not fit to come back".to_owned();
            return self.set(id, ObligationState::Discharged, message).await;
        }
        tracing::warn!(obligation = %id, what, "doing an undo that is owed");
        let silenced = owed.maintenance.as_ref().is_some_and(|told| told.silence.is_some());
        let _silencing = if silenced { Some(self.silencing().await) } else { None };
        failpoint::hit("obligation-before-undo");
        let done = self.undoer.undo(&owed).await;
        failpoint::hit("obligation-after-undo");
        let Some(now) = self.inner().owed.get(id).cloned() else { return Ok(()) };
        if !is_open(now.state) {
            // Its execution was faster; doing it twice is what the hook must bear.
            return Ok(());
        }
        match done {
            Ok(message) => {
                self.inner().retries.remove(id);
                self.set(id, ObligationState::ExpiredDischarged, message).await
            }
            Err(why) => {
                tracing::error!(obligation = %id, what, why, "an undo that is owed failed; it will be tried again");
                self.try_later(id, entropy.next_u64());
                self.set(id, ObligationState::Failed, why).await
            }
        }
    }

    fn try_later(&self, id: &ObligationId, entropy: u64) {
        let mut inner = self.inner();
        let (backoff, not_before) =
            inner.retries.entry(id.clone()).or_insert_with(|| (Backoff::new(RETRY), 0));
        let delay = u64::try_from(backoff.next_delay(entropy).as_millis()).unwrap_or(u64::MAX);
        *not_before = clock::uptime_ms().saturating_add(delay);
    }

    async fn set(
        &self,
        id: &ObligationId,
        state: ObligationState,
        message: String,
    ) -> Result<(), JournalError> {
        let _writing = self.writing.lock().await;
        let Some(mut owed) = self.inner().owed.get(id).cloned() else { return Ok(()) };
        if owed.state == state && owed.message == message {
            return Ok(());
        }
        (owed.state, owed.message) = (state, message);
        self.journal.owe(id, &owed).await?;
        (self.tell)(report(id, &owed));
        self.inner().owed.insert(id.clone(), owed);
        Ok(())
    }

    async fn open_new(
        &self,
        execution: &ExecutionId,
        id: &ObligationId,
        undo: Undo,
        due_in: DurationMs,
    ) -> Result<(), PortError> {
        if self.open() >= OWED_MAX {
            return Err(PortError::new(Reason::LimitReached, format!("{OWED_MAX} obligations are open")));
        }
        let (mut hook, mut traffic, mut config, mut maintenance) = (None, None, None, None);
        let instance = match undo {
            Undo::Hook { hook: resume, instance } => {
                hook = Some(resume);
                instance
            }
            Undo::Traffic { instance, driver, traffic: pool } => {
                traffic = Some(OwedTraffic { traffic: pool, driver });
                instance
            }
            Undo::Config { instance, driver, stop_timeout, start_timeout, config: file, digest } => {
                let owed = OwedConfig { driver, stop_timeout, start_timeout, config: file, digest };
                config = Some(Box::new(owed));
                instance
            }
            Undo::Maintenance { instance, maintenance: wanted, operation, until } => {
                let silence =
                    wanted.silence.map(|silence| OwedSilence { silence, until, renewed: until, over: false });
                maintenance = Some(OwedMaintenance { file: wanted.file, operation, silence });
                instance
            }
        };
        // An older undo must neither be at work while this one's disturbance begins, nor come after it.
        let kept = match (&traffic, &maintenance) {
            (Some(_), _) => Some(Kept::Traffic),
            (None, Some(told)) => {
                Some(Kept::Maintenance { file: &told.file, operation: &told.operation, silent: true })
            }
            (None, None) => None,
        };
        let _turn = if kept.is_some() { Some(self.turn.lock().await) } else { None };
        let older = kept.map_or_else(Vec::new, |kept| self.kept(&instance, kept));
        // A silence that an older one owes the end of may still be there.
        if let Some(told) = maintenance.as_mut().filter(|told| told.silence.is_none()) {
            let inner = self.inner();
            let owed = older.iter().filter_map(|id| inner.owed.get(id)?.maintenance.as_ref());
            told.silence = owed.filter_map(|told| told.silence.clone()).next_back();
        }
        let owed = Owed {
            execution: execution.clone(),
            hook,
            traffic,
            config,
            maintenance,
            held: false,
            instance,
            state: ObligationState::Open,
            boot_id: self.boot_id.clone(),
            due_uptime: DurationMs(clock::uptime_ms()).plus(due_in),
            due_at: clock::now().plus(due_in),
            message: String::new(),
        };
        self.journal.owe(id, &owed).await.map_err(unusable)?;
        failpoint::hit("obligation-open");
        (self.tell)(report(id, &owed));
        self.inner().owed.insert(id.clone(), owed);
        for older in older.iter().filter(|older| *older != id) {
            let message = format!("{id} took its place");
            self.set(older, ObligationState::Discharged, message).await.map_err(unusable)?;
        }
        self.changed.notify_one();
        Ok(())
    }

    /// Undos of this sort that an instance is owed.
    fn kept(&self, instance: &InstanceId, kept: Kept<'_>) -> Vec<ObligationId> {
        let inner = self.inner();
        let of = inner
            .owed
            .iter()
            .filter(|(_, owed)| match kept {
                Kept::Traffic => owed.traffic.is_some(),
                Kept::Maintenance { file, operation, silent } => {
                    let same = |told: &OwedMaintenance| {
                        told.file == file
                            && told.operation == *operation
                            && (silent || told.silence.is_none())
                    };
                    owed.maintenance.as_ref().is_some_and(same)
                }
            })
            .filter(|(_, owed)| owed.instance == *instance && is_open(owed.state));
        of.map(|(id, _)| id.clone()).collect()
    }

    async fn hold(&self, id: &ObligationId) -> Result<(), PortError> {
        let _writing = self.writing.lock().await;
        let owed = self.inner().owed.get(id).filter(|owed| is_open(owed.state)).cloned();
        let Some(mut owed) = owed else {
            let text = "its time was over before it was all there, and its undo is done";
            return Err(PortError::new(Reason::ActionFailed, text));
        };
        owed.held = true;
        self.journal.owe(id, &owed).await.map_err(unusable)?;
        self.inner().owed.insert(id.clone(), owed);
        self.extended.notify_one();
        Ok(())
    }

    async fn settle(&self, instance: &InstanceId, kept: Kept<'_>) -> Result<(), PortError> {
        for id in self.kept(instance, kept) {
            self.set(&id, ObligationState::Discharged, String::new()).await.map_err(unusable)?;
        }
        if let Kept::Maintenance { silent: false, file, operation } = kept {
            let rest = Kept::Maintenance { silent: true, file, operation };
            for id in self.kept(instance, rest) {
                self.end_silence(&id).await.map_err(unusable)?;
            }
            self.changed.notify_one();
        }
        Ok(())
    }

    async fn discharge(&self, id: &ObligationId) -> Result<(), PortError> {
        let open = self.inner().owed.get(id).is_some_and(|owed| is_open(owed.state));
        if !open {
            return Ok(());
        }
        failpoint::hit("obligation-before-discharge");
        self.set(id, ObligationState::Discharged, String::new()).await.map_err(unusable)
    }
}

struct Keeper {
    book: Arc<Book>,
    execution: ExecutionId,
}

impl ObligationKeeper for Keeper {
    fn open<'a>(
        &'a self,
        id: &'a ObligationId,
        undo: Undo,
        due_in: DurationMs,
    ) -> BoxFuture<'a, Result<(), PortError>> {
        self.book.open_new(&self.execution, id, undo, due_in).boxed()
    }

    fn hold<'a>(&'a self, id: &'a ObligationId) -> BoxFuture<'a, Result<(), PortError>> {
        self.book.hold(id).boxed()
    }

    fn settle<'a>(
        &'a self,
        instance: &'a InstanceId,
        kept: Kept<'a>,
    ) -> BoxFuture<'a, Result<(), PortError>> {
        self.book.settle(instance, kept).boxed()
    }

    fn silencing(&self) -> BoxFuture<'_, Silencing> {
        self.book.silencing().boxed()
    }

    fn discharge<'a>(&'a self, id: &'a ObligationId) -> BoxFuture<'a, Result<(), PortError>> {
        self.book.discharge(id).boxed()
    }
}

fn unusable(error: JournalError) -> PortError {
    PortError::new(Reason::Internal, with_causes(&error))
}

const fn is_open(state: ObligationState) -> bool {
    matches!(state, ObligationState::Open | ObligationState::Failed)
}
