//! Keeps the Raft group equal to the members that the state lists: level-triggered, one change at a time (R6).

use std::sync::Arc;
use std::time::Duration;

use quorate_common::task::Shutdown;
use quorate_model::MemberId;

use super::look;
use crate::api::backend::Backend;
use crate::raft::{Machine, RaftNode};

/// Time between two comparisons.
const LOOK: Duration = Duration::from_millis(500);

enum Step {
    Add(u64, String),
    Promote(u64),
    Remove(u64),
}

/// Runs while this member leads.
pub(super) async fn run<M: Machine>(node: RaftNode<M>, backend: Arc<dyn Backend>, stop: Shutdown) {
    while !stop.is_triggered() {
        if let Some(step) = due(&node, &*backend) {
            let work = async {
                match &step {
                    Step::Add(id, address) => node.add_learner(*id, address).await,
                    Step::Promote(id) => node.promote(*id).await,
                    Step::Remove(id) => node.remove(*id).await,
                }
            };
            match stop.run_until(work).await {
                None => return,
                Some(Ok(())) => {
                    tracing::info!(member = step.id(), change = step.word(), "the Raft group changed")
                }
                Some(Err(error)) => {
                    tracing::info!(member = step.id(), change = step.word(), %error, "the Raft group did not change");
                }
            }
        }
        stop.pause(LOOK).await;
    }
}

impl Step {
    const fn id(&self) -> u64 {
        match self {
            Self::Add(id, _) | Self::Promote(id) | Self::Remove(id) => *id,
        }
    }

    const fn word(&self) -> &'static str {
        match self {
            Self::Add(..) => "learner",
            Self::Promote(_) => "voter",
            Self::Remove(_) => "removed",
        }
    }
}

/// The first difference between the state's members and the Raft group. Removals first: a member that is gone for good
/// must not hold up the promotion of its successor.
fn due<M: Machine>(node: &RaftNode<M>, backend: &dyn Backend) -> Option<Step> {
    let group = node.status().members;
    look(backend, |state| {
        let wanted = |id: u64| state.members.by_id.get(&MemberId(id)).is_some_and(|m| m.removed_at.is_none());
        if let Some(gone) = group.iter().find(|m| !wanted(m.id)) {
            return Some(Step::Remove(gone.id));
        }
        // A standby stays as it is until somebody promotes it.
        let held = |id: u64| state.members.by_id.get(&MemberId(id)).is_some_and(|m| m.standby);
        if let Some(learner) = group.iter().find(|m| !m.voter && !held(m.id)) {
            return Some(Step::Promote(learner.id));
        }
        state
            .members
            .present()
            .find(|m| group.iter().all(|g| g.id != m.id.0))
            .map(|m| Step::Add(m.id.0, m.grpc.clone()))
    })
    .flatten()
}
