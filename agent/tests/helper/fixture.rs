//! A host in a temporary folder: a helper, one service that counts its starts, two hooks that note that they ran.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use quorate_agent::helper::protocol::{Answer, Request};
use quorate_agent::helper::{Client, Listener};
use quorate_agent::runner::{Incoming, Notice, Status};
use quorate_model::backup::BackupPolicy;
use quorate_model::session::{Assignment, ExecutionReport, NodeInstance, ObligationReport};
use quorate_model::{
    ActionSpec, BackupId, Driver, DurationMs, Epoch, ExecutionId, ExecutionState, HookName, OperationId,
    ServiceName,
};

/// Everything here takes milliseconds; a machine with fewer cores than processes takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Host {
    dir: tempfile::TempDir,
    helper: Option<Child>,
    /// What the pause hook does after it noted that it ran.
    pub(crate) pause_then: &'static str,
    /// What the resume hook does after it noted that it ran.
    pub(crate) resume_then: &'static str,
    /// What the service does when it is asked to stop.
    pub(crate) on_stop: &'static str,
    /// Who must have signed a release, as a line of `[policy]`.
    pub(crate) trust: String,
    /// More of the configuration, at its end.
    pub(crate) more: String,
}

pub(crate) fn service() -> ServiceName {
    ServiceName::new("ledger").expect("a valid name")
}

pub(crate) fn id(text: &str) -> ExecutionId {
    ExecutionId::new(text).expect("a valid id")
}

impl Host {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(dir.path().join("data")).expect("a folder");
        std::fs::create_dir(dir.path().join("opt")).expect("a folder");
        std::fs::write(dir.path().join("data/records"), b"what is backed up").expect("a file");
        let (trust, more) = ("unsigned = true".to_owned(), String::new());
        Self { dir, helper: None, pause_then: "", resume_then: "", on_stop: "exit 0", trust, more }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write_config(&self) {
        let root = self.dir.path().display();
        let Self { pause_then, resume_then, on_stop, trust, more, .. } = self;
        let text = format!(
            r#"
node = "node1"
data_dir = "{root}/state"
helper_socket = "{root}/helper.sock"
[policy]
actions = ["service.*", "backup.create", "artifact.*", "traffic.*", "maintenance.*", "exec.run", "role.promote", "data.*"]
services = ["ledger"]
paths = ["{root}/data"]
hooks = ["pause", "resume", "healthy", "migrate"]
run_hooks = ["migrate"]
backup_dir = "{root}/backups"
install = ["{root}/opt"]
{trust}
[limits]
reserve = "0B"
[journal]
min_free = "0B"
[process.ledger]
argv = ["/bin/sh", "-c", "trap '{on_stop}' TERM; echo start $(readlink {root}/opt/current) >> {root}/starts.log; while :; do sleep 0.05; done"]
cwd = "{root}"
log = "{root}/ledger.log"
settle_ms = 100
env = {{ PATH = "/usr/bin:/bin" }}
[hook.pause]
argv = ["/bin/sh", "-c", "echo pause >> {root}/hooks.log; {pause_then}"]
[hook.resume]
argv = ["/bin/sh", "-c", "echo resume >> {root}/hooks.log; {resume_then}"]
{more}
"#
        );
        std::fs::write(self.path("agent.toml"), text).expect("a writable folder");
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quorate-helper"));
        command.arg("--config").arg(self.path("agent.toml"));
        command
    }

