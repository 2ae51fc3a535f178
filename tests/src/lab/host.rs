//! One host: a container with systemd as PID 1, on a root of its own over the shared one.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, ensure};

use super::BOOT;
use super::cgroup::Cgroup;
use super::net::{self, BRIDGE, run};
use crate::wait::wait_for;

pub use crate::cluster::Answer;

/// Bytes of a console shown when a host did not come up.
const CONSOLE_BYTES: usize = 2_000;
/// Where the product keeps everything: on a disk of its own, so that it can be full.
const STATE: &str = "var/lib/quorate";
/// Its size. More than a coordinator wants to have free (512 MiB), and little enough to be filled at once.
const STATE_DISK: &str = "size=900m,mode=755";
/// The file that fills it.
const FILLER: &str = "var/lib/quorate/filler";

/// The units of the journal that a failure is explained with.
const OURS: &str = "--unit=quorate-* --unit=ledger --unit=odd-*";

/// What turns a clock, where the units may execute it, and the link that says how far.
const CLOCK: &str = "/usr/lib/quorate-clock.so";
const CLOCK_LINK: &str = "/run/quorate-clock";

/// A host. Ended with its lab.
#[derive(Debug)]
pub struct Host {
    name: String,
    address: Ipv4Addr,
    root: PathBuf,
    console: PathBuf,
    cgroup: Cgroup,
    container: Mutex<Option<Child>>,
}

impl Host {
    /// Lays a writable root over the shared one and boots it.
    pub(super) fn start(shared: &str, dir: &Path, name: &str, address: Ipv4Addr) -> anyhow::Result<Self> {
        let of = |part: &str| dir.join(format!("{name}.{part}"));
        let (root, upper, work) = (of("root"), of("upper"), of("work"));
        for part in [&root, &upper, &work] {
            fs::create_dir_all(part)?;
        }
        let options = format!("lowerdir={shared},upperdir={},workdir={}", upper.display(), work.display());
        run("mount", &["-t", "overlay", "lab", "-o", &options, &root.to_string_lossy()])?;
        fs::write(root.join("etc/hostname"), format!("{name}\n"))?;
        fs::write(root.join("etc/lab-address"), format!("ADDRESS={address}\n"))?;
        let state = root.join(STATE);
        fs::create_dir_all(&state)?;
        run("mount", &["-t", "tmpfs", "-o", STATE_DISK, "lab-state", &state.to_string_lossy()])?;
        let cgroup = Cgroup::create(name)?;
        let host = Self {
            name: name.to_owned(),
            address,
            root,
            console: of("console"),
            cgroup,
            container: Mutex::new(None),
        };
        host.power_on()?;
        Ok(host)
    }

    /// Boots it, after [`Self::end`] too: with what was on its disks.
    ///
    /// # Errors
    /// When the container does not start.
    pub fn power_on(&self) -> anyhow::Result<()> {
        let mut container = self.container();
        ensure!(container.is_none(), "{} is on already", self.name);
        net::unlink(&self.name);
        let console = fs::File::create(&self.console)?;
        // The shell enters the host's control group and becomes the container's keeper.
        let mut nspawn = Command::new("sh");
        nspawn.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(self.cgroup.door());
        nspawn.args([
            "systemd-nspawn",
            "--quiet",
            "--boot",
            "--register=no",
            "--keep-unit",
            "--console=pipe",
        ]);
        nspawn.args(["--resolv-conf=off", "--timezone=off", "--link-journal=no", "--kill-signal=SIGRTMIN+3"]);
        nspawn.arg("--directory").arg(&self.root).arg(format!("--machine={}", self.name));
        nspawn.arg(format!("--network-bridge={BRIDGE}"));
        nspawn.stdin(Stdio::null()).stdout(console.try_clone()?).stderr(console);
        *container = Some(nspawn.spawn().context("systemd-nspawn")?);
        Ok(())
    }

