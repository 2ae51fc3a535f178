//! Who stands when the leader falls silent.
//!
//! openraft 0.9 waits the lease of a leader (the longest election timeout, in which no voter may vote for another) and then
//! an election timeout on top: three to four seconds with R7's values, where I-9 wants writes back within 2.5 s at the
//! median. So a follower stands by itself as soon as the lease is over everywhere, one voter after the other by number;
//! openraft's own timers stay behind it for whatever goes wrong. Must never elect without that silence, nor twice in one.

use std::time::Duration;

use openraft::BasicNode;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::config::RaftConfig;
use super::types::Raft;

/// Time for one candidate's election before the next one stands: two `fdatasync`s and two round trips, on a slow disk.
const TURN: Duration = Duration::from_millis(300);

/// When an append of the leader was last accepted.
pub(crate) type Heard = watch::Sender<Option<Instant>>;

/// How long after the last append of the leader the voter of this rank stands.
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

pub(crate) async fn run(raft: Raft, heard: Heard, config: RaftConfig, stop: CancellationToken) {
    let mut heard = heard.subscribe();
    // Stood in the silence after this append already.
    let mut stood: Option<Instant> = None;
    while !stop.is_cancelled() {
        let last = *heard.borrow_and_update();
        let (Some(since), true) = (last, last != stood) else {
            tokio::select! {
                changed = heard.changed() => if changed.is_err() { return },
                () = stop.cancelled() => return,
            }
            continue;
        };
        let rank = rank(&raft.metrics().borrow());
        let due = since + silence(&config, rank.unwrap_or(0));
        let woken = Instant::now();
        if woken < due {
            tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                () = stop.cancelled() => return,
            }
            if Instant::now() > due + config.heartbeat * 2 {
                // This process slept, not the leader: what it sent meanwhile is still to be read.
                tokio::time::sleep(config.heartbeat * 2).await;
            }
            continue;
        }
        stood = last;
        if rank.is_some() {
            tracing::info!(silent_for = ?woken.duration_since(since), "the leader is silent: standing for election");
            if raft.trigger().elect().await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
impl<M: super::Machine> super::RaftNode<M> {
    /// Leaves elections to this module alone.
    pub(super) fn without_own_elections(&self) {
        self.handler().raft.runtime_config().elect(false);
    }
}
