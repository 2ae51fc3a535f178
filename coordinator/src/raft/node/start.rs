//! Starting a member: its store is checked, its state built up again, and everything that runs beside Raft begun.
//!
//! Must never: serve from a store that was refused, or begin anything before the state is as far as it was.

use std::sync::Arc;

use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use crate::store::{Blocking, Disk, Files, Identity, StoreDirs, StoreOptions};

use super::super::codec;
use super::super::config::RaftConfig;
use super::super::error::StartError;
use super::super::handler::{Admit, Digest, Hooks, Observe, PeerHandler, Renew};
use super::super::log_store::{self, LogStore};
use super::super::machine::{Machine, StateHandle, StateMachine};
use super::super::membership::Changer;
use super::super::network::Network;
use super::super::proposer::Proposer;
use super::super::reader::Reader;
use super::super::replicas::{self, Comparer, Digests, Sampler};
use super::super::snapshot_rule;
use super::super::succession;
use super::super::transfer::Gate;
use super::super::transport::{Refusal, Transport};
use super::super::types::Raft;
use super::{Inner, RaftNode};

impl<M: Machine> RaftNode<M> {
    /// Starts the member whose store [`crate::store::format`] made: checks the store, loads the newest snapshot, applies the
    /// log up to the committed index, joins the cluster it knows.
    ///
    /// # Errors
    /// [`StartError`]; `Store` means that the process exits with 74 and one sentence.
    pub async fn start(
        identity: Identity,
        dirs: StoreDirs,
        options: StoreOptions,
        config: RaftConfig,
        transport: Arc<dyn Transport>,
        hooks: Arc<dyn Hooks<M::Command>>,
    ) -> Result<Self, StartError> {
        Self::start_on(identity, Arc::new(Files::new(dirs, options)), config, transport, hooks).await
    }

    /// As [`RaftNode::start`], on a disk of the caller.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start_on(
        identity: Identity,
        disk: Arc<dyn Disk>,
        config: RaftConfig,
        transport: Arc<dyn Transport>,
        hooks: Arc<dyn Hooks<M::Command>>,
    ) -> Result<Self, StartError> {
        let blocking = disk.blocking();
        let (sampler, states) = Sampler::new(config.digest_entries);
        let opened = blocking.run(move || {
            let opened = disk.open(identity, log_store::marks)?;
            let machine = StateMachine::<M>::open(opened.snapshots.clone(), blocking, sampler)
                .map_err(StartError::State)?;
            Ok::<_, StartError>((opened, machine))
        });
        let (opened, machine) = opened.await.map_err(|error| StartError::State(error.to_string()))??;
        let fresh = opened.committed_index.is_none();
        if let (false, Err(low)) = (fresh, opened.log.durable().check_space()) {
            // Behind an exit over a full disk, or near one (reliability.md §4.3 rule 8). A leader that comes back at once
            // would resume its term; so nothing is started until the others had time to elect one with room. After that
            // any leader is better than none: one without room still serves reads and ends what is under way.
            tracing::warn!(%low, wait = ?config.stand_back(), "short of disk space: the others shall lead");
            tokio::time::sleep(config.stand_back()).await;
        }
        let state = machine.handle();
        let log_store = LogStore::new(
            opened.log.clone(),
            Arc::clone(&opened.committed),
            blocking,
            opened.committed_index,
        );
        let network = Network { transport, cluster_id: identity.cluster_id, member_id: identity.member_id };
        let raft_config = Arc::new(config.openraft("quorate")?);
        let raft = Raft::new(identity.member_id, raft_config, network.clone(), log_store, machine)
            .await
            .map_err(|error| StartError::Raft(error.to_string()))?;
        let stop = CancellationToken::new();
        tokio::spawn(snapshot_rule::run(
            raft.clone(),
            opened.log.clone(),
            Arc::clone(&opened.snapshots),
            config.clone(),
            stop.clone(),
        ));
        let digests = Digests::default();
        tokio::spawn(replicas::sample(states, digests.clone(), blocking));
        let (sender, alone) = watch::channel(None);
        let comparer = Comparer {
            digests: digests.clone(),
            raft: raft.clone(),
            network: network.clone(),
            stop: stop.clone(),
            alone: sender,
        };
        tokio::spawn(comparer.run());
        let handler = handler::<M>(identity, &raft, &config, hooks, digests, (state.clone(), blocking));
        tokio::spawn(succession::run(raft.clone(), config.clone(), stop.clone()));
        let changer = Changer {
            raft: raft.clone(),
            network: network.clone(),
            config: config.clone(),
            one: Arc::new(Mutex::new(())),
        };
        let inner = Inner {
            identity,
            raft,
            state,
            log: opened.log,
            committed: opened.committed,
            blocking,
            handler,
            changer,
            network,
            config,
            stop,
            alone,
        };
        Ok(Self { inner: Arc::new(inner) })
    }
}

fn handler<M: Machine>(
    identity: Identity,
    raft: &Raft,
    config: &RaftConfig,
    hooks: Arc<dyn Hooks<M::Command>>,
    digests: Digests,
    (state, blocking): (StateHandle<M>, Blocking),
) -> PeerHandler {
    let digest: Digest = Arc::new(move || {
        let state = state.clone();
        Box::pin(async move { replicas::digest(state, blocking).await.map_err(|error| error.to_string()) })
    });
    let gate = Gate::default();
    let observing = Arc::clone(&hooks);
    let renewing = Arc::clone(&hooks);
    let admit: Admit = Arc::new(move |sender, bytes| {
        let command: M::Command =
            codec::decode("command", bytes).map_err(|e| Refusal::Invalid(e.to_string()))?;
        hooks.admit(sender, &command).map_err(Refusal::Denied)
    });
    let observe: Observe = Arc::new(move |sender, payload| observing.observations(sender, payload));
    let renew: Renew = Arc::new(move |sender, payload| renewing.leases(sender, payload));
    PeerHandler {
        identity,
        raft: raft.clone(),
        proposer: Proposer::start(raft.clone(), config.propose_timeout, Arc::clone(&gate)),
        reader: Reader::start(raft.clone(), config.read_timeout, Arc::clone(&gate)),
        admit,
        observe,
        renew,
        transfers: Arc::default(),
        digests,
        digest,
        gate,
    }
}
