//! A broken release: it ends as soon as it is started.

use std::process::ExitCode;

use quorate_cli::dev::ledger::{Build, Misbehave, main as sample};

fn main() -> ExitCode {
    sample(&Build { version: "1.2.0", broken: Misbehave { crash_at_start: true, ..Misbehave::default() } })
}
