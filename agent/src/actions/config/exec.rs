//! `config.apply`, `config.revert` and `config.confirm`: does what `plan` decides, through the file and the service's driver.

use quorate_model::service::UnitStatus;
use quorate_model::{
    ActionOutcome, ConfigSpec, InstanceId, ObligationId, Reason, Release, ReleaseReceipt, ServiceName,
};

use super::file_of;
use super::place::{Found, Place};
use super::plan::{self, Next, Refused};
use super::record::{Applied, Phase, Previous, Record, Store};
use super::undo::{Back, User, go_back, phase, turn};
use crate::actions::service::plan as unit_plan;
use crate::actions::{ActionContext, ActionError, PortError, ServiceHandle, Undo};
use crate::runner::failpoint;

/// One file and what uses it, at work.
struct Work<'c> {
    context: &'c ActionContext,
    service: ServiceHandle,
    spec: &'c ConfigSpec,
    release: &'c Release,
    place: Place,
    store: Store,
    record: Record,
}

impl<'c> Work<'c> {
    fn new(
        context: &'c ActionContext,
        service: &ServiceName,
        release: &'c Release,
    ) -> Result<Self, ActionError> {
        let spec = file_of(release)?;
        let service = context.service(service)?;
        let place = Place::new(&context.install.configs, &spec.path)?;
        let store = Store::new(&context.releases_dir, place.path());
        let record = store.load()?;
        Ok(Self { context, service, spec, release, place, store, record })
    }

    fn digest(&self) -> &'c str {
        self.release.artifact.as_str()
    }

    fn user(&self) -> User<'_> {
        User {
            driver: self.service.driver.as_ref(),
            apply: self.spec.apply,
            stop_timeout: self.service.spec.stop_timeout,
            start_timeout: self.service.spec.start_timeout,
        }
    }

    fn seen(&self) -> Result<Option<String>, ActionError> {
        Ok(self.place.read()?.map(|found| found.digest))
    }

    fn refused(&self, why: Refused) -> ActionError {
        let path = self.place.path().display();
        match why {
            Refused::NotStaged => {
                ActionError::NotStaged { release: format!("{} {}", self.spec.name, self.release.version) }
            }
            Refused::Drifted => {
                let why = format!(
                    "{path} is not what {} was compared with: it was changed meanwhile",
                    self.spec.name
                );
                ActionError::Refused { reason: Reason::ConfigDrifted, why }
            }
            Refused::NoRecord => {
                ActionError::NoWayBack { why: format!("{path} was not put there by this host's helper") }
            }
        }
    }

    /// Which version is in place now.
    fn receipt(&self, was: Option<&str>) -> ReleaseReceipt {
        let now = self.seen().ok().flatten();
        let staged = now.as_deref().and_then(|digest| self.record.staged.get(digest));
        ReleaseReceipt {
            version: self.record.version(now.as_deref()),
            artifact: staged.and(now.clone()).unwrap_or_default(),
            previous: self.record.version(was),
            signed_by: staged.map(|staged| staged.signed_by.clone()).unwrap_or_default(),
            replaces: was.unwrap_or_default().to_owned(),
        }
    }

    fn done(&self, message: String, was: Option<&str>, unit: Option<UnitStatus>) -> ActionOutcome {
        ActionOutcome { message, unit, release: Some(self.receipt(was)), ..ActionOutcome::default() }
    }

    /// Makes the way back durable.
    fn remember(&mut self, next: Next, found: Option<&Found>, running: bool) -> Result<(), ActionError> {
        let execution = self.context.execution.to_string();
        if next == Next::Write {
            let previous = match found {
                Some(Found { bytes, digest, mode, uid, gid }) => {
                    self.store.keep(digest, bytes)?;
                    Some(Previous { digest: digest.clone(), mode: *mode, uid: *uid, gid: *gid })
                }
                None => None,
            };
            let digest = self.digest().to_owned();
            self.record.applied = Some(Applied { execution, digest, previous, running, phase: Phase::Owed });
        } else if let Some(applied) = &mut self.record.applied {
            // Written by an execution that ended before the service used it: from now on this one owes the way back.
            applied.execution = execution;
        }
        self.store.store(&mut self.record)?;
        failpoint::hit("config-recorded");
        Ok(())
    }

    /// Whoever signed it is still trusted.
    fn trusted(&self) -> Result<(), ActionError> {
        let Some(staged) = self.record.staged.get(self.digest()) else {
            return Err(self.refused(Refused::NotStaged));
        };
        let rules = &self.context.install;
        let good = if staged.signed_by.is_empty() {
            rules.unsigned
        } else {
            rules.keys.get(&staged.signed_by) == Some(&staged.key)
        };
        if good {
            return Ok(());
        }
        let by = if staged.signed_by.is_empty() { "nobody" } else { &staged.signed_by };
        Err(ActionError::Untrusted { why: format!("it was signed by {by}, whom this host trusts no more") })
    }
}

