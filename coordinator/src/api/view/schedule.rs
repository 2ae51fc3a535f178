//! Schedules, their runs to come, and what became of those before.

use quorate_common::wire::calendar::write_etag;
use quorate_common::wire::enums::{write_operation_state, write_run_result};
use quorate_common::wire::schedule::write_schedule;
use quorate_common::wire::time::write_timestamp;
use quorate_core::State;
use quorate_core::state::Schedule;
use quorate_core::state::schedule::Run;
use quorate_model::{ScheduleSpec, Timestamp};
use quorate_proto::v1;

use crate::api::work::write_work;
use crate::zones::{self, moments};

/// Runs to come that are shown (proto).
const SHOWN: usize = 5;

/// A schedule as it stands, without its runs to come: those take the zones, and nobody waits for the state meanwhile.
pub(crate) fn schedule(state: &State, schedule: &Schedule) -> v1::Schedule {
    let Schedule {
        spec,
        work,
        applied_by,
        created_at,
        revision,
        fired: _,
        waiting,
        waiting_by: _,
        runs,
        counts: _,
    } = schedule;
    v1::Schedule {
        name: spec.name.as_str().to_owned(),
        spec: Some(write_schedule(spec, write_work(work))),
        applied_by: applied_by.to_string(),
        created: write_timestamp(*created_at),
        next: Vec::new(),
        runs: runs.iter().rev().map(|run| told(state, run)).collect(),
        waiting: waiting.and_then(write_timestamp),
        revision: revision.0,
        etag: write_etag(*revision),
    }
}

/// The runs to come, as far as this host can tell them.
pub(crate) fn next(spec: &ScheduleSpec, now: Timestamp) -> Vec<v1::ScheduleMoment> {
    if spec.paused {
        return Vec::new();
    }
    let due = moments::next(spec, now, SHOWN).unwrap_or_default();
    let moment = |at| v1::ScheduleMoment { due: write_timestamp(at), local: zones::told(&spec.zone, at) };
    due.into_iter().map(moment).collect()
}

fn told(state: &State, run: &Run) -> v1::ScheduleRun {
    let Run { due, at, result, operation, reason, text, passed, by } = run;
    let stands = operation.as_ref().and_then(|id| state.operations.get(id)).map(|found| found.state);
    v1::ScheduleRun {
        due: write_timestamp(*due),
        settled: write_timestamp(*at),
        result: write_run_result(*result) as i32,
        operation: operation.as_ref().map(|id| id.as_str().to_owned()).unwrap_or_default(),
        operation_state: stands.map_or(0, |state| write_operation_state(state) as i32),
        reason: reason.map(|reason| reason.as_str().to_owned()).unwrap_or_default(),
        message: text.clone(),
        passed: *passed,
        by: by.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}
