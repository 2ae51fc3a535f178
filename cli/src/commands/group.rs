//! `quorate group`.

use clap::Subcommand;
use quorate_proto::v1;
use quorate_proto::v1::group_service_client::GroupServiceClient;

use super::{Ctx, Outcome, apply, operation, pages, quorum, run};
use crate::args::{Change, Page, Waiting};
use crate::call;
use crate::confirm;
use crate::failure::exit;
use crate::render::style::{self, safe};
use crate::render::table::{Columns, age, dash};
use crate::render::{self, json};

const ADD_HELP: &str = "Examples:\n  quorate group add ledger node4 --dry-run\n  quorate group add ledger \
                        node4 --wait --yes --reason 'a fourth voter'\n\nThe service must have an instance there; \
                        what fails before the vote is taken back.";

const REMOVE_HELP: &str = "Examples:\n  quorate group remove ledger node4 --dry-run\n  quorate group remove \
                           ledger node3 --spare 0 --wait --yes\n\nFrom three voters to two none may fail any \
                           more: --spare 0 says that this is meant.";

const REBUILD_HELP: &str = "Examples:\n  quorate group rebuild ledger node2 --dry-run\n  quorate group rebuild ledger \
                            node2 --confirm node2 --gate-timeout 6h --wait --reason 'its records are \
                            damaged'\n\nNothing is deleted: \
                            the data is renamed aside on its host, and comes back where the member does not catch up.";

