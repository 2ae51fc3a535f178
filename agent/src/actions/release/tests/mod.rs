//! Releases over real files, real signatures and a unit that obeys or misbehaves.

mod archives;
mod changes;
mod packages;
mod staging;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use quorate_model::{ActionSpec, Digest, Install, Release, Version};
use sha2::{Digest as _, Sha256};

use crate::actions::testing::{Bench, bench, service_name};
use crate::host::exec::hex;

/// A bench with a folder for releases and one where artifacts arrive.
pub(super) fn host(running: bool) -> (tempfile::TempDir, Bench) {
    let dir = tempfile::tempdir().expect("a folder");
    fs::create_dir_all(dir.path().join("opt")).expect("a folder");
    fs::create_dir_all(dir.path().join("data/spool/artifacts")).expect("a folder");
    let bench = bench(dir.path(), running);
    (dir, bench)
}

pub(super) fn release(root: &Path, version: &str, bytes: &[u8]) -> Release {
    Release {
        version: Version::new(version).expect("a version"),
        artifact: Digest::new(hex(&Sha256::digest(bytes))).expect("a digest"),
        size: bytes.len() as u64,
        signature: String::new(),
        install: Install::Binary { dir: root.join("opt").display().to_string(), file: "ledger".into() },
    }
}

/// Puts bytes where the network half would.
pub(super) fn arrive(root: &Path, release: &Release, bytes: &[u8]) -> PathBuf {
    let path = root.join("data/spool/artifacts").join(release.artifact.as_str());
    fs::write(&path, bytes).expect("the spool");
    path
}

pub(super) fn stage(release: &Release) -> ActionSpec {
    ActionSpec::ArtifactStage { service: service_name(), release: release.clone() }
}

pub(super) fn activate(release: &Release) -> ActionSpec {
    ActionSpec::ArtifactActivate { service: service_name(), release: release.clone() }
}

pub(super) fn revert(release: &Release) -> ActionSpec {
    ActionSpec::ArtifactRevert { service: service_name(), release: release.clone() }
}

/// A real key pair.
pub(super) struct Keys {
    dir: tempfile::TempDir,
    pub(super) public: String,
}

pub(super) fn minisign(args: &[&str]) {
    let done = Command::new("minisign").args(args).stdin(Stdio::null()).output().expect("minisign runs");
    assert!(done.status.success(), "{done:?}");
}

impl Keys {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let (public, secret) = (dir.path().join("k.pub"), dir.path().join("k.key"));
        minisign(&["-G", "-W", "-p", text(&public), "-s", text(&secret)]);
        let line = fs::read_to_string(&public).expect("a key").lines().nth(1).expect("a line").to_owned();
        Self { dir, public: line }
    }

    /// The signature of these bytes; `more` as `-l` for the legacy kind.
    pub(super) fn sign(&self, bytes: &[u8], more: &[&str]) -> String {
        let (file, secret) = (self.dir.path().join("m"), self.dir.path().join("k.key"));
        fs::write(&file, bytes).expect("a file");
        let mut args = vec!["-S", "-W", "-s", text(&secret), "-m", text(&file)];
        args.extend(more);
        minisign(&args);
        fs::read_to_string(self.dir.path().join("m.minisig")).expect("a signature")
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}
