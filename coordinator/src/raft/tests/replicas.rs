//! Members compare their states, one without room on its disk stands back, and the others do not wait for a dead leader.

use std::sync::Arc;
use std::time::{Duration, Instant};

use quorate_durable::SpaceFloor;

use super::{Node, config, converged, identity, leading, options, set, three, until};
use crate::raft::{Failure, NoHooks, RaftConfig};
use crate::store::{StoreDirs, StoreOptions};

fn often() -> RaftConfig {
    RaftConfig { digest_entries: 10, ..config() }
}

/// Writes until every member has taken a digest at or after `index`.
async fn write_past(nodes: &[&Node], index: u64) {
    let deadline = Instant::now() + Duration::from_secs(30);
    let behind = |node: &&&Node| node.digests().last().is_none_or(|digest| digest.index < index);
    while nodes.iter().any(|node| behind(&node)) {
        nodes[0].propose(&set("k", "v")).await.unwrap();
        assert!(Instant::now() < deadline, "no digests at {index}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_with_another_state_stops_and_the_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (nodes, router) = three(dir.path(), often()).await;
    let all: Vec<&Node> = nodes.iter().collect();
    write_past(&all, 40).await;
    converged(&all).await;
    let common: Vec<_> = nodes[0].digests();
    assert!(common.iter().any(|digest| nodes[1].digests().contains(digest)), "no index in common");
    assert!(common.iter().any(|digest| nodes[2].digests().contains(digest)), "no index in common");

    // The one that stops may be the leader: then the others elect another.
    let odd = (leading(&nodes).await + 1) % nodes.len();
    nodes[odd].state().tamper(|map| map.count += 1);
    let stopped = nodes[odd].clone();
    let waiting = tokio::spawn(async move { stopped.failed().await });
    let rest: Vec<&Node> = all.iter().copied().filter(|node| node.id() != nodes[odd].id()).collect();
    let deadline = Instant::now() + Duration::from_secs(30);
    while !waiting.is_finished() {
        rest[0].propose(&set("k", "w")).await.unwrap();
        assert!(Instant::now() < deadline, "the odd one never stopped");
    }
    let Failure::Diverged(why) = waiting.await.unwrap() else { panic!("it stopped for another reason") };
    assert!(why.contains("differs from that of") && why.contains("(I-7)"), "{why}");
    assert!(nodes[odd].propose(&set("k", "x")).await.is_err(), "it still takes writes");
    router.remove(nodes[odd].id());
    rest[0].propose(&set("after", "loss")).await.unwrap();
    converged(&rest).await;
    for node in rest {
        assert_eq!(node.status().failure, None);
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_comes_back_without_room_lets_another_lead() {
    let dir = tempfile::tempdir().unwrap();
    let (mut nodes, router) = three(dir.path(), config()).await;
    nodes[0].propose(&set("k", "v")).await.unwrap();
    let leader = leading(&nodes).await;
    let gone = nodes.remove(leader);
    let id = gone.id();
    router.remove(id);
    gone.shutdown().await;
    drop(gone);

    // Back within its own term, on a disk that has less than this. One with room resumes its term.
    let full = SpaceFloor { min_free_bytes: u64::MAX, ..SpaceFloor::small() };
    let dirs = StoreDirs::new(dir.path().join(format!("m{id}")));
    let begin = Instant::now();
    let back = loop {
        let store = StoreOptions { space: full, ..options() };
        let transport = Arc::clone(&router) as _;
        match Node::start(identity(id), dirs.clone(), store, config(), transport, Arc::new(NoHooks)).await {
            Ok(node) => break node,
            Err(error) => assert!(begin.elapsed() < Duration::from_secs(20), "{error}"),
        }
        tokio::task::yield_now().await;
    };
    router.add(&back);
    assert!(back.check_space().is_err());
    until(&back, "another leads", |status| status.leader.as_ref().is_some_and(|(found, _)| *found != id))
        .await;
    leading(&nodes).await;
    // It takes part all the same.
    nodes[0].propose(&set("k", "w")).await.unwrap();
    nodes.push(back);
    converged(&nodes.iter().collect::<Vec<_>>()).await;
    for node in nodes {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_stands_when_the_lease_of_a_silent_leader_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let (mut nodes, router) = three(dir.path(), config()).await;
    let leader = leading(&nodes).await;
    let gone = nodes.remove(leader);
    for node in &nodes {
        // openraft's own timers would hide that nobody stands.
        node.without_own_elections();
    }
    router.remove(gone.id());
    gone.shutdown().await;
    until(&nodes[0], "a successor", |s| s.leader.as_ref().is_some_and(|(id, _)| *id != gone.id())).await;
    nodes[1].propose(&set("after", "silence")).await.unwrap();
    converged(&nodes.iter().collect::<Vec<_>>()).await;
    for node in nodes {
        node.shutdown().await;
    }
}
