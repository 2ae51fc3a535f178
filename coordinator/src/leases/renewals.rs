//! Answers renewals: here while this member leads, or by the member that does.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_core::command::LeaseCommand;
use quorate_core::{Command, Entry, State};
use quorate_model::{Epoch, GroupName, LeaseState, NodeName};
use serde::{Deserialize, Serialize};

use super::Book;
use crate::api::backend::Backend;
use crate::raft::{RaftNode, Refusal};

/// How long an answer may take: the shortest lease is renewed every 600 ms, and a late answer still counts from when its
/// question was sent.
const ANSWER: Duration = Duration::from_secs(2);

/// A renewal, with the node of the session that it came on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Question {
    /// As its certificate says.
    node: NodeName,
    group: GroupName,
    epoch: Epoch,
    /// Its host has an answer on disk.
    answered: bool,
}

/// What became of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// Nobody can tell now: it extends nothing, and its host asks again.
    Unknown,
    /// It is good for its time to live from when it was sent.
    Granted,
    /// It is another's, or nobody's.
    Lost,
}

/// Answers renewals.
pub struct Renewals {
    node: RaftNode<State>,
    backend: Arc<dyn Backend>,
    book: Arc<Book>,
}

/// How the state has a lease.
enum Stand {
    /// Somebody else answers renewals.
    Deposed,
    Lost,
    /// Handed out. Who led already when it was does not stop by itself before it has an answer on disk: it is held from then on.
    Requested {
        adopted: bool,
    },
    Held,
}

impl Renewals {
    /// Puts it together.
    #[must_use]
    pub fn new(node: RaftNode<State>, backend: Arc<dyn Backend>, book: Arc<Book>) -> Self {
        Self { node, backend, book }
    }

    /// What becomes of a renewal that came on a session of this node here.
    pub async fn ask(&self, node: NodeName, group: GroupName, epoch: Epoch, answered: bool) -> Verdict {
        let question = Question { node, group, epoch, answered };
        if self.node.status().is_leader() {
            return self.answer(question).await;
        }
        let Ok(payload) = rmp_serde::to_vec_named(&question) else { return Verdict::Unknown };
        match self.node.renew_leases(payload.into(), ANSWER).await {
            Ok(answer) => rmp_serde::from_slice(&answer).unwrap_or(Verdict::Unknown),
            Err(error) => {
                tracing::debug!(%error, "a renewal was not passed on");
                Verdict::Unknown
            }
        }
    }

    /// Answers what a follower passed on.
    ///
    /// # Errors
    /// [`Refusal`], when it does not parse or this member does not lead.
    pub async fn passed_on(&self, payload: &Bytes) -> Result<Bytes, Refusal> {
        let question: Question =
            rmp_serde::from_slice(payload).map_err(|error| Refusal::Invalid(error.to_string()))?;
        if !self.node.status().is_leader() {
            return Err(Refusal::Unavailable("this member does not lead".to_owned()));
        }
        let verdict = self.answer(question).await;
        let answer = rmp_serde::to_vec_named(&verdict).map_err(|e| Refusal::Unavailable(e.to_string()))?;
        Ok(answer.into())
    }

    async fn answer(&self, question: Question) -> Verdict {
        let answered = tokio::time::timeout(ANSWER, self.answered(question)).await;
        answered.unwrap_or(Verdict::Unknown)
    }

    async fn answered(&self, question: Question) -> Verdict {
        let Question { node, group, epoch, answered } = question;
        let Some(number) = self.book.number() else { return Verdict::Unknown };
        let known = match self.stand(number, &node, &group, epoch) {
            Stand::Requested { .. } | Stand::Held => true,
            Stand::Deposed | Stand::Lost => false,
        };
        // Written down first: whatever happens from here on, the lease counts as renewed now.
        if known && self.book.take_in(&group, epoch) != Some(number) {
            return Verdict::Unknown;
        }
        // Without this a leader that was deposed and does not know it would go on renewing.
        if let Err(error) = self.node.prove_lead().await {
            tracing::debug!(%error, %group, "a renewal is not answered");
            return Verdict::Unknown;
        }
        match self.stand(number, &node, &group, epoch) {
            // It was not written down.
            Stand::Requested { .. } | Stand::Held if !known => Verdict::Unknown,
            Stand::Deposed => Verdict::Unknown,
            Stand::Lost => Verdict::Lost,
            Stand::Held => Verdict::Granted,
            // The answer that it is to have on disk first.
            Stand::Requested { adopted: true } if !answered => Verdict::Granted,
            Stand::Requested { .. } => self.confirm(group, epoch).await,
        }
    }

    fn stand(&self, number: u64, node: &NodeName, group: &GroupName, epoch: Epoch) -> Stand {
        self.node.state().read(|state, _| {
            if state.cluster.lease_lead != number {
                return Stand::Deposed;
            }
            let lease = state.groups.get(group).and_then(|group| group.primary.as_ref());
            let Some(lease) = lease.filter(|lease| lease.node == *node && lease.epoch == epoch) else {
                return Stand::Lost;
            };
            match lease.state {
                LeaseState::Released | LeaseState::Expired => Stand::Lost,
                LeaseState::Requested => Stand::Requested { adopted: lease.adopted },
                LeaseState::Held => Stand::Held,
            }
        })
    }

    /// Its host has taken the lease up: that is on disk before it is told that it holds it.
    async fn confirm(&self, group: GroupName, epoch: Epoch) -> Verdict {
        let command = Command::Lease(LeaseCommand::Confirm { group, epoch });
        match self.backend.propose(Entry::system(self.backend.now(), command)).await {
            Ok((_, answer)) if answer.refusal().is_none() => Verdict::Granted,
            Ok((_, answer)) => {
                tracing::debug!(refusal = ?answer.refusal(), "a lease was not confirmed");
                Verdict::Unknown
            }
            Err(error) => {
                tracing::debug!(%error, "a lease was not confirmed");
                Verdict::Unknown
            }
        }
    }
}
