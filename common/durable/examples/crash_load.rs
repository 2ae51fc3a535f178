//! The crash suite's load on the wrapper with the 4 KiB rule taken out (`tests/src/crash/README.md`). For that suite only.

#[path = "../../../tests/src/crash/store_load.rs"]
mod store_load;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|first| first == quorate_durable::PROBE_ARGUMENT) {
        return quorate_durable::probe_main(args);
    }
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    store_load::process(&args).unwrap_or(ExitCode::from(64))
}