/// Groups: which instances form one cluster, and its quorum
#[derive(Subcommand, Clone, Debug)]
pub enum GroupCommand {
    /// Every group
    #[command(alias = "ls")]
    List {
        #[command(flatten)]
        page: Page,
    },
    /// One group with its members and its margin
    Show {
        /// Its name
        group: String,
    },
    /// Declares groups from a file
    Apply(apply::ApplyArgs),
    /// A node's instance joins a group: started, added, and a voter once it has caught up and the others list it
    #[command(after_help = ADD_HELP)]
    Add {
        /// The group; it declares the hooks that change its members
        group: String,
        /// The node
        node: String,
        #[command(flatten)]
        change: Change,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// A voter leaves a group: removed, seen to be gone, then stopped; refused where the others could not go on
    #[command(after_help = REMOVE_HELP)]
    Remove {
        /// The group; it declares the hooks that change its members
        group: String,
        /// The node
        node: String,
        /// Voters that must be able to fail afterwards: one unless told, never below the group's own spare
        #[arg(long, value_name = "N")]
        spare: Option<u32>,
        #[command(flatten)]
        change: Change,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// A member's data is put aside and copied anew from the others; refused where they are no quorum without it
    #[command(after_help = REBUILD_HELP)]
    Rebuild {
        /// The group
        group: String,
        /// The node; its service declares where the data lies
        node: String,
        /// Answers the question: the name of the node once more
        #[arg(long, value_name = "NODE")]
        confirm: Option<String>,
        /// How long it may take to catch up; then it gets its own data back
        #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
        gate_timeout: Option<std::time::Duration>,
        #[command(flatten)]
        change: Change,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Deletes a group; its service stays
    #[command(alias = "rm")]
    Delete {
        /// Its name
        group: String,
        #[command(flatten)]
        change: Change,
    },
}

/// Runs it.
///
/// # Errors
/// What the API or the terminal gives.
pub async fn run(ctx: &Ctx, command: GroupCommand) -> Outcome {
    match command {
        GroupCommand::List { page } => list(ctx, page.limit).await,
        GroupCommand::Show { group } => show(ctx, group).await,
        GroupCommand::Apply(args) => apply::run(ctx, args, Some("ServiceGroup")).await,
        GroupCommand::Add { group, node, change, waiting } => {
            let work = run::membership_spec(&group, &node, v1::MembershipVerb::Add, None);
            let what = format!("Add {} to group {}", safe(&node), safe(&group));
            operation::start(ctx, work, change, waiting, &what).await
        }
        GroupCommand::Remove { group, node, spare, change, waiting } => {
            let work = run::membership_spec(&group, &node, v1::MembershipVerb::Remove, spare);
            let what = format!("Remove {} from group {}", safe(&node), safe(&group));
            operation::start(ctx, work, change, waiting, &what).await
        }
        GroupCommand::Rebuild { group, node, confirm: given, gate_timeout, change, waiting } => {
            let work = run::rebuild_spec(&group, &node, gate_timeout)?;
            let what = format!("Put the data of {} in group {} aside", safe(&node), safe(&group));
            confirm::ask_name(&ctx.global, &change, given.as_deref(), &node, &what)?;
            // Whoever has typed the name has answered.
            let change = Change { yes: true, ..change };
            operation::start(ctx, work, change, waiting, &what).await
        }
        GroupCommand::Delete { group, change } => {
            confirm::ask(
                &ctx.global,
                &change,
                &format!("Delete group {group}: nothing guards its quorum then"),
            )?;
            let request = v1::DeleteGroupRequest { name: group.clone(), options: Some(change.options()) };
            call!(ctx.client()?, GroupServiceClient, delete_group, request)?;
            render::print(&format!("{} deleted", safe(&group)))?;
            Ok(exit::DONE)
        }
    }
}

async fn list(ctx: &Ctx, limit: Option<u32>) -> Outcome {
    let client = ctx.client()?;
    let consistency = ctx.global.consistency();
    let (groups, token) = pages(limit, |page_token, page_size| {
        let client = &client;
        async move {
            let request = v1::ListGroupsRequest { page_size, page_token, consistency };
            let answer = call!(client, GroupServiceClient, list_groups, request)?;
            Ok((answer.groups, answer.next_page_token))
        }
    })
    .await?;
    let answer = v1::ListGroupsResponse { groups, next_page_token: token };
    render::answer(ctx.global.output, &answer, "quorate.v1.ListGroupsResponse", Some("groups"), |_| {
        group_table(&answer.groups)
    })?;
    Ok(exit::DONE)
}

fn group_table(groups: &[v1::Group]) -> String {
    let mut columns =
        Columns::new(&["group", "state", "policy", "voters", "available", "needs", "margin", "service"]);
    for group in groups {
        let kind = group.policy.as_ref().map_or(0, |p| p.kind);
        columns.row([
            safe(&group.name),
            style::state(&json::word("quorate.v1.GroupState", group.state)),
            style::title(&json::word("quorate.v1.QuorumPolicyKind", kind)),
            group.voters.to_string(),
            group.available.to_string(),
            group.required.to_string(),
            format!("{:+}", group.margin),
            safe(&group.service),
        ]);
    }
    columns.finish("No groups. `quorate apply -f FILE` declares one.")
}

async fn show(ctx: &Ctx, name: String) -> Outcome {
    let request = v1::GetGroupRequest { name, consistency: ctx.global.consistency() };
    let answer = call!(ctx.client()?, GroupServiceClient, get_group, request)?;
    let group = answer.group.unwrap_or_default();
    render::answer(ctx.global.output, &group, "quorate.v1.Group", None, |_| {
        let alarm = group.alarm.clone().unwrap_or_default();
        let mut columns =
            Columns::new(&["node", "role", "observed", "sync", "counts", "why not", "for", "grant"]);
        for member in &group.members {
            columns.row([
                safe(&member.node),
                style::title(&json::word("quorate.v1.InstanceRole", member.role)),
                style::state(&json::word("quorate.v1.InstanceState", member.observed)),
                style::title(&json::word("quorate.v1.InstanceSync", member.sync)),
                if member.available { "yes" } else { "no" }.to_owned(),
                dash(&member.out_reason),
                missing_for(&alarm, &member.node),
                dash(&member.grant_holder),
            ]);
        }
        let raised = quorum::alarm_line(&group.name, &alarm).map(|line| format!("\n\n{line}"));
        let table = group_table(std::slice::from_ref(&group));
        let members = columns.finish("No members.");
        format!("{table}{}{}\n\n{members}", raised.unwrap_or_default(), pending(&group.pending_voters))
    })?;
    Ok(exit::DONE)
}

/// Whom the application may have for its voters already, while nobody has seen which set counts.
fn pending(voters: &[String]) -> String {
    if voters.is_empty() {
        return String::new();
    }
    let names: Vec<String> = voters.iter().map(|node| safe(node)).collect();
    format!("\n\nNot seen yet: voters {}; the larger requirement of both counts", names.join(", "))
}

/// Since how long a voter is missing, where that is recorded.
fn missing_for(alarm: &v1::QuorumAlarm, node: &str) -> String {
    let since = alarm.missing.iter().find(|voter| voter.node == node).and_then(|voter| voter.since.as_ref());
    since.map_or_else(|| dash(""), |since| age(Some(since)))
}
