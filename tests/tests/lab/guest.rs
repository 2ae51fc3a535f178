//! A host comes, loses its certificate while it is cut off, and goes for good: what the guide says of each.

use std::time::{Duration, Instant};

use quorate_tests::lab::{AGENTS, GUEST, LabFleet};
use quorate_tests::wait::wait_for;

const LIMIT: Duration = Duration::from_secs(120);
/// The life of a certificate in the lab, the clocks' tolerance and some more.
const ENDED: Duration = Duration::from_secs(420);
/// Reason of the operation that the cut and the certificate's end meet.
const IN_THE_MIDDLE: &str = "in the middle";
const AGENT: &str = "quorate-agent";
/// Where the agent keeps its certificate.
const CERTIFICATE: &str = "/var/lib/quorate/agent/tls/cert.pem";

fn status(fleet: &LabFleet) -> Option<String> {
    let shown = fleet.quorate(&format!("node show {GUEST} -o json"));
    (shown.code == 0).then(|| shown.json()["status"].as_str().unwrap_or_default().to_owned())
}

fn wait_status(fleet: &LabFleet, wanted: &str) {
    wait_for(&format!("{GUEST} to be {wanted}"), LIMIT, || {
        let now = status(fleet);
        if now.as_deref() == Some(wanted) { Ok(()) } else { Err(format!("{now:?}")) }
    });
}

/// One token for the guest, by the guide's own command.
fn bring_token(fleet: &LabFleet) {
    let for_all = AGENTS.join(" ");
    let tokens = fleet.guide.blocks.iter().find(|block| block.script.contains(&for_all));
    let script = tokens.expect("the guide makes tokens").script.replace(&for_all, GUEST);
    let _ = fleet.quorate_shell(&script).expect(0);
}

/// "As above: one token, three commands."
fn add(fleet: &LabFleet) {
    bring_token(fleet);
    let last = AGENTS[AGENTS.len() - 1];
    for block in fleet.guide.blocks.iter().filter(|block| block.hosts.iter().any(|host| host == last)) {
        let _ = fleet.host(GUEST).run(&block.script).expect(0);
    }
    wait_status(fleet, "READY");
}

/// The last of its certificate's life passes while nobody can be asked for a new one.
pub(crate) fn added_and_cut_off(fleet: &LabFleet) {
    fleet.calm();
    if status(fleet).is_none() {
        add(fleet);
    }
    fleet.host(GUEST).cut(true);
    let id = fleet.begin(&format!("action run host.diagnose --node {GUEST} --reason '{IN_THE_MIDDLE}'"));
    wait_status(fleet, "DOWN");
    println!("  cut off, {id} waits for it");
}

pub(crate) fn certificate_ends_meanwhile(fleet: &LabFleet) {
    fleet.calm();
    if status(fleet).as_deref() != Some("DOWN") {
        added_and_cut_off(fleet);
    }
    let host = fleet.host(GUEST);
    let begun = Instant::now();
    wait_for("the certificate to end", ENDED, || {
        let left = host.run(&format!("openssl x509 -in {CERTIFICATE} -noout -checkend 0"));
        if left.code == 1 { Ok(()) } else { Err(format!("{left:?}")) }
    });
    println!("  ended after another {:.0} s", begun.elapsed().as_secs_f32());
    wait_for("the agent to say so", LIMIT, || {
        let said = host.run("journalctl --no-pager --output=cat --unit=quorate-agent --lines=50").stdout;
        if said.contains("the certificate has ended") { Ok(()) } else { Err(said) }
    });
    let operations = fleet.json("operation list")["operations"].take();
    let in_the_middle = |row: &&serde_json::Value| row["reason"] == IN_THE_MIDDLE;
    let name = operations.as_array().and_then(|rows| rows.iter().find(in_the_middle)?["name"].as_str());
    let id = name.and_then(|name| name.rsplit('/').next()).unwrap_or_else(|| panic!("{operations:#}"));
    let ended = fleet.ended(id, LIMIT);
    println!("  {id}: {} {}", ended["state"], ended["message"]);
    assert_eq!(ended["state"], "FAILED", "{ended:#}");
    assert_eq!((&ended["openObligations"], &ended["openGrants"]), (&0.into(), &0.into()), "{ended:#}");
    let cursor = host.journal_now(AGENT);
    host.cut(false);
    // It reaches them again and stays out.
    wait_for("the agent to be refused", LIMIT, || {
        let said = host.said_since(AGENT, &cursor);
        if said.contains("CertificateExpired") { Ok(()) } else { Err(said) }
    });
    for _ in 0..20 {
        assert_eq!(status(fleet).as_deref(), Some("DOWN"));
    }
    // The name is taken: a token alone does not give it away, and the refusal says what to do.
    bring_token(fleet);
    let cursor = host.journal_now(AGENT);
    assert_ne!(host.run("systemctl restart quorate-agent").code, 0);
    let said = host.said_since(AGENT, &cursor);
    assert!(said.contains("quorate node remove"), "{said}");
    remove(fleet);
    let _ = host.run("systemctl reset-failed quorate-agent && systemctl restart quorate-agent").expect(0);
    wait_status(fleet, "READY");
}

/// The guide's command for a host that is gone.
fn remove(fleet: &LabFleet) {
    let script = fleet.guide.shown("node remove").script.replace("node1", GUEST);
    let _ = fleet.quorate_shell(&script).expect(0);
    assert_eq!(status(fleet).as_deref(), Some("REMOVED"));
}

/// "When it is gone for good, take it out; its certificate is refused from then on."
pub(crate) fn gone_for_good(fleet: &LabFleet) {
    fleet.calm();
    if status(fleet).is_none() {
        add(fleet);
    }
    remove(fleet);
    let listed = fleet.quorate("node list").expect(0).stdout;
    assert!(!listed.contains(GUEST), "it is still listed: {listed}");
    let host = fleet.host(GUEST);
    let cursor = host.journal_now(AGENT);
    let _ = host.run("systemctl restart quorate-agent --no-block").expect(0);
    wait_for("the agent to be refused", LIMIT, || {
        let said = host.said_since(AGENT, &cursor);
        if said.contains("CertificateRevoked") { Ok(()) } else { Err(said) }
    });
    assert_eq!(status(fleet).as_deref(), Some("REMOVED"));
    purge(fleet);
}

/// The package goes and leaves nothing but its users: no unit, configuration, identity, journal.
fn purge(fleet: &LabFleet) {
    let host = fleet.host(GUEST);
    let _ = host.run("apt-get purge -y quorate-agent").expect(0);
    let left = host.run(
        "systemctl list-unit-files --no-legend 'quorate-*'; find /etc /usr /run /var/lib \
         -path /usr/share/doc -prune -o -name '*quorate*' ! -path /var/lib/quorate -print; find /var/lib/quorate -mindepth 1",
    );
    let left: Vec<&str> = left.stdout.lines().collect();
    println!("  purged; left: {left:?}");
    assert!(left.is_empty(), "{left:?}");
}
