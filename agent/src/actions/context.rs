//! What the runner hands to an action: ports to everything outside, limits, a deadline and a way to cancel.
//!
//! The ports are traits so that an action can be tested against a fake host, and so that it cannot reach further than the
//! host's policy lets it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use quorate_model::service::UnitStatus;
use quorate_model::{
    ConfigSpec, Digest, Driver, DurationMs, Epoch, ExecutionId, GroupName, HookName, InstanceId,
    MaintenanceSpec, NodeName, ObligationId, OperationId, ServiceName, ServiceSpec, Timestamp, TrafficSpec,
    Version,
};
use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;

use super::error::{ActionError, PortError};
use super::traffic::Balancers;
use crate::host::{ExecOutcome, ExecSpec};
use crate::policy::InstallRules;

/// What a driver did to stop a unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stopped {
    /// SIGKILL was needed after the graceful time.
    pub escalated: bool,
}

/// One instance's supervisor: a systemd unit or a process of the agent's own.
pub trait ServiceDriver: Send + Sync {
    /// The unit's state now. A unit that does not exist is a status (`not-found`), not an error.
    fn status(&self) -> BoxFuture<'_, Result<UnitStatus, PortError>>;
    /// Starts it and waits until it is active, failed, or `limit` is over. Starting what runs does nothing.
    fn start(&self, limit: Duration) -> BoxFuture<'_, Result<(), PortError>>;
    /// Asks it to stop, waits `graceful`, then kills it. Returns once it is inactive.
    fn stop(&self, graceful: Duration) -> BoxFuture<'_, Result<Stopped, PortError>>;
    /// Makes it read its configuration (or reopen its logs) again, as the unit declares.
    fn reload(&self, limit: Duration) -> BoxFuture<'_, Result<(), PortError>>;
}

/// One service that has an instance here.
#[derive(Clone)]
pub struct ServiceHandle {
    /// As it was sent with the assignment.
    pub spec: ServiceSpec,
    /// Its supervisor.
    pub driver: Arc<dyn ServiceDriver>,
}

/// The services on this node that the host's policy lets be touched.
pub trait Services: Send + Sync {
    /// One by name.
    fn get(&self, name: &ServiceName) -> Option<ServiceHandle>;
    /// All of them, by name.
    fn all(&self) -> Vec<ServiceHandle>;
    /// Any systemd unit of the host, to be looked at and nothing else.
    fn unit(&self, unit: &str) -> Arc<dyn ServiceDriver>;
}

/// How a hook ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HookReport {
    /// Exit code 0.
    pub ok: bool,
    /// How it ended, one line: `exit code 3`, `killed by signal 9`, `timed out after 5s`.
    pub ended: String,
    /// The end of what it printed, at most 4 KiB.
    pub output_tail: String,
    /// Bytes of all that it printed there.
    pub output_bytes: u64,
    /// sha256 of that, lower-case hex; empty when it is not known.
    pub output_sha256: String,
    /// Its exit code, or the status of its answer; none when it did not end by itself.
    pub exit_code: Option<i32>,
    /// It was ended at its deadline, or because the execution was canceled.
    pub cut_off: bool,
    /// Processes that it left behind and that were ended after it, as `pid name`.
    pub leftovers: Vec<String>,
}

/// What a hook is told in its environment, on top of its instance.
#[derive(Clone, Copy, Debug, Default)]
pub struct Told<'a> {
    /// The version of the release that it is run for.
    pub release: Option<&'a Version>,
    /// The members that may take over from its instance.
    pub targets: &'a [NodeName],
    /// Canceled, it is ended with all that it started, whatever becomes of its execution.
    pub until: Option<&'a CancellationToken>,
}

/// Runs the hooks that the host itself declares in `agent.toml`; a caller's text never becomes a command.
pub trait HookRunner: Send + Sync {
    /// Runs one to its end, or kills its whole process group after `limit`. `instance` is given in its environment.
    ///
    /// An error means that it did not run at all (not declared, not allowed).
    fn run<'a>(
        &'a self,
        hook: &'a HookName,
        instance: &'a InstanceId,
        limit: Duration,
    ) -> BoxFuture<'a, Result<HookReport, PortError>> {
        self.run_for(hook, instance, Told::default(), limit)
    }

    /// As [`Self::run`], with what else it is told in its environment.
    fn run_for<'a>(
        &'a self,
        hook: &'a HookName,
        instance: &'a InstanceId,
        told: Told<'a>,
        limit: Duration,
    ) -> BoxFuture<'a, Result<HookReport, PortError>>;
    /// Runs one to have it look at a candidate for a configuration file. Its command names the candidate as `{file}`; the
    /// place that the candidate is meant for is in its environment.
    fn check<'a>(
        &'a self,
        hook: &'a HookName,
        instance: &'a InstanceId,
        limit: Duration,
        candidate: &'a Path,
        target: &'a Path,
    ) -> BoxFuture<'a, Result<HookReport, PortError>>;
}

