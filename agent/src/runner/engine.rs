//! The shell around the machine: one task that writes the journal, starts work and tells what happened.
//!
//! Everything goes through its queue in order, so the journal has one writer. It never waits for the host: looking and
//! working happen in tasks of their own, which send their end back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use quorate_common::task::Shutdown;
use quorate_model::session::{Assignment, ExecutionReport, NodeInstance};
use quorate_model::{
    ActionSpec, DurationMs, ExecutionId, ExecutionState, ObligationId, ObligationState, Reason, RiskClass,
    ServiceName,
};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::entry;
use super::failpoint;
use super::journal::{
    Contents, End, Entry, Intent, Journal, JournalError, Meta, Tombstone, digest_hex, digest_of,
};
use super::log;
use super::machine::{Effect, Event, Machine, Phase};
use super::work::{Shop, end};
use super::{Incoming, Notice, Status};
use crate::actions::PortError;
use crate::host::{RunEvidence, clock};

/// Work that did not end this long after its deadline is reported as UNKNOWN (I-19 allows 60 s); it keeps its turn.
const LATE: Duration = Duration::from_secs(50);
/// How long work in hand may go on after the helper was asked to stop; then it is canceled.
const STOP_GRACE: Duration = Duration::from_secs(15);
/// How long canceled work may take to undo what is temporary. What is not done then is found again at the next start.
const CANCEL_GRACE: Duration = Duration::from_secs(10);
/// Time between looks at grants of waiting executions.
const TICK: Duration = Duration::from_secs(1);

/// What the engine is asked.
pub(super) enum Command {
    Work(Incoming, oneshot::Sender<()>),
    Confirm(ExecutionId, oneshot::Sender<()>),
    ConfirmObligation(ObligationId, ObligationState, oneshot::Sender<()>),
    Status(oneshot::Sender<Status>),
    Pending(oneshot::Sender<Vec<ExecutionReport>>),
    Instances(oneshot::Sender<Vec<NodeInstance>>),
    Looked(ExecutionId, Result<Option<RunEvidence>, PortError>),
    Worked(ExecutionId, Box<End>),
    Late(ExecutionId),
    /// It waits for somebody else and is left to the next helper.
    Left(ExecutionId),
    Stop,
}

pub(super) struct Engine {
    pub(super) shop: Shop,
    pub(super) journal: Journal,
    pub(super) meta: Meta,
    pub(super) installation: String,
    pub(super) sender: mpsc::Sender<Command>,
    pub(super) notices: broadcast::Sender<Notice>,
    machine: Machine,
    entries: BTreeMap<ExecutionId, Entry>,
    stones: BTreeMap<ExecutionId, Tombstone>,
    tokens: BTreeMap<ExecutionId, CancellationToken>,
    instances: BTreeMap<ServiceName, NodeInstance>,
    generation: u64,
    stopping: bool,
    left: BTreeSet<ExecutionId>,
}

impl Engine {
    /// Takes over what the journal holds; begins what waits and what an earlier helper left.
    pub(super) fn new(
        shop: Shop,
        journal: Journal,
        meta: Meta,
        installation: String,
        sender: mpsc::Sender<Command>,
        notices: broadcast::Sender<Notice>,
        contents: Contents,
    ) -> Self {
        let machine = Machine::new(meta.highest_epoch);
        let mut engine = Self {
            shop,
            journal,
            meta,
            installation,
            sender,
            notices,
            machine,
            entries: BTreeMap::new(),
            stones: BTreeMap::new(),
            tokens: BTreeMap::new(),
            instances: BTreeMap::new(),
            generation: 0,
            stopping: false,
            left: BTreeSet::new(),
        };
        engine.restore(contents);
        engine
    }

    fn restore(&mut self, contents: Contents) {
        for (id, stone) in contents.tombstones {
            self.machine.remember(id.clone(), stone.epoch, digest_of(&stone.digest));
            self.stones.insert(id, stone);
        }
        let mut entries = contents.entries;
        entries.sort_by_key(|(_, entry)| entry.assignment.epoch);
        for (id, entry) in entries {
            if let Some(instance) = &entry.instance {
                self.instances.entry(instance.service.clone()).or_insert_with(|| instance.clone());
            }
            let phase = match (&entry.end, &entry.intent) {
                (Some(_), _) => Phase::Ended,
                (None, Some(_)) => Phase::Running,
                (None, None) => Phase::Queued,
            };
            let mut offer = entry::offer(&id, &entry, None);
            if entry.boot_id != self.shop.host.boot_id() && offer.begin_before.is_some() {
                // A time since another boot says nothing: the grant counts as over.
                offer.begin_before = Some(DurationMs::ZERO);
            }
            self.machine.restore(&offer, phase);
            if let (Phase::Running, Some(intent)) = (phase, entry.intent.clone()) {
                self.spawn_resume(id.clone(), entry.clone(), intent);
            }
            self.entries.insert(id, entry);
        }
    }

