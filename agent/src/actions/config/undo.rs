//! The way back: the file from before in its place again, and the service using it. Taken by `config.revert`, and by the helper
//! alone when nobody has confirmed the new file in time.

use quorate_model::{ConfigApply, ConfigSpec, DurationMs, InstanceId};
use tokio::sync::Mutex;

use super::place::Place;
use super::plan::{self, Next, Refused};
use super::record::{Phase, Record, Store};
use crate::actions::service::exec::span;
use crate::actions::service::plan as unit_plan;
use crate::actions::{ActionError, ServiceDriver};
use crate::runner::failpoint;
use quorate_model::service::UnitStatus;

/// One change of a file at a time: what the helper undoes alone and what it is asked for meanwhile.
static TURN: Mutex<()> = Mutex::const_new(());

/// Waits for the turn.
pub(in crate::actions) async fn turn() -> tokio::sync::MutexGuard<'static, ()> {
    TURN.lock().await
}

/// The service behind a file.
#[derive(Clone, Copy)]
pub(in crate::actions) struct User<'a> {
    pub(in crate::actions) driver: &'a dyn ServiceDriver,
    pub(in crate::actions) apply: ConfigApply,
    pub(in crate::actions) stop_timeout: DurationMs,
    pub(in crate::actions) start_timeout: DurationMs,
}

impl User<'_> {
    /// Whether it runs now.
    pub(in crate::actions) async fn is_up(&self) -> Result<bool, String> {
        let unit = self.driver.status().await.map_err(|e| e.message)?;
        Ok(unit_plan::is_up(&unit))
    }

    /// Has it use what is in place. One that did not run before stays as it is. Tells whether SIGKILL was needed.
    pub(in crate::actions) async fn take(&self, running: bool) -> Result<(UnitStatus, bool), String> {
        let before = self.driver.status().await.map_err(|e| e.message)?;
        let up = unit_plan::is_up(&before);
        if self.apply == ConfigApply::None || (!running && !up) {
            return Ok((before, false));
        }
        if self.apply == ConfigApply::Reload && up {
            let told = self.driver.reload(span(self.start_timeout)).await;
            told.map_err(|e| format!("its reload failed: {e}"))?;
            let after = self.driver.status().await.map_err(|e| e.message)?;
            unit_plan::same_run(&before, &after).map_err(|why| format!("its reload failed: {why}"))?;
            return Ok((after, false));
        }
        let mut escalated = false;
        if !unit_plan::is_down(&before) {
            let stopped = self.driver.stop(span(self.stop_timeout)).await;
            escalated = stopped.map_err(|e| format!("its stop failed: {e}"))?.escalated;
        }
        failpoint::hit("config-stopped");
        let started = self.driver.start(span(self.start_timeout)).await;
        started.map_err(|e| format!("its start failed: {e}"))?;
        let after = self.driver.status().await.map_err(|e| e.message)?;
        unit_plan::new_run(&before, &after).map_err(|why| format!("its start failed: {why}"))?;
        Ok((after, escalated))
    }
}

/// How the way back ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Back {
    /// The file from before is in place, and used.
    Done(Box<UnitStatus>),
    /// It was before we came.
    Nothing,
    /// What is in place is not what we put there: it is left.
    Left(Refused),
}

/// Goes back from a content. The caller holds the turn.
pub(super) async fn go_back(
    store: &Store,
    record: &mut Record,
    place: &Place,
    user: &User<'_>,
    digest: &str,
) -> Result<Back, ActionError> {
    let found = place.read()?;
    let seen = found.as_ref().map(|found| found.digest.as_str());
    let next = match plan::revert(record, seen, digest) {
        Ok(next) => next,
        Err(why) => return Ok(Back::Left(why)),
    };
    let Some(applied) = record.applied.clone() else { return Ok(Back::Nothing) };
    match next {
        Next::Nothing => return Ok(Back::Nothing),
        Next::Use => {}
        Next::Write => {
            // Read before anything is written: a way back that is not there is no reason to remove the way forward.
            let content = match &applied.previous {
                Some(previous) => {
                    Some(store.content(&previous.digest)?.ok_or_else(|| ActionError::NoWayBack {
                        why: format!("the content {} is not here any more", previous.digest),
                    })?)
                }
                None => None,
            };
            phase(store, record, Phase::Returning)?;
            match (&applied.previous, content) {
                (Some(previous), Some(bytes)) => {
                    place.put(&bytes, (previous.mode & 0o7777, previous.uid, previous.gid))?;
                }
                (Some(_), None) | (None, _) => place.remove()?,
            }
        }
    }
    failpoint::hit("config-returned");
    let (unit, _) = user.take(applied.running).await.map_err(|why| {
        let message = format!("the file from before is back in {}, and {why}", place.path().display());
        ActionError::Failed { message, outcome: Box::default() }
    })?;
    phase(store, record, Phase::Returned)?;
    Ok(Back::Done(Box::new(unit)))
}

/// Writes down how far the change has come.
pub(super) fn phase(store: &Store, record: &mut Record, phase: Phase) -> Result<(), ActionError> {
    if let Some(applied) = &mut record.applied {
        applied.phase = phase;
    }
    store.store(record)
}

/// What the helper needs to go back alone.
pub(crate) struct PutBack<'a> {
    /// Folders that the host lets configuration files be written in.
    pub(crate) roots: &'a [std::path::PathBuf],
    /// The helper's own folder of what it remembers.
    pub(crate) releases_dir: &'a std::path::Path,
    /// Whose file.
    pub(crate) instance: &'a InstanceId,
    /// Its driver.
    pub(crate) driver: &'a dyn ServiceDriver,
    /// How long a stop may take.
    pub(crate) stop_timeout: DurationMs,
    /// How long a start or a reload may take.
    pub(crate) start_timeout: DurationMs,
    /// The file.
    pub(crate) config: &'a ConfigSpec,
    /// What was put in place.
    pub(crate) digest: &'a str,
}

/// The undo of a file that nobody confirmed, by this host alone. What somebody else wrote meanwhile is left, and told.
///
/// # Errors
/// Why the file from before is not back, or not in use, one line; it is tried again then.
pub(crate) async fn put_back(what: PutBack<'_>) -> Result<String, String> {
    let _turn = turn().await;
    let place = Place::new(what.roots, &what.config.path).map_err(|e| e.message())?;
    let store = Store::new(what.releases_dir, place.path());
    let mut record = store.load().map_err(|e| e.message())?;
    let user = User {
        driver: what.driver,
        apply: what.config.apply,
        stop_timeout: what.stop_timeout,
        start_timeout: what.start_timeout,
    };
    let path = place.path().display();
    let back = go_back(&store, &mut record, &place, &user, what.digest).await.map_err(|e| e.message())?;
    Ok(match back {
        Back::Done(_) => {
            format!(
                "nobody confirmed {path}: the file from before was put back for {} by the helper alone",
                what.instance
            )
        }
        Back::Nothing => format!("{path} is as it was before"),
        Back::Left(_) => format!("{path} was changed by somebody else meanwhile and is left as it is"),
    })
}
