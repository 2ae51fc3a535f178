//! `quorate action`.

use clap::Subcommand;
use quorate_proto::v1;
use quorate_proto::v1::action_service_client::ActionServiceClient;

use super::{Ctx, Outcome, operation, run};
use crate::args::{Change, Select, Waiting};
use crate::call;
use crate::failure::exit;
use crate::render;
use crate::render::style::safe;
use crate::render::table::Columns;

/// The catalogue of typed actions
#[derive(Subcommand, Clone, Debug)]
pub enum ActionCommand {
    /// Every action that agents of this fleet can do
    #[command(alias = "ls")]
    List,
    /// Runs one action on nodes, with the same guards as any operation
    #[command(
        after_help = "Examples:\n  quorate action run host.facts --all\n  quorate action run service.status ledger -l role=voter"
    )]
    Run {
        /// Action name, for example host.diagnose
        action: String,
        /// Service, for service.* actions
        service: Option<String>,
        #[command(flatten)]
        select: Select,
        /// Nodes at once; 0 leaves it to the planner
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
pub async fn run(ctx: &Ctx, command: ActionCommand) -> Outcome {
    match command {
        ActionCommand::List => {
            let answer = call!(ctx.client()?, ActionServiceClient, list_actions, v1::ListActionsRequest {})?;
            render::answer(
                ctx.global.output,
                &answer,
                "quorate.v1.ListActionsResponse",
                Some("actions"),
                |_| {
                    let mut columns = Columns::new(&["action", "risk", "nodes", "description"]);
                    for action in &answer.actions {
                        columns.row([
                            safe(&action.name),
                            safe(&action.risk),
                            action.nodes.to_string(),
                            safe(&action.description),
                        ]);
                    }
                    columns.finish("No actions.")
                },
            )?;
            Ok(exit::DONE)
        }
        ActionCommand::Run { action, service, select, parallel, mut change, waiting } => {
            let spec = run::run_spec(&action, service.as_deref(), &select, parallel, None)?;
            let reads = matches!(
                action.as_str(),
                "service.status" | "host.facts" | "host.diagnose" | "service.start"
            );
            change.yes |= reads;
            operation::start(ctx, spec, change, waiting, &action).await
        }
    }
}
