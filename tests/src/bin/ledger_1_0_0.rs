//! The sample that `quorate` carries itself, as a program of its own.

use std::process::ExitCode;

use quorate_cli::dev::ledger::{Build, Misbehave, main as sample};

fn main() -> ExitCode {
    sample(&Build { version: "1.0.0", broken: Misbehave::default() })
}
