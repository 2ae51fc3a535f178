//! The parts of a rotation: do what `plan` decides, through the files and the service's driver.

use std::path::{Path, PathBuf};
use std::time::Duration;

use quorate_model::secret::SECRET_MAX_BYTES;
use quorate_model::service::UnitStatus;
use quorate_model::{
    ActionOutcome, HookName, InstanceId, Reason, RotationId, SecretSource, SecretSpec, SecretVerb,
    ServiceName,
};
use zeroize::Zeroizing;

use super::plan::{self, Candidate, Next, Refused, Seen};
use super::record::{Phase, Record, Store};
use crate::actions::config::{Place, User, turn};
use crate::actions::service::plan as unit_plan;
use crate::actions::{ActionContext, ActionError, HookReport, PortError, ServiceHandle};
use crate::runner::failpoint;

/// Permission bits that a secret keeps: its owner's and its group's, nobody else's.
const MODE_BITS: u32 = 0o770;
/// Permission bits beside a file whose own are not known.
const MODE: u32 = 0o600;

type Content = Zeroizing<Vec<u8>>;
/// Mode, owner, group.
type Look = (u32, u32, u32);

/// One secret at work.
struct Work<'c> {
    context: &'c ActionContext,
    service: ServiceHandle,
    spec: &'c SecretSpec,
    rotation: &'c RotationId,
    /// The rotation that this one goes on with.
    resumes: Option<&'c RotationId>,
    file: Place,
    previous: Place,
    store: Store,
    record: Record,
}

/// What lies where, as it was read.
struct Found {
    file: Option<Content>,
    look: Option<Look>,
    previous: Option<Content>,
}

impl Found {
    fn seen(&self) -> Seen<'_> {
        Seen {
            file: self.file.as_ref().map(|content| content.as_slice()),
            previous: self.previous.as_ref().map(|content| content.as_slice()),
        }
    }

    fn look(&self) -> Option<Look> {
        self.look.map(|(mode, uid, gid)| (mode & MODE_BITS, uid, gid))
    }
}

fn read(place: &Place) -> Result<Option<(Content, Look)>, ActionError> {
    let Some(found) = place.read()? else { return Ok(None) };
    let content = Zeroizing::new(found.bytes);
    if content.len() as u64 > SECRET_MAX_BYTES {
        let why = format!("it is larger than {SECRET_MAX_BYTES} bytes, as no secret is");
        return Err(ActionError::Occupied { path: place.path().to_path_buf(), why });
    }
    Ok(Some((content, (found.mode, found.uid, found.gid))))
}

impl<'c> Work<'c> {
    fn new(
        context: &'c ActionContext,
        service: &ServiceName,
        spec: &'c SecretSpec,
        (rotation, resumes): (&'c RotationId, Option<&'c RotationId>),
    ) -> Result<Self, ActionError> {
        let service = context.service(service)?;
        let roots = &context.install.secrets;
        let file = Place::new(roots, &spec.file)?;
        let previous = Place::new(roots, &spec.previous)?;
        let store = Store::new(&context.releases_dir, file.path());
        let record = store.load()?;
        Ok(Self { context, service, spec, rotation, resumes, file, previous, store, record })
    }

