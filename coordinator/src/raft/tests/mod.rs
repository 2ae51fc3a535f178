//! The adapters against openraft's own suite, and whole members over a router in memory and over gRPC.

mod cluster;
mod golden;
mod grpc;
mod refound;
mod refusals;
mod replicas;
mod suite;
mod transfer;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use quorate_durable::{Probe, SpaceFloor};
use serde::{Deserialize, Serialize};

use crate::store::{Identity, StoreDirs, StoreOptions};

use super::transport::Call;
use super::{
    Header, Machine, NoHooks, PeerError, PeerHandler, PeerRequest, RaftConfig, RaftNode, StartError,
    Transport,
};

/// A small machine: keys and values, and how often anything was applied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Map {
    pub(super) values: BTreeMap<String, String>,
    pub(super) count: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Set {
    pub(super) key: String,
    pub(super) value: String,
}

impl Machine for Map {
    type Command = Set;
    type Answer = Option<String>;

    fn apply(&mut self, _index: u64, command: &Set) -> Option<String> {
        self.count += 1;
        self.values.insert(command.key.clone(), command.value.clone())
    }
}

pub(super) type Node = RaftNode<Map>;

pub(super) const CLUSTER: [u8; 16] = [7; 16];

pub(super) fn identity(member_id: u64) -> Identity {
    Identity { cluster_id: CLUSTER, member_id }
}

pub(super) fn options() -> StoreOptions {
    StoreOptions { probe: Probe::InProcess, space: SpaceFloor::small(), cache_bytes: 8 << 20 }
}

pub(super) fn config() -> RaftConfig {
    RaftConfig {
        heartbeat: Duration::from_millis(100),
        election_min: Duration::from_millis(600),
        election_max: Duration::from_millis(1200),
        promote_after: Duration::from_millis(100),
        ..RaftConfig::default()
    }
}

pub(super) fn set(key: impl ToString, value: impl ToString) -> Set {
    Set { key: key.to_string(), value: value.to_string() }
}

/// Members in one process; links can be cut.
#[derive(Default)]
pub(super) struct Router {
    handlers: Mutex<BTreeMap<u64, PeerHandler>>,
    cut: Mutex<BTreeSet<u64>>,
    /// Who does as if it had never heard of a transfer.
    pub(super) old: Mutex<BTreeSet<u64>>,
    pub(super) chunks: AtomicU64,
}

impl Router {
    pub(super) fn add(&self, node: &Node) {
        self.handlers.lock().unwrap().insert(node.id(), node.handler());
    }

    pub(super) fn remove(&self, id: u64) {
        self.handlers.lock().unwrap().remove(&id);
    }

    pub(super) fn cut(&self, id: u64, cut: bool) {
        let mut all = self.cut.lock().unwrap();
        if cut {
            all.insert(id)
        } else {
            all.remove(&id)
        };
    }
}

impl Transport for Router {
    fn call<'a>(
        &'a self,
        header: Header,
        _address: &'a str,
        request: PeerRequest,
        _deadline: Duration,
    ) -> Call<'a> {
        Box::pin(async move {
            let cut = {
                let cut = self.cut.lock().unwrap();
                cut.contains(&header.sender_id) || cut.contains(&header.target_id)
            };
            let handler = self.handlers.lock().unwrap().get(&header.target_id).cloned();
            let handler = match handler {
                Some(handler) if !cut => handler,
                _ => return Err(PeerError::Unreachable("cut".to_owned())),
            };
            if matches!(request, PeerRequest::Stand { .. })
                && self.old.lock().unwrap().contains(&header.target_id)
            {
                return Err(PeerError::Refused(super::Refusal::Invalid("unknown method".to_owned())));
            }
            if matches!(request, PeerRequest::Snapshot { .. }) {
                self.chunks.fetch_add(1, Ordering::Relaxed);
            }
            handler.handle(header.sender_id, header, request).await.map_err(PeerError::Refused)
        })
    }
}

