//! Which execution may begin, and what a second delivery gets. Pure: events in, effects out.
//!
//! Must never: know the host, a clock or a runtime. **Architecture Invariant:** an effect on the host begins only after
//! `Event::Begun`, which says that its INTENT is durable; a result is reported only after `Event::Stored`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use quorate_model::{DurationMs, Epoch, ExecutionId, ExecutionState, Reason};

/// Reads that run side by side: they share the disk and the bus with the one change that may run.
pub const READERS_MAX: usize = 4;
/// Executions that wait on one node. An operation has one step per node in flight; this is far above any fleet's need.
pub const QUEUE_MAX: usize = 64;
/// Ended and confirmed executions whose ids are still known. Older ones are fenced off by their epoch.
pub const REMEMBERED_MAX: usize = 4_096;

/// Digest of what an execution is asked to do.
pub type Digest = [u8; 32];

/// An execution that was delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Its id.
    pub id: ExecutionId,
    /// Its fencing number.
    pub epoch: Epoch,
    /// What it asks for.
    pub digest: Digest,
    /// It changes nothing.
    pub read: bool,
    /// It must have begun before this reading of the monotonic clock.
    pub begin_before: Option<DurationMs>,
    /// The host says no: policy, capability, journal, space.
    pub refused: Option<(Reason, String)>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It was delivered, for the first time or again.
    Offered(Offer),
    /// Its acceptance is durable.
    Accepted(ExecutionId),
    /// Its INTENT is durable.
    Begun(ExecutionId),
    /// Its work came to an end; the result is not durable yet.
    Worked(ExecutionId),
    /// Its result is durable. `UNKNOWN` keeps its turn until the truth is known.
    Stored(ExecutionId, ExecutionState),
    /// It should stop, or not begin.
    Cancel(ExecutionId),
    /// The coordinators keep its result.
    Confirmed(ExecutionId),
    /// Nothing new may begin: the helper stops.
    Stop,
    /// Time has passed.
    Tick,
}

/// What to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Make acceptance and epoch durable, then [`Event::Accepted`].
    Accept(ExecutionId),
    /// Look at the host, make the INTENT durable, then [`Event::Begun`].
    Begin(ExecutionId),
    /// Do it.
    Run(ExecutionId),
    /// Ask it to stop.
    Cancel(ExecutionId),
    /// Make this end durable without having begun, then [`Event::Stored`].
    End(ExecutionId, ExecutionState, Reason, String),
    /// Tell where it stands.
    Report(ExecutionId),
    /// Tell that another execution has this id; write nothing.
    Conflict(ExecutionId, Epoch),
    /// Replace its record by its tombstone.
    Forget(ExecutionId),
    /// Remove this tombstone.
    Drop(ExecutionId),
}

/// Where an execution stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its acceptance is being written.
    Accepting,
    /// It waits for its turn.
    Queued,
    /// Its INTENT is being written.
    Beginning,
    /// At work.
    Running,
    /// Its result is being written.
    Ending,
    /// Its result is durable.
    Ended,
}

#[derive(Clone, Debug)]
struct Slot {
    epoch: Epoch,
    digest: Digest,
    read: bool,
    begin_before: Option<DurationMs>,
    phase: Phase,
    cancel: bool,
    /// Confirmed before its result was stored by us (an `UNKNOWN` whose end came later).
    confirmed: bool,
}

/// All executions of this node.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    highest: Epoch,
    slots: BTreeMap<ExecutionId, Slot>,
    queue: VecDeque<ExecutionId>,
    remembered: BTreeMap<ExecutionId, (Epoch, Digest)>,
    changing: Option<ExecutionId>,
    reading: BTreeSet<ExecutionId>,
    stopping: bool,
}

impl Machine {
    /// An empty one that has seen epochs up to this.
    #[must_use]
    pub fn new(highest: Epoch) -> Self {
        Self { highest, ..Self::default() }
    }

