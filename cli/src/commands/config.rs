//! `quorate config`: configuration files of a group, before they are rolled out.

use clap::{Args, Subcommand};
use quorate_proto::v1;
use quorate_proto::v1::operation_service_client::OperationServiceClient;
use quorate_proto::v1::work_spec::Kind;
use serde_json::{Value, json};

use super::{Ctx, Outcome};
use crate::args::Change;
use crate::call;
use crate::failure::{Failure, exit};
use crate::render::operation as view;
use crate::render::style::{self, safe};
use crate::render::{self, talk};
use crate::watch::{self, End};

/// Version of a content that is only compared.
const CANDIDATE: &str = "candidate";

/// Configuration files; `quorate rollout start GROUP --config NAME` brings one
#[derive(Subcommand, Clone, Debug)]
pub enum ConfigCommand {
    /// What a file would change on every host of a group, checked there; changes nothing
    #[command(
        after_help = "Examples:\n  quorate config diff ledger --config settings --artifact 5f3a…\n  quorate config diff ledger --config settings --artifact 5f3a… --detailed-exitcode   # 8: it differs somewhere"
    )]
    Diff(DiffArgs),
}

/// Flags of `config diff`.
#[derive(Args, Clone, Debug)]
pub struct DiffArgs {
    /// Group
    group: String,
    /// The configuration file, as its service declares it
    #[arg(long, value_name = "NAME")]
    config: String,
    /// Its content: the artifact's sha256, or as much of the beginning as names one
    #[arg(long, value_name = "DIGEST")]
    artifact: String,
    /// Exit code 8 when it differs on any host
    #[arg(long)]
    detailed_exitcode: bool,
    /// Give up after this time, exit code 5; what was begun goes on
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    timeout: Option<std::time::Duration>,
}

/// Runs it.
///
/// # Errors
/// What the API or the terminal gives.
pub async fn run(ctx: &Ctx, command: ConfigCommand) -> Outcome {
    match command {
        ConfigCommand::Diff(args) => diff(ctx, args).await,
    }
}

async fn diff(ctx: &Ctx, args: DiffArgs) -> Outcome {
    let DiffArgs { group, config, artifact, detailed_exitcode, timeout } = args;
    let rolling = v1::RollingSpec {
        group,
        kind: v1::RollingKind::Diff.into(),
        version: CANDIDATE.to_owned(),
        artifact,
        config,
        ..v1::RollingSpec::default()
    };
    let client = ctx.client()?;
    let work = v1::WorkSpec { kind: Some(Kind::Rolling(rolling)), max_failures: u32::MAX };
    let source = Some(v1::create_operation_request::Source::Work(work));
    let options = Some(Change { yes: true, ..Change::default() }.options());
    let request = v1::CreateOperationRequest { source, options, plan_hash: String::new() };
    let started =
        call!(client, OperationServiceClient, create_operation, request)?.operation.unwrap_or_default();
    let seen = watch::to_the_end(&client, &started.name, timeout, false).await?;
    let id = view::id(&seen.operation).to_owned();
    match seen.end {
        End::Terminal => {}
        End::TimedOut => {
            return Err(Failure::failed(format!("{id} has not ended yet; it goes on"))
                .with_code(exit::TIMED_OUT)
                .with_hint(format!("quorate operation show {id}")));
        }
        End::Detached => {
            talk(&format!("detached; {id} goes on. Look at it: quorate operation show {id}"));
            return Err(Failure::failed("").with_code(exit::DETACHED));
        }
    }
    let consistency = ctx.global.consistency();
    let request = v1::GetOperationRequest { name: started.name, consistency };
    let ended = call!(client, OperationServiceClient, get_operation, request)?.operation.unwrap_or_default();
    tell(ctx, &ended, detailed_exitcode)
}

fn tell(ctx: &Ctx, operation: &v1::Operation, detailed_exitcode: bool) -> Outcome {
    let steps = &operation.steps;
    if ctx.global.output.is_table() {
        let shown: Vec<String> = steps.iter().map(text).collect();
        render::print(&shown.join("\n"))?;
    } else {
        let nodes: Vec<Value> = steps.iter().map(as_json).collect();
        render::structured(ctx.global.output, json!({ "nodes": nodes, "nextPageToken": "" }), Some("nodes"))?;
    }
    let changed = steps.iter().filter(|step| differs(step)).count();
    let failed = steps.iter().filter(|step| step.state() != v1::StepState::Succeeded).count();
    talk(&format!("{} host(s), it differs on {changed}, {failed} did not take it", steps.len()));
    Ok(match (failed, changed) {
        (1.., _) => exit::FAILED,
        (0, 1..) if detailed_exitcode => exit::PENDING,
        (0, _) => exit::DONE,
    })
}

/// Whether another content is in place.
fn differs(step: &v1::Step) -> bool {
    let receipt = step.outcome.as_ref().and_then(|outcome| outcome.release.as_ref());
    receipt.is_some_and(|receipt| receipt.replaces != receipt.artifact)
}

fn lines(step: &v1::Step) -> Vec<String> {
    let tail = step.outcome.as_ref().map(|outcome| outcome.output_tail.as_str()).unwrap_or_default();
    tail.lines().map(safe).collect()
}

fn text(step: &v1::Step) -> String {
    let head = style::bold(&format!("{}: {}", safe(&step.node), safe(&step.message)));
    let painted = lines(step).into_iter().map(|line| match line.as_bytes().first() {
        Some(b'@') => style::paint(&line, anstyle::AnsiColor::Cyan),
        Some(b'+') => style::paint(&line, anstyle::AnsiColor::Green),
        Some(b'-') => style::paint(&line, anstyle::AnsiColor::Red),
        Some(_) | None => line,
    });
    std::iter::once(head).chain(painted).collect::<Vec<_>>().join("\n")
}

fn as_json(step: &v1::Step) -> Value {
    let state = step.state().as_str_name().trim_start_matches("STEP_STATE_");
    json!({
        "node": step.node,
        "state": state,
        "differs": differs(step),
        "message": step.message,
        "diff": lines(step),
    })
}
