//! The ticker: every 100 ms and after each change, proposes what is due.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use quorate_common::task::Shutdown;
use quorate_core::command::ClusterCommand;
use quorate_core::next::next;
use quorate_core::state::Settings;
use quorate_core::{Answer, Command, Entry, Observations, State};
use quorate_model::Timestamp;

use super::{Limits, failovers, leases, look, schedules, windows};
use crate::api::backend::{Backend, ProposeError};
use crate::leases::Book;
use crate::observe::Table;

/// Longest time between two looks. Liveness limits are seconds, probe intervals half a second.
const TICK: Duration = Duration::from_millis(100);
/// Shortest time between two looks: a burst of applied entries is looked at once.
const GAP: Duration = Duration::from_millis(20);

/// What the leader has seen.
pub(super) struct Seen {
    pub(super) table: Arc<Table>,
    pub(super) leases: Arc<Book>,
}

impl Seen {
    fn observations(&self, state: &State, now: Timestamp) -> Observations {
        Observations { leases: self.leases.silences(state), ..self.table.observations(state, now) }
    }
}

/// Runs while this member leads.
pub(super) async fn run(backend: Arc<dyn Backend>, seen: Seen, limits: Limits, stop: Shutdown) {
    let mut revisions = backend.revisions();
    // A new leader may act only on a state that holds everything committed before it.
    while !stop.is_triggered() {
        match backend.linearize().await {
            Ok(_) => break,
            Err(error) => tracing::debug!(%error, "not confirmed as leader yet"),
        }
        stop.pause(TICK).await;
    }
    let mut memory = Memory {
        openings: windows::Openings::default(),
        runs: schedules::Runs::new(backend.now()),
        moves: failovers::Moves::default(),
    };
    while !stop.is_triggered() {
        round(&*backend, &seen, limits, &mut memory, &stop).await;
        stop.pause(GAP).await;
        tokio::select! {
            () = stop.triggered() => return,
            _ = revisions.changed() => {}
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

/// What a leader remembers from one look to the next.
struct Memory {
    openings: windows::Openings,
    runs: schedules::Runs,
    moves: failovers::Moves,
}

async fn round(backend: &dyn Backend, seen: &Seen, limits: Limits, memory: &mut Memory, stop: &Shutdown) {
    leases::lead(backend, &seen.leases, stop).await;
    let now = backend.now();
    let Memory { openings, runs, moves } = memory;
    let looked = look(backend, |state| {
        if state.cluster.id.is_none() {
            return (Vec::new(), Vec::new(), Vec::new());
        }
        let observations = seen.observations(state, now);
        let mut due: Vec<Command> = settings(&state.settings, limits).into_iter().collect();
        due.extend(next(state, &observations, now, &mut || backend.mint()));
        due.extend(moves.due(state, &observations, now, &mut || backend.mint()));
        (due, windows::wanted(state, now), runs.wanted(state, now))
    });
    let (mut due, wanted, scheduled) = looked.unwrap_or_default();
    // Worked out here, where nobody waits for the state.
    due.extend(openings.due(wanted, now));
    for run in runs.ready(scheduled, now) {
        let command = look(backend, |state| {
            runs.propose(state, &seen.observations(state, now), &run, now, &mut || backend.mint())
        });
        due.extend(command.flatten());
    }
    due.retain_mut(|command| leases::close(backend, &seen.leases, command));
    propose(backend, due, now, runs, &seen.leases).await;
}

/// Together, so that they share one log entry; the order among them does not matter to `next`.
async fn propose(
    backend: &dyn Backend,
    due: Vec<Command>,
    now: Timestamp,
    runs: &mut schedules::Runs,
    book: &Book,
) {
    let mut proposals: FuturesUnordered<_> = due
        .into_iter()
        .map(|command| async move {
            let fired = schedules::fired(&command);
            let told = (command.name(), windows::announced(&command), fired, leases::closed(&command));
            (told, backend.propose(Entry::system(now, command)).await)
        })
        .collect();
    while let Some(((command, announced, fired, closed), outcome)) = proposals.next().await {
        match outcome {
            Ok((_, answer)) => {
                if let Some(refusal) = answer.refusal() {
                    if let Some((group, epoch)) = closed {
                        book.reopen(&group, epoch);
                    }
                    tracing::debug!(command, %refusal, "what was due is refused now");
                } else if let Some((window, start)) = announced {
                    tracing::info!(%window, opens = start.utc(), "a window will open");
                } else if let Some((schedule, due)) = fired {
                    let started = matches!(answer, Answer::Operation { .. });
                    tracing::info!(%schedule, due = due.utc(), started, "a run of a schedule is settled");
                }
            }
            Err(error) => {
                tracing::debug!(command, %error, "what was due was not proposed; it stays due");
                if let (ProposeError::TooLarge(_), Some(run)) = (error, fired) {
                    runs.too_large(run);
                }
            }
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
