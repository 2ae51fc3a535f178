//! What runs only while this member leads, started and stopped in one place: the ticker, the reconciler of Raft members.
//!
//! Job: notice that this member leads or ceased to, give every liveness clock a fresh start, propose what `next` finds
//! due. Must never: decide what is safe (`apply` decides again), or go on for a moment after leadership is lost: every
//! proposal of an old leader is refused by Raft itself.

mod failovers;
mod leases;
mod members;
mod schedules;
mod ticker;
mod windows;

use std::sync::Arc;

use quorate_common::task::{BoxError, Shutdown};
use quorate_core::State;

use crate::api::backend::Backend;
use crate::leases::Book;
use crate::observe::Table;
use crate::raft::{Machine, RaftNode};

/// What the leader's tasks work with.
pub struct Leader<M: Machine> {
    /// The Raft member.
    pub node: RaftNode<M>,
    /// The coordinator.
    pub backend: Arc<dyn Backend>,
    /// What is observed.
    pub table: Arc<Table>,
    /// When leases were renewed.
    pub leases: Arc<Book>,
    /// Liveness limits by configuration; proposed when they differ from the replicated ones.
    pub limits: Limits,
}

/// Liveness limits by configuration.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// No heartbeat for this long: DISCONNECTED.
    pub silence: quorate_model::DurationMs,
    /// No heartbeat for this long: DOWN.
    pub grace: quorate_model::DurationMs,
}

impl<M: Machine> Leader<M> {
    /// Follows leadership until shutdown.
    ///
    /// # Errors
    /// When the Raft member is gone.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), BoxError> {
        let mut status = self.node.watch();
        let mut now = status.current();
        let mut leading: Option<(u64, Shutdown)> = None;
        let mut known_leader = None;
        loop {
            let term = now.is_leader().then_some(now.term);
            if leading.as_ref().map(|(term, _)| *term) != term {
                if let Some((term, stop)) = leading.take() {
                    stop.trigger();
                    self.table.set_leading(None);
                    self.leases.end();
                    tracing::info!(term, "no longer leading");
                }
                if let Some(term) = term {
                    self.table.set_leading(Some(self.backend.now()));
                    tracing::info!(term, "leading");
                    let stop = shutdown.child();
                    self.start(&stop);
                    leading = Some((term, stop));
                }
            }
            let leader = now.leader.as_ref().map(|(id, _)| *id);
            if leader != known_leader {
                known_leader = leader;
                self.table.tell_all();
            }
            tokio::select! {
                () = shutdown.triggered() => return Ok(()),
                changed = status.changed() => match changed {
                    Some(status) => now = status,
                    None => return Err("the Raft member is gone".into()),
                },
            }
        }
    }

    fn start(&self, stop: &Shutdown) {
        let seen = ticker::Seen { table: self.table.clone(), leases: self.leases.clone() };
        tokio::spawn(ticker::run(self.backend.clone(), seen, self.limits, stop.clone()));
        tokio::spawn(members::run(self.node.clone(), self.backend.clone(), stop.clone()));
    }
}

/// Reads the state once.
fn look<T>(backend: &dyn Backend, mut look: impl FnMut(&State) -> T) -> Option<T> {
    let mut seen = None;
    backend.read(&mut |state| seen = Some(look(state)));
    seen
}
