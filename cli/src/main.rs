//! The `quorate` binary.

use std::process::ExitCode;

use clap::Parser;
use quorate_cli::cli::{Cli, Command, run};
use quorate_cli::failure::exit;
use quorate_cli::{dev, render};

fn main() -> ExitCode {
    // A second provider cannot be in the build (tidy.rs), so this succeeds; if it were set already, that one is aws-lc too.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { exit::DONE });
        }
    };
    render::style::set_up(cli.global.color);
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the runtime cannot start: {error}");
            return ExitCode::from(exit::FAILED);
        }
    };
    runtime.block_on(async {
        if let Command::Dev(args) = cli.command {
            return dev::run(args).await.unwrap_or_else(|error| {
                eprintln!("error: {error:#}");
                ExitCode::from(exit::FAILED)
            });
        }
        match run(cli).await {
            Ok(code) => ExitCode::from(code),
            Err(failure) => {
                failure.show();
                ExitCode::from(failure.code)
            }
        }
    })
}
