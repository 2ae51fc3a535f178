//! Schedules, and what became of their runs.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;

use quorate_model::{
    OperationId, Principal, Reason, Revision, RunResult, ScheduleName, ScheduleSpec, Timestamp,
};
use serde::{Deserialize, Serialize};

use super::State;
use super::operation::Operation;
use super::plan::PlanRequest;

/// Most schedules: whoever leads looks at each of them all the time.
pub const SCHEDULES_MAX: usize = 200;
/// Runs that are remembered of each.
pub const RUNS_MAX: usize = 10;

/// A declared schedule.
///
/// **Architecture Invariant:** `fired` never goes back, and a run is accepted only when it was due after it; so a run makes at
/// most one operation, whoever leads and however often it is proposed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// As declared.
    pub spec: ScheduleSpec,
    /// What is planned when it is due; asked in the schedule's own name.
    pub work: PlanRequest,
    /// Who declared it as it is now, or was the last to pause or resume it; its operations have no more rights than that.
    pub applied_by: Principal,
    /// When it was first declared.
    pub created_at: Timestamp,
    /// Last change of the declaration; a run belongs to one revision.
    pub revision: Revision,
    /// Everything that was due up to this moment is settled.
    pub fired: Timestamp,
    /// A run that waits until an operation of the schedule is over: when it was due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Timestamp>,
    /// Who asked for the run that waits; none when it was due by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_by: Option<Principal>,
    /// What became of the newest runs, oldest first.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    pub runs: VecDeque<Run>,
    /// Runs by what became of them, since it was first declared.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counts: BTreeMap<RunResult, u64>,
}

/// What became of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// When it was due.
    pub due: Timestamp,
    /// When it was settled.
    pub at: Timestamp,
    /// How.
    pub result: RunResult,
    /// The operation that it made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<OperationId>,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// One line, for those that made no operation.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// Runs before it that nobody was there for and that are not made up for.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub passed: u32,
    /// Who ran it by hand; none when it was due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Principal>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
const fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl Schedule {
    /// Notes what became of a run.
    pub(crate) fn note(&mut self, run: Run) {
        let count = self.counts.entry(run.result).or_default();
        *count = count.saturating_add(1);
        self.runs.push_back(run);
        while self.runs.len() > RUNS_MAX {
            self.runs.pop_front();
        }
    }
}

impl State {
    /// Operations of a schedule that are not over, those of an earlier declaration and those run by hand among them.
    pub fn open_of<'a>(&'a self, name: &'a ScheduleName) -> impl Iterator<Item = &'a Operation> {
        let is_own = move |principal: &Principal| match principal {
            Principal::Schedule { name: own } => own == name,
            Principal::System
            | Principal::Coordinator { .. }
            | Principal::Agent { .. }
            | Principal::User { .. } => false,
        };
        self.operations.values().filter(move |o| !o.state.is_terminal() && is_own(&o.request.principal))
    }
}
