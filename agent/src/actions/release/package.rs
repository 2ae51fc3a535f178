//! Debian packages: `dpkg` installs exactly the staged file, and nothing else changes.
//!
//! Must never: let a resolver choose. `apt-get` is asked what it would do, and anything but this one package is a refusal before
//! the service is touched.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use quorate_common::wire::text::printable;
use quorate_model::{ActionOutcome, DurationMs, Release};

use super::record::{Record, Staged};
use super::stage::Copy;
use crate::actions::job::{Task, on_thread};
use crate::actions::{ActionContext, ActionError};
use crate::host::ExecOutcome;
use crate::host::ExecSpec;
use crate::host::dir::Folder;

/// The programs, as Debian places them.
const DPKG: &str = "/usr/bin/dpkg";
const DPKG_DEB: &str = "/usr/bin/dpkg-deb";
const DPKG_QUERY: &str = "/usr/bin/dpkg-query";
const APT_GET: &str = "/usr/bin/apt-get";
/// Held by whatever changes packages.
pub(in crate::actions) const LOCK: &str = "/var/lib/dpkg/lock-frontend";
/// Where the files are kept, in the helper's own folder.
const FILES: &str = "packages";
/// A look takes milliseconds; reading the lists of all packages some seconds.
const LOOK_LIMIT: Duration = Duration::from_secs(60);
/// An installation has at least this long, however little of the deadline is left: one that is cut leaves half a package.
const INSTALL_MIN: Duration = Duration::from_secs(60);
/// Time between looks at the lock.
const LOCK_LOOK: Duration = Duration::from_millis(500);
/// Kept of what a program says.
const TEXT_MAX: usize = 400;
/// Kept of its output.
const TAIL_MAX_BYTES: usize = 4 * 1024;

/// A package that the host lets be installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Package {
    pub(super) name: String,
}

fn blocked(why: impl Into<String>) -> ActionError {
    ActionError::Blocked { why: why.into() }
}

fn said(outcome: &ExecOutcome) -> String {
    let stream = if outcome.stderr.total_bytes > 0 { &outcome.stderr } else { &outcome.stdout };
    printable(stream.tail_text(TAIL_MAX_BYTES).trim(), TEXT_MAX)
}

async fn run(context: &ActionContext, argv: &[&str], limit: Duration) -> Result<ExecOutcome, ActionError> {
    let env = [
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("DEBIAN_FRONTEND", "noninteractive"),
        ("LC_ALL", "C.UTF-8"),
    ];
    let spec = ExecSpec {
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        env: env
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into_iter()
            .collect::<BTreeMap<_, _>>(),
        cwd: None,
        deadline: limit,
    };
    let program = argv.first().copied().unwrap_or_default();
    context.programs.run(&spec).await.map_err(|e| ActionError::port(format!("running {program}"), e))
}

/// Output of a program that must end well.
async fn ask(context: &ActionContext, argv: &[&str]) -> Result<String, ActionError> {
    let outcome = run(context, argv, LOOK_LIMIT).await?;
    if !outcome.is_success() {
        let program = argv.first().copied().unwrap_or_default();
        return Err(ActionError::BadArtifact { why: format!("{program}: {}", said(&outcome)) });
    }
    Ok(outcome.stdout.tail_text(64 * 1024))
}

/// Where a package's file is kept.
fn file_name(package: &str, artifact: &str) -> String {
    format!("{package}_{artifact}.deb")
}

fn path_of(context: &ActionContext, package: &Package, staged: &Staged) -> PathBuf {
    context.releases_dir.join(FILES).join(file_name(&package.name, &staged.artifact))
}

/// What a package's control file says, against what was asked for. Pure.
pub(super) fn fits(fields: &str, package: &str, version: &str, architecture: &str) -> Result<(), String> {
    let field = |name: &str| {
        let mut values = fields.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        (values.next(), values.next().is_some())
    };
    for (name, wanted) in
        [("Package", &[package][..]), ("Version", &[version]), ("Architecture", &[architecture, "all"])]
    {
        match field(name) {
            (Some(value), false) if wanted.contains(&value.trim()) => {}
            (value, _) => {
                let is = printable(value.unwrap_or("missing"), 64);
                return Err(format!("its {name} is {is}, it should be {}", wanted.join(" or ")));
            }
        }
    }
    Ok(())
}