/// What the undo of an execution is called.
fn owed(execution: &str) -> Result<ObligationId, ActionError> {
    ObligationId::new(format!("{execution}:config"))
        .map_err(|e| ActionError::invalid("execution", e.to_string()))
}

/// `config.apply`. The way back is durable before the file is touched, and it is taken by this host alone unless a
/// `config.confirm` comes in time.
pub(in crate::actions) async fn apply(
    context: &ActionContext,
    service: &ServiceName,
    release: &Release,
) -> Result<ActionOutcome, ActionError> {
    let _turn = turn().await;
    let mut work = Work::new(context, service, release)?;
    let spec = work.spec;
    let found = work.place.read()?;
    let seen = found.as_ref().map(|found| found.digest.clone());
    work.trusted()?;
    let next = plan::apply(&work.record, seen.as_deref(), work.digest()).map_err(|why| work.refused(why))?;
    let path = work.place.path().display().to_string();
    if next == Next::Nothing {
        // Used, and the helper ended before it could say so: what is owed outlasts this execution.
        let unsaid = work.record.applied.as_ref().filter(|applied| {
            applied.phase == Phase::Used && applied.execution == context.execution.as_str()
        });
        if let Some(applied) = unsaid {
            hold(context, &owed(&applied.execution)?).await?;
        }
        return Ok(work.done(
            format!("{path} holds {} {} already", spec.name, release.version),
            seen.as_deref(),
            None,
        ));
    }
    let Some(bytes) = work.store.content(work.digest())? else {
        return Err(work.refused(Refused::NotStaged));
    };
    let running = work.user().is_up().await;
    let running = running.map_err(|why| {
        ActionError::port(format!("looking at {service}"), PortError::new(Reason::ActionFailed, why))
    })?;
    context.check("waiting to put the file in place")?;
    work.remember(next, found.as_ref(), running)?;
    let id = owe(&work).await?;
    if next == Next::Write {
        let look = work.place.look_of(spec.mode, found.as_ref())?;
        phase(&work.store, &mut work.record, Phase::Written)?;
        work.place.put(&bytes, look)?;
        failpoint::hit("config-written");
    }
    let ran = work.record.applied.as_ref().is_some_and(|applied| applied.running);
    let (unit, escalated) = match work.user().take(ran).await {
        Ok(taken) => taken,
        Err(why) => {
            // What is owed is not held beyond this execution: the file from before comes back as soon as it has ended.
            let message = format!("{service} does not use {path}: {why}; the file from before is put back");
            let outcome = work.done(message.clone(), seen.as_deref(), None);
            return Err(ActionError::Failed { message, outcome: Box::new(outcome) });
        }
    };
    phase(&work.store, &mut work.record, Phase::Used)?;
    failpoint::hit("config-used");
    hold(context, &id).await?;
    let (name, version, how) = (&spec.name, &release.version, unit_plan::describe(&unit));
    let message =
        format!("{path} is {name} {version}, {how}; it goes back in {} unless it is confirmed", spec.confirm);
    Ok(ActionOutcome { escalated, ..work.done(message, seen.as_deref(), Some(unit)) })
}

/// What is owed outlasts its execution: until it is confirmed, or its time is over.
async fn hold(context: &ActionContext, id: &ObligationId) -> Result<(), ActionError> {
    let held = context.obligations.hold(id).await;
    held.map_err(|e| ActionError::port("keeping the obligation to put the file from before back", e))
}

