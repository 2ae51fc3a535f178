//! Many commands, one log entry: openraft 0.9 pays one log write per client write, so we gather.
//!
//! While up to two entries are in flight the next one gathers. A single client therefore waits for nothing but its own
//! entry, and sixty-four share a handful of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use openraft::error::{ClientWriteError, RaftError};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::error::ProposeError;
use super::transfer::Gate;
use super::types::{Proposals, Raft};

/// Most commands of one entry.
const BATCH_COMMANDS: usize = 256;

/// Most bytes of one entry; an append request of one entry must pass the peers' decode limit of 4 MiB.
const BATCH_BYTES: usize = 1 << 20;

/// Largest command: one entry with its frame.
pub(crate) const MAX_COMMAND: usize = BATCH_BYTES - 4096;

/// Commands that may wait; beyond it callers are told to come back instead of waiting for a slow disk.
const QUEUE: usize = 4096;

/// Entries in flight.
const IN_FLIGHT: usize = 2;

type Answer = Result<(u64, Bytes), ProposeError>;

struct Waiting {
    command: Bytes,
    done: oneshot::Sender<Answer>,
}

/// Counts, for [`super::Counters`].
#[derive(Debug, Default)]
pub(crate) struct Proposed {
    pub(crate) batches: AtomicU64,
    pub(crate) commands: AtomicU64,
}

/// Proposes on this member, which must lead.
#[derive(Debug, Clone)]
pub(crate) struct Proposer {
    queue: mpsc::Sender<Waiting>,
    pub(crate) counts: Arc<Proposed>,
}

impl Proposer {
    /// Starts the worker; it ends when the last proposer is dropped.
    pub(crate) fn start(raft: Raft, timeout: Duration, gate: Gate) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let counts = Arc::new(Proposed::default());
        tokio::spawn(run(raft, waiting, timeout, gate, Arc::clone(&counts)));
        Self { queue, counts }
    }

    /// Proposes one command and waits for its answer, at most until the worker's timeout.
    pub(crate) async fn submit(&self, command: Bytes) -> Answer {
        if command.len() > MAX_COMMAND {
            return Err(ProposeError::TooLarge { bytes: command.len(), max: MAX_COMMAND });
        }
        let (done, answer) = oneshot::channel();
        self.queue.try_send(Waiting { command, done }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => ProposeError::Overloaded(format!("{QUEUE} are waiting")),
            mpsc::error::TrySendError::Closed(_) => ProposeError::Stopped,
        })?;
        answer.await.unwrap_or_else(|_| Err(ProposeError::Unknown("the member is stopping".to_owned())))
    }
}

async fn run(
    raft: Raft,
    mut waiting: mpsc::Receiver<Waiting>,
    timeout: Duration,
    gate: Gate,
    counts: Arc<Proposed>,
) {
    let slots = Arc::new(Semaphore::new(IN_FLIGHT));
    let mut left_over = None;
    loop {
        // The slot first: what arrives while none is free joins the batch.
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return;
        };
        let first = match left_over.take() {
            Some(first) => first,
            None => match waiting.recv().await {
                Some(first) => first,
                None => return,
            },
        };
        let mut bytes = first.command.len();
        let mut batch = vec![first];
        while batch.len() < BATCH_COMMANDS {
            let Ok(next) = waiting.try_recv() else {
                break;
            };
            if bytes + next.command.len() > BATCH_BYTES {
                left_over = Some(next);
                break;
            }
            bytes += next.command.len();
            batch.push(next);
        }
        // Closed while leadership moves: nothing may be in flight then, and what waits here goes on with whoever leads.
        let pass = Arc::clone(&gate).read_owned().await;
        counts.batches.fetch_add(1, Ordering::Relaxed);
        counts.commands.fetch_add(batch.len() as u64, Ordering::Relaxed);
        let raft = raft.clone();
        tokio::spawn(async move {
            write(&raft, batch, timeout).await;
            drop((pass, slot));
        });
    }
}

async fn write(raft: &Raft, batch: Vec<Waiting>, timeout: Duration) {
    if let Some(refusal) = not_leader(raft) {
        for waiting in batch {
            drop(waiting.done.send(Err(refusal.clone())));
        }
        return;
    }
    let commands = batch.iter().map(|waiting| waiting.command.clone()).collect();
    let outcome = tokio::time::timeout(timeout, raft.client_write(Proposals { commands })).await;
    let unknown = |reason: String| Err(ProposeError::Unknown(reason));
    let outcome = match outcome {
        Ok(Ok(response)) => {
            let (index, answers) = (response.log_id.index, response.data.answers);
            if answers.len() == batch.len() {
                for (waiting, answer) in batch.into_iter().zip(answers) {
                    drop(waiting.done.send(Ok((index, answer))));
                }
                return;
            }
            unknown(format!("{} answers to {} commands", answers.len(), batch.len()))
        }
        // It led a moment ago, so the entry may be on another member's disk and be committed by the next leader.
        Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => {
            unknown("leadership was lost while the write was under way".to_owned())
        }
        Ok(Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(error)))) => {
            unknown(error.to_string())
        }
        Ok(Err(RaftError::Fatal(error))) => unknown(error.to_string()),
        Err(_) => unknown(format!("not committed within {timeout:?}")),
    };
    for waiting in batch {
        drop(waiting.done.send(outcome.clone()));
    }
}

/// Whether this member is known not to lead; then nothing is written.
fn not_leader(raft: &Raft) -> Option<ProposeError> {
    let metrics = raft.metrics();
    let metrics = metrics.borrow();
    if metrics.running_state.is_err() {
        return Some(ProposeError::Stopped);
    }
    if metrics.current_leader == Some(metrics.id) {
        return None;
    }
    let leader = metrics.current_leader.map(|id| {
        let node = metrics.membership_config.membership().get_node(&id);
        (id, node.map(|node| node.addr.clone()).unwrap_or_default())
    });
    Some(ProposeError::NotLeader { leader })
}
