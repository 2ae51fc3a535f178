//! Processes by pid *and* start time: a pid alone may belong to somebody else by now.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rustix::process::{Pid, PidfdFlags, Signal};

/// File names of the programs of a fleet; nothing else is ever signaled because of its command line.
const PROGRAMS: [&str; 4] = ["quorate", "quorate-agent", "quorate-helper", "quorate-coordinator"];

/// One process, told apart from a later one with the same pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Identity {
    pub(super) pid: u32,
    /// `/proc/PID/stat` field 22, clock ticks since boot.
    pub(super) start: u64,
}

impl Identity {
    /// The living process with this pid; a zombie is dead.
    pub(super) fn of(pid: u32) -> Option<Self> {
        let stat = procfs::process::Process::new(i32::try_from(pid).ok()?).ok()?.stat().ok()?;
        (!dead(&stat)).then_some(Self { pid, start: stat.starttime })
    }

    pub(super) fn alive(self) -> bool {
        self.pid != 0 && Self::of(self.pid) == Some(self)
    }

    /// Signals exactly this process. False: it is gone already.
    pub(super) fn signal(self, signal: Signal) -> bool {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return false };
        // The descriptor pins the process; checked after it was opened, the identity cannot change any more.
        let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return false };
        self.alive() && rustix::process::pidfd_send_signal(pidfd, signal).is_ok()
    }
}

/// A zombie whose other threads still end holds its sockets and files: it lives until the last thread is gone.
fn dead(stat: &procfs::process::Stat) -> bool {
    matches!(stat.state, 'Z' | 'X') && stat.num_threads <= 1
}

/// This boot; empty when the kernel does not tell.
pub(super) fn boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

/// One look at all processes.
#[derive(Debug)]
pub(super) struct Snapshot {
    start: BTreeMap<u32, u64>,
    children: BTreeMap<u32, Vec<u32>>,
}

impl Snapshot {
    pub(super) fn take() -> anyhow::Result<Self> {
        let mut all = Self { start: BTreeMap::new(), children: BTreeMap::new() };
        for process in procfs::process::all_processes()? {
            // A process may end between being listed and being read.
            let Ok(stat) = process.and_then(|process| process.stat()) else { continue };
            let (Ok(pid), Ok(parent)) = (u32::try_from(stat.pid), u32::try_from(stat.ppid)) else { continue };
            if !dead(&stat) {
                all.start.insert(pid, stat.starttime);
            }
            all.children.entry(parent).or_default().push(pid);
        }
        Ok(all)
    }

    /// The living ones of `roots` and all their descendants.
    pub(super) fn with_descendants(&self, roots: impl IntoIterator<Item = Identity>) -> BTreeSet<Identity> {
        let mut open: Vec<Identity> =
            roots.into_iter().filter(|root| self.start.get(&root.pid) == Some(&root.start)).collect();
        let mut found = BTreeSet::new();
        while let Some(next) = open.pop() {
            if !found.insert(next) {
                continue;
            }
            let children = self.children.get(&next.pid).into_iter().flatten();
            open.extend(
                children
                    .filter_map(|pid| self.start.get(pid).map(|start| Identity { pid: *pid, start: *start })),
            );
        }
        found
    }

    /// Processes of our own programs that were started with a configuration file under `dir`: daemons and instances
    /// nobody recorded, for example because their parent was killed.
    pub(super) fn configured_under(&self, dir: &Path) -> BTreeSet<Identity> {
        let own = std::process::id();
        self.start
            .iter()
            .filter(|(pid, _)| **pid != own && runs_with_config_under(**pid, dir))
            .map(|(pid, start)| Identity { pid: *pid, start: *start })
            .collect()
    }
}

fn runs_with_config_under(pid: u32, dir: &Path) -> bool {
    let Some(process) = i32::try_from(pid).ok().and_then(|pid| procfs::process::Process::new(pid).ok())
    else {
        return false;
    };
    let Ok(cmdline) = process.cmdline() else { return false };
    let config = cmdline.windows(2).find(|pair| pair[0] == "--config").map(|pair| PathBuf::from(&pair[1]));
    if !config.is_some_and(|config| config.starts_with(dir)) {
        return false;
    }
    let Ok(exe) = process.exe() else { return false };
    let name = exe.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    // A release of the sample that was installed lies in the fleet's own folder.
    if exe.starts_with(dir) {
        return true;
    }
    // After a rebuild the running program's file is gone and the kernel says so in its name.
    PROGRAMS.contains(&name.trim_end_matches(" (deleted)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_with_another_start_time_is_somebody_else() {
        let own = Identity::of(std::process::id()).expect("this process");
        assert!(own.alive());
        let other = Identity { start: own.start + 1, ..own };
        assert!(!other.alive());
        assert!(!other.signal(Signal::KILL), "a stranger is not signaled");
        assert!(
            !Identity { pid: 0, start: 0 }.alive() && !Identity { pid: 0, start: 0 }.signal(Signal::KILL)
        );
    }

    #[test]
    fn descendants_are_found_and_a_zombie_is_dead() {
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("start a child");
        let own = Identity::of(std::process::id()).expect("this process");
        let identity = Identity::of(child.id()).expect("the child");
        assert!(Snapshot::take().expect("a look").with_descendants([own]).contains(&identity));
        assert!(
            Snapshot::take().expect("a look").with_descendants([Identity { start: 0, ..own }]).is_empty()
        );
        assert!(identity.signal(Signal::KILL));
        while identity.alive() {
            std::thread::yield_now();
        }
        assert!(!Snapshot::take().expect("a look").with_descendants([own]).contains(&identity));
        child.wait().expect("reap it");
    }

    #[test]
    fn nothing_but_our_programs_is_found_by_its_command_line() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let config = dir.path().join("x.toml");
        let mut child = std::process::Command::new("tail")
            .args(["-f", "/dev/null", "--config"])
            .arg(&config)
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("start a child");
        assert!(Snapshot::take().expect("a look").configured_under(dir.path()).is_empty());
        let _ = child.kill();
        child.wait().expect("reap it");
    }
}
