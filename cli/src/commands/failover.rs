//! `quorate failover`.

use clap::Subcommand;
use quorate_proto::v1;
use quorate_proto::v1::failover_service_client::FailoverServiceClient;

use super::{Ctx, Outcome, operation, pages, run};
use crate::args::{Change, Page, Waiting};
use crate::call;
use crate::confirm;
use crate::failure::exit;
use crate::render::style::{self, safe, title};
use crate::render::table::{Columns, age, dash, span};
use crate::render::{self, json};

const SWITCHOVER_HELP: &str = "Examples:\n  quorate failover switchover db --dry-run\n  quorate failover switchover db --to node2 --wait \
     --yes --reason 'node1 gets new disks'\n  quorate failover switchover db --lost --wait --yes\n\nThe primary \
     gives its role back and stops; the standby that has all of it is promoted, and the old primary\nbecomes its \
     standby. Refused where the standby is behind. With --lost the primary is given up: nobody is promoted\n\
     before it has stopped or its lease is over, and what it had not passed on is lost.";

/// The primary role of a group: who holds it, and how it is moved
#[derive(Subcommand, Clone, Debug)]
pub enum FailoverCommand {
    /// Who leads, under which lease, and what is thought of it; of one group, or of all
    #[command(
        after_help = "Examples:\n  quorate failover status\n  quorate failover status db -o json\n\nExit code 1 when a primary is lost or nobody leads."
    )]
    Status {
        /// The group
        group: Option<String>,
        #[command(flatten)]
        page: Page,
    },
    /// Moves the role to a standby
    #[command(after_help = SWITCHOVER_HELP)]
    Switchover {
        /// The group
        group: String,
        /// The node that is to lead; the fittest one when it is not given
        #[arg(long, value_name = "NODE")]
        to: Option<String>,
        /// The primary is lost: do not wait until the standby has all of it
        #[arg(long)]
        lost: bool,
        #[command(flatten)]
        change: Change,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Ends the hold-down after a failover: the role may be moved without being asked again
    #[command(after_help = "Examples:\n  quorate failover acknowledge db --reason 'the disk was replaced'")]
    Acknowledge {
        /// The group
        group: String,
        #[command(flatten)]
        change: Change,
    },
    /// How the role came to be moved before, newest first
    #[command(after_help = "Examples:\n  quorate failover history db")]
    History {
        /// The group
        group: String,
    },
}

/// Runs it.
///
/// # Errors
/// What the API or the terminal gives.
pub async fn run(ctx: &Ctx, command: FailoverCommand) -> Outcome {
    match command {
        FailoverCommand::Status { group: None, page } => list(ctx, page.limit).await,
        FailoverCommand::Status { group: Some(group), page: _ } => {
            let found = get(ctx, group).await?;
            render::answer(ctx.global.output, &found, "quorate.v1.Failover", None, |_| screen(&found))?;
            Ok(if is_well(&found) { exit::DONE } else { exit::FAILED })
        }
        FailoverCommand::Switchover { group, to, lost, change, waiting } => {
            let work = run::failover_spec(&group, to.as_deref(), lost);
            let target = to.as_deref().map_or_else(|| "its standby".to_owned(), safe);
            let what = if lost {
                format!(
                    "Give up the primary of {} and promote {target}: what it has not passed on is lost",
                    safe(&group)
                )
            } else {
                format!("Move the primary role of {} to {target}", safe(&group))
            };
            operation::start(ctx, work, change, waiting, &what).await
        }
        FailoverCommand::Acknowledge { group, change } => {
            let what = format!("Acknowledge the failover of {}: the next one needs nobody", safe(&group));
            confirm::ask(&ctx.global, &change, &what)?;
            let options = Some(change.options());
            let request = v1::AcknowledgeFailoverRequest { group: group.clone(), options };
            let answer = call!(ctx.client()?, FailoverServiceClient, acknowledge_failover, request)?;
            let found = answer.failover.unwrap_or_default();
            render::answer(ctx.global.output, &found, "quorate.v1.Failover", None, |_| {
                let would = if change.dry_run { "would be " } else { "" };
                format!("{} {would}acknowledged", safe(&group))
            })?;
            Ok(exit::DONE)
        }
        FailoverCommand::History { group } => {
            let found = get(ctx, group).await?;
            render::answer(ctx.global.output, &found, "quorate.v1.Failover", None, |_| history(&found))?;
            Ok(exit::DONE)
        }
    }
}

