//! `quorate audit`: the hash-chained record.

use clap::Subcommand;
use quorate_proto::v1;
use quorate_proto::v1::audit_service_client::AuditServiceClient;
use tonic::Status;

use super::{Ctx, Outcome};
use crate::call;
use crate::client::is_transient;
use crate::failure::{Failure, exit};
use crate::render::style::safe;
use crate::render::table::dash;
use crate::render::{self, json, print, talk};

/// The record of every call and every action
#[derive(Subcommand, Clone, Debug)]
pub enum AuditCommand {
    /// The newest records, and new ones as they come
    #[command(after_help = "Examples:\n  quorate audit tail -n 20\n  quorate audit tail -f -o jsonl")]
    Tail {
        /// How many of the newest
        #[arg(short = 'n', long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=1000))]
        lines: u32,
        /// Go on with new ones until Ctrl-C
        #[arg(short, long)]
        follow: bool,
        /// Only of this operation
        #[arg(long, value_name = "ID")]
        operation: Option<String>,
    },
    /// Recomputes the chain; exit code 1 names the first broken record
    Verify,
}

/// Runs it.
///
/// # Errors
/// What the API gives.
pub async fn run(ctx: &Ctx, command: AuditCommand) -> Outcome {
    match command {
        AuditCommand::Tail { lines, follow, operation } => tail(ctx, lines, follow, operation).await,
        AuditCommand::Verify => verify(ctx).await,
    }
}

async fn verify(ctx: &Ctx) -> Outcome {
    let answer = call!(ctx.client()?, AuditServiceClient, verify_audit, v1::VerifyAuditRequest {})?;
    render::answer(ctx.global.output, &answer, "quorate.v1.VerifyAuditResponse", None, |_| {
        if answer.ok {
            format!(
                "{} records, {} to {}, unbroken; head {}",
                answer.records, answer.first_sequence, answer.last_sequence, answer.head
            )
        } else {
            format!("record {} is broken: {}", answer.broken_sequence, safe(&answer.message))
        }
    })?;
    if answer.ok {
        return Ok(exit::DONE);
    }
    Err(Failure::failed(format!("the audit chain is broken at record {}", answer.broken_sequence)))
}

async fn tail(ctx: &Ctx, lines: u32, follow: bool, operation: Option<String>) -> Outcome {
    let client = ctx.client()?;
    let request = v1::ListAuditRecordsRequest {
        page_size: lines.max(1),
        page_token: String::new(),
        operation: operation.clone().unwrap_or_default(),
        consistency: ctx.global.consistency(),
    };
    let mut answer = call!(client, AuditServiceClient, list_audit_records, request)?;
    if lines == 0 {
        answer.records.clear();
    }
    let mut after = answer.records.first().map_or(0, |r| r.sequence);
    answer.records.reverse();
    if !follow {
        let list = Some("records");
        render::answer(ctx.global.output, &answer, "quorate.v1.ListAuditRecordsResponse", list, |_| {
            answer.records.iter().map(line).collect::<Vec<_>>().join("\n")
        })?;
        return Ok(exit::DONE);
    }
    for record in &answer.records {
        one(ctx, record)?;
    }
    loop {
        let request = v1::WatchAuditRecordsRequest { after_sequence: after };
        let mut service = AuditServiceClient::new(client.channel());
        let mut stream = tokio::select! {
            opened = service.watch_audit_records(request) => match opened {
                Ok(stream) => stream.into_inner(),
                Err(status) if !is_transient(&status) => return Err(status.into()),
                Err(status) => { again(&client, &status).await; continue }
            },
            _ = tokio::signal::ctrl_c() => return Err(Failure::failed("").with_code(exit::DETACHED)),
        };
        loop {
            let next = tokio::select! {
                next = stream.message() => next,
                _ = tokio::signal::ctrl_c() => return Err(Failure::failed("").with_code(exit::DETACHED)),
            };
            let Ok(Some(change)) = next else { break };
            let Some(record) = change.record else { continue };
            after = after.max(record.sequence);
            if operation.as_ref().is_none_or(|id| record.operation.ends_with(id.as_str())) {
                one(ctx, &record)?;
            }
        }
        again(&client, &Status::unavailable("the stream ended")).await;
    }
}

async fn again(client: &crate::client::Client, status: &Status) {
    talk(&format!("looking for another coordinator: {}", safe(status.message())));
    client.advance();
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
}

fn one(ctx: &Ctx, record: &v1::AuditRecord) -> Result<(), Failure> {
    if ctx.global.output.is_table() {
        return print(&line(record));
    }
    print(&json::to_json(record, "quorate.v1.AuditRecord")?.to_string())
}

fn line(record: &v1::AuditRecord) -> String {
    let time = record
        .time
        .as_ref()
        .and_then(|t| jiff::Timestamp::new(t.seconds, t.nanos).ok())
        .map_or_else(|| "-".to_owned(), |t| format!("{t:.3}"));
    format!(
        "{:>6}  {time}  {:<10}  {:<16}  {:<34}  {:<9}  {}  {}",
        record.sequence,
        safe(&record.event_type),
        dash(&record.principal),
        safe(&record.action),
        safe(&record.result),
        dash(&record.resource),
        safe(&record.details),
    )
    .trim_end()
    .to_owned()
}
