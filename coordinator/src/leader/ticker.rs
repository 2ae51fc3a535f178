//! The ticker: every 100 ms and after each change, proposes what is due.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use quorate_common::task::Shutdown;
use quorate_core::command::ClusterCommand;
use quorate_core::next::next;
use quorate_core::state::Settings;
use quorate_core::{Command, Entry};

use super::{Limits, look, windows};
use crate::api::backend::Backend;
use crate::observe::Table;

/// Longest time between two looks. Liveness limits are seconds, probe intervals half a second.
const TICK: Duration = Duration::from_millis(100);
/// Shortest time between two looks: a burst of applied entries is looked at once.
const GAP: Duration = Duration::from_millis(20);

/// Runs while this member leads.
pub(super) async fn run(backend: Arc<dyn Backend>, table: Arc<Table>, limits: Limits, stop: Shutdown) {
    let mut revisions = backend.revisions();
    // A new leader may act only on a state that holds everything committed before it.
    while !stop.is_triggered() {
        match backend.linearize().await {
            Ok(_) => break,
            Err(error) => tracing::debug!(%error, "not confirmed as leader yet"),
        }
        stop.pause(TICK).await;
    }
    let mut openings = windows::Openings::default();
    while !stop.is_triggered() {
        round(&*backend, &table, limits, &mut openings).await;
        stop.pause(GAP).await;
        tokio::select! {
            () = stop.triggered() => return,
            _ = revisions.changed() => {}
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

async fn round(backend: &dyn Backend, table: &Table, limits: Limits, openings: &mut windows::Openings) {
    let now = backend.now();
    let due = look(backend, |state| {
        if state.cluster.id.is_none() {
            return (Vec::new(), Vec::new());
        }
        let observations = table.observations(state, now);
        let mut due: Vec<Command> = settings(&state.settings, limits).into_iter().collect();
        due.extend(next(state, &observations, now, &mut || backend.mint()));
        (due, windows::wanted(state, now))
    });
    let (mut due, wanted) = due.unwrap_or_default();
    // Worked out here, where nobody waits for the state.
    due.extend(openings.due(wanted, now));
    // Together, so that they share one log entry; the order among them does not matter to `next`.
    let mut proposals: FuturesUnordered<_> = due
        .into_iter()
        .map(|command| async move {
            let (name, announced) = (command.name(), windows::announced(&command));
            (name, announced, backend.propose(Entry::system(now, command)).await)
        })
        .collect();
    while let Some((command, announced, outcome)) = proposals.next().await {
        match outcome {
            Ok((_, answer)) => match (answer.refusal(), announced) {
                (Some(refusal), _) => tracing::debug!(command, %refusal, "what was due is refused now"),
                (None, Some((window, start))) => {
                    tracing::info!(%window, opens = start.utc(), "a window will open");
                }
                (None, None) => {}
            },
            Err(error) => tracing::debug!(command, %error, "what was due was not proposed; it stays due"),
        }
    }
}

/// The configured liveness limits, when the replicated ones differ.
fn settings(current: &Settings, limits: Limits) -> Option<Command> {
    let mut wanted = current.clone();
    wanted.disconnected_after = limits.silence;
    wanted.down_after = limits.grace;
    if wanted == *current {
        return None;
    }
    Some(Command::Cluster(ClusterCommand::SetSettings { settings: wanted }))
}
