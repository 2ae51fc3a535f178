//! `quorate cluster`: the coordinators themselves.

use clap::Subcommand;
use quorate_proto::v1;
use quorate_proto::v1::admin_service_client::AdminServiceClient;

use super::{Ctx, Outcome};
use crate::args::Change;
use crate::call;
use crate::confirm;
use crate::failure::exit;
use crate::render::style::{self, safe};
use crate::render::table::{Columns, dash};
use crate::render::{self, json};

/// The coordinators themselves
#[derive(Subcommand, Clone, Debug)]
pub enum ClusterCommand {
    /// Every member, asked now
    Members,
    /// Takes a member out for good
    Remove {
        /// Its name
        member: String,
        /// The name again, instead of typing it
        #[arg(long, value_name = "NAME")]
        confirm: Option<String>,
        #[command(flatten)]
        change: Change,
    },
    /// Snapshots of the coordinators' state
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
}

/// Snapshots of the coordinators' state
#[derive(Subcommand, Clone, Debug)]
pub enum SnapshotCommand {
    /// Builds one on the answering member now
    Build {
        #[command(flatten)]
        change: Change,
    },
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
        ClusterCommand::Remove { member, confirm, change } => {
            if !change.yes {
                let what = format!("{member} is taken out for good; its directory cannot be used again");
                confirm::ask_name(&ctx.global, &change, confirm.as_deref(), &member, &what)?;
            }
            let request = v1::RemoveMemberRequest { name: member, options: Some(change.options()) };
            let answer = call!(ctx.client()?, AdminServiceClient, remove_member, request)?;
            render::answer(
                ctx.global.output,
                &answer,
                "quorate.v1.RemoveMemberResponse",
                Some("members"),
                |wide| table(&answer.members, wide),
            )?;
            Ok(exit::DONE)
        }
        ClusterCommand::Snapshot(SnapshotCommand::Build { change }) => {
            let request = v1::TriggerSnapshotRequest { options: Some(change.options()) };
            let answer = call!(ctx.client()?, AdminServiceClient, trigger_snapshot, request)?;
            render::answer(ctx.global.output, &answer, "quorate.v1.TriggerSnapshotResponse", None, |_| {
                format!("snapshot at index {}", answer.index)
            })?;
            Ok(exit::DONE)
        }
    }
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
            if member.voter { "yes" } else { "no" }.to_owned(),
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
