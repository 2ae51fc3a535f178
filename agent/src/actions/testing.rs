//! Fake ports for the tests of actions: a unit that obeys or misbehaves as told, hooks and obligations that are recorded.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use quorate_model::node::Facts;
use quorate_model::service::UnitStatus;
use quorate_model::{
    Driver, DurationMs, Epoch, ExecutionId, HookName, InstanceId, NodeName, ObligationId, OperationId,
    Reason, Selector, ServiceName, ServiceSpec, Timestamp,
};
use tokio_util::sync::CancellationToken;

use crate::host::fake::FakeHost;

use super::{
    ActionContext, Balancers, Clock, FactsSource, HookReport, HookRunner, Kept, Leaving, Limits, NoLeases,
    ObligationKeeper, PortError, Programs, ServiceDriver, ServiceHandle, Services, Silencing, Stopped, Told,
    Undo,
};
use crate::host::{ExecOutcome, ExecSpec};
use crate::policy::InstallRules;

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a fake unit does wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Misbehave {
    /// Nothing.
    #[default]
    No,
    /// Needs SIGKILL.
    HangsOnStop,
    /// Ends again after a start that returned well.
    CrashesAtStart,
    /// Says that it was started, and was not.
    IgnoresStartAndStop,
    /// The driver refuses the start.
    RefusesStart,
    /// A reload replaces the run.
    ReloadRestarts,
    /// A reload does not end by itself.
    HangsInReload,
}

/// A unit in memory.
#[derive(Default)]
pub(super) struct FakeUnit {
    pub(super) state: Mutex<UnitStatus>,
    pub(super) misbehave: Mutex<Misbehave>,
    pub(super) calls: Mutex<Vec<&'static str>>,
    /// What the service does when it is reloaded.
    pub(super) on_reload: Mutex<Option<Box<dyn Fn() + Send + Sync>>>,
    runs: AtomicU64,
}

impl FakeUnit {
    pub(super) fn new(running: bool) -> Arc<Self> {
        let unit = Self::default();
        locked(&unit.state).load = "loaded".to_owned();
        if running {
            unit.run();
        } else {
            unit.end("inactive");
        }
        Arc::new(unit)
    }

    fn run(&self) {
        let run = self.runs.fetch_add(1, Ordering::SeqCst);
        let mut state = locked(&self.state);
        state.active = "active".to_owned();
        state.sub = "running".to_owned();
        state.main_pid = 100;
        state.invocation_id = format!("run{run}");
    }

    /// As if it had ended by itself.
    pub(super) fn end_now(&self) {
        self.end("inactive");
    }

    fn end(&self, active: &str) {
        let mut state = locked(&self.state);
        state.active = active.to_owned();
        state.sub = "dead".to_owned();
        state.main_pid = 0;
    }
}

impl ServiceDriver for FakeUnit {
    fn status(&self) -> BoxFuture<'_, Result<UnitStatus, PortError>> {
        let state = locked(&self.state).clone();
        async move { Ok(state) }.boxed()
    }

    fn start(&self, _limit: Duration) -> BoxFuture<'_, Result<(), PortError>> {
        async move {
            locked(&self.calls).push("start");
            match *locked(&self.misbehave) {
                Misbehave::IgnoresStartAndStop => return Ok(()),
                Misbehave::RefusesStart => return Err(PortError::new(Reason::ActionFailed, "no")),
                Misbehave::CrashesAtStart => {
                    self.run();
                    self.end("failed");
                    return Ok(());
                }
                Misbehave::No
                | Misbehave::HangsOnStop
                | Misbehave::HangsInReload
                | Misbehave::ReloadRestarts => {}
            }
            if locked(&self.state).active != "active" {
                self.run();
            }
            Ok(())
        }
        .boxed()
    }

    fn stop(&self, _graceful: Duration) -> BoxFuture<'_, Result<Stopped, PortError>> {
        async move {
            locked(&self.calls).push("stop");
            let how = *locked(&self.misbehave);
            if how != Misbehave::IgnoresStartAndStop {
                self.end("inactive");
            }
            Ok(Stopped { escalated: how == Misbehave::HangsOnStop })
        }
        .boxed()
    }

    fn reload(&self, limit: Duration) -> BoxFuture<'_, Result<(), PortError>> {
        async move {
            locked(&self.calls).push("reload");
            if *locked(&self.misbehave) == Misbehave::HangsInReload {
                return Err(PortError::new(Reason::DeadlineExceeded, format!("took longer than {limit:?}")));
            }
            if let Some(reaction) = locked(&self.on_reload).as_ref() {
                reaction();
            }
            if *locked(&self.misbehave) == Misbehave::ReloadRestarts {
                self.run();
            }
            Ok(())
        }
        .boxed()
    }
}

