//! `quorate operation`, and what every command that starts one shares: confirm, start, follow.

use clap::{Args, Subcommand};
use quorate_proto::v1;
use quorate_proto::v1::group_service_client::GroupServiceClient;
use quorate_proto::v1::operation_service_client::OperationServiceClient;

use super::{Ctx, Outcome, approval, explain, pages};
use crate::args::{Change, Page, Waiting};
use crate::call;
use crate::client::Client;
use crate::confirm;
use crate::failure::{Failure, exit};
use crate::render::operation as view;
use crate::render::plan;
use crate::render::style::safe;
use crate::render::{self, talk};
use crate::watch::{self, End};

/// Operations: durable units of work
#[derive(Subcommand, Clone, Debug)]
pub enum OperationCommand {
    /// Operations, newest first
    #[command(alias = "ls")]
    List {
        #[command(flatten)]
        page: Page,
    },
    /// One operation with its steps
    Show {
        /// Its id
        id: String,
    },
    /// Follows an operation until it ends
    Watch {
        /// Its id
        id: String,
        /// Give up after this time, exit code 5; the operation goes on
        #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
        timeout: Option<std::time::Duration>,
    },
    /// Stops at the next safe point
    Pause(Verb),
    /// Goes on
    Resume(Verb),
    /// Lets the wave after one that waits for its promotion begin
    Promote {
        #[command(flatten)]
        verb: Verb,
        /// All waves that are still to be promoted, those to come as well
        #[arg(long)]
        all: bool,
    },
    /// Ends it at the next safe point
    #[command(alias = "abort")]
    Cancel(Verb),
    /// Why it waits, who holds what, what to do
    Explain {
        /// Its id
        id: String,
    },
}

/// How a plan is shown, and what the exit code says of it.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct Form {
    /// Instance by instance: from what to what, in which order, by which steps
    #[arg(long)]
    diff: bool,
    /// Exit code 8 when something would change, 0 when nothing would
    #[arg(long)]
    detailed_exitcode: bool,
}

impl Form {
    /// Both belong to a plan; what was started is no plan any more.
    ///
    /// # Errors
    /// Exit code 2 without `--dry-run`.
    pub fn check(self, change: &Change) -> Result<(), Failure> {
        if (self.diff || self.detailed_exitcode) && !change.dry_run {
            return Err(Failure::usage("--diff and --detailed-exitcode go with --dry-run")
                .with_hint("quorate rollout plan takes them, too"));
        }
        Ok(())
    }

    /// Shows a plan.
    ///
    /// # Errors
    /// What the terminal gives.
    pub fn show(self, ctx: &Ctx, computed: &v1::Plan) -> Outcome {
        render::answer(ctx.global.output, computed, "quorate.v1.Plan", None, |_| {
            if self.diff { plan::diff(computed) } else { plan::plan(computed) }
        })?;
        let changes = computed.to_change > 0;
        Ok(if self.detailed_exitcode && changes { exit::PENDING } else { exit::DONE })
    }

    /// That nothing would change is an answer to whoever asks by the exit code, and a refusal to everybody else.
    ///
    /// # Errors
    /// Every other failure.
    pub fn unchanged(self, failure: Failure) -> Outcome {
        if !self.detailed_exitcode || failure.reason != "NOTHING_TO_CHANGE" {
            return Err(failure);
        }
        talk(&format!("nothing to change: {}", safe(&failure.what)));
        Ok(exit::DONE)
    }
}

/// A verb on one operation.
#[derive(Args, Clone, Debug)]
pub struct Verb {
    /// Operation id
    pub id: String,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    waiting: Waiting,
}

/// Runs it.
///
/// # Errors
/// What the API or the terminal gives.
pub async fn run(ctx: &Ctx, command: OperationCommand) -> Outcome {
    match command {
        OperationCommand::List { page } => list(ctx, page.limit, v1::OperationKind::Unspecified).await,
        OperationCommand::Show { id } => show(ctx, id).await,
        OperationCommand::Watch { id, timeout } => {
            let waiting = Waiting { wait: true, detach: false, timeout };
            follow(ctx, &ctx.client()?, &id, &waiting).await
        }
        OperationCommand::Pause(verb) => pause(ctx, verb).await,
        OperationCommand::Resume(verb) => resume(ctx, verb).await,
        OperationCommand::Promote { verb, all } => promote(ctx, verb, all).await,
        OperationCommand::Cancel(verb) => cancel(ctx, verb).await,
        OperationCommand::Explain { id } => explain::operation(ctx, id).await,
    }
}