/// Keeps a proved file after a look at what it says it is.
pub(super) async fn keep(
    context: &ActionContext,
    package: &Package,
    release: &Release,
    copy: Copy,
) -> Result<String, ActionError> {
    let path = copy.path.display().to_string();
    let fields = ask(context, &[DPKG_DEB, "-f", &path, "Package", "Version", "Architecture"]).await?;
    let own = ask(context, &[DPKG, "--print-architecture"]).await?;
    fits(&fields, &package.name, release.version.as_str(), own.trim())
        .map_err(|why| ActionError::BadArtifact { why })?;
    let (store, name) = (context.releases_dir.clone(), file_name(&package.name, release.artifact.as_str()));
    on_thread(context, Task::new("keeping the package"), move |_| {
        let failed = |e| ActionError::io("keeping", store.join(FILES).join(&name), e);
        let root = Folder::make_root(&store).map_err(failed)?;
        let files = root.make_folder(OsStr::new(FILES), 0o700).map_err(failed)?;
        copy.keep(&files, OsStr::new(&name)).map_err(failed)
    })
    .await?;
    Ok(release.artifact.to_string())
}

/// Whether the kept file is still what was staged.
pub(super) async fn is_intact(
    context: &ActionContext,
    package: &Package,
    staged: &Staged,
) -> Result<bool, ActionError> {
    let path = path_of(context, package, staged);
    let wanted = staged.artifact.clone();
    on_thread(context, Task::new("checking the package"), move |job| {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(false) };
        let opened = Folder::open_root(parent).and_then(|folder| folder.open_read(name));
        let mut file = match opened {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(ActionError::io("opening", &path, e)),
            Ok(file) => file,
        };
        Ok(super::tree::digest_of(&mut file, &path, job)? == wanted)
    })
    .await
}

/// Removes a kept file.
pub(super) fn remove(releases_dir: &Path, package: &Package, staged: &Staged) -> std::io::Result<()> {
    let folder = Folder::open_root(&releases_dir.join(FILES))?;
    folder.remove(&OsString::from(file_name(&package.name, &staged.artifact)))?;
    folder.sync()
}

/// Version that is installed, and whether it is only half so. Pure.
pub(super) fn read_status(text: &str) -> Result<(Option<String>, bool), &'static str> {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let Some(line) = lines.next() else { return Ok((None, false)) };
    if lines.next().is_some() {
        return Err("it is installed for several architectures");
    }
    let (status, version) =
        line.split_once('|').ok_or("dpkg-query gave another answer than it was asked for")?;
    match status.chars().nth(1) {
        Some('n' | 'c') => Ok((None, false)),
        // Triggers of others are awaited; the package itself is there.
        Some('i' | 'W' | 't') if status.chars().nth(2) != Some('R') => {
            Ok((Some(version.trim().to_owned()), false))
        }
        _ => Ok((Some(version.trim().to_owned()), true)),
    }
}

/// Version that is installed, and whether it is only half so.
pub(super) async fn installed(
    context: &ActionContext,
    package: &Package,
) -> Result<(Option<String>, bool), ActionError> {
    let argv = [DPKG_QUERY, "-W", "-f", "${db:Status-Abbrev}|${Version}\\n", &package.name];
    let outcome = run(context, &argv, LOOK_LIMIT).await?;
    match outcome.end {
        crate::host::exec::ExecEnd::Code(0) => {
            read_status(&outcome.stdout.tail_text(TAIL_MAX_BYTES)).map_err(blocked)
        }
        // Not known at all.
        crate::host::exec::ExecEnd::Code(1) => Ok((None, false)),
        crate::host::exec::ExecEnd::Code(_)
        | crate::host::exec::ExecEnd::Signal(_)
        | crate::host::exec::ExecEnd::TimedOut => Err(blocked(format!("{DPKG_QUERY}: {}", said(&outcome)))),
    }
}

/// Packages that an installation would touch, from what `apt-get -s` says. Pure.
pub(super) fn others(simulated: &str, package: &str) -> Vec<String> {
    let touched = simulated.lines().filter_map(|line| {
        let (verb, rest) = line.split_once(' ')?;
        matches!(verb, "Inst" | "Remv" | "Purg").then(|| rest.split_whitespace().next())?
    });
    touched.filter(|name| name.split(':').next() != Some(package)).map(|name| printable(name, 128)).collect()
}

