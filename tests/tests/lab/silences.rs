//! A silence that a helper in its sandbox sets at Debian's Alertmanager, with the drop-in that we ship and nothing else.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use quorate_tests::lab::{LabFleet, VOTERS};
use quorate_tests::wait::wait_for;

use crate::drop_ins::declare;
use crate::packages::score;

const LIMIT: Duration = Duration::from_secs(200);
const PORT: u16 = 9093;
const DROP_IN: &str = "/usr/share/doc/quorate-agent/drop-ins/helper-alertmanager.conf";
const HELPER_DIR: &str = "/etc/systemd/system/quorate-helper.service.d";
const POLICY_FILE: &str = "/etc/quorate/agent.toml.d/30-silences.toml";
/// The worst score of the helper that is given one address, in tenths.
const SILENCES: u32 = 32;

/// An Alertmanager on this machine's end of the bridge; it ends with this.
struct Alertmanager(Child);

impl Drop for Alertmanager {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Alertmanager {
    fn start(fleet: &LabFleet) -> Self {
        let (own, dir) = (fleet.lab().own_address(), fleet.lab().dir());
        let config = dir.join("alertmanager.yml");
        std::fs::write(&config, "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n")
            .expect("the lab's folder");
        let mut command = Command::new("/usr/bin/prometheus-alertmanager");
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.path={}", dir.join("alertmanager").display()));
        command.args([&format!("--web.listen-address={own}:{PORT}"), "--cluster.listen-address="]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let install =
            "Alertmanager is installed: apt-get install --no-install-recommends prometheus-alertmanager";
        Self(command.spawn().expect(install))
    }
}

pub(crate) fn one_address_and_no_more(fleet: &LabFleet) {
    let _manager = Alertmanager::start(fleet);
    let own = fleet.lab().own_address();
    let policy = format!(
        "[policy]\nactions = [\"service.*\", \"host.*\", \"maintenance.*\"]\nalertmanagers = [\"http://{own}:{PORT}\"]\n"
    );
    for node in VOTERS {
        fleet.host(node).write(POLICY_FILE, &policy, 0o644);
        let _ = fleet.host(node).run("systemctl restart quorate-helper quorate-agent").expect(0);
    }
    declare(
        fleet,
        &format!(
            "maintenance: {{ silence: {{ url: \"http://{own}:{PORT}\", required: true, matchers: ['node=\"\\${{node}}\"'] }} }}\nprobes:\n"
        ),
    );
    fleet.calm();
    let before = fleet.starts();
    // Without the drop-in the helper has no network, and nothing is disturbed that should be silenced.
    let ended = fleet.ended(&fleet.begin("rollout start --restart ledger"), LIMIT);
    assert_eq!(ended["state"], "FAILED", "{ended:#}");
    assert_eq!(fleet.starts(), before, "{ended:#}");
    for node in VOTERS {
        let granted = format!(
            "mkdir -p {HELPER_DIR} && sed 's/^IPAddressAllow=.*/IPAddressAllow={own}/' {DROP_IN} \
             > {HELPER_DIR}/helper-alertmanager.conf && systemctl daemon-reload && systemctl restart quorate-helper"
        );
        let _ = fleet.host(node).run(&granted).expect(0);
    }
    score(fleet.host(VOTERS[0]), "helper-alertmanager.conf", SILENCES);
    fleet.calm();
    let ended = fleet.ended(&fleet.begin("rollout start --restart ledger"), LIMIT);
    assert_eq!(ended["state"], "SUCCEEDED", "{ended:#}");
    assert_eq!((&ended["openObligations"], &ended["openGrants"]), (&0.into(), &0.into()), "{ended:#}");
    // `required`: each of these steps has seen its silence active, and the end of it.
    for (kind, said) in [("ENTER_MAINTENANCE", "is active"), ("EXIT_MAINTENANCE", "its silence has ended")] {
        let steps = ended["steps"].as_array().cloned().unwrap_or_default();
        let told = steps.iter().filter(|step| step["kind"] == kind && step.to_string().contains(said));
        assert_eq!(told.count(), VOTERS.len(), "{kind}: {ended:#}");
    }
    println!("  {} silences set and ended by helpers that reach {own} and nobody else", VOTERS.len());
    tidy(fleet);
}

/// As it was: the test's own hand.
fn tidy(fleet: &LabFleet) {
    declare(fleet, "probes:\n");
    for node in VOTERS {
        let taken = format!(
            "rm -r {HELPER_DIR} {POLICY_FILE} && systemctl daemon-reload && systemctl restart quorate-helper quorate-agent"
        );
        let _ = fleet.host(node).run(&taken).expect(0);
    }
    wait_for("the agents to be heard again", LIMIT, || {
        let serving = quorate_tests::cluster::serving(&fleet.instances());
        if serving.len() == VOTERS.len() { Ok(()) } else { Err(format!("{serving:?}")) }
    });
    fleet.calm();
}