/// Plans, asks, starts and follows.
///
/// # Errors
/// A refusal, or what the API or the terminal gives.
pub async fn start(ctx: &Ctx, work: v1::WorkSpec, change: Change, waiting: Waiting, what: &str) -> Outcome {
    start_as(ctx, work, Form::default(), change, waiting, what).await
}

/// As [`start`], where a dry run can be shown in several ways.
///
/// # Errors
/// A refusal, or what the API or the terminal gives.
pub async fn start_as(
    ctx: &Ctx,
    work: v1::WorkSpec,
    form: Form,
    change: Change,
    waiting: Waiting,
    what: &str,
) -> Outcome {
    let client = ctx.client()?;
    if !change.yes && !change.dry_run {
        // The plan is what is confirmed: its guards have run, its nodes are counted, and it is started by its id.
        let request = v1::CreatePlanRequest { work: Some(work), options: Some(change.options()) };
        let answer = call!(client, OperationServiceClient, create_plan, request)?;
        let computed = answer.plan.unwrap_or_default();
        talk(&plan::plan(&computed));
        let nodes = computed.to_change;
        confirm::ask(&ctx.global, &change, &format!("{what}: {nodes} node(s) to change. Go on?"))?;
        // The same id given again must find the same operation, and an id stands for one request only.
        let change = Change { request_id: change.request_id.map(|id| format!("{id}.start")), ..change };
        let source = v1::create_operation_request::Source::PlanId(computed.plan_id);
        return create(ctx, &client, (source, computed.hash), form, &change, &waiting).await;
    }
    let source = v1::create_operation_request::Source::Work(work);
    create(ctx, &client, (source, String::new()), form, &change, &waiting).await
}

/// Starts a stored plan, named as `ID` or `ID@HASH`, and follows it.
///
/// # Errors
/// A refusal, or what the API or the terminal gives.
pub async fn start_plan(ctx: &Ctx, named: &str, form: Form, change: Change, waiting: Waiting) -> Outcome {
    let client = ctx.client()?;
    let (plan_id, seen) = named.split_once('@').map_or((named, None), |(id, seen)| (id, Some(seen)));
    if let Some(seen) = seen {
        let _ =
            approval::hash_prefix(seen).map_err(|why| Failure::usage(format!("--plan {named:?}: {why}")))?;
    }
    let mut hash = String::new();
    if seen.is_some() || (!change.yes && !change.dry_run) {
        let request =
            v1::GetPlanRequest { plan_id: plan_id.to_owned(), consistency: ctx.global.consistency() };
        let stored = call!(client, OperationServiceClient, get_plan, request)?.plan.unwrap_or_default();
        approval::same_plan(seen, &stored.hash)?;
        hash.clone_from(&stored.hash);
        if !change.yes && !change.dry_run {
            talk(&plan::plan(&stored));
            confirm::ask(&ctx.global, &change, &format!("{} node(s) to change. Go on?", stored.to_change))?;
        }
    }
    let source = v1::create_operation_request::Source::PlanId(plan_id.to_owned());
    create(ctx, &client, (source, hash), form, &change, &waiting).await
}

async fn create(
    ctx: &Ctx,
    client: &Client,
    (source, plan_hash): (v1::create_operation_request::Source, String),
    form: Form,
    change: &Change,
    waiting: &Waiting,
) -> Outcome {
    let options = Some(change.options());
    let request = v1::CreateOperationRequest { source: Some(source), options, plan_hash };
    let answer = match call!(client, OperationServiceClient, create_operation, request) {
        Ok(answer) => answer,
        Err(failure) => return form.unchanged(failure),
    };
    if change.dry_run {
        return form.show(ctx, &answer.plan.unwrap_or_default());
    }
    made(ctx, client, &answer.operation.unwrap_or_default(), waiting).await
}

