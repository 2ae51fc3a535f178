//! The runner: accepts executions, does each at most once, and finds them again after a crash.
//!
//! Job: `machine.rs` decides (pure), `journal.rs` remembers, `engine.rs` carries out, `recover.rs` judges what an earlier
//! helper left (pure), `work.rs` does one execution, `obligations.rs` pays what is owed, `leases.rs` stops what leads when its
//! lease is over, `hooks.rs` calls the host's own programs. Must never: act before the INTENT is durable, report before the RESULT is, run an execution a second time,
//! or begin anything new without a coordinator (I-21).
//!
//! **Architecture Invariant:** the epoch is durable before the effect it allows (I-15); one change at a time on a node
//! (I-18); an obligation is durable before its disturbance; `UNKNOWN` is never run again.

mod engine;
mod entry;
pub(crate) mod failpoint;
mod hooks;
pub mod journal;
pub mod leases;
mod log;
pub mod machine;
mod obligations;
mod owed;
mod recover;
mod settings;
mod silences;
mod undo;
mod work;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use quorate_common::task::Shutdown;
use quorate_model::session::{Assignment, ExecutionReport, InstanceReport, NodeInstance, ObligationReport};
use quorate_model::{
    DurationMs, Epoch, ExecutionId, NodeName, ObligationId, ObligationState, Reason, ServiceName,
};
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use self::engine::{Command, Engine};
pub use self::hooks::{Hooks, end_leftovers};
use self::journal::{Journal, JournalError};
use self::leases::{LeaseKnown, LeaseOrder, LeaseStanding, Leases};
use self::obligations::Book;
pub use self::settings::Settings;
use self::undo::Undoer;
use self::work::Shop;
use crate::actions::FactsSource;
use crate::host::Host;

/// Commands that wait for the engine: its tasks and a handful of connections send them, one at a time each.
const COMMANDS_MAX: usize = 256;
/// Notices kept for a listener that is slow; one that misses some is told everything again.
const NOTICES_MAX: usize = 512;

/// The whole work of the node, as the network half hands it over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incoming {
    /// Generation of the work.
    pub generation: u64,
    /// Executions, each with the time since boot before which it must have begun.
    pub assignments: Vec<(Assignment, Option<DurationMs>)>,
    /// Instances on this node.
    pub instances: Vec<NodeInstance>,
    /// Executions to cancel.
    pub cancels: Vec<ExecutionId>,
    /// Obligations to discharge now.
    pub discharges: Vec<ObligationId>,
    /// Obligations to close without their undo.
    #[serde(default)]
    pub left_out: Vec<ObligationId>,
    /// Obligations to wait longer for, each until this time since boot.
    #[serde(default)]
    pub extended: Vec<(ObligationId, DurationMs)>,
    /// Executions whose end the coordinators keep.
    pub confirmed: Vec<ExecutionId>,
}

/// What happened, for whoever listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notice {
    /// An execution's progress.
    Execution(Box<ExecutionReport>),
    /// An obligation's progress.
    Obligation(ObligationReport),
    /// Every instance of this node.
    Instances(Vec<InstanceReport>),
}

/// How the helper stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// This node, by the helper's own configuration.
    pub node: NodeName,
    /// The kernel's boot id.
    pub boot_id: String,
    /// Of the journal, a dot, and the number of this start.
    pub incarnation: String,
    /// Random number of this installation.
    pub installation: String,
    /// Highest epoch seen.
    pub highest_epoch: Epoch,
    /// Executions that are not confirmed.
    pub unconfirmed: Vec<ExecutionId>,
    /// Generation of the work it has.
    pub generation: u64,
    /// Why the journal can not be used; changes are refused then.
    pub journal_lost: Option<String>,
    /// Executions at work.
    pub in_hand: Vec<ExecutionId>,
    /// Executions that wait for their turn.
    pub waiting: u64,
    /// Undos that are owed.
    pub open_obligations: u64,
}

/// The runner has ended; the helper is about to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the runner has stopped")]
pub struct Stopped;

/// What a runner is made of.
pub struct Parts {
    /// The machine.
    pub host: Arc<dyn Host>,
    /// The configuration in use.
    pub settings: Settings,
    /// The open journal.
    pub journal: Journal,
    /// Random number of this installation.
    pub installation: String,
    /// Facts about the host.
    pub facts: Arc<dyn FactsSource>,
}

/// A handle to the running runner. Cheap to clone.
#[derive(Clone)]
pub struct Runner {
    commands: mpsc::Sender<Command>,
    notices: broadcast::Sender<Notice>,
    book: Arc<Book>,
    leases: Arc<Leases>,
}

