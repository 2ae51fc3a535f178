//! Operations: the durable unit of work, with its waves, steps, conditions and clocks.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use quorate_model::{
    ActionSpec, ConditionReason, DurationMs, Epoch, ExecutionId, Millionths, NodeName, OnFailure,
    OperationId, OperationKind, OperationState, PlanId, Principal, ProbeName, ProbeReading, Reason, Revision,
    StepKind, StepState, Timestamp, WaveState,
};
use serde::{Deserialize, Serialize};

use super::approval::Approval;
use super::plan::{GateSpec, Goal, PlanRequest};
use crate::hash::Hash;

/// Terminal operations kept as history; the oldest goes first.
pub const TERMINAL_MAX: usize = 1_000;
/// Most operations that are not terminal.
pub const OPEN_MAX: usize = 200;

/// A typed reason why it waits, or what is notable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// The code.
    pub reason: ConditionReason,
    /// One line that names who is out or who holds what.
    pub message: String,
    /// Since when.
    pub since: Timestamp,
}

/// Time that counts: paused and blocked time does not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveTime {
    /// Counted up to the last transition.
    pub counted: DurationMs,
    /// Counting since; none while paused or blocked.
    pub since: Option<Timestamp>,
}

impl ActiveTime {
    /// Starts counting.
    pub fn run(&mut self, now: Timestamp) {
        if self.since.is_none() {
            self.since = Some(now);
        }
    }

    /// Stops counting.
    pub fn hold(&mut self, now: Timestamp) {
        self.counted = self.at(now);
        self.since = None;
    }

    /// Counted up to `now`.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> DurationMs {
        self.since.map_or(self.counted, |since| self.counted.plus(now.since(since)))
    }
}

/// Why an operation will not go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The code.
    pub reason: Reason,
    /// One line.
    pub message: String,
}

/// What a metric of an instance showed before a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// Which probe read it.
    pub probe: ProbeName,
    /// The value.
    pub value: Millionths,
    /// When it was read.
    pub at: Timestamp,
}

/// One ordered unit inside an operation for one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Index of its wave.
    pub wave: u32,
    /// Where.
    pub node: NodeName,
    /// What.
    pub kind: StepKind,
    /// The action; none for a gate.
    pub action: Option<ActionSpec>,
    /// The gate; none for an action.
    pub gate: Option<GateSpec>,
    /// Takes a disruption grant.
    pub disruptive: bool,
    /// Longest time it may take once begun.
    pub deadline: DurationMs,
    /// Its life.
    pub state: StepState,
    /// Times it was begun.
    pub attempts: u32,
    /// When it was begun.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Its execution, for an action.
    pub execution: Option<ExecutionId>,
    /// The epoch of its grant, for a disruptive action.
    pub grant: Option<Epoch>,
    /// The readings a gate passed or failed on, trimmed.
    pub readings: Vec<ProbeReading>,
    /// For an action: what the gate behind it compares with, as it was when the action began.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<Before>,
    /// How it ended, for a failure.
    pub failure: Option<Failure>,
    /// What takes it back, for a rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<ActionSpec>,
}

impl Step {
    /// Whether it only looks on while the instance serves again: it needs no grant.
    #[must_use]
    pub fn is_hold(&self) -> bool {
        self.gate.as_ref().is_some_and(|gate| !gate.hold.is_zero())
    }
}

/// Steps that run together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wave {
    /// For people.
    pub label: String,
    /// Its life.
    pub state: WaveState,
    /// How long it is looked at before the next one.
    #[serde(default, skip_serializing_if = "DurationMs::is_zero")]
    pub hold: DurationMs,
    /// A person must promote it before the next one begins.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub promote: bool,
    /// When that was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promoted_at: Option<Timestamp>,
    /// Lanes at work at once, where they differ from those of the operation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel: Option<u32>,
}

