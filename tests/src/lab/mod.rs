//! Real hosts: Debian with systemd as PID 1, in containers on a bridge of their own.
//!
//! Job: build the root and the packages once, boot hosts, reach into them, break their links, disks and processes, and tell
//! what their journals say. Must never: touch this machine's own network, mounts or units, or end a process it did not start.
//!
//! **Architecture Invariant:** a lab lives in namespaces (mounts, network, processes) of the test process. Whatever way it
//! ends, the kernel removes bridge, links, mounts and hosts with the last process; only files under the lab's directory and
//! empty control groups stay, and the next lab removes them. Hence a lab has no internet: what a host needs is in its root or
//! pushed to it.

mod cgroup;
mod fleet;
mod guide;
mod host;
mod inside;
mod net;
mod packages;
mod root;
mod sample;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

pub use self::fleet::{AGENTS, CALM, COORDINATORS, GUEST, LabFleet};
pub use self::guide::{Block, Guide};
pub use self::host::{Answer, Host};
pub use self::inside::{Ground, enter, why_not};
use self::net::Bridge;
pub use self::sample::{DATA, Sample, VOTERS};

/// Until a host has booted, on two busy cores.
pub const BOOT: Duration = Duration::from_secs(60);

/// Hosts on one bridge. All are ended on drop.
#[derive(Debug)]
pub struct Lab {
    dir: PathBuf,
    bridge: Bridge,
    hosts: BTreeMap<String, Host>,
}

impl Lab {
    /// Boots one host for each name; returns when systemd is up on all.
    ///
    /// # Errors
    /// When a host does not come up: with the end of its console.
    pub fn boot(ground: &Ground, names: &[&str]) -> anyhow::Result<Self> {
        let dir = inside::fresh_dir()?;
        let bridge = Bridge::create()?;
        let addresses: BTreeMap<String, Ipv4Addr> =
            names.iter().enumerate().map(|(at, name)| ((*name).to_owned(), net::address(at))).collect();
        let shared = root::share(ground, &dir, &addresses)?;
        let mut hosts = BTreeMap::new();
        for (name, address) in &addresses {
            let host = Host::start(&shared, &dir, name, *address)
                .with_context(|| format!("host {name} does not start"))?;
            hosts.insert(name.clone(), host);
        }
        let lab = Self { dir, bridge, hosts };
        for host in lab.hosts.values() {
            host.wait_up();
        }
        Ok(lab)
    }

    /// A host by name.
    ///
    /// # Panics
    /// When there is none: the test is wrong.
    #[must_use]
    #[track_caller]
    pub fn host(&self, name: &str) -> &Host {
        self.hosts.get(name).unwrap_or_else(|| panic!("no host is called {name}"))
    }

    /// Every host, by name.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.hosts.values()
    }

    /// This machine's address on the bridge.
    #[must_use]
    pub const fn own_address(&self) -> Ipv4Addr {
        self.bridge.address()
    }

    /// Where the hosts' own files lie.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Prints the end of what every host's journal has of our units, for a test that failed; the whole journals are kept
    /// beside the build.
    pub fn tell(&self) {
        let kept = crate::workspace::root().join("target/lab-journals");
        drop(std::fs::create_dir_all(&kept));
        for host in self.hosts.values() {
            host.save_journal(&kept.join(format!("{}.journal", host.name())));
            println!("--- {}\n{}", host.name(), host.journal(15));
        }
        println!("--- whole journals: {}", kept.display());
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.hosts.clear();
        // A second lab in this process mounts its own names there.
        drop(std::process::Command::new("umount").arg("/etc/hosts").status());
        // The next lab removes what can not be removed now.
        drop(std::fs::remove_dir_all(&self.dir));
    }
}
