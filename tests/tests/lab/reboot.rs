//! The power of a host goes in the middle of a step.

use std::time::{Duration, Instant};

use quorate_tests::cluster::Poll;
use quorate_tests::lab::{LabFleet, VOTERS};
use quorate_tests::wait::wait_for;

const LIMIT: Duration = Duration::from_secs(240);

pub(crate) fn in_the_middle_of_a_step(fleet: &LabFleet) {
    fleet.calm();
    let before = fleet.starts();
    let id = fleet.begin("rollout start --restart ledger");
    let node = wait_for("a member to be restarted", LIMIT, || {
        let starts = fleet.starts();
        VOTERS
            .iter()
            .find(|node| starts[**node] > before[**node])
            .copied()
            .ok_or_else(|| format!("{starts:?}"))
    });
    let begun = Instant::now();
    let host = fleet.host(node);
    host.end();
    let poll = Poll::begin(fleet.instances());
    // Long enough for the fleet to notice, and for a wrong step to be taken.
    let status = wait_for("the node to be down", LIMIT, || {
        let status =
            fleet.json(&format!("node show {node}"))["status"].as_str().unwrap_or_default().to_owned();
        if status == "DOWN" { Ok(status) } else { Err(status) }
    });
    let noticed = begun.elapsed();
    let starts = fleet.starts();
    let others =
        VOTERS.iter().filter(|other| **other != node).filter(|other| starts[**other] > before[**other]);
    assert_eq!(others.count(), 0, "nobody else is restarted while {node} has no power");
    host.power_on().expect("it boots");
    host.wait_up();
    let ended = fleet.ended(&id, LIMIT);
    let tally = poll.end();
    println!(
        "  {node} {status} after {:.1} s; {} after {:.1} s; {} looks, fewest {:?}",
        noticed.as_secs_f32(),
        ended["state"],
        begun.elapsed().as_secs_f32(),
        tally.looks,
        tally.fewest
    );
    assert!(["SUCCEEDED", "FAILED"].iter().any(|state| ended["state"] == *state), "{ended:#}");
    assert_eq!((&ended["openObligations"], &ended["openGrants"]), (&0.into(), &0.into()), "{ended:#}");
    assert!(tally.below.is_empty(), "fewer than 2 of 3 served: {tally:?}");
    fleet.calm();
}
