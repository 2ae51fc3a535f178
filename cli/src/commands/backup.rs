//! `quorate backup`.

use clap::Subcommand;
use quorate_proto::v1;
use quorate_proto::v1::backup_service_client::BackupServiceClient;
use quorate_proto::v1::work_spec::Kind;

use super::{Ctx, Outcome, operation, pages, run};
use crate::args::{Change, Page, Select, Waiting};
use crate::call;
use crate::failure::exit;
use crate::render::style::{self, safe};
use crate::render::table::{self, Columns, dash};
use crate::render::{self, json};

/// Backups: stored, hashed copies
#[derive(Subcommand, Clone, Debug)]
pub enum BackupCommand {
    /// Backs up a service's instances
    #[command(
        after_help = "Examples:\n  quorate backup create ledger --node node2 --wait\n  quorate backup create ledger --all --wait"
    )]
    Create {
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
    /// The catalogue, newest first
    #[command(alias = "ls")]
    List {
        /// Only of this service
        #[arg(long)]
        service: Option<String>,
        /// Only on this node
        #[arg(long)]
        node: Option<String>,
        #[command(flatten)]
        page: Page,
    },
    /// One backup
    Show {
        /// Its id
        backup: String,
    },
    /// Reads a backup again in full and checks every file
    Verify {
        /// Its id
        backup: String,
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
pub async fn run(ctx: &Ctx, command: BackupCommand) -> Outcome {
    match command {
        BackupCommand::Create { service, select, parallel, mut change, waiting } => {
            let spec = run::backup_spec(&service, &select, parallel)?;
            // A backup changes nothing that serves, and its pause ends by itself: nothing to confirm.
            change.yes = true;
            operation::start(ctx, spec, change, waiting, &format!("Back up {service}")).await
        }
        BackupCommand::List { service, node, page } => list(ctx, service, node, page.limit).await,
        BackupCommand::Show { backup } => {
            let request = v1::GetBackupRequest { backup_id: backup, consistency: ctx.global.consistency() };
            let answer = call!(ctx.client()?, BackupServiceClient, get_backup, request)?;
            let backup = answer.backup.unwrap_or_default();
            render::answer(ctx.global.output, &backup, "quorate.v1.Backup", None, |_| detail(&backup))?;
            Ok(exit::DONE)
        }
        BackupCommand::Verify { backup, mut change, mut waiting } => {
            change.yes = true;
            waiting.wait = !waiting.detach;
            let verify = v1::VerifyBackupSpec { backup: backup.clone() };
            let spec = v1::WorkSpec { kind: Some(Kind::VerifyBackup(verify)), max_failures: 0 };
            operation::start(ctx, spec, change, waiting, &format!("Verify {backup}")).await
        }
    }
}

async fn list(ctx: &Ctx, service: Option<String>, node: Option<String>, limit: Option<u32>) -> Outcome {
    let client = ctx.client()?;
    let consistency = ctx.global.consistency();
    let (service, node) = (service.unwrap_or_default(), node.unwrap_or_default());
    let (backups, token) = pages(limit, |page_token, page_size| {
        let (client, service, node) = (&client, service.clone(), node.clone());
        async move {
            let request = v1::ListBackupsRequest { service, node, page_size, page_token, consistency };
            let answer = call!(client, BackupServiceClient, list_backups, request)?;
            Ok((answer.backups, answer.next_page_token))
        }
    })
    .await?;
    let answer = v1::ListBackupsResponse { backups, next_page_token: token };
    render::answer(ctx.global.output, &answer, "quorate.v1.ListBackupsResponse", Some("backups"), |_| {
        let mut columns =
            Columns::new(&["id", "service", "node", "state", "size", "files", "age", "verified"]);
        for backup in &answer.backups {
            let receipt = backup.receipt.clone().unwrap_or_default();
            columns.row([
                safe(&backup.backup_id),
                safe(&backup.service),
                safe(&backup.node),
                style::state(&json::word("quorate.v1.BackupState", backup.state)),
                table::bytes(receipt.size_bytes),
                receipt.files.to_string(),
                table::age(backup.created.as_ref()),
                backup
                    .verified
                    .as_ref()
                    .map_or_else(|| "never".to_owned(), |t| format!("{} ago", table::age(Some(t)))),
            ]);
        }
        columns.finish("No backups. `quorate backup create SERVICE --all` makes the first.")
    })?;
    Ok(exit::DONE)
}

fn detail(backup: &v1::Backup) -> String {
    let receipt = backup.receipt.clone().unwrap_or_default();
    format!(
        "{}  {}   {} on {}\nPath       {}\nSize       {} ({} of content in {} files)\nsha256     {}\nManifest   {}\nMade       {} ago by {}\nVerified   {}\n{}",
        style::bold(&safe(&backup.backup_id)),
        style::state(&json::word("quorate.v1.BackupState", backup.state)),
        safe(&backup.service),
        safe(&backup.node),
        dash(&receipt.path),
        table::bytes(receipt.size_bytes),
        table::bytes(receipt.content_bytes),
        receipt.files,
        dash(&receipt.sha256),
        dash(&receipt.manifest_sha256),
        table::age(backup.created.as_ref()),
        dash(&backup.operation),
        backup
            .verified
            .as_ref()
            .map_or_else(|| "never".to_owned(), |t| format!("{} ago", table::age(Some(t)))),
        safe(&backup.message),
    )
}
