//! Every action in the sandbox of its unit, hooks with the drop-in that they need; what it has done is looked at with
//! Debian's own tools.

use std::time::Duration;

use quorate_tests::lab::{LabFleet, VOTERS};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(240);
const NODE: &str = VOTERS[0];
/// What the guide's declaration gets: paths of the guide's policy, hooks of the host's.
const FILES: &str = "backup: { paths: [/var/lib/ledger], pauseHook: ledger-pause, resumeHook: ledger-resume, pauseLimit: 30s }\n\
    logRotation: { paths: [/var/log/ledger/*.log], sizeBytes: 1, keep: 3, compress: true, reload: true }\nprobes:\n";
const HOOKS: &str = "[policy]\nhooks = [\"ledger-pause\", \"ledger-resume\"]\n\
    [hook.ledger-pause]\nhttp_post = \"http://127.0.0.1:8001/admin/pause-writes\"\n\
    [hook.ledger-resume]\nhttp_post = \"http://127.0.0.1:8001/admin/resume-writes\"\n";
/// Where the package keeps what an administrator may copy.
const DROP_IN: &str = "/usr/share/doc/quorate-agent/drop-ins/helper-local-http.conf";
const UNIT_DIR: &str = "/etc/systemd/system/quorate-helper.service.d";
/// What only loopback may be asked for is asked there: the sample listens on the bridge.
const SOCKET: &str = "[Socket]\nListenStream=127.0.0.1:8001\n";

/// Ends the operation that this begins.
fn done(fleet: &LabFleet, arguments: &str) -> Value {
    let ended = fleet.ended(&fleet.begin(arguments), LIMIT);
    assert_eq!(ended["state"], "SUCCEEDED", "{arguments}: {ended:#}");
    assert_eq!((&ended["openObligations"], &ended["openGrants"]), (&0.into(), &0.into()), "{ended:#}");
    ended
}

fn declare(fleet: &LabFleet, files: bool) {
    let block = fleet.guide.blocks.iter().find(|block| block.script.contains("quorate apply"));
    let script = &block.expect("the guide declares a service").script;
    let script = if files { script.replacen("probes:\n", FILES, 1) } else { script.clone() };
    let _ = fleet.quorate_shell(&script).expect(0);
}

fn prepare(fleet: &LabFleet) {
    let host = fleet.host(NODE);
    let proxy = format!("[Service]\nExecStart=/lib/systemd/systemd-socket-proxyd {}:8001\n", host.address());
    host.write("/etc/systemd/system/ledger-admin.socket", SOCKET, 0o644);
    host.write("/etc/systemd/system/ledger-admin.service", proxy, 0o644);
    host.write("/etc/quorate/agent.toml.d/30-hooks.toml", HOOKS, 0o644);
    let granted = format!(
        "install -D -m 0644 -t {UNIT_DIR} {DROP_IN} && systemctl daemon-reload && systemctl start ledger-admin.socket && \
         systemctl restart quorate-helper quorate-agent"
    );
    let _ = host.run(&granted).expect(0);
    declare(fleet, true);
    fleet.calm();
}

pub(crate) fn every_one_in_its_sandbox(fleet: &LabFleet) {
    prepare(fleet);
    let before = fleet.starts()[NODE];
    for verb in ["status", "stop", "start", "restart", "reload"] {
        let _ = done(fleet, &format!("service {verb} ledger --node {NODE}"));
    }
    assert_eq!(fleet.starts()[NODE], before + 2, "a start and a restart");
    for action in ["host.facts", "host.diagnose"] {
        let _ = done(fleet, &format!("action run {action} --node {NODE}"));
    }
    backed_up(fleet);
    rotated(fleet);
    let host = fleet.host(NODE);
    let score = host.run("systemd-analyze security --no-pager quorate-helper").stdout;
    let score = score.lines().find(|line| line.contains("Overall exposure")).unwrap_or_default().to_owned();
    println!("  with helper-local-http.conf {}", score.trim_start_matches(['→', ' ']));
    let taken = format!(
        "rm -r {UNIT_DIR} /etc/quorate/agent.toml.d/30-hooks.toml && systemctl daemon-reload && \
         systemctl restart quorate-helper quorate-agent"
    );
    declare(fleet, false);
    let _ = host.run(&taken).expect(0);
    fleet.calm();
}

/// The archive opens with tar; writes were paused by the hook and resumed.
fn backed_up(fleet: &LabFleet) {
    let host = fleet.host(NODE);
    let created = fleet.ended(&created(fleet), LIMIT);
    assert_eq!(created["state"], "SUCCEEDED", "{created:#}");
    assert_eq!(created["openObligations"], 0, "{created:#}");
    let list = fleet.json(&format!("backup list --service ledger --node {NODE}"));
    let backup = &list["backups"][0];
    let id = backup["backupId"].as_str().unwrap_or_else(|| panic!("{list:#}"));
    let _ = done(fleet, &format!("backup verify {id}"));
    let path = backup["receipt"]["path"].as_str().unwrap_or_else(|| panic!("{list:#}"));
    let listed = host.run(&format!("tar --zstd -tf {path}")).expect(0).stdout;
    assert!(listed.contains("starts.log"), "{listed}");
    let said = host.run("cat /var/log/ledger/ledger.log").stdout;
    let at = |text: &str| said.find(text).unwrap_or_else(|| panic!("no {text:?} in {said}"));
    assert!(at("writes paused") < at("writes resumed"), "{said}");
    println!("  {path}: {} names, writes were paused and resumed by http_post", listed.lines().count());
}

fn created(fleet: &LabFleet) -> String {
    let made = fleet.json(&format!("backup create ledger --node {NODE} --detach"));
    let name = made["name"].as_str().unwrap_or_else(|| panic!("{made:#}")).to_owned();
    name.rsplit('/').next().unwrap_or(&name).to_owned()
}

/// The old log is compressed beside a new one that the service writes to.
fn rotated(fleet: &LabFleet) {
    let host = fleet.host(NODE);
    let _ = done(fleet, &format!("log rotate ledger --node {NODE}"));
    let files = host.run("ls -l /var/log/ledger && zcat /var/log/ledger/*.gz | head -n 1").expect(0).stdout;
    println!("  {}", files.lines().filter(|line| line.contains(".log")).collect::<Vec<_>>().join("\n  "));
    assert!(files.contains("ledger.log\n") && files.contains(".gz"), "{files}");
}