    /// Takes over an execution of the journal. [`Phase::Running`] holds its turn; [`Phase::Queued`] waits for one.
    pub fn restore(&mut self, offer: &Offer, phase: Phase) {
        let Offer { id, epoch, digest, read, begin_before, refused: _ } = offer.clone();
        self.highest = self.highest.max(epoch);
        match phase {
            Phase::Running | Phase::Beginning | Phase::Ending => self.take_turn(&id, read),
            Phase::Queued | Phase::Accepting => self.queue.push_back(id.clone()),
            Phase::Ended => {}
        }
        let slot = Slot { epoch, digest, read, begin_before, phase, cancel: false, confirmed: false };
        self.slots.insert(id, slot);
    }

    /// Takes over a tombstone of the journal.
    pub fn remember(&mut self, id: ExecutionId, epoch: Epoch, digest: Digest) {
        self.highest = self.highest.max(epoch);
        self.remembered.insert(id, (epoch, digest));
    }

    /// Highest epoch seen.
    #[must_use]
    pub const fn highest(&self) -> Epoch {
        self.highest
    }

    /// Where an execution stands.
    #[must_use]
    pub fn phase(&self, id: &ExecutionId) -> Option<Phase> {
        self.slots.get(id).map(|slot| slot.phase)
    }

    /// The execution that changes something now, and those that read.
    pub fn in_hand(&self) -> impl Iterator<Item = &ExecutionId> {
        self.changing.iter().chain(&self.reading)
    }