/// The durable unit of work that users start, watch, pause and cancel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Its id.
    pub id: OperationId,
    /// What it is for.
    pub kind: OperationKind,
    /// The plan it was made from.
    pub plan: PlanId,
    /// That plan's hash.
    pub plan_hash: Hash,
    /// What was asked.
    pub request: PlanRequest,
    /// The heading, one line.
    pub title: String,
    /// Its life.
    pub state: OperationState,
    /// Why it waits; the first is shown first.
    pub conditions: Vec<Condition>,
    /// Set once it will not succeed; it then reaches a safe stop.
    pub failure: Option<Failure>,
    /// Lanes (nodes) at work at once.
    pub parallel: u32,
    /// Failed steps so far.
    pub failures: u32,
    /// Failed steps that tell nothing of the change itself: nothing was done, or nobody can tell. Counted apart only where a
    /// failure leads to more than a safe stop.
    #[serde(default, skip_serializing_if = "none_yet")]
    pub unreachable: u32,
    /// Failed steps of both sorts that a person has let pass by resuming.
    #[serde(default, skip_serializing_if = "none_yet")]
    pub forgiven: u32,
    /// What it pauses for, until it is resumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halted: Option<Failure>,
    /// The first wave of its rollback; none while it does not roll back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback_from: Option<u32>,
    /// The approval that it needs before anything begins; none when no policy covers it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
    /// Waves in order.
    pub waves: Vec<Wave>,
    /// Steps in order; a step is named by its index here.
    pub steps: Vec<Step>,
    /// Who started it.
    pub created_by: Principal,
    /// When.
    pub created_at: Timestamp,
    /// When its first step began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Time that counts against the deadline.
    pub active: ActiveTime,
    /// Last change.
    pub revision: Revision,
}

// By reference, as serde calls it.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn none_yet(count: &u32) -> bool {
    *count == 0
}

impl Operation {
    /// A step by its index.
    #[must_use]
    pub fn step(&self, index: u32) -> Option<&Step> {
        self.steps.get(usize::try_from(index).ok()?)
    }

    /// A step by its index.
    pub fn step_mut(&mut self, index: u32) -> Option<&mut Step> {
        self.steps.get_mut(usize::try_from(index).ok()?)
    }

    /// Steps with their index.
    pub fn indexed(&self) -> impl Iterator<Item = (u32, &Step)> {
        (0_u32..).zip(self.steps.iter())
    }

    /// When its newest step began.
    #[must_use]
    pub fn last_started(&self) -> Option<Timestamp> {
        self.steps.iter().filter_map(|step| step.started_at).max()
    }

    /// Whether any step is in flight.
    #[must_use]
    pub fn has_running_step(&self) -> bool {
        self.steps.iter().any(|step| step.state == StepState::Running)
    }

    /// Whether any lane was begun and has work left.
    #[must_use]
    pub fn has_open_lane(&self) -> bool {
        let mut lanes: BTreeMap<(u32, &NodeName), (bool, bool)> = BTreeMap::new();
        for step in &self.steps {
            let (begun, left) = lanes.entry((step.wave, &step.node)).or_default();
            *begun |= step.started_at.is_some();
            *left |= !is_over(step.state);
        }
        lanes.values().any(|(begun, left)| *begun && *left)
    }

    /// Whether a lane (one node in one wave) was begun and has work left.
    #[must_use]
    pub fn lane_is_open(&self, wave: u32, node: &NodeName) -> bool {
        let lane = || self.steps.iter().filter(|s| s.wave == wave && s.node == *node);
        lane().any(|s| s.started_at.is_some()) && lane().any(|s| !is_over(s.state))
    }

    /// Whether a lane that was begun may still have its instance out: what only looks on afterwards needs no grant.
    #[must_use]
    pub fn lane_disturbs(&self, wave: u32, node: &NodeName) -> bool {
        let lane = || self.steps.iter().filter(|s| s.wave == wave && s.node == *node);
        lane().any(|s| s.started_at.is_some()) && lane().any(|s| !is_over(s.state) && !s.is_hold())
    }

    /// The first wave before `wave` that must be promoted and is not, by index.
    #[must_use]
    pub fn unpromoted_before(&self, wave: u32) -> Option<u32> {
        // A rollback waits for nobody.
        if self.rollback_from.is_some() {
            return None;
        }
        let waits = |(index, one): &(u32, &Wave)| *index < wave && one.promote && one.promoted_at.is_none();
        (0_u32..).zip(&self.waves).find(waits).map(|(index, _)| index)
    }

