//! `maintenance.enter` and `maintenance.exit`: a file that tells an instance that it is worked on, and a silence that tells its
//! Alertmanager.
//!
//! Job: both are there, whole, from one moment to the other, and their end is owed before they are. Must never: replace or
//! remove what is not ours, follow a link, or leave the folders and the Alertmanagers of the host's policy.

use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use quorate_model::{
    ActionOutcome, DurationMs, InstanceId, MaintenanceSpec, ObligationId, OperationId, Reason, RiskClass,
    ServiceName, SilenceSpec, Timestamp,
};
use serde::{Deserialize, Serialize};

use super::{ActionContext, ActionError, Kept, PortError, Undo};
use crate::host::HostError;
use crate::host::fs::{Attrs, Place, Roots};
use crate::policy::Policy;

pub(crate) mod silence;

use self::silence::{SPAN, Silence};

/// The line of `maintenance.enter` in the catalogue: its risk, what goes in, what it does.
pub(super) const ENTER: (RiskClass, &str, &str) = (
    RiskClass::Disruptive,
    "service, maintenance (file, silence), time until it ends, reason",
    "Tell an instance by a file, and Alertmanager by a silence, that it is worked on; the end is owed before.",
);
/// The line of `maintenance.exit`.
pub(super) const EXIT: (RiskClass, &str, &str) = (
    RiskClass::Disruptive,
    "service, maintenance (file, silence)",
    "Tell an instance that it is worked on no longer.",
);
/// Largest file that is compared with ours.
const CONTENT_MAX_BYTES: u64 = 16 * 1024;
/// Everybody may read it: the instance's user is not known here.
const MODE: u32 = 0o644;

/// How far apart the clocks of this host and of an Alertmanager are taken to be.
const CLOCKS_APART: DurationMs = DurationMs::from_secs(60);

/// What the file holds.
#[derive(Debug, Serialize, Deserialize)]
struct Content {
    since: String,
    until: String,
    operation: String,
    reason: String,
}

/// What lies at its place.
enum There {
    /// Nothing.
    Nothing,
    /// A file with this content, as far as it is compared.
    File(Vec<u8>),
    /// A link, a folder or whatever else nobody of ours has made.
    Other,
}

impl There {
    /// Whether it was written for this operation; none when there is nothing.
    fn is_of(&self, operation: &OperationId) -> Option<bool> {
        match self {
            Self::Nothing => None,
            Self::File(bytes) => Some(is_of(bytes, operation)),
            Self::Other => Some(false),
        }
    }
}

/// What became of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cleared {
    /// It was ours and is removed.
    Removed,
    /// There was none.
    Gone,
    /// Somebody wrote another one: it is theirs.
    NotOurs,
}

impl Cleared {
    /// One line; `removed` says what it is when it was there.
    fn told(self, file: &str, removed: &str) -> String {
        match self {
            Self::Removed => format!("{file} {removed}"),
            Self::Gone => format!("{file} was gone already"),
            Self::NotOurs => format!("{file} was written by somebody else meanwhile and stays"),
        }
    }
}

/// The file of one instance.
struct Flag {
    place: Place,
}

impl Flag {
    /// Below one of the folders that the host allows; touches nothing.
    fn new(roots: &[PathBuf], file: &str) -> Result<Self, PortError> {
        let place = Roots::new(roots)?.locate(Path::new(file))?;
        Ok(Self { place })
    }

    fn read(&self) -> Result<There, PortError> {
        let file = match self.place.open_read() {
            Err(HostError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                return Ok(There::Nothing);
            }
            // That the host allows the place is known by now: it is what lies there that is not opened.
            Err(HostError::PathOutsideRoot { .. }) => return Ok(There::Other),
            opened => opened?,
        };
        let mut bytes = Vec::new();
        file.take(CONTENT_MAX_BYTES)
            .read_to_end(&mut bytes)
            .map_err(|e| PortError::new(Reason::ActionFailed, e.to_string()))?;
        Ok(There::File(bytes))
    }

    /// Removes the file, if it is ours. Where its folder is not there, it is gone with it: a unit that ended takes its own folder of
    /// `/run` along, and nobody can tell that from a disk that is not mounted yet.
    fn clear(&self, operation: &OperationId) -> Result<Cleared, PortError> {
        match self.read()?.is_of(operation) {
            None => Ok(Cleared::Gone),
            Some(true) => {
                self.place.remove()?;
                Ok(Cleared::Removed)
            }
            Some(false) => Ok(Cleared::NotOurs),
        }
    }
}

