//! The sample service on real hosts: one unit each, that PID 1 runs.

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::{Host, Lab};
use crate::cluster::Instance;
use crate::wait::wait_for;

/// Hosts of the group's voters.
pub const VOTERS: [&str; 3] = ["node1", "node2", "node3"];
/// Its port on every host, as in guide S2.
const PORT: u16 = 8001;
/// A guide's member is back after 30 to 60 s. Here a second of the guides takes a twentieth ([`Sample::SCALE`]).
const STARTING_MS: u64 = 700;
/// The same, until a member votes again.
const CATCH_UP_MS: u64 = 1_300;

/// Where it keeps its files on a host.
pub const DATA: &str = "/var/lib/ledger";

const UNIT: &str = "[Unit]\nDescription=Sample ledger\nAfter=network-online.target\n\
    [Service]\nExecStart=/usr/local/bin/ledger dev ledger --config /etc/ledger.toml\nExecReload=/bin/kill -HUP $MAINPID\n\
    User=ledger\nStateDirectory=ledger\nLogsDirectory=ledger\nTimeoutStopSec=10s\n\
    [Install]\nWantedBy=multi-user.target\nAlias=scribe-node.service network_service.service\n";

/// The group.
#[derive(Debug)]
pub struct Sample;

impl Sample {
    /// One second of a guide, in milliseconds here.
    pub const SCALE: u64 = 50;

    /// Installs and starts it on its hosts; returns when all serve.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn install(lab: &Lab) {
        for (at, name) in VOTERS.iter().enumerate() {
            let host = lab.host(name);
            host.write("/etc/systemd/system/ledger.service", UNIT, 0o644);
            host.write("/etc/ledger.toml", config(lab, host, at + 1), 0o644);
            let made = "useradd --system --no-create-home ledger && systemctl daemon-reload && systemctl enable --now ledger";
            let _ = host.run(made).expect(0);
        }
        let instances = Self::instances(lab);
        wait_for("the sample to serve", super::BOOT, || {
            let serving = crate::cluster::serving(&instances);
            if serving.len() == VOTERS.len() { Ok(()) } else { Err(format!("{serving:?}")) }
        });
    }

    /// Where the voters are.
    #[must_use]
    pub fn instances(lab: &Lab) -> Vec<Instance> {
        let instance = |name: &&str| {
            let host = lab.host(name);
            Instance { node: (*name).to_owned(), at: at(host), dir: host.path(DATA) }
        };
        VOTERS.iter().map(instance).collect()
    }

    /// Makes an instance misbehave from its next start on, or behave again; `how` is a line of the sample's own file.
    pub fn misbehave(lab: &Lab, node: &str, how: Option<&str>) {
        let host = lab.host(node);
        let file = format!("{DATA}/misbehave");
        match how {
            Some(line) => host.write(&file, format!("{line}\n"), 0o644),
            None => drop(host.run(&format!("rm -f {file}"))),
        }
    }
}

fn at(host: &Host) -> SocketAddr {
    SocketAddr::from((host.address(), PORT))
}

fn config(lab: &Lab, host: &Host, id: usize) -> String {
    let mut text = format!(
        "node = '{}'\nid = {id}\naddress = '{}'\nport = {PORT}\ndata_dir = '{DATA}'\n\
         log_file = '/var/log/ledger/ledger.log'\nstarting_ms = {STARTING_MS}\ncatch_up_ms = {CATCH_UP_MS}\n",
        host.name(),
        host.address()
    );
    for (at, name) in VOTERS.iter().enumerate() {
        let peer = lab.host(name);
        let _ = write!(
            text,
            "[[peers]]\nid = {}\nnode = '{name}'\naddress = '{}'\nport = {PORT}\n",
            at + 1,
            peer.address()
        );
    }
    text
}