    fn user(&self) -> User<'_> {
        User {
            driver: self.service.driver.as_ref(),
            apply: self.spec.apply,
            stop_timeout: self.service.spec.stop_timeout,
            start_timeout: self.service.spec.start_timeout,
        }
    }

    fn found(&self) -> Result<Found, ActionError> {
        let file = read(&self.file)?;
        let previous = read(&self.previous)?.map(|(content, _)| content);
        let look = file.as_ref().map(|(_, look)| *look);
        Ok(Found { file: file.map(|(content, _)| content), look, previous })
    }

    fn next(&self) -> Result<Content, ActionError> {
        self.store.next()?.ok_or_else(|| self.refused(Refused::NotStaged))
    }

    fn phase(&mut self, phase: Phase) -> Result<(), ActionError> {
        self.record.phase = phase;
        self.store.store(&self.record)
    }

    fn refused(&self, why: Refused) -> ActionError {
        let (name, path) = (&self.spec.name, self.file.path().display());
        let (reason, why) = match why {
            Refused::NoSecret => {
                (Reason::NotFound, format!("{path} does not exist: there is no {name} to rotate"))
            }
            Refused::Empty => (Reason::InvalidArgument, format!("the next {name} is empty")),
            Refused::Same => (Reason::NothingToChange, format!("the next {name} is the one in use")),
            Refused::Unretired => (
                Reason::WrongState,
                format!(
                    "two {name} are valid here since {}, and the next one is neither: rotate to one of them first",
                    self.record.rotation
                ),
            ),
            Refused::NotStaged => (
                Reason::WrongState,
                format!("{name} was not staged here for {}, or was changed since", self.rotation),
            ),
            Refused::Drifted => (
                Reason::ConfigDrifted,
                format!("{path} was changed by somebody else meanwhile and is left as it is"),
            ),
            Refused::Unconfirmed => {
                (Reason::WrongState, format!("{name} was not confirmed here: the one before stays valid"))
            }
            Refused::Retired => {
                (Reason::WrongState, format!("the {name} from before is retired: there is no way back to it"))
            }
        };
        ActionError::Refused { reason, why }
    }

    fn done(&self, message: String, unit: Option<UnitStatus>) -> ActionOutcome {
        ActionOutcome { message, unit, ..ActionOutcome::default() }
    }

    /// Has the service read what lies there.
    async fn take(&mut self, reached: Phase, what: &str) -> Result<ActionOutcome, ActionError> {
        let (name, rotation) = (self.spec.name.clone(), self.rotation);
        let running = self.record.running;
        let taken = self.user().take(running).await;
        let (unit, escalated) = taken.map_err(|why| {
            let message = format!("{name} {rotation}: {what}, and the service does not use it: {why}");
            ActionError::Failed { message, outcome: Box::default() }
        })?;
        self.phase(reached)?;
        let message = format!("{name} {rotation}: {what}, {}", unit_plan::describe(&unit));
        Ok(ActionOutcome { escalated, ..self.done(message, Some(unit)) })
    }

    /// Whether the service runs is known before it is disturbed, and durable: a crash must not leave it down.
    async fn begin(&mut self, phase: Phase) -> Result<(), ActionError> {
        let running = self.user().is_up().await.map_err(|why| {
            let doing = format!("looking at {}", self.service.spec.name);
            ActionError::port(doing, PortError::new(Reason::ActionFailed, why))
        })?;
        // One that this rotation found running and that did not start with the new one has to run again.
        let known = self.record.phase == phase || phase == Phase::Returning;
        self.record.running = running || (known && self.record.running);
        self.phase(phase)?;
        failpoint::hit("secret-recorded");
        Ok(())
    }

    fn instance(&self) -> InstanceId {
        InstanceId { node: self.context.node.clone(), service: self.service.spec.name.clone() }
    }

    /// Runs a hook with a file. What it prints is not kept: it was given a secret.
    async fn hook(&self, hook: &HookName, file: &Path) -> Result<(), ActionError> {
        let limit = Duration::from_millis(self.context.remaining().0);
        let ran = self.context.hooks.check(hook, &self.instance(), limit, file, self.file.path()).await;
        let HookReport { ok, ended, cut_off, .. } = ran.map_err(|error| match error.reason {
            // It is not declared, or not allowed: nothing was done.
            Reason::PolicyDenied | Reason::NotFound => {
                ActionError::Refused { reason: error.reason, why: error.message }
            }
            _ => ActionError::port(format!("running the hook {hook}"), error),
        })?;
        if ok {
            return Ok(());
        }
        let message = format!("{} {}: hook {hook}: {ended}", self.spec.name, self.rotation);
        if cut_off {
            let canceled = self.context.cancel.is_cancelled();
            return Err(ActionError::CutOff { canceled, message, outcome: Box::default() });
        }
        Err(ActionError::Failed { message, outcome: Box::default() })
    }

    /// Whether this host was through with the rotation that this one goes on with.
    fn finished(&self) -> bool {
        self.resumes.is_some_and(|stopped| self.record.finished(stopped.as_str()))
    }

    /// The next secret from its source.
    async fn source(&self, found: &Found) -> Result<Content, ActionError> {
        match &self.spec.source {
            SecretSource::Candidate(path) => {
                let place = Place::new(&self.context.install.secrets, path)?;
                let candidate = read(&place)?;
                candidate
                    .map(|(content, _)| content)
                    .ok_or_else(|| ActionError::NotFound(PathBuf::from(path)))
            }
            // What an earlier rotation has made is used before another one is made.
            SecretSource::Generate(_) if self.record.open() || self.finished() => {
                found.file.clone().ok_or_else(|| self.refused(Refused::NoSecret))
            }
            SecretSource::Generate(hook) => {
                self.store.keep(None)?;
                self.hook(hook, &self.store.next_path()).await?;
                self.next()
            }
        }
    }

    async fn stage(&mut self) -> Result<ActionOutcome, ActionError> {
        let found = self.found()?;
        if self.record.rotation == self.rotation.as_str() && self.store.next()?.is_some() {
            return Ok(self.done(format!("{} {}: staged already", self.spec.name, self.rotation), None));
        }
        if found.look.is_some_and(|(mode, ..)| mode & 0o007 != 0) {
            let path = self.file.path().display();
            let why = format!(
                "{path} is open to everybody, and the next one would not be: chmod o= it and see that the service still reads it"
            );
            return Err(ActionError::Refused { reason: Reason::WrongState, why });
        }
        let next = self.source(&found).await?;
        if next.len() as u64 > SECRET_MAX_BYTES {
            let why = format!("it is larger than {SECRET_MAX_BYTES} bytes, as no secret is");
            return Err(ActionError::Refused { reason: Reason::InvalidArgument, why });
        }
        let stopped = self.resumes.map(RotationId::as_str);
        let candidate =
            plan::stage(&self.record, found.seen(), stopped, &next).map_err(|why| self.refused(why))?;
        self.store.keep(Some(&next))?;
        match candidate {
            Candidate::Next => self.record.staged(self.rotation.as_str()),
            Candidate::InUse => self.record.in_use(self.rotation.as_str()),
        }
        self.store.store(&self.record)?;
        if let Some(since) = &self.record.since {
            let message = format!("{} {}: it is in use here since {since}", self.spec.name, self.rotation);
            return Ok(self.done(message, None));
        }
        Ok(self.done(format!("{} {}: {} bytes staged", self.spec.name, self.rotation, next.len()), None))
    }

    async fn install(&mut self) -> Result<ActionOutcome, ActionError> {
        let (found, next) = (self.found()?, self.next()?);
        let todo = plan::install(&self.record, found.seen(), self.rotation.as_str(), &next)
            .map_err(|why| self.refused(why))?;
        let (path, beside) =
            (self.file.path().display().to_string(), self.previous.path().display().to_string());
        if todo == Next::Nothing {
            let since =
                self.record.since.as_ref().map_or_else(String::new, |since| format!(" since {since}"));
            let message = format!("{} {}: {path} holds it already{since}", self.spec.name, self.rotation);
            return Ok(self.done(message, None));
        }
        self.begin(Phase::Installing).await?;
        if let (Next::Write, Some(old)) = (todo, &found.file) {
            let look = found.look().unwrap_or((MODE, 0, 0));
            // The one in use lies beside before anything else takes its place.
            self.previous.put(old, look)?;
            failpoint::hit("secret-kept");
            self.file.put(&next, look)?;
        }
        failpoint::hit("secret-written");
        let what = format!("{} bytes in {path}, the one before in {beside}", next.len());
        self.take(Phase::Used, &what).await
    }

    async fn confirm(&mut self) -> Result<ActionOutcome, ActionError> {
        let (found, next) = (self.found()?, self.next()?);
        plan::confirm(&self.record, found.seen(), self.rotation.as_str(), &next)
            .map_err(|why| self.refused(why))?;
        self.hook(&self.spec.confirm, self.file.path()).await?;
        self.phase(Phase::Confirmed)?;
        let (name, hook) = (&self.spec.name, &self.spec.confirm);
        Ok(self.done(format!("{name} {}: hook {hook} has seen it work", self.rotation), None))
    }

    async fn retire(&mut self) -> Result<ActionOutcome, ActionError> {
        let (found, next) = (self.found()?, self.store.next()?);
        let next = next.as_ref().map(|next| next.as_slice());
        let todo = plan::retire(&self.record, found.seen(), self.rotation.as_str(), next)
            .map_err(|why| self.refused(why))?;
        let beside = self.previous.path().display().to_string();
        let outcome = if todo == Next::Nothing {
            self.phase(Phase::Retired)?;
            self.done(format!("{} {}: {beside} is gone already", self.spec.name, self.rotation), None)
        } else {
            self.begin(Phase::Retiring).await?;
            if todo == Next::Write {
                self.previous.remove()?;
            }
            failpoint::hit("secret-removed");
            self.take(Phase::Retired, &format!("{beside} is gone")).await?
        };
        self.store.forget()?;
        Ok(outcome)
    }

    async fn revert(&mut self) -> Result<ActionOutcome, ActionError> {
        let path = self.file.path().display().to_string();
        let untouched = format!("{} {}: {path} is as it was before", self.spec.name, self.rotation);
        let Some(next) = self.store.next()? else {
            let retired =
                self.record.rotation == self.rotation.as_str() && self.record.phase >= Phase::Retiring;
            return if retired {
                Err(self.refused(Refused::Retired))
            } else {
                Ok(self.done(untouched, None))
            };
        };
        let found = self.found()?;
        let todo = plan::revert(&self.record, found.seen(), self.rotation.as_str(), &next)
            .map_err(|why| self.refused(why))?;
        if todo == Next::Nothing {
            if self.record.rotation == self.rotation.as_str() {
                self.store.forget()?;
            }
            return Ok(self.done(untouched, None));
        }
        self.begin(Phase::Returning).await?;
        let look = found.look().unwrap_or((MODE, 0, 0));
        if let (Next::Write, Some(old)) = (todo, &found.previous) {
            self.file.put(old, look)?;
            failpoint::hit("secret-returned");
        }
        // Whoever was given the new one meanwhile is not locked out: it stays valid beside. What lies there is only replaced where it
        // is known to be in place again: it may be the only copy of the one before.
        let spare = match &found.previous {
            None => true,
            Some(previous) => todo == Next::Write || Some(previous) == found.file.as_ref(),
        };
        if spare {
            self.previous.put(&next, look)?;
        }
        let outcome = self.take(Phase::Returned, &format!("the one before is back in {path}")).await?;
        self.store.forget()?;
        Ok(outcome)
    }
}

