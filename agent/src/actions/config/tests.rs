//! Configuration files over real files and a unit that obeys or misbehaves.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use quorate_model::{
    ActionOutcome, ActionSpec, ConfigApply, ConfigName, ConfigSpec, Digest, DurationMs, ExecutionId,
    ExecutionState, HookName, Install, InstanceId, Reason, Release, Version,
};

use super::record::{Phase, Store, digest_of};
use super::{PutBack, put_back};
use crate::actions::testing::{Bench, bench, service_name};
use crate::actions::{ActionError, HookReport, execute, finish};

const OLD: &str = "port = 1\nname = \"old\"\n";
const NEW: &str = "port = 1\nname = \"new\"\n";

struct Host {
    dir: tempfile::TempDir,
    bench: Bench,
}

impl Host {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["etc", "data/spool/artifacts"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        let bench = bench(dir.path(), true);
        let host = Self { dir, bench };
        fs::write(host.file(), OLD).unwrap();
        host
    }

    fn root(&self) -> &Path {
        self.dir.path()
    }

    fn file(&self) -> PathBuf {
        self.root().join("etc/app.toml")
    }

    fn content(&self) -> String {
        fs::read_to_string(self.file()).unwrap_or_default()
    }

    fn release(&self, version: &str, content: &str) -> Release {
        let digest = digest_of(content.as_bytes());
        fs::write(self.root().join("data/spool/artifacts").join(&digest), content).unwrap();
        Release {
            version: Version::new(version).unwrap(),
            artifact: Digest::new(digest).unwrap(),
            size: content.len() as u64,
            signature: String::new(),
            install: Install::Config(ConfigSpec {
                name: ConfigName::new("settings").unwrap(),
                path: self.file().display().to_string(),
                mode: 0o640,
                check: Some(HookName::new("check").unwrap()),
                apply: ConfigApply::Restart,
                confirm: DurationMs::from_secs(30),
                sensitive: false,
            }),
        }
    }

    fn with(&self, version: &str, content: &str, change: impl FnOnce(&mut ConfigSpec)) -> Release {
        let mut release = self.release(version, content);
        if let Install::Config(spec) = &mut release.install {
            change(spec);
        }
        release
    }

    async fn validate(&self, release: &Release) -> Result<ActionOutcome, ActionError> {
        let spec = ActionSpec::ArtifactStage { service: service_name(), release: release.clone() };
        execute(&self.bench.context, &spec).await
    }

    async fn apply(&self, release: &Release) -> Result<ActionOutcome, ActionError> {
        let spec = ActionSpec::ArtifactActivate { service: service_name(), release: release.clone() };
        execute(&self.bench.context, &spec).await
    }

    async fn revert(&self, release: &Release) -> Result<ActionOutcome, ActionError> {
        let spec = ActionSpec::ArtifactRevert { service: service_name(), release: release.clone() };
        execute(&self.bench.context, &spec).await
    }

    async fn confirm(&self, release: &Release) -> Result<ActionOutcome, ActionError> {
        let spec = ActionSpec::ConfigConfirm { service: service_name(), release: release.clone() };
        execute(&self.bench.context, &spec).await
    }

    /// As the keeper of obligations does when nobody has confirmed in time.
    async fn expire(&self, release: &Release) -> Result<String, String> {
        let context = &self.bench.context;
        let handle = context.services.get(&service_name()).unwrap();
        put_back(PutBack {
            roots: &context.install.configs,
            releases_dir: &context.releases_dir,
            instance: &InstanceId { node: context.node.clone(), service: service_name() },
            driver: handle.driver.as_ref(),
            stop_timeout: handle.spec.stop_timeout,
            start_timeout: handle.spec.start_timeout,
            config: release.config().unwrap(),
            digest: release.artifact.as_str(),
        })
        .await
    }

    fn notes(&self) -> Vec<String> {
        self.bench.recorder.lines()
    }

    fn store(&self) -> Store {
        Store::new(&self.bench.context.releases_dir, &self.file())
    }

    /// As if the helper had ended when the change had come this far.
    fn crashed_at(&self, phase: Phase) {
        let mut record = self.store().load().unwrap();
        record.applied.as_mut().unwrap().phase = phase;
        self.store().store(&mut record).unwrap();
    }
}

