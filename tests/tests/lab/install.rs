//! From bare hosts to a rolling restart with nothing but the guide; and what the installed units are.

use std::time::Instant;

use quorate_tests::cluster::Poll;
use quorate_tests::lab::{AGENTS, COORDINATORS, LabFleet};

/// The figures: commands on the first host, and on each further one.
const FIRST: usize = 9;
const FURTHER: usize = 3;
/// Units and the worst score of `systemd-analyze security` that they may have, in tenths.
const SCORES: [(&str, &str, u32); 3] =
    [("coord1", "quorate-coordinator", 15), ("node1", "quorate-agent", 15), ("node1", "quorate-helper", 20)];

pub(crate) fn by_the_guide_to_a_rolling_restart(fleet: &LabFleet) {
    let restart = fleet.guide.blocks.iter().find(|block| block.script.contains("rollout start"));
    let restart = restart.expect("the guide restarts something").line;
    let typed = |host: &str| {
        let blocks = fleet.guide.blocks.iter().filter(|block| block.line <= restart);
        blocks.filter(|block| block.hosts.iter().any(|name| name == host)).count()
    };
    assert!(typed("coord1") <= FIRST, "{} commands on the first host", typed("coord1"));
    for host in COORDINATORS[1..].iter().chain(&AGENTS) {
        assert_eq!(typed(host), FURTHER, "commands on {host}");
    }
    let before = fleet.starts();
    let poll = Poll::begin(fleet.instances());
    let begun = Instant::now();
    fleet
        .guide
        .type_all(fleet.lab(), |block| block.line == restart)
        .unwrap_or_else(|error| panic!("{error:#}"));
    let tally = poll.end();
    println!(
        "  {} commands on the first host, {FURTHER} on each other; rolling restart {:.1} s, {} looks, fewest {:?}",
        typed("coord1"),
        begun.elapsed().as_secs_f32(),
        tally.looks,
        tally.fewest
    );
    tally.assert_quorum();
    for (node, starts) in fleet.starts() {
        assert_eq!(starts, before[&node] + 1, "{node}");
    }
    // The rest of the guide: looking and metrics.
    fleet
        .guide
        .type_all(fleet.lab(), |block| block.line > restart)
        .unwrap_or_else(|error| panic!("{error:#}"));
}

pub(crate) fn units_are_locked_in(fleet: &LabFleet) {
    for (host, unit, most) in SCORES {
        let answer = fleet.host(host).run(&format!("systemd-analyze security --no-pager {unit}")).expect(0);
        let verdict =
            answer.stdout.lines().find(|line| line.contains("Overall exposure")).unwrap_or_default();
        println!("  {}", verdict.trim_start_matches(['→', ' ']));
        let tenths = |word: &str| {
            let (whole, tenth) = word.split_once('.')?;
            Some(whole.parse::<u32>().ok()? * 10 + tenth.parse::<u32>().ok()?)
        };
        let score = verdict.split_whitespace().find_map(tenths);
        assert!(score.is_some_and(|score| score <= most), "{unit}: {verdict}");
        let checked = fleet.host(host).run(&format!("systemd-analyze verify --man=no {unit}.service 2>&1"));
        assert!(checked.code == 0 && checked.stdout.is_empty(), "{unit}: {checked:?}");
    }
}

pub(crate) fn fields_of_the_journal(fleet: &LabFleet) {
    let id = fleet.begin("service restart ledger --node node1");
    assert_eq!(fleet.ended(&id, quorate_tests::lab::CALM)["state"], "SUCCEEDED");
    for field in [format!("QUORATE_OPERATION={id}"), "QUORATE_NODE=node1".to_owned()] {
        let lines = fleet.host("node1").run(&format!("journalctl --no-pager --output=cat {field}")).stdout;
        assert!(lines.lines().count() > 0, "no line with {field}");
    }
    fleet.calm();
}
