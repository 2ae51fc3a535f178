//! Namespaces of our own: the test program starts itself again inside them.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, ensure};

use super::{cgroup, packages, root};
use crate::workspace;

/// Tells the second start from the first, and carries the packages' paths.
const INSIDE: &str = "QUORATE_LAB_INSIDE";
/// Programs without which there is no lab, and Debian's package of each.
const TOOLS: [(&str, &str); 12] = [
    ("debootstrap", "debootstrap"),
    ("systemd-nspawn", "systemd-container"),
    ("ip", "iproute2"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("mount", "mount"),
    ("mkfs.ext4", "e2fsprogs"),
    ("ssh-keygen", "openssh-client"),
    ("prometheus", "prometheus"),
    ("haproxy", "haproxy"),
    ("prometheus-alertmanager", "prometheus-alertmanager"),
    ("cargo-deb", "cargo install cargo-deb"),
];

/// What hosts are made from.
#[derive(Clone, Debug)]
pub struct Ground {
    /// The shared root.
    pub root: PathBuf,
    /// Packages of this tree.
    pub packages: Vec<PathBuf>,
    /// The program whose `dev ledger` is the sample service.
    pub sample: PathBuf,
}

/// Why there can be no lab here, in one sentence.
#[must_use]
pub fn why_not() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("it needs root, for containers with systemd in them".to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = |tool: &str| std::env::split_paths(&path).any(|dir| dir.join(tool).is_file());
    let missing: Vec<&str> =
        TOOLS.iter().filter(|(tool, _)| !found(tool)).map(|(_, package)| *package).collect();
    (!missing.is_empty()).then(|| format!("these are missing: {}", missing.join(", ")))
}

/// Runs `work` inside namespaces of its own; outside, builds what hosts are made from and starts itself again there.
///
/// # Errors
/// When there can be no lab, with the reason.
pub fn enter(work: impl FnOnce(&Ground) -> ExitCode) -> anyhow::Result<ExitCode> {
    let sample = workspace::binaries().join("quorate");
    if let Some(packages) = std::env::var_os(INSIDE) {
        cgroup::mount()?;
        let packages = std::env::split_paths(&packages).collect();
        return Ok(work(&Ground { root: root::place(), packages, sample }));
    }
    if let Some(why) = why_not() {
        anyhow::bail!("no lab: {why}");
    }
    // Outside, where the network is; one waits for Debian's archive while the other compiles.
    let packages = std::thread::scope(|scope| {
        let root = scope.spawn(root::build);
        let packages = packages::build();
        root.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        packages
    })?;
    let status = Command::new("unshare")
        .args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(std::env::current_exe().context("a test knows its own path")?)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, std::env::join_paths(packages)?)
        .status()
        .context("unshare")?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// An empty directory for a lab's files, beside the root. What an earlier lab left there is removed: one lab at a time.
///
/// # Errors
/// When it can not be made, or the mounts of a lab that still runs are in the way.
pub(super) fn fresh_dir() -> anyhow::Result<PathBuf> {
    ensure!(std::env::var_os(INSIDE).is_some(), "a lab is made inside its own namespaces");
    let dir = root::cache().join("hosts");
    if dir.exists() {
        std::fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
    }
    std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    Ok(dir)
}
