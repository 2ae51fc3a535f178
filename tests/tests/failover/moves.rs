//! The role moves: asked for, and because its primary is lost. Nothing that was acknowledged is lost, and nobody sees two primaries.

use std::time::Duration;

use quorate_tests::proxy::{From, Rule, Trouble};
use quorate_tests::wait::wait_until;
use quorate_tests::writer::Writer;
use rustix::process::{Signal, kill_process};

use crate::pair::{LIMIT, Pair};

fn history(pair: &Pair) -> serde_json::Value {
    pair.status().expect("it is told")["history"][0].clone()
}

pub(crate) fn a_switchover_loses_nothing_and_comes_back(pair: &Pair) {
    let first = pair.whole();
    let second = pair.other(&first);
    let writer = Writer::begin(pair.proxied.fleet.pair());
    for to in [&second, &first] {
        let words = ["failover", "switchover", "pair", "--to", to, "--wait", "--yes", "--timeout", "60s"];
        let _ = pair.proxied.fleet.quorate(&words).expect(0);
        assert_eq!(pair.led_by(None), *to);
        let told = history(pair);
        assert_eq!((&told["state"], &told["planned"]), (&"COMPLETED".into(), &true.into()), "{told:#}");
        assert_eq!(told["lag"], 0, "{told:#}");
    }
    pair.assert_kept(&writer.end(), &first);
    pair.whole();
}

pub(crate) fn a_primary_that_is_killed_is_replaced(pair: &Pair) {
    let first = pair.whole();
    let second = pair.other(&first);
    let writer = Writer::begin(pair.proxied.fleet.pair());
    kill_process(pair.process(&first), Signal::KILL).expect("it can be killed");
    assert_eq!(pair.led_by(Some(&second)), second);
    let told = history(pair);
    assert_eq!((&told["from"], &told["to"]), (&first.as_str().into(), &second.as_str().into()), "{told:#}");
    pair.assert_kept(&writer.end(), &second);
    pair.bring_back(&first);
}

pub(crate) fn a_host_that_nobody_hears_stops_its_primary(pair: &Pair) {
    let first = pair.whole();
    let second = pair.other(&first);
    let unit = pair.process(&first);
    let writer = Writer::begin(pair.proxied.fleet.pair());
    let agent = pair.agent(&first);
    kill_process(agent, Signal::STOP).expect("it can be stopped");
    // By the other half alone: nobody hears this host, and it hears nobody.
    wait_until("the primary to be stopped by its host", LIMIT, || {
        rustix::process::test_kill_process(unit).is_err()
    });
    pair.led_by(Some(&second));
    kill_process(agent, Signal::CONT).expect("it can go on");
    let told = history(pair);
    assert!(told["why"].as_str().is_some_and(|why| why.contains("EXPIRED")), "{told:#}");
    pair.assert_kept(&writer.end(), &second);
    pair.bring_back(&first);
}

pub(crate) fn a_primary_beside_a_cut_off_leader_goes_on(pair: &Pair) {
    let first = pair.whole();
    let writer = Writer::begin(pair.proxied.fleet.pair());
    let leader = pair.proxied.fleet.leader();
    // The leader of the coordinators hears nobody but the primary's agent, and nobody but that hears it.
    let cut = |from, to| Rule { from, to, trouble: Trouble::Stall };
    let mut rules = vec![cut(From::Coordinators, Some(leader.clone())), cut(From::One(leader.clone()), None)];
    let others = (1..=5).map(|n| format!("node{n}")).filter(|node| *node != first);
    rules.extend(others.map(|node| cut(From::One(node), Some(leader.clone()))));
    pair.proxied.network.set(rules);
    let begun = std::time::Instant::now();
    wait_until("the fault to have lasted", LIMIT, || begun.elapsed() > Duration::from_secs(12));
    pair.proxied.network.set(Vec::new());
    let last = pair.led_by(None);
    pair.assert_kept(&writer.end(), &last);
    if last == first {
        pair.whole();
    } else {
        pair.bring_back(&first);
    }
}