#[tokio::test]
async fn a_candidate_is_checked_and_compared_and_nothing_is_touched() {
    let host = Host::new();
    let outcome = host.validate(&host.release("2", NEW)).await.unwrap();
    assert_eq!(host.content(), OLD);
    assert_eq!(host.notes(), ["check check app.toml"], "it is looked at under the file's own name");
    assert!(outcome.message.contains("passed check; +1 -1 lines"), "{}", outcome.message);
    assert!(outcome.output_tail.contains("-name = \"old\"\n+name = \"new\"\n"), "{}", outcome.output_tail);
    let receipt = outcome.release.unwrap();
    assert_eq!((receipt.artifact, receipt.replaces), (digest_of(NEW.as_bytes()), digest_of(OLD.as_bytes())));
    let secret = host.with("3", "name = \"other\"\n", |spec| spec.sensitive = true);
    let outcome = host.validate(&secret).await.unwrap();
    assert!(outcome.output_tail.is_empty() && outcome.message.contains("+1 -2 lines"), "{outcome:?}");
}

#[tokio::test]
async fn what_its_check_refuses_is_never_put_in_place() {
    let host = Host::new();
    host.bench.recorder.on_hook(|content| {
        let (ok, output_tail) = (!content.contains("new"), "line 2: name: unknown".to_owned());
        Ok(HookReport { ok, ended: "exit code 2".to_owned(), output_tail, ..HookReport::default() })
    });
    let release = host.release("2", NEW);
    let error = host.validate(&release).await.unwrap_err();
    assert_eq!((error.reason(), error.state()), (Reason::ConfigRejected, ExecutionState::Failed));
    assert_eq!(error.into_outcome().output_tail, "line 2: name: unknown");
    let error = host.apply(&release).await.unwrap_err();
    assert!(matches!(error, ActionError::NotStaged { .. }), "{error}");
    assert_eq!(host.content(), OLD);
}

#[tokio::test]
async fn a_file_is_put_in_place_after_its_way_back_is_owed_and_stays_once_confirmed() {
    let host = Host::new();
    let release = host.release("2", NEW);
    host.validate(&release).await.unwrap();
    let outcome = host.apply(&release).await.unwrap();
    assert_eq!(host.content(), NEW);
    let mode = fs::metadata(host.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o640);
    assert_eq!(outcome.release.unwrap().version, "2");
    assert_eq!(host.notes()[1..], ["open settings 30000", "hold"]);
    host.apply(&release).await.unwrap();
    host.confirm(&release).await.unwrap();
    assert_eq!(host.notes().last().unwrap(), "discharge");
    assert_eq!(host.content(), NEW);
}

#[tokio::test]
async fn nothing_is_written_when_nothing_can_be_owed() {
    let host = Host::new();
    let release = host.release("2", NEW);
    host.validate(&release).await.unwrap();
    *host.bench.recorder.refuse_open.lock().unwrap() = true;
    assert!(host.apply(&release).await.is_err());
    assert_eq!(host.content(), OLD);
    *host.bench.recorder.refuse_open.lock().unwrap() = false;
    host.apply(&release).await.unwrap();
    assert_eq!(host.content(), NEW, "the same execution goes on");
}

#[tokio::test]
async fn a_file_that_was_changed_by_hand_is_left() {
    let host = Host::new();
    let release = host.release("2", NEW);
    host.validate(&release).await.unwrap();
    fs::write(host.file(), "by hand\n").unwrap();
    let error = host.apply(&release).await.unwrap_err();
    assert_eq!((error.reason(), error.state()), (Reason::ConfigDrifted, ExecutionState::Rejected));
    fs::write(host.file(), OLD).unwrap();
    host.apply(&release).await.unwrap();
    fs::write(host.file(), "by hand\n").unwrap();
    assert_eq!(host.confirm(&release).await.unwrap_err().reason(), Reason::ConfigDrifted);
    assert_eq!(host.revert(&release).await.unwrap_err().reason(), Reason::ConfigDrifted);
    assert!(host.expire(&release).await.unwrap().contains("left as it is"));
    assert_eq!(host.content(), "by hand\n");
}