    /// Executions that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// One step.
    pub fn step(&mut self, now: DurationMs, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Offered(offer) => self.offered(now, offer, &mut effects),
            Event::Accepted(id) => {
                if let Some(slot) = self.slots.get_mut(&id)
                    && slot.phase == Phase::Accepting
                {
                    slot.phase = Phase::Queued;
                    self.queue.push_back(id.clone());
                    effects.push(Effect::Report(id));
                }
            }
            Event::Begun(id) => self.begun(id, &mut effects),
            Event::Worked(id) => {
                if let Some(slot) = self.slots.get_mut(&id) {
                    slot.phase = Phase::Ending;
                }
            }
            Event::Stored(id, state) => self.stored(&id, state, &mut effects),
            Event::Cancel(id) => self.cancel(id, &mut effects),
            Event::Confirmed(id) => self.confirmed(&id, &mut effects),
            Event::Stop => self.stopping = true,
            Event::Tick => {}
        }
        self.schedule(now, &mut effects);
        effects
    }

    fn offered(&mut self, now: DurationMs, offer: Offer, effects: &mut Vec<Effect>) {
        let Offer { id, epoch, digest, read, begin_before, refused } = offer;
        if let Some(slot) = self.slots.get(&id) {
            // While the first is in hand its own reports tell the truth; a REJECTED beside them would be a lie.
            if slot.digest == digest || slot.phase != Phase::Ended {
                effects.push(Effect::Report(id));
            } else {
                effects.push(Effect::Conflict(id, epoch));
            }
            return;
        }
        if let Some((_, known)) = self.remembered.get(&id) {
            let same = *known == digest;
            effects.push(if same { Effect::Report(id) } else { Effect::Conflict(id, epoch) });
            return;
        }
        if self.stopping {
            // Level-triggered: whoever comes after us is told again.
            return;
        }
        let no = if epoch < self.highest {
            let text = format!("epoch {epoch} is older than {}, which this node has seen", self.highest);
            Some((Reason::EpochStale, text))
        } else if refused.is_some() {
            refused
        } else if begin_before.is_some_and(|end| now >= end) {
            Some((Reason::GrantExpired, "its grant ended before it could begin".to_owned()))
        } else if self.queue.len() >= QUEUE_MAX {
            Some((Reason::LimitReached, format!("{QUEUE_MAX} executions wait on this node already")))
        } else {
            None
        };
        let phase = if no.is_some() { Phase::Ending } else { Phase::Accepting };
        let slot = Slot { epoch, digest, read, begin_before, phase, cancel: false, confirmed: false };
        self.slots.insert(id.clone(), slot);
        match no {
            Some((reason, text)) => {
                effects.push(Effect::End(id, ExecutionState::Rejected, reason, text));
            }
            None => {
                self.highest = self.highest.max(epoch);
                effects.push(Effect::Accept(id));
            }
        }
    }

    fn begun(&mut self, id: ExecutionId, effects: &mut Vec<Effect>) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        if slot.phase != Phase::Beginning {
            return;
        }
        if slot.cancel {
            slot.phase = Phase::Ending;
            effects.push(canceled(id));
            return;
        }
        slot.phase = Phase::Running;
        effects.push(Effect::Report(id.clone()));
        effects.push(Effect::Run(id));
    }

    fn stored(&mut self, id: &ExecutionId, state: ExecutionState, effects: &mut Vec<Effect>) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        effects.push(Effect::Report(id.clone()));
        if !state.is_final() && slot.phase != Phase::Ending {
            // The work goes on although nobody waits for it any more: its turn is not over.
            return;
        }
        slot.phase = Phase::Ended;
        self.give_turn_back(id);
    }

    fn cancel(&mut self, id: ExecutionId, effects: &mut Vec<Effect>) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        if slot.cancel {
            return;
        }
        slot.cancel = true;
        match slot.phase {
            Phase::Running => effects.push(Effect::Cancel(id)),
            Phase::Queued => {
                slot.phase = Phase::Ending;
                self.queue.retain(|waiting| *waiting != id);
                effects.push(canceled(id));
            }
            // Seen again when it comes to its turn or its INTENT is durable.
            Phase::Accepting | Phase::Beginning => {}
            Phase::Ending | Phase::Ended => {}
        }
    }

    fn confirmed(&mut self, id: &ExecutionId, effects: &mut Vec<Effect>) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        slot.confirmed = true;
        if slot.phase != Phase::Ended {
            return;
        }
        let (epoch, digest) = (slot.epoch, slot.digest);
        self.slots.remove(id);
        self.remembered.insert(id.clone(), (epoch, digest));
        effects.push(Effect::Forget(id.clone()));
        if self.remembered.len() > REMEMBERED_MAX {
            let oldest = self.remembered.iter().min_by_key(|(id, (epoch, _))| (*epoch, (*id).clone()));
            if let Some(id) = oldest.map(|(id, _)| id.clone()) {
                self.remembered.remove(&id);
                effects.push(Effect::Drop(id));
            }
        }
    }

    /// Gives free turns to those that wait, in order of arrival within each kind.
    fn schedule(&mut self, now: DurationMs, effects: &mut Vec<Effect>) {
        let mut still = VecDeque::new();
        while let Some(id) = self.queue.pop_front() {
            let Some(slot) = self.slots.get(&id) else { continue };
            let (read, canceled_first) = (slot.read, slot.cancel);
            let expired = slot.begin_before.is_some_and(|end| now >= end);
            let free = if read { self.reading.len() < READERS_MAX } else { self.changing.is_none() };
            if canceled_first || expired {
                self.set(&id, Phase::Ending);
                effects.push(if canceled_first { canceled(id) } else { expired_in_queue(id) });
            } else if free && !self.stopping {
                self.take_turn(&id, read);
                self.set(&id, Phase::Beginning);
                effects.push(Effect::Begin(id));
            } else {
                still.push_back(id);
            }
        }
        self.queue = still;
    }

    fn set(&mut self, id: &ExecutionId, phase: Phase) {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.phase = phase;
        }
    }

    fn take_turn(&mut self, id: &ExecutionId, read: bool) {
        if read {
            self.reading.insert(id.clone());
        } else {
            self.changing = Some(id.clone());
        }
    }

    fn give_turn_back(&mut self, id: &ExecutionId) {
        self.reading.remove(id);
        if self.changing.as_ref() == Some(id) {
            self.changing = None;
        }
    }
}

fn canceled(id: ExecutionId) -> Effect {
    Effect::End(id, ExecutionState::Canceled, Reason::ActionFailed, "canceled before it began".to_owned())
}

fn expired_in_queue(id: ExecutionId) -> Effect {
    let text = "its grant ended while it waited for its turn".to_owned();
    Effect::End(id, ExecutionState::Rejected, Reason::GrantExpired, text)
}

#[cfg(test)]
mod tests;
