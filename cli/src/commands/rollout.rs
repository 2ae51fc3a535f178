//! `quorate rollout`: rolling changes.

use clap::{Args, Subcommand};
use quorate_proto::v1;
use quorate_proto::v1::operation_service_client::OperationServiceClient;
use quorate_proto::v1::work_spec::Kind;

use super::{Ctx, Outcome, apply, operation, run};
use crate::args::{Change, Page, Select, Waiting};
use crate::call;
use crate::failure::{Failure, exit};
use crate::render;

/// Rolling changes that cannot break quorum
#[derive(Subcommand, Clone, Debug)]
pub enum RolloutCommand {
    /// Computes a plan with the guards of the real run; changes nothing
    #[command(
        after_help = "Examples:\n  quorate rollout plan --restart ledger\n  quorate rollout plan -f rollout.yaml -o json"
    )]
    Plan {
        #[command(flatten)]
        what: What,
        #[command(flatten)]
        change: Change,
    },
    /// Starts a rolling change
    #[command(
        after_help = "Examples:\n  quorate rollout start --restart ledger --wait --yes\n  quorate rollout start --plan p-93c1… --detach\n  quorate rollout start --backup ledger --all --wait"
    )]
    Start {
        #[command(flatten)]
        what: What,
        /// A stored plan; refused when what it touches has moved
        #[arg(long, value_name = "ID", conflicts_with_all = ["restart", "reload", "backup", "rotate", "file"])]
        plan: Option<String>,
        #[command(flatten)]
        change: Change,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Rollouts, newest first
    #[command(alias = "ls", alias = "history")]
    List {
        #[command(flatten)]
        page: Page,
    },
    /// One rollout
    #[command(alias = "status")]
    Show {
        /// Its id
        id: String,
    },
    /// Follows a rollout until it ends; Ctrl-C detaches and cancels nothing
    #[command(
        after_help = "Examples:\n  quorate rollout watch r-7f3a\n  quorate rollout watch r-7f3a --timeout 10m"
    )]
    Watch {
        /// Its id
        id: String,
        /// Give up after this time, exit code 5; the rollout goes on
        #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
        timeout: Option<std::time::Duration>,
    },
    /// Stops at the next safe point
    Pause(operation::Verb),
    /// Goes on
    Resume(operation::Verb),
    /// Ends it at the next safe point
    #[command(alias = "cancel")]
    Abort(operation::Verb),
}

/// What to change.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "What")]
pub struct What {
    /// Restart every member of a group
    #[arg(long, value_name = "GROUP", group = "kind")]
    restart: Option<String>,
    /// Reload every member of a group
    #[arg(long, value_name = "GROUP", group = "kind")]
    reload: Option<String>,
    /// Back up every instance of a service
    #[arg(long, value_name = "SERVICE", group = "kind")]
    backup: Option<String>,
    /// Rotate the logs of every instance of a service
    #[arg(long, value_name = "SERVICE", group = "kind")]
    rotate: Option<String>,
    /// A file with `kind: Rollout`
    #[arg(short, long, value_name = "FILE", group = "kind")]
    file: Option<std::path::PathBuf>,
    /// Instances changed at once; never beyond what the quorum allows
    #[arg(long, default_value_t = 0, value_name = "N")]
    max_unavailable: u32,
    /// Failed nodes tolerated before it stops
    #[arg(long, default_value_t = 0, value_name = "N")]
    max_failures: u32,
    /// How long the gates of one node may take
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    gate_timeout: Option<std::time::Duration>,
    #[command(flatten)]
    select: Select,
}

impl What {
    fn spec(&self) -> Result<v1::WorkSpec, Failure> {
        let mut spec = match (&self.restart, &self.reload, &self.backup, &self.rotate, &self.file) {
            (Some(group), ..) => self.rolling(group, v1::RollingKind::Restart)?,
            (_, Some(group), ..) => self.rolling(group, v1::RollingKind::Reload)?,
            (_, _, Some(service), ..) => run::backup_spec(service, &self.select, self.max_unavailable)?,
            (_, _, _, Some(service), _) => run::rotate_spec(service, &self.select, self.max_unavailable)?,
            (_, _, _, _, Some(file)) => return apply::rollout_file(file),
            (None, None, None, None, None) => {
                return Err(Failure::usage("nothing to change was named").with_hint(
                    "give --restart GROUP, --reload GROUP, --backup SERVICE, --rotate SERVICE or -f FILE",
                ));
            }
        };
        spec.max_failures = self.max_failures;
        Ok(spec)
    }

    fn rolling(&self, group: &str, kind: v1::RollingKind) -> Result<v1::WorkSpec, Failure> {
        let rolling = v1::RollingSpec {
            group: group.to_owned(),
            kind: kind.into(),
            max_unavailable: self.max_unavailable,
            selector: self.select.selector()?,
            gate_timeout: run::read_gate_timeout(self.gate_timeout)?,
        };
        Ok(v1::WorkSpec { kind: Some(Kind::Rolling(rolling)), max_failures: 0 })
    }
}

/// Runs it.
///
/// # Errors
/// What the API or the terminal gives.
pub async fn run(ctx: &Ctx, command: RolloutCommand) -> Outcome {
    match command {
        RolloutCommand::Plan { what, change } => {
            let request = v1::CreatePlanRequest { work: Some(what.spec()?), options: Some(change.options()) };
            let answer = call!(ctx.client()?, OperationServiceClient, create_plan, request)?;
            let plan = answer.plan.unwrap_or_default();
            render::answer(ctx.global.output, &plan, "quorate.v1.Plan", None, |_| render::plan::plan(&plan))?;
            Ok(exit::DONE)
        }
        RolloutCommand::Start { what, plan: Some(plan), change, waiting } => {
            let _ = what;
            operation::start_plan(ctx, &plan, change, waiting).await
        }
        RolloutCommand::Start { what, plan: None, change, waiting } => {
            operation::start(ctx, what.spec()?, change, waiting, "rollout").await
        }
        RolloutCommand::List { page } => {
            operation::list(ctx, page.limit, v1::OperationKind::Unspecified).await
        }
        RolloutCommand::Show { id } => operation::show(ctx, id).await,
        RolloutCommand::Watch { id, timeout } => {
            let waiting = Waiting { wait: true, detach: false, timeout };
            operation::follow(ctx, &ctx.client()?, &id, &waiting).await
        }
        RolloutCommand::Pause(verb) => operation::pause(ctx, verb).await,
        RolloutCommand::Resume(verb) => operation::resume(ctx, verb).await,
        RolloutCommand::Abort(verb) => operation::cancel(ctx, verb).await,
    }
}