async fn get(ctx: &Ctx, group: String) -> Result<v1::Failover, crate::failure::Failure> {
    let request = v1::GetFailoverRequest { group, consistency: ctx.global.consistency() };
    let answer = call!(ctx.client()?, FailoverServiceClient, get_failover, request)?;
    Ok(answer.failover.unwrap_or_default())
}

async fn list(ctx: &Ctx, limit: Option<u32>) -> Outcome {
    let client = ctx.client()?;
    let consistency = ctx.global.consistency();
    let (failovers, next_page_token) = pages(limit, |page_token, page_size| {
        let client = &client;
        async move {
            let request = v1::ListFailoversRequest { page_size, page_token, consistency };
            let answer = call!(client, FailoverServiceClient, list_failovers, request)?;
            Ok((answer.failovers, answer.next_page_token))
        }
    })
    .await?;
    let answer = v1::ListFailoversResponse { failovers, next_page_token };
    let name = "quorate.v1.ListFailoversResponse";
    render::answer(ctx.global.output, &answer, name, Some("failovers"), |_| table(&answer.failovers))?;
    Ok(if answer.failovers.iter().all(is_well) { exit::DONE } else { exit::FAILED })
}

/// Somebody leads, and nothing says that it is lost.
fn is_well(failover: &v1::Failover) -> bool {
    let held = failover.lease.as_ref().is_some_and(|lease| lease.state() == v1::LeaseState::Held);
    held && failover.suspicion() != v1::FailoverSuspicion::Confirmed
}

fn table(failovers: &[v1::Failover]) -> String {
    let mut columns = Columns::new(&["group", "primary", "lease", "epoch", "since", "suspicion", "moves"]);
    for failover in failovers {
        let lease = failover.lease.clone().unwrap_or_default();
        columns.row([
            safe(&failover.group),
            dash(&lease.node),
            style::state(&json::word("quorate.v1.LeaseState", lease.state)),
            lease.epoch.to_string(),
            age(lease.since.as_ref()),
            style::state(&json::word("quorate.v1.FailoverSuspicion", failover.suspicion)),
            moves(failover),
        ]);
    }
    columns.finish("No group declares a failover. `quorate explain group` tells how.")
}

/// Who may move the role now.
fn moves(failover: &v1::Failover) -> String {
    match (failover.automatic, failover.hold_down_until.is_some()) {
        (false, _) => "when asked".to_owned(),
        (true, false) => "by itself".to_owned(),
        (true, true) => "held down".to_owned(),
    }
}

fn screen(failover: &v1::Failover) -> String {
    let mut text = table(std::slice::from_ref(failover));
    let mut columns = Columns::new(&["node", "role", "fit", "why not", "position"]);
    for member in &failover.members {
        columns.row([
            safe(&member.node),
            title(&json::word("quorate.v1.InstanceRole", member.role)),
            if member.available { "yes" } else { "no" }.to_owned(),
            dash(&member.out_reason),
            member.position.map_or_else(|| dash(""), |position| position.to_string()),
        ]);
    }
    text += &format!("\n\n{}", columns.finish("No members."));
    if !failover.why.is_empty() {
        text += &format!("\n\n{}: {}", word(failover), safe(&failover.why));
    }
    let message = failover.lease.as_ref().map(|lease| lease.message.as_str()).filter(|m| !m.is_empty());
    if let Some(message) = message {
        text += &format!("\n\nLast lease: {}", safe(message));
    }
    text
}

fn word(failover: &v1::Failover) -> String {
    title(&json::word("quorate.v1.FailoverSuspicion", failover.suspicion))
}

fn history(failover: &v1::Failover) -> String {
    let mut columns = Columns::new(&[
        "operation",
        "from",
        "to",
        "epoch",
        "state",
        "began",
        "fenced",
        "took",
        "behind",
        "why",
    ]);
    for record in &failover.history {
        columns.row([
            safe(&record.operation),
            dash(&record.from),
            dash(&record.to),
            record.epoch.to_string(),
            style::state(&json::word("quorate.v1.FailoverState", record.state)),
            age(record.started_at.as_ref()),
            span(record.started_at.as_ref(), record.fenced_at.as_ref()),
            span(record.started_at.as_ref(), record.ended_at.as_ref()),
            record.lag.map_or_else(|| dash(""), |lag| lag.to_string()),
            safe(&record.why),
        ]);
    }
    columns.finish("The role was never moved.")
}
