//! Changes of schedules.

use alloc::boxed::Box;

use quorate_model::{OperationId, Refusal, Revision, ScheduleName, ScheduleSpec, Timestamp};
use serde::{Deserialize, Serialize};

use crate::state::plan::{Plan, PlanRequest};

/// Changes of schedules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleCommand {
    /// Declares a schedule. What was due before is not made up for.
    Apply {
        /// As declared.
        spec: ScheduleSpec,
        /// What it does, asked in its own name.
        work: Box<PlanRequest>,
        /// Refused with `STALE_PLAN` unless its revision is this; 0 for "must not exist".
        expect: Option<Revision>,
    },
    /// Forgets a schedule; its operations go on.
    Delete {
        /// Which.
        name: ScheduleName,
        /// Refused with `STALE_PLAN` unless its revision is this.
        expect: Option<Revision>,
    },
    /// Pauses or resumes a schedule; its operations go on.
    SetPaused {
        /// Which.
        name: ScheduleName,
        /// Whether it is to start nothing.
        paused: bool,
    },
    /// Runs it now, by the hand of whoever asks: starts it, or has it wait where its overlap says so. Answer: `Operation` when it
    /// was started.
    Run {
        /// Which.
        name: ScheduleName,
        /// Revision of the declaration that it was planned from.
        revision: Revision,
        /// What planning gave; none when the run is to wait as far as the proposer saw.
        attempt: Option<Attempt>,
    },
    /// Settles a run that is due, by whoever leads: starts it, or notes why not. Answer: `Operation` when it was started.
    Fire {
        /// Of which schedule.
        name: ScheduleName,
        /// Revision of the declaration that it was worked out and planned from.
        revision: Revision,
        /// When it was due.
        due: Timestamp,
        /// Runs before it that nobody was there for.
        passed: u32,
        /// What planning gave; none when the run was not to be started as far as the proposer saw.
        attempt: Option<Attempt>,
    },
}

/// What planning a run gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attempt {
    /// It can be started.
    Start {
        /// Minted.
        id: OperationId,
        /// The plan.
        plan: Box<Plan>,
    },
    /// It cannot.
    Refused {
        /// Why.
        refusal: Refusal,
    },
}