/// One part of a rotation. With `only_begun` it does nothing unless its files may have been written before a crash.
pub(in crate::actions) async fn part(
    context: &ActionContext,
    service: &ServiceName,
    spec: &SecretSpec,
    rotation: (&RotationId, Option<&RotationId>),
    (verb, only_begun): (SecretVerb, bool),
) -> Result<ActionOutcome, ActionError> {
    let _turn = turn().await;
    let mut work = Work::new(context, service, spec, rotation)?;
    if only_begun {
        // Or it was done, and the helper died before it could say so.
        let begun = match verb {
            SecretVerb::Install => [Phase::Installing, Phase::Used],
            SecretVerb::Retire => [Phase::Retiring, Phase::Retired],
            SecretVerb::Revert => [Phase::Returning, Phase::Returned],
            SecretVerb::Stage | SecretVerb::Confirm => {
                return Err(ActionError::DeadlineExceeded("waiting to go on with a rotation"));
            }
        };
        if work.record.rotation != work.rotation.as_str() || !begun.contains(&work.record.phase) {
            return Err(ActionError::DeadlineExceeded("waiting to go on with a rotation"));
        }
    } else {
        context.check("waiting to go on with a rotation")?;
    }
    match verb {
        SecretVerb::Stage => work.stage().await,
        SecretVerb::Install => work.install().await,
        SecretVerb::Confirm => work.confirm().await,
        SecretVerb::Retire => work.retire().await,
        SecretVerb::Revert => work.revert().await,
    }
}
