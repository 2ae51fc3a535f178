//! When to snapshot: by entries and by bytes. Ours, because openraft 0.9 does not re-arm its own rule after a build in
//! flight (#1829). openraft then purges the log behind the snapshot, but for `keep_entries`.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::store::{LogBytes, Shelf};

use super::config::RaftConfig;
use super::types::Raft;

/// How often the rule is looked at; between two looks at most a few thousand entries are applied.
const EVERY: Duration = Duration::from_millis(250);

/// After this a triggered snapshot that did not appear counts as dropped.
const GIVE_UP: Duration = Duration::from_secs(60);

/// Between two words about a disk without room.
const REMIND: Duration = Duration::from_secs(60);

pub(crate) async fn run(
    raft: Raft,
    log: LogBytes,
    shelf: Shelf,
    config: RaftConfig,
    stop: CancellationToken,
) {
    let mut pending: Option<(u64, Instant)> = None;
    let mut told: Option<Instant> = None;
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => return,
        }
        let (applied, snapshot) = {
            let metrics = raft.metrics();
            let metrics = metrics.borrow();
            (metrics.last_applied.map_or(0, |id| id.index), metrics.snapshot.map_or(0, |id| id.index))
        };
        if let Some((index, since)) = pending {
            if snapshot < index && since.elapsed() < GIVE_UP {
                continue;
            }
            pending = None;
        }
        let due = applied.saturating_sub(snapshot) >= config.snapshot_entries
            || (applied > snapshot && log.appended_bytes() >= config.snapshot_bytes);
        if due {
            // One statvfs, like every look at the space for new work.
            if let Err(low) = shelf.room() {
                if told.is_none_or(|at| at.elapsed() >= REMIND) {
                    tracing::warn!(%low, "no room for a snapshot: the log is kept until there is");
                    told = Some(Instant::now());
                }
                continue;
            }
            log.snapshot_taken();
            if raft.trigger().snapshot().await.is_err() {
                return;
            }
            pending = Some((applied, Instant::now()));
        }
    }
}