    /// Starts the helper; it dies at the failpoint, if one is named.
    pub(crate) fn start(&mut self, failpoint: Option<&str>) {
        self.write_config();
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path("helper.log"))
            .expect("a log file");
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        if let Some(point) = failpoint {
            command.env("QUORATE_FAILPOINT", point);
        }
        self.helper = Some(command.spawn().expect("the helper starts"));
    }

    /// SIGKILL, as a crash.
    pub(crate) fn kill(&mut self) {
        if let Some(mut helper) = self.helper.take() {
            helper.kill().expect("it can be killed");
            helper.wait().expect("it can be waited for");
        }
    }

    /// SIGTERM, and its exit code.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        let mut helper = self.helper.take().expect("it runs");
        let pid = i32::try_from(helper.id()).ok().and_then(rustix::process::Pid::from_raw).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it can be signaled");
        helper.wait().expect("it can be waited for").code()
    }

    /// SIGHUP.
    pub(crate) fn hang_up(&self) {
        let helper = self.helper.as_ref().expect("it runs");
        let pid = i32::try_from(helper.id()).ok().and_then(rustix::process::Pid::from_raw).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).expect("it can be signaled");
    }

    /// Waits until the helper has died by itself.
    pub(crate) async fn died(&mut self) {
        let mut helper = self.helper.take().expect("it was started");
        until("the helper dies at its failpoint", async || {
            helper.try_wait().expect("it can be waited for").map(|status| assert!(!status.success()))
        })
        .await;
    }

    pub(crate) async fn client(&self) -> Client {
        let socket = self.path("helper.sock");
        until("the helper answers", async || {
            let mut client = Client::connect(&socket).await.ok()?;
            matches!(client.ask(&Request::Status).await, Ok(Answer::Status(_))).then_some(client)
        })
        .await
    }

    pub(crate) async fn status(&self) -> Status {
        match self.client().await.ask(&Request::Status).await {
            Ok(Answer::Status(status)) => *status,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn listen(&self) -> Listener {
        self.client().await.listen().await.expect("it can be listened to")
    }

    /// Hands work over. The helper may die of it.
    pub(crate) async fn deliver(&self, work: Incoming) {
        let mut client = self.client().await;
        let _ = client.ask(&Request::Work(Box::new(work))).await;
    }

    /// How an execution ended, told again from the journal if need be.
    pub(crate) async fn ended(&self, execution: &str) -> ExecutionReport {
        let wanted = id(execution);
        let told = self.told(move |notice| match notice {
            Notice::Execution(report)
                if report.execution == wanted
                    && (report.state.is_final() || report.state == ExecutionState::Unknown) =>
            {
                Some(*report)
            }
            _ => None,
        });
        told.await
    }

    pub(crate) async fn obligation(&self, wanted: impl Fn(&ObligationReport) -> bool) -> ObligationReport {
        self.told(move |notice| match notice {
            Notice::Obligation(report) if wanted(&report) => Some(report),
            _ => None,
        })
        .await
    }

    async fn told<T>(&self, pick: impl Fn(Notice) -> Option<T>) -> T {
        let mut listener = self.listen().await;
        let wait = async {
            loop {
                if let Some(notice) = listener.next().await.expect("the helper goes on")
                    && let Some(found) = pick(notice)
                {
                    return found;
                }
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(found) => found,
            Err(_) => panic!("it was never told:\n{}", self.read("helper.log")),
        }
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub(crate) fn starts(&self) -> usize {
        self.read("starts.log").lines().count()
    }

    pub(crate) fn hooks(&self) -> Vec<String> {
        self.read("hooks.log").lines().map(str::to_owned).collect()
    }

    /// The service runs once.
    pub(crate) async fn running(&mut self) {
        self.start(None);
        self.deliver(work("x-start", 1, ActionSpec::ServiceStart { service: service() })).await;
        assert_eq!(self.ended("x-start").await.state, ExecutionState::Succeeded);
        assert_eq!(self.starts(), 1);
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.kill();
        // The children outlive the helper on purpose; whoever has the marks of this folder goes with it.
        let root = self.dir.path().display().to_string();
        for pid in quorate_agent::host::proc::pids().unwrap_or_default() {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&line).contains(&root)
                && let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw)
            {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }
}

/// One execution on one instance.
pub(crate) fn work(execution: &str, epoch: u64, action: ActionSpec) -> Incoming {
    let instance = NodeInstance {
        service: service(),
        driver: Driver::Process { name: "ledger".to_owned() },
        running: true,
        stop_timeout: DurationMs(5_000),
        start_timeout: DurationMs(5_000),
    };
    let assignment = Assignment {
        execution: id(execution),
        operation: OperationId::new("r-1").expect("a valid id"),
        epoch: Epoch(epoch),
        grant_remaining: DurationMs::ZERO,
        deadline: DurationMs(60_000),
        action,
        disruptive: false,
    };
    Incoming {
        generation: epoch,
        assignments: vec![(assignment, None)],
        instances: vec![instance],
        ..Incoming::default()
    }
}

pub(crate) fn restart() -> ActionSpec {
    ActionSpec::ServiceRestart { service: service() }
}

/// A backup that pauses.
pub(crate) fn backup(host: &Host) -> ActionSpec {
    let policy = BackupPolicy {
        paths: vec![host.path("data").display().to_string()],
        exclude: Vec::new(),
        pause: Some(HookName::new("pause").expect("a valid name")),
        resume: Some(HookName::new("resume").expect("a valid name")),
        pause_limit: DurationMs(30_000),
        level: 1,
    };
    ActionSpec::BackupCreate { service: service(), backup: BackupId::new("b-1").expect("a valid id"), policy }
}

/// Waits for something with a deadline.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < end, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
