//! The simulation in every `cargo test`: sixty seeds, twenty of them twice with their traces compared byte for byte, and
//! every seed that ever failed. A sweep of more is a command: `cargo run -p quorate-tests --bin sim -- --seeds 2000`.
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

/// Seeds that failed once.
const REGRESSIONS: &str = include_str!("regressions.txt");

fn main() -> anyhow::Result<ExitCode> {
    // `cargo test -- --list` and filters for other tests come here, too: there is one test in this binary.
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == "--list") {
        println!("simulation: test");
        return Ok(ExitCode::SUCCESS);
    }
    let filter = words.iter().find(|word| !word.starts_with('-'));
    if filter.is_some_and(|word| !"simulation".contains(word.as_str())) {
        return Ok(ExitCode::SUCCESS);
    }
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
    let status = sim.status().context("the simulator runs")?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}
