//! What the helper's sandbox withholds from releases and balancers, and the drop-ins that grant it, on real hosts.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use quorate_tests::cluster::Poll;
use quorate_tests::lab::{LabFleet, VOTERS};
use quorate_tests::wait::wait_for;
use serde_json::Value;

use crate::packages::{pushed, score};

const LIMIT: Duration = Duration::from_secs(200);
/// HAProxy's runtime API, on the bridge.
const ADMIN_PORT: u16 = 9999;
const DROP_INS: &str = "/usr/share/doc/quorate-agent/drop-ins";
const HELPER_DIR: &str = "/etc/systemd/system/quorate-helper.service.d";
const UNIT_DIR: &str = "/etc/systemd/system/ledger.service.d";
const POLICY_FILE: &str = "/etc/quorate/agent.toml.d/30-drop-ins.toml";
/// The worst scores of the helper, in tenths: a folder more costs nothing, a network does.
const INSTALLS: u32 = 20;
const BALANCES: u32 = 32;
const RUN: &str = "#!/bin/sh\nexec /usr/local/bin/ledger dev ledger --config /etc/ledger.toml\n";
const UNIT: &str = "[Service]\nExecStart=\nExecStart=/opt/ledger/current/run\n";
const SPEC: &str = "install: { binary: { dir: /opt/ledger, file: run } }\n\
    traffic: { adapter: edge, backend: ledger, server: \"\\${node}\", minUp: 2 }\nprobes:\n";

/// HAProxy on this machine's end of the bridge; it ends with this.
struct Edge(Child);

impl Drop for Edge {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Edge {
    fn start(fleet: &LabFleet) -> Self {
        let (own, dir) = (fleet.lab().own_address(), fleet.lab().dir());
        let servers = fleet.instances().into_iter().map(|i| format!("  server {} {}\n", i.node, i.at));
        let config = format!(
            "global\n  stats socket ipv4@{own}:{ADMIN_PORT} level admin\n\
             defaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\
             frontend front\n  bind {own}:8000\n  default_backend ledger\n\
             backend ledger\n  option httpchk GET /health\n  default-server check inter 200ms fall 2 rise 2\n{}",
            servers.collect::<String>()
        );
        let file = dir.join("haproxy.cfg");
        std::fs::write(&file, config).expect("the lab's folder");
        let mut command = Command::new("/usr/sbin/haproxy");
        command.arg("-db").arg("-f").arg(file);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().expect("HAProxy is installed: apt-get install --no-install-recommends haproxy"))
    }
}

pub(crate) fn declare(fleet: &LabFleet, more: &str) {
    let block = fleet.guide.blocks.iter().find(|block| block.script.contains("quorate apply"));
    let script = &block.expect("the guide declares a service").script;
    let _ = fleet.quorate_shell(&script.replacen("probes:\n", more, 1)).expect(0);
}

fn prepare(fleet: &LabFleet) {
    let own = fleet.lab().own_address();
    let policy = format!(
        "[policy]\nactions = [\"service.*\", \"backup.*\", \"log.rotate\", \"host.*\", \"artifact.*\", \"traffic.*\"]\n\
         install = [\"/opt/ledger\"]\nunsigned = true\n\
         [balancer.edge]\nkind = \"haproxy\"\nsockets = [\"{own}:{ADMIN_PORT}\"]\nsettle = \"1s\"\n"
    );
    for node in VOTERS {
        let host = fleet.host(node);
        host.write(POLICY_FILE, &policy, 0o644);
        host.write(&format!("{UNIT_DIR}/release.conf"), UNIT, 0o644);
        let installs = format!(
            "mkdir -p /opt/ledger && install -D -m 0644 -t {HELPER_DIR} {DROP_INS}/helper-install-dir.conf"
        );
        let _ = host.run(&format!("{installs} && systemctl daemon-reload")).expect(0);
        if node == VOTERS[0] {
            score(host, "helper-install-dir.conf", INSTALLS);
        }
        // Adapted, as it says: these are the balancers.
        let balances = format!(
            "sed 's/^IPAddressAllow=.*/IPAddressAllow=localhost {own}/' {DROP_INS}/helper-balancer.conf \
             > {HELPER_DIR}/helper-balancer.conf"
        );
        let again = "systemctl daemon-reload && systemctl restart quorate-helper quorate-agent";
        let _ = host.run(&format!("{balances} && {again}")).expect(0);
    }
    score(fleet.host(VOTERS[0]), "helper-install-dir.conf and helper-balancer.conf", BALANCES);
    fleet.host("coord1").write("/root/run", RUN, 0o755);
    declare(fleet, SPEC);
    fleet.calm();
}

pub(crate) fn releases_behind_a_balancer(fleet: &LabFleet) {
    let _edge = Edge::start(fleet);
    prepare(fleet);
    let before = fleet.starts();
    let digest = pushed(fleet, "/root/run");
    let poll = Poll::begin(fleet.instances());
    let id = fleet.begin(&format!("rollout start ledger --release 1.0.0 --artifact {digest}"));
    let ended = fleet.ended(&id, LIMIT);
    let tally = poll.end();
    println!("  {}: {} looks, fewest serving {:?}", ended["state"], tally.looks, tally.fewest);
    assert_eq!(ended["state"], "SUCCEEDED", "{ended:#}");
    assert_eq!((&ended["openObligations"], &ended["openGrants"]), (&0.into(), &0.into()), "{ended:#}");
    tally.assert_quorum();
    let steps = ended["steps"].as_array().cloned().unwrap_or_default();
    for kind in ["DRAIN", "ACTIVATE", "RESTORE"] {
        let done = |step: &&Value| step["kind"] == kind && step["state"] == "SUCCEEDED";
        assert_eq!(steps.iter().filter(done).count(), VOTERS.len(), "{kind}: {ended:#}");
    }
    for node in VOTERS {
        let host = fleet.host(node);
        let _ = host.run("test -x /opt/ledger/current/run && systemctl is-active ledger").expect(0);
        assert_eq!(fleet.starts()[node], before[node] + 1, "{node} is started once");
    }
    tidy(fleet);
}

/// As it was, everywhere at once: the test's own hand.
fn tidy(fleet: &LabFleet) {
    declare(fleet, "probes:\n");
    for node in VOTERS {
        let taken = format!(
            "rm -r {HELPER_DIR} {UNIT_DIR} {POLICY_FILE} && systemctl daemon-reload && \
             systemctl restart quorate-helper quorate-agent ledger"
        );
        let _ = fleet.host(node).run(&taken).expect(0);
    }
    wait_for("the sample to serve again", LIMIT, || {
        let serving = quorate_tests::cluster::serving(&fleet.instances());
        if serving.len() == VOTERS.len() { Ok(()) } else { Err(format!("{serving:?}")) }
    });
    fleet.calm();
}
