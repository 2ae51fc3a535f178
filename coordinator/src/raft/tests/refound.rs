//! A majority that is lost: what the survivor holds is all read back, it goes on alone, and the lost ones get no word in.

use std::sync::Arc;
use std::time::Duration;

use super::{CLUSTER, Map, config, converged, identity, join, options, set, start, three, until};
use crate::raft::{Header, NoHooks, PeerRequest, RaftNode, Transport, lay_down, read_back};
use crate::store::StoreDirs;

/// Waits until the store of a member that was shut down may be opened.
async fn closed(dirs: &StoreDirs) {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while crate::store::in_use(dirs).unwrap() {
        assert!(std::time::Instant::now() < deadline, "its store stays open");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_survivor_goes_on_alone_with_everything_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let small = crate::raft::RaftConfig { snapshot_entries: 40, keep_entries: 5, ..config() };
    let (nodes, router) = three(dir.path(), small.clone()).await;
    for n in 0..100 {
        nodes[n % 3].propose(&set(format!("k{n}"), n)).await.unwrap();
    }
    converged(&nodes.iter().collect::<Vec<_>>()).await;
    let leader = nodes[0].status();
    // While it runs nothing of it is read.
    let dirs = StoreDirs::new(dir.path().join("m3"));
    assert!(read_back::<Map>(identity(3), &dirs, &options()).await.is_err());
    for node in &nodes {
        node.shutdown().await;
    }
    drop(nodes);
    router.remove(3);
    closed(&dirs).await;
    let (position, standing) = read_back::<Map>(identity(3), &dirs, &options()).await.unwrap();
    println!("{position:?}");
    assert_eq!(standing.state.values.len(), 100);
    let (term, _, index) = position.last.unwrap();
    assert!(term <= position.vote_term && index >= 100 && position.committed <= index, "{position:?}");
    assert_eq!(position.members.iter().filter(|(.., voter)| *voter).count(), 3);
    closed(&dirs).await;

    let beside = StoreDirs::new(dir.path().join("alone"));
    lay_down(identity(3), &beside, &options(), &standing, "m3").await.unwrap();
    // Never over a store that is there.
    assert!(lay_down(identity(3), &beside, &options(), &standing, "m3").await.is_err());
    closed(&beside).await;
    let transport = Arc::clone(&router) as Arc<dyn Transport>;
    let hooks = Arc::new(NoHooks);
    let node = RaftNode::<Map>::start(identity(3), beside, options(), small.clone(), transport, hooks);
    let node = node.await.unwrap();
    router.add(&node);
    until(&node, "leading alone", |s| s.is_leader() && s.voters().eq([3])).await;
    assert!(node.status().term > leader.term, "later than whatever the lost ones agreed on");
    node.propose(&set("after", "loss")).await.unwrap();
    node.state().read(|map, _| {
        assert_eq!(map.values.len(), 101);
        assert!((0..100).all(|n| map.values[&format!("k{n}")] == n.to_string()));
    });

    // A lost one comes back: it is heard by nobody here, and its old log is not taken.
    let lost = start(dir.path(), 1, small.clone(), Arc::clone(&router) as _).await.unwrap();
    router.add(&lost);
    let header = Header { cluster_id: CLUSTER, sender_id: 1, target_id: 3 };
    let vote = crate::raft::codec::encode(
        "vote request",
        &openraft::raft::VoteRequest::<u64>::new(openraft::Vote::new(leader.term + 50, 1), None),
    );
    let answer =
        router.call(header, "m3", PeerRequest::Vote(vote.unwrap().into()), Duration::from_secs(1)).await;
    assert!(answer.is_err(), "{answer:?}");
    assert!(node.status().is_leader());
    lost.shutdown().await;

    // New members join as ever.
    let fourth = join(dir.path(), 4, small, &router).await;
    node.add_learner(4, "m4").await.unwrap();
    node.promote(4).await.unwrap();
    converged(&[&node, &fourth]).await;
    node.shutdown().await;
    fourth.shutdown().await;
}
