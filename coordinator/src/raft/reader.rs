//! Linearizable reads: one confirmation of leadership serves everyone who asked before it began.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft::error::{CheckIsLeaderError, RaftError};
use tokio::sync::{mpsc, oneshot};

use super::error::ReadError;
use super::transfer::Gate;
use super::types::Raft;

/// Reads that may wait for one round.
const QUEUE: usize = 4096;

type Answer = Result<u64, ReadError>;

/// Counts, for [`super::Counters`].
#[derive(Debug, Default)]
pub(crate) struct Reads {
    pub(crate) rounds: AtomicU64,
    pub(crate) reads: AtomicU64,
}

/// Asks this member, which must lead, from which index on a read is linearizable.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    queue: mpsc::Sender<oneshot::Sender<Answer>>,
    pub(crate) counts: Arc<Reads>,
}

impl Reader {
    /// Starts the worker; it ends when the last reader is dropped.
    pub(crate) fn start(raft: Raft, timeout: Duration, gate: Gate) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let counts = Arc::new(Reads::default());
        tokio::spawn(run(raft, waiting, timeout, gate, Arc::clone(&counts)));
        Self { queue, counts }
    }

    /// The index; this member has applied it when the answer comes.
    pub(crate) async fn index(&self) -> Answer {
        let (done, answer) = oneshot::channel();
        self.queue.try_send(done).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                ReadError::Unavailable(format!("{QUEUE} reads are waiting"))
            }
            mpsc::error::TrySendError::Closed(_) => ReadError::Stopped,
        })?;
        answer.await.unwrap_or(Err(ReadError::Stopped))
    }
}

async fn run(
    raft: Raft,
    mut waiting: mpsc::Receiver<oneshot::Sender<Answer>>,
    timeout: Duration,
    gate: Gate,
    counts: Arc<Reads>,
) {
    while let Some(first) = waiting.recv().await {
        // Closed while leadership moves: a confirmation would renew the lease that is waited out then.
        let pass = gate.read().await;
        // Only those that asked before the round begins: a later one must not get an earlier confirmation.
        let mut round = vec![first];
        while let Ok(next) = waiting.try_recv() {
            round.push(next);
        }
        counts.rounds.fetch_add(1, Ordering::Relaxed);
        counts.reads.fetch_add(round.len() as u64, Ordering::Relaxed);
        let outcome = confirm(&raft, timeout).await;
        drop(pass);
        for done in round {
            drop(done.send(outcome.clone()));
        }
    }
}

async fn confirm(raft: &Raft, timeout: Duration) -> Answer {
    match tokio::time::timeout(timeout, raft.ensure_linearizable()).await {
        Ok(Ok(id)) => Ok(id.map_or(0, |id| id.index)),
        Ok(Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(to)))) => {
            let address = to.leader_node.map(|node| node.addr).unwrap_or_default();
            Err(ReadError::NotLeader { leader: to.leader_id.map(|id| (id, address)) })
        }
        Ok(Err(RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(error)))) => {
            Err(ReadError::Unavailable(error.to_string()))
        }
        Ok(Err(RaftError::Fatal(_))) => Err(ReadError::Stopped),
        Err(_) => Err(ReadError::Unavailable(format!("no majority answered within {timeout:?}"))),
    }
}
