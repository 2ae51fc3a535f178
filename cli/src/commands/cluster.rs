//! `quorate cluster`: the coordinators themselves.

use std::time::Duration;

use clap::Subcommand;
use quorate_proto::v1;
use quorate_proto::v1::admin_service_client::AdminServiceClient;
use quorate_proto::v1::fleet_service_client::FleetServiceClient;
use tokio::time::Instant;

use super::snapshot::SnapshotCommand;
use super::{Ctx, Outcome};
use crate::args::Change;
use crate::call;
use crate::client::Client;
use crate::confirm;
use crate::failure::{Failure, exit};
use crate::render::style::{self, safe};
use crate::render::table::{Columns, dash};
use crate::render::{self, json, talk};

/// The coordinators themselves
#[derive(Subcommand, Clone, Debug)]
pub enum ClusterCommand {
    /// Every member, asked now
    Members,
    /// Lets a new member in: makes its token and says what to do with it
    #[command(
        after_help = "The token is the answer, for the new host's file of mode 0600; the steps are told beside it. With --wait the members are shown once the new one follows and, unless it is a standby, votes.\n\nExamples:\n  quorate cluster join > join.token\n  quorate cluster join --standby --wait --timeout 10m"
    )]
    Join {
        /// It follows without a vote until it is promoted, for instance in another site
        #[arg(long)]
        standby: bool,
        /// How long the token may be used, at most 7 days
        #[arg(long, default_value = "1h", value_parser = humantime::parse_duration)]
        ttl: Duration,
        /// Wait until the new member has joined
        #[arg(long)]
        wait: bool,
        /// With --wait: give up after this time, exit code 5; the token stays good
        #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = humantime::parse_duration)]
        timeout: Duration,
        #[command(flatten)]
        change: Change,
    },
    /// Gives a standby its vote; refused unless it answers and has caught up
    #[command(
        after_help = "Examples:\n  quorate cluster promote coord4 --reason 'coord1 goes next week' --yes"
    )]
    Promote {
        /// Its name
        member: String,
        #[command(flatten)]
        change: Change,
    },
    /// Hands leadership to another voter, at once and without losing a write
    #[command(
        after_help = "Refused (exit code 3) when that member has no vote, does not answer or has not the whole log.\n\nExamples:\n  quorate cluster transfer-leader --yes\n  quorate cluster transfer-leader coord2 --reason 'coord1 is rebooted' --yes"
    )]
    TransferLeader {
        /// To whom; the voter that has most when it is not given
        member: Option<String>,
        #[command(flatten)]
        change: Change,
    },
    /// Takes a member out for good; refused when too few of the others answer
    #[command(
        after_help = "Examples:\n  quorate cluster remove coord3 --dry-run\n  quorate cluster remove coord3 --reason 'the machine is gone' --yes\n  quorate cluster remove --dead --min-members 3 --yes"
    )]
    Remove {
        /// Its name
        #[arg(required_unless_present = "dead")]
        member: Option<String>,
        /// Only if it does not answer; without a name every member that does not, one after the other
        #[arg(long)]
        dead: bool,
        /// With --dead: how many members are to be left at least
        #[arg(long, value_name = "N", default_value_t = 3, requires = "dead")]
        min_members: u32,
        /// The name again, instead of typing it
        #[arg(long, value_name = "NAME", requires = "member")]
        confirm: Option<String>,
        #[command(flatten)]
        change: Change,
    },
    /// Snapshots of the coordinators' state
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
}

