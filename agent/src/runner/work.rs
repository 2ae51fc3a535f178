//! Does one execution: the evidence before it, the action itself, or what is left of it after a crash.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use quorate_model::backup::{BackupPolicy, LogRotation};
use quorate_model::service::UnitStatus;
use quorate_model::session::NodeInstance;
use quorate_model::{
    ActionOutcome, ActionSpec, DurationMs, ExecutionId, ExecutionState, InstanceId, ObligationId, Reason,
    Selector, ServiceName, ServiceSpec,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::engine::Command;
use super::journal::{End, Entry, Intent};
use super::leases::Leases;
use super::obligations::Book;
use super::recover::{self, Resume};
use super::settings::Settings;
use crate::actions::{
    self, ActionContext, ActionError, Balancers, FactsSource, HostClock, HostPrograms, HostServices, Kept,
    Leaving, ObligationKeeper, PortError, Silencing, Undo,
};
use crate::host::{Host, HostError, Recovered, RunEvidence, UnitReading, clock, judge};

/// How often a unit that is between two states is looked at again.
const SETTLE_LOOK: Duration = Duration::from_millis(100);
/// How long a backup's owed resume is waited for before its end is told.
const UNDO_WAIT: Duration = Duration::from_secs(60);
/// For a package's own scripts, on top of stop and start, when a release is brought to its end late.
const FINISH_SLACK: DurationMs = DurationMs::from_secs(300);

/// What every execution shares.
#[derive(Clone)]
pub(super) struct Shop {
    /// The machine.
    pub(super) host: Arc<dyn Host>,
    /// The configuration in use.
    pub(super) settings: Settings,
    /// Hooks.
    pub(super) hooks: super::Hooks,
    /// Obligations.
    pub(super) book: Arc<Book>,
    /// Leases.
    pub(super) leases: Arc<Leases>,
    /// Facts.
    pub(super) facts: Arc<dyn FactsSource>,
    /// The helper was asked to stop.
    pub(super) stopping: CancellationToken,
    /// The engine's queue.
    pub(super) commands: mpsc::Sender<Command>,
}

impl Shop {
    /// The unit before an effect; `None` for actions without one.
    ///
    /// # Errors
    /// When it can not be looked at: then nothing may be done to it either.
    pub(super) async fn evidence(&self, entry: &Entry) -> Result<Option<RunEvidence>, PortError> {
        if recover::verb(&entry.assignment.action).is_none() {
            return Ok(None);
        }
        let Some(instance) = &entry.instance else { return Ok(None) };
        Ok(Some(self.look(instance).await?.evidence))
    }

    async fn look(&self, instance: &NodeInstance) -> Result<UnitReading, HostError> {
        let (driver, unit) = self.host.service(&instance.driver)?;
        driver.status(unit).await
    }

    /// Does the action to its end.
    pub(super) async fn run(
        &self,
        id: ExecutionId,
        entry: Entry,
        cancel: CancellationToken,
        left: DurationMs,
    ) -> End {
        let context = self.context(&id, &entry, cancel.clone(), left);
        let result = actions::execute(&context, &entry.assignment.action).await;
        // The hook did not fail, we ended it: what was undone afterwards makes this a cancel.
        let ended = cancel.is_cancelled() && matches!(result, Err(ActionError::Hook { .. }));
        let mut end = finish(result);
        if ended {
            end.state = ExecutionState::Canceled;
        }
        end
    }

    fn context(
        &self,
        id: &ExecutionId,
        entry: &Entry,
        cancel: CancellationToken,
        left: DurationMs,
    ) -> ActionContext {
        let config = self.settings.current();
        let (commands, whose) = (self.commands.clone(), id.clone());
        // A queue that is full or closed: then it is given up a little later, and found in the journal all the same.
        let tell = Arc::new(move || drop(commands.try_send(Command::Left(whose.clone()))));
        let specs = entry.instance.as_ref().map(spec_of);
        ActionContext {
            node: config.node.clone(),
            execution: id.clone(),
            operation: entry.assignment.operation.clone(),
            epoch: entry.assignment.epoch,
            services: Arc::new(HostServices::new(Arc::clone(&self.host), self.leases.clone(), specs)),
            hooks: Arc::new(self.hooks.until(cancel.clone())),
            obligations: self.book.keeper(id.clone()),
            leases: self.leases.clone(),
            balancers: Balancers::new(Arc::clone(&self.host), config.balancers.clone()),
            facts: Arc::clone(&self.facts),
            clock: Arc::new(HostClock),
            allowed_roots: config.policy.roots().to_vec(),
            backup_dir: config.policy.backup_dir().to_path_buf(),
            install: config.policy.install().clone(),
            hold_file: config.hold_file(),
            data_dir: config.data_dir.clone(),
            releases_dir: config.releases_dir(),
            programs: Arc::new(HostPrograms::new(Arc::clone(&self.host))),
            limits: config.limits,
            deadline: DurationMs(clock::uptime_ms()).plus(left),
            cancel,
            leaving: Leaving { asked: self.stopping.clone(), tell },
            progress: Arc::new(|_| {}),
        }
    }

    /// Finds out what became of an execution that an earlier helper began, and finishes or reports it.
    pub(super) async fn resume(
        &self,
        id: ExecutionId,
        entry: Entry,
        intent: Intent,
        cancel: CancellationToken,
    ) -> End {
        let action = &entry.assignment.action;
        let same_boot = entry.boot_id == self.host.boot_id();
        let used = DurationMs(clock::uptime_ms()).minus(intent.uptime);
        let left = if same_boot { entry.assignment.deadline.minus(used) } else { DurationMs::ZERO };
        let late = left == DurationMs::ZERO;
        let (found, reading) = self.verdict(&entry, &intent).await;
        let next = recover::resume(action, found, late);
        tracing::warn!(execution = %id, action = %action.kind(), verdict = ?found, next = ?next, "found an execution that an earlier helper began");
        match next {
            // On the heap: it is the largest of all that may come of it.
            Resume::Run => Box::pin(self.run(id, entry.clone(), cancel, left)).await,
            Resume::Finish { late } => {
                let finished = self.finish(id.clone(), &entry).await;
                // It says so when nothing was begun, or nothing is down.
                if late || finished.state != ExecutionState::TimedOut {
                    return finished;
                }
                Box::pin(self.run(id, entry.clone(), cancel, left)).await
            }
            Resume::StartOnly(service) => self.start_only(id, &entry, service).await,
            Resume::AskOnly => self.ask_only(id, &entry, cancel).await,
            Resume::Done => {
                let message =
                    format!("{} was done; the helper was restarted before it could tell", action.kind());
                let unit = reading.map(|r| r.status);
                end(ExecutionState::Succeeded, None, message, unit)
            }
            Resume::Late => {
                let message = "the helper was restarted; nothing had been done and the deadline has passed";
                end(ExecutionState::TimedOut, Some(Reason::DeadlineExceeded), message.to_owned(), None)
            }
            Resume::Unknown(why) => {
                let unit = reading.map(|r| r.status);
                end(ExecutionState::Unknown, Some(Reason::ExecutionUnknown), why.to_owned(), unit)
            }
        }
    }

    /// Waits until the unit is no longer between two states, then compares.
    async fn verdict(&self, entry: &Entry, intent: &Intent) -> (Option<Recovered>, Option<UnitReading>) {
        let (Some(verb), Some(instance)) = (recover::verb(&entry.assignment.action), &entry.instance) else {
            return (None, None);
        };
        let Some(before) = &intent.evidence else { return (None, None) };
        let patience = Duration::from_millis(instance.stop_timeout.plus(instance.start_timeout).0);
        let until = tokio::time::Instant::now() + patience;
        loop {
            let reading = self.look(instance).await;
            let settled = reading.as_ref().is_ok_and(|r| !r.is_moving());
            if settled || tokio::time::Instant::now() >= until {
                return match reading {
                    Ok(reading) => (Some(judge(verb, before, &reading)), Some(reading)),
                    Err(error) => {
                        tracing::error!(error = %error.full_text(), "can not look at a unit to recover its execution");
                        (None, None)
                    }
                };
            }
            tokio::time::sleep(SETTLE_LOOK).await;
        }
    }

    /// Nobody cancels this: the unit is down because of us, and a unit left down is worse than a late one.
    async fn start_only(&self, id: ExecutionId, entry: &Entry, service: ServiceName) -> End {
        let cancel = CancellationToken::new();
        let left = entry.instance.as_ref().map_or(DurationMs::from_secs(60), |i| i.start_timeout);
        // One second more than the start itself may take, so that its own deadline is the one that speaks.
        let context = self.context(&id, entry, cancel, left.plus(DurationMs(1_000)));
        let start = ActionSpec::ServiceStart { service };
        let mut done = finish(actions::execute(&context, &start).await);
        if let Some(outcome) = &mut done.outcome {
            outcome.message = format!("restart finished after a restart of the helper: {}", outcome.message);
        }
        done
    }

    /// Nobody cancels this either, for the same reason.
    async fn finish(&self, id: ExecutionId, entry: &Entry) -> End {
        let cancel = CancellationToken::new();
        let span = entry.instance.as_ref().map_or(DurationMs::ZERO, |i| i.stop_timeout.plus(i.start_timeout));
        let context = self.context(&id, entry, cancel, span.plus(FINISH_SLACK));
        finish(actions::finish(&context, &entry.assignment.action).await)
    }

    /// A backup with a pause: reports the archive if it is finished, without pausing anything.
    async fn ask_only(&self, id: ExecutionId, entry: &Entry, cancel: CancellationToken) -> End {
        let until = tokio::time::Instant::now() + UNDO_WAIT;
        while !self.book.open_of(&id).is_empty() && tokio::time::Instant::now() < until {
            tokio::time::sleep(SETTLE_LOOK).await;
        }
        let resumed = self.book.open_of(&id).is_empty();
        let mut context = self.context(&id, entry, cancel, entry.assignment.deadline);
        context.obligations = Arc::new(NoDisturbance);
        match actions::execute(&context, &entry.assignment.action).await {
            Ok(outcome) => End { state: ExecutionState::Succeeded, reason: None, outcome: Some(outcome) },
            Err(error) => {
                let writes = if resumed { "writes were resumed" } else { "writes are not resumed yet" };
                let message =
                    format!("the helper ended during the backup; {writes}; no archive was published");
                tracing::warn!(execution = %id, error = %error.message(), "an interrupted backup left nothing");
                end(ExecutionState::Failed, Some(Reason::ActionFailed), message, None)
            }
        }
    }
}

/// Refuses every obligation, and with it every disturbance.
struct NoDisturbance;

impl ObligationKeeper for NoDisturbance {
    fn open<'a>(
        &'a self,
        _id: &'a ObligationId,
        _undo: Undo,
        _due_in: DurationMs,
    ) -> BoxFuture<'a, Result<(), PortError>> {
        let text = "its grant may be over: nothing is disturbed a second time";
        async move { Err(PortError::new(Reason::GrantExpired, text)) }.boxed()
    }

    fn hold<'a>(&'a self, _id: &'a ObligationId) -> BoxFuture<'a, Result<(), PortError>> {
        async { Ok(()) }.boxed()
    }

    fn settle<'a>(
        &'a self,
        _instance: &'a InstanceId,
        _kept: Kept<'a>,
    ) -> BoxFuture<'a, Result<(), PortError>> {
        async { Ok(()) }.boxed()
    }

    fn silencing(&self) -> BoxFuture<'_, Silencing> {
        // Of a silence that was never set nobody renews or ends anything.
        async { Silencing(Arc::<tokio::sync::Mutex<()>>::default().lock_owned().await) }.boxed()
    }

    fn discharge<'a>(&'a self, _id: &'a ObligationId) -> BoxFuture<'a, Result<(), PortError>> {
        async { Ok(()) }.boxed()
    }
}

