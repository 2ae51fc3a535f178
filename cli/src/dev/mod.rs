//! `quorate dev`: a whole fleet of real processes on loopback, and the sample service it runs.
//!
//! Everything goes the way it goes in production: real daemons, a fresh CA, mutual TLS, enrolment by token, the API.
//! What it must never do: listen anywhere but on loopback, touch a process it cannot prove is its own (pid *and* start
//! time), or leave one behind.

use std::process::ExitCode;

mod config;
mod fleet;
mod http;
mod layout;
pub mod ledger;
mod process;
mod sweep;

/// A local fleet on loopback, for trying things out
#[derive(Debug, Clone, clap::Args)]
pub struct DevArgs {
    #[command(subcommand)]
    command: DevCommand,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum DevCommand {
    /// One instance of the sample service (started by the fleet's agents)
    #[command(hide = true)]
    Ledger(ledger::LedgerArgs),
}

/// Runs `quorate dev`.
///
/// # Errors
/// What failed, in words for the person at the terminal.
pub async fn run(args: DevArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        DevCommand::Ledger(args) => ledger::run(args).await,
    }
}
