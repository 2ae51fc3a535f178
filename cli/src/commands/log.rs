//! `quorate log`.

use clap::Subcommand;

use super::{Ctx, Outcome, operation, run};
use crate::args::{Change, Select, Waiting};

/// Logs on the hosts
#[derive(Subcommand, Clone, Debug)]
pub enum LogCommand {
    /// Rotates the logs of a service, one node at a time where it reloads
    #[command(after_help = "Examples:\n  quorate log rotate ledger --all --wait --yes")]
    Rotate {
        /// Service name
        service: String,
        #[command(flatten)]
        select: Select,
        /// Nodes at once
        #[arg(long, default_value_t = 0, value_name = "N")]
        parallel: u32,
        #[command(flatten)]
        change: Change,
        #[command(flatten)]
        waiting: Waiting,
    },
}

/// Runs it.
///
/// # Errors
/// What the API or the terminal gives.
pub async fn run(ctx: &Ctx, command: LogCommand) -> Outcome {
    let LogCommand::Rotate { service, select, parallel, change, waiting } = command;
    let spec = run::rotate_spec(&service, &select, parallel)?;
    operation::start(ctx, spec, change, waiting, &format!("Rotate logs of {service}")).await
}
