//! Where the workspace and its binaries are.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Root of the checkout.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_path_buf)
}

/// Arguments of cargo that build what a fleet is started from: with the features of the whole workspace, so that no
/// dependency is built once more, and without its other programs, which would pull in this library again.
pub const BUILD: [&str; 10] = [
    "build",
    "--workspace",
    "--bin",
    "quorate",
    "--bin",
    "quorate-agent",
    "--bin",
    "quorate-helper",
    "--bin",
    "quorate-coordinator",
];

/// Set when everything is built already: cargo is not asked again, which would wait for whoever holds its lock.
const BUILT: &str = "QUORATE_BUILT";

/// Folder of the built binaries, built once per test process in the profile of the tests.
///
/// # Panics
/// When the build fails: then nothing that follows means anything.
#[must_use]
pub fn binaries() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        build(&BUILD);
        // A test binary lies in target/PROFILE/deps, the daemons one above.
        let test = std::env::current_exe().expect("a test knows its own path");
        test.ancestors()
            .find(|dir| dir.join("quorate").is_file())
            .expect("the built binaries lie above the test binary")
            .to_path_buf()
    })
}

/// Has cargo build something of the workspace, in the profile of the tests, unless told that all is built.
///
/// # Panics
/// When the build fails: then nothing that follows means anything.
pub fn build(arguments: &[&str]) {
    if std::env::var_os(BUILT).is_some() {
        return;
    }
    let mut build = Command::new(env!("CARGO"));
    build.current_dir(root()).args(arguments).arg("--locked");
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    let output = build.output().expect("cargo runs");
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
