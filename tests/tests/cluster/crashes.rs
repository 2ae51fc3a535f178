//! kill -9 of a host's daemons while they restart a service: the operation ends truthfully, nothing is started twice.

use std::fs;

use quorate_tests::cluster::{Daemon, Fleet, Poll};
use quorate_tests::wait::wait_for;

use crate::restart::{LIMIT, assert_restarted_once, steps};

pub(crate) fn agent_killed_during_a_restart(fleet: &Fleet) {
    killed(fleet, &[Daemon::Agent("node2")]);
}

pub(crate) fn helper_killed_during_a_restart(fleet: &Fleet) {
    killed(fleet, &[Daemon::Helper("node2")]);
}

pub(crate) fn both_killed_during_a_restart(fleet: &Fleet) {
    killed(fleet, &[Daemon::Agent("node2"), Daemon::Helper("node2")]);
}

fn killed(fleet: &Fleet, victims: &[Daemon<'_>]) {
    fleet.calm();
    let before = fleet.starts();
    // A stop that hangs until its limit of five seconds makes the moment wide.
    let misbehave = fleet.instance("node2").dir.join("misbehave");
    fs::write(&misbehave, "hang_on_stop = true\n").expect("the data directory is ours");
    let poll = Poll::begin(fleet.instances());
    let id = fleet.begin(&["rollout", "start", "--restart", "ledger", "--yes"]);
    wait_for("the restart of node2", LIMIT, || {
        let operation = fleet.operation(&id);
        let running = steps(&operation, "RESTART")
            .iter()
            .any(|step| step["node"] == "node2" && step["state"] == "RUNNING");
        if running { Ok(()) } else { Err(operation.to_string()) }
    });
    for victim in victims {
        fleet.kill(*victim);
    }
    let operation = fleet.ended(&id, LIMIT);
    fs::remove_file(&misbehave).expect("it was there");
    let tally = poll.end();
    let starts = fleet.starts();
    println!("  {victims:?}: {} ({})", operation["state"], operation["message"]);
    assert!(tally.below.is_empty(), "{tally:?}");
    assert_eq!(operation["openObligations"], 0, "{operation:#}");
    for step in steps(&operation, "RESTART") {
        let node = step["node"].as_str().unwrap_or_default();
        let begun = starts[node] - before[node];
        assert!(begun <= 1, "{node} was started {begun} times: {operation:#}");
        assert_eq!(step["state"] == "SUCCEEDED", begun == 1, "told {}, started {begun} times", step["state"]);
    }
    if operation["state"] == "SUCCEEDED" {
        assert_restarted_once(fleet, &operation, &before);
    } else {
        assert_eq!(operation["state"], "FAILED", "{operation:#}");
        assert_ne!(operation["message"], "", "a failure says why");
        let _ =
            fleet.quorate(&["service", "start", "ledger", "--node", "node2", "--wait", "--yes"]).expect(0);
    }
    fleet.calm();
}