/// Tells of an operation that was just made, and follows it where that is asked for.
///
/// # Errors
/// What the API or the terminal gives.
pub async fn made(ctx: &Ctx, client: &Client, operation: &v1::Operation, waiting: &Waiting) -> Outcome {
    if !waiting.waits() {
        render::answer(ctx.global.output, operation, "quorate.v1.Operation", None, |_| {
            view::id(operation).to_owned()
        })?;
        talk(&begun(operation));
        return Ok(exit::DONE);
    }
    talk(&format!("started {}", view::id(operation)));
    if operation.state() == v1::OperationState::AwaitingApproval {
        talk(&begun(operation));
    }
    follow(ctx, client, &operation.name, waiting).await
}

/// What there is to do about an operation that was just made.
fn begun(operation: &v1::Operation) -> String {
    let id = view::id(operation);
    if operation.state() == v1::OperationState::AwaitingApproval {
        return format!("{id} waits for the approval of somebody else: quorate approval approve {id}");
    }
    format!("started; quorate rollout watch {id}")
}

/// Follows an operation to its end, or says that it goes on.
///
/// # Errors
/// When it cannot be followed.
pub async fn follow(ctx: &Ctx, client: &Client, name: &str, waiting: &Waiting) -> Outcome {
    if !waiting.waits() {
        return show(ctx, name.to_owned()).await;
    }
    let shown = ctx.global.output.is_table();
    let seen = watch::to_the_end(client, name, waiting.timeout, shown).await?;
    let id = view::id(&seen.operation).to_owned();
    match seen.end {
        End::Terminal => finish(ctx, client, &seen.operation).await,
        End::TimedOut => Err(Failure::failed(format!("{id} has not ended yet; it goes on"))
            .with_code(exit::TIMED_OUT)
            .with_hint(format!("quorate rollout watch {id}, or quorate explain {id}"))),
        End::Detached => {
            // At a terminal the cursor stands behind `^C`.
            let ahead = if crate::render::style::is_live() { "\n" } else { "" };
            talk(&format!(
                "{ahead}detached; {id} goes on. Come back: quorate rollout watch {id}. Stop it: quorate rollout abort {id}"
            ));
            Err(Failure::failed("").with_code(exit::DETACHED))
        }
    }
}

/// The group that an operation changes, for its screen; none when it has none or nobody tells.
async fn group_of(ctx: &Ctx, client: &Client, operation: &v1::Operation) -> Option<v1::Group> {
    if operation.group.is_empty() || !ctx.global.output.is_table() {
        return None;
    }
    let request =
        v1::GetGroupRequest { name: operation.group.clone(), consistency: ctx.global.consistency() };
    call!(client, GroupServiceClient, get_group, request).ok()?.group
}

async fn finish(ctx: &Ctx, client: &Client, operation: &v1::Operation) -> Outcome {
    let group = group_of(ctx, client, operation).await;
    render::answer(ctx.global.output, operation, "quorate.v1.Operation", None, |_| {
        view::ending(operation, group.as_ref())
    })?;
    if operation.state() == v1::OperationState::Succeeded {
        return Ok(exit::DONE);
    }
    let ended = format!(
        "{} {}",
        view::id(operation),
        view::state_word(operation).to_ascii_lowercase().replace('_', " ")
    );
    let what =
        if operation.message.is_empty() { ended } else { format!("{ended}: {}", safe(&operation.message)) };
    let mut failure = Failure::failed(what);
    failure.hint = format!("quorate operation show {} -o wide", view::id(operation));
    // Rejected, or not approved in time: nothing was begun.
    let refused = operation.approval.as_ref().is_some_and(|approval| {
        matches!(approval.state(), v1::ApprovalState::Rejected | v1::ApprovalState::Expired)
    });
    Err(if refused { failure.with_code(exit::REFUSED) } else { failure })
}

