//! What the hosts install: Debian packages of this tree, built by the command that the administrator's guide names.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::workspace;

/// The packages that are built, by the beginning of their file names.
const NAMES: [&str; 3] = ["quorate_", "quorate-agent_", "quorate-coordinator_"];

/// The folder of packages that are there already: those of a release, for instance.
const GIVEN: &str = "QUORATE_LAB_PACKAGES";

/// Builds the programs as the tests have them, and packs them; or takes the packages that it is given.
///
/// # Errors
/// What the build says.
pub(super) fn build() -> anyhow::Result<Vec<PathBuf>> {
    if let Some(given) = std::env::var_os(GIVEN) {
        return found(&workspace::root().join(given));
    }
    let programs = workspace::binaries();
    // The manual pages are made by a program of this tree; nothing else of the tests needs it.
    workspace::build(&["build", "--workspace", "--bin", "quorate-pages"]);
    let target = programs.parent().context("programs are in a profile's folder")?;
    let script = workspace::root().join("deploy/build.sh");
    let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
    let output = Command::new(&script)
        .arg("--no-build")
        .env("QUORATE_PROFILE", profile)
        .env("CARGO_TARGET_DIR", target)
        .current_dir(workspace::root())
        .output()
        .with_context(|| script.display().to_string())?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {}", script.display(), said.trim());
    found(&workspace::root().join("target/dist"))
}

fn found(dist: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut packages = Vec::new();
    for entry in fs::read_dir(dist).with_context(|| dist.display().to_string())? {
        let path = entry?.path();
        if path.extension() == Some(OsStr::new("deb")) {
            packages.push(path);
        }
    }
    packages.sort();
    for name in NAMES {
        let count = packages.iter().filter(|path| file_name(path).starts_with(name)).count();
        ensure!(count == 1, "{count} packages {name}* in {}", dist.display());
    }
    Ok(packages)
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(OsStr::to_str).unwrap_or_default()
}