/// What undoes a temporary state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undo {
    /// Run this hook for this instance.
    Hook {
        /// Which.
        hook: HookName,
        /// For whom.
        instance: InstanceId,
    },
    /// Put an instance back into its load balancer's pool, once it is healthy.
    Traffic {
        /// Which.
        instance: InstanceId,
        /// What runs it: it must run.
        driver: Driver,
        /// Where it belongs.
        traffic: TrafficSpec,
    },
    /// Put the configuration file from before back, if the one in place is still ours.
    Config {
        /// Whose.
        instance: InstanceId,
        /// What runs it.
        driver: Driver,
        /// How long a stop may take.
        stop_timeout: DurationMs,
        /// How long a start or a reload may take.
        start_timeout: DurationMs,
        /// The file.
        config: ConfigSpec,
        /// What was put in place.
        digest: Digest,
    },
    /// Remove a file that tells an instance that it is worked on, if it is still ours, and end the silence of its alerts.
    Maintenance {
        /// Which.
        instance: InstanceId,
        /// How it was told.
        maintenance: MaintenanceSpec,
        /// The operation that the file and the silence name.
        operation: OperationId,
        /// When the silence ends by itself, if nobody renews it.
        until: Timestamp,
    },
}

/// What is kept from an instance beyond the execution that did so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept<'a> {
    /// It is out of its load balancer's pool.
    Traffic,
    /// It is told that it is worked on.
    Maintenance {
        /// By this file; empty for none.
        file: &'a str,
        /// For this operation.
        operation: &'a OperationId,
        /// Its alerts are silenced no longer; when not, whatever still owes the end of a silence is left out.
        silent: bool,
    },
}

/// The only one who changes silences, as long as it is held.
#[derive(Debug)]
pub struct Silencing(pub OwnedMutexGuard<()>);

/// Keeps undos that are owed: the agent pays them by itself when their deadline passes, also after a crash.
pub trait ObligationKeeper: Send + Sync {
    /// Takes on an obligation. It is durable before this returns, so that the disturbance may begin.
    fn open<'a>(
        &'a self,
        id: &'a ObligationId,
        undo: Undo,
        due_in: DurationMs,
    ) -> BoxFuture<'a, Result<(), PortError>>;
    /// The state is meant to outlast its execution: the undo waits for its deadline, or for the coordinators' word.
    fn hold<'a>(&'a self, id: &'a ObligationId) -> BoxFuture<'a, Result<(), PortError>>;
    /// Nothing of this is kept from an instance any more: every undo that would see to it is done, whoever owed it.
    fn settle<'a>(&'a self, instance: &'a InstanceId, kept: Kept<'a>)
    -> BoxFuture<'a, Result<(), PortError>>;
    /// As long as this is held, no silence is renewed or ended by an undo: what is found of one stays as it is.
    fn silencing(&self) -> BoxFuture<'_, Silencing>;
    /// The undo was done: nothing is owed any more. Discharging twice is no error.
    fn discharge<'a>(&'a self, id: &'a ObligationId) -> BoxFuture<'a, Result<(), PortError>>;
}

/// How the lease of a group stands for somebody who leads under one epoch, or is to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseNow {
    /// It is not known here yet, or nobody has answered a renewal of it.
    NotYet,
    /// It is good.
    Live {
        /// Until what leads is stopped.
        left: DurationMs,
        /// What must be left before anything new begins.
        needed: DurationMs,
    },
    /// It is given up, or a newer one is known; why.
    Over(String),
}

/// The leases of what leads here.
pub trait LeaseKeeper: Send + Sync {
    /// How one stands.
    fn standing(&self, group: &GroupName, epoch: Epoch) -> LeaseNow;
    /// Why the instance of a service is being stopped, if it is: it must not be started meanwhile.
    fn stopping(&self, service: &ServiceName) -> Option<String>;
    /// Waits until one may stand otherwise, and no longer than `within`.
    fn changed(&self, within: Duration) -> BoxFuture<'_, ()>;
}

/// Facts about the host.
pub trait FactsSource: Send + Sync {
    /// Collects them.
    fn facts(&self) -> BoxFuture<'_, Result<quorate_model::node::Facts, PortError>>;
}

/// Runs the host's own package tools; which and with what arguments is written in `release/package.rs` alone.
pub trait Programs: Send + Sync {
    /// Runs one to its end or its deadline. A bad exit is an outcome.
    fn run<'a>(&'a self, spec: &'a ExecSpec) -> BoxFuture<'a, Result<ExecOutcome, PortError>>;
    /// Whether somebody holds a lock on this file.
    fn is_locked<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, Result<bool, PortError>>;
}

