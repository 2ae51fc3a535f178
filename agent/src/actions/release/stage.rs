//! `artifact.stage`: waits for the bytes, copies and proves them, lays them out beside what is in use.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use quorate_common::wire::text::printable;
use quorate_model::release::ARTIFACT_MAX_BYTES;
use quorate_model::{ActionOutcome, Digest, Install, Release, ReleaseReceipt, ServiceName};
use sha2::{Digest as _, Sha256};

use super::archive::{self, Look, Totals};
use super::exec::{Place, staged_name};
use super::place::Laid;
use super::record::{Record, Staged};
use super::trust::{self, Trust};
use super::{package, tree};
use crate::actions::job::{Job, Task, on_thread};
use crate::actions::{ActionContext, ActionError};
use crate::config::SPOOL;
use crate::host::dir::{self, Folder, Kind};
use crate::host::exec::hex;

/// Time between looks for the spool's file; the fetch of an artifact takes seconds.
const LOOK: Duration = Duration::from_millis(200);
/// Where copies are proved, in the helper's own folder.
const STAGING: &str = "staging";
/// A release that is being laid out.
const UNFINISHED: &str = ".tmp";
/// Most leftovers that are looked at.
const NAMES_MAX: usize = 10_000;
/// Longest reason of the network half that is passed on.
const ERROR_MAX_BYTES: usize = 400;
/// Room of a name and its folder on a file system.
const NAME_BYTES: u64 = 4096;

/// `artifact.stage`.
pub(in crate::actions) async fn stage(
    context: &ActionContext,
    service: &ServiceName,
    release: &Release,
) -> Result<ActionOutcome, ActionError> {
    context.service(service)?;
    let place = Place::new(context, release)?;
    if !(1..=ARTIFACT_MAX_BYTES).contains(&release.size) {
        return Err(ActionError::invalid("size", "it is no size of an artifact"));
    }
    let trust = trust::choose(&context.install, &release.signature)?;
    if let Some(staged) = place.staged_intact(context, release).await?
        && staged.signed_by == trust.name()
        && staged.key == trust.key()
    {
        return Ok(outcome(format!("{} was staged already", release.version), &staged));
    }
    wait(context, release).await?;
    let copy = copy(context, release, &trust).await?;
    let content = match (&place, &release.install) {
        (Place::Folder(laid), Install::Binary { file, .. }) => {
            lay_out(context, laid, release, copy, What::Executable(file.clone())).await?
        }
        (Place::Folder(laid), Install::Archive { .. }) => {
            lay_out(context, laid, release, copy, What::Archive).await?
        }
        (Place::Package(package), _) => package::keep(context, package, release, copy).await?,
        (Place::Folder(_), Install::Package { .. } | Install::Config(_)) => {
            return Err(ActionError::invalid("install", "it has no folder"));
        }
    };
    let staged = Staged {
        version: release.version.to_string(),
        artifact: release.artifact.to_string(),
        signed_by: trust.name().to_owned(),
        key: trust.key().to_owned(),
        content,
        at_ms: context.clock.wall().0,
    };
    let mut record = Record::load(&context.releases_dir, &place.key())?;
    record.staged.insert(staged_name(release), staged.clone());
    record.store(&context.releases_dir)?;
    let by = if staged.signed_by.is_empty() { "unsigned" } else { &staged.signed_by };
    Ok(outcome(format!("{} is staged, {} bytes, signed by: {by}", release.version, release.size), &staged))
}

/// A proved copy of an artifact, and on whose word it stands.
pub(in crate::actions) async fn bring(
    context: &ActionContext,
    release: &Release,
) -> Result<(Copy, Trust), ActionError> {
    let trust = trust::choose(&context.install, &release.signature)?;
    wait(context, release).await?;
    Ok((copy(context, release, &trust).await?, trust))
}

fn outcome(message: String, staged: &Staged) -> ActionOutcome {
    let receipt = ReleaseReceipt {
        version: staged.version.clone(),
        artifact: staged.artifact.clone(),
        previous: String::new(),
        signed_by: staged.signed_by.clone(),
        replaces: String::new(),
    };
    ActionOutcome { message, release: Some(receipt), ..ActionOutcome::default() }
}

/// The network half's folder of artifacts. Its owner is not trusted: no link is followed below the configured folder.
fn arrivals(data_dir: &Path) -> std::io::Result<Folder> {
    Folder::open_root(data_dir)?.beneath(Path::new(SPOOL))
}

