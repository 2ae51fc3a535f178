//! `artifact.activate`, `package.install` and `artifact.revert`: does what `plan` decides, through the service's driver.

use std::time::Duration;

use quorate_common::wire::text::printable;
use quorate_model::service::UnitStatus;
use quorate_model::{ActionOutcome, DurationMs, Install, Release, ReleaseReceipt, ServiceName};

use super::package::{self, Package};
use super::place::Laid;
use super::plan::{self, Flow, Refused, Seen};
use super::record::{Record, Staged};
use crate::actions::job::{Task, on_thread};
use crate::actions::service::exec::{look, span};
use crate::actions::service::plan as unit_plan;
use crate::actions::{ActionContext, ActionError, ServiceHandle};
use crate::runner::failpoint;

/// Time between looks at a unit that is between two states.
const SETTLE_LOOK: Duration = Duration::from_millis(100);

/// Where a release is put in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A folder with a link.
    Folder(Laid),
    /// The host's packages.
    Package(Package),
}

/// A release's name on this host.
pub(super) fn staged_name(release: &Release) -> String {
    plan::name(release.version.as_str(), release.artifact.as_str())
}

impl Place {
    /// Checks what is asked for against the host's own rules, here once more, beside what they protect.
    pub(super) fn new(context: &ActionContext, release: &Release) -> Result<Self, ActionError> {
        match &release.install {
            Install::Binary { dir, file } => {
                let plain = !file.is_empty() && !file.starts_with('.') && file.len() <= 255;
                if !plain || file.contains('/') || file.chars().any(char::is_control) {
                    return Err(ActionError::invalid("install.file", "it is no plain file name"));
                }
                Ok(Self::Folder(Laid::new(&context.install.dirs, dir)?))
            }
            Install::Archive { dir } => Ok(Self::Folder(Laid::new(&context.install.dirs, dir)?)),
            Install::Package { package } if context.install.packages.contains(package) => {
                Ok(Self::Package(Package { name: package.clone() }))
            }
            Install::Config(_) => Err(ActionError::invalid("install", "a configuration file is no release")),
            Install::Package { package } => {
                Err(ActionError::PathNotAllowed(std::path::PathBuf::from(format!("package {package}"))))
            }
        }
    }

    /// By what its record is found.
    pub(super) fn key(&self) -> String {
        match self {
            Self::Folder(laid) => laid.dir().display().to_string(),
            Self::Package(package) => format!("package {}", package.name),
        }
    }

    /// How a staged release looks when it is in use.
    fn text(&self, name: &str, staged: &Staged) -> String {
        match self {
            Self::Folder(_) => Laid::text(name),
            Self::Package(_) => staged.version.clone(),
        }
    }

    fn wanted(&self, release: &Release) -> String {
        match self {
            Self::Folder(_) => Laid::text(&staged_name(release)),
            Self::Package(_) => release.version.to_string(),
        }
    }

    async fn used(&self, context: &ActionContext) -> Result<(Option<String>, bool), ActionError> {
        match self {
            Self::Folder(laid) => Ok((laid.used()?, false)),
            Self::Package(package) => package::installed(context, package).await,
        }
    }

    /// What was staged of a release, if it is still what it was.
    pub(super) async fn staged_intact(
        &self,
        context: &ActionContext,
        release: &Release,
    ) -> Result<Option<Staged>, ActionError> {
        let name = staged_name(release);
        let record = Record::load(&context.releases_dir, &self.key())?;
        let Some(staged) =
            record.staged.get(&name).filter(|s| s.artifact == release.artifact.as_str()).cloned()
        else {
            return Ok(None);
        };
        let intact = match self {
            Self::Folder(laid) => {
                let (laid, staged) = (laid.clone(), staged.clone());
                let task = Task::new("checking the staged release");
                on_thread(context, task, move |job| laid.is_intact(&name, &staged, job)).await?
            }
            Self::Package(package) => package::is_intact(context, package, &staged).await?,
        };
        Ok(intact.then_some(staged))
    }