    /// Waits until systemd has started what it starts at boot.
    ///
    /// # Panics
    /// When it has not in time: with the end of its console.
    pub fn wait_up(&self) {
        wait_for(&format!("{} to be up", self.name), BOOT, || {
            let state = self.try_run("systemctl is-system-running").map(|answer| answer.stdout);
            // Degraded: a unit has failed; tests look at the ones they mean.
            match state.as_deref().map(str::trim) {
                Some("running" | "degraded") => Ok(()),
                _ => Err(self.console()),
            }
        });
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address on the bridge.
    #[must_use]
    pub const fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// A path on the host, as seen from here.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Runs a shell script as root on the host.
    ///
    /// # Panics
    /// When the host is off.
    #[must_use]
    #[track_caller]
    pub fn run(&self, script: &str) -> Answer {
        self.try_run(script).unwrap_or_else(|| panic!("{} is off", self.name))
    }

    /// The same; nothing when the host is off.
    #[must_use]
    pub fn try_run(&self, script: &str) -> Option<Answer> {
        let output = self.command(script)?.stdin(Stdio::null()).output().expect("nsenter runs");
        Some(Answer::of(&output))
    }

    /// A shell script of the host's root that goes on beside the test; nothing when the host is off.
    #[must_use]
    pub fn command(&self, script: &str) -> Option<Command> {
        let init = self.init()?;
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &init.to_string(), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"])
            .args(["env", "-i", "HOME=/root", "USER=root", "TERM=dumb", "LANG=C.UTF-8"])
            .arg("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .args(["sh", "-c", script]);
        Some(command)
    }

    /// A program of this machine in the host's network; nothing when the host is off.
    #[must_use]
    pub fn beside(&self, program: &str) -> Option<Command> {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init()?.to_string(), "--net", program]);
        Some(command)
    }

    /// Writes a file on the host.
    ///
    /// # Panics
    /// When it can not be written.
    pub fn write(&self, path: &str, text: impl AsRef<[u8]>, mode: u32) {
        let place = self.path(path);
        if let Some(dir) = place.parent() {
            fs::create_dir_all(dir).expect("a directory on the host");
        }
        fs::write(&place, text).expect("a file on the host");
        fs::set_permissions(&place, fs::Permissions::from_mode(mode)).expect("its mode");
    }

    /// Its whole journal as a file, for whoever looks at a failure later; nothing when the host is off.
    pub(super) fn save_journal(&self, to: &Path) {
        let said = self.try_run("journalctl --no-pager --output=short-precise");
        // What is not there can not be shown; the failure itself is what counts.
        drop(fs::write(to, said.map_or_else(|| self.console(), |answer| answer.stdout)));
    }

    /// The end of its journal.
    #[must_use]
    pub fn journal(&self, lines: u32) -> String {
        let said =
            self.try_run(&format!("journalctl --no-pager --output=short-precise --lines={lines} {OURS}"));
        said.map_or_else(|| self.console(), |answer| answer.stdout)
    }

    /// Where the journal of a unit ends now, for [`Self::said_since`].
    ///
    /// # Panics
    /// When the host is off or the unit has said nothing yet.
    #[must_use]
    pub fn journal_now(&self, unit: &str) -> String {
        let shown = self
            .run(&format!("journalctl --no-pager --unit={unit} --lines=0 --show-cursor"))
            .expect(0)
            .stdout;
        let cursor = shown.lines().find_map(|line| line.strip_prefix("-- cursor: "));
        cursor.unwrap_or_else(|| panic!("no cursor: {shown}")).to_owned()
    }

    /// What a unit has said since then.
    ///
    /// # Panics
    /// When the host is off.
    #[must_use]
    pub fn said_since(&self, unit: &str, cursor: &str) -> String {
        self.run(&format!("journalctl --no-pager --output=cat --unit={unit} --after-cursor='{cursor}'"))
            .expect(0)
            .stdout
    }

    /// Pulls its plug out of the bridge (nobody is told, packets are lost), or puts it back.
    ///
    /// # Panics
    /// When it has no link.
    pub fn cut(&self, cut: bool) {
        net::plug(&self.name, !cut).expect("the host's link");
    }

    /// Stops every process of the host where it stands, or lets them go on.
    ///
    /// # Panics
    /// When the host is off.
    pub fn freeze(&self, frozen: bool) {
        self.cgroup.freeze(frozen).expect("the host's control group");
    }