/// Waits until the file is there. Anything else of that name is refused when it is opened.
async fn wait(context: &ActionContext, release: &Release) -> Result<(), ActionError> {
    let name = OsString::from(release.artifact.as_str());
    loop {
        let seen = arrivals(&context.data_dir).and_then(|folder| folder.look(&name));
        if matches!(seen, Ok(Some(_))) {
            return Ok(());
        }
        match context.check("waiting for the artifact") {
            Ok(()) => {}
            Err(ActionError::DeadlineExceeded(_)) => {
                return Err(ActionError::Unavailable { why: why_not(&context.data_dir, &release.artifact) });
            }
            Err(other) => return Err(other),
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = context.cancel.cancelled() => {}
        }
    }
}

/// What the network half says of an artifact that does not come.
fn why_not(data_dir: &Path, artifact: &Digest) -> String {
    let read = || -> std::io::Result<String> {
        let file = arrivals(data_dir)?.open_read(OsStr::new(&format!("{artifact}.error")))?;
        let mut bytes = Vec::new();
        file.take(ERROR_MAX_BYTES as u64).read_to_end(&mut bytes)?;
        Ok(printable(&String::from_utf8_lossy(&bytes), ERROR_MAX_BYTES))
    };
    read().ok().filter(|text| !text.is_empty()).unwrap_or_else(|| "quorate-agent did not say why".to_owned())
}

/// A proved copy in a folder that only the helper can write. Dropped, it is removed.
pub(in crate::actions) struct Copy {
    folder: Folder,
    name: OsString,
    pub(in crate::actions) file: File,
    pub(in crate::actions) path: PathBuf,
}

impl Copy {
    /// Moves it into another folder of the helper's own, for good.
    pub(super) fn keep(self, into: &Folder, name: &OsStr) -> std::io::Result<()> {
        self.file.sync_all()?;
        self.folder.move_into(&self.name, into, name)?;
        into.sync()
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // What can not be removed now is replaced by the next copy of the same artifact.
        let _ = self.folder.remove(&self.name);
    }
}

/// Copies the spool's file once, hashing and verifying exactly the bytes that are written.
async fn copy(context: &ActionContext, release: &Release, trust: &Trust) -> Result<Copy, ActionError> {
    let (data_dir, store) = (context.data_dir.clone(), context.releases_dir.clone());
    let (release, trust, reserve) = (release.clone(), trust.clone(), context.limits.reserve_bytes);
    let task = Task { total_bytes: release.size, ..Task::new("verifying the artifact") };
    on_thread(context, task, move |job| copy_now(&data_dir, &store, &release, &trust, reserve, job)).await
}

fn copy_now(
    data_dir: &Path,
    store: &Path,
    release: &Release,
    trust: &Trust,
    reserve: u64,
    job: &mut Job,
) -> Result<Copy, ActionError> {
    let name = OsString::from(release.artifact.as_str());
    let from = data_dir.join(SPOOL).join(&name);
    let wrong = |why: String| ActionError::BadArtifact { why };
    let folder = arrivals(data_dir).map_err(|e| ActionError::io("opening", &from, e))?;
    let mut source = folder.open_read(&name).map_err(|e| {
        if dir::is_other_kind(&e) {
            wrong("what lies in the spool is no regular file".to_owned())
        } else {
            ActionError::io("opening", &from, e)
        }
    })?;
    let seen = dir::seen(&source).map_err(|e| ActionError::io("looking at", &from, e))?;
    if seen.kind != Kind::File || seen.size != release.size {
        return Err(wrong(format!("{} bytes came, {} were declared", seen.size, release.size)));
    }
    let root = Folder::make_root(store).map_err(|e| ActionError::io("making", store, e))?;
    room(&root, release.size, reserve)?;
    let staging =
        root.make_folder(OsStr::new(STAGING), 0o700).map_err(|e| ActionError::io("making", store, e))?;
    clean(&staging)?;
    let path = staging.path().join(&name);
    let file = staging.create_new(&name, 0o600).map_err(|e| ActionError::io("making", &path, e))?;
    let mut copy = Copy { folder: staging, name, file, path };
    let mut hash = Sha256::new();
    let copied = trust::check(trust, &release.signature, |signed| {
        // One byte more than declared is enough to know: a file that grows is not followed.
        let mut bounded = (&mut source).take(release.size.saturating_add(1));
        let copied = tree::copy(&mut bounded, &from, &mut copy.file, job, &mut |bytes| {
            hash.update(bytes);
            signed(bytes);
        })?;
        let got = hex(&hash.finalize_reset());
        if copied != release.size || got != release.artifact.as_str() {
            return Err(ActionError::BadArtifact {
                why: format!(
                    "{copied} bytes with sha256 {got} came, {} with {} were declared",
                    release.size, release.artifact
                ),
            });
        }
        Ok(copied)
    })?;
    tracing::debug!(copied, "artifact copied and proved");
    copy.file.seek(SeekFrom::Start(0)).map_err(|e| ActionError::io("reading", &copy.path, e))?;
    Ok(copy)
}

