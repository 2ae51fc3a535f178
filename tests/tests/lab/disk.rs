//! A disk is full: the state is clear, nothing is lost, and it goes on by itself when there is space again.

use std::time::Duration;

use quorate_tests::lab::{COORDINATORS, LabFleet, VOTERS};
use quorate_tests::wait::wait_for;

const LIMIT: Duration = Duration::from_secs(240);

pub(crate) fn full_on_a_coordinator(fleet: &LabFleet) {
    fleet.calm();
    let leader = fleet.leader("coord1");
    let full = COORDINATORS.iter().rev().find(|name| **name != leader).expect("there are three");
    let host = fleet.host(full);
    host.fill_state_disk(true);
    // Two of three go on: writes are acknowledged.
    for node in ["node4", "node5"] {
        let _ = fleet.quorate(&format!("node cordon {node} --reason full --yes")).expect(0);
        let _ = fleet.quorate(&format!("node uncordon {node} --yes")).expect(0);
    }
    let said = wait_for("the member to say that its disk is full", LIMIT, || {
        let ready = host.run("curl -fsS http://127.0.0.1:7480/readyz?verbose");
        let journal =
            host.run("journalctl --no-pager --output=cat --unit=quorate-coordinator --lines=20").stdout;
        let storage = ready.stdout.lines().find(|line| line.starts_with("[!] storage: ")).map(str::to_owned);
        match storage {
            Some(line) if journal.contains("short of disk space") => Ok(line),
            _ => Err(format!("{ready:?}\n{journal}")),
        }
    });
    println!("  {full}: {said}");
    let done = fleet.ended(&fleet.begin("service restart ledger --node node1"), LIMIT);
    assert_eq!(done["state"], "SUCCEEDED", "two of three have room: {done:#}");
    // Whoever leads takes on what it has room for, and says why not.
    let leader = fleet.leader("coord1");
    assert_ne!(leader, *full, "a member without room lets others lead");
    let leading = fleet.host(&leader);
    leading.fill_state_disk(true);
    let refused = fleet.quorate("service restart ledger --node node1 --yes --detach");
    println!("  {leader}: {}", refused.stderr.lines().next().unwrap_or_default());
    assert_ne!(refused.code, 0, "{refused:?}");
    assert!(refused.stderr.contains("must stay free"), "{refused:?}");
    leading.fill_state_disk(false);
    host.fill_state_disk(false);
    fleet.calm();
    let done = fleet.ended(&fleet.begin("service restart ledger --node node1"), LIMIT);
    assert_eq!(done["state"], "SUCCEEDED", "there is room again: {done:#}");
    fleet.calm();
    let again = host.run("systemctl is-active quorate-coordinator");
    assert_eq!(again.stdout.trim(), "active", "it came back by itself");
}

pub(crate) fn full_on_an_agent(fleet: &LabFleet) {
    fleet.calm();
    let (node, before) = (VOTERS[2], fleet.starts());
    let host = fleet.host(node);
    host.fill_state_disk(true);
    let restart = format!("service restart ledger --node {node}");
    let refused = fleet.ended(&fleet.begin(&restart), LIMIT);
    println!("  {}: {}", refused["state"], refused["message"]);
    assert_eq!(refused["state"], "FAILED", "{refused:#}");
    let said = refused["message"].as_str().unwrap_or_default();
    assert!(said.contains("bytes free"), "it does not say why: {said}");
    assert_eq!(fleet.starts(), before, "what can not be recorded is not begun");
    assert_eq!(host.run("systemctl is-active quorate-agent quorate-helper").stdout, "active\nactive\n");
    // Reading needs no room.
    let facts = fleet.ended(&fleet.begin(&format!("action run host.facts --node {node}")), LIMIT);
    assert_eq!(facts["state"], "SUCCEEDED", "{facts:#}");
    host.fill_state_disk(false);
    let done = fleet.ended(&fleet.begin(&restart), LIMIT);
    assert_eq!(done["state"], "SUCCEEDED", "it takes work again by itself: {done:#}");
    assert_eq!(fleet.starts()[node], before[node] + 1);
    fleet.calm();
}
