//! A fleet whose coordinators are reached through proxies only, by their fellows, by agents and by clients alike.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use tokio::runtime::Runtime;

use crate::cluster::{CALM, Fleet};
use crate::proxy::Network;
use crate::wait::wait_until;
use crate::workspace;

/// The fleet, and the network in front of it.
pub struct Proxied {
    /// What is troubled on the way.
    pub network: Arc<Network>,
    /// The processes.
    pub fleet: Fleet,
    /// The proxies run here.
    pub runtime: Runtime,
}

impl Proxied {
    /// Brings three coordinators up in a directory that was prepared, with more flags of `quorate dev`.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start_in(dir: tempfile::TempDir, flags: &[&str]) -> Self {
        // Building them may take longer than a fleet is waited for.
        let _ = workspace::binaries();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let names = ["coord1", "coord2", "coord3"].map(str::to_owned);
        let network = Arc::new(Network::open(runtime.handle(), &names).expect("ports on loopback"));
        let through: Vec<String> =
            names.iter().map(|name| format!("{name}={}", network.address(name))).collect();
        let through = through.iter().flat_map(|pair| ["--advertise", pair.as_str()]);
        let flags: Vec<&str> =
            ["--coordinators", "3"].into_iter().chain(flags.iter().copied()).chain(through).collect();
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
        Self { network, fleet, runtime }
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
