//! The crash suite of the stores: power cuts, failing calls, damaged directories. See `tests/src/crash/README.md`.
//!
//! A harness of its own: this program is also the load, the check and the probe, each in its own process.
//! `cargo test -p quorate-tests --test crash [-- PART_OF_A_NAME …]`; `QUORATE_STATES` is the number of power-cut states
//! (120 here, 2,000 for a release), `QUORATE_SEED` repeats a run.

use std::panic::catch_unwind;
use std::process::ExitCode;
use std::time::Instant;

use quorate_tests::crash::{coordinator_load, journal_load, log_load, run, store_load};

mod damaged;
mod points;
mod power;
mod recover;
mod rejoin;
mod weakened;

/// One test.
type Test = (&'static str, fn());

const TESTS: &[Test] = &[
    ("power::wrapper_alone", power::wrapper_alone),
    ("power::member_store", power::member_store),
    ("power::coordinator", power::coordinator),
    ("power::agent_helper", power::agent_helper),
    ("rejoin::one_command_brings_a_member_back", rejoin::one_command_brings_a_member_back),
    ("recover::one_survivor_carries_everything_on", recover::one_survivor_carries_everything_on),
    ("points::every_point_and_every_fault", points::every_point_and_every_fault),
    ("damaged::mutated_directories", damaged::mutated_directories),
    ("weakened::without_the_barrier", weakened::without_the_barrier),
    ("weakened::without_save_committed", weakened::without_save_committed),
    ("weakened::without_the_4k_rule", weakened::without_the_4k_rule),
];

/// A number from the environment.
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    number("QUORATE_SEED", now)
}

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|first| first == quorate_durable::PROBE_ARGUMENT) {
        return quorate_durable::probe_main(args);
    }
    let args = run::arguments();
    let loads = [store_load::process, log_load::process, coordinator_load::process, journal_load::process];
    if let Some(code) = loads.iter().find_map(|load| load(&args)) {
        return code;
    }
    quorate_common::tls::install();
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let chosen: Vec<&Test> = TESTS
        .iter()
        .filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str())))
        .collect();
    if std::env::args().any(|arg| arg == "--list") {
        chosen.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    println!("\nrunning {} tests", chosen.len());
    let mut failed = Vec::new();
    for (name, test) in &chosen {
        let begun = Instant::now();
        let outcome = catch_unwind(test);
        let took = begun.elapsed().as_secs_f32();
        match outcome {
            Ok(()) => println!("test {name} ... ok ({took:.1} s)"),
            Err(_) => {
                failed.push(*name);
                println!("test {name} ... FAILED ({took:.1} s)");
            }
        }
    }
    let verdict = if failed.is_empty() { "ok" } else { "FAILED" };
    let passed = chosen.len() - failed.len();
    println!("\ntest result: {verdict}. {passed} passed; {} failed: {failed:?}\n", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
