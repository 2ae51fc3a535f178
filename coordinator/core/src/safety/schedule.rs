//! Runs of schedules: what may become of one that is due.
//!
//! Whoever leads asks before it plans; `apply` asks again when it commits.

use alloc::format;

use quorate_model::schedule::SCHEDULE_GRACE;
use quorate_model::{AccessRole, MissedPolicy, OperationId, Overlap, Principal, Reason, Refusal, Timestamp};

use crate::state::{Schedule, State};

/// What becomes of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is planned and started.
    Start,
    /// It waits: for the end of an operation, which is canceled if `cancel` says so.
    Wait {
        /// Which.
        operation: OperationId,
        /// Whether it, and all others of the schedule, are to end soon.
        cancel: bool,
    },
    /// It is left out, because an operation is not over or another run waits already.
    Skip {
        /// The operation.
        operation: OperationId,
    },
    /// Nobody was there when it was due.
    Missed,
    /// Whoever declared the schedule may not start operations any more.
    Denied(Refusal),
}

/// What becomes of a run, or why it cannot be judged: not of this schedule as it stands, not due, settled already.
///
/// # Errors
/// `WRONG_STATE`: whoever proposed it looks again.
pub fn judge(state: &State, schedule: &Schedule, due: Timestamp, now: Timestamp) -> Result<Verdict, Refusal> {
    let spec = &schedule.spec;
    let wrong = |what: &str| Refusal::new(Reason::WrongState, format!("schedule {}: {what}", spec.name));
    if spec.paused {
        return Err(wrong("it is paused"));
    }
    let mut open = state.open_of(&spec.name).map(|operation| operation.id.clone());
    let has_waited = schedule.waiting == Some(due);
    if has_waited {
        return match open.next() {
            Some(id) => Err(wrong(&format!("its operation {id} is not over"))),
            None => Ok(may(state, schedule).map_or_else(Verdict::Denied, |()| Verdict::Start)),
        };
    }
    if due <= schedule.fired {
        return Err(wrong("that run is settled already"));
    }
    if due > now {
        return Err(wrong("that run is not due yet"));
    }
    let is_late = now.since(due) > SCHEDULE_GRACE;
    if is_late && spec.missed == MissedPolicy::Skip {
        return Ok(Verdict::Missed);
    }
    if let Err(refusal) = may(state, schedule) {
        return Ok(Verdict::Denied(refusal));
    }
    let Some(operation) = open.next() else { return Ok(Verdict::Start) };
    Ok(match spec.overlap {
        Overlap::Skip => Verdict::Skip { operation },
        Overlap::BufferOne if schedule.waiting.is_some() => Verdict::Skip { operation },
        Overlap::BufferOne => Verdict::Wait { operation, cancel: false },
        Overlap::CancelOther => Verdict::Wait { operation, cancel: true },
        Overlap::AllowAll => Verdict::Start,
    })
}

/// What becomes of a run that somebody asks for by hand, or why it may not begin. They are told at once: nothing is noted of a
/// run that does not begin.
///
/// # Errors
/// The schedule is paused, or an operation of it is not over and its overlap leaves the run out.
pub fn by_hand(state: &State, schedule: &Schedule) -> Result<Verdict, Refusal> {
    let spec = &schedule.spec;
    if spec.paused {
        let what = format!("schedule {} is paused", spec.name);
        let hint = format!("quorate schedule resume {}", spec.name);
        return Err(Refusal::new(Reason::WrongState, what).with_hint(hint));
    }
    let Some(operation) = state.open_of(&spec.name).map(|operation| operation.id.clone()).next() else {
        return Ok(Verdict::Start);
    };
    let left_out = |what: &str| {
        let what = format!("schedule {}: {what}", spec.name);
        Refusal::new(Reason::WrongState, what).with_hint(format!("quorate operation show {operation}"))
    };
    match spec.overlap {
        Overlap::Skip => Err(left_out(&format!("{operation} is not over"))),
        Overlap::BufferOne if schedule.waiting.is_some() => {
            Err(left_out(&format!("{operation} is not over, and a run waits for it already")))
        }
        Overlap::BufferOne => Ok(Verdict::Wait { operation, cancel: false }),
        Overlap::CancelOther => Ok(Verdict::Wait { operation, cancel: true }),
        Overlap::AllowAll => Ok(Verdict::Start),
    }
}

/// A schedule goes on as long as whoever declared it may start operations. It does not depend on a certificate: those end and are
/// renewed while nobody looks.
fn may(state: &State, schedule: &Schedule) -> Result<(), Refusal> {
    let allowed = match &schedule.applied_by {
        Principal::System => true,
        Principal::User { name } => {
            state.users.get(name).is_some_and(|user| user.access >= AccessRole::Operator)
        }
        Principal::Coordinator { .. } | Principal::Agent { .. } | Principal::Schedule { .. } => false,
    };
    if allowed {
        return Ok(());
    }
    let name = &schedule.spec.name;
    let what = format!("{}, who declared schedule {name}, may not start operations", schedule.applied_by);
    Err(Refusal::new(Reason::NotAllowed, what)
        .with_hint("somebody who may declares it anew: quorate schedule apply"))
}