    /// Serves its queue until it was asked to stop and nothing is in hand.
    pub(super) async fn run(
        mut self,
        mut queue: mpsc::Receiver<Command>,
        shutdown: Shutdown,
    ) -> Result<(), JournalError> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut asked = false;
        loop {
            tokio::select! {
                biased;
                () = shutdown.triggered(), if !asked => {
                    asked = true;
                    self.begin_stop();
                    self.apply(Event::Stop).await?;
                }
                command = queue.recv() => {
                    let Some(command) = command else { return Ok(()) };
                    if matches!(command, Command::Stop) {
                        return Ok(());
                    }
                    self.serve(command).await?;
                }
                _ = tick.tick() => self.apply(Event::Tick).await?,
            }
            if self.stopping && self.machine.in_hand().all(|id| self.left.contains(id)) {
                return Ok(());
            }
        }
    }

    /// Waits for what is in hand, then cancels it, then gives up: the journal knows.
    fn begin_stop(&mut self) {
        self.stopping = true;
        self.shop.stopping.cancel();
        let tokens: Vec<_> = self.tokens.values().cloned().collect();
        let sender = self.sender.clone();
        tokio::spawn(async move {
            tokio::time::sleep(STOP_GRACE).await;
            for token in tokens {
                token.cancel();
            }
            tokio::time::sleep(CANCEL_GRACE).await;
            // A closed queue means that it has ended already.
            let _ = sender.send(Command::Stop).await;
        });
    }

    async fn serve(&mut self, command: Command) -> Result<(), JournalError> {
        match command {
            Command::Work(work, done) => {
                self.take(work).await?;
                let _ = done.send(()); // the asker may have gone
            }
            Command::Confirm(id, done) => {
                self.apply(Event::Confirmed(id)).await?;
                let _ = done.send(()); // the asker may have gone
            }
            Command::ConfirmObligation(id, state, done) => {
                self.shop.book.confirmed(&id, state).await?;
                let _ = done.send(()); // the asker may have gone
            }
            Command::Status(answer) => {
                let _ = answer.send(self.status()); // the asker may have gone
            }
            Command::Pending(answer) => {
                let reports = self.entries.keys().filter_map(|id| self.report_of(id)).collect();
                let _ = answer.send(reports); // the asker may have gone
            }
            Command::Instances(answer) => {
                let _ = answer.send(self.instances.values().cloned().collect()); // the asker may have gone
            }
            Command::Looked(id, evidence) => self.looked(id, evidence).await?,
            Command::Worked(id, end) => self.worked(id, *end).await?,
            Command::Late(id) => self.late(id).await?,
            Command::Left(id) => drop(self.left.insert(id)),
            Command::Stop => {}
        }
        Ok(())
    }

    fn status(&self) -> Status {
        let config = self.shop.settings.current();
        Status {
            node: config.node.clone(),
            boot_id: self.shop.host.boot_id().to_owned(),
            incarnation: format!("{}.{}", self.meta.incarnation, self.meta.starts),
            installation: self.installation.clone(),
            highest_epoch: self.machine.highest(),
            unconfirmed: self.entries.keys().cloned().collect(),
            generation: self.generation,
            journal_lost: self.journal.why_lost().map(str::to_owned),
            in_hand: self.machine.in_hand().cloned().collect(),
            waiting: u64::try_from(self.machine.waiting()).unwrap_or(u64::MAX),
            open_obligations: u64::try_from(self.shop.book.open()).unwrap_or(u64::MAX),
        }
    }

    /// The whole work of the node, again or anew.
    async fn take(&mut self, work: Incoming) -> Result<(), JournalError> {
        let Incoming { generation, mut assignments, instances, cancels, .. } = work;
        self.generation = generation;
        self.instances = instances.into_iter().map(|i| (i.service.clone(), i)).collect();
        for id in work.confirmed {
            self.apply(Event::Confirmed(id)).await?;
        }
        for id in cancels {
            self.apply(Event::Cancel(id)).await?;
        }
        self.shop.book.extend(&work.extended).await?;
        self.shop.book.want(&work.discharges);
        self.shop.book.leave_out(&work.left_out);
        // By epoch, so that none of one message fences another off.
        assignments.sort_by_key(|(assignment, _)| assignment.epoch);
        for (assignment, begin_before) in assignments {
            self.offer(assignment, begin_before).await?;
        }
        Ok(())
    }

    async fn offer(
        &mut self,
        assignment: Assignment,
        begin_before: Option<DurationMs>,
    ) -> Result<(), JournalError> {
        let id = assignment.execution.clone();
        let instance = assignment.action.service().and_then(|name| self.instances.get(name)).cloned();
        let entry = Entry {
            digest: digest_hex(&entry::digest(&assignment)),
            boot_id: self.shop.host.boot_id().to_owned(),
            begin_before,
            at: clock::now(),
            intent: None,
            end: None,
            instance,
            assignment,
        };
        let refused = self.refusal(&entry);
        let offer = entry::offer(&id, &entry, refused);
        if self.machine.phase(&id).is_none() && !self.stones.contains_key(&id) && !self.stopping {
            self.entries.insert(id, entry);
        }
        self.apply(Event::Offered(offer)).await
    }

    /// Why this host does not do it, if it does not.
    fn refusal(&self, entry: &Entry) -> Option<(Reason, String)> {
        let action = &entry.assignment.action;
        let policy = &self.shop.settings.current().policy;
        if let Err(text) = policy.allows(action) {
            return Some((Reason::PolicyDenied, text));
        }
        if let Some(instance) = &entry.instance
            && let Err(text) = policy.allows_driver(&instance.service, &instance.driver)
        {
            return Some((Reason::PolicyDenied, text));
        }
        if action.risk() == RiskClass::Read {
            return None;
        }
        if let Some(why) = self.journal.why_lost() {
            return Some((Reason::JournalLost, why.to_owned()));
        }
        self.journal.check_space().err().map(|text| (Reason::LowSpace, text))
    }

    /// Lets the machine decide, and does what it says until nothing is left to do at once.
    async fn apply(&mut self, event: Event) -> Result<(), JournalError> {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let now = DurationMs(clock::uptime_ms());
            for effect in self.machine.step(now, event) {
                events.extend(self.carry_out(effect).await?);
            }
        }
        Ok(())
    }

    async fn carry_out(&mut self, effect: Effect) -> Result<Option<Event>, JournalError> {
        match effect {
            Effect::Accept(id) => {
                let Some(entry) = self.entries.get(&id) else { return Ok(None) };
                self.meta.highest_epoch = self.machine.highest();
                self.journal.accept(&id, entry, &self.meta).await?;
                failpoint::hit("accepted");
                log::accepted(&id, entry);
                Ok(Some(Event::Accepted(id)))
            }
            Effect::Begin(id) => {
                self.spawn_look(id);
                Ok(None)
            }
            Effect::Run(id) => {
                self.spawn_run(id);
                Ok(None)
            }
            Effect::Cancel(id) => {
                if let Some(token) = self.tokens.get(&id) {
                    token.cancel();
                }
                Ok(None)
            }
            Effect::End(id, state, reason, text) => {
                self.store_end(&id, end(state, Some(reason), text, None)).await?;
                Ok(Some(Event::Stored(id, state)))
            }
            Effect::Report(id) => {
                if let Some(report) = self.report_of(&id) {
                    self.tell(report);
                }
                Ok(None)
            }
            Effect::Conflict(id, epoch) => {
                self.tell(entry::conflict(id, epoch));
                Ok(None)
            }
            Effect::Forget(id) => {
                self.forget(id).await?;
                Ok(None)
            }
            Effect::Drop(id) => {
                self.stones.remove(&id);
                self.journal.drop_tombstone(&id).await?;
                Ok(None)
            }
        }
    }

    fn tell(&self, report: ExecutionReport) {
        // Nobody listens while the network half is away; it is told everything when it comes back.
        let _ = self.notices.send(Notice::Execution(Box::new(report)));
    }

    async fn forget(&mut self, id: ExecutionId) -> Result<(), JournalError> {
        let Some(entry) = self.entries.remove(&id) else { return Ok(()) };
        let state = entry.end.as_ref().map_or(ExecutionState::Unknown, |end| end.state);
        let stone = Tombstone { digest: entry.digest, epoch: entry.assignment.epoch, state, at: entry.at };
        self.journal.bury(&id, &stone).await?;
        self.stones.insert(id, stone);
        Ok(())
    }

    async fn store_end(&mut self, id: &ExecutionId, end: End) -> Result<(), JournalError> {
        self.tokens.remove(id);
        let Some(entry) = self.entries.get_mut(id) else { return Ok(()) };
        (entry.end, entry.at) = (Some(end), clock::now());
        failpoint::hit("before-result");
        self.journal.write(id, entry).await?;
        failpoint::hit("after-result");
        log::ended(id, entry);
        Ok(())
    }

    fn spawn_look(&self, id: ExecutionId) {
        let Some(entry) = self.entries.get(&id).cloned() else { return };
        let (shop, sender) = (self.shop.clone(), self.sender.clone());
        tokio::spawn(async move {
            let evidence = shop.evidence(&entry).await;
            // A closed queue means that the helper is gone; the execution waits in the journal.
            let _ = sender.send(Command::Looked(id, evidence)).await;
        });
    }

    /// The evidence is there: the INTENT becomes durable, and then the machine may let it run.
    async fn looked(
        &mut self,
        id: ExecutionId,
        evidence: Result<Option<RunEvidence>, PortError>,
    ) -> Result<(), JournalError> {
        let evidence = match evidence {
            Ok(evidence) => evidence,
            Err(error) => {
                let message = format!("can not look at the unit before the action: {error}");
                return self.worked(id, end(ExecutionState::Failed, Some(error.reason), message, None)).await;
            }
        };
        let uptime = DurationMs(clock::uptime_ms());
        let Some(entry) = self.entries.get_mut(&id) else { return Ok(()) };
        entry.intent = Some(Intent { at: clock::now(), uptime, evidence });
        entry.at = clock::now();
        failpoint::hit("before-intent");
        self.journal.write(&id, entry).await?;
        failpoint::hit("after-intent");
        log::begins(&id, entry);
        self.apply(Event::Begun(id)).await
    }

    fn spawn_run(&mut self, id: ExecutionId) {
        let Some(entry) = self.entries.get(&id).cloned() else { return };
        let left = entry.assignment.deadline;
        let cancel = self.token(&id);
        self.shop.book.begins(&id);
        let (shop, sender) = (self.shop.clone(), self.sender.clone());
        self.watch_deadline(id.clone(), left);
        let span = log::span(&id, &entry);
        let work = async move {
            let end = shop.run(id.clone(), entry, cancel, left).await;
            shop.book.ends(&id);
            failpoint::hit("after-effect");
            let _ = sender.send(Command::Worked(id, Box::new(end))).await; // as in spawn_look
        };
        tokio::spawn(work.instrument(span));
    }

    fn spawn_resume(&mut self, id: ExecutionId, entry: Entry, intent: Intent) {
        let cancel = self.token(&id);
        let (shop, sender) = (self.shop.clone(), self.sender.clone());
        let span = log::span(&id, &entry);
        if matches!(
            entry.assignment.action,
            ActionSpec::TrafficDrain { .. } | ActionSpec::MaintenanceEnter { .. }
        ) {
            // It is done again: what it owes is its own business, as at first.
            shop.book.begins(&id);
        }
        let work = async move {
            let end = shop.resume(id.clone(), entry, intent, cancel).await;
            shop.book.ends(&id);
            let _ = sender.send(Command::Worked(id, Box::new(end))).await; // as in spawn_look
        };
        tokio::spawn(work.instrument(span));
    }

    fn token(&mut self, id: &ExecutionId) -> CancellationToken {
        self.tokens.entry(id.clone()).or_default().clone()
    }

    fn watch_deadline(&self, id: ExecutionId, left: DurationMs) {
        let sender = self.sender.clone();
        let token = self.tokens.get(&id).cloned().unwrap_or_default();
        tokio::spawn(async move {
            let patience = Duration::from_millis(left.0).saturating_add(LATE);
            tokio::select! {
                () = tokio::time::sleep(patience) => {}
                // Canceled work must end soon, too.
                () = async { token.cancelled().await; tokio::time::sleep(LATE).await } => {}
                () = sender.closed() => return,
            }
            let _ = sender.send(Command::Late(id)).await; // as in spawn_look
        });
    }

    async fn worked(&mut self, id: ExecutionId, end: End) -> Result<(), JournalError> {
        self.apply(Event::Worked(id.clone())).await?;
        let state = end.state;
        self.store_end(&id, end).await?;
        self.apply(Event::Stored(id, state)).await
    }

    async fn late(&mut self, id: ExecutionId) -> Result<(), JournalError> {
        if self.machine.phase(&id) != Some(Phase::Running) {
            return Ok(());
        }
        let message = "it did not end within its deadline and is still at work".to_owned();
        let unknown = end(ExecutionState::Unknown, Some(Reason::DeadlineExceeded), message, None);
        self.store_end(&id, unknown).await?;
        self.apply(Event::Stored(id, ExecutionState::Unknown)).await
    }

    fn report_of(&self, id: &ExecutionId) -> Option<ExecutionReport> {
        match self.entries.get(id) {
            Some(entry) => Some(entry::report(id, entry)),
            None => self.stones.get(id).map(|stone| entry::report_of_tombstone(id, stone)),
        }
    }
}