/// The two clocks an action needs; a fake one in tests.
pub trait Clock: Send + Sync {
    /// Wall clock.
    fn wall(&self) -> Timestamp;
    /// Monotonic, from an arbitrary start; goes on while the host sleeps.
    fn monotonic(&self) -> DurationMs;
}

/// How far an action has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub doing: &'static str,
    /// Bytes worked through so far.
    pub done_bytes: u64,
    /// Bytes in all, 0 when not known.
    pub total_bytes: u64,
}

/// The host's own bounds on long actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of content read per second by a backup; 0 for no limit.
    pub backup_bytes_per_sec: u64,
    /// Niceness of the threads that compress; 10 leaves the host's own service first.
    pub nice: i32,
    /// Compressing threads, at most; each costs memory (see `backup::exec`).
    pub workers: u32,
    /// Bytes that must stay free on the file system after a worst-case write.
    pub reserve_bytes: u64,
    /// Bytes of artifacts that may lie in the spool.
    pub spool_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { backup_bytes_per_sec: 0, nice: 10, workers: 2, reserve_bytes: 64 << 20, spool_bytes: 8 << 30 }
    }
}

/// The helper's own end: what only waits for somebody else then leaves its execution to the next helper.
#[derive(Clone)]
pub struct Leaving {
    /// The helper was asked to stop.
    pub asked: CancellationToken,
    /// Told once by an execution that goes no further here; must not block.
    pub tell: Arc<dyn Fn() + Send + Sync>,
}

/// Everything one execution may use.
#[derive(Clone)]
pub struct ActionContext {
    /// This node.
    pub node: NodeName,
    /// The execution, for the names of what it owes and of its temporary files.
    pub execution: ExecutionId,
    /// The operation that it belongs to.
    pub operation: OperationId,
    /// Its epoch.
    pub epoch: Epoch,
    /// Services with an instance here.
    pub services: Arc<dyn Services>,
    /// Hooks.
    pub hooks: Arc<dyn HookRunner>,
    /// Obligations.
    pub obligations: Arc<dyn ObligationKeeper>,
    /// Leases of what leads here.
    pub leases: Arc<dyn LeaseKeeper>,
    /// Load balancers.
    pub balancers: Balancers,
    /// Facts.
    pub facts: Arc<dyn FactsSource>,
    /// Clocks.
    pub clock: Arc<dyn Clock>,
    /// Folders that actions may read or change, from the host's policy; absolute.
    pub allowed_roots: Vec<PathBuf>,
    /// Where backups are kept; absolute, made if it is missing.
    pub backup_dir: PathBuf,
    /// What may be installed, and whose word is needed for it.
    pub install: InstallRules,
    /// A file with which a person keeps every change away from this host; usually missing.
    pub hold_file: PathBuf,
    /// The network half's folder: artifacts arrive below it.
    pub data_dir: PathBuf,
    /// The helper's own folder of what it has staged and switched; made if it is missing.
    pub releases_dir: PathBuf,
    /// The host's package tools.
    pub programs: Arc<dyn Programs>,
    /// Bounds.
    pub limits: Limits,
    /// Reading of `clock.monotonic()` at which it must be over.
    pub deadline: DurationMs,
    /// Canceled by the runner; the action undoes what is temporary and ends.
    pub cancel: CancellationToken,
    /// The helper's own end.
    pub leaving: Leaving,
    /// Told now and then, never more than a few times per second; must not block.
    pub progress: Arc<dyn Fn(Progress) + Send + Sync>,
}

impl ActionContext {
    /// Time left until the deadline.
    #[must_use]
    pub fn remaining(&self) -> DurationMs {
        self.deadline.minus(self.clock.monotonic())
    }

    /// Refuses to go on when canceled or late.
    pub(crate) fn check(&self, doing: &'static str) -> Result<(), ActionError> {
        if self.cancel.is_cancelled() {
            return Err(ActionError::Canceled(doing));
        }
        if self.remaining() == DurationMs::ZERO {
            return Err(ActionError::DeadlineExceeded(doing));
        }
        Ok(())
    }

    /// For a wait on somebody else, with all that was begun in the journal: when the helper is to stop, this never returns, and
    /// the next helper goes on. Who is waited for may be the one who replaces this helper, and wait for us.
    pub(crate) async fn leave_if_stopping(&self) {
        if self.leaving.asked.is_cancelled() {
            (self.leaving.tell)();
            std::future::pending::<()>().await;
        }
    }

    /// A driver by service name.
    pub(crate) fn service(&self, name: &ServiceName) -> Result<ServiceHandle, ActionError> {
        self.services.get(name).ok_or_else(|| ActionError::UnknownService(name.clone()))
    }
}