    /// Takes the last byte of the disk that the product keeps its state on, or gives it back.
    ///
    /// # Panics
    /// When the file can not be made or removed.
    pub fn fill_state_disk(&self, full: bool) {
        let filler = self.root.join(FILLER);
        if !full {
            fs::remove_file(&filler).expect("the filler was there");
            return;
        }
        let file = fs::File::create(&filler).expect("the filler");
        // Others write meanwhile: what was free a moment ago may be less now.
        wait_for("the disk to be full", BOOT, || {
            let space = rustix::fs::statvfs(self.root.join(STATE)).map_err(|error| error.to_string())?;
            let held = file.metadata().map_err(|error| error.to_string())?.len();
            let free = space.f_bavail * space.f_frsize;
            if free == 0 {
                return Ok(());
            }
            let more = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), held, free);
            Err(format!("{free} bytes were free: {more:?}"))
        });
    }

    /// Puts the agent's and the helper's clock where [`Self::turn_clock`] can turn it. The kernel has one wall clock for all
    /// hosts of a machine, so theirs is turned in front of libc; both are started again.
    ///
    /// # Panics
    /// When the library can not be made or a unit does not start.
    pub fn loosen_clock(&self, loose: bool) {
        let again = "systemctl daemon-reload && systemctl restart quorate-helper quorate-agent";
        if !loose {
            let _ = self
                .run(&format!("rm /etc/systemd/system/quorate-*.service.d/clock.conf && {again}"))
                .expect(0);
            return;
        }
        let library = crate::preload::clock().and_then(fs::read).expect("the clock's library");
        self.write(CLOCK, library, 0o755);
        let environment =
            format!("[Service]\nEnvironment=LD_PRELOAD={CLOCK} QUORATE_CLOCK_LINK={CLOCK_LINK}\n");
        for unit in ["agent", "helper"] {
            self.write(
                &format!("/etc/systemd/system/quorate-{unit}.service.d/clock.conf"),
                &environment,
                0o644,
            );
        }
        self.turn_clock(0);
        let _ = self.run(again).expect(0);
        for unit in ["agent", "helper"] {
            let mapped = format!(
                "grep -c 'r-xp.*{CLOCK}' /proc/$(systemctl show --property=MainPID --value quorate-{unit})/maps"
            );
            let _ = self.run(&mapped).expect(0);
        }
    }

    /// Turns that clock by so many seconds from the true one, while both run.
    ///
    /// # Panics
    /// When the host is off.
    pub fn turn_clock(&self, seconds: i64) {
        let _ = self
            .run(&format!("ln -s -- {seconds} {CLOCK_LINK}.new && mv -T {CLOCK_LINK}.new {CLOCK_LINK}"))
            .expect(0);
    }

    /// Pulls the plug: every process ends at once, the disks stay as the kernel has them.
    pub fn end(&self) {
        if let Some(mut container) = self.container().take() {
            // It may have ended by itself.
            drop(self.cgroup.kill());
            drop(container.kill());
            drop(container.wait());
        }
    }

    /// Its disks are taken away too.
    fn unmount(&self) {
        // A mount that is still in use by the last dying process goes with it.
        drop(run("umount", &["--recursive", "--lazy", &self.root.to_string_lossy()]));
    }

    /// PID 1 of the host, as this machine counts.
    fn init(&self) -> Option<i32> {
        let container = self.container();
        let keeper = container.as_ref()?.id();
        let path = format!("/proc/{keeper}/task/{keeper}/children");
        fs::read_to_string(path).ok()?.split_whitespace().next()?.parse().ok()
    }

    fn container(&self) -> MutexGuard<'_, Option<Child>> {
        self.container.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn console(&self) -> String {
        let text = String::from_utf8_lossy(&fs::read(&self.console).unwrap_or_default()).into_owned();
        let from = text.char_indices().rev().nth(CONSOLE_BYTES).map_or(0, |(at, _)| at);
        text.get(from..).unwrap_or_default().to_owned()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.end();
        self.unmount();
    }
}
