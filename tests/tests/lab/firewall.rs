//! Firewall rules are a configuration file, too (guide S5, lines 450-458): those that cut a host off from its coordinators go
//! back by that host alone.

use std::time::Duration;

use quorate_tests::lab::LabFleet;
use quorate_tests::wait::wait_for;
use serde_json::Value;

use crate::packages::pushed;

const LIMIT: Duration = Duration::from_secs(180);
/// Hosts that the sample has no part in.
const NODES: [&str; 2] = ["node4", "node5"];
const RULES: &str = "/etc/firewall/rules.v4";
const DROP_INS: &str = "/usr/share/doc/quorate-agent/drop-ins";
const HELPER_DIR: &str = "/etc/systemd/system/quorate-helper.service.d";
const POLICY_FILE: &str = "/etc/quorate/agent.toml.d/30-firewall.toml";
/// The rules are the kernel's; the unit puts them there, and does so again when it is reloaded.
const UNIT: &str = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/sbin/iptables-restore /etc/firewall/rules.v4\n\
    ExecReload=/usr/sbin/iptables-restore /etc/firewall/rules.v4\n[Install]\nWantedBy=multi-user.target\n";
/// The helper may not ask the kernel for its rules; PID 1 does it for it, and is given the candidate and not its path.
const CHECK: &str =
    "#!/bin/sh\nexec systemd-run --quiet --wait --pipe /usr/sbin/iptables-restore --test < \"$1\"\n";
const POLICY: &str = "[policy]\nactions = [\"service.*\", \"backup.*\", \"log.rotate\", \"host.*\", \"artifact.*\", \"config.*\"]\n\
    services = [\"ledger\", \"firewall\"]\nhooks = [\"firewall-check\"]\nconfigs = [\"/etc/firewall\"]\nunsigned = true\n\
    [hook.firewall-check]\nargv = [\"/usr/local/lib/firewall-check\", \"{file}\"]\n";
const DECLARED: &str = "quorate apply --yes --file - <<END
kind: Service
name: firewall
driver: { systemdUnit: firewall.service }
nodes: { names: [node4, node5] }
configs:
  - { name: rules, path: /etc/firewall/rules.v4, check: firewall-check, apply: RELOAD, confirm: 20s }
---
kind: ServiceGroup
name: firewall
service: firewall
voters: [node4, node5]
policy: { kind: MIN_AVAILABLE, count: 1 }
END";

const OPEN: &str = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n";

/// The rules with one more.
fn with(rule: &str) -> String {
    OPEN.replace("COMMIT", &format!("{rule}\nCOMMIT"))
}

fn prepare(fleet: &LabFleet) {
    for node in NODES {
        let host = fleet.host(node);
        host.write("/etc/systemd/system/firewall.service", UNIT, 0o644);
        host.write("/usr/local/lib/firewall-check", CHECK, 0o755);
        host.write(RULES, OPEN, 0o644);
        host.write(POLICY_FILE, POLICY, 0o644);
        let granted = format!(
            "install -d {HELPER_DIR} && sed 's:/etc/ledger:/etc/firewall:' {DROP_INS}/helper-configs.conf \
             > {HELPER_DIR}/helper-configs.conf && systemctl daemon-reload && systemctl enable --now firewall && \
             systemctl restart quorate-helper quorate-agent"
        );
        let _ = host.run(&granted).expect(0);
    }
    let _ = fleet.quorate_shell(DECLARED).expect(0);
    fleet.calm();
}

/// The rules that the kernel of a host has now.
fn rules(fleet: &LabFleet, node: &str) -> String {
    fleet.host(node).run("iptables-save -t filter").expect(0).stdout
}

fn rollout(fleet: &LabFleet, version: &str, content: &str) -> String {
    fleet.host("coord1").write("/root/rules.v4", content, 0o644);
    let digest = pushed(fleet, "/root/rules.v4");
    let what = format!("rollout start firewall --config rules --release {version} --artifact {digest}");
    fleet.begin(&format!("{what} --canary 1 --on-failure rollback"))
}