fn finish(result: Result<ActionOutcome, ActionError>) -> End {
    match result {
        Ok(outcome) => End { state: ExecutionState::Succeeded, reason: None, outcome: Some(outcome) },
        Err(error) => {
            End { state: error.state(), reason: Some(error.reason()), outcome: Some(error.into_outcome()) }
        }
    }
}

/// An end without an action's own account.
#[must_use]
pub(super) fn end(
    state: ExecutionState,
    reason: Option<Reason>,
    message: String,
    unit: Option<UnitStatus>,
) -> End {
    End { state, reason, outcome: Some(ActionOutcome { message, unit, ..ActionOutcome::default() }) }
}

/// What an action needs to know of a service; the rest of its declaration stays with the coordinators.
fn spec_of(instance: &NodeInstance) -> ServiceSpec {
    ServiceSpec {
        name: instance.service.clone(),
        driver: instance.driver.clone(),
        nodes: Selector::default(),
        probes: Vec::new(),
        stop_timeout: instance.stop_timeout,
        start_timeout: instance.start_timeout,
        backup: None::<BackupPolicy>,
        install: None,
        traffic: None,
        configs: Vec::new(),
        secrets: Vec::new(),
        migrate: None,
        preflight: None,
        handover: None,
        data: None,
        maintenance: None,
        log_rotation: None::<LogRotation>,
        vars: std::collections::BTreeMap::new(),
        labels: std::collections::BTreeMap::new(),
    }
}