    /// Everything an activation needs, before anything is disturbed. Tells how long others were waited for.
    async fn ready(
        &self,
        context: &ActionContext,
        record: &Record,
        release: &Release,
        used: Option<&str>,
    ) -> Result<DurationMs, ActionError> {
        let Some(staged) = self.staged_intact(context, release).await? else {
            return Err(ActionError::NotStaged { release: staged_name(release) });
        };
        let trusted = if staged.signed_by.is_empty() {
            context.install.unsigned
        } else {
            context.install.keys.get(&staged.signed_by) == Some(&staged.key)
        };
        if !trusted {
            let by = if staged.signed_by.is_empty() { "nobody" } else { &staged.signed_by };
            let why = format!("it was signed by {by}, whom this host trusts no more");
            return Err(ActionError::Untrusted { why });
        }
        match self {
            Self::Folder(_) => Ok(DurationMs::ZERO),
            Self::Package(package) => package::ready(context, package, record, &staged, used).await,
        }
    }

    /// Whether the way back is there.
    async fn can_go_back(
        &self,
        context: &ActionContext,
        record: &Record,
        to: Option<&str>,
    ) -> Result<(), ActionError> {
        if let Self::Package(_) = self {
            package::unlocked(context).await?;
        }
        let Some(to) = to else { return Ok(()) };
        let there = match self {
            Self::Folder(laid) => laid.is_there(to)?,
            Self::Package(package) => match package::kept(record, to) {
                Some(staged) => package::is_intact(context, package, staged).await?,
                None => false,
            },
        };
        if there {
            return Ok(());
        }
        Err(ActionError::NoWayBack {
            why: format!("{} was in use before, and is not here any more", printable(to, 200)),
        })
    }

    async fn switch(
        &self,
        context: &ActionContext,
        record: &Record,
        to: Option<&str>,
    ) -> Result<(), ActionError> {
        match self {
            Self::Folder(laid) => laid.switch(to),
            Self::Package(package) => package::switch(context, package, record, to).await,
        }
    }

    /// Removes staged releases that nobody needs.
    fn prune(
        &self,
        context: &ActionContext,
        record: &mut Record,
        used: Option<&str>,
    ) -> Result<(), ActionError> {
        let known = record.staged.clone();
        let text = |name: &str| known.get(name).map_or_else(String::new, |staged| self.text(name, staged));
        for name in plan::old(record, used, text) {
            let Some(staged) = record.staged.remove(&name) else { continue };
            // Forgotten first: what is removed half is never taken for staged.
            record.store(&context.releases_dir)?;
            match self {
                Self::Folder(laid) => laid.remove(&name)?,
                Self::Package(package) => package::remove(&context.releases_dir, package, &staged)
                    .map_err(|e| ActionError::io("removing", &name, e))?,
            }
        }
        Ok(())
    }
}

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::actions) enum Goal {
    /// Into use.
    Activate,
    /// Out of use.
    Revert,
}

/// One change, as far as it has come.
struct Change<'c> {
    context: &'c ActionContext,
    service: ServiceHandle,
    place: Place,
    record: Record,
    goal: Goal,
    escalated: bool,
    /// What was in use before.
    was: Option<String>,
    waited: DurationMs,
}

/// `artifact.activate`, `package.install` and `artifact.revert`. With `only_begun` it does nothing unless this very execution has
/// begun before a crash: then the service is brought up again, late as it may be.
pub(in crate::actions) async fn change(
    context: &ActionContext,
    service: &ServiceName,
    release: &Release,
    goal: Goal,
    only_begun: bool,
) -> Result<ActionOutcome, ActionError> {
    let place = Place::new(context, release)?;
    let service = context.service(service)?;
    let record = Record::load(&context.releases_dir, &place.key())?;
    let (name, wanted) = (staged_name(release), place.wanted(release));
    let execution = context.execution.to_string();
    if only_begun && plan::begun(&record, &name, &execution).is_none() {
        return Err(ActionError::DeadlineExceeded("waiting to stop"));
    }
    let unit = settled(context, &service).await?;
    let (used, torn) = place.used(context).await?;
    let seen = Seen {
        execution,
        used: used.clone(),
        torn,
        up: unit_plan::is_up(&unit),
        run: unit.invocation_id.clone(),
    };
    let flow = match goal {
        Goal::Activate => plan::activate(&seen, &record, &name, &wanted),
        Goal::Revert => plan::revert(&seen, &record, &name, &wanted),
    };
    let flow = flow.map_err(refused)?;
    if only_begun && seen.up && !seen.torn && flow.stop {
        // It runs, so nothing was left down; its time and its grant are over.
        return Err(ActionError::DeadlineExceeded("waiting to stop"));
    }
    let mut change = Change {
        context,
        service,
        place,
        record,
        goal,
        escalated: false,
        was: used,
        waited: DurationMs::ZERO,
    };
    if flow.is_nothing() {
        return Ok(change.done(&change.was, unit, "nothing was left to do").await);
    }
    if !flow.begun {
        change.prepare(release, &name, &flow, &unit).await?;
    }
    change.carry_out(&flow, &unit).await
}

