//! One control group for each host, so that a host can be ended or stopped as a whole.
//!
//! Containers that were started from one group would share one, and systemd in one of them would end the processes of
//! another's unit of the same name.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::net::run;

/// Where the lab sees control groups: mounted there in its own mount namespace.
const MOUNT: &str = "/sys/fs/cgroup";
/// The lab's own group; below it one for each host.
const LAB: &str = "quorate-lab";

/// Mounts the unified hierarchy over whatever the machine has, as Debian 12 boots with it; and removes the empty groups that an
/// earlier lab left.
///
/// # Errors
/// When the kernel has none.
pub(super) fn mount() -> anyhow::Result<()> {
    // Not mounted, or not alone: both are fine.
    drop(run("umount", &["--recursive", MOUNT]));
    run("mount", &["-t", "cgroup2", "cgroup2", MOUNT])?;
    let lab = Path::new(MOUNT).join(LAB);
    // What still runs there is a lab beside this one, and its groups can not be removed.
    drop(remove(&lab));
    fs::create_dir_all(&lab).with_context(|| format!("create {}", lab.display()))
}

/// A host's group.
#[derive(Debug)]
pub(super) struct Cgroup(PathBuf);

impl Cgroup {
    pub(super) fn create(host: &str) -> anyhow::Result<Self> {
        let path = Path::new(MOUNT).join(LAB).join(host);
        drop(remove(&path));
        fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Self(path))
    }

    /// The file that takes a process into it.
    pub(super) fn door(&self) -> PathBuf {
        self.0.join("cgroup.procs")
    }

    /// Ends every process in it at once.
    pub(super) fn kill(&self) -> io::Result<()> {
        fs::write(self.0.join("cgroup.kill"), "1")
    }

    /// Stops every process of the host where it stands, or lets them go on; not what holds the container.
    pub(super) fn freeze(&self, frozen: bool) -> io::Result<()> {
        fs::write(self.0.join("payload/cgroup.freeze"), if frozen { "1" } else { "0" })
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Of a host that was ended only the last process may not be reaped yet; the next lab removes it then.
        drop(remove(&self.0));
    }
}

/// Removes empty groups, the inner ones first.
fn remove(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}