/// Removes what crashes left.
fn clean(folder: &Folder) -> Result<(), ActionError> {
    let failed = |e| ActionError::io("cleaning", folder.path(), e);
    for name in folder.names(NAMES_MAX).map_err(failed)? {
        folder.remove_tree(&name).map_err(failed)?;
    }
    Ok(())
}

/// Refuses when it would not fit and leave the reserve.
fn room(folder: &Folder, bytes: u64, reserve: u64) -> Result<(), ActionError> {
    let failed = |e| ActionError::io("asking for free space of", folder.path(), e);
    let free_bytes = folder.free_bytes().map_err(failed)?;
    let needed_bytes = bytes.saturating_add(reserve);
    if free_bytes < needed_bytes {
        return Err(ActionError::LowSpace { path: folder.path().to_path_buf(), needed_bytes, free_bytes });
    }
    Ok(())
}

enum What {
    Executable(String),
    Archive,
}

/// Lays a proved copy out under another name, gives it its own when it is whole, and fingerprints it.
async fn lay_out(
    context: &ActionContext,
    laid: &Laid,
    release: &Release,
    copy: Copy,
    what: What,
) -> Result<String, ActionError> {
    let (laid, release, reserve) = (laid.clone(), release.clone(), context.limits.reserve_bytes);
    let task = Task { total_bytes: release.size, ..Task::new("laying the release out") };
    on_thread(context, task, move |job| lay_out_now(&laid, &release, copy, &what, reserve, job)).await
}

fn lay_out_now(
    laid: &Laid,
    release: &Release,
    mut copy: Copy,
    what: &What,
    reserve: u64,
    job: &mut Job,
) -> Result<String, ActionError> {
    let name = staged_name(release);
    let (name_os, unfinished) = (OsString::from(&name), OsString::from(format!("{name}{UNFINISHED}")));
    let totals = match what {
        What::Executable(_) => Totals { names: 1, files: 1, bytes: release.size },
        // Nothing of an archive is written before all of it was found good.
        What::Archive => archive::read(&mut copy.file, release.size, &mut Look, job)?,
    };
    let releases = laid.releases()?;
    let failed = |e| ActionError::io("laying out", releases.path().join(&name), e);
    room(&releases, totals.bytes.saturating_add(totals.names.saturating_mul(NAME_BYTES)), reserve)?;
    let used = laid.used()?;
    if used.as_deref() == Some(Laid::text(&name).as_str())
        && releases.look(&name_os).map_err(failed)?.is_some()
    {
        let path = releases.path().join(&name);
        let why = "it is in use and not what was staged; a release's own folder is not for data".to_owned();
        return Err(ActionError::Occupied { path, why });
    }
    for leftover in releases.names(NAMES_MAX).map_err(failed)? {
        if leftover.as_encoded_bytes().ends_with(UNFINISHED.as_bytes()) {
            releases.remove_tree(&leftover).map_err(failed)?;
        }
    }
    let made = releases.create_folder(&unfinished, 0o700).map_err(failed)?;
    let written = match what {
        What::Executable(file) => tree::executable(&made, file, &mut copy.file, &copy.path, job),
        What::Archive => {
            archive::read(&mut copy.file, release.size, &mut tree::Unpack::new(&made), job).map(drop)
        }
    };
    let content = written.and_then(|()| tree::fingerprint(&made, job));
    let published = content.and_then(|content| {
        made.set_mode(0o755).map_err(failed)?;
        made.sync_file_system().map_err(failed)?;
        // Something of that name that is not what was staged: nobody uses it.
        releases.remove_tree(&name_os).map_err(failed)?;
        releases.rename(&unfinished, &name_os).map_err(failed)?;
        releases.sync().map_err(failed)?;
        Ok(content)
    });
    if published.is_err() {
        // What can not be removed now goes with the next attempt.
        let _ = releases.remove_tree(&unfinished);
    }
    published
}