fn ended(fleet: &LabFleet, id: &str, wanted: &str) -> Value {
    let ended = fleet.ended(id, LIMIT);
    println!("  {}: {}", ended["state"], ended["message"]);
    assert_eq!(ended["state"], wanted, "{ended:#}");
    assert_eq!((&ended["openObligations"], &ended["openGrants"]), (&0.into(), &0.into()), "{ended:#}");
    ended
}

pub(crate) fn a_host_that_cuts_itself_off(fleet: &LabFleet) {
    prepare(fleet);
    let good = "-A INPUT -p tcp --dport 9090 ! -s 10.0.0.0/8 -j DROP";
    let _ = ended(fleet, &rollout(fleet, "1", &with(good)), "SUCCEEDED");
    for node in NODES {
        assert!(rules(fleet, node).contains("--dport 9090"), "{node}");
    }
    // Its own check refuses what is no rule; nothing is touched.
    let refused = ended(fleet, &rollout(fleet, "2", &with("-A INPUT --dport eleven -j DROP")), "FAILED");
    assert!(refused.to_string().contains("CONFIG_REJECTED"), "{refused:#}");
    // The check reads, and does not ask the kernel; the kernel refuses, and has the rules from before again.
    let refused = ended(fleet, &rollout(fleet, "3", &with("-A NOWHERE -j DROP")), "ROLLED_BACK");
    assert!(refused.to_string().contains("its reload failed"), "{refused:#}");
    // Well-formed, and nobody can be told any more.
    let id = rollout(fleet, "4", &with("-A OUTPUT -p tcp --dport 7443 -j DROP"));
    let cut = wait_for("the canary to cut itself off", LIMIT, || {
        let cut = NODES.iter().find(|node| rules(fleet, node).contains("--dport 7443"));
        cut.copied().ok_or_else(|| fleet.operation(&id).to_string())
    });
    wait_for("it to be missed", LIMIT, || {
        let shown = fleet.json(&format!("node show {cut}"));
        if shown["status"] == "READY" { Err(shown.to_string()) } else { Ok(()) }
    });
    wait_for("the rules from before to be back", LIMIT, || {
        let now = rules(fleet, cut);
        let back = now.contains("--dport 9090") && !now.contains("--dport 7443");
        if back { Ok(()) } else { Err(now) }
    });
    let _ = fleet.ended(&id, LIMIT);
    let told = fleet.operation(&id);
    println!("  {cut} was cut off and came back: {}, {}", told["state"], told["message"]);
    assert!(["FAILED", "ROLLED_BACK"].map(Value::from).contains(&told["state"]), "{told:#}");
    assert_eq!((&told["openObligations"], &told["openGrants"]), (&0.into(), &0.into()), "{told:#}");
    for node in NODES {
        let (kernel, file) = (rules(fleet, node), fleet.host(node).run(&format!("cat {RULES}")).stdout);
        assert!(kernel.contains("--dport 9090") && !kernel.contains("--dport 7443"), "{node}: {kernel}");
        assert_eq!(file, with(good), "{node}");
    }
    tidy(fleet);
}

/// As it was: the test's own hand.
fn tidy(fleet: &LabFleet) {
    fleet.calm();
    let _ = fleet.quorate("group delete firewall --yes --reason 'the test is over'").expect(0);
    let _ = fleet.quorate("service delete firewall --yes --reason 'the test is over'").expect(0);
    for node in NODES {
        let taken = format!(
            "systemctl disable --now firewall; iptables -F; rm -r {HELPER_DIR} {POLICY_FILE} /etc/firewall \
             /etc/systemd/system/firewall.service; systemctl daemon-reload && systemctl restart quorate-helper quorate-agent"
        );
        let _ = fleet.host(node).run(&taken).expect(0);
    }
    fleet.calm();
}
