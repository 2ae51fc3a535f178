//! `log.rotate`: all logs aside, one reload for all of them, then compressing.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use quorate_model::backup::LogRotation;
use quorate_model::{ActionOutcome, ServiceName, Timestamp};

use super::find::{self, Found};
use super::log::{Log, shown};
use super::pack::Packed;
use super::plan::{self, Refused, Step};
use crate::actions::job::{Job, Task, on_thread};
use crate::actions::{ActionContext, ActionError, service};
use crate::host::writers;

/// How long a writer may take to reopen its log after a reload before compressing is left to the next rotation.
const LEAVE_MAX: Duration = Duration::from_secs(5);
/// Time between two looks at it.
const LEAVE_LOOK: Duration = Duration::from_millis(50);
/// Most problems told one by one.
const TOLD_MAX: usize = 20;

/// The rules of one action, shared by its threads.
struct Rules {
    policy: LogRotation,
    roots: Vec<PathBuf>,
    owner: Option<(u32, u32)>,
    reserve_bytes: u64,
    now: Timestamp,
}

/// One log that was looked after.
struct Done {
    at: Found,
    /// What was rotated, if anything was.
    rotated: bool,
    reload: bool,
    pack: Vec<u32>,
    uncertain: bool,
}

/// What one action has come to.
#[derive(Default)]
struct Tally {
    done: Vec<Done>,
    problems: Vec<String>,
    notes: Vec<String>,
}

/// Does it.
pub(in crate::actions) async fn rotate(
    context: &ActionContext,
    name: &ServiceName,
    policy: &LogRotation,
) -> Result<ActionOutcome, ActionError> {
    plan::check(policy).map_err(|(field, why)| ActionError::invalid(field, why))?;
    context.service(name)?;
    let owner = match policy.create_owner.as_str() {
        "" => None,
        text => Some(writers::owner(text).map_err(|e| ActionError::invalid("create_owner", e.to_string()))?),
    };
    let rules = Arc::new(Rules {
        policy: policy.clone(),
        roots: context.allowed_roots.clone(),
        owner,
        reserve_bytes: context.limits.reserve_bytes,
        now: context.clock.wall(),
    });
    let shared = Arc::clone(&rules);
    let mut tally = on_thread(context, Task::new("rotating logs"), move |job| aside(&shared, job)).await?;
    let rotated: Vec<String> =
        tally.done.iter().filter(|d| d.rotated).map(|d| shown(&d.at.path().into())).collect();
    if policy.reload && tally.done.iter().any(|done| done.reload) {
        // What was set aside stays where the writer finds it; the next rotation sees it there and reloads again.
        if let Err(error) = service::exec::reload(context, name).await {
            let message = format!("{} logs rotated, and then: {}", rotated.len(), error.message());
            return Err(failed(message, rotated));
        }
    }
    let shared = Arc::clone(&rules);
    tally =
        on_thread(context, Task::new("compressing logs"), move |job| compress(&shared, tally, job)).await?;
    finish(tally, rotated)
}

fn failed(message: String, rotated: Vec<String>) -> ActionError {
    let outcome = ActionOutcome { message: message.clone(), rotated, ..ActionOutcome::default() };
    ActionError::Failed { message, outcome: Box::new(outcome) }
}

fn finish(mut tally: Tally, rotated: Vec<String>) -> Result<ActionOutcome, ActionError> {
    let mut message = format!("{} of {} logs rotated", rotated.len(), tally.done.len());
    if tally.done.iter().any(|done| done.uncertain) {
        tally.notes.push(
            "truncated: this file system cannot cut a log's front, so bytes written in that instant are lost"
                .to_owned(),
        );
    }
    if !tally.notes.is_empty() {
        tally.notes.truncate(TOLD_MAX);
        message = format!("{message}; {}", tally.notes.join("; "));
    }
    if tally.problems.is_empty() {
        return Ok(ActionOutcome { message, rotated, ..ActionOutcome::default() });
    }
    let more = tally.problems.len().saturating_sub(TOLD_MAX);
    tally.problems.truncate(TOLD_MAX);
    let rest = if more > 0 { format!("; and {more} more") } else { String::new() };
    Err(failed(format!("{message}; failed: {}{rest}", tally.problems.join("; ")), rotated))
}

/// Ends the whole action on a cancel or its deadline; anything else concerns one log alone.
fn concerns_one(error: ActionError, tally: &mut Tally, path: &Path) -> Result<(), ActionError> {
    if matches!(error, ActionError::Canceled(_) | ActionError::DeadlineExceeded(_)) {
        return Err(error);
    }
    tally.problems.push(format!("{}: {}", path.display(), error.message()));
    Ok(())
}

