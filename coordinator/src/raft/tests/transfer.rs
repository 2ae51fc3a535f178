//! Leadership handed over: at once, under load, refused, and what is left when it fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{Node, config, converged, join, set, three, until};
use crate::raft::TransferError;

/// Writes without a pause until told to stop; gives the keys that were acknowledged.
fn load(node: &Node, name: &str, stop: &Arc<AtomicBool>) -> tokio::task::JoinHandle<Vec<String>> {
    let (node, name, stop) = (node.clone(), name.to_owned(), Arc::clone(stop));
    tokio::spawn(async move {
        let mut acknowledged = Vec::new();
        let mut n = 0;
        while !stop.load(Ordering::Relaxed) {
            let key = format!("{name}-{n}");
            n += 1;
            match node.propose(&set(&key, n)).await {
                Ok(_) => acknowledged.push(key),
                Err(error) => panic!("a write got {error}"),
            }
        }
        acknowledged
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handed_over_under_load_and_no_write_fails() {
    let dir = tempfile::tempdir().unwrap();
    let (nodes, _router) = three(dir.path(), config()).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = nodes.iter().map(|node| load(node, &format!("w{}", node.id()), &stop)).collect();
    let mut leader = 0;
    for to in [2_u64, 3, 1] {
        let before = nodes[leader].status().term;
        let done = nodes[leader].transfer_leader(Some(to)).await.unwrap();
        println!("to {to}: {:?} without a leader", done.without_leader);
        assert_eq!(done.leader, to);
        assert!(done.term > before);
        // Far less than the lease that an election after a failure has to wait out.
        assert!(done.without_leader < config().election_max, "{done:?}");
        leader = nodes.iter().position(|node| node.id() == to).unwrap();
        assert!(nodes[leader].status().is_leader());
    }
    stop.store(true, Ordering::Relaxed);
    let mut keys = Vec::new();
    for writer in writers {
        keys.extend(writer.await.unwrap());
    }
    converged(&nodes.iter().collect::<Vec<_>>()).await;
    println!("{} writes were acknowledged meanwhile", keys.len());
    assert!(keys.len() > 50, "{} writes", keys.len());
    for node in &nodes {
        node.state().read(|map, _| assert!(keys.iter().all(|key| map.values.contains_key(key))));
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_wait_the_lease_out_and_the_one_named_is_elected() {
    let dir = tempfile::tempdir().unwrap();
    let (mut nodes, router) = three(dir.path(), config()).await;
    for id in 4..=5 {
        let node = join(dir.path(), id, config(), &router).await;
        nodes[0].add_learner(id, &format!("m{id}")).await.unwrap();
        nodes[0].promote(id).await.unwrap();
        nodes.push(node);
    }
    let done = nodes[0].transfer_leader(Some(5)).await.unwrap();
    println!("of five: {:?} without a leader", done.without_leader);
    assert_eq!(done.leader, 5);
    assert!(done.without_leader < config().election_max * 3, "{done:?}");
    nodes[1].propose(&set("after", 1)).await.unwrap();
    converged(&nodes.iter().collect::<Vec<_>>()).await;
    for node in &nodes {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_while_it_could_not_end_well() {
    let dir = tempfile::tempdir().unwrap();
    let (nodes, router) = three(dir.path(), config()).await;
    assert_eq!(nodes[1].transfer_leader(None).await, Err(TransferError::NotLeader));
    assert_eq!(nodes[0].transfer_leader(Some(9)).await, Err(TransferError::NotVoter(9)));
    let learner = join(dir.path(), 4, config(), &router).await;
    nodes[0].add_learner(4, "m4").await.unwrap();
    until(&learner, "the membership", |s| s.members.len() == 4).await;
    assert_eq!(nodes[0].transfer_leader(Some(4)).await, Err(TransferError::NotVoter(4)));
    let term = nodes[0].status().term;
    router.cut(3, true);
    assert_eq!(nodes[0].transfer_leader(Some(3)).await, Err(TransferError::Down(3)));
    // The best one is one that answers.
    assert_eq!(nodes[0].successor(None).await, Ok(2));
    router.cut(3, false);
    // One of a release that knows no transfer: the leader leads on, and writes and reads go on.
    router.old.lock().unwrap().insert(2);
    let begun = Instant::now();
    let refused = nodes[0].transfer_leader(Some(2)).await;
    assert!(matches!(refused, Err(TransferError::Unwilling { id: 2, .. })), "{refused:?}");
    nodes[1].propose(&set("still", "there")).await.unwrap();
    nodes[1].read_index().await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(nodes[0].status().is_leader());
    assert_eq!(nodes[0].status().term, term);
    for node in nodes.iter().chain([&learner]) {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_made_to_stand_by_a_stranger_or_too_late() {
    use crate::raft::{Header, PeerRequest, Transport as _};
    let dir = tempfile::tempdir().unwrap();
    let (nodes, router) = three(dir.path(), config()).await;
    let term = nodes[0].status().term;
    let limit = Duration::from_secs(1);
    for (sender_id, term) in [(3, term), (1, term - 1), (1, term + 1)] {
        let header = Header { cluster_id: super::CLUSTER, sender_id, target_id: 2 };
        let answer = router.call(header, "m2", PeerRequest::Stand { term }, limit).await;
        assert!(answer.is_err(), "member {sender_id}, term {term}: {answer:?}");
    }
    assert_eq!(nodes[1].status().term, term);
    for node in &nodes {
        node.shutdown().await;
    }
}