impl Runner {
    /// Reads the journal, finishes what an earlier helper left, and serves until `shutdown` and the end of what is in hand.
    /// The future is the runner's life: it ends with an error when the journal does.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn start(
        parts: Parts,
        shutdown: Shutdown,
    ) -> Result<(Self, impl Future<Output = Result<(), JournalError>> + Send + 'static), JournalError> {
        let Parts { host, settings, journal, installation, facts } = parts;
        let meta = journal.begin(&uuid::Uuid::new_v4().simple().to_string()).await?;
        let mut contents = journal.contents()?;
        let (commands, queue) = mpsc::channel(COMMANDS_MAX);
        let (notices, _) = broadcast::channel(NOTICES_MAX);
        let leases = Leases::new(
            journal.clone(),
            Arc::clone(&host),
            settings.clone(),
            leases::boot_clock(),
            std::mem::take(&mut contents.leases),
        );
        let hooks = Hooks::new(Arc::clone(&host), settings.clone(), Arc::clone(&leases));
        let teller = notices.clone();
        let book = Book::new(
            journal.clone(),
            Undoer::new(Arc::clone(&host), settings.clone(), hooks.clone()),
            host.boot_id().to_owned(),
            std::mem::take(&mut contents.owed),
            move |report| {
                // Nobody listens while the network half is away; it asks for everything when it comes back.
                let _ = teller.send(Notice::Obligation(report));
            },
        );
        let shop = Shop {
            host,
            settings,
            hooks,
            book: Arc::clone(&book),
            leases: Arc::clone(&leases),
            facts,
            stopping: CancellationToken::new(),
            commands: commands.clone(),
        };
        let handle = Self {
            commands: commands.clone(),
            notices: notices.clone(),
            book: Arc::clone(&book),
            leases: Arc::clone(&leases),
        };
        let renewer = Arc::clone(&book);
        let engine = Engine::new(shop, journal.clone(), meta, installation, commands, notices, contents);
        let life = async move {
            // Undos go on until the last execution has ended: an ending one may still owe.
            let undoing = Shutdown::new();
            let payer = tokio::spawn(book.run(undoing.clone()));
            let mut payer = std::pin::pin!(payer);
            let renewing = renewer.renew(undoing.clone());
            let keeping = leases.run(undoing.clone());
            let result = tokio::select! {
                biased;
                // First: what has no lease is stopped before anything else is done. It ends by itself as the others do.
                ended = keeping => return ended,
                result = engine.run(queue, shutdown) => result,
                ended = &mut payer => return flatten(ended),
                // It ends by itself only when nothing can be written down any more.
                ended = renewing => return ended,
            };
            undoing.trigger();
            // An undo in the middle is not torn; a hook has its own limit.
            let paid = tokio::time::timeout(Duration::from_secs(5), payer).await;
            journal.close();
            match (result, paid) {
                (Ok(()), Ok(ended)) => flatten(ended),
                (result, _) => result,
            }
        };
        Ok((handle, life))
    }

    /// Hands over the whole work; returns when every new execution is durably accepted or refused.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn work(&self, work: Incoming) -> Result<(), Stopped> {
        self.ask(|answer| Command::Work(work, answer)).await
    }

    /// The coordinators keep the end of this execution.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn confirm(&self, id: ExecutionId) -> Result<(), Stopped> {
        self.ask(|answer| Command::Confirm(id, answer)).await
    }

    /// The coordinators keep this state of an obligation.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn confirm_obligation(&self, id: ObligationId, state: ObligationState) -> Result<(), Stopped> {
        self.ask(|answer| Command::ConfirmObligation(id, state, answer)).await
    }

    /// Takes a lease up, or learns what became of it. Waits for no execution.
    ///
    /// # Errors
    /// Why it is not taken up.
    pub async fn lease(&self, order: LeaseOrder) -> Result<LeaseStanding, (Reason, String)> {
        self.leases.order(order).await
    }

    /// Leases that are known here and not released.
    #[must_use]
    pub fn leases(&self) -> Vec<LeaseKnown> {
        self.leases.all()
    }

    /// Whether the instance of a service may lead now.
    ///
    /// # Errors
    /// Why not, one sentence.
    pub fn may_lead(&self, service: &ServiceName) -> Result<(), String> {
        self.leases.may_lead(service)
    }

    /// How it stands.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn status(&self) -> Result<Status, Stopped> {
        self.ask(Command::Status).await
    }

    /// Instances it was told of.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn instances(&self) -> Result<Vec<NodeInstance>, Stopped> {
        self.ask(Command::Instances).await
    }

    /// Everything that is not confirmed, as notices, and from then on what happens. Subscribed first, so nothing is missed;
    /// a notice may come twice.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn listen(&self) -> Result<(Vec<Notice>, broadcast::Receiver<Notice>), Stopped> {
        let receiver = self.notices.subscribe();
        let executions = self.ask(Command::Pending).await?;
        let mut all: Vec<Notice> =
            executions.into_iter().map(|report| Notice::Execution(Box::new(report))).collect();
        all.extend(self.book.reports().into_iter().map(Notice::Obligation));
        Ok((all, receiver))
    }

    /// Tells listeners.
    pub fn tell(&self, notice: Notice) {
        // Nobody listens while the network half is away.
        let _ = self.notices.send(notice);
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Stopped> {
        let (answer, asked) = oneshot::channel();
        self.commands.send(command(answer)).await.map_err(|_| Stopped)?;
        asked.await.map_err(|_| Stopped)
    }
}

fn flatten(ended: Result<Result<(), JournalError>, tokio::task::JoinError>) -> Result<(), JournalError> {
    ended.unwrap_or_else(|error| {
        Err(JournalError::Io {
            what: "the keeper of obligations ended".to_owned(),
            source: std::io::Error::other(error),
        })
    })
}
