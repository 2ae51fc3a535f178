//! Looks at all of it.

use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quorate_common::wire::text::printable;
use quorate_model::{ActionOutcome, DurationMs, Install, PreflightSpec, Release, Required, ServiceName};

use super::plan::{self, Place, Room, Seen};
use super::{REACHED, REACHED_MAX_BYTES, Reached};
use crate::actions::diagnose::available_memory;
use crate::actions::job::{Task, on_thread};
use crate::actions::release::DPKG_LOCK;
use crate::actions::{ActionContext, ActionError};
use crate::host::dir::Folder;
use crate::host::fs;

/// Copies of an artifact on a disk at the worst moment: the one that arrived, the one that is proved, the one laid out.
const COPIES: u64 = 3;
/// Where packages are laid out and remembered.
const PACKAGE_FOLDERS: [&str; 2] = ["/usr", "/var/lib/dpkg"];
/// Longest wait for the package tools to be left alone, and for the network half's word.
const PATIENCE: DurationMs = DurationMs::from_secs(20);
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// Largest file with which a person holds the host; a larger one holds it, too, without its reason.
const HOLD_FILE_MAX_BYTES: u64 = 4096;
/// Longest reason of a person that is shown.
const HOLD_MAX_BYTES: usize = 200;

/// `host.preflight`.
pub(in crate::actions) async fn look(
    context: &ActionContext,
    service: &ServiceName,
    spec: &PreflightSpec,
    release: Option<&Release>,
    backup: bool,
) -> Result<ActionOutcome, ActionError> {
    let handle = context.service(service)?;
    let unit = handle.driver.status().await.map_err(|e| e.message);
    let mut units = Vec::new();
    for required in &spec.requires {
        let Required::Unit { unit } = required else { continue };
        context.check("looking at what it depends on")?;
        let status = context.services.unit(unit).status().await.map_err(|e| e.message);
        units.push((unit.clone(), status));
    }
    let packages_locked = match release.map(|release| &release.install) {
        Some(Install::Package { .. }) => Some(packages_locked(context).await?),
        Some(Install::Binary { .. } | Install::Archive { .. } | Install::Config(_)) | None => None,
    };
    let reached = told(context).await?;
    let wanted = folders(context, release, backup);
    let hold_file = context.hold_file.clone();
    let work = move |_: &mut crate::actions::job::Job| {
        let place = |(path, needs): (PathBuf, u64)| Place {
            room: room(&path).map_err(|e| e.to_string()),
            path: path.display().to_string(),
            needs,
        };
        Ok((wanted.into_iter().map(place).collect::<Vec<_>>(), available_memory(), hold(&hold_file)))
    };
    let (places, memory, hold) = on_thread(context, Task::new("looking at the disks"), work).await?;
    let memory = memory.ok_or_else(|| "/proc/meminfo does not say".to_owned());
    let seen = Seen { unit, places, memory, units, reached, packages_locked, hold };
    let findings = plan::judge(spec, &seen);
    match plan::verdict(&findings) {
        Ok(message) => Ok(ActionOutcome { message, findings, ..ActionOutcome::default() }),
        Err(message) => Err(ActionError::NotReady { message, findings }),
    }
}

/// Folders that the work writes to, with the bytes that it needs there. One that is missing is made by the work: its parent is
/// asked then.
fn folders(context: &ActionContext, release: Option<&Release>, backup: bool) -> Vec<(PathBuf, u64)> {
    let mut wanted = Vec::new();
    if let Some(release) = release {
        let needs = release.size.saturating_mul(COPIES);
        wanted.push((context.releases_dir.clone(), needs));
        match &release.install {
            Install::Binary { dir, file: _ } | Install::Archive { dir } => {
                wanted.push((PathBuf::from(dir), needs));
            }
            Install::Config(config) => {
                let folder = Path::new(&config.path).parent().unwrap_or(Path::new("/"));
                wanted.push((folder.to_path_buf(), needs));
            }
            Install::Package { package: _ } => {
                wanted.extend(PACKAGE_FOLDERS.map(|folder| (PathBuf::from(folder), needs)));
            }
        }
    }
    if backup {
        wanted.push((context.backup_dir.clone(), 0));
    }
    if wanted.is_empty() {
        wanted.push((context.data_dir.clone(), 0));
    }
    wanted
}

/// The file system of a folder, or of the nearest one above it that is there.
fn room(path: &Path) -> std::io::Result<Room> {
    let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
    for folder in path.ancestors() {
        match Folder::open_root(folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            Ok(folder) => {
                let (bytes, bytes_free, inodes, inodes_free) = folder.room()?;
                return Ok(Room { bytes, bytes_free, inodes, inodes_free });
            }
        }
    }
    Err(missing())
}

/// What a person wrote into the file that holds this host.
fn hold(path: &Path) -> Result<Option<String>, String> {
    match fs::read_limited(path, HOLD_FILE_MAX_BYTES) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            Ok(Some(printable(text.lines().next().unwrap_or_default(), HOLD_MAX_BYTES)))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

/// Whether somebody changes packages, and goes on doing so.
async fn packages_locked(context: &ActionContext) -> Result<Result<bool, String>, ActionError> {
    let until = tokio::time::Instant::now() + patience(context);
    loop {
        let locked = context.programs.is_locked(Path::new(DPKG_LOCK)).await.map_err(|e| e.message);
        if locked != Ok(true) || tokio::time::Instant::now() >= until {
            return Ok(locked);
        }
        pause(context).await?;
    }
}

/// Half of the time that is left for each of the two waits, so that a verdict comes before the deadline.
fn patience(context: &ActionContext) -> Duration {
    Duration::from_millis(PATIENCE.min(DurationMs(context.remaining().0 / 2)).0)
}

async fn pause(context: &ActionContext) -> Result<(), ActionError> {
    tokio::select! {
        () = tokio::time::sleep(LOOK) => {}
        () = context.cancel.cancelled() => {}
    }
    context.check("looking ahead")
}

/// What the network half found out for this execution.
async fn told(context: &ActionContext) -> Result<Result<Reached, String>, ActionError> {
    let until = tokio::time::Instant::now() + patience(context);
    loop {
        let error = match read_told(context) {
            Ok(told) => return Ok(Ok(told)),
            Err(error) => error,
        };
        if tokio::time::Instant::now() >= until {
            return Ok(Err(format!("quorate-agent did not say what it reached: {error}")));
        }
        pause(context).await?;
    }
}

/// Its owner is not trusted: no link is followed below the configured folder.
fn read_told(context: &ActionContext) -> std::io::Result<Reached> {
    let folder = Folder::open_root(&context.data_dir)?.beneath(Path::new(REACHED))?;
    let file = folder.open_read(OsStr::new(context.execution.as_str()))?;
    let mut bytes = Vec::new();
    file.take(REACHED_MAX_BYTES).read_to_end(&mut bytes)?;
    let mut told: Reached = serde_json::from_slice(&bytes)?;
    for why in told.addresses.values_mut() {
        *why = printable(why, HOLD_MAX_BYTES);
    }
    Ok(told)
}
