//! The release to upgrade to.

use std::process::ExitCode;

use quorate_cli::dev::ledger::{Build, Misbehave, main as sample};

fn main() -> ExitCode {
    sample(&Build { version: "1.1.0", broken: Misbehave::default() })
}