/// Takes on what undoes it.
async fn owe(work: &Work<'_>) -> Result<ObligationId, ActionError> {
    let applied = work.record.applied.as_ref();
    let execution = applied.map_or_else(|| work.context.execution.to_string(), |a| a.execution.clone());
    let id = owed(&execution)?;
    let undo = Undo::Config {
        instance: InstanceId { node: work.context.node.clone(), service: work.service.spec.name.clone() },
        driver: work.service.spec.driver.clone(),
        stop_timeout: work.service.spec.stop_timeout,
        start_timeout: work.service.spec.start_timeout,
        config: work.spec.clone(),
        digest: work.release.artifact.clone(),
    };
    let opened = work.context.obligations.open(&id, undo, work.spec.confirm).await;
    opened.map_err(|e| ActionError::port("taking on the obligation to put the file from before back", e))?;
    failpoint::hit("config-owed");
    Ok(id)
}

/// `config.revert`. With `only_begun` it does nothing unless a way back was begun before a crash.
pub(in crate::actions) async fn revert(
    context: &ActionContext,
    service: &ServiceName,
    release: &Release,
    only_begun: bool,
) -> Result<ActionOutcome, ActionError> {
    let _turn = turn().await;
    let mut work = Work::new(context, service, release)?;
    let spec = work.spec;
    let begun = work.record.applied.as_ref().is_some_and(|applied| applied.phase == Phase::Returning);
    if only_begun && !begun {
        return Err(ActionError::DeadlineExceeded("waiting to put the file from before back"));
    }
    if !only_begun {
        context.check("waiting to put the file from before back")?;
    }
    let was = work.seen()?;
    let mut record = work.record.clone();
    let back = go_back(&work.store, &mut record, &work.place, &work.user(), work.digest()).await?;
    work.record = record;
    let path = work.place.path().display().to_string();
    let (message, unit) = match back {
        Back::Done(unit) => {
            let text = format!("the file from before is back in {path}, {}", unit_plan::describe(&unit));
            (text, Some(*unit))
        }
        Back::Nothing => (format!("{path} is as it was before {} {}", spec.name, release.version), None),
        Back::Left(Refused::Drifted) => {
            let text = format!("{path} was changed by somebody else meanwhile and is left as it is");
            return Err(ActionError::port("going back", PortError::new(Reason::ConfigDrifted, text)));
        }
        Back::Left(why) => return Err(work.refused(why)),
    };
    settle(&work).await?;
    Ok(work.done(message, was.as_deref(), unit))
}

/// `config.confirm`.
pub(in crate::actions) async fn confirm(
    context: &ActionContext,
    service: &ServiceName,
    release: &Release,
) -> Result<ActionOutcome, ActionError> {
    let _turn = turn().await;
    let mut work = Work::new(context, service, release)?;
    let spec = work.spec;
    let seen = work.seen()?;
    let path = work.place.path().display().to_string();
    let in_place = seen.as_deref() == Some(work.digest());
    if !in_place {
        let text =
            format!("{path} is not {} {} any more: it was put back or changed", spec.name, release.version);
        return Err(ActionError::port("confirming", PortError::new(Reason::ConfigDrifted, text)));
    }
    let ours = work.record.applied.as_ref().is_some_and(|applied| applied.digest == work.digest());
    if ours {
        settle(&work).await?;
        phase(&work.store, &mut work.record, Phase::Confirmed)?;
    }
    Ok(work.done(format!("{path} stays {} {}", spec.name, release.version), seen.as_deref(), None))
}

/// Nothing is owed for this change any more.
async fn settle(work: &Work<'_>) -> Result<(), ActionError> {
    let Some(applied) = work.record.applied.as_ref().filter(|applied| applied.digest == work.digest()) else {
        return Ok(());
    };
    let discharged = work.context.obligations.discharge(&owed(&applied.execution)?).await;
    discharged
        .map_err(|e| ActionError::port("discharging the obligation to put the file from before back", e))
}
