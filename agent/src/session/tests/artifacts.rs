//! Artifacts come in parts, from whoever has them, and what does not come leaves its reason.

use std::sync::atomic::{AtomicU32, Ordering};

use quorate_model::session::Assignment;
use quorate_model::{ActionSpec, Digest, Install, OperationId, Release, ServiceName, Version};
use sha2::{Digest as _, Sha256};

use super::*;
use crate::host::exec::hex;
use crate::session::artifacts;

/// More than two chunks, and no two alike.
fn whole() -> Vec<u8> {
    (0..600_000_u32).flat_map(|n| n.to_le_bytes()).take(600_001).collect()
}

fn digest(bytes: &[u8]) -> Digest {
    Digest::new(hex(&Sha256::digest(bytes))).unwrap()
}

/// The name of an artifact of which coordinators give other bytes than it has.
fn wrong() -> Digest {
    digest(b"wrong")
}

/// What the coordinators of these tests answer: one artifact, with an error now and then.
pub(super) fn answer(request: proto::FetchArtifactRequest) -> Result<proto::FetchArtifactResponse, Status> {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let bytes = whole();
    let size = bytes.len() as u64;
    if request.digest == wrong().as_str() {
        return Ok(proto::FetchArtifactResponse { data: b"wr0ng".to_vec(), size: 5 });
    }
    if request.digest != digest(&bytes).as_str() {
        return Err(Status::not_found("artifact\nunknown"));
    }
    if CALLS.fetch_add(1, Ordering::SeqCst) % 2 == 1 {
        return Err(Status::unavailable("try again"));
    }
    let from = usize::try_from(request.offset).unwrap();
    let to = (from + usize::try_from(request.limit).unwrap()).min(bytes.len());
    Ok(proto::FetchArtifactResponse { data: bytes[from..to].to_vec(), size })
}

fn work(artifact: Digest, size: u64) -> NodeWork {
    let release = Release {
        version: Version::new("1.0").unwrap(),
        artifact,
        size,
        signature: String::new(),
        install: Install::Archive { dir: "/opt".into() },
    };
    let action = ActionSpec::ArtifactStage { service: ServiceName::new("ledger").unwrap(), release };
    let assignment = Assignment {
        execution: ExecutionId::new("x-1").unwrap(),
        operation: OperationId::new("r-1").unwrap(),
        epoch: Epoch(4),
        grant_remaining: DurationMs::ZERO,
        deadline: DurationMs(60_000),
        action,
        disruptive: false,
    };
    NodeWork { assignments: vec![assignment], ..NodeWork::default() }
}

pub(super) async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(tokio::time::Instant::now() < end, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn an_artifact_comes_in_parts_and_errors_do_not_stop_it() {
    let ca = authority();
    let (one, _seen, _) = coordinator(&ca).await;
    let (two, _seen, _) = coordinator(&ca).await;
    let bench = bench(&ca, &[one, two], Duration::from_secs(3_600));
    tokio::spawn(artifacts::run(Arc::clone(&bench.context), bench.shutdown.clone()));
    let bytes = whole();
    bench.hub.desired(work(digest(&bytes), bytes.len() as u64), DurationMs::ZERO);
    let path = bench.dir.path().join(crate::config::SPOOL).join(digest(&bytes).as_str());
    until("the artifact is there", || path.exists().then_some(())).await;
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    assert!(!path.with_extension("part").exists());
    until("no reason is left", || (!path.with_extension("error").exists()).then_some(())).await;
}

#[tokio::test]
async fn what_does_not_come_leaves_its_reason_in_one_line() {
    let ca = authority();
    let (address, _seen, _) = coordinator(&ca).await;
    let bench = bench(&ca, &[address], Duration::from_secs(3_600));
    tokio::spawn(artifacts::run(Arc::clone(&bench.context), bench.shutdown.clone()));
    let spool = bench.dir.path().join(crate::config::SPOOL);
    for (artifact, size, want) in [
        (digest(b"nobody has it"), 5, "NotFound"),
        (wrong(), 5, "sha256"),
        (wrong(), 6, "5 bytes there, 6 were declared"),
    ] {
        let error = spool.join(format!("{artifact}.error"));
        bench.hub.desired(work(artifact.clone(), size), DurationMs::ZERO);
        let text =
            until("a reason", || std::fs::read_to_string(&error).ok().filter(|text| text.contains(want)))
                .await;
        assert!(!text.contains('\n'), "{text:?}");
        assert!(!spool.join(artifact.as_str()).exists(), "{want}");
    }
}
