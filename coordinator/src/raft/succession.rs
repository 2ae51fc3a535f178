//! Who stands when the leader falls silent.
//!
//! openraft 0.9 waits the lease of a leader (the longest election timeout, in which no voter may vote for another) and then
//! an election timeout on top: three to four seconds with R7's values, where I-9 wants writes back within 2.5 s at the
//! median. So a follower stands by itself as soon as the lease is over everywhere, one voter after the other by number;
//! openraft's own timers stay behind it for whatever goes wrong. Must never elect while the Raft core has something of the
//! leader still to read: the core itself is asked when it last heard of it, behind everything that waits there.

use std::time::Duration;

use openraft::BasicNode;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::config::RaftConfig;
use super::types::Raft;

/// Time for one candidate's election before the next one stands: two `fdatasync`s and two round trips, on a slow disk.
const TURN: Duration = Duration::from_millis(300);

/// How long after the last word of the leader the voter of this rank stands.
///
/// Two voters may have heard of the leader up to a heartbeat apart, and one whose lease still runs refuses.
fn silence(config: &RaftConfig, rank: usize) -> Duration {
    config.election_max + config.heartbeat + TURN * u32::try_from(rank).unwrap_or(u32::MAX)
}

/// Place of this member among the voters that are left, by number; none when it has no say or leads itself.
fn rank(metrics: &openraft::RaftMetrics<u64, BasicNode>) -> Option<usize> {
    let leader = metrics.current_leader.filter(|leader| *leader != metrics.id)?;
    let mut left: Vec<u64> =
        metrics.membership_config.membership().voter_ids().filter(|id| *id != leader).collect();
    left.sort_unstable();
    left.iter().position(|id| *id == metrics.id)
}

/// Waits until `due` in steps of a heartbeat; whether a step took so much longer that this process must have stood still.
async fn overslept(due: Instant, heartbeat: Duration) -> bool {
    loop {
        let begun = Instant::now();
        if begun >= due {
            return false;
        }
        let step = due.min(begun + heartbeat);
        tokio::time::sleep_until(step).await;
        if Instant::now() > step + heartbeat / 2 {
            return true;
        }
    }
}

/// Watches until `stop`.
pub(crate) async fn run(raft: Raft, config: RaftConfig, stop: CancellationToken) {
    tokio::select! {
        () = watch(&raft, &config) => {}
        () = stop.cancelled() => {}
    }
}

async fn watch(raft: &Raft, config: &RaftConfig) {
    let mut due = Instant::now() + silence(config, 0);
    loop {
        if overslept(due, config.heartbeat).await {
            // This process slept, not the leader: what it sent meanwhile is still to be read.
            due = Instant::now() + config.heartbeat * 2;
            continue;
        }
        let now = Instant::now();
        let rank = rank(&raft.metrics().borrow());
        // Behind every append that has arrived: the core works in order.
        let heard = raft.with_raft_state(|state| {
            state.vote_ref().is_committed().then(|| state.vote_last_modified()).flatten()
        });
        let Ok(heard) = heard.await else { return };
        due = match (rank, heard) {
            (Some(rank), Some(heard)) if heard + silence(config, rank) > now => heard + silence(config, rank),
            (Some(rank), Some(heard)) => {
                tracing::info!(silent_for = ?now.duration_since(heard), "the leader is silent: standing for election");
                if raft.trigger().elect().await.is_err() {
                    return;
                }
                now + silence(config, rank)
            }
            // It leads, has no vote, or an election is under way already.
            (None, _) | (_, None) => now + silence(config, 0),
        };
    }
}

#[cfg(test)]
impl<M: super::Machine> super::RaftNode<M> {
    /// Leaves elections to this module alone.
    pub(super) fn without_own_elections(&self) {
        self.handler().raft.runtime_config().elect(false);
    }
}
