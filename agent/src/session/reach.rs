//! Looks, for the helper that has no network, at what only the network half sees before the work on an instance begins: the
//! addresses that it depends on, and how far this clock is from the coordinators'.
//!
//! Must never: send a byte to an address, or reach for one that no assignment names.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use quorate_common::task::{BoxError, Shutdown};
use quorate_model::session::NodeWork;
use quorate_model::{ActionSpec, ExecutionId, Required};
use tokio::net::TcpStream;

use super::stream::Context;
use crate::actions::{REACHED, Reached};
use crate::host::dir::Folder;

/// Longest wait for one address; all are tried at once.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// Longest wait for the first word about the time, in a session that has just begun.
const CLOCK_WITHIN: Duration = Duration::from_secs(10);
/// Time between two looks for that word.
const LOOK: Duration = Duration::from_millis(100);
/// A file that was not written is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Most leftovers that are looked at.
const NAMES_MAX: usize = 10_000;

/// The addresses that each execution asks for.
fn wanted(work: &NodeWork) -> BTreeMap<ExecutionId, Vec<String>> {
    let mut all = BTreeMap::new();
    for assignment in &work.assignments {
        let ActionSpec::HostPreflight { preflight, .. } = &assignment.action else { continue };
        let addresses = preflight.requires.iter().filter_map(|required| match required {
            Required::Address { address } => Some(address.clone()),
            Required::Unit { .. } => None,
        });
        all.insert(assignment.execution.clone(), addresses.collect());
    }
    all
}

/// Looks until it is told to stop. Each execution is told once; what nobody asks for any more is removed.
pub(super) async fn run(context: Arc<Context>, shutdown: Shutdown) -> Result<(), BoxError> {
    loop {
        let all = wanted(&context.hub.current());
        let failed = match shutdown.run_until(round(&context, &all)).await {
            None => return Ok(()),
            Some(Ok(())) => false,
            Some(Err(error)) => {
                tracing::warn!(%error, "what was reached can not be written down for the helper");
                true
            }
        };
        tokio::select! {
            () = shutdown.triggered() => return Ok(()),
            () = context.hub.reach.notified() => {}
            () = tokio::time::sleep(RETRY), if failed => {}
        }
    }
}

async fn round(context: &Context, all: &BTreeMap<ExecutionId, Vec<String>>) -> io::Result<()> {
    let path = context.settings.current().data_dir.join(REACHED);
    let known = match Folder::open_root(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && all.is_empty() => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        opened => sweep(&opened?, all)?,
    };
    for (execution, addresses) in all {
        if known.iter().any(|name| name == OsStr::new(execution.as_str())) {
            continue;
        }
        let told = look(context, addresses).await;
        write(&path, execution, &told)?;
    }
    Ok(())
}

/// Removes what is not asked for, and names what is left.
fn sweep(folder: &Folder, all: &BTreeMap<ExecutionId, Vec<String>>) -> io::Result<Vec<OsString>> {
    let mut left = Vec::new();
    for name in folder.names(NAMES_MAX)? {
        if name.to_str().is_some_and(|name| all.keys().any(|id| id.as_str() == name)) {
            left.push(name);
        } else {
            folder.remove(&name)?;
        }
    }
    Ok(left)
}

async fn look(context: &Context, addresses: &[String]) -> Reached {
    let each = addresses.iter().map(|address| async move { (address.clone(), reach(address).await) });
    let addresses = futures::future::join_all(each).await.into_iter().collect();
    let until = tokio::time::Instant::now() + CLOCK_WITHIN;
    while context.hub.offset_ms().is_none() && tokio::time::Instant::now() < until {
        tokio::time::sleep(LOOK).await;
    }
    Reached { offset_ms: context.hub.offset_ms(), addresses }
}

/// Why an address could not be reached; empty when it was.
async fn reach(address: &str) -> String {
    match tokio::time::timeout(CONNECT_WITHIN, TcpStream::connect(address)).await {
        Ok(Ok(_)) => String::new(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {CONNECT_WITHIN:?}"),
    }
}

/// Under its name only when it is whole.
fn write(path: &Path, execution: &ExecutionId, told: &Reached) -> io::Result<()> {
    let folder = Folder::make_root(path)?;
    let part = OsString::from(format!("{execution}.part"));
    folder.remove(&part)?;
    folder.create_new(&part, 0o600)?.write_all(&serde_json::to_vec(told)?)?;
    folder.rename(&part, OsStr::new(execution.as_str()))
}