/// Whether a file was written for this operation.
fn is_of(bytes: &[u8], operation: &OperationId) -> bool {
    serde_json::from_slice::<Content>(bytes).is_ok_and(|content| content.operation == operation.as_str())
}

fn instance(context: &ActionContext, service: &ServiceName) -> InstanceId {
    InstanceId { node: context.node.clone(), service: service.clone() }
}

fn told(doing: &str, error: PortError) -> ActionError {
    ActionError::port(doing, error)
}

/// Where the file belongs, if there is to be one.
fn flag(context: &ActionContext, wanted: &MaintenanceSpec) -> Result<Option<Flag>, ActionError> {
    if wanted.file.is_empty() {
        return Ok(None);
    }
    let flag = Flag::new(&context.allowed_roots, &wanted.file);
    flag.map(Some).map_err(|e| told("finding the maintenance file", e))
}

fn content(
    context: &ActionContext,
    now: Timestamp,
    until: Timestamp,
    reason: &str,
) -> Result<String, ActionError> {
    let content = Content {
        since: now.utc(),
        until: until.utc(),
        operation: context.operation.to_string(),
        reason: reason.to_owned(),
    };
    let text = serde_json::to_string(&content);
    let text = text.map_err(|e| told("writing JSON", PortError::new(Reason::Internal, e.to_string())))?;
    Ok(text + "\n")
}

/// `maintenance.enter`.
pub(super) async fn enter(
    context: &ActionContext,
    service: &ServiceName,
    wanted: &MaintenanceSpec,
    exit_within: DurationMs,
    reason: &str,
) -> Result<ActionOutcome, ActionError> {
    context.service(service)?;
    let flag = flag(context, wanted)?;
    if let Some(flag) = &flag {
        let there = flag.read().map_err(|e| told("reading the maintenance file", e))?;
        // What cannot be written is not owed.
        flag.place.stat_folder().map_err(|e| told("finding its folder", e.into()))?;
        if there.is_of(&context.operation) == Some(false) {
            let why = format!("{} is there already and was not written for this operation", wanted.file);
            return Err(ActionError::Refused { reason: Reason::WrongState, why });
        }
    }
    let now = context.clock.wall();
    let until = now.plus(exit_within);
    let content = content(context, now, until, reason)?;
    let id = ObligationId::new(format!("{}:maintenance", context.execution))
        .map_err(|e| told("naming what is owed", PortError::new(Reason::Internal, e.to_string())))?;
    let instance = instance(context, service);
    let (mut said, mut silencing) = (Vec::new(), None);
    if let Some(spec) = &wanted.silence {
        let silence = Silence::new(spec, &context.operation, &instance);
        match silence.look().await {
            Ok(seen) => silencing = Some((silence, seen)),
            Err(why) => said.push(not_silenced(wanted, why)?),
        }
    }
    // An Alertmanager that is away is asked for nothing, and its end is not owed: it holds nobody up.
    let silence = wanted.silence.clone().filter(|_| silencing.is_some());
    let silent_until = now.plus(exit_within.min(SPAN));
    let undo = Undo::Maintenance {
        instance: instance.clone(),
        maintenance: MaintenanceSpec { silence, ..wanted.clone() },
        operation: context.operation.clone(),
        until: silent_until,
    };
    let opened = context.obligations.open(&id, undo, exit_within).await;
    opened.map_err(|e| told("owing the end of the maintenance", e))?;
    // First: who watches is told before anything looks odd.
    if let Some((silence, seen)) = &silencing {
        match silence.set(seen, reason, now, silent_until).await {
            Ok(id) => said.push(format!("silence {id} is active")),
            Err(why) => said.push(not_silenced(wanted, why)?),
        }
    }
    if let Some(flag) = &flag {
        let attrs = Attrs { mode: MODE, owner: None };
        if let Err(error) = flag.place.write(context.execution.as_str(), content.as_bytes(), attrs) {
            // What is there now is the old file or none: the undo looks whether it is ours.
            return Err(told("writing the maintenance file", error.into()));
        }
        said.push(format!("{} says so until {} at the latest", wanted.file, until.utc()));
    }
    if let Err(error) = context.obligations.hold(&id).await {
        // Its time was over before all was said, and its end is not owed any more: what was said since is taken back here.
        let cleared = flag.map_or(Ok(Cleared::Gone), |flag| flag.clear(&context.operation));
        cleared.map_err(|e| told("removing the maintenance file", e))?;
        if let Some((silence, _)) = &silencing {
            let ended = silence.end().await;
            ended.map_err(|why| told("ending the silence", PortError::new(Reason::ActionFailed, why)))?;
        }
        return Err(told("holding the maintenance", error));
    }
    Ok(ActionOutcome { message: said.join("; "), ..ActionOutcome::default() })
}

