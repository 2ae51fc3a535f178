//! The fleet under chaos: every coordinator behind a proxy, one coordinator and one agent on a small disk of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use quorate_tests::cluster::{CALM, Fleet};
use quorate_tests::proxied::Proxied;
use quorate_tests::proxy::Network;
use serde_json::Value;
use tokio::runtime::Runtime;

/// Agents; the sample group votes on the first three.
const AGENTS: &str = "5";
/// The member and the host that have a disk of their own, and its size: far more than two hundred rounds need. Of 96 MiB, 177 rounds
/// had taken 70, and the next snapshot no longer fitted.
pub(crate) const SMALL_COORDINATOR: &str = "coord3";
pub(crate) const SMALL_NODE: &str = "node3";
const DISK: &str = "size=384m,mode=0700";

/// A running fleet and the network in front of it.
pub(crate) struct Chaos {
    pub(crate) network: Arc<Network>,
    pub(crate) disks: Vec<Disk>,
    // After the disks: an unmounted folder can be removed.
    pub(crate) fleet: Fleet,
    pub(crate) runtime: Runtime,
}

/// A tmpfs.
pub(crate) struct Disk(pub(crate) PathBuf);

impl Disk {
    /// `None` when we may not mount: then the faults of a full disk do not happen, and the verdict says so.
    fn mount(path: &Path) -> Option<Self> {
        fs::create_dir_all(path).expect("below our own directory");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", DISK, "quorate-chaos"]).arg(path).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(path.to_path_buf())),
            Ok(output) => {
                println!("no disk at {}: {}", path.display(), String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                println!("no disk at {}: {error}", path.display());
                None
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: whoever has a file open keeps it until it ends.
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

impl Chaos {
    pub(crate) fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("quorate-chaos-").tempdir().expect("a temporary directory");
        let places = [
            dir.path().join("coordinators").join(SMALL_COORDINATOR),
            dir.path().join("agents").join(SMALL_NODE),
        ];
        let disks = places.iter().filter_map(|place| Disk::mount(place)).collect();
        let Proxied { network, fleet, runtime } = Proxied::start_in(dir, &["--agents", AGENTS]);
        Self { network, disks, fleet, runtime }
    }

    /// Waits until all is well, starting instances again that are down; gives the nodes of those.
    pub(crate) fn heal(&self) -> Vec<String> {
        self.network.set(Vec::new());
        let begun = Instant::now();
        let mut repaired = Vec::new();
        while !self.is_healthy() {
            assert!(begun.elapsed() < CALM, "the group does not become healthy: {:?}", self.group());
            repaired.extend(self.revive());
        }
        self.fleet.calm();
        repaired
    }

    fn group(&self) -> Option<Value> {
        let shown = self.fleet.quorate(&["group", "show", "ledger", "-o", "json"]);
        (shown.code == 0).then(|| shown.json())
    }

    fn is_healthy(&self) -> bool {
        self.group().is_some_and(|group| group["state"] == "HEALTHY")
    }

    /// Starts instances that are down: killed ones, which nobody else starts. Gives their nodes.
    pub(crate) fn revive(&self) -> Vec<String> {
        let rows = self.group().and_then(|group| group["members"].as_array().cloned()).unwrap_or_default();
        let down =
            rows.iter().filter(|row| ["STOPPED", "FAILED"].iter().any(|state| row["observed"] == *state));
        let nodes: Vec<String> = down.filter_map(|row| row["node"].as_str().map(str::to_owned)).collect();
        for node in &nodes {
            let words = ["service", "start", "ledger", "--node", node, "--wait", "--yes", "--timeout", "20s"];
            let answer = self.fleet.quorate(&words);
            println!(
                "  start {node} again: exit {} {}",
                answer.code,
                answer.stderr.lines().last().unwrap_or_default()
            );
        }
        nodes
    }
}
