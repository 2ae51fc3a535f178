//! Backups of real trees, opened by the host's own `tar` and `zstd`, and every way in which they may go wrong.

mod damage;
mod pausing;
mod trees;

use std::path::{Path, PathBuf};
use std::process::Command;

use quorate_model::backup::{BackupPolicy, BackupReceipt};
use quorate_model::{ActionOutcome, ActionSpec, BackupId, DurationMs, HookName};

use crate::actions::testing::{Bench, bench, service_name};
use crate::actions::{ActionError, execute};

/// A folder with `data` to back up and `backups` beside it.
struct Place {
    temp: tempfile::TempDir,
    bench: Bench,
}

impl Place {
    fn new() -> Self {
        let temp = tempfile::tempdir().expect("tempdir");
        std::fs::create_dir(temp.path().join("data")).expect("mkdir");
        let bench = bench(temp.path(), true);
        Self { temp, bench }
    }

    fn data(&self, name: &str) -> PathBuf {
        self.temp.path().join("data").join(name)
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.data(name), bytes).expect("write");
    }

    fn policy(&self) -> BackupPolicy {
        BackupPolicy {
            paths: vec![self.temp.path().join("data").to_str().expect("UTF-8").to_owned()],
            exclude: Vec::new(),
            pause: None,
            resume: None,
            pause_limit: DurationMs::ZERO,
            level: 3,
        }
    }

    fn pausing(&self) -> BackupPolicy {
        let hook = |name: &str| Some(HookName::new(name).expect("a valid name"));
        let pause_limit = DurationMs(30_000);
        BackupPolicy { pause: hook("pause"), resume: hook("resume"), pause_limit, ..self.policy() }
    }

    async fn create(&self, id: &str, policy: BackupPolicy) -> Result<ActionOutcome, ActionError> {
        let spec = ActionSpec::BackupCreate { service: service_name(), backup: backup(id), policy };
        execute(&self.bench.context, &spec).await
    }

    async fn stored(&self, id: &str, policy: BackupPolicy) -> BackupReceipt {
        self.create(id, policy).await.expect("stored").backup.expect("a receipt")
    }

    async fn verify(&self, id: &str, sha256: &str) -> Result<ActionOutcome, ActionError> {
        let spec = ActionSpec::BackupVerify { backup: backup(id), sha256: sha256.to_owned() };
        execute(&self.bench.context, &spec).await
    }

    /// Names in the folder of backups.
    fn stored_names(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.temp.path().join("backups"))
            .map(|all| all.map(|e| e.expect("entry").file_name().to_string_lossy().into_owned()).collect())
            .unwrap_or_default();
        names.sort();
        names
    }
}

fn backup(id: &str) -> BackupId {
    BackupId::new(id).expect("a valid id")
}

/// Runs a program of the host; a missing one fails the test with what to install.
fn host_tool(program: &str, args: &[&str], folder: &Path) -> String {
    let out = Command::new(program).args(args).current_dir(folder).output();
    let out = out.unwrap_or_else(|e| panic!("{program} cannot be run ({e}): apt-get install tar zstd"));
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}
