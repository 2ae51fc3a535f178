//! What becomes of one lease on its host. Pure: the time since boot comes in, what is to be done goes out.
//!
//! Must never: let anything lead at or after the time at which what leads is to be stopped, count a renewal that nobody
//! answered in this boot, or leave `Released`.

use quorate_model::{DurationMs, Epoch, LeaseTimes};
use serde::{Deserialize, Serialize};

/// Why what leads is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// Nobody answered a renewal in time.
    Silent,
    /// The coordinators want it back.
    Recalled,
    /// It is another's, or nobody's.
    Lost,
}

impl Why {
    /// In a sentence.
    pub(in crate::runner) const fn text(self) -> &'static str {
        match self {
            Self::Silent => "no renewal was answered in time",
            Self::Recalled => "it was recalled",
            Self::Lost => "it is another's, or nobody's",
        }
    }
}

/// Where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Nobody has answered a renewal in this boot.
    TakenUp {
        /// Somebody has in an earlier boot: by now it may be another's.
        void: bool,
    },
    /// It is good from when this renewal was sent, which was answered.
    Live {
        /// Time since boot.
        sent: DurationMs,
    },
    /// What leads is being stopped.
    Stopping {
        /// What is left of it then is killed, time since boot.
        kill_at: DurationMs,
        /// Why.
        why: Why,
    },
    /// Nothing leads under it, and nothing ever will.
    Released {
        /// Why.
        why: Why,
    },
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Do {
    /// Nothing before this time since boot, if ever.
    Wait(Option<DurationMs>),
    /// What runs is killed, again and again: it runs without a lease.
    Guard,
    /// What leads is stopped, what is left of it at this time since boot is killed, and it is proved that nothing runs.
    Stop(DurationMs),
}

/// What a newer word of the coordinators means for what is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taking {
    /// It is known.
    Same,
    /// It takes the place of one that nothing leads under.
    New,
    /// A newer one is known.
    Stale,
    /// What leads under the older one has to be stopped first.
    OlderFirst,
}

/// One lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Its fencing number.
    pub epoch: Epoch,
    /// How long a renewal is good for.
    pub ttl: DurationMs,
    /// Where it stands.
    pub phase: Phase,
}

impl Machine {
    /// One that is new here.
    pub(super) const fn taken_up(epoch: Epoch, ttl: DurationMs) -> Self {
        Self { epoch, ttl, phase: Phase::TakenUp { void: false } }
    }

    const fn times(&self) -> LeaseTimes {
        LeaseTimes::of(self.ttl)
    }

    /// As it is found after a start of the helper. Times of another boot say nothing. One that was renewed then may be another's
    /// by now, as the coordinators wait for no boot: what runs here (the boot may have started it) runs without a lease, and is
    /// not let run. One that nobody ever answered was only adopted, and is as before: it can not have been given to another.
    pub(super) const fn found(self, same_boot: bool) -> Self {
        let phase = match self.phase {
            Phase::Live { .. } if !same_boot => Phase::TakenUp { void: true },
            // The graceful time of another boot is long over.
            Phase::Stopping { why, .. } if !same_boot => Phase::Stopping { kill_at: DurationMs::ZERO, why },
            same @ (Phase::TakenUp { .. }
            | Phase::Live { .. }
            | Phase::Stopping { .. }
            | Phase::Released { .. }) => same,
        };
        Self { phase, ..self }
    }

    /// What a lease with this epoch comes to.
    pub(super) fn taking(&self, epoch: Epoch) -> Taking {
        if epoch == self.epoch {
            return Taking::Same;
        }
        if epoch < self.epoch {
            return Taking::Stale;
        }
        match self.phase {
            Phase::Released { .. } => Taking::New,
            Phase::TakenUp { .. } | Phase::Live { .. } | Phase::Stopping { .. } => Taking::OlderFirst,
        }
    }

    /// When what leads begins to be stopped.
    fn demote_at(&self) -> Option<DurationMs> {
        match self.phase {
            Phase::Live { sent } => Some(sent.plus(self.times().demote_after)),
            Phase::TakenUp { .. } | Phase::Stopping { .. } | Phase::Released { .. } => None,
        }
    }

    /// How long something may lead from now on; zero when nothing may.
    pub(super) fn left(&self, now: DurationMs) -> DurationMs {
        self.demote_at().map_or(DurationMs::ZERO, |at| at.minus(now))
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: DurationMs) {
        if self.demote_at().is_some_and(|at| at <= now) {
            self.stop(now, Why::Silent);
        }
    }

    /// A renewal that was sent then was answered. Whether that means anything: one from the future does not, nor one of a lease
    /// that is on its way out.
    pub(super) fn extend(&mut self, now: DurationMs, sent: DurationMs) -> bool {
        self.tick(now);
        if sent > now {
            return false;
        }
        match self.phase {
            // Void, what runs is not let run anyway: an answer that comes too late is as none.
            Phase::TakenUp { void: true } if sent.plus(self.times().demote_after) <= now => return false,
            Phase::TakenUp { .. } => self.phase = Phase::Live { sent },
            Phase::Live { sent: before } => self.phase = Phase::Live { sent: before.max(sent) },
            Phase::Stopping { .. } | Phase::Released { .. } => return false,
        }
        // Answered so late that it is over already: from the answer on the coordinators may take it for over, too.
        self.tick(now);
        true
    }

    /// It is given up, if that is not under way.
    pub(super) fn stop(&mut self, now: DurationMs, why: Why) {
        let times = self.times();
        let kill_at = match self.phase {
            Phase::Live { sent } => sent.plus(times.kill_after),
            Phase::TakenUp { void: false } => now.plus(times.kill_after.minus(times.demote_after)),
            Phase::TakenUp { void: true } => now,
            Phase::Stopping { .. } | Phase::Released { .. } => return,
        };
        self.phase = Phase::Stopping { kill_at, why };
    }

    /// It is proved that nothing leads.
    pub(super) fn down(&mut self) {
        if let Phase::Stopping { why, .. } = self.phase {
            self.phase = Phase::Released { why };
        }
    }

    /// What is to be done now.
    pub(super) fn next(&self) -> Do {
        match self.phase {
            Phase::TakenUp { void: false } | Phase::Released { .. } => Do::Wait(None),
            Phase::TakenUp { void: true } => Do::Guard,
            Phase::Live { .. } => Do::Wait(self.demote_at()),
            Phase::Stopping { kill_at, .. } => Do::Stop(kill_at),
        }
    }
}

#[cfg(test)]
mod tests;