fn refused(why: Refused) -> ActionError {
    match why {
        Refused::Torn => ActionError::Blocked { why: why.to_string() },
        Refused::NoRecord => ActionError::NoWayBack { why: why.to_string() },
    }
}

/// The unit, once it is not between two states any more.
async fn settled(context: &ActionContext, service: &ServiceHandle) -> Result<UnitStatus, ActionError> {
    let patience = span(service.spec.stop_timeout.plus(service.spec.start_timeout));
    let until = tokio::time::Instant::now() + patience.min(Duration::from_millis(context.remaining().0));
    loop {
        let unit = look(service).await?;
        let moving = !unit_plan::is_up(&unit) && !unit_plan::is_down(&unit);
        if !moving || tokio::time::Instant::now() >= until {
            return Ok(unit);
        }
        tokio::time::sleep(SETTLE_LOOK).await;
    }
}

impl Change<'_> {
    /// Refuses while nothing is disturbed, then makes the way back durable.
    async fn prepare(
        &mut self,
        release: &Release,
        name: &str,
        flow: &Flow,
        unit: &UnitStatus,
    ) -> Result<(), ActionError> {
        match self.goal {
            Goal::Activate => {
                let ready = self.place.ready(self.context, &self.record, release, self.was.as_deref());
                self.waited = ready.await?;
            }
            Goal::Revert => {
                if let Some(to) = &flow.switch {
                    self.place.can_go_back(self.context, &self.record, to.as_deref()).await?;
                }
            }
        }
        // A package brings its unit along; without one there is nothing to stop.
        let brings = matches!(self.place, Place::Package(_)) && flow.switch.is_some();
        if let unit_plan::Decision::Impossible(why) = unit_plan::restart(unit)
            && flow.start
            && !brings
        {
            return Err(crate::actions::service::exec::impossible("restart", &self.service.spec.name, why));
        }
        self.context.check("waiting to stop")?;
        if let Some(switch) = &flow.record {
            if let Some(before) = &flow.before {
                self.record.previous.insert(name.to_owned(), before.clone());
            }
            self.record.last = Some(switch.clone());
            self.record.store(&self.context.releases_dir)?;
            failpoint::hit("release-recorded");
        }
        Ok(())
    }

    /// From here on it goes to its end, canceled or late as it may be: a unit left down is worse than a late one.
    async fn carry_out(mut self, flow: &Flow, unit: &UnitStatus) -> Result<ActionOutcome, ActionError> {
        let name = self.service.spec.name.clone();
        if flow.stop && !unit_plan::is_down(unit) {
            match self.service.driver.stop(span(self.service.spec.stop_timeout)).await {
                Ok(stopped) => self.escalated = stopped.escalated,
                Err(error) => {
                    let message = format!("{name} could not be stopped, nothing was switched: {error}");
                    return Err(self.failed(message, String::new()).await);
                }
            }
        }
        failpoint::hit("release-stopped");
        if let Some(to) = &flow.switch
            && let Err(error) = self.place.switch(self.context, &self.record, to.as_deref()).await
        {
            return Err(self.not_switched(flow, error).await);
        }
        failpoint::hit("release-switched");
        if !flow.start {
            let after = look(&self.service).await?;
            return Ok(self.finish(after, "is stopped, as before the release").await);
        }
        if let Err(error) = self.service.driver.start(span(self.service.spec.start_timeout)).await {
            let message = format!("{name} did not start, what it was switched to stays in use: {error}");
            return Err(self.failed(message, String::new()).await);
        }
        failpoint::hit("release-started");
        let after = look(&self.service).await?;
        let old = UnitStatus { invocation_id: flow.old_run.clone(), ..UnitStatus::default() };
        if let Err(why) = unit_plan::new_run(&old, &after) {
            let message = format!("{name} did not start, what it was switched to stays in use: {why}");
            return Err(self.failed(message, String::new()).await);
        }
        Ok(self.finish(after, "runs").await)
    }

    /// The switch failed: what was in use still is, and runs again.
    async fn not_switched(mut self, flow: &Flow, error: ActionError) -> ActionError {
        let name = self.service.spec.name.clone();
        let mut message = format!("{name} was not switched: {}", error.message());
        if flow.start {
            match self.service.driver.start(span(self.service.spec.start_timeout)).await {
                Ok(()) if matches!(self.place, Place::Folder(_)) => {
                    message.push_str("; it was started again as it was");
                }
                Ok(()) => message.push_str("; it was started again with what dpkg left"),
                Err(error) => message.push_str(&format!("; it did not start again: {error}")),
            }
        }
        let tail = error.into_outcome().output_tail;
        self.failed(message, tail).await
    }

    async fn failed(&mut self, message: String, output_tail: String) -> ActionError {
        let unit = self.service.driver.status().await.ok();
        let used = self.place.used(self.context).await.map(|(used, _)| used).unwrap_or_default();
        let outcome = ActionOutcome {
            message: message.clone(),
            escalated: self.escalated,
            output_tail,
            unit,
            release: Some(self.receipt(&used)),
            ..ActionOutcome::default()
        };
        ActionError::Failed { message, outcome: Box::new(outcome) }
    }

    /// Writes down that it was seen to run, and removes what is old. Neither makes what was done undone.
    async fn finish(mut self, after: UnitStatus, how: &str) -> ActionOutcome {
        let used = self.place.used(self.context).await.map(|(used, _)| used).unwrap_or_default();
        if let Some(last) = &mut self.record.last {
            last.finished = true;
        }
        let mut kept = self.record.store(&self.context.releases_dir);
        if self.goal == Goal::Activate {
            kept = kept.and_then(|()| self.place.prune(self.context, &mut self.record, used.as_deref()));
        }
        if let Err(error) = kept {
            tracing::warn!(error = %error.message(), "a release is in use, and its record or what is old was not tidied");
        }
        self.done(&used, after, how).await
    }

    async fn done(&self, used: &Option<String>, unit: UnitStatus, how: &str) -> ActionOutcome {
        let receipt = self.receipt(used);
        let name = &self.service.spec.name;
        let version = if receipt.version.is_empty() { "no release of ours" } else { &receipt.version };
        let mut message = format!("{name} {how} with {version} in use: {}", unit_plan::describe(&unit));
        if self.waited.0 >= 1_000 {
            message.push_str(&format!("; waited {} s for another user of dpkg", self.waited.0 / 1_000));
        }
        ActionOutcome {
            message,
            unit: Some(unit),
            escalated: self.escalated,
            release: Some(receipt),
            ..ActionOutcome::default()
        }
    }

    /// What is in use, and what was.
    fn receipt(&self, used: &Option<String>) -> ReleaseReceipt {
        let find = |text: &Option<String>| {
            let all = self.record.newest().into_iter().filter_map(|name| {
                let staged = self.record.staged.get(&name)?;
                Some((self.place.text(&name, staged), staged))
            });
            let text = text.as_deref()?;
            all.into_iter().find(|(one, _)| one == text).map(|(_, staged)| staged.clone())
        };
        let (now, before) = (find(used), find(&self.was));
        ReleaseReceipt {
            version: now.as_ref().map(|s| s.version.clone()).unwrap_or_default(),
            artifact: now.as_ref().map(|s| s.artifact.clone()).unwrap_or_default(),
            previous: before.map(|s| s.version).unwrap_or_default(),
            signed_by: now.map(|s| s.signed_by).unwrap_or_default(),
            replaces: String::new(),
        }
    }
}
