//! The `quorate` binary.

use std::process::ExitCode;

use clap::Parser;
use quorate_cli::dev;

/// Quorum-aware operations on a fleet of Linux hosts
#[derive(Debug, Parser)]
#[command(name = "quorate", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// A local fleet on loopback
    Dev(dev::DevArgs),
}

#[tokio::main]
async fn main() -> ExitCode {
    let Command::Dev(args) = Cli::parse().command;
    match dev::run(args).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
