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
        let said = host.run(
            "curl -ks https://127.0.0.1:7480/readyz?verbose || curl -s http://127.0.0.1:7480/readyz?verbose",
        );
        let text = said.stdout.to_lowercase();
        if text.contains("space") || text.contains("disk") {
            Ok(said.stdout)
        } else {
            Err(format!("{said:?}\n{}", host.journal(20)))
        }
    });
    println!(
        "  {full}: {}",
        said.lines().find(|line| line.contains("space") || line.contains("disk")).unwrap_or_default()
    );
    host.fill_state_disk(false);
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