impl Rules {
    fn log<'a>(&'a self, at: &'a Found) -> Log<'a> {
        let (owner, reserve_bytes) = (self.owner, self.reserve_bytes);
        Log { at, policy: &self.policy, owner, reserve_bytes, uncertain: false }
    }
}

fn aside(rules: &Rules, job: &mut Job) -> Result<Tally, ActionError> {
    let logs = find::find(&rules.roots, &rules.policy.paths)?;
    let mut tally = Tally::default();
    for (path, error) in logs.failed {
        if matches!(&error, ActionError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
            && rules.policy.missing_ok
        {
            continue;
        }
        concerns_one(error, &mut tally, &path)?;
    }
    for at in logs.found {
        job.check()?;
        match one(&mut rules.log(&at), rules.now, job, &mut |_| Ok(())) {
            Ok(done) => tally.done.push(Done { at, ..done }),
            Err(error) => concerns_one(error, &mut tally, &at.path())?,
        }
    }
    Ok(tally)
}

/// Looks, plans, and does the steps of one log. `before` is asked before each step; tests let it fail there.
fn one(
    log: &mut Log<'_>,
    now: Timestamp,
    job: &mut Job,
    before: &mut dyn FnMut(Step) -> Result<(), ActionError>,
) -> Result<Done, ActionError> {
    let plan = plan::plan(log.policy, &log.state()?, now).map_err(|refused| match refused {
        Refused::Missing => ActionError::NotFound(log.at.path()),
        Refused::Held(n) => ActionError::Occupied {
            path: log.path(&log.slot_name(n, false)),
            why: "it is the oldest to go, and a process still writes to it".to_owned(),
        },
    })?;
    for step in &plan.steps {
        before(*step)?;
        log.step(*step, job)?;
    }
    let placed = plan.steps.iter().any(|step| matches!(step, Step::Place | Step::PlaceCut));
    let rotated = placed && log.regular(&log.slot_name(1, false))?.is_some();
    Ok(Done { at: log.at.clone(), rotated, reload: plan.reload, pack: plan.pack, uncertain: log.uncertain })
}

fn compress(rules: &Rules, mut tally: Tally, job: &mut Job) -> Result<Tally, ActionError> {
    let mut left = LEAVE_MAX;
    let work: Vec<(Found, Vec<u32>)> = tally.done.iter().map(|d| (d.at.clone(), d.pack.clone())).collect();
    for (at, slots) in work {
        let log = rules.log(&at);
        for n in slots {
            let name: OsString = log.slot_name(n, false);
            let result =
                wait_until_left(&log, n, &mut left, job).and_then(|()| log.pack(n, job, &mut || Ok(())));
            match result {
                Ok(Packed::Done) => {}
                Ok(Packed::Left(why)) => {
                    tally.notes.push(format!("{} is not compressed yet: {why}", log.path(&name).display()));
                }
                Err(error) => concerns_one(error, &mut tally, &log.path(&name))?,
            }
        }
    }
    Ok(tally)
}

/// Gives the writer of the file that was rotated last a little time to reopen its log.
fn wait_until_left(log: &Log<'_>, n: u32, left: &mut Duration, job: &Job) -> Result<(), ActionError> {
    while n == 1 && log.policy.reload && !left.is_zero() && log.is_held(n)? {
        job.check()?;
        std::thread::sleep(LEAVE_LOOK);
        *left = left.saturating_sub(LEAVE_LOOK);
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod for_tests {
    //! One log with a crash at a chosen point.

    use super::*;

    /// Rotates one log and compresses what is due; the `crash_at`th change is not made, nor anything after it.
    pub(in crate::actions::rotate) fn rotate_one(
        at: &Found,
        policy: &LogRotation,
        now: Timestamp,
        job: &mut Job,
        crash_at: usize,
        reload: &mut dyn FnMut(),
    ) -> Result<(), ActionError> {
        let rules = Rules { policy: policy.clone(), roots: Vec::new(), owner: None, reserve_bytes: 0, now };
        let mut left = crash_at;
        let mut crash = move || {
            left = left.checked_sub(1).ok_or(ActionError::Canceled("crashing on purpose"))?;
            Ok(())
        };
        let mut log = rules.log(at);
        let done = one(&mut log, now, job, &mut |_| crash())?;
        if done.reload && policy.reload {
            crash()?;
            reload();
        }
        for n in done.pack {
            log.pack(n, job, &mut crash)?;
        }
        Ok(())
    }
}