/// `maintenance.exit`. A silence that cannot be ended now stays owed: its host goes on trying, and it ends by itself. The work on
/// the instance has ended well, whoever is told of its alerts.
pub(super) async fn exit(
    context: &ActionContext,
    service: &ServiceName,
    wanted: &MaintenanceSpec,
) -> Result<ActionOutcome, ActionError> {
    let instance = instance(context, service);
    let (mut said, mut silent) = (Vec::new(), true);
    if let Some(flag) = flag(context, wanted)? {
        let cleared = flag.clear(&context.operation).map_err(|e| told("removing the maintenance file", e))?;
        said.push(cleared.told(&wanted.file, "is removed"));
    }
    // Until it is settled: nobody renews what was just ended.
    let _silencing = context.obligations.silencing().await;
    if let Some(spec) = &wanted.silence {
        match Silence::new(spec, &context.operation, &instance).end().await {
            Ok(ended) => said.push(ended_text(ended)),
            Err(why) => {
                said.push(format!("a silence stays until its host can end it, or its time: {why}"));
                silent = false;
            }
        }
    }
    let kept = Kept::Maintenance { file: &wanted.file, operation: &context.operation, silent };
    let settled = context.obligations.settle(&instance, kept).await;
    settled.map_err(|e| told("discharging the end of the maintenance", e))?;
    Ok(ActionOutcome { message: said.join("; "), ..ActionOutcome::default() })
}

/// What is said of a silence that may not be there, if the work goes on without it.
fn not_silenced(wanted: &MaintenanceSpec, why: String) -> Result<String, ActionError> {
    if wanted.silence.as_ref().is_some_and(|silence| silence.required) {
        return Err(told("silencing", PortError::new(Reason::ActionFailed, why)));
    }
    Ok(format!("not silenced: {why}"))
}

fn ended_text(ended: usize) -> String {
    match ended {
        0 => "there is no silence of ours".to_owned(),
        1 => "its silence has ended".to_owned(),
        more => format!("its {more} silences have ended"),
    }
}

/// How an instance was announced as worked on.
#[derive(Clone, Copy)]
pub(crate) struct Announced<'a> {
    /// Which.
    pub(crate) instance: &'a InstanceId,
    /// By this file; empty for none.
    pub(crate) file: &'a str,
    /// For this operation.
    pub(crate) operation: &'a OperationId,
    /// By this silence, which ends by itself then.
    pub(crate) silence: Option<(&'a SilenceSpec, Timestamp)>,
}

/// The end of a maintenance by this host alone: the file is removed if it is still the one of this operation, and the silence ended.
/// The file's bytes are not compared: of a second announcement that was owed and never written, the first one's file is there. A
/// silence whose Alertmanager cannot be asked is over once its time has passed there, too.
///
/// # Errors
/// Why it is still there, one line.
pub(crate) async fn undo(
    policy: &Policy,
    announced: Announced<'_>,
    now: Timestamp,
) -> Result<String, String> {
    let Announced { instance, file, operation, silence } = announced;
    let cleared = if file.is_empty() {
        Ok(String::new())
    } else {
        let cleared = Flag::new(policy.roots(), file).and_then(|flag| flag.clear(operation));
        cleared.map(|cleared| cleared.told(file, "was removed by the helper alone")).map_err(|e| e.message)
    };
    let ended = match silence {
        None => Ok(String::new()),
        Some((spec, until)) => {
            let ended = match policy.allows_alertmanager(&spec.url) {
                Ok(()) => Silence::new(spec, operation, instance).end().await,
                Err(why) => Err(why),
            };
            match ended {
                Ok(ended) => Ok(ended_text(ended)),
                Err(why) if now > until.plus(CLOCKS_APART) => {
                    Ok(format!("the silence ended by itself at {}: {why}", until.utc()))
                }
                Err(why) => Err(why),
            }
        }
    };
    // Each is tried, whatever has become of the other.
    let said = [cleared?, ended?];
    Ok(said.iter().filter(|text| !text.is_empty()).cloned().collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests;
