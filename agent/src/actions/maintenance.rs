//! `maintenance.enter` and `maintenance.exit`: a file that tells an instance that it is worked on.
//!
//! Job: the file is there, whole, from one moment to the other, and its end is owed before it is written. Must never: replace or
//! remove a file that is not ours, follow a link, or leave the folders of the host's policy.

use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use quorate_model::{
    ActionOutcome, DurationMs, InstanceId, MaintenanceSpec, ObligationId, OperationId, Reason, RiskClass,
    ServiceName, Timestamp,
};
use serde::{Deserialize, Serialize};

use super::{ActionContext, ActionError, Kept, PortError, Undo};
use crate::host::HostError;
use crate::host::fs::{Attrs, Place, Roots};

/// The line of `maintenance.enter` in the catalogue: its risk, what goes in, what it does.
pub(super) const ENTER: (RiskClass, &str, &str) = (
    RiskClass::Disruptive,
    "service, maintenance (file), time until it ends, reason",
    "Tell an instance by a file that it is worked on; the end is owed before.",
);
/// The line of `maintenance.exit`.
pub(super) const EXIT: (RiskClass, &str, &str) = (
    RiskClass::Disruptive,
    "service, maintenance (file)",
    "Tell an instance that it is worked on no longer.",
);
/// Largest file that is compared with ours.
const CONTENT_MAX_BYTES: u64 = 16 * 1024;
/// Everybody may read it: the instance's user is not known here.
const MODE: u32 = 0o644;

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

    /// Removes the file, if it is ours. Where its folder is not there, it may be on a disk that is not mounted yet, and would be
    /// there again with it: that is an error, and tried again.
    fn clear(&self, operation: &OperationId) -> Result<Cleared, PortError> {
        match self.read()?.is_of(operation) {
            None => self.place.stat_folder().map(|_| Cleared::Gone).map_err(PortError::from),
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

fn flag(context: &ActionContext, wanted: &MaintenanceSpec) -> Result<Flag, ActionError> {
    Flag::new(&context.allowed_roots, &wanted.file).map_err(|e| told("finding the maintenance file", e))
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
    let there = flag.read().map_err(|e| told("reading the maintenance file", e))?;
    // What cannot be written is not owed: without its folder the end of it could not be told from a disk that is away.
    flag.place.stat_folder().map_err(|e| told("finding its folder", e.into()))?;
    if there.is_of(&context.operation) == Some(false) {
        let why = format!("{} is there already and was not written for this operation", wanted.file);
        return Err(ActionError::Refused { reason: Reason::WrongState, why });
    }
    let now = context.clock.wall();
    let until = now.plus(exit_within);
    let content = content(context, now, until, reason)?;
    let id = ObligationId::new(format!("{}:maintenance", context.execution))
        .map_err(|e| told("naming what is owed", PortError::new(Reason::Internal, e.to_string())))?;
    let (file, operation) = (wanted.file.clone(), context.operation.clone());
    let undo = Undo::Maintenance { instance: instance(context, service), file, operation };
    let opened = context.obligations.open(&id, undo, exit_within).await;
    opened.map_err(|e| told("owing the end of the maintenance", e))?;
    let attrs = Attrs { mode: MODE, owner: None };
    if let Err(error) = flag.place.write(context.execution.as_str(), content.as_bytes(), attrs) {
        // What is there now is the old file or none: the undo looks whether it is ours.
        return Err(told("writing the maintenance file", error.into()));
    }
    context.obligations.hold(&id).await.map_err(|e| told("holding the maintenance", e))?;
    let message = format!("{} says so until {} at the latest", wanted.file, until.utc());
    Ok(ActionOutcome { message, ..ActionOutcome::default() })
}

/// `maintenance.exit`.
pub(super) async fn exit(
    context: &ActionContext,
    service: &ServiceName,
    wanted: &MaintenanceSpec,
) -> Result<ActionOutcome, ActionError> {
    let cleared = flag(context, wanted)?
        .clear(&context.operation)
        .map_err(|e| told("removing the maintenance file", e))?;
    let settled =
        context.obligations.settle(&instance(context, service), Kept::Maintenance(&wanted.file)).await;
    settled.map_err(|e| told("discharging the end of the maintenance", e))?;
    let message = match cleared {
        Cleared::Removed => format!("{} is removed", wanted.file),
        Cleared::Gone => format!("{} was gone already", wanted.file),
        Cleared::NotOurs => format!("{} was written by somebody else meanwhile and stays", wanted.file),
    };
    Ok(ActionOutcome { message, ..ActionOutcome::default() })
}

/// The end of a maintenance by this host alone: the file is removed if it is still the one of this operation. Its bytes are not
/// compared: of a second announcement that was owed and never written, the first one's file is there.
///
/// # Errors
/// Why it is still there, one line.
pub(crate) fn undo(roots: &[PathBuf], file: &str, operation: &OperationId) -> Result<String, String> {
    let cleared = Flag::new(roots, file).and_then(|flag| flag.clear(operation));
    match cleared.map_err(|e| e.message)? {
        Cleared::Removed => Ok(format!("{file} was removed by the helper alone")),
        Cleared::Gone => Ok(format!("{file} was gone already")),
        Cleared::NotOurs => Ok(format!("{file} was written by somebody else meanwhile and stays")),
    }
}

#[cfg(test)]
mod tests;
