//! What must not start (R4), and what must not be answered (R5).

use std::sync::Arc;

use bytes::Bytes;
use openraft::raft::{AppendEntriesRequest, VoteRequest};
use openraft::{CommittedLeaderId, Entry, EntryPayload, LogId, Vote};
use quorate_durable::{Batch, Durable, Options, Probe, SpaceFloor};

use super::{CLUSTER, Node, Router, config, identity, options, set, single, start};
use crate::raft::codec;
use crate::raft::types::Types;
use crate::raft::{Header, PeerRequest, Refusal, StartError};
use crate::store::{StoreDirs, StoreRefused};

/// A member with some committed writes, stopped in order.
async fn stopped(root: &std::path::Path) -> StoreDirs {
    let (node, router) = single(root, config()).await;
    for n in 0..20 {
        node.propose(&set(n, n)).await.unwrap();
    }
    node.shutdown().await;
    router.remove(1);
    StoreDirs::new(root.join("m1"))
}

async fn refused(root: &std::path::Path) -> StoreRefused {
    match start(root, 1, config(), Arc::new(Router::default())).await {
        Err(StartError::Store(refused)) => refused,
        other => panic!("{other:?}"),
    }
}

/// Opens the log store around the adapters, once the member has let go of it.
fn open_log(dirs: &StoreDirs) -> Durable {
    let options = Options {
        cache_bytes: 8 << 20,
        must_exist: true,
        probe: Probe::InProcess,
        space: SpaceFloor::small(),
        ..Options::coordinator(dirs.log())
    };
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        match Durable::open(options.clone()) {
            Err(quorate_durable::OpenError::InUse { .. }) if std::time::Instant::now() < deadline => {
                std::thread::yield_now();
            }
            outcome => return outcome.unwrap(),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_member_does_not_start_again() {
    let dir = tempfile::tempdir().unwrap();
    let error = refused(dir.path()).await;
    assert!(matches!(error, StoreRefused::NotFormatted { .. }), "{error}");
    let dirs = stopped(dir.path()).await;
    drop(open_log(&dirs));
    std::fs::remove_dir_all(dirs.log()).unwrap();
    let error = refused(dir.path()).await;
    assert!(matches!(error, StoreRefused::Log(quorate_durable::OpenError::Missing { .. })), "{error}");
    assert!(error.needs_rejoin());
    assert_eq!(error.exit_code(), 74);
    // Formatting over it is refused too: the id was used.
    let error = crate::store::format(&dirs, identity(1), &options()).unwrap_err();
    assert!(matches!(error, StoreRefused::AlreadyFormatted { member_id: 1, .. }), "{error}");
    // With everything gone but the certificate, there is no identity to start from.
    crate::store::set_aside(&dirs).unwrap();
    assert!(matches!(refused(dir.path()).await, StoreRefused::NotFormatted { .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erased_vote_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dirs = stopped(dir.path()).await;
    let store = open_log(&dirs);
    let mut batch = Batch::new();
    batch.delete(b"V").unwrap();
    store.commit(batch).await.unwrap();
    drop(store);
    let error = refused(dir.path()).await;
    let StoreRefused::Lost { reason, quarantine, .. } = &error else { panic!("{error}") };
    assert_eq!(reason, "there is a log but no vote");
    assert!(quarantine.as_ref().unwrap().join("db").exists());
    // And it stays refused.
    assert!(matches!(refused(dir.path()).await, StoreRefused::Log(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_shorter_than_committed_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dirs = stopped(dir.path()).await;
    let store = open_log(&dirs);
    let (last, _) = store.last(b"L".to_vec()..=b"M".to_vec()).unwrap().unwrap();
    let mut batch = Batch::new();
    batch.delete(&last).unwrap();
    store.commit(batch).await.unwrap();
    drop(store);
    let error = refused(dir.path()).await;
    assert!(
        matches!(&error, StoreRefused::Lost { reason, .. } if reason.contains("was committed")),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hole_and_a_missing_committed_index_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dirs = stopped(dir.path()).await;
    let saved = std::fs::read(dirs.committed()).unwrap();
    std::fs::write(dirs.committed(), &saved[..10]).unwrap();
    let error = refused(dir.path()).await;
    assert!(
        matches!(&error, StoreRefused::Lost { reason, .. } if reason.contains("committed index")),
        "{error}"
    );

    let dir = tempfile::tempdir().unwrap();
    let dirs = stopped(dir.path()).await;
    let store = open_log(&dirs);
    let mut batch = Batch::new();
    batch.delete(&[b"L".as_slice(), &7u64.to_be_bytes()].concat()).unwrap();
    store.commit(batch).await.unwrap();
    drop(store);
    let error = refused(dir.path()).await;
    assert!(matches!(&error, StoreRefused::Lost { reason, .. } if reason == "the log has a hole"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_members_store_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dirs = stopped(dir.path()).await;
    drop(open_log(&dirs));
    std::fs::rename(dirs.root(), dir.path().join("m2")).unwrap();
    let outcome = start(dir.path(), 2, config(), Arc::new(Router::default())).await;
    assert!(matches!(outcome, Err(StartError::Store(StoreRefused::WrongIdentity { .. }))), "{outcome:?}");
}

fn header() -> Header {
    Header { cluster_id: CLUSTER, sender_id: 2, target_id: 1 }
}

async fn ask(node: &Node, certified: u64, header: Header, request: PeerRequest) -> Refusal {
    match node.handler().handle(certified, header, request).await {
        Err(refusal) => refusal,
        Ok(reply) => panic!("answered: {reply:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_and_impossible_requests_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (node, _router) = single(dir.path(), config()).await;
    let denied = [
        (2, Header { cluster_id: [8; 16], ..header() }),
        (2, Header { target_id: 3, ..header() }),
        (3, header()),
        (1, Header { sender_id: 1, ..header() }),
    ];
    for (certified, header) in denied {
        let refusal = ask(&node, certified, header, PeerRequest::Status).await;
        assert!(matches!(refusal, Refusal::Denied(_)), "{refusal}");
    }
    let vote = |term, id| {
        let request = VoteRequest::<u64> { vote: Vote::new(term, id), last_log_id: None };
        PeerRequest::Vote(codec::encode("vote request", &request).unwrap().into())
    };
    // Not a member; somebody else's vote; a term out of this world.
    assert!(matches!(ask(&node, 2, header(), vote(2, 2)).await, Refusal::Denied(_)));
    assert!(matches!(ask(&node, 2, header(), vote(2, 3)).await, Refusal::Invalid(_)));
    assert!(matches!(ask(&node, 2, header(), vote(u64::MAX, 2)).await, Refusal::Invalid(_)));
    let append = |prev: Option<u64>, indexes: &[u64]| {
        let id = |index| LogId::new(CommittedLeaderId::new(1, 2), index);
        let entries =
            indexes.iter().map(|n| Entry { log_id: id(*n), payload: EntryPayload::Blank }).collect();
        let (vote, prev_log_id) = (Vote::new_committed(1, 2), prev.map(id));
        let request = AppendEntriesRequest::<Types> { vote, prev_log_id, entries, leader_commit: None };
        let payload = codec::encode("append request", &request).unwrap().into();
        PeerRequest::Append { payload, entries: true }
    };
    for (prev, indexes) in [(Some(4), &[6][..]), (None, &[1]), (Some(0), &[1, 3]), (Some(u64::MAX), &[0])] {
        let refusal = ask(&node, 2, header(), append(prev, indexes)).await;
        assert!(matches!(refusal, Refusal::Invalid(_)), "{refusal}");
    }
    for garbage in [&b""[..], b"\xc1", &[0x91; 3000]] {
        let payload = Bytes::copy_from_slice(garbage);
        let requests = [
            PeerRequest::Vote(payload.clone()),
            PeerRequest::Append { payload: payload.clone(), entries: false },
            PeerRequest::Snapshot { payload: payload.clone(), data: Bytes::new(), crc: 0 },
            PeerRequest::Propose(payload),
        ];
        for request in requests {
            assert!(matches!(ask(&node, 2, header(), request).await, Refusal::Invalid(_)));
        }
    }
    // All the while it went on leading.
    node.propose(&set("k", "v")).await.unwrap();
    assert_eq!(node.status().term, 1);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshot_chunks_out_of_order_start_over() {
    use crate::raft::PeerReply;
    use crate::raft::network::Chunk;
    use crate::raft::types::SnapshotMeta;
    use openraft::error::{InstallSnapshotError, RaftError};
    use openraft::raft::InstallSnapshotResponse;

    let dir = tempfile::tempdir().unwrap();
    let router = Arc::new(Router::default());
    let node = super::join(dir.path(), 1, config(), &router).await;
    let chunk = |offset, data: &'static [u8], crc| {
        let meta = SnapshotMeta {
            last_log_id: Some(LogId::new(CommittedLeaderId::new(1, 2), 9)),
            snapshot_id: "s".to_owned(),
            ..SnapshotMeta::default()
        };
        let chunk = Chunk { vote: Vote::new_committed(1, 2), meta, offset, done: false };
        let payload = codec::encode("snapshot request", &chunk).unwrap().into();
        PeerRequest::Snapshot { payload, data: Bytes::from_static(data), crc }
    };
    let crc = crc32c::crc32c(b"data");
    assert!(matches!(ask(&node, 2, header(), chunk(0, b"data", crc + 1)).await, Refusal::Invalid(_)));
    assert!(matches!(ask(&node, 2, header(), chunk(1 << 63, b"data", crc)).await, Refusal::Invalid(_)));
    type Outcome = Result<InstallSnapshotResponse<u64>, RaftError<u64, InstallSnapshotError>>;
    for (offset, fits) in [(4, false), (0, true), (4, true), (4, true), (400, false), (0, true)] {
        let reply = node.handler().handle(2, header(), chunk(offset, b"data", crc)).await.unwrap();
        let PeerReply::Raft(bytes) = reply else { panic!("{reply:?}") };
        let outcome: Outcome = codec::decode("peer reply", &bytes).unwrap();
        assert_eq!(outcome.is_ok(), fits, "offset {offset}: {outcome:?}");
    }
    node.shutdown().await;
}