/// Runs it.
///
/// # Errors
/// What the API or the terminal gives.
pub async fn run(ctx: &Ctx, command: ClusterCommand) -> Outcome {
    match command {
        ClusterCommand::Members => {
            let request = v1::ListMembersRequest { consistency: ctx.global.consistency() };
            let answer = call!(ctx.client()?, AdminServiceClient, list_members, request)?;
            render::answer(
                ctx.global.output,
                &answer,
                "quorate.v1.ListMembersResponse",
                Some("members"),
                |wide| table(&answer.members, wide),
            )?;
            Ok(exit::DONE)
        }
        ClusterCommand::TransferLeader { member, change } => transfer(ctx, member, &change).await,
        ClusterCommand::Remove { member: Some(member), dead, min_members, confirm, change } => {
            if !change.yes {
                let what = format!("{member} is taken out for good; its directory cannot be used again");
                confirm::ask_name(&ctx.global, &change, confirm.as_deref(), &member, &what)?;
            }
            let answer = remove(ctx, member, dead, min_members, &change).await?;
            show(ctx, &answer)?;
            Ok(exit::DONE)
        }
        ClusterCommand::Remove { member: None, min_members, change, .. } => {
            remove_dead(ctx, min_members, &change).await
        }
        ClusterCommand::Join { standby, ttl, wait, timeout, change } => {
            join(ctx, standby, ttl, wait.then_some(timeout), &change).await
        }
        ClusterCommand::Promote { member, change } => {
            confirm::ask(&ctx.global, &change, &format!("{} gets a vote. Go on?", safe(&member)))?;
            let request = v1::PromoteMemberRequest { name: member, options: Some(change.options()) };
            let answer = call!(ctx.client()?, AdminServiceClient, promote_member, request)?;
            let kind = "quorate.v1.PromoteMemberResponse";
            render::answer(ctx.global.output, &answer, kind, Some("members"), |wide| {
                table(&answer.members, wide)
            })?;
            Ok(exit::DONE)
        }
        ClusterCommand::Snapshot(command) => super::snapshot::run(ctx, command).await,
    }
}

