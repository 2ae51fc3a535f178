//! Rotations over real files and a unit that obeys or misbehaves.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use quorate_model::{
    ActionOutcome, ActionSpec, ConfigApply, DurationMs, ExecutionState, HookName, Reason, RotationId,
    SecretName, SecretSource, SecretSpec, SecretVerb,
};

use super::record::{Phase, Store};
use crate::actions::testing::{Bench, Misbehave, bench, locked, service_name};
use crate::actions::{ActionError, HookReport, execute, finish};

const OLD: &str = "first-canary-7c2e";
const NEW: &str = "second-canary-91af";

struct Host {
    dir: tempfile::TempDir,
    bench: Bench,
}

type Ended = Result<ActionOutcome, ActionError>;

impl Host {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("secrets")).unwrap();
        let bench = bench(dir.path(), true);
        let host = Self { dir, bench };
        fs::write(host.path("token"), OLD).unwrap();
        fs::set_permissions(host.path("token"), fs::Permissions::from_mode(0o640)).unwrap();
        fs::write(host.path("token.next"), NEW).unwrap();
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("secrets").join(name)
    }

    /// In use, and beside it.
    fn contents(&self) -> (String, Option<String>) {
        let read = |name: &str| fs::read_to_string(self.path(name)).ok();
        (read("token").unwrap_or_default(), read("token.previous"))
    }

    fn action(&self, rotation: &str, verb: SecretVerb, source: SecretSource) -> ActionSpec {
        self.action_after(rotation, None, verb, source)
    }

    fn action_after(
        &self,
        rotation: &str,
        stopped: Option<&str>,
        verb: SecretVerb,
        source: SecretSource,
    ) -> ActionSpec {
        let secret = SecretSpec {
            name: SecretName::new("token").unwrap(),
            file: self.path("token").display().to_string(),
            previous: self.path("token.previous").display().to_string(),
            source,
            confirm: HookName::new("works").unwrap(),
            apply: ConfigApply::Restart,
            grace: DurationMs::from_secs(5),
        };
        let rotation = RotationId::new(rotation).unwrap();
        let resumes = stopped.map(|stopped| RotationId::new(stopped).unwrap());
        ActionSpec::Secret { service: service_name(), secret, rotation, verb, resumes }
    }

    fn candidate(&self) -> SecretSource {
        SecretSource::Candidate(self.path("token.next").display().to_string())
    }

    async fn part(&self, rotation: &str, verb: SecretVerb) -> Ended {
        self.part_after(rotation, None, verb).await
    }

    async fn part_after(&self, rotation: &str, stopped: Option<&str>, verb: SecretVerb) -> Ended {
        let action = self.action_after(rotation, stopped, verb, self.candidate());
        let ended = execute(&self.bench.context, &action).await;
        // Whatever happens, nothing that is told holds a secret.
        let told = format!("{ended:?} {:?}", self.bench.recorder.lines());
        assert!(!told.contains("canary"), "{told}");
        ended
    }

    async fn parts(&self, rotation: &str, verbs: &[SecretVerb]) {
        for verb in verbs {
            self.part(rotation, *verb).await.unwrap();
        }
    }

    fn store(&self) -> Store {
        Store::new(&self.bench.context.releases_dir, &self.path("token"))
    }

    /// As if the helper had ended when the rotation had come this far.
    fn crashed_at(&self, phase: Phase) {
        let mut record = self.store().load().unwrap();
        record.phase = phase;
        record.running = true;
        self.store().store(&record).unwrap();
    }
}

