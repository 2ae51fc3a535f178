//! The fleet under chaos: every coordinator behind a proxy, one coordinator and one agent on a small disk of their own.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use quorate_tests::cluster::{CALM, Fleet};
use quorate_tests::proxy::Network;
use quorate_tests::wait::wait_until;
use quorate_tests::workspace;
use serde_json::Value;
use tokio::runtime::Runtime;

/// Coordinators and agents; the sample group votes on the first three agents.
const COORDINATORS: [&str; 3] = ["coord1", "coord2", "coord3"];
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
        // Building them may take longer than a fleet is waited for.
        let _ = workspace::binaries();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let names = COORDINATORS.map(str::to_owned);
        let network = Arc::new(Network::open(runtime.handle(), &names).expect("ports on loopback"));
        let dir = tempfile::Builder::new().prefix("quorate-chaos-").tempdir().expect("a temporary directory");
        let places = [
            dir.path().join("coordinators").join(SMALL_COORDINATOR),
            dir.path().join("agents").join(SMALL_NODE),
        ];
        let disks = places.iter().filter_map(|place| Disk::mount(place)).collect();
        let through: Vec<String> =
            COORDINATORS.iter().map(|name| format!("{name}={}", network.address(name))).collect();
        let flags = through.iter().flat_map(|pair| ["--advertise", pair.as_str()]);
        let flags: Vec<&str> = ["--coordinators", "3", "--agents", AGENTS].into_iter().chain(flags).collect();
        let up = AtomicBool::new(false);
        let fleet = std::thread::scope(|scope| {
            // The ports behind the proxies are picked while the fleet comes up.
            let (network, up, path) = (&network, &up, dir.path().to_path_buf());
            scope.spawn(move || {
                wait_until("the ports", CALM, || {
                    lead(network, dir_record(&path)) || up.load(Ordering::Relaxed)
                });
            });
            let fleet = Fleet::start_in(dir, &flags);
            up.store(true, Ordering::Relaxed);
            fleet
        });
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

fn dir_record(dir: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(dir.join("fleet.json")).ok()?).ok()
}

/// Leads the proxies to where the coordinators listen; false while that is not known.
fn lead(network: &Network, record: Option<Value>) -> bool {
    let Some(record) = record else { return false };
    let rows = record["coordinators"].as_array().cloned().unwrap_or_default();
    for row in &rows {
        let address = row["grpc"].as_str().and_then(|text| text.parse::<SocketAddr>().ok());
        if let (Some(name), Some(address)) = (row["name"].as_str(), address) {
            network.lead(name, address);
        }
    }
    !rows.is_empty()
}
