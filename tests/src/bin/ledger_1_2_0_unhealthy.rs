//! A broken release: it starts, and never answers its health check well.

use std::process::ExitCode;

use quorate_cli::dev::ledger::{Build, Misbehave, main as sample};

fn main() -> ExitCode {
    sample(&Build {
        version: "1.2.0",
        broken: Misbehave { unhealthy_after_ms: Some(0), ..Misbehave::default() },
    })
}
