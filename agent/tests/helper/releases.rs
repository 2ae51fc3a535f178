//! Releases through the real helper: what was signed goes into use once, wherever it dies.

use std::fs;
use std::process::{Command, Stdio};

use quorate_model::{ActionSpec, Digest, DurationMs, ExecutionState, Install, Reason, Release, Version};
use sha2::{Digest as _, Sha256};

use crate::fixture::{Host, service, until, work};

/// A release of some bytes, its artifact in the spool.
fn arrived(host: &Host, version: &str) -> Release {
    let bytes = format!("program {version}").into_bytes();
    let artifact: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let spool = host.path("state/spool/artifacts");
    fs::create_dir_all(&spool).expect("a folder");
    fs::write(spool.join(&artifact), &bytes).expect("the spool");
    Release {
        version: Version::new(version).expect("a version"),
        artifact: Digest::new(artifact).expect("a digest"),
        size: bytes.len() as u64,
        signature: String::new(),
        install: Install::Binary { dir: host.path("opt").display().to_string(), file: "ledger".to_owned() },
    }
}

fn stage(release: &Release) -> ActionSpec {
    ActionSpec::ArtifactStage { service: service(), release: release.clone() }
}

fn activate(release: &Release) -> ActionSpec {
    ActionSpec::ArtifactActivate { service: service(), release: release.clone() }
}

fn revert(release: &Release) -> ActionSpec {
    ActionSpec::ArtifactRevert { service: service(), release: release.clone() }
}

async fn succeeds(host: &Host, id: &str, epoch: u64, action: ActionSpec) {
    host.deliver(work(id, epoch, action)).await;
    let end = host.ended(id).await;
    assert_eq!(end.state, ExecutionState::Succeeded, "{id}: {end:?}");
}

fn used(host: &Host) -> String {
    host.read("opt/current/ledger")
}

/// Dies at a point of an execution, comes back, and is told the same work again.
async fn dies_at(host: &mut Host, point: &str, id: &str, epoch: u64, action: &ActionSpec) {
    host.kill();
    host.start(Some(point));
    host.deliver(work(id, epoch, action.clone())).await;
    host.died().await;
    host.start(None);
    host.deliver(work(id, epoch, action.clone())).await;
    let end = host.ended(id).await;
    assert_eq!(end.state, ExecutionState::Succeeded, "{point}: {end:?}\n{}", host.read("helper.log"));
    host.deliver(work(id, epoch, action.clone())).await;
    assert_eq!(host.ended(id).await, end, "{point}: the second answer equals the first");
}

const POINTS: [&str; 9] = [
    "accepted",
    "after-intent",
    "release-recorded",
    "release-stopped",
    "release-switched",
    "release-started",
    "after-effect",
    "before-result",
    "after-result",
];

#[tokio::test]
async fn an_activation_happens_once_wherever_the_helper_dies() {
    for point in POINTS {
        let mut host = Host::new();
        host.running().await;
        let one = arrived(&host, "1.0");
        succeeds(&host, "x-2", 2, stage(&one)).await;
        dies_at(&mut host, point, "x-3", 3, &activate(&one)).await;
        assert_eq!(used(&host), "program 1.0", "{point}");
        assert_eq!(host.starts(), 2, "{point}: one start\n{}", host.read("helper.log"));
        let last = host.read("starts.log").lines().last().map(str::to_owned).unwrap_or_default();
        assert!(last.contains("releases/1.0-"), "{point}: the new release was started: {last}");
    }
}

#[tokio::test]
async fn a_revert_happens_once_wherever_the_helper_dies() {
    for point in POINTS {
        let mut host = Host::new();
        host.running().await;
        let (one, two) = (arrived(&host, "1.0"), arrived(&host, "2.0"));
        succeeds(&host, "x-2", 2, stage(&one)).await;
        succeeds(&host, "x-3", 3, stage(&two)).await;
        succeeds(&host, "x-4", 4, activate(&one)).await;
        succeeds(&host, "x-5", 5, activate(&two)).await;
        assert_eq!(used(&host), "program 2.0");
        dies_at(&mut host, point, "x-6", 6, &revert(&two)).await;
        assert_eq!(used(&host), "program 1.0", "{point}");
        assert_eq!(host.starts(), 4, "{point}: one start\n{}", host.read("helper.log"));
    }
}

#[tokio::test]
async fn a_service_that_was_stopped_is_brought_up_again_also_when_it_is_late() {
    let mut host = Host::new();
    host.running().await;
    let one = arrived(&host, "1.0");
    succeeds(&host, "x-2", 2, stage(&one)).await;
    for (id, epoch, point, want, starts) in [
        ("x-3", 3, "after-intent", ExecutionState::TimedOut, 1),
        ("x-4", 4, "release-stopped", ExecutionState::Succeeded, 2),
    ] {
        host.kill();
        host.start(Some(point));
        drop(host.client().await);
        let mut short = work(id, epoch, activate(&one));
        short.assignments[0].0.deadline = DurationMs(3_000);
        let over = std::time::Instant::now() + std::time::Duration::from_secs(4);
        host.deliver(short).await;
        host.died().await;
        until("its time is over", async || (std::time::Instant::now() > over).then_some(())).await;
        host.start(None);
        let end = host.ended(id).await;
        assert_eq!(end.state, want, "{point}: {end:?}");
        assert_eq!(host.starts(), starts, "{point}");
    }
    assert_eq!(used(&host), "program 1.0");
}

#[tokio::test]
async fn the_hosts_own_keys_decide() {
    let mut host = Host::new();
    let (public, secret) = (host.path("k.pub"), host.path("k.key"));
    let minisign = |args: &[&str]| {
        let done = Command::new("minisign").args(args).stdin(Stdio::null()).output().expect("minisign runs");
        assert!(done.status.success(), "{done:?}");
    };
    let (public, secret) = (public.display().to_string(), secret.display().to_string());
    minisign(&["-G", "-W", "-p", &public, "-s", &secret]);
    let key = host.read("k.pub").lines().nth(1).expect("a key").to_owned();
    host.trust = format!("keys = {{ builds = \"{key}\" }}");
    host.running().await;
    let mut one = arrived(&host, "1.0");
    host.deliver(work("x-2", 2, stage(&one))).await;
    let end = host.ended("x-2").await;
    assert_eq!(
        (end.state, end.reason),
        (ExecutionState::Rejected, Some(Reason::SignatureInvalid)),
        "{end:?}"
    );
    let file = host.path("artifact");
    fs::copy(host.path("state/spool/artifacts").join(one.artifact.as_str()), &file).expect("a copy");
    minisign(&["-S", "-W", "-s", &secret, "-m", &file.display().to_string()]);
    one.signature = host.read("artifact.minisig");
    succeeds(&host, "x-3", 3, stage(&one)).await;
    succeeds(&host, "x-4", 4, activate(&one)).await;
    let end = host.ended("x-4").await;
    let receipt = end.outcome.and_then(|o| o.release).expect("a receipt");
    assert_eq!((receipt.version.as_str(), receipt.signed_by.as_str()), ("1.0", "builds"));
    let mut elsewhere = one.clone();
    elsewhere.install = Install::Archive { dir: host.path("data").display().to_string() };
    host.deliver(work("x-5", 5, stage(&elsewhere))).await;
    let end = host.ended("x-5").await;
    assert_eq!((end.state, end.reason), (ExecutionState::Rejected, Some(Reason::PolicyDenied)), "{end:?}");
}