    /// The wave that is done and waits for its promotion, by index.
    #[must_use]
    pub fn promotable(&self) -> Option<u32> {
        if self.state.is_terminal() || self.state == OperationState::Canceling || self.failure.is_some() {
            return None;
        }
        let next = self.steps.iter().filter(|s| !is_over(s.state)).map(|s| s.wave).min()?;
        self.unpromoted_before(next)
    }

    /// Whether more of the change itself has failed than is tolerated, and that is to be taken back. A deadline that passed
    /// says nothing of the change and takes nothing back.
    #[must_use]
    pub fn wants_rollback(&self) -> bool {
        self.failure.is_some()
            && self.rollback_from.is_none()
            && self.request.on_failure == OnFailure::Rollback
            && !self.retires()
            && !self.has_moved()
            && !self.is_rebuilt()
            && (self.failures > self.request.max_failures || self.is_between())
    }

    /// Whether the declared voters of its group are changed: from then on there is nothing to go back to.
    #[must_use]
    pub fn has_moved(&self) -> bool {
        let moves = |step: &Step| {
            let gate = step.gate.as_ref().and_then(|gate| gate.membership.as_ref());
            gate.is_some_and(|gate| gate.moves)
        };
        self.steps.iter().any(|step| moves(step) && step.state == StepState::Succeeded)
    }

    /// Whether a member that is rebuilt has caught up: its copy is good, and the one that is aside is not wanted back.
    #[must_use]
    pub fn is_rebuilt(&self) -> bool {
        let passed = |step: &Step| step.kind == StepKind::Gate && step.state == StepState::Succeeded;
        matches!(self.request.goal, Goal::Rebuild { .. })
            && self.rollback_from.is_none()
            && self.steps.iter().any(passed)
    }

    /// Whether a member is stopped to be rebuilt, and not seen to serve again yet.
    #[must_use]
    pub fn is_rebuilding(&self) -> bool {
        let stopped = |step: &Step| step.kind == StepKind::Stop && step.started_at.is_some();
        matches!(self.request.goal, Goal::Rebuild { .. })
            && self.rollback_from.is_none()
            && !self.is_rebuilt()
            && self.steps.iter().any(stopped)
    }

    /// Whether the application was told of a change of members, and what it made of it is not seen yet.
    #[must_use]
    pub fn is_between(&self) -> bool {
        let told =
            |step: &Step| matches!(step.kind, StepKind::Join | StepKind::Leave) && step.started_at.is_some();
        self.rollback_from.is_none() && !self.has_moved() && self.steps.iter().any(told)
    }

    /// Whether a secret has begun to be removed somewhere, by this operation or by the one that it goes on with: from then on
    /// there is nothing to go back to.
    #[must_use]
    pub fn retires(&self) -> bool {
        self.steps.iter().any(|step| {
            let begun = step.kind == StepKind::Retire && step.started_at.is_some();
            begun || matches!(&step.action, Some(ActionSpec::Secret { resumes: Some(_), .. }))
        })
    }

    /// The longest time until a lane is through: what is left of its steps, gates too, each by its deadline. A gate that only looks on
    /// afterwards disturbs nothing.
    #[must_use]
    pub fn lane_needs(&self, wave: u32, node: &NodeName) -> DurationMs {
        let left = self
            .steps
            .iter()
            .filter(|s| s.wave == wave && s.node == *node && !is_over(s.state) && !s.is_hold());
        left.fold(DurationMs::ZERO, |sum, step| sum.plus(step.deadline))
    }
}

/// A step to which nothing more happens.
#[must_use]
pub const fn is_over(state: StepState) -> bool {
    match state {
        StepState::Succeeded | StepState::Failed | StepState::Skipped | StepState::Compensated => true,
        StepState::Pending | StepState::Blocked | StepState::Running | StepState::Compensating => false,
    }
}
