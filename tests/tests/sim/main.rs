//! The simulation in every `cargo test`: sixty seeds, twenty of them twice with their traces compared byte for byte, and
//! every seed that ever failed. A sweep of more is a command: `cargo run -p quorate-tests --bin sim -- --seeds 2000`.
//!
//! Then kill points: worlds in which somebody is killed within one rollout after the other, a world for each kind of rollout.
//! `QUORATE_KILL_POINTS` is their number (52 here, 940 for a release; the other sixty of a thousand are real processes').
//!
//! It fails when a run is false or not reproducible, when more than one run in twenty is unknown, and when any kind of fault
//! never happened in all of them.

use std::process::{Command, ExitCode};

use anyhow::Context as _;

/// Seeds of the gate (issue 3).
const SEEDS: u64 = 60;
/// Of those, run twice.
const TWICE: u64 = 20;
/// Of those, that may be unknown: faults are drawn, and once in a while they leave too little load to judge.
const UNKNOWN: u64 = 3;

/// Safety phase in simulated seconds: a little shorter than a sweep's. All of it takes twelve minutes of a core.
const SAFETY_S: u64 = 12;

/// Kinds of rollouts: a seed of kills has one.
const SCRIPTS: u64 = 13;
/// Kill points of each in the gate.
const POINTS: u64 = 4;
/// Seeds of kills that are run twice.
const KILLS_TWICE: u64 = 2;
/// Kill points of a seed when more are asked for: the first rounds of a world have none.
const POINTS_MANY: u64 = 10;

/// Seeds that failed once.
const REGRESSIONS: &str = include_str!("regressions.txt");

fn main() -> anyhow::Result<ExitCode> {
    // `cargo test -- --list` and filters for other tests come here, too: there are two tests in this binary.
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == "--list") {
        println!("simulation: test\nkills: test");
        return Ok(ExitCode::SUCCESS);
    }
    let asked = |name: &str| {
        let mut filters = words.iter().filter(|word| !word.starts_with('-')).peekable();
        filters.peek().is_none() || filters.any(|filter| name.contains(filter.as_str()))
    };
    let faults = if asked("simulation") { code(&mut simulation()?)? } else { 0 };
    let kills = if asked("kills") { code(&mut kills()?)? } else { 0 };
    Ok(ExitCode::from(if faults == 0 { kills } else { faults }))
}

/// The run of every kind of fault.
fn simulation() -> anyhow::Result<Command> {
    let mut sim = Command::new(env!("CARGO_BIN_EXE_sim"));
    for (flag, value) in
        [("--seeds", SEEDS), ("--twice", TWICE), ("--unknown", UNKNOWN), ("--safety", SAFETY_S)]
    {
        sim.args([flag, &value.to_string()]);
    }
    for line in REGRESSIONS.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let seed: u64 =
            line.split_whitespace().next().unwrap_or_default().parse().context("regressions.txt")?;
        // The others are among the sixty.
        if seed > SEEDS {
            sim.args(["--also", &seed.to_string()]);
        }
    }
    Ok(sim)
}

/// The run of kill points.
fn kills() -> anyhow::Result<Command> {
    let (seeds, points) = match std::env::var("QUORATE_KILL_POINTS") {
        Ok(all) => (all.parse::<u64>().context("QUORATE_KILL_POINTS")?.div_ceil(POINTS_MANY), POINTS_MANY),
        Err(_) => (SCRIPTS, POINTS),
    };
    let mut sim = Command::new(env!("CARGO_BIN_EXE_sim"));
    for (flag, value) in [("--seeds", seeds), ("--kills", points), ("--twice", KILLS_TWICE)] {
        sim.args([flag, &value.to_string()]);
    }
    Ok(sim)
}

fn code(command: &mut Command) -> anyhow::Result<u8> {
    let status = command.status().context("the simulator runs")?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}