/// One page after another.
///
/// # Errors
/// What the API gives.
pub async fn list(ctx: &Ctx, limit: Option<u32>, kind: v1::OperationKind) -> Outcome {
    let client = ctx.client()?;
    let consistency = ctx.global.consistency();
    let (operations, token) = pages(limit, |page_token, page_size| {
        let client = &client;
        async move {
            let request = v1::ListOperationsRequest { page_size, page_token, consistency, kind: kind.into() };
            let answer = call!(client, OperationServiceClient, list_operations, request)?;
            Ok((answer.operations, answer.next_page_token))
        }
    })
    .await?;
    let answer = v1::ListOperationsResponse { operations, next_page_token: token };
    render::answer(
        ctx.global.output,
        &answer,
        "quorate.v1.ListOperationsResponse",
        Some("operations"),
        |_| view::list(&answer.operations),
    )?;
    Ok(exit::DONE)
}

/// One operation.
///
/// # Errors
/// What the API gives.
pub async fn show(ctx: &Ctx, name: String) -> Outcome {
    let request = v1::GetOperationRequest { name, consistency: ctx.global.consistency() };
    let client = ctx.client()?;
    let answer = call!(client, OperationServiceClient, get_operation, request)?;
    let operation = answer.operation.unwrap_or_default();
    let group =
        if watch::is_terminal(operation.state()) { None } else { group_of(ctx, &client, &operation).await };
    render::answer(ctx.global.output, &operation, "quorate.v1.Operation", None, |wide| {
        view::detail(&operation, group.as_ref(), wide)
    })?;
    Ok(exit::DONE)
}

/// Stops at the next safe point.
///
/// # Errors
/// What the API gives.
pub async fn pause(ctx: &Ctx, verb: Verb) -> Outcome {
    let request = v1::PauseOperationRequest { name: verb.id.clone(), options: Some(verb.change.options()) };
    let answer = call!(ctx.client()?, OperationServiceClient, pause_operation, request)?;
    told(ctx, &verb, answer.operation, &[v1::OperationState::Paused]).await
}

/// Goes on.
///
/// # Errors
/// What the API gives.
pub async fn resume(ctx: &Ctx, verb: Verb) -> Outcome {
    let request = v1::ResumeOperationRequest { name: verb.id.clone(), options: Some(verb.change.options()) };
    let answer = call!(ctx.client()?, OperationServiceClient, resume_operation, request)?;
    told(ctx, &verb, answer.operation, &[v1::OperationState::Running]).await
}

/// Ends it at the next safe point.
///
/// # Errors
/// What the API gives.
pub async fn cancel(ctx: &Ctx, verb: Verb) -> Outcome {
    confirm::ask(&ctx.global, &verb.change, &format!("Abort {} at the next safe point", verb.id))?;
    let request = v1::CancelOperationRequest { name: verb.id.clone(), options: Some(verb.change.options()) };
    let answer = call!(ctx.client()?, OperationServiceClient, cancel_operation, request)?;
    told(ctx, &verb, answer.operation, &[v1::OperationState::Canceled]).await
}

/// Lets the wave after one that waits for its promotion begin.
///
/// # Errors
/// What the API gives.
pub async fn promote(ctx: &Ctx, verb: Verb, all: bool) -> Outcome {
    let options = Some(verb.change.options());
    let request = v1::PromoteOperationRequest { name: verb.id.clone(), all, options };
    let answer = call!(ctx.client()?, OperationServiceClient, promote_operation, request)?;
    told(ctx, &verb, answer.operation, &[v1::OperationState::Succeeded]).await
}

async fn told(
    ctx: &Ctx,
    verb: &Verb,
    operation: Option<v1::Operation>,
    wanted: &[v1::OperationState],
) -> Outcome {
    let mut operation = operation.unwrap_or_default();
    if (verb.waiting.wait || verb.waiting.timeout.is_some()) && !verb.change.dry_run {
        let client = ctx.client()?;
        operation = watch::until(&client, &operation.name, verb.waiting.timeout, wanted).await?;
    }
    render::answer(ctx.global.output, &operation, "quorate.v1.Operation", None, |_| {
        view::headline(&operation)
    })?;
    Ok(exit::DONE)
}
