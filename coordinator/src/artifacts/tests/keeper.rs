//! Copies between members, with a second store in the place of the fellow member.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use quorate_common::task::Shutdown;
use quorate_core::Command;
use quorate_core::command::{ArtifactCommand, ClusterCommand};
use quorate_model::{Digest, DurationMs, MemberId, MemberName};
use tempfile::TempDir;

use super::{NOW, limits, put, spec_of};
use crate::api::tests::world::World;
use crate::artifacts::{ArtifactError, Artifacts, Chunk, Holder, Keeper, Peers};

/// Another member, asked by a function call; it dies after some answers.
struct Fellow {
    artifacts: Artifacts,
    answers: AtomicUsize,
    /// Done before its last answer.
    at_last: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Peers for Fellow {
    fn read<'a>(
        &'a self,
        holder: &'a Holder,
        digest: &'a Digest,
        offset: u64,
        _: u32,
    ) -> BoxFuture<'a, Result<Chunk, String>> {
        Box::pin(async move {
            assert_eq!(holder.member, MemberId(2));
            let left = self.answers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
            if left.map_err(|_| "it is dead".to_owned())? == 1
                && let Some(work) = self.at_last.lock().unwrap().take()
            {
                work();
            }
            // Small parts, so that a copy is many of them.
            self.artifacts.read(digest, offset, 1_000).await.map_err(|e| e.to_string())
        })
    }

    fn suspect<'a>(&'a self, _: &'a Holder, digest: &'a Digest) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            self.artifacts.suspect(digest);
            Ok(())
        })
    }
}

struct Pair {
    world: World,
    dirs: [TempDir; 2],
    own: Artifacts,
    fellow: Arc<Fellow>,
    keeper: Keeper,
}

fn artifacts(dir: &TempDir, peers: Arc<dyn Peers>) -> Artifacts {
    Artifacts::open(dir.path(), limits(), peers).unwrap()
}

/// Member 1, which is ours, and member 2, which has an artifact that the catalogue lists.
fn pair(bytes: &[u8], answers: usize) -> (Pair, Digest) {
    let world = World::new();
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let nobody = Arc::new(crate::api::tests::world::NoPeers);
    let fellow = Fellow {
        artifacts: artifacts(&dirs[1], nobody),
        answers: AtomicUsize::new(answers),
        at_last: Mutex::default(),
    };
    let fellow = Arc::new(fellow);
    let digest = put(&fellow.artifacts.inner.store, bytes);
    world.memory.system(Command::Cluster(ClusterCommand::AddMember {
        name: MemberName::new("coord2").unwrap(),
        grpc: "127.0.0.1:1".into(),
        http: "127.0.0.1:2".into(),
    }));
    let system = |command| world.memory.system(Command::Artifact(command));
    system(ArtifactCommand::Register { spec: spec_of(bytes) });
    system(ArtifactCommand::Hold { digest: digest.clone(), member: MemberId(2) });
    let own = artifacts(&dirs[0], fellow.clone());
    let keeper = Keeper::new(own.clone(), world.memory.clone());
    (Pair { world, dirs, own, fellow, keeper }, digest)
}

impl Pair {
    async fn round(&mut self) {
        self.keeper.round(&Shutdown::new()).await;
    }

    fn holders(&self, digest: &Digest) -> Vec<u64> {
        let state = self.world.memory.state.lock().unwrap();
        state.artifacts.get(digest).map(|a| a.holders.iter().map(|m| m.0).collect()).unwrap_or_default()
    }
}

fn bytes() -> Vec<u8> {
    (0..10_500_u32).map(|n| u8::try_from(n % 251).unwrap()).collect()
}

#[tokio::test]
async fn what_is_missing_is_copied_and_a_copy_goes_on_where_it_stopped() {
    let (mut pair, digest) = pair(&bytes(), 4);
    pair.round().await;
    assert_eq!((pair.own.has(&digest), pair.own.copies()), (false, (0, 1)));
    let begun = pair.own.begin(spec_of(&bytes()), true, NOW).await.unwrap();
    assert_eq!(begun.received, 4_000);
    pair.fellow.answers.store(7, Ordering::Relaxed);
    pair.round().await;
    assert!(!pair.own.has(&digest), "it waits before it tries again");
    pair.world.memory.advance(DurationMs::from_secs(60));
    pair.round().await;
    assert!(pair.own.has(&digest), "seven answers were enough: four parts were here");
    assert_eq!(pair.holders(&digest), [1, 2]);
    assert_eq!(pair.own.read(&digest, 10_000, 1_000).await.unwrap().data, bytes()[10_000..]);
}

