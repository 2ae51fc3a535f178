//! Runs named tests one after another over one fleet, and ends that fleet whatever happens: a static would never be dropped.
//!
//! Must never: count a test as passed that did not run, or give the next test what a failed one has left.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use crate::cluster::Fleet;

/// What many tests share, one after another.
pub trait Fixture {
    /// Prints what helps to understand why a test failed.
    fn tell(&self);
}

impl Fixture for Fleet {
    fn tell(&self) {
        Self::tell(self);
    }
}

/// One test.
pub type Test<F = Fleet> = (&'static str, fn(&F));

/// Runs the tests whose names hold one of the words of the command line, all without any. A failed test gets the next
/// one a new fleet.
#[must_use]
pub fn run<F: Fixture>(tests: &[Test<F>], new_fleet: impl Fn() -> F) -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let chosen: Vec<&Test<F>> = tests
        .iter()
        .filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str())))
        .collect();
    if std::env::args().any(|arg| arg == "--list") {
        chosen.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    println!("\nrunning {} tests", chosen.len());
    let mut fleet: Option<F> = None;
    let mut failed = Vec::new();
    for (name, test) in &chosen {
        let begun = Instant::now();
        let up = catch_unwind(AssertUnwindSafe(|| fleet.take().unwrap_or_else(&new_fleet)));
        let Ok(running) = up else {
            failed.push(*name);
            println!("test {name} ... FAILED: no fleet");
            continue;
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| test(&running)));
        let took = begun.elapsed().as_secs_f32();
        if outcome.is_ok() {
            println!("test {name} ... ok ({took:.1} s)");
            fleet = Some(running);
        } else {
            // Whatever is wrong with this fleet must not fail the next test too.
            running.tell();
            failed.push(*name);
            println!("test {name} ... FAILED ({took:.1} s)");
        }
    }
    drop(fleet);
    let verdict = if failed.is_empty() { "ok" } else { "FAILED" };
    let passed = chosen.len() - failed.len();
    println!("\ntest result: {verdict}. {passed} passed; {} failed: {failed:?}\n", failed.len());
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
