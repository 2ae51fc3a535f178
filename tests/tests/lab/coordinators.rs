//! The leading coordinator's host is cut off, or stands still; then it is back.

use std::time::{Duration, Instant};

use quorate_tests::cluster::Poll;
use quorate_tests::lab::{COORDINATORS, LabFleet};
use quorate_tests::wait::wait_for;

const LIMIT: Duration = Duration::from_secs(240);

pub(crate) fn leaders_host_cut_off(fleet: &LabFleet) {
    without_the_leader(fleet, "cut off", |leader, gone| fleet.host(leader).cut(gone));
}

pub(crate) fn frozen_leader(fleet: &LabFleet) {
    without_the_leader(fleet, "frozen", |leader, gone| fleet.host(leader).freeze(gone));
}

fn without_the_leader(fleet: &LabFleet, what: &str, gone: impl Fn(&str, bool)) {
    fleet.calm();
    let before = fleet.starts();
    let leader = fleet.leader("coord1");
    let other = COORDINATORS.iter().find(|name| **name != leader).expect("there are three");
    let poll = Poll::begin(fleet.instances());
    let id = fleet.begin("rollout start --restart ledger");
    wait_for("the first restart", LIMIT, || {
        let starts = fleet.starts();
        if starts == before { Err(format!("{starts:?}")) } else { Ok(()) }
    });
    let begun = Instant::now();
    gone(&leader, true);
    let next = wait_for("another leader", LIMIT, || {
        let next = fleet.leader(other);
        if next == leader { Err(next) } else { Ok(next) }
    });
    let took = begun.elapsed();
    let state = wait_for("the rollout to end without the host", LIMIT, || {
        let shown = fleet.quorate_on(other, &format!("operation show {id} -o json"));
        let state = if shown.code == 0 {
            shown.json()["state"].as_str().unwrap_or_default().to_owned()
        } else {
            shown.stderr
        };
        if state == "SUCCEEDED" { Ok(state) } else { Err(state) }
    });
    gone(&leader, false);
    let tally = poll.end();
    println!(
        "  {leader} {what}: {next} leads after {:.1} s, rollout {state}, {} looks, fewest {:?}",
        took.as_secs_f32(),
        tally.looks,
        tally.fewest
    );
    tally.assert_quorum();
    for (node, starts) in fleet.starts() {
        assert_eq!(starts, before[&node] + 1, "{node} is restarted once");
    }
    fleet.calm();
}
