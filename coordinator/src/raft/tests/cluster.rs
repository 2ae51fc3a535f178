//! Whole members over a router in memory: elect, write, lose the leader, lag, catch up, restart.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use openraft::storage::{RaftLogStorage, RaftLogStorageExt};
use openraft::{CommittedLeaderId, Entry, EntryPayload, LogId, Vote};

use super::{
    Map, Node, Router, config, converged, format, identity, join, leading, options, set, single, start,
    three, until,
};
use crate::raft::log_store::{LogStore, marks};
use crate::raft::types::{Proposals, Types};
use crate::raft::{Failure, MembershipError, NoHooks, ProposeError, RaftConfig, codec};
use crate::store::{self, Blocking, MemoryStore};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members_survive_the_loss_of_their_leader() {
    let dir = tempfile::tempdir().unwrap();
    let (nodes, router) = three(dir.path(), config()).await;
    let writes = (0..50).map(|n| {
        let node = nodes[n % 3].clone();
        async move { node.propose(&set(format!("k{n}"), n)).await.unwrap() }
    });
    futures::future::join_all(writes).await;
    converged(&nodes.iter().collect::<Vec<_>>()).await;
    let index = nodes[2].read_index().await.unwrap();
    nodes[2].state().read(|map, revision| {
        assert_eq!(map.values.len(), 50);
        assert!(revision >= index);
    });
    // The second write of a key answers with the first value.
    let (_, old) = nodes[1].propose(&set("k7", "new")).await.unwrap();
    assert_eq!(old.as_deref(), Some("7"));

    let leader = leading(&nodes).await;
    let gone = nodes[leader].id();
    router.remove(gone);
    nodes[leader].shutdown().await;
    let left: Vec<&Node> = nodes.iter().filter(|node| node.id() != gone).collect();
    let begin = Instant::now();
    until(left[0], "a new leader", |s| s.leader.as_ref().is_some_and(|(id, _)| *id != gone)).await;
    let (index, _) = left[1].propose(&set("after", "loss")).await.unwrap();
    println!("new leader took a write {:?} after the loss of the old one", begin.elapsed());
    left[0].wait_applied(index, Duration::from_secs(10)).await.unwrap();
    assert_eq!(left[0].state().read(|map, _| map.values.get("after").cloned()).as_deref(), Some("loss"));

    drop(nodes[leader].clone());
    let mut left: Vec<Node> = nodes.into_iter().filter(|node| node.id() != gone).collect();
    let back = start(dir.path(), gone, config(), Arc::clone(&router) as _).await.unwrap();
    router.add(&back);
    left.push(back);
    converged(&left.iter().collect::<Vec<_>>()).await;
    for node in &left {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_nothing_is_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let short = RaftConfig {
        propose_timeout: Duration::from_millis(1500),
        read_timeout: Duration::from_millis(1500),
        ..config()
    };
    let (nodes, router) = three(dir.path(), short).await;
    router.cut(2, true);
    router.cut(3, true);
    let error = nodes[0].propose(&set("k", "lost?")).await.unwrap_err();
    assert!(matches!(error, ProposeError::Unknown(_)), "{error}");
    assert!(!error.nothing_written());
    nodes[0].read_index().await.unwrap_err();
    let error = nodes[0].remove(3).await.unwrap_err();
    assert!(
        matches!(
            error,
            MembershipError::NoMajority { voters: 2, reachable: 1, needed: 2 }
                | MembershipError::NotLeader { .. }
        ),
        "{error}"
    );
    router.cut(2, false);
    router.cut(3, false);
    // Healed: fresh writes, and one history.
    let deadline = Instant::now() + Duration::from_secs(30);
    while nodes[1].propose(&set("k", "after")).await.is_err() {
        assert!(Instant::now() < deadline, "no write after healing");
    }
    converged(&nodes.iter().collect::<Vec<_>>()).await;
    assert_eq!(nodes[2].state().read(|map, _| map.values["k"].clone()), "after");
    for node in &nodes {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lagging_member_gets_a_snapshot_in_chunks_and_the_log_is_purged() {
    let dir = tempfile::tempdir().unwrap();
    let small = RaftConfig {
        snapshot_entries: 100,
        keep_entries: 10,
        lag_entries: 50,
        snapshot_chunk_bytes: 16 << 10,
        ..config()
    };
    let (first, router) = single(dir.path(), small.clone()).await;
    let second = join(dir.path(), 2, small.clone(), &router).await;
    first.add_learner(2, "m2").await.unwrap();
    until(&second, "the membership", |s| s.members.len() == 2).await;
    router.cut(2, true);
    for n in 0..300 {
        first.propose(&set(n, "x".repeat(500))).await.unwrap();
    }
    until(&first, "a purged log", |s| s.snapshot >= 200 && s.purged >= 150).await;
    let files = store::Snapshots::open(&dir.path().join("m1/snapshots")).unwrap().list().unwrap();
    assert!((1..=2).contains(&files.len()), "{files:?}");
    assert_eq!(router.chunks.load(Ordering::Relaxed), 0);
    router.cut(2, false);
    converged(&[&first, &second]).await;
    let chunks = router.chunks.load(Ordering::Relaxed);
    println!("snapshot arrived in {chunks} chunks");
    assert!(chunks >= 5, "{chunks} chunks");
    // The state is there before the Raft core tells that it is.
    until(&second, "the snapshot it received", |s| s.snapshot >= 200).await;
    // The snapshot received is on its disk: it starts from it.
    second.shutdown().await;
    router.remove(2);
    drop(second);
    let second = start(dir.path(), 2, small, Arc::clone(&router) as _).await.unwrap();
    until(&second, "the state of its snapshot", |s| s.applied >= 200).await;
    router.add(&second);
    first.propose(&set("one", "more")).await.unwrap();
    converged(&[&first, &second]).await;
    first.shutdown().await;
    second.shutdown().await;
}

/// A snapshot that fails ends the member, the next start tries it again, and after three it stays down (R8): none is begun
/// without room, and the log goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_room_for_a_snapshot_the_log_goes_on() {
    let disk = MemoryStore::new(Arc::new(|| Duration::ZERO));
    disk.format(identity(1)).unwrap();
    disk.fill(true);
    let small = RaftConfig { snapshot_entries: 100, keep_entries: 10, ..config() };
    let transport = Arc::new(Router::default());
    let node = Node::start_on(identity(1), Arc::new(disk.clone()), small, transport, Arc::new(NoHooks));
    let node = node.await.unwrap();
    node.bootstrap("m1").await.unwrap();
    until(&node, "leading", |s| s.is_leader()).await;
    for n in 0..300 {
        node.propose(&set(n, n)).await.unwrap();
    }
    assert_eq!(node.status().snapshot, 0);
    disk.fill(false);
    until(&node, "a snapshot, now that one fits", |s| s.snapshot >= 200).await;
    node.propose(&set("still", "there")).await.unwrap();
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_and_go_one_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let (nodes, router) = three(dir.path(), config()).await;
    until(&nodes[0], "three voters", |s| s.voters().eq([1, 2, 3])).await;
    let error = nodes[1].remove(3).await.unwrap_err();
    assert!(matches!(error, MembershipError::NotLeader { .. }), "{error}");
    assert!(matches!(nodes[0].promote(2).await.unwrap_err(), MembershipError::NotLearner(2)));
    assert!(matches!(nodes[0].remove(9).await.unwrap_err(), MembershipError::NotMember(9)));
    nodes[0].remove(3).await.unwrap();
    until(&nodes[1], "two members", |s| s.members.len() == 2).await;
    // A learner that never comes is not given a vote.
    let impatient = RaftConfig { promote_timeout: Duration::from_millis(300), ..config() };
    let fourth = join(dir.path(), 4, impatient, &router).await;
    router.cut(4, true);
    nodes[0].add_learner(4, "m4").await.unwrap();
    assert!(nodes[0].bootstrap("m1").await.is_err());
    until(&nodes[0], "a learner without a vote", |s| s.members.len() == 3 && s.voters().eq([1, 2])).await;
    router.cut(4, false);
    nodes[0].promote(4).await.unwrap();
    converged(&[&nodes[0], &nodes[1], &fourth]).await;
    for node in nodes.iter().chain([&fourth]) {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_costs_one_barrier_and_many_share_one() {
    let dir = tempfile::tempdir().unwrap();
    let (node, _router) = single(dir.path(), config()).await;
    let before = node.counters();
    for n in 0..30 {
        node.propose(&set(n, n)).await.unwrap();
    }
    let after = node.counters();
    assert_eq!(after.store.fdatasyncs - before.store.fdatasyncs, 30);
    assert_eq!(after.committed_writes - before.committed_writes, 30);
    let writes = (0..64).map(|client| {
        let node = node.clone();
        async move {
            for n in 0..10 {
                node.propose(&set(client, n)).await.unwrap();
            }
        }
    });
    futures::future::join_all(writes).await;
    let many = node.counters();
    let barriers = many.store.fdatasyncs - after.store.fdatasyncs;
    println!(
        "640 writes of 64 clients: {barriers} barriers, {} slot writes",
        many.committed_writes - after.committed_writes
    );
    assert!(barriers <= 64, "{barriers} barriers for 640 writes");
    let reads = (0..64).map(|_| node.read_index());
    for read in futures::future::join_all(reads).await {
        read.unwrap();
    }
    let counters = node.counters();
    assert_eq!(counters.reads, 64);
    assert!(counters.read_rounds < 64, "{} rounds", counters.read_rounds);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_replays_twenty_thousand_entries() {
    const ENTRIES: u64 = 20_000;
    let dir = tempfile::tempdir().unwrap();
    let dirs = format(dir.path(), 1);
    let opened = store::open(&dirs, identity(1), &options(), marks).unwrap();
    let mut log = LogStore::new(opened.log, opened.committed, Blocking::Pool, opened.committed_index);
    let id = |index| LogId::new(CommittedLeaderId::new(1, 1), index);
    log.save_vote(&Vote::new_committed(1, 1)).await.unwrap();
    for start in (0..ENTRIES).step_by(250) {
        let entries = (start..start + 250).map(|n| {
            let command = codec::encode("command", &set(format!("key {}", n % 500), n)).unwrap();
            let payload = EntryPayload::Normal(Proposals { commands: vec![Bytes::from(command)] });
            Entry::<Types> { log_id: id(n), payload }
        });
        log.blocking_append(entries.collect::<Vec<_>>()).await.unwrap();
    }
    log.save_committed(Some(id(ENTRIES - 1))).await.unwrap();
    drop(log);
    let begin = Instant::now();
    let node = start(dir.path(), 1, config(), Arc::new(Router::default())).await.unwrap();
    println!("restart with {ENTRIES} entries in the log: {:?} (debug build)", begin.elapsed());
    assert_eq!(node.state().read(|map: &Map, revision| (map.count, revision)), (ENTRIES, ENTRIES - 1));
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_command_stops_the_member_and_is_never_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let (node, _router) = single(dir.path(), config()).await;
    let proposer = node.handler().proposer;
    let outcome = proposer.submit(Bytes::from_static(b"\xc1 from the future")).await;
    assert!(matches!(outcome, Err(ProposeError::Unknown(_))), "{outcome:?}");
    let reason = tokio::time::timeout(Duration::from_secs(10), node.failed()).await.unwrap();
    assert!(matches!(&reason, Failure::Stopped(why) if why.contains("command")), "{reason}");
    assert!(matches!(node.propose(&set("k", "v")).await, Err(ProposeError::Stopped)));
    node.shutdown().await;
}

/// The real state machine: what core's types encode to must come back, through log, answer, snapshot and restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn core_runs_on_it() {
    use crate::raft::{NoHooks, RaftNode};
    use quorate_core::command::{ClusterCommand, Command};
    use quorate_core::{Entry as CoreEntry, State};

    let dir = tempfile::tempdir().unwrap();
    let dirs = format(dir.path(), 1);
    let run = || async {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let (router, hooks) = (Arc::new(Router::default()), Arc::new(NoHooks));
            let started =
                RaftNode::<State>::start(identity(1), dirs.clone(), options(), config(), router, hooks).await;
            match started {
                Err(_) if Instant::now() < deadline => tokio::task::yield_now().await,
                outcome => return outcome.unwrap(),
            }
        }
    };
    let node = run().await;
    node.bootstrap("m1").await.unwrap();
    let command = Command::Cluster(ClusterCommand::Init {
        id: quorate_model::ClusterId::new("0c1d8a52-2f0e-4a75-9c4e-3d2b8f6a1e77").unwrap(),
        name: "test".to_owned(),
        ca_pem: "pem".to_owned(),
        member: quorate_model::MemberName::new("coordinator-1").unwrap(),
        grpc: "127.0.0.1:1".to_owned(),
        http: "127.0.0.1:2".to_owned(),
        certificates: Vec::new(),
    });
    let at = quorate_model::Timestamp(1_700_000_000_000);
    let (index, answer) = node.propose(&CoreEntry::system(at, command)).await.unwrap();
    println!("core answered {answer:?} at {index}");
    let digest = node.digest().unwrap();
    let cluster = node.state().read(|state, _| format!("{:?}", state.cluster));
    assert!(cluster.contains("coordinator-1") || cluster.contains("0c1d8a52"), "{cluster}");
    node.snapshot().await.unwrap();
    let mut watch = node.watch();
    while watch.current().snapshot < index {
        drop(tokio::time::timeout(Duration::from_millis(50), watch.changed()).await);
    }
    node.shutdown().await;
    drop(node);
    let node = run().await;
    node.wait_applied(digest.index, Duration::from_secs(10)).await.unwrap();
    node.read_index().await.unwrap();
    node.state().read(|state, _| assert_eq!(format!("{:?}", state.cluster), cluster));
    node.shutdown().await;
}