/// Starts a formatted member. A store still being closed by the one before is waited for.
pub(super) async fn start(
    root: &Path,
    id: u64,
    config: RaftConfig,
    transport: Arc<dyn Transport>,
) -> Result<Node, StartError> {
    let dirs = StoreDirs::new(root.join(format!("m{id}")));
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let transport = Arc::clone(&transport);
        match Node::start(identity(id), dirs.clone(), options(), config.clone(), transport, Arc::new(NoHooks))
            .await
        {
            Err(StartError::Store(crate::store::StoreRefused::Log(quorate_durable::OpenError::InUse {
                ..
            }))) if Instant::now() < deadline => {
                tokio::task::yield_now().await;
            }
            outcome => return outcome,
        }
    }
}

pub(super) fn format(root: &Path, id: u64) -> StoreDirs {
    let dirs = StoreDirs::new(root.join(format!("m{id}")));
    crate::store::format(&dirs, identity(id), &options()).unwrap();
    dirs
}

/// Formats and starts a member and makes it reachable.
pub(super) async fn join(root: &Path, id: u64, config: RaftConfig, router: &Arc<Router>) -> Node {
    format(root, id);
    let node = start(root, id, config, Arc::clone(router) as Arc<dyn Transport>).await.unwrap();
    router.add(&node);
    node
}

/// The place of the one that leads, when one does: a slow machine may be between two.
pub(super) async fn leading(nodes: &[Node]) -> usize {
    let deadline = Instant::now() + Duration::from_secs(40);
    loop {
        if let Some(place) = nodes.iter().position(|node| node.status().is_leader()) {
            return place;
        }
        assert!(Instant::now() < deadline, "nobody leads");
        // Told of whatever happens first on any of them; some of it changes no metric.
        drop(tokio::time::timeout(Duration::from_millis(50), nodes[0].watch().changed()).await);
    }
}

/// Waits for a predicate on a node's status.
pub(super) async fn until(node: &Node, what: &str, test: impl Fn(&super::RaftStatus) -> bool) {
    let mut watch = node.watch();
    let wait = async {
        loop {
            if test(&watch.current()) {
                return;
            }
            // Some fields change without a metrics change; look again now and then.
            drop(tokio::time::timeout(Duration::from_millis(50), watch.changed()).await);
        }
    };
    if tokio::time::timeout(Duration::from_secs(40), wait).await.is_err() {
        panic!("member {} never got to: {what}; it is at {:?}", node.id(), node.status());
    }
}

/// One member that leads a cluster of itself.
pub(super) async fn single(root: &Path, config: RaftConfig) -> (Node, Arc<Router>) {
    let router = Arc::new(Router::default());
    let node = join(root, 1, config, &router).await;
    node.bootstrap("m1").await.unwrap();
    until(&node, "leading", |s| s.is_leader()).await;
    (node, router)
}

/// Three voters, the first of them leading.
pub(super) async fn three(root: &Path, config: RaftConfig) -> (Vec<Node>, Arc<Router>) {
    let (first, router) = single(root, config.clone()).await;
    let mut nodes = vec![first];
    for id in 2..=3 {
        let node = join(root, id, config.clone(), &router).await;
        nodes[0].add_learner(id, &format!("m{id}")).await.unwrap();
        nodes[0].promote(id).await.unwrap();
        nodes.push(node);
    }
    (nodes, router)
}

/// Waits until all members stand at the same index and have the same state.
pub(super) async fn converged(nodes: &[&Node]) {
    let deadline = Instant::now() + Duration::from_secs(40);
    loop {
        let digests: BTreeSet<_> = nodes.iter().map(|node| node.digest().unwrap()).collect();
        let revisions: BTreeSet<_> = digests.iter().map(|digest| digest.index).collect();
        assert!(digests.len() == revisions.len(), "same index, other state: {digests:?}");
        if digests.len() == 1 {
            return;
        }
        assert!(Instant::now() < deadline, "members never agreed: {revisions:?}");
        drop(tokio::time::timeout(Duration::from_millis(20), nodes[0].revisions().changed()).await);
    }
}