/// Services by name.
#[derive(Default)]
pub(super) struct FakeServices(
    pub(super) BTreeMap<ServiceName, ServiceHandle>,
    /// Units that no service stands for; any other is not there.
    pub(super) BTreeMap<String, Arc<FakeUnit>>,
);

impl Services for FakeServices {
    fn get(&self, name: &ServiceName) -> Option<ServiceHandle> {
        self.0.get(name).cloned()
    }

    fn all(&self) -> Vec<ServiceHandle> {
        self.0.values().cloned().collect()
    }

    fn unit(&self, unit: &str) -> Arc<dyn ServiceDriver> {
        let found = self.1.get(unit).map(Arc::clone);
        found.unwrap_or_else(|| {
            let missing = FakeUnit::new(false);
            locked(&missing.state).load = "not-found".to_owned();
            missing
        })
    }
}

type HookBody = Box<dyn Fn(&str) -> Result<HookReport, PortError> + Send + Sync>;

/// Hooks and obligations, recorded in one list so that their order can be checked.
#[derive(Default)]
pub(super) struct Recorder {
    pub(super) log: Mutex<Vec<String>>,
    pub(super) body: Mutex<Option<HookBody>>,
    pub(super) refuse_open: Mutex<bool>,
    pub(super) refuse_hold: Mutex<bool>,
    pub(super) silencing: Arc<tokio::sync::Mutex<()>>,
}

impl Recorder {
    pub(super) fn note(&self, text: impl Into<String>) {
        locked(&self.log).push(text.into());
    }

    pub(super) fn lines(&self) -> Vec<String> {
        locked(&self.log).clone()
    }

    pub(super) fn on_hook(
        &self,
        body: impl Fn(&str) -> Result<HookReport, PortError> + Send + Sync + 'static,
    ) {
        *locked(&self.body) = Some(Box::new(body));
    }
}

impl HookRunner for Recorder {
    fn run_for<'a>(
        &'a self,
        hook: &'a HookName,
        _instance: &'a InstanceId,
        told: Told<'a>,
        _limit: Duration,
    ) -> BoxFuture<'a, Result<HookReport, PortError>> {
        async move {
            let release = told.release.map(|version| format!(" for {version}")).unwrap_or_default();
            let targets = told.targets.iter().map(|node| format!(" to {node}")).collect::<String>();
            self.note(format!("hook {hook}{release}{targets}"));
            match locked(&self.body).as_ref() {
                Some(body) => body(hook.as_str()),
                None => Ok(HookReport { ok: true, ended: "exit code 0".to_owned(), ..HookReport::default() }),
            }
        }
        .boxed()
    }

    fn check<'a>(
        &'a self,
        hook: &'a HookName,
        _instance: &'a InstanceId,
        _limit: Duration,
        candidate: &'a Path,
        _target: &'a Path,
    ) -> BoxFuture<'a, Result<HookReport, PortError>> {
        async move {
            let name = candidate.file_name().unwrap_or_default().to_string_lossy().into_owned();
            self.note(format!("check {hook} {name}"));
            let bytes = std::fs::read_to_string(candidate).unwrap_or_default();
            match locked(&self.body).as_ref() {
                Some(body) => body(&bytes),
                None => Ok(HookReport { ok: true, ended: "exit code 0".to_owned(), ..HookReport::default() }),
            }
        }
        .boxed()
    }
}

impl ObligationKeeper for Recorder {
    fn open<'a>(
        &'a self,
        _id: &'a ObligationId,
        undo: Undo,
        due_in: DurationMs,
    ) -> BoxFuture<'a, Result<(), PortError>> {
        async move {
            let what = match undo {
                Undo::Hook { hook, .. } => hook.to_string(),
                Undo::Traffic { traffic, .. } => traffic.server,
                Undo::Config { config, .. } => config.name.to_string(),
                Undo::Maintenance { maintenance, .. } => maintenance.file,
            };
            if *locked(&self.refuse_open) {
                return Err(PortError::new(Reason::LowSpace, "the journal is full"));
            }
            self.note(format!("open {what} {}", due_in.0));
            Ok(())
        }
        .boxed()
    }

    fn hold<'a>(&'a self, _id: &'a ObligationId) -> BoxFuture<'a, Result<(), PortError>> {
        async move {
            if *locked(&self.refuse_hold) {
                return Err(PortError::new(Reason::ActionFailed, "its time is over"));
            }
            self.note("hold");
            Ok(())
        }
        .boxed()
    }

    fn settle<'a>(
        &'a self,
        instance: &'a InstanceId,
        kept: Kept<'a>,
    ) -> BoxFuture<'a, Result<(), PortError>> {
        async move {
            match kept {
                Kept::Traffic => self.note(format!("settle {instance}")),
                Kept::Maintenance { .. } => self.note(format!("settle the maintenance of {instance}")),
            }
            Ok(())
        }
        .boxed()
    }

    fn silencing(&self) -> BoxFuture<'_, Silencing> {
        async move { Silencing(Arc::clone(&self.silencing).lock_owned().await) }.boxed()
    }

    fn discharge<'a>(&'a self, _id: &'a ObligationId) -> BoxFuture<'a, Result<(), PortError>> {
        async move {
            self.note("discharge");
            Ok(())
        }
        .boxed()
    }
}