/// Makes the token of a new member and, if asked to, waits for it.
async fn join(ctx: &Ctx, standby: bool, ttl: Duration, wait: Option<Duration>, change: &Change) -> Outcome {
    let client = ctx.client()?;
    let before = listed(&client).await?;
    let ttl = prost_types::Duration::try_from(ttl).map_err(|e| Failure::usage(format!("--ttl: {e}")))?;
    let request = v1::CreateTokenRequest {
        purpose: v1::TokenPurpose::Coordinator.into(),
        ttl: Some(ttl),
        options: Some(change.options()),
        ..Default::default()
    };
    let answer = call!(client, FleetServiceClient, create_token, request)?;
    render::answer(ctx.global.output, &answer, "quorate.v1.CreateTokenResponse", None, |_| {
        answer.token.clone()
    })?;
    if change.dry_run {
        talk("A token would be made. Nothing was changed.");
        return Ok(exit::DONE);
    }
    let flag = if standby { " --standby" } else { "" };
    talk(
        "On the new host, with quorate-coordinator installed and configured, the token in a file of mode 0600:",
    );
    talk(&format!(
        "  runuser -u quorate-coordinator -- quorate-coordinator join --token-file FILE{flag}\n  systemctl enable --now quorate-coordinator"
    ));
    let Some(limit) = wait else { return Ok(exit::DONE) };
    let deadline = Instant::now() + limit;
    let mut told = String::new();
    loop {
        // Between two leaders nobody answers; the next look does.
        let members = listed(&client).await.unwrap_or_default();
        let new = members.iter().find(|m| before.iter().all(|b| b.member_id != m.member_id));
        let down = i32::from(v1::MemberState::Down);
        if let Some(member) = new {
            let stage = format!(
                "{} {}",
                safe(&member.name),
                if member.state == down {
                    "is admitted, not heard yet"
                } else if member.voter {
                    "votes"
                } else {
                    "follows"
                }
            );
            if stage != told {
                talk(&stage);
                told = stage;
            }
            if member.state != down && (member.voter || member.standby) {
                return Ok(exit::DONE);
            }
        }
        if Instant::now() >= deadline {
            return Err(Failure::failed("no new member has joined in time; its token stays good")
                .with_code(exit::TIMED_OUT));
        }
        // A person looks on while another host is set up: the list of members cannot be watched, and a second is soon enough.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn listed(client: &Client) -> Result<Vec<v1::Member>, Failure> {
    let request = v1::ListMembersRequest { consistency: v1::Consistency::Linearizable.into() };
    Ok(call!(client, AdminServiceClient, list_members, request)?.members)
}

async fn transfer(ctx: &Ctx, member: Option<String>, change: &Change) -> Outcome {
    let to = member.as_deref().unwrap_or("another voter");
    confirm::ask(&ctx.global, change, &format!("Leadership moves to {}. Go on?", safe(to)))?;
    let request = v1::TransferLeaderRequest {
        name: member.clone().unwrap_or_default(),
        options: Some(change.options()),
    };
    let answer = call!(ctx.client()?, AdminServiceClient, transfer_leader, request)?;
    render::answer(ctx.global.output, &answer, "quorate.v1.TransferLeaderResponse", None, |_| {
        let leader = safe(&answer.leader);
        if change.dry_run {
            return format!("{leader} would lead. Nothing was changed.");
        }
        if !answer.moved {
            return format!("{leader} leads already (term {}). Nothing was changed.", answer.term);
        }
        let gap = answer.without_leader.unwrap_or_default();
        let gap = i128::from(gap.seconds) * 1_000 + i128::from(gap.nanos) / 1_000_000;
        let before = safe(&answer.previous_leader);
        format!("{leader} leads now (term {}); {before} did before. {gap} ms without a leader.", answer.term)
    })?;
    Ok(exit::DONE)
}

async fn remove(
    ctx: &Ctx,
    name: String,
    dead_only: bool,
    min_members: u32,
    change: &Change,
) -> Result<v1::RemoveMemberResponse, Failure> {
    // The minimum is for cleaning up: who names a living member has looked.
    let min_members = if dead_only { min_members } else { 0 };
    let request = v1::RemoveMemberRequest { name, options: Some(change.options()), dead_only, min_members };
    call!(ctx.client()?, AdminServiceClient, remove_member, request)
}

/// Every member that does not answer, one after the other: the coordinators judge each one anew.
async fn remove_dead(ctx: &Ctx, min_members: u32, change: &Change) -> Outcome {
    let request = v1::ListMembersRequest { consistency: v1::Consistency::Linearizable.into() };
    let listed = call!(ctx.client()?, AdminServiceClient, list_members, request)?;
    let down = |member: &v1::Member| member.state == i32::from(v1::MemberState::Down);
    let dead: Vec<String> = listed.members.iter().filter(|m| down(m)).map(|m| m.name.clone()).collect();
    let mut left = v1::RemoveMemberResponse { members: listed.members };
    if dead.is_empty() {
        talk("Every member answers. Nothing was changed.");
    } else {
        let names = dead.iter().map(|name| safe(name)).collect::<Vec<_>>().join(", ");
        let question =
            format!("{} of {} members taken out for good: {names}?", dead.len(), left.members.len());
        confirm::ask(&ctx.global, change, &question)?;
    }
    for name in dead {
        // Each one is a request of its own, also under an id that was given.
        let mut own = change.clone();
        own.request_id = change.request_id.as_ref().map(|id| format!("{id}.{name}"));
        left = remove(ctx, name.clone(), true, min_members, &own).await?;
        let said = if change.dry_run { "would be taken out" } else { "taken out" };
        talk(&format!("{} {said}", safe(&name)));
    }
    show(ctx, &left)?;
    Ok(exit::DONE)
}

fn show(ctx: &Ctx, answer: &v1::RemoveMemberResponse) -> Result<(), Failure> {
    let kind = "quorate.v1.RemoveMemberResponse";
    render::answer(ctx.global.output, answer, kind, Some("members"), |wide| table(&answer.members, wide))
}

fn table(members: &[v1::Member], wide: bool) -> String {
    let mut header = vec!["member", "state", "voter", "term", "applied", "sessions", "address"];
    if wide {
        header.extend(["id", "last log", "snapshot", "https", "version"]);
    }
    let mut columns = Columns::new(&header);
    for member in members {
        let mut row = vec![
            safe(&member.name),
            style::state(&json::word("quorate.v1.MemberState", member.state)),
            match (member.voter, member.standby) {
                (true, _) => "yes",
                (false, true) => "standby",
                (false, false) => "no",
            }
            .to_owned(),
            member.term.to_string(),
            member.applied_index.to_string(),
            member.sessions.to_string(),
            dash(&member.grpc_address),
        ];
        if wide {
            row.push(member.member_id.to_string());
            row.push(member.last_log_index.to_string());
            row.push(member.snapshot_index.to_string());
            row.push(dash(&member.http_address));
            row.push(dash(&member.version));
        }
        columns.row(row);
    }
    columns.finish("No members.")
}