#[tokio::test]
async fn a_damaged_original_is_given_up_and_nobody_keeps_its_copy() {
    let (mut pair, digest) = pair(&bytes(), usize::MAX);
    let mut damaged = bytes();
    damaged[9_999] ^= 1;
    fs::write(pair.dirs[1].path().join("blobs").join(digest.as_str()), &damaged).unwrap();
    pair.round().await;
    assert!(!pair.own.has(&digest));
    assert_eq!(
        fs::read_dir(pair.dirs[0].path().join("parts")).unwrap().count(),
        0,
        "all of it was thrown away"
    );
    // The fellow's own task reads it again.
    let suspects = pair.fellow.artifacts.take_suspects();
    assert!(suspects.contains(&digest));
    assert!(!pair.fellow.artifacts.inner.store.verify(&digest).unwrap());
    let error = pair.fellow.artifacts.read(&digest, 0, 1).await.unwrap_err();
    assert!(matches!(error, ArtifactError::NotHere));
}

#[tokio::test]
async fn what_is_lost_here_is_released_and_fetched_anew() {
    let (mut pair, digest) = pair(&bytes(), usize::MAX);
    pair.round().await;
    assert_eq!(pair.holders(&digest), [1, 2]);
    let blob = pair.dirs[0].path().join("blobs").join(digest.as_str());
    // As after a restart with a file that was cut off.
    fs::write(&blob, &bytes()[..100]).unwrap();
    let own = artifacts(&pair.dirs[0], pair.fellow.clone());
    pair.keeper = Keeper::new(own.clone(), pair.world.memory.clone());
    pair.own = own;
    pair.fellow.answers.store(0, Ordering::Relaxed);
    pair.round().await;
    assert_eq!((pair.holders(&digest), blob.exists()), (vec![2], false), "it says so before it has it again");
    pair.fellow.answers.store(usize::MAX, Ordering::Relaxed);
    pair.world.memory.advance(DurationMs::from_secs(60));
    pair.round().await;
    assert_eq!(pair.holders(&digest), [1, 2]);
    assert_eq!(fs::read(&blob).unwrap(), bytes());
}

#[tokio::test]
async fn a_deleted_one_is_removed_but_never_by_a_member_that_is_behind() {
    let (mut pair, digest) = pair(&bytes(), usize::MAX);
    pair.round().await;
    pair.world.memory.system(Command::Artifact(ArtifactCommand::Delete { digest: digest.clone() }));
    pair.world.memory.has_leader.store(false, Ordering::Relaxed);
    pair.round().await;
    assert!(pair.own.has(&digest), "no quorum says that it may go");
    pair.world.memory.has_leader.store(true, Ordering::Relaxed);
    pair.round().await;
    assert!(!pair.own.has(&digest));
}

#[tokio::test]
async fn half_a_copy_of_a_deleted_one_does_not_stay() {
    let (mut pair, digest) = pair(&bytes(), 4);
    let delete = Command::Artifact(ArtifactCommand::Delete { digest: digest.clone() });
    let memory = pair.world.memory.clone();
    *pair.fellow.at_last.lock().unwrap() = Some(Box::new(move || drop(memory.system(delete))));
    pair.round().await;
    assert_eq!(fs::read_dir(pair.dirs[0].path().join("parts")).unwrap().count(), 0);
}

#[tokio::test]
async fn bytes_come_through_from_whoever_has_them() {
    let (pair, digest) = pair(&bytes(), 1);
    let holder = [Holder { member: MemberId(2), address: "127.0.0.1:1".into() }];
    let chunk = pair.own.read_anywhere(&holder, &digest, 500, 1_000).await.unwrap();
    assert_eq!((chunk.data.as_slice(), chunk.size), (&bytes()[500..1_500], 10_500));
    let error = pair.own.read_anywhere(&holder, &digest, 500, 1_000).await.unwrap_err();
    assert!(error.to_string().contains("member 2: it is dead"), "{error}");
    assert!(matches!(
        pair.own.read_anywhere(&[], &digest, 0, 1).await,
        Err(ArtifactError::NoSource(why)) if why == "nobody has them"
    ));
}