/// A host without package tools.
struct NoPrograms;

impl Programs for NoPrograms {
    fn run<'a>(&'a self, spec: &'a ExecSpec) -> BoxFuture<'a, Result<ExecOutcome, PortError>> {
        async move { Err(PortError::new(Reason::NotFound, format!("{:?} is not here", spec.argv))) }.boxed()
    }

    fn is_locked<'a>(&'a self, _path: &'a Path) -> BoxFuture<'a, Result<bool, PortError>> {
        async { Ok(false) }.boxed()
    }
}

struct FixedFacts;

impl FactsSource for FixedFacts {
    fn facts(&self) -> BoxFuture<'_, Result<Facts, PortError>> {
        async { Ok(Facts { hostname: "fake".to_owned(), ..Facts::default() }) }.boxed()
    }
}

/// A clock that the test moves.
#[derive(Default)]
pub(super) struct FakeClock(pub(super) AtomicU64);

impl Clock for FakeClock {
    fn wall(&self) -> Timestamp {
        Timestamp(1_700_000_000_000).plus(self.monotonic())
    }

    fn monotonic(&self) -> DurationMs {
        DurationMs(self.0.load(Ordering::SeqCst))
    }
}

/// A context over fakes, with one service, and the handles to look behind it.
pub(super) struct Bench {
    pub(super) context: ActionContext,
    pub(super) unit: Arc<FakeUnit>,
    pub(super) recorder: Arc<Recorder>,
    pub(super) clock: Arc<FakeClock>,
}

pub(super) fn service_name() -> ServiceName {
    ServiceName::new("ledger").expect("a valid name")
}

pub(super) fn spec() -> ServiceSpec {
    ServiceSpec {
        name: service_name(),
        driver: Driver::Process { name: "ledger".to_owned() },
        nodes: Selector::default(),
        probes: Vec::new(),
        stop_timeout: DurationMs(1_000),
        start_timeout: DurationMs(1_000),
        backup: None,
        install: None,
        traffic: None,
        configs: Vec::new(),
        secrets: Vec::new(),
        migrate: None,
        preflight: None,
        handover: None,
        data: None,
        maintenance: None,
        log_rotation: None,
        vars: BTreeMap::new(),
        labels: BTreeMap::new(),
    }
}

/// A bench whose files live under `root`: `root/backups` and everything else beneath `root`.
pub(super) fn bench(root: &Path, running: bool) -> Bench {
    let unit = FakeUnit::new(running);
    let recorder = Arc::new(Recorder::default());
    let clock = Arc::new(FakeClock::default());
    let handle = ServiceHandle { spec: spec(), driver: Arc::clone(&unit) as Arc<dyn ServiceDriver> };
    let context = ActionContext {
        node: NodeName::new("node1").expect("a valid name"),
        execution: ExecutionId::new("x-1").expect("a valid id"),
        operation: OperationId::new("r-1").expect("a valid id"),
        epoch: Epoch(7),
        services: Arc::new(FakeServices([(service_name(), handle)].into(), BTreeMap::new())),
        hooks: Arc::clone(&recorder) as Arc<dyn HookRunner>,
        obligations: Arc::clone(&recorder) as Arc<dyn ObligationKeeper>,
        leases: Arc::new(NoLeases),
        balancers: Balancers::new(
            Arc::new(FakeHost::with_clock(BTreeMap::new(), Arc::new(|| 0))),
            BTreeMap::new(),
        ),
        facts: Arc::new(FixedFacts),
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
        allowed_roots: vec![root.to_path_buf()],
        backup_dir: root.join("backups"),
        install: InstallRules {
            dirs: vec![root.join("opt")],
            configs: vec![root.join("etc")],
            secrets: vec![root.join("secrets")],
            unsigned: true,
            ..InstallRules::default()
        },
        hold_file: root.join("helper.hold"),
        data_dir: root.join("data"),
        releases_dir: root.join("releases"),
        programs: Arc::new(NoPrograms),
        limits: Limits { reserve_bytes: 0, nice: 0, ..Limits::default() },
        deadline: DurationMs(600_000),
        cancel: CancellationToken::new(),
        leaving: Leaving { asked: CancellationToken::new(), tell: Arc::new(|| {}) },
        progress: Arc::new(|_| {}),
    };
    Bench { context, unit, recorder, clock }
}