#[tokio::test]
async fn the_file_from_before_comes_back_with_its_mode() {
    let host = Host::new();
    fs::set_permissions(host.file(), fs::Permissions::from_mode(0o600)).unwrap();
    let release = host.release("2", NEW);
    host.validate(&release).await.unwrap();
    host.apply(&release).await.unwrap();
    host.revert(&release).await.unwrap();
    assert_eq!(host.content(), OLD);
    assert_eq!(fs::metadata(host.file()).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(host.notes().last().unwrap(), "discharge");
    let again = host.revert(&release).await.unwrap();
    assert!(again.message.contains("as it was before"), "{}", again.message);
}

#[tokio::test]
async fn a_file_that_did_not_exist_is_removed_again() {
    let host = Host::new();
    fs::remove_file(host.file()).unwrap();
    let release = host.with("1", NEW, |spec| spec.mode = 0);
    let outcome = host.validate(&release).await.unwrap();
    assert!(outcome.message.contains("does not exist yet"), "{}", outcome.message);
    host.apply(&release).await.unwrap();
    assert_eq!(fs::metadata(host.file()).unwrap().permissions().mode() & 0o7777, 0o644);
    host.expire(&release).await.unwrap();
    assert!(!host.file().exists());
}

#[tokio::test]
async fn the_helper_alone_puts_it_back_after_a_crash_at_every_point() {
    for phase in [Phase::Owed, Phase::Written, Phase::Used, Phase::Returning] {
        let host = Host::new();
        let release = host.release("2", NEW);
        host.validate(&release).await.unwrap();
        host.apply(&release).await.unwrap();
        if matches!(phase, Phase::Owed | Phase::Returning) {
            // Nothing was written yet, or the file from before is in place and its service does not use it.
            fs::write(host.file(), OLD).unwrap();
        }
        host.crashed_at(phase);
        host.expire(&release).await.unwrap();
        assert_eq!(host.content(), OLD, "{phase:?}");
        assert!(
            host.expire(&release).await.unwrap().contains("as it was before"),
            "{phase:?}: once is enough"
        );
    }
}

#[tokio::test]
async fn an_execution_goes_on_where_a_crash_ended_it() {
    let host = Host::new();
    let release = host.release("2", NEW);
    host.validate(&release).await.unwrap();
    host.apply(&release).await.unwrap();
    host.crashed_at(Phase::Written);
    let outcome = host.apply(&release).await.unwrap();
    assert!(outcome.unit.is_some(), "the service is made to use it: {}", outcome.message);
    host.crashed_at(Phase::Used);
    host.apply(&release).await.unwrap();
    assert_eq!(host.notes().last().unwrap(), "hold", "what is owed outlasts the execution");
    // A late one is not begun, and what is owed is done; a way back that was begun is brought to its end.
    let late = ActionSpec::ArtifactActivate { service: service_name(), release: release.clone() };
    assert_eq!(finish(&host.bench.context, &late).await.unwrap_err().state(), ExecutionState::TimedOut);
    let back = ActionSpec::ArtifactRevert { service: service_name(), release: release.clone() };
    assert_eq!(finish(&host.bench.context, &back).await.unwrap_err().state(), ExecutionState::TimedOut);
    host.crashed_at(Phase::Returning);
    finish(&host.bench.context, &back).await.unwrap();
    assert_eq!(host.content(), OLD);
}

#[tokio::test]
async fn only_plain_files_below_the_hosts_folders_are_replaced() {
    let host = Host::new();
    let elsewhere = host.root().join("secret");
    fs::write(&elsewhere, "secret\n").unwrap();
    fs::remove_file(host.file()).unwrap();
    symlink(&elsewhere, host.file()).unwrap();
    let error = host.validate(&host.release("2", NEW)).await.unwrap_err();
    assert!(matches!(error, ActionError::Occupied { .. }), "a link: {error}");
    for path in ["secret", "etc/../secret", "etc", "other/app.toml"] {
        let path = host.root().join(path).display().to_string();
        let error = host.validate(&host.with("2", NEW, |spec| spec.path = path.clone())).await.unwrap_err();
        assert_eq!(error.state(), ExecutionState::Rejected, "{path}: {error}");
    }
    symlink(host.root(), host.root().join("etc/out")).unwrap();
    let through = host.root().join("etc/out/secret").display().to_string();
    let error = host.validate(&host.with("2", NEW, |spec| spec.path = through)).await.unwrap_err();
    assert!(matches!(error, ActionError::PathNotAllowed(_)), "through a link: {error}");
    assert_eq!(fs::read_to_string(elsewhere).unwrap(), "secret\n");
    let large = host.with("2", NEW, |_| {});
    let error = host.validate(&Release { size: 2 << 20, ..large }).await.unwrap_err();
    assert_eq!(error.reason(), Reason::InvalidArgument);
}

#[tokio::test]
async fn a_confirmed_content_is_the_way_back_of_the_next() {
    let mut host = Host::new();
    let first = host.release("2", NEW);
    host.validate(&first).await.unwrap();
    host.apply(&first).await.unwrap();
    host.confirm(&first).await.unwrap();
    host.bench.context.execution = ExecutionId::new("x-2").unwrap();
    let second = host.release("3", "port = 2\n");
    host.validate(&second).await.unwrap();
    let outcome = host.apply(&second).await.unwrap();
    assert_eq!(outcome.release.unwrap().previous, "2");
    let back = host.revert(&second).await.unwrap().release.unwrap();
    assert_eq!((back.version.as_str(), host.content().as_str()), ("2", NEW));
}