fn pair(file: &str, previous: Option<&str>) -> (String, Option<String>) {
    (file.to_owned(), previous.map(str::to_owned))
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

use SecretVerb::{Confirm, Install, Retire, Revert, Stage};

#[tokio::test]
async fn both_are_valid_until_the_new_one_is_confirmed_and_the_other_retired() {
    let host = Host::new();
    host.parts("k-1", &[Stage]).await;
    assert_eq!(host.contents(), pair(OLD, None), "nothing is touched");
    assert!(locked(&host.bench.unit.calls).is_empty());
    host.parts("k-1", &[Install]).await;
    assert_eq!(host.contents(), pair(NEW, Some(OLD)));
    assert_eq!((mode(&host.path("token")), mode(&host.path("token.previous"))), (0o640, 0o640));
    assert_eq!(*locked(&host.bench.unit.calls), ["stop", "start"]);
    let early = host.part("k-1", Retire).await.unwrap_err();
    assert_eq!((early.reason(), early.state()), (Reason::WrongState, ExecutionState::Rejected));
    assert_eq!(host.contents(), pair(NEW, Some(OLD)), "not confirmed: nothing is retired");
    host.parts("k-1", &[Confirm]).await;
    assert_eq!(host.bench.recorder.lines(), ["check works token"], "the hook is given the file in use");
    host.parts("k-1", &[Install, Retire, Retire]).await;
    assert_eq!(host.contents(), pair(NEW, None));
    assert_eq!(locked(&host.bench.unit.calls).len(), 4, "what was done is not done again");
    assert!(host.store().next().unwrap().is_none(), "no copy is kept");
}

#[tokio::test]
async fn what_does_not_confirm_goes_back_and_nobody_is_locked_out() {
    let host = Host::new();
    host.parts("k-1", &[Stage, Install]).await;
    host.bench.recorder.on_hook(|content| {
        let (ended, output_tail) = ("exit code 1".to_owned(), format!("refused: {content}"));
        Ok(HookReport { ended, output_tail, ..HookReport::default() })
    });
    let error = host.part("k-1", Confirm).await.unwrap_err();
    assert_eq!((error.reason(), error.state()), (Reason::ActionFailed, ExecutionState::Failed));
    assert!(error.into_outcome().output_tail.is_empty(), "what the hook printed is told to nobody");
    host.parts("k-1", &[Revert, Revert]).await;
    assert_eq!(host.contents(), pair(OLD, Some(NEW)));
    assert!(host.part("k-1", Retire).await.is_err());
    // The way is free for another one.
    fs::write(host.path("token.next"), "third-canary").unwrap();
    host.parts("k-2", &[Stage, Install]).await;
    assert_eq!(host.contents(), pair("third-canary", Some(OLD)));
}

#[tokio::test]
async fn what_was_stopped_half_way_is_gone_on_with_or_taken_back_but_nothing_third_comes() {
    let host = Host::new();
    host.parts("k-1", &[Stage, Install]).await;
    fs::write(host.path("token.next"), "third-canary").unwrap();
    let third = host.part("k-2", Stage).await.unwrap_err();
    assert_eq!(third.reason(), Reason::WrongState);
    fs::write(host.path("token.next"), NEW).unwrap();
    host.parts("k-3", &[Stage, Install, Confirm]).await;
    assert_eq!(host.contents(), pair(NEW, Some(OLD)), "the same one is gone on with");
    fs::write(host.path("token.next"), OLD).unwrap();
    host.parts("k-4", &[Stage, Install]).await;
    assert_eq!(host.contents(), pair(OLD, Some(NEW)), "the one before is taken back");
    host.parts("k-4", &[Confirm, Retire]).await;
    assert_eq!(host.contents(), pair(OLD, None));
    let same = host.part("k-5", Stage).await.unwrap_err();
    assert_eq!(same.reason(), Reason::NothingToChange);
}

#[tokio::test]
async fn one_that_was_through_when_the_others_stopped_has_it_already() {
    let host = Host::new();
    host.parts("k-1", &[Stage, Install, Confirm, Retire]).await;
    let calls = locked(&host.bench.unit.calls).len();
    for stopped in [None, Some("k-0")] {
        let same = host.part_after("k-2", stopped, Stage).await.unwrap_err();
        assert_eq!(
            same.reason(),
            Reason::NothingToChange,
            "nothing stopped: the next one was forgotten here"
        );
    }
    // The one that goes on is stopped as well, here before its own removal.
    let staged = host.part_after("k-2", Some("k-1"), Stage).await.unwrap();
    assert!(staged.message.ends_with("it is in use here since k-1"), "{}", staged.message);
    host.parts("k-2", &[Install, Confirm, Revert]).await;
    for (rotation, stopped) in [("k-3", "k-1"), ("k-4", "k-3")] {
        let staged = host.part_after(rotation, Some(stopped), Stage).await.unwrap();
        assert!(staged.message.ends_with("it is in use here since k-1"), "{}", staged.message);
        host.parts(rotation, &[Install, Confirm, Retire, Retire]).await;
    }
    assert_eq!(host.contents(), pair(NEW, None));
    assert_eq!(locked(&host.bench.unit.calls).len(), calls, "nobody was disturbed");
    assert_eq!(host.bench.recorder.lines().len(), 4, "each has its proof");
    // Another one comes as ever, and what somebody put beside is removed.
    fs::write(host.path("token.next"), "third-canary").unwrap();
    host.parts("k-5", &[Stage, Install]).await;
    assert_eq!(host.contents(), pair("third-canary", Some(NEW)));
}

#[tokio::test]
async fn a_hook_makes_no_other_one_where_the_one_it_made_is_in_use() {
    let host = Host::new();
    host.parts("k-1", &[Stage, Install, Confirm, Retire]).await;
    let make = SecretSource::Generate(HookName::new("make").unwrap());
    let stage = host.action_after("k-2", Some("k-1"), Stage, make);
    execute(&host.bench.context, &stage).await.unwrap();
    assert!(!host.bench.recorder.lines().iter().any(|line| line.contains("make")));
    host.parts("k-2", &[Install, Confirm, Retire]).await;
    assert_eq!(host.contents(), pair(NEW, None));
}

#[tokio::test]
async fn a_candidate_that_cannot_be_one_is_refused_before_anything_is_touched() {
    let host = Host::new();
    fs::write(host.path("token.next"), "").unwrap();
    assert_eq!(host.part("k-1", Stage).await.unwrap_err().reason(), Reason::InvalidArgument);
    fs::write(host.path("token.next"), vec![b'x'; 70_000]).unwrap();
    assert!(matches!(host.part("k-1", Stage).await, Err(ActionError::Occupied { .. })));
    fs::remove_file(host.path("token.next")).unwrap();
    assert!(matches!(host.part("k-1", Stage).await, Err(ActionError::NotFound(_))));
    std::os::unix::fs::symlink(host.path("token"), host.path("token.next")).unwrap();
    assert!(matches!(host.part("k-1", Stage).await, Err(ActionError::Occupied { .. })));
    let outside = SecretSource::Candidate("/etc/hostname".to_owned());
    let error = execute(&host.bench.context, &host.action("k-1", Stage, outside)).await.unwrap_err();
    assert!(matches!(error, ActionError::PathNotAllowed(_)), "{error}");
    assert_eq!(host.part("k-1", Install).await.unwrap_err().reason(), Reason::WrongState, "not staged");
    assert_eq!(host.contents(), pair(OLD, None));
}

#[tokio::test]
async fn a_crash_anywhere_is_gone_on_with_and_the_service_is_not_left_down() {
    // Beside, and not in place yet.
    let host = Host::new();
    host.parts("k-1", &[Stage]).await;
    fs::write(host.path("token.previous"), OLD).unwrap();
    host.crashed_at(Phase::Installing);
    host.bench.unit.end_now();
    let install = host.action("k-1", Install, host.candidate());
    finish(&host.bench.context, &install).await.unwrap();
    assert_eq!(host.contents(), pair(NEW, Some(OLD)));
    assert_eq!(locked(&host.bench.unit.state).active, "active");
    // Put back, and not beside yet.
    fs::write(host.path("token"), OLD).unwrap();
    host.crashed_at(Phase::Returning);
    host.parts("k-1", &[Revert]).await;
    assert_eq!(host.contents(), pair(OLD, Some(NEW)));
    // Removed, and not read yet.
    host.parts("k-2", &[Stage, Install, Confirm]).await;
    fs::remove_file(host.path("token.previous")).unwrap();
    host.crashed_at(Phase::Retiring);
    let retire = host.action("k-2", Retire, host.candidate());
    finish(&host.bench.context, &retire).await.unwrap();
    assert_eq!(host.contents(), pair(NEW, None));
    // What was not begun before the crash is late and stays undone.
    fs::write(host.path("token.next"), OLD).unwrap();
    host.parts("k-3", &[Stage]).await;
    let late = finish(&host.bench.context, &host.action("k-3", Install, host.candidate())).await;
    assert!(matches!(late, Err(ActionError::DeadlineExceeded(_))), "{late:?}");
    assert_eq!(host.contents(), pair(NEW, None));
}

#[tokio::test]
async fn a_service_that_does_not_start_with_it_is_a_failure_and_has_both() {
    let host = Host::new();
    host.parts("k-1", &[Stage]).await;
    *locked(&host.bench.unit.misbehave) = Misbehave::RefusesStart;
    let error = host.part("k-1", Install).await.unwrap_err();
    assert_eq!(error.state(), ExecutionState::Failed);
    assert_eq!(host.contents(), pair(NEW, Some(OLD)));
    *locked(&host.bench.unit.misbehave) = Misbehave::No;
    host.parts("k-1", &[Revert]).await;
    assert_eq!(host.contents(), pair(OLD, Some(NEW)));
    assert_eq!(locked(&host.bench.unit.state).active, "active");
}

#[tokio::test]
async fn one_that_somebody_else_changed_is_left() {
    let host = Host::new();
    host.parts("k-1", &[Stage, Install]).await;
    fs::write(host.path("token"), "by-hand-canary").unwrap();
    // The one before is nowhere else: a way back that is not sure leaves it where it lies.
    for verb in [Install, Confirm, Revert] {
        assert_eq!(host.part("k-1", verb).await.unwrap_err().reason(), Reason::ConfigDrifted, "{verb:?}");
    }
    assert_eq!(host.contents(), pair("by-hand-canary", Some(OLD)));
}

#[tokio::test]
async fn one_that_everybody_may_read_is_refused_before_it_is_touched() {
    let host = Host::new();
    fs::set_permissions(host.path("token"), fs::Permissions::from_mode(0o644)).unwrap();
    let refused = host.part("k-1", Stage).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::WrongState);
    assert!(refused.to_string().contains("chmod"), "{refused}");
    assert_eq!((host.contents(), mode(&host.path("token"))), (pair(OLD, None), 0o644));
}

#[tokio::test]
async fn a_hook_may_make_the_next_one() {
    let host = Host::new();
    let path = host.store().next_path();
    host.bench.recorder.on_hook(move |_| {
        fs::write(&path, NEW).unwrap();
        Ok(HookReport { ok: true, ended: "exit code 0".to_owned(), ..HookReport::default() })
    });
    let make = || SecretSource::Generate(HookName::new("make").unwrap());
    for verb in [Stage, Install] {
        execute(&host.bench.context, &host.action("k-1", verb, make())).await.unwrap();
    }
    assert_eq!(host.contents(), pair(NEW, Some(OLD)));
    execute(&host.bench.context, &host.action("k-2", Stage, make())).await.unwrap();
    let made = host.bench.recorder.lines().iter().filter(|line| line.contains("make")).count();
    assert_eq!(made, 1, "what was made and not retired is used before another one is made");
}
