//! Everything is held back, and goes on, and windows and schedules are declared: with what the guide says.

use std::time::Duration;

use quorate_tests::lab::LabFleet;
use quorate_tests::wait::wait_for;

const LIMIT: Duration = Duration::from_secs(240);

pub(crate) fn by_the_guide(fleet: &LabFleet) {
    fleet.calm();
    let before = fleet.starts();
    let id = fleet.begin("rollout start --restart ledger");
    let _ = fleet.quorate_shell(&fleet.guide.shown("freeze apply").script).expect(0);
    let held = wait_for("the rollout to wait for the freeze", LIMIT, || {
        let operation = fleet.operation(&id);
        let reason = &operation["conditions"][0]["reason"];
        if *reason == "FREEZE" { Ok(operation) } else { Err(operation.to_string()) }
    });
    println!("  {}", held["conditions"][0]["message"]);
    let looked = fleet.quorate_shell(&fleet.guide.shown("freeze list").script).expect(0).stdout;
    assert!(looked.contains("Active"), "{looked}");
    let refused = fleet.quorate("rollout start --restart ledger --yes --wait").expect(3);
    assert!(refused.stderr.contains("reason: FREEZE"), "{}", refused.stderr);
    let starts = fleet.starts();
    assert!(starts.values().sum::<usize>() < before.values().sum::<usize>() + 3, "it was held in the middle");
    let _ = fleet.quorate_shell(&fleet.guide.shown("freeze delete").script).expect(0);
    assert_eq!(fleet.ended(&id, LIMIT)["state"], "SUCCEEDED");
    for (node, starts) in fleet.starts() {
        assert_eq!(starts, before[&node] + 1, "{node}");
    }
    for (block, told) in [("window apply", "saturdays"), ("schedule apply", "weekly")] {
        let shown = fleet.quorate_shell(&fleet.guide.shown(block).script).expect(0).stdout;
        assert!(shown.contains(told), "{shown}");
    }
    fleet.calm();
}
