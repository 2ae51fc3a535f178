//! What an agent says of the leases on its node: renewals are answered, what is given back is written down.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use quorate_common::wire::agent::{LEASES_MAX, ToAgent};
use quorate_core::command::LeaseCommand;
use quorate_core::{Command, Entry};
use quorate_model::{LeaseAnswer, LeaseHold, LeaseRenewal, NodeName, Principal};
use tokio::sync::mpsc;

use crate::api::backend::Backend;
use crate::leases::{Renewals, Verdict};

/// Renewals waiting in one session: one of each lease.
pub(super) const QUEUE: usize = LEASES_MAX;
/// Renewals of one session that are looked at side by side.
const AT_ONCE: usize = 32;

/// Where the renewals of a session are answered.
pub(super) struct Desk {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) renewals: Arc<Renewals>,
}

impl Desk {
    /// Answers until the session ends.
    pub(super) async fn run(
        self,
        node: NodeName,
        mut asked: mpsc::Receiver<LeaseRenewal>,
        out: mpsc::Sender<ToAgent>,
    ) {
        let mut working = FuturesUnordered::new();
        loop {
            tokio::select! {
                renewal = asked.recv(), if working.len() < AT_ONCE => match renewal {
                    Some(renewal) => working.push(self.answer(&node, renewal)),
                    None => return,
                },
                Some(answer) = working.next() => {
                    if let Some(answer) = answer
                        && out.try_send(ToAgent::Lease(answer)).is_err()
                    {
                        // An agent that does not read is not told: its lease runs out.
                        tracing::debug!(%node, "the answer to a renewal was not sent");
                    }
                }
            }
        }
    }

    /// The answer, if there is one.
    async fn answer(&self, node: &NodeName, renewal: LeaseRenewal) -> Option<LeaseAnswer> {
        let LeaseRenewal { group, epoch, nonce, hold, answered, message } = renewal;
        match hold {
            LeaseHold::Held => {
                let granted = match self.renewals.ask(node.clone(), group.clone(), epoch, answered).await {
                    Verdict::Granted => true,
                    Verdict::Lost => false,
                    Verdict::Unknown => return None,
                };
                Some(LeaseAnswer { group, epoch, nonce, granted })
            }
            LeaseHold::Released => {
                let mut open = false;
                self.backend.read(&mut |state| {
                    let lease = state.groups.get(&group).and_then(|group| group.primary.as_ref());
                    open = lease.is_some_and(|l| l.node == *node && l.epoch == epoch && !l.state.is_over());
                });
                if !open {
                    return None;
                }
                let command = Command::Lease(LeaseCommand::Release { group, epoch, message });
                let principal = Principal::Agent { node: node.clone() };
                let entry = Entry::new(self.backend.now(), principal, None, command);
                if let Err(error) = self.backend.propose(entry).await {
                    // Level-triggered: its host says so again.
                    tracing::debug!(%node, %error, "a lease that was given back is not written down yet");
                }
                None
            }
        }
    }
}