/// Refuses what could not be installed alone, or not be undone; waits until nobody else changes packages.
///
/// Returns how long it waited.
pub(super) async fn ready(
    context: &ActionContext,
    package: &Package,
    record: &Record,
    staged: &Staged,
    used: Option<&str>,
) -> Result<DurationMs, ActionError> {
    if let Some(version) = used.filter(|version| *version != staged.version) {
        let kept = kept(record, version);
        let is_kept = match kept {
            Some(kept) => is_intact(context, package, kept).await?,
            None => false,
        };
        if !is_kept {
            return Err(blocked(format!(
                "version {version} of {} is installed and its file is not kept here, so there would be no way back: stage it first",
                package.name
            )));
        }
    }
    let begun = context.clock.monotonic();
    unlocked(context).await?;
    let waited = context.clock.monotonic().minus(begun);
    let path = path_of(context, package, staged).display().to_string();
    let argv = [
        APT_GET,
        "-s",
        "-q",
        "--no-install-recommends",
        "--allow-downgrades",
        "-o",
        "Debug::NoLocking=1",
        "-o",
        "Dir::Cache::pkgcache=",
        "-o",
        "Dir::Cache::srcpkgcache=",
        "install",
        &path,
    ];
    let outcome = run(context, &argv, LOOK_LIMIT).await?;
    let text = outcome.stdout.tail_text(64 * 1024);
    if !outcome.is_success() {
        return Err(blocked(format!(
            "{} can not be installed: {}",
            package.name,
            printable(text.trim(), TEXT_MAX)
        )));
    }
    let others = others(&text, &package.name);
    if others.is_empty() {
        return Ok(waited);
    }
    Err(blocked(format!(
        "{} would change other packages: {}",
        package.name,
        printable(&others.join(", "), TEXT_MAX)
    )))
}

/// The newest kept file of a version.
pub(super) fn kept<'r>(record: &'r Record, version: &str) -> Option<&'r Staged> {
    record
        .newest()
        .into_iter()
        .filter_map(|name| record.staged.get(&name))
        .find(|staged| staged.version == version)
}

/// Waits until nobody changes packages, as long as the deadline lets it.
pub(super) async fn unlocked(context: &ActionContext) -> Result<(), ActionError> {
    loop {
        let locked = context.programs.is_locked(Path::new(LOCK)).await;
        if !locked.map_err(|e| ActionError::port("looking at dpkg's lock", e))? {
            return Ok(());
        }
        context.leave_if_stopping().await;
        context.check("waiting for dpkg's lock")?;
        tokio::select! {
            () = tokio::time::sleep(LOCK_LOOK) => {}
            () = context.cancel.cancelled() => {}
            () = context.leaving.asked.cancelled() => {}
        }
    }
}

/// Installs a kept version, or removes the package. Runs to its end, canceled or not.
pub(super) async fn switch(
    context: &ActionContext,
    package: &Package,
    record: &Record,
    to: Option<&str>,
) -> Result<(), ActionError> {
    let limit = Duration::from_millis(context.remaining().0).max(INSTALL_MIN);
    let until = tokio::time::Instant::now() + limit;
    let path = match to {
        None => None,
        Some(version) => {
            let staged = kept(record, version);
            let staged =
                staged.ok_or_else(|| blocked(format!("the file of version {version} is not kept here")))?;
            Some(path_of(context, package, staged).display().to_string())
        }
    };
    let argv = match &path {
        Some(path) => vec![DPKG, "--force-confold", "--no-pager", "-i", path],
        None => vec![DPKG, "--no-pager", "--remove", &package.name],
    };
    loop {
        let left = until.saturating_duration_since(tokio::time::Instant::now());
        let outcome = run(context, &argv, left.max(LOCK_LOOK)).await?;
        if outcome.is_success() {
            break;
        }
        // Taken by somebody else since we looked; dpkg takes it before it changes anything.
        let text = said(&outcome);
        let locked = text.contains("lock") && text.contains("another process");
        if locked && tokio::time::Instant::now() < until {
            context.leave_if_stopping().await;
            tokio::time::sleep(LOCK_LOOK).await;
            continue;
        }
        let tail = outcome.stderr.tail_text(TAIL_MAX_BYTES);
        let outcome = ActionOutcome { output_tail: tail, ..ActionOutcome::default() };
        return Err(ActionError::Failed { message: format!("{DPKG}: {text}"), outcome: Box::new(outcome) });
    }
    let is = installed(context, package).await?;
    if is == (to.map(str::to_owned), false) {
        return Ok(());
    }
    Err(blocked(format!("after dpkg ended well, {} is {is:?}", package.name)))
}
